"""Install, upgrade, roll back, uninstall; and what is refused before anything is made."""

import pytest

from tests.e2e.release import NAME, VALUES, Release, until

pytestmark = pytest.mark.e2e

CHANGED = ("--set", "train.seed=1")


def uid(release: Release) -> str:
    """Of the one Job of the release; an old one may still be on its way out."""
    return until(60, "one Job", lambda: _only(release))


def _only(release: Release) -> str | None:
    jobs = release.get("jobs")["items"]
    return str(jobs[0]["metadata"]["uid"]) if len(jobs) == 1 else None


def test_upgrade_rollback_uninstall(release: Release) -> None:
    release.install(*VALUES)
    first = uid(release)
    release.install(*VALUES)
    assert uid(release) == first, "an upgrade that changes nothing started something"
    release.install(*VALUES, *CHANGED)
    second = uid(release)
    assert second != first
    release.install(*VALUES, *CHANGED, "--set", "runId=again")
    third = uid(release)
    assert third != second
    release.helm("rollback", NAME, "1")
    fourth = uid(release)
    assert fourth not in (first, second, third)
    args = release.job()["spec"]["template"]["spec"]["containers"][0]["args"]
    assert not any("--seed" in argument for argument in args)

    release.helm("uninstall", NAME, "--wait", "--timeout", "2m")
    kinds = "jobs,pods,services,deployments,networkpolicies,serviceaccounts,secrets,configmaps,leases"
    until(120, "nothing left behind", lambda: _left(release, kinds) == ["default", "kube-root-ca.crt"])


def _left(release: Release, kinds: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in release.get(kinds)["items"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("worker.gpu=1", "gpu"),
        ('workers="four"', "workers"),
        ("workers=0", "workers"),
        ("train.epoch=1", "epoch"),
        ("train.global_batch_size=1", "train.global_batch_size is 1, but must be at least workers, which is 2"),
    ],
)
def test_refused_with_the_key_named(shared_release: Release, given: str, says: str) -> None:
    done = shared_release.install(*VALUES, "--set-json", given, check=False)
    assert done.returncode
    assert says in done.stderr
    assert not shared_release.get("jobs,pods")["items"]
