"""Install, upgrade, roll back, uninstall; and what is refused before anything is made."""

import pytest

from tests.e2e.release import NAME, VALUES, Json, Release
from tests.support.paths import CHART
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

# Of every kind something.
CHANGED = ("--set", "train.seed=1,networkPolicy.enabled=false,tensorboard.enabled=false,serviceAccount.annotations.a=b")
KINDS = "jobs,services,deployments,networkpolicies,serviceaccounts"


def made(release: Release) -> dict[str, Json]:
    """What the release consists of, and what each part says; but for what Kubernetes adds to a Job by its UID."""
    items = release.get(KINDS, "--selector", f"app.kubernetes.io/instance={NAME}")["items"]
    return {
        f"{item['kind']} {item['metadata']['name']}": {
            "annotations": item["metadata"].get("annotations", {}),
            "spec": item["spec"]["template"]["spec"] if item["kind"] == "Job" else _without_addresses(item),
        }
        for item in items
    }


def _without_addresses(item: Json) -> Json:
    return {key: value for key, value in item.get("spec", {}).items() if key not in ("clusterIP", "clusterIPs")}


def test_upgrade_rollback_uninstall(release: Release) -> None:
    release.install(*VALUES)
    first, at_first = release.uid(), made(release)
    assert {name.split()[0] for name in at_first} == {"Job", "Service", "NetworkPolicy", "ServiceAccount"}
    release.install(*VALUES)
    assert release.uid() == first, "an upgrade that changes nothing started something"
    release.install(*VALUES, *CHANGED)
    second = release.uid()
    assert second != first
    release.install(*VALUES, *CHANGED, "--set", "runId=again")
    third = release.uid()
    assert third != second
    release.helm("rollback", NAME, "1")
    fourth = release.uid()
    assert fourth not in (first, second, third)
    assert made(release) == at_first

    # It cannot have its scalars so soon; the pod of a test that failed goes, too.
    assert release.helm("test", NAME, "--timeout", "5s", check=False).returncode
    release.helm("uninstall", NAME)
    kinds = "jobs,pods,services,deployments,networkpolicies,serviceaccounts,secrets,configmaps,leases"
    until(120, "nothing left behind", lambda: _left(release, kinds) == ["default", "kube-root-ca.crt"])


def _left(release: Release, kinds: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in release.get(kinds)["items"])


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_cluster_takes_the_manifests(shared_release: Release, overlay: str) -> None:
    folder = CHART.parent / "k8s/overlays" / overlay
    told = shared_release.kubectl("apply", "--kustomize", str(folder), "--dry-run=server")
    assert "job.batch/mnist-train created (server dry run)" in told


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
