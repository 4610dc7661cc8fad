"""--code: what of a folder is sent, what is refused, and what the launcher makes of it on a cluster and here."""

import base64
import io
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
from typing import Any

import pytest
import yaml

from tests.support.api_server import Handler, Query, api_server
from tests.support.paths import CHART, GOLDEN, ROOT
from tests.support.servers import BUCKET, SECRET, s3_environ, s3_server
from trainer.core import shipped_code
from trainer.core.exit_codes import ExitCode, UsageError
from trainer.launch import cli, code_folder
from trainer.launch.checks.code_check import check_code, check_module
from trainer.launch.codes import LaunchCode
from trainer.output.stores.opening import open_store

MODEL = """
import dataclasses
from trainer.core.settings import setting
from trainer import mnist

@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    width: int = setting(3, "of the hidden layer", minimum=1)

def load_data(config):
    return mnist.load_data(config)

def build_model(config):
    import keras

    layers = keras.layers
    return keras.Sequential([layers.Input((28, 28)), layers.Flatten(), layers.Dense(config.width), layers.Dense(10)])

preprocess = mnist.preprocess
"""


@pytest.fixture
def mine(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "mine"
    (folder / "parts").mkdir(parents=True)
    (folder / "my_model.py").write_text(MODEL)
    (folder / "parts" / "layers.py").write_text("WIDTH = 3\n")
    return folder


def names(archive: bytes) -> list[str]:
    return tarfile.open(fileobj=io.BytesIO(archive)).getnames()


def test_equal_files_have_one_checksum_and_others_another(mine: pathlib.Path) -> None:
    before = code_folder.read(str(mine))
    (mine / "my_model.py").touch()
    (mine / "__pycache__").mkdir()
    (mine / "__pycache__" / "my_model.pyc").write_bytes(b"x")
    assert code_folder.read(str(mine)).archive == before.archive
    (mine / "my_model.py").write_text(MODEL + "\n")
    assert code_folder.read(str(mine)).checksum != before.checksum
    assert names(before.archive) == ["my_model.py", "parts/layers.py"]


@pytest.mark.parametrize("repository", [True, False])
def test_what_git_ignores_is_left_out(repository: bool, mine: pathlib.Path) -> None:
    if repository:
        subprocess.run(["git", "init", "--quiet", str(mine.parent)], check=True)
    (mine / ".gitignore").write_text("*.npz\n/data/\n")
    (mine / "weights.npz").write_bytes(b"x")
    (mine / "data").mkdir()
    (mine / "data" / "rows.csv").write_text("1\n")
    assert names(code_folder.read(str(mine)).archive) == [".gitignore", "my_model.py", "parts/layers.py"]


def test_without_git_all_files_go(mine: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert names(code_folder.read(str(mine)).archive) == ["my_model.py", "parts/layers.py"]


def test_what_cannot_be_sent_is_refused(mine: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--code=/nowhere is not a folder"):
        code_folder.read("/nowhere")
    with pytest.raises(UsageError, match="is not a folder"):
        code_folder.read("x" * 5000)
    (mine / "data.bin").write_bytes(bytes(range(256)) * 2**10 * 2)
    assert len(code_folder.read(str(mine)).archive) < 2**20, "it packs well"
    (mine / "noise.bin").write_bytes(random.Random(1).randbytes(3 * 2**20))
    with monkeypatch.context() as patch:
        patch.setattr(shipped_code, "MOST_BYTES", 2 * 2**20)
        with pytest.raises(UsageError, match=r"packs to 3\.0 MiB, and at most 2\.0 MiB can be sent; .* noise\.bin \("):
            code_folder.read(str(mine))
        patch.setattr(shipped_code, "MOST_UNPACKED", 2**20)
        with pytest.raises(UsageError, match=r"holds 3\.5 MiB, and at most 1\.0 MiB can be sent; .* noise\.bin \("):
            code_folder.read(str(mine))
    (mine / "noise.bin").unlink()
    (mine / "logging.py").write_text("")
    with pytest.raises(UsageError, match="logging has the name of a module of Python or of this program"):
        code_folder.read(str(mine))
    empty = mine.parent / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="holds no files"):
        code_folder.read(str(empty))


def test_the_experiment_must_be_in_it(mine: pathlib.Path) -> None:
    code = code_folder.read(str(mine))
    check_module(code, "my_model")
    check_module(code, "parts.layers")
    with pytest.raises(UsageError, match=r"--experiment=your_model is not in --code=.*, which has: my_model, parts"):
        check_module(code, "your_model")
    with pytest.raises(UsageError, match=r"--experiment=trainer\.mnist would be trained; name the module in it"):
        check_module(code, "trainer.mnist")


@pytest.mark.parametrize(
    ("text", "mark", "words"),
    [
        (MODEL, "ok", "my_model can be imported"),
        ("import nothing_like_it", "note", "my_model needs nothing_like_it, which is not installed here"),
        ("\n\nraise ValueError('a\\nb')", "FAIL", "my_model cannot be imported: my_model.py, line 3: ValueError: a b"),
        ("def f(:", "FAIL", "my_model cannot be imported: SyntaxError: "),
        ("import os; os._exit(7)", "FAIL", "the process that imports it ended with 7"),
        ("def load_data(config): ...", "FAIL", "my_model lacks build_model"),
        ("print('{}')\n" + MODEL, "ok", "my_model can be imported"),
    ],
)
def test_it_is_imported_here(text: str, mark: str, words: str, mine: pathlib.Path) -> None:
    (mine / "my_model.py").write_text(text)
    sent, imported = check_code(code_folder.read(str(mine)), "my_model")
    assert (sent.mark, sent.what) == ("ok", "code")
    assert sent.text.startswith(f"2 file(s) of {mine}, 1 KiB packed, checksum ")
    assert imported.mark == mark
    assert words in imported.text
    assert not (mine / "__pycache__").exists()


@pytest.mark.chart
def test_a_dry_run_has_the_code_and_its_checksum_in_the_jobs_name(
    mine: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    arguments = ("--dry_run", "--gpus_per_worker=0", f"--code={mine}", "--", "--experiment=my_model", "--width=7")

    def made() -> dict[str, Any]:
        assert cli.main(list(arguments)) == LaunchCode.DONE
        return {value["kind"]: value for value in yaml.safe_load_all(capsys.readouterr().out) if value}

    first = made()
    pod = first["Job"]["spec"]["template"]["spec"]
    config_map = first["ConfigMap"]
    assert config_map["immutable"] is True
    assert {"name": "sent", "configMap": {"name": config_map["metadata"]["name"]}} in pod["volumes"]
    assert "--width=7" in pod["containers"][0]["args"]
    archive = base64.b64decode(config_map["binaryData"]["code.tar.gz"])
    assert names(archive) == ["my_model.py", "parts/layers.py"]
    assert made()["Job"]["metadata"]["name"] == first["Job"]["metadata"]["name"]
    (mine / "my_model.py").write_text(MODEL + "\n")
    assert made()["Job"]["metadata"]["name"] != first["Job"]["metadata"]["name"]
    assert cli.main([*arguments[:3], f"--code={mine}", "--", "--experiment=my_model", "--width=0"]) == LaunchCode.USAGE
    assert "--width=0 must be at least 1" in capsys.readouterr().err


class Cluster:
    """An API server that takes ConfigMaps, and says what was done with them."""

    def __init__(self, *, there: bool) -> None:
        self.there, self.done = there, list[str]()

    def answer(self, server: Handler, _: Query) -> None:
        path = server.path.split("?")[0]
        if "/configmaps" in path:
            body = json.loads(server.posted) if server.posted else {}
            self.done.append(f"{server.command} {json.dumps(body.get('metadata', {}).get('ownerReferences', '-'))}")
            if server.command == "POST" and self.there:
                server.refuse(409, "already exists")
            else:
                server.reply({})
        elif server.command == "POST":
            server.reply({"status": {"allowed": True}}, 201)
        elif path == "/version":
            server.reply({"gitVersion": "v1.36.1"})
        elif "/jobs/" in path:
            server.reply({"metadata": {"uid": "u"}})
        elif path.endswith("/namespaces/team"):
            server.reply({"metadata": {}})
        else:
            server.reply({"items": []})


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_config_map_belongs_to_the_job(
    there: bool, fails: bool, mine: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = tmp_path / "made.yaml"
    manifests.write_text(GOLDEN.read_text().replace("        - --epochs=5\n", "        - --experiment=my_model\n"))
    helm = tmp_path / "helm"
    helm.write_text(
        "#!/bin/sh\ncase $1 in version) echo v4.0.0 ;; "
        f"template) cat {manifests} ;; status) echo 'Error: release: not found' >&2; exit 1 ;; "
        f"upgrade) exit {int(fails)} ;; esac\n"
    )
    helm.chmod(0o755)
    cluster = Cluster(there=there)
    with api_server(cluster.answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        code = cli.main(
            [
                f"--chart={CHART}",
                f"--helm={helm}",
                "--force",
                "--detach",
                f"--code={mine}",
                "--",
                "--experiment=my_model",
            ]
        )
    made = yaml.safe_load_all(manifests.read_text())
    name = next(value["metadata"]["name"] for value in made if value["kind"] == "Job")
    owned = json.dumps([{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": "u"}])
    begun = ['POST "-"', *(["PATCH null"] if there else [])]
    assert (code, cluster.done) == (
        (LaunchCode.FAILED, [*begun, 'DELETE "-"']) if fails else (LaunchCode.DONE, [*begun, f"PATCH {owned}"])
    )


def test_it_is_trained_on_this_machine_as_it_was_when_it_was_started(
    mine: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run_dir = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "trainer.launch", "--local", "--workers=1", f"--code={mine}", "--",
         "--experiment=my_model", "--epochs=1", "--global_batch_size=60000", f"--run_dir={run_dir}", "--width=7"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"code: 2 file(s) of {mine}, 1 KiB packed" in done.stdout
    assert json.loads((run_dir / "result.json").read_text())["steps"] == 1
    assert (run_dir / "code.tar.gz").read_bytes() == code_folder.read(str(mine)).archive


@pytest.mark.parametrize("local", [(), ("--local", "--workers=1")])
@pytest.mark.parametrize(
    ("folder", "experiment", "words"),
    [
        ("/nowhere", "my_model", "--code=/nowhere is not a folder; name the one that holds your experiment's module"),
        ("{mine}", "other", "--experiment=other is not in --code={mine}, which has: my_model, parts"),
        ("{mine}", "trainer.mnist", "name the module in it: -- --experiment=my_model"),
        ("{large}", "my_model", "--code={large} packs to 3.0 MiB, and at most 2.0 MiB can be sent; the largest files"),
    ],
)
@pytest.mark.chart
def test_code_that_cannot_be_used_is_a_line(
    folder: str,
    experiment: str,
    words: str,
    local: tuple[str, ...],
    mine: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    large = tmp_path / "large"
    shutil.copytree(mine, large)
    (large / "noise.bin").write_bytes(random.Random(1).randbytes(3 * 2**20))
    monkeypatch.setattr(shipped_code, "MOST_BYTES", 2 * 2**20)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    places = {"mine": mine, "large": large}
    arguments = [*(local or ("--dry_run",)), f"--code={folder.format(**places)}", "--", f"--experiment={experiment}"]
    assert cli.main(arguments) == LaunchCode.USAGE
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    assert said.err.startswith("error: ")
    assert words.format(**places) in said.err


def test_requirements_that_cannot_be_had_here(
    mine: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (mine / "requirements.txt").write_text("nothing-like-it==1.0\n")
    arguments = ["--local", "--workers=1", f"--code={mine}", "--", f"--run_dir={tmp_path}/run"]
    assert cli.main([*arguments, "--experiment=my_model"]) == ExitCode.USAGE
    said = capfd.readouterr().err
    assert "requirements.txt cannot be installed: " in said
    assert "nothing-like-it==1.0" in said
    assert len(said.splitlines()) == 1


def test_the_limit_is_that_of_a_config_map() -> None:
    assert shipped_code.CONFIG_MAP_BYTES == 1024 * 1024


@pytest.fixture
def large(mine: pathlib.Path) -> pathlib.Path:
    """More than a ConfigMap holds."""
    (mine / "noise.bin").write_bytes(random.Random(1).randbytes(2 * 2**20))
    return mine


def stored(output: str) -> list[str]:
    return list(open_store(output).keys(""))


@pytest.mark.chart
@pytest.mark.parametrize("given", ["--output=s3://bucket/runs/", "--set=output=s3://bucket/runs/"])
def test_a_dry_run_of_code_that_goes_through_the_output(
    given: str, large: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    arguments = ("--dry_run", "--gpus_per_worker=0", f"--code={large}", given, "--", "--experiment=my_model")

    def made() -> tuple[list[dict[str, Any]], str]:
        assert cli.main(list(arguments)) == LaunchCode.DONE
        said = capsys.readouterr()
        return [value for value in yaml.safe_load_all(said.out) if value], said.err

    objects, said = made()
    (job,) = [value for value in objects if value["kind"] == "Job"]
    assert "ConfigMap" not in {value["kind"] for value in objects}
    address = f"s3://bucket/runs/.code/{shipped_code.digest(code_folder.read(str(large)).archive)}.tar.gz"
    assert address in job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert f"ok    code: 3 file(s) of {large}, 2.0 MiB packed, checksum" in said
    assert f"note  code: submit would write it to {address}" in said
    assert job["metadata"]["name"] in {value["metadata"]["name"] for value in made()[0]}
    (large / "my_model.py").write_text(MODEL + "\n")
    assert job["metadata"]["name"] not in {value["metadata"]["name"] for value in made()[0]}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((), "there is no output"),
        (("--output=pvc:runs",), "the output pvc:runs can be written by pods alone"),
        (("--output=s3://bucket/runs", "--set=output=pvc:runs"), "the output pvc:runs can be written by pods alone"),
    ],
)
def test_without_a_bucket_large_code_is_refused(
    given: tuple[str, ...], why: str, large: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--code={large}", *given, "--dry_run", "--", "--experiment=my_model"]
    assert cli.main(arguments) == LaunchCode.USAGE
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"error: --code={large} packs to 2.0 MiB; more than 1.0 MiB goes through a bucket, and {why}: name" in said
    assert "the largest files are noise.bin (2.0 MiB)" in said


@pytest.fixture
def helm(tmp_path: pathlib.Path) -> pathlib.Path:
    """A helm that renders, and reaches no cluster: it notes what it would be asked to do there."""
    program = tmp_path / "bin" / "helm"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncase $1 in version|template) exec {shutil.which("helm")} "$@" ;; '
        f"status) echo 'Error: release: not found' >&2; exit 1 ;; *) echo $1 >>{program}.done ;; esac\n"
    )
    program.chmod(0o755)
    return program


@pytest.mark.chart
@pytest.mark.servers
@pytest.mark.parametrize("secret", [SECRET, "another"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_large_code_is_in_the_output_before_the_release_is_made(
    secret: str,
    force: tuple[str, ...],
    large: pathlib.Path,
    helm: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster, output = Cluster(there=False), f"s3://{BUCKET}/runs"
    checked = ["--force"] if secret == SECRET else [*force]  # The scripted cluster has no nodes.
    arguments = [f"--helm={helm}", *checked, "--detach", "--gpus_per_worker=0", f"--code={large}", f"--output={output}"]
    with s3_server(tmp_path / "s3") as address, api_server(cluster.answer, tmp_path) as config:
        for name, value in {**s3_environ(address), "KUBECONFIG": str(config)}.items():
            monkeypatch.setenv(name, value)
        key = code_folder.read(str(large)).key
        with monkeypatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
            code = cli.main([*arguments, "--", "--experiment=my_model"])
            again = cli.main([*arguments, "--", "--experiment=my_model"])
        kept = stored(output)
    said = capsys.readouterr()
    done = pathlib.Path(f"{helm}.done").read_text().split() if pathlib.Path(f"{helm}.done").exists() else []
    assert cluster.done == [], "no ConfigMap is made"
    if secret == SECRET:
        assert (code, again, done, kept) == (LaunchCode.DONE, LaunchCode.DONE, ["upgrade", "upgrade"], [key])
        assert f"the code was written to {output}/{key}" in said.out
        assert f"the code is already in {output}/{key}" in said.out
        return
    assert (code, again, done, kept) == (LaunchCode.NOT_STARTED, LaunchCode.NOT_STARTED, [], [])
    assert "FAIL  output: the code is to be written there, and cannot be with this user's credentials: " in said.out
    if force:
        text = (
            f"error: nothing was submitted: the code cannot be written to {output}/{key} with this user's credentials"
        )
        assert said.err.splitlines()[0].startswith(text)
