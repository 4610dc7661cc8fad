"""--chart=oci://...: a chart out of a real registry, or none."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.paths import CHART
from tests.support.waiting import until
from tests.tools import tool
from trainer.core.free_ports import free_ports
from trainer.launch import cli
from trainer.launch.codes import LaunchCode

pytestmark = pytest.mark.chart


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that holds the chart, and one thing that is none; its address."""
    folder = tmp_path_factory.mktemp("registry")
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    config = f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '{host}'}}\n"
    (folder / "config.yml").write_text(config)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([tool("registry"), "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        until(60, "the registry", lambda: answers(port))
        subprocess.run(["helm", "package", str(CHART), "--destination", str(folder)], check=True, capture_output=True)
        (package,) = folder.glob("*.tgz")
        push = ["helm", "push", str(package), f"oci://{host}/charts", "--plain-http"]
        subprocess.run(push, check=True, capture_output=True)
        yield host
    finally:
        process.kill()
        process.wait()


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
