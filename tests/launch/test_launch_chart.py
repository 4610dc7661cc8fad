"""The launcher and the chart through Helm 3 and 4, without a cluster: --dry_run, values, their errors."""

import pathlib
import shutil
import threading
from typing import Any

import pytest
import yaml

from tests.support import paths
from tests.support.api_objects import node
from tests.support.api_server import Handler, Query, api_server
from trainer.launch import cli
from trainer.launch.checks.check_result import CheckResult
from trainer.launch.checks.output_access import check_tensorboard
from trainer.launch.codes import LaunchCode
from trainer.launch.helm.helm_program import HelmError, version
from trainer.launch.helm.release import HelmRelease
from trainer.launch.helm.rendered import job_in, parse

pytestmark = pytest.mark.chart

CHART = f"--chart={paths.CHART}"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may need a cluster."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    assert shutil.which(name), f"{name} is not on PATH; `make test-chart` builds it"
    return f"--helm={name}"


def job(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert cli.main([CHART, "--dry_run", *arguments]) == LaunchCode.DONE
    return job_in(parse(capsys.readouterr().out))


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, int, str]:
    """The exit code, the GPUs of a worker, and what stands on standard error."""
    code = cli.main([CHART, "--dry_run", *arguments])
    said = capsys.readouterr()
    (container,) = job_in(parse(said.out))["spec"]["template"]["spec"]["containers"]
    return code, int(container["resources"]["limits"]["nvidia.com/gpu"]), said.err


def test_a_dry_run_prints_the_manifests(helm: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = job(helm, "--workers=3", "--gpus_per_worker=0", "--image=r.test/m:1", "--name=other", "--", "--epochs=2",
               "--jit_compile=false", capsys=capsys)  # fmt: skip
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert made["metadata"]["name"].startswith("other-")
    assert made["spec"]["completions"] == 3
    assert container["image"] == "r.test/m:1"
    assert {"--epochs=2", "--jit_compile=false"} <= set(container["args"])
    assert "nvidia.com/gpu" not in container["resources"].get("limits", {})


def test_an_image_by_its_digest(helm: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"r.test/m@sha256:{'1' * 64}"  # Of digits alone, which YAML takes for a number.
    made = job(helm, "--gpus_per_worker=0", f"--image={name}", capsys=capsys)
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == name


def test_a_dry_run_without_a_cluster_shows_the_charts_gpus_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, gpus, said = dry_run(capsys)
    assert (code, gpus) == (LaunchCode.DONE, 1)
    assert said.startswith(
        "note  GPUs: 1 for each worker, as the chart has it: no cluster answered (no cluster to talk"
    )
    assert len(said.splitlines()) == 1


TAINT = {"key": "team", "value": "other", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("there", "taints", "gpus", "words"),
    [
        (8, (), 4, "ok    GPUs: 4 for each worker, found out from the nodes"),
        (0, (), 1, "as the chart has it: each worker asks for 1, and none of the 1 node(s) has any, so submit would"),
        (8, (TAINT,), 1, "may run a worker: 1 with the taint team=other:NoSchedule, so submit would refuse"),
    ],
)
def test_a_dry_run_finds_the_gpus_out_as_submit_does(
    there: int, taints: Any, gpus: int, words: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[str] = []

    def answer(server: Handler, _: Query) -> None:
        asked.append(server.path.split("?")[0])
        nodes = [node("n", cpu="64", memory="64Gi", gpus=there, taints=taints)]
        server.reply({"items": nodes if asked[-1] == "/api/v1/nodes" else []})

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        assert dry_run(capsys, "--workers=2")[:2] == (LaunchCode.DONE, gpus)
        assert words in dry_run(capsys, "--workers=2")[2]
        assert set(asked) == {"/api/v1/nodes", "/api/v1/pods"}  # And only with GET, the one thing it answers.
        asked.clear()
        assert dry_run(capsys, "--gpus_per_worker=3") == (LaunchCode.DONE, 3, "")
        assert asked == []


def test_a_dry_run_waits_only_so_long_for_a_cluster(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.launch.submission.dry_run._ASK_SECONDS", 0.5)
    done = threading.Event()

    def answer(*_: object) -> None:
        done.wait(60)

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        code, gpus, said = dry_run(capsys)
        done.set()
    assert (code, gpus) == (LaunchCode.DONE, 1)
    assert said == "note  GPUs: 1 for each worker, as the chart has it: no cluster answered within 0.5 s\n"


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


def test_null_takes_away_where_that_is_what_it_is_for(
    helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("podSecurityContext: {fsGroup: }\nworker: {minWorkers: , resources: {requests: {cpu: }}}\n")
    pod = job(helm, f"--values={values}", "--set=podSecurityContext.runAsUser=null", capsys=capsys)["spec"]["template"]
    assert not {"fsGroup", "runAsUser"} & set(pod["spec"]["securityContext"])
    assert "cpu" not in pod["spec"]["containers"][0]["resources"]["requests"]


@pytest.mark.parametrize("tag", ["20261130", "1.10", "1e5", "0012345", "1_000", "0x10", "12345678901234567890"])
def test_a_number_that_is_set_is_the_text_that_was_typed(
    tag: str, helm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    env = "worker.extraEnv[0].name=A,worker.extraEnv[0].value=-01,worker.nodeSelector.pool=+1"
    made = job(helm, f"--set=image.tag={tag}", f"--set={env}", capsys=capsys)["spec"]["template"]["spec"]
    assert made["containers"][0]["image"] == f"mnist-train:{tag}"
    assert {"name": "A", "value": "-01"} in made["containers"][0]["env"]
    assert made["nodeSelector"]["pool"] == "+1"


@pytest.mark.parametrize("tag", ["1.10", "1e5", "0012345", "1_000", "0x10", "true", "yes", "12:30", ".inf", "~"])
def test_a_number_in_a_file_is_no_tag(
    tag: str, helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the launcher or, where it reads YAML otherwise than helm, by the chart: in one line, and by name."""
    values = tmp_path / "values.yaml"
    values.write_text(f"image: {{tag: {tag}}}\n")
    assert cli.main([CHART, "--dry_run", helm, f"--values={values}"]) == LaunchCode.USAGE
    said = capsys.readouterr().err
    assert "image.tag" in said
    assert len(said.splitlines()) == 1


def test_contradictions_are_said(helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("workers: 5\nworker: {gpus: 0}\nglobal: {imageRegistry: m.test}\nimage: {tag: a}\n")
    arguments = ("--workers=6", "--set=workers=7", "--image=r.test/m:b", "--set=output=gs://a", "--set=output=gs://b",
                 "--set=worker.extraEnv[0].name=A", "--set=worker.extraEnv[1].name=B")  # fmt: skip
    assert cli.main([CHART, "--dry_run", helm, f"--values={values}", *arguments]) == LaunchCode.DONE
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"note  values: workers is 6, by the launcher's flags, and not 5, by --values={values}",
        f"note  values: image.tag is b, by the launcher's flags, and not a, by --values={values}",
        f'note  values: global.imageRegistry is "", by the launcher\'s flags, and not m.test, by --values={values}',
        "note  values: workers is 7, by --set, and not 6, by the launcher's flags",
        "note  values: output is gs://b, by a --set, and not gs://a, by an earlier one",
    ]
    made = job_in(parse(said.out))
    assert made["spec"]["completions"] == 7
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "r.test/m:b"


def test_tensorboard_that_cannot_read_what_workers_write_is_told(helm: str) -> None:
    def notes(**board: Any) -> list[CheckResult]:
        values = {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "a"}}, "output": "s3://b", **board}
        chart = str(paths.CHART)
        program = helm.removeprefix("--helm=")
        release = HelmRelease(helm=program, name="x", namespace="", context="", chart=chart, flag_values=values)
        return list(check_tensorboard(parse(release.render())))

    (note,) = notes()
    assert "its account x-tensorboard lacks the annotations of x" in note.text
    assert notes(tensorboard={"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "b"}}}) == []
    assert notes(tensorboard={"serviceAccount": {"create": False, "name": "theirs"}}) == []
    assert notes(output="pvc:runs") == []
    assert notes(tensorboard={"enabled": False}) == []


def test_set_changes_items_of_lists_that_files_give(
    helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tmp_path / "values.yaml"
    extra = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    values.write_text(yaml.safe_dump({"worker": {"extraEnv": extra, "nodeSelector": {"zone": "a"}}}))
    arguments = ("--set=worker.extraEnv[1].value=secret,worker.extraEnv[2].name=C", r"--set=worker.nodeSelector.x\.y=z")
    made = job(helm, f"--values={values}", *arguments, "--set=worker.extraEnv[2].value=three,workers=3", capsys=capsys)
    pod = made["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert (env["A"], env["B"], env["C"], made["spec"]["completions"]) == ("1", "secret", "three", 3)
    assert pod["nodeSelector"] == {"zone": "a", "x.y": "z", "kubernetes.io/arch": "amd64"}


def test_values_are_in_no_list_of_processes(
    helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, seen = tmp_path / "helm", tmp_path / "arguments"
    program.write_text(f'#!/bin/sh\necho "$@" >>{seen}\nexec {shutil.which(helm.removeprefix("--helm="))} "$@"\n')
    program.chmod(0o755)
    secret = "--set=worker.extraEnv[0].name=KEY,worker.extraEnv[0].value=hunter2"
    made = job(f"--helm={program}", secret, capsys=capsys)
    assert {"name": "KEY", "value": "hunter2"} in made["spec"]["template"]["spec"]["containers"][0]["env"]
    assert "template" in seen.read_text()
    assert "hunter2" not in seen.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set=worker.gpu=1",), "the chart refuses these values: there is no value worker.gpu"),
        (("--set=train.epoch=1,nosuch=2",), "there is no value train.epoch; there is no value nosuch"),
        (("--set=train.learning_rate=null",), "train.learning_rate: got null, want number or string"),
        (("--set=image.tag=-1",), "image.tag: '-1' does not match pattern"),
        (("--set=nameOverride=vision",), "the launcher finds runs by mnist-train; leave nameOverride out, or use helm"),
        (
            ("--workers=200",),
            "train.global_batch_size is 128, but must be at least workers, which is 200: every worker",
        ),
    ],
)
def test_values_that_the_chart_refuses(
    helm: str, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([CHART, "--dry_run", helm, *arguments]) == LaunchCode.USAGE
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_a_values_file_with_a_typo_is_named(
    helm: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("workers: [4\n")
    assert cli.main([CHART, "--dry_run", helm, f"--values={values}"]) == LaunchCode.USAGE
    assert str(values) in capsys.readouterr().err


def test_a_release_that_is_not_there_is_told_from_other_things(
    helm: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing_namespace = False

    def answer(server: Handler, _: Query) -> None:
        if not server.path.split("?")[0].endswith("/secrets"):
            server.reply({"gitVersion": "v1.36.1", "major": "1", "minor": "36"})
        elif missing_namespace:
            message = 'namespaces "team" not found'
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            server.reply({**status, "message": message}, 404)
        else:
            server.reply({"kind": "SecretList", "apiVersion": "v1", "items": []})

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        release = HelmRelease(helm=helm.removeprefix("--helm="), name="x", namespace="team", context="")
        assert not release.exists()
        missing_namespace = True
        with pytest.raises(HelmError, match='namespaces "team" not found'):
            release.exists()


def test_versions(helm: str) -> None:
    assert version(helm.removeprefix("--helm=")).startswith("v")
