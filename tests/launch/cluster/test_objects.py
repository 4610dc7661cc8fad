"""What the launcher reads from the API's objects."""

import pathlib
from typing import Any

import pytest
import yaml

from tests.support import api_objects
from trainer.launch.cluster.labels import CHART_NAME
from trainer.launch.cluster.objects import Pod, output_of
from trainer.launch.cluster.runs import tensorboard_name

ROOT = pathlib.Path(__file__).resolve().parents[3]
CLAIM = {"name": "runs", "persistentVolumeClaim": {"claimName": "claim"}}


def job(*arguments: str, annotations: dict[str, str] | None = None, volumes: list[Any] | None = None) -> dict[str, Any]:
    pod = {"containers": [{"args": list(arguments)}], "volumes": volumes or []}
    return {"metadata": {"annotations": annotations or {}}, "spec": {"template": {"spec": pod}}}


@pytest.mark.parametrize("output", ["gs://bucket/path", "pvc:claim"])
def test_the_output_is_the_jobs_annotation(output: str) -> None:
    annotated = job("--output=s3://another", annotations={"trainer/output": output}, volumes=[CLAIM])
    assert output_of(annotated) == output


def test_the_output_of_a_job_of_chart_0_1_0() -> None:
    assert output_of(job("--warm_spare=true", "--output=gs://bucket/path", "--", "--epochs=2")) == "gs://bucket/path"
    assert output_of(job("--", volumes=[{"name": "tmp", "emptyDir": {}}, CLAIM])) == "pvc:claim"
    assert output_of(job("--")) == output_of({"metadata": {}}) == ""


def test_the_charts_name_is_the_charts() -> None:
    assert yaml.safe_load((ROOT / "helm/Chart.yaml").read_text())["name"] == CHART_NAME


def test_the_name_of_tensorboard_is_cut_as_the_chart_cuts_it() -> None:
    """`test_chart_render.py` has the chart's side."""
    assert tensorboard_name("mnist-train") == "mnist-train-tensorboard"
    assert tensorboard_name(f"{'a' * 50}-b") == f"{'a' * 50}-tensorboard"


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        ('{"format": 2, "reason": "it was frozen"}', {"format": 2, "reason": "it was frozen"}),
        ('{"format": 99, "reason": "it was frozen"}', {"format": 99, "reason": "it was frozen"}),
        ("Traceback\nValueError: boom\n", {"errors": ["Traceback", "ValueError: boom"]}),  # The end of the log.
        ("", {}),
    ],
)
def test_what_a_pod_left_is_its_termination_message(message: str, facts: dict[str, Any]) -> None:
    ended = api_objects.pod(1)
    terminated = {"exitCode": 1, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}
    status = {"name": "worker", "state": {"terminated": terminated}}
    ended["status"] = {"phase": "Failed", "containerStatuses": [status]}
    assert Pod.from_json(ended).facts == facts
