"""The launcher's answers to bad input: the exit code, what was given, what to do. Nothing here reaches a cluster."""

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from tests.support.api_server import api_server, kubeconfig
from tests.support.paths import ROOT
from trainer.core.exit_codes import UsageError
from trainer.launch import cli
from trainer.launch.checks import output_access, preflight
from trainer.launch.checks.check_result import CheckResult
from trainer.launch.codes import LaunchCode
from trainer.launch.flags import SubmitFlags
from trainer.launch.helm.helm_values import values_of
from trainer.launch.helm.release import HelmRelease

CHART = f"--chart={ROOT}/helm"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that does not answer, so that a test that gets as far ends there."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:9")))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--workers=0"], "--workers=0 must be at least 1"),
        (["--workers=-1"], "--workers=-1 must be at least 1"),
        (["--workers=1000000000"], "--workers=1000000000 must be less than 4097"),
        (["--workers=1e9"], "1e9"),
        (["--workers=four"], "four"),
        (["--gpus_per_worker=-1"], "--gpus_per_worker=-1 must be at least 0"),
        (["--name=Mnist_Train"], "--name=Mnist_Train must be a name of at most 53 characters"),
        ([f"--name={'a' * 54}"], "it has 54 characters"),
        (["--name="], "it has 0 characters"),
        (["--logs=some"], "--logs=some is none of: chief, all, none, a worker's index"),
        (["logs", "--logs=none"], "--logs=none is none of: chief, all, a worker's index"),
        (["--timeout=-1"], "--timeout=-1.0 must be at least 0"),
        (["--wrokers=4"], "wrokers"),
        (["sumbit"], "'sumbit' is none of the commands: submit,"),
        (["status", "--workers=4"], "workers"),
        (["status", "--", "--epochs=1"], "status takes no flags of the training program"),
        ([CHART, "--", "--epochs=0"], "--epochs=0 must be at least 1"),
        ([CHART, "--", "--epoch=2"], "epoch"),
        ([CHART, "--", "--run_dir=/x"], "--run_dir cannot be given on a cluster"),
        ([CHART, "--image=mnist-train"], "--image=mnist-train has no tag; expected repository:tag"),
        ([CHART, "--image=host:5000/mnist-train"], "has no tag"),
        ([CHART, "--image=mnist-train:"], "--image=mnist-train: has no tag"),
        ([CHART, "--image=:1"], "--image=:1 has no tag"),
        ([f"--chart=/{'x' * 5000}"], "is no chart"),
        ([CHART, f"--values=/{'x' * 5000}"], "is not a file"),
        ([CHART, "--set=output=null"], "--set: output is given as null; expected a value, or leave it out for its"),
        ([CHART, "--set=worker.gpus=null"], "worker.gpus is given as null; expected a value, or leave it out"),
        ([CHART, f"--flagfile={sys.executable}"], "--flagfile names a file that is no text in UTF-8"),
        ([CHART, "--", f"--flagfile={sys.executable}"], "--flagfile names a file that is no text in UTF-8"),
        (["--local", "--workers=1000000000"], "--workers=1000000000 must be less than 1001"),
        (["--chart=/nowhere"], "--chart=/nowhere is no chart"),
        (["chart"], "--to names the folder to write"),
        (["chart", f"--to={ROOT}"], "is there and not empty; name a folder that is not there yet"),
        (["chart", f"--to={ROOT}/LICENSE"], "is there and not empty"),
        (["chart", "--to=/proc/chart"], "--to=/proc/chart cannot be written: "),
        (["chart", f"--to=/{'x' * 5000}"], "cannot be written: File name too long"),
        ([CHART, "--values=/nowhere.yaml"], "--values=/nowhere.yaml is not a file"),
        ([CHART, "--set=workers"], "--set=workers is not of the form key=value: 'workers' has no value"),
        (["list", "--context=other"], "--context=other is not in the kubeconfig, which has: local"),
    ],
)
def test_usage(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == LaunchCode.USAGE
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("error: ")
    assert said.out == ""


def test_no_kubeconfig(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert cli.main(["list"]) == LaunchCode.FAILED
    assert "no cluster to talk to" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"a: [b", b"hello", b"\xff\xfe", None])
def test_a_damaged_kubeconfig(
    content: bytes | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert cli.main(["list"]) == LaunchCode.FAILED
    assert f"error: the kubeconfig {path} cannot be read: " in capsys.readouterr().err


def test_no_api_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == LaunchCode.FAILED
    assert "the API server at http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err


def test_expired_credentials(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with api_server(lambda server, _: server.refuse(401, "Unauthorized"), tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        assert cli.main(["list"]) == LaunchCode.FAILED
    assert "they are wrong or have expired; log in to the cluster again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "was not found on PATH; install Helm 3 or 4"),
        ("echo v2.17.0", "is v2.17.0; expected at least 3.14"),
        ("echo broken >&2; exit 1", "does not say its version: 'broken'"),
        ("printf 'v4\\377'", "does not say its version: 'v4\ufffd'"),
    ],
)
def test_helm_that_cannot_be_used(
    script: str | None, words: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    helm = tmp_path / "helm"
    if script:
        helm.write_text(f"#!/bin/sh\n{script}\n")
        helm.chmod(0o755)
    assert cli.main([CHART, f"--helm={helm}"]) == LaunchCode.NOT_STARTED
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("no program at all", "does not run: Exec format error"),
        ("#!/bin/sh\nprintf '\\377: [x'", "helm printed something other than Kubernetes' objects: '\ufffd: [x'"),
        ("#!/bin/sh\necho hello", "helm printed something other than Kubernetes' objects: 'hello"),
        ("#!/bin/sh\nkill -9 $$", "helm template failed: it ended with -9 and said nothing"),
        ("#!/bin/sh\necho 'cannot allocate' >&2; exit 2", "helm template failed: cannot allocate"),
    ],
)
def test_helm_that_fails_is_no_mistake_of_usage(
    script: str, words: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    helm = tmp_path / "helm"
    helm.write_text(f"{script}\n")
    helm.chmod(0o755)
    assert cli.main([CHART, f"--helm={helm}", "--dry_run"]) == LaunchCode.FAILED
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"when: 2026-13-45\n", "cannot be read as YAML: month must be in 1..12"),  # Go takes it for text.
        (b"a: =\n", "cannot be read as YAML: could not determine a constructor"),
        (b"a: \xff\n", "cannot be read as YAML: 'utf-8' codec"),
        (b"worker: {gpus: null}\n", "worker.gpus is given as null"),
        (b"workers:\n", "values.yaml: workers is given as null; expected a value, or leave it out for its default"),
        (b"worker:\n  gracePeriodSeconds:\n", "values.yaml: worker.gracePeriodSeconds is given as null"),
        (b"train:\n", "values.yaml: train is given as null"),
        (
            b"image: {tag: 1.0}\n",
            "image.tag is the number 1.0 as YAML reads it, and must be text; put it between quotes",
        ),
        (b"image: {tag: 0012345}\n", "image.tag is the number 5349 as YAML reads it, and must be text"),
        (b"workers: 2\nworker:\n  gpus: 1\n  gpus: 0\n", "gpus stands in line 3, and again in line 4; leave one out"),
        (b"a: &a [*a]\nworker: {gpus: 1, gpus: 1}\n", "gpus stands in line 2, and again in line 2; leave one out"),
        (b"job: {queue: yes}\n", "job.queue is the word true as YAML reads it, and must be text"),
        (b"worker: {podAnnotations: {a: 1}}\n", "worker.podAnnotations.a is the number 1 as YAML reads it"),
        (
            b"worker: {extraEnv: [{name: A, value: '1'}, {name: B, value: 2}]}\n",
            "worker.extraEnv[1].value is the number 2 as YAML reads it, and must be text; put it between quotes, as in "
            'value: "1.0"',
        ),
    ],
)
def test_values_that_cannot_be_used(
    content: bytes, words: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "values.yaml"
    file.write_bytes(content)
    assert cli.main([CHART, f"--values={file}"]) == LaunchCode.USAGE
    assert words in capsys.readouterr().err


def test_the_trainers_flags_in_a_file_are_carried(tmp_path: pathlib.Path) -> None:
    flags = tmp_path / "flags"
    flags.write_text("--epochs=7\n--jit_compile=false\n--hidden_units=8\n")
    values = values_of(SubmitFlags(), [f"--flagfile={flags}", "-seed", "3"], "")
    assert values == {"train": {"epochs": 7, "jit_compile": "false", "seed": 3}, "experiment": {"hidden_units": 8}}


def test_flags_of_an_experiment_that_is_not_here_are_carried_as_they_are() -> None:
    values = values_of(SubmitFlags(), ["--experiment=not.here", "--width=3", "--deep", "--epochs=2"], "")
    assert values["experiment"] == {"width": "3", "deep": True}
    assert values["train"] == {"experiment": "not.here", "epochs": 2}
    with pytest.raises(UsageError, match="write a flag of the experiment's own as --name=value"):
        values_of(SubmitFlags(), ["--experiment=not.here", "--width", "3"], "")


def test_the_mode_is_a_value_of_its_own() -> None:
    values = values_of(SubmitFlags(), ["--mode=evaluate", "--model=gs://bucket/run"], "")
    assert values == {"mode": "evaluate", "train": {"model": "gs://bucket/run"}}


def test_flags_of_the_experiment_that_a_models_run_names_are_carried_as_they_are() -> None:
    values = values_of(SubmitFlags(), ["--mode=predict", "--model=gs://bucket/run", "--width=3", "--seed=1"], "")
    assert values == {
        "mode": "predict",
        "train": {"model": "gs://bucket/run", "seed": 1},
        "experiment": {"width": "3"},
    }


def test_a_digest_is_an_image() -> None:
    digest = "0123456789abcdef" * 4
    image = values_of(SubmitFlags(image=f"r.test:5000/m@sha256:{digest}"), [], "")["image"]
    assert image == {"repository": "r.test:5000/m", "tag": "", "digest": f"sha256:{digest}"}
    both = values_of(SubmitFlags(image=f"r.test/m:1@sha256:{digest}"), [], "")["image"]
    assert both == {"repository": "r.test/m", "tag": "1", "digest": f"sha256:{digest}"}

    def found(name: str) -> CheckResult:
        job = {"spec": {"template": {"spec": {"containers": [{"image": name}]}}}}
        return preflight.check_image(job)

    assert found(f"r.test/m@sha256:{digest}").mark == "ok"
    assert found(f"r.test/m:1@sha256:{digest}").mark == "ok"
    assert "is not a valid digest" in found("r.test/m@sha256:12").text
    assert "is not a valid name" in found("r.test/M:1").text


def test_the_launcher_imports_no_tensorflow() -> None:
    code = "import trainer.launch.commands, sys; sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("environ", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_closed_output_ends_it_without_a_traceback(environ: dict[str, str]) -> None:
    command = f"{sys.executable} -m trainer.launch submit --help | true; echo ${{PIPESTATUS[0]}}"
    before = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, env={**before, **environ}
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_no_output_at_all_is_none(closed: str) -> None:
    command = f"{sys.executable} -m trainer.launch submit --help {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_output_of_another_encoding_takes_what_it_can(tmp_path: pathlib.Path) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "KUBECONFIG": str(tmp_path / "kubeconfig")}
    helm = tmp_path / "helm"
    helm.write_text("#!/bin/sh\nprintf 'v4.0.0-\\303\\244'\n")
    helm.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "trainer.launch", "doctor", CHART, f"--helm={helm}"],
        capture_output=True, text=True, env=environ,
    )  # fmt: skip
    assert done.returncode == LaunchCode.NOT_STARTED, done
    assert done.stdout.splitlines()[0] == "ok    helm: v4.0.0-?"
    assert "Traceback" not in done.stderr


def test_values_that_the_user_gives_are_known(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("workers: 2\nworker: {gpus: 0}\n")

    def gives(**how: Any) -> bool:
        return HelmRelease(helm="", name="", namespace="", context="", **how).gives("worker", "gpus")

    assert gives(files=(str(file),))
    assert gives(sets=("workers=3,worker.gpus=2",))
    assert not gives(sets=(r"image.tag=1\,worker.gpus=2", "train.x={1,worker.gpus=2}"))  # A text, and a list's item.
    assert gives(flag_values={"worker": {"gpus": 1}})
    nothing = tmp_path / "nothing.yaml"
    nothing.write_text("worker: {gpus: null}\n")
    assert gives(files=(str(nothing), str(file)))  # The last counts.
    assert gives(files=(str(nothing),), flag_values={"worker": {"gpus": 0}})
    for files, sets in (((str(file), str(nothing)), ()), ((), ("workers=2,worker.gpus=null",))):
        with pytest.raises(UsageError, match=r"worker\.gpus is given as null"):
            gives(files=files, sets=sets)
    assert not gives(sets=("worker.gpusx=2", "worker.resources.limits.memory=1"), flag_values={"workers": 3})


def test_a_bucket_that_this_user_cannot_try_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_REGION", "x"), ("AWS_ACCESS_KEY_ID", "k")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    (line,) = output_access.check_bucket("s3://bucket/path")
    assert (line.mark, line.what) == ("note", "output")
    assert line.text.startswith("not tried with this user's credentials, the pods have their own: ")
    assert list(output_access.check_bucket("pvc:runs")) == list(output_access.check_bucket("")) == []
