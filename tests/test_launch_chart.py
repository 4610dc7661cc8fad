"""The launcher and the chart through Helm 3 and 4, without a cluster: --dry_run, values, their errors."""

import pathlib
import shutil
from typing import Any

import pytest
import yaml

from trainer import chart, launch
from trainer.launch_codes import LaunchCode

pytestmark = pytest.mark.chart

CHART = f"--chart={pathlib.Path(__file__).resolve().parents[1]}/helm"


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    assert shutil.which(name), f"{name} is not on PATH; `make test-chart` builds it"
    monkeypatch.setenv("KUBECONFIG", "/nowhere")  # Nothing here may need a cluster.
    return f"--helm={name}"


def job(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert launch.main([CHART, "--dry_run", *arguments]) == LaunchCode.DONE
    return chart.the_job(chart.objects(capsys.readouterr().out))


def test_a_dry_run_prints_the_manifests(helm: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(helm, "--workers=3", "--gpus_per_worker=0", "--image=r.test/m:1", "--name=other", "--", "--epochs=2",
               "--nojit_compile", capsys=capsys)  # fmt: skip
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert made["metadata"]["name"].startswith("other-")
    assert made["spec"]["completions"] == 3
    assert container["image"] == "r.test/m:1"
    assert {"--epochs=2", "--jit_compile=false"} <= set(container["args"])
    assert "nvidia.com/gpu" not in container["resources"].get("limits", {})


def test_flags_win_over_files_and_set_wins_over_both(
    helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"workers": 5, "train": {"epochs": 7, "seed": 1}, "worker": {"gpus": 2}}))
    made = job(helm, f"--values={values}", "--workers=6", "--set=train.seed=2", "--", "--epochs=8", capsys=capsys)
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert made["spec"]["completions"] == 6
    assert {"--epochs=8", "--seed=2"} <= set(container["args"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set=worker.gpu=1",), "gpu"),
        (("--set=train.epoch=1",), "epoch"),
        (("--workers=200",), "global_batch_size is 128, but must be at least workers, which is 200"),
    ],
)
def test_values_that_the_chart_refuses(
    helm: str, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main([CHART, "--dry_run", helm, *arguments]) == LaunchCode.USAGE
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_values_file_with_a_typo_is_named(
    helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("workers: [4\n")
    assert launch.main([CHART, "--dry_run", helm, f"--values={values}"]) == LaunchCode.USAGE
    assert str(values) in capsys.readouterr().err


def test_versions(helm: str) -> None:
    assert chart.version(helm.removeprefix("--helm=")).startswith("v")
