"""--chart=oci://...: a chart out of a real registry, or none."""

import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import servers
from tests.support.paths import CHART
from tools.release import OFFLINE
from trainer.launch import cli
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.chart


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that holds the chart; its address."""
    folder = tmp_path_factory.mktemp("registry")
    with servers.registry(folder) as host:
        push(folder, f"{host}/charts")
        yield host


def push(folder: pathlib.Path, to: str, *more: str) -> str:
    """Packages the chart and pushes it; returns its name with its digest."""
    run("helm", "package", str(CHART), "--destination", str(folder), *more)
    (package,) = folder.glob("*.tgz")
    said = run("helm", "push", str(package), f"oci://{to}", "--plain-http")
    package.unlink()
    (digest,) = re.findall(r"^Digest: (\S+)$", said, re.MULTILINE)
    return f"{to}/mnist-train@{digest}"


def run(*command: str) -> str:
    environ = {**os.environ, "COSIGN_PASSWORD": ""}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    return done.stdout


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")


@pytest.mark.parametrize("helm", ["helm", "helm3"])
@pytest.mark.parametrize("version", ["", ":0.1.0"])
def test_a_chart_in_a_registry(helm: str, version: str, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--chart=oci://{registry}/charts/mnist-train{version}", f"--helm={helm}", "--dry_run", "--workers=3"]
    assert cli.main(arguments) == LaunchCode.DONE
    assert "completions: 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("charts/nothing", LaunchCode.NOT_STARTED, "cannot be had: helm pull failed: "),
        ("charts/mnist-train:9.9.9", LaunchCode.NOT_STARTED, "cannot be had: helm pull failed: "),
        ("charts/Mnist", LaunchCode.USAGE, "is no address of a chart; expected oci://HOST/PATH"),
        ("", LaunchCode.USAGE, "is no address of a chart"),
    ],
)
def test_what_is_not_there(
    path: str, code: LaunchCode, words: str, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([f"--chart=oci://{registry}/{path}", "--dry_run"]) == code
    said = capsys.readouterr()
    assert said.err.startswith(f"error: --chart=oci://{registry}/{path} ")
    assert words in said.err
    assert (len(said.err.splitlines()), said.out) == (1, "")


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--chart=oci://127.0.0.1:9/charts/mnist-train", "--dry_run"]) == LaunchCode.NOT_STARTED
    said = capsys.readouterr().err
    assert "refused" in said
    assert len(said.splitlines()) == 1


def test_files_that_were_pulled_go_with_the_process(registry: str, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "trainer.launch", f"--chart=oci://{registry}/charts/mnist-train", "--dry_run"]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True)
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with two pairs of keys, right and wrong."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("right", "wrong"):
        run("cosign", "generate-key-pair", f"--output-key-prefix={folder / name}")
    for name, value in OFFLINE.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def sign(reference: str, keys: pathlib.Path, *command: str) -> None:
    offline = [f"--{name}={keys / name}.json" for name in OFFLINE]
    how = ("--yes", f"--key={keys / 'right.key'}", *offline, "--allow-http-registry")
    run("cosign", *(command or ("sign",)), *how, reference)


def refused(capsys: pytest.CaptureFixture[str], address: str, key: str | pathlib.Path) -> str:
    """What is said of a chart that is not taken."""
    assert cli.main([f"--chart=oci://{address}", f"--chart_key={key}", "--dry_run"]) == LaunchCode.NOT_STARTED
    said = capsys.readouterr()
    assert (len(said.err.splitlines()), said.out) == (1, "")
    before = f"error: --chart=oci://{address} is refused: cosign finds no signature of it by --chart_key={key}: "
    assert said.err.startswith(before)
    return said.err.removeprefix(before)


@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_a_chart_that_is_signed(
    helm: str, registry: str, keys: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(push(tmp_path, f"{registry}/signed", "--version=1.0.0+mine"), keys)
    address = f"{registry}/signed/mnist-train:1.0.0+mine"
    assert (
        cli.main([f"--chart=oci://{address}", f"--chart_key={keys / 'right.pub'}", f"--helm={helm}", "--dry_run"]) == 0
    )
    assert "kind: Job" in capsys.readouterr().out
    assert "signatures" in refused(capsys, address, keys / "wrong.pub")


def test_a_tag_that_was_moved_to_a_chart_that_is_not_signed(
    registry: str, keys: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(push(tmp_path, f"{registry}/moved"), keys)
    push(tmp_path, f"{registry}/moved", "--app-version=9.9.9")
    assert "no signatures found" in refused(capsys, f"{registry}/moved/mnist-train", keys / "right.pub")


def test_what_else_a_key_says_of_a_chart_is_no_signature(
    registry: str, keys: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scan.json").write_text('{"found": "a hole"}')
    reference = push(tmp_path, f"{registry}/scanned")
    sign(reference, keys, "attest", f"--predicate={tmp_path / 'scan.json'}")
    said = refused(capsys, f"{registry}/scanned/mnist-train", keys / "right.pub")
    assert said == "the key has only said other things of it\n"
    sign(reference, keys)
    address = f"--chart=oci://{registry}/scanned/mnist-train"
    assert cli.main([address, f"--chart_key={keys / 'right.pub'}", "--dry_run"]) == LaunchCode.DONE


def test_a_tag_that_was_moved_to_an_older_chart_that_is_signed(
    registry: str, keys: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = push(tmp_path, f"{registry}/old", "--version=0.0.9")
    sign(old, keys)
    manifests, kind = "/v2/old/mnist-train/manifests", "application/vnd.oci.image.manifest.v1+json"
    connection = http.client.HTTPConnection(registry)
    connection.request("GET", f"{manifests}/{old.partition('@')[2]}", headers={"Accept": kind})
    manifest = connection.getresponse().read()
    connection.request("PUT", f"{manifests}/1.0.0", manifest, {"Content-Type": kind})
    assert connection.getresponse().status == 201
    connection.close()
    chart = f"--chart=oci://{registry}/old/mnist-train:1.0.0"
    assert cli.main([chart, f"--chart_key={keys / 'right.pub'}", "--dry_run"]) == LaunchCode.NOT_STARTED
    said = capsys.readouterr()
    assert (said.err, said.out) == (
        f"error: {chart} is refused: the chart that is signed there has the version 0.0.9\n",
        "",
    )


def test_a_key_that_cannot_be_used(
    registry: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "key"
    other.write_text("no key")
    assert "PEM" in refused(capsys, f"{registry}/charts/mnist-train", other)
    chart = f"--chart=oci://{registry}/charts/mnist-train"
    for arguments, code, words in (
        (
            [chart, "--chart_key=/none.pub"],
            LaunchCode.USAGE,
            "--chart_key=/none.pub is not a file; expected a public key",
        ),
        (
            [f"--chart_key={other}"],
            LaunchCode.USAGE,
            "a chart in a registry, --chart=oci://...; the launcher's own is none",
        ),
        ([f"--chart_key={other}", f"--chart={CHART}"], LaunchCode.USAGE, f"--chart={CHART} is none"),
    ):
        assert cli.main([*arguments, "--dry_run"]) == code
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
    helm = shutil.which("helm")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main([chart, f"--chart_key={other}", f"--helm={helm}", "--dry_run"]) == LaunchCode.NOT_STARTED
    assert capsys.readouterr().err.startswith("error: cosign was not found on PATH, and --chart_key needs it; ")
