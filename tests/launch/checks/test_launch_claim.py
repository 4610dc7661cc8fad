"""What the launcher says of a run that lies on a claim, when its pods are gone."""

import pathlib

import pytest

from tests.support.api_server import Handler, Query, api_server
from trainer.launch import cli
from trainer.launch.codes import LaunchCode

VOLUME = {"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}
JOB = {
    "metadata": {
        "name": "mnist-train-1a2b3c4d",
        "uid": "01234567-89ab",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app.kubernetes.io/instance": "mnist-train"},
    },
    "spec": {"template": {"spec": {"containers": [{"args": []}], "volumes": [VOLUME]}}},
    "status": {"conditions": [{"type": "Complete", "status": "True"}]},
}


def test_the_logs_of_pods_that_are_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(server: Handler, _: Query) -> None:
        server.reply({"metadata": {}, "items": [JOB] if "/jobs" in server.path else []})

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        assert cli.main(["logs"]) == LaunchCode.FAILED
    reader = "kubectl --namespace=team exec deploy/mnist-train-tensorboard -- sh -c"
    assert capsys.readouterr().err == (
        "error: --logs=chief: no such pod of mnist-train-1a2b3c4d is left, and its run lies on the claim runs: "
        f"{reader} 'cat /runs/mnist-train-1a2b3c4d-01234567/result.json' reads its result, and "
        f"{reader} 'cat /runs/mnist-train-1a2b3c4d-01234567/workers/0/*' the log of its chief\n"
    )
