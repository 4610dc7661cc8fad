"""Whether pods would be admitted: the API server's sentences that tell one refusal from another."""

import pathlib

import pytest

from tests.support.api_server import Handler, Query, api_server
from trainer.launch.checks.admission import check_admission, check_gang
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.watches import Kube

JOB = {"metadata": {"name": "mnist-train-1"}, "spec": {"template": {"metadata": {"labels": {}}, "spec": {}}}}
QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4'


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return tmp_path


def refused(status: int, message: str, folder: pathlib.Path, *, replaces: bool = False) -> CheckResult:
    """What the check finds when the API server refuses the pod so."""

    def answer(server: Handler, query: Query) -> None:
        assert query == {"dryRun": "All"}  # Nothing is made.
        server.refuse(status, message)

    with api_server(answer, folder):
        (result,) = check_admission(Kube(), JOB, replaces=replaces)
    return result


def test_no_right_to_create_pods_says_nothing_of_the_namespace(folder: pathlib.Path) -> None:
    message = 'pods is forbidden: User "me" cannot create resource "pods" in API group "" in the namespace "team"'
    result = refused(403, message, folder)
    assert (result.mark, result.what) == (Mark.NOTE, "pods")
    assert result.text.startswith("whether the namespace admits them is not known: User")


def test_a_service_account_that_is_still_to_come_says_nothing_of_the_namespace(folder: pathlib.Path) -> None:
    why = 'error looking up service account team/default: serviceaccount "default" not found'
    result = refused(403, f'pods "x" is forbidden: {why}', folder)
    assert result == CheckResult(Mark.NOTE, "pods", f"whether the namespace admits them is not known: {why}")


def test_a_full_quota_refuses_them(folder: pathlib.Path) -> None:
    result = refused(403, QUOTA, folder)
    assert result.failed
    assert result.text.startswith("the namespace does not admit them: exceeded quota: small")


def test_a_quota_that_the_replaced_run_fills_is_a_note(folder: pathlib.Path) -> None:
    result = refused(403, QUOTA, folder, replaces=True)
    assert result.mark is Mark.NOTE
    assert result.text.startswith("no more of them are admitted beside those that are replaced: exceeded quota: small")


@pytest.mark.parametrize(
    ("status", "message", "text"),
    [
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', 'violates PodSecurity "restricted'),
        (422, "Pod is invalid: spec.containers", "Pod is invalid: spec.containers"),
    ],
)
def test_any_other_refusal_counts(status: int, message: str, text: str, folder: pathlib.Path) -> None:
    result = refused(status, message, folder)
    assert result.failed
    assert result.text.startswith(f"the namespace does not admit them: {text}")


def test_an_error_of_the_api_server_is_no_refusal(folder: pathlib.Path) -> None:
    assert refused(500, "etcd is away", folder).mark is Mark.NOTE


@pytest.mark.parametrize(
    ("kept", "mark", "words"),
    [
        ({"scheduling": {}}, Mark.OK, "all workers get their nodes together"),
        ({}, Mark.FAIL, "this cluster does not schedule a Job's pods together"),
        (None, Mark.NOTE, "whether the cluster schedules workers together is not known: no"),
    ],
)
def test_a_cluster_that_drops_the_gang_in_silence_is_found_out(
    kept: dict[str, object] | None, mark: Mark, words: str, folder: pathlib.Path
) -> None:
    def answer(server: Handler, query: Query) -> None:
        assert query == {"dryRun": "All"}
        assert '"scheduling"' in server.posted
        server.reply({"spec": kept}, 201) if kept is not None else server.refuse(403, "no")

    gang = {"schedulingPolicy": {"gang": {"minCount": 2}}}
    job = {"metadata": {"name": "x", "labels": {}}, "spec": {"scheduling": gang}}
    with api_server(answer, folder):
        (result,) = check_gang(Kube(), job)
        assert list(check_gang(Kube(), {"metadata": {}, "spec": {}})) == []
    assert result.mark is mark
    assert words in result.text
