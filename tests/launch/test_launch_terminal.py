"""The launcher as a process: on a narrow terminal, before a reader that leaves, with credentials that expire."""

import contextlib
import fcntl
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from tests.support.api_server import api_server
from tests.support.paths import CHART
from tests.support.scripted_run import DEADLINE, ScriptedRun
from trainer.launch.codes import LaunchCode

ATTACH = (sys.executable, "-m", "trainer.launch", "attach", "--name=big")
SUBMIT = (sys.executable, "-m", "trainer.launch", f"--chart={CHART}")
COLUMNS = 40


@contextlib.contextmanager
def served(told: ScriptedRun, folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """Serves a run; yields the environment of a launcher that watches it."""
    with api_server(told.answer, folder) as config:
        try:
            yield {**os.environ, "KUBECONFIG": str(config)}
        finally:
            told.done.set()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal of 40 columns: its two ends."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 20, COLUMNS, 0, 0))
    yield near, far
    os.close(near)


def test_a_terminal_of_forty_columns(tmp_path: pathlib.Path, terminal: tuple[int, int]) -> None:
    near, far = terminal
    with served(ScriptedRun(3), tmp_path) as environ:
        environ = {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}
        environ["TERM"] = "xterm"
        process = subprocess.Popen(ATTACH, env=environ, stdin=far, stdout=far, stderr=far)
        os.close(far)
        text = ""
        deadline = time.monotonic() + DEADLINE
        while not re.search(r"ETA|examples/s|accur", text):
            assert time.monotonic() < deadline, text
            text += os.read(near, 65536).decode()
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # The end of a terminal whose last process is gone.
            while more := os.read(near, 65536):
                text += more.decode()
        assert process.wait(DEADLINE) == LaunchCode.INTERRUPTED
    lines = [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", line).strip("\r") for line in re.split(r"\r?\n", text)]
    table = [line for line in lines if re.match(r"\s*[012]\s+running", line)]
    assert len(table) >= 3
    assert max(map(len, table)) <= COLUMNS
    assert any(line.startswith("epoch 1/5 ") and len(line.rstrip()) <= COLUMNS for line in lines)


FIRST_WORDS = """
import sys

class Out:
    def write(self, text):
        sys.stdout = sys.__stdout__
        print(text, *sorted(sys.modules), sep="\\n", flush=True)
    def flush(self): pass
    def isatty(self): return False

from trainer.launch.cli import main
out = sys.stdout = Out()
sys.exit(main(sys.argv[1:]))
"""
"""Runs the launcher; prints its first words and the modules that it had imported until then.

`out` outlives the print that it is replaced in: Python holds no reference of its own to what it prints to.
"""


def test_the_first_words_wait_for_nothing(tmp_path: pathlib.Path) -> None:
    """`make bench ARGS=first_words` says how long they take."""
    helm = tmp_path / "helm"
    helm.write_text("#!/bin/sh\necho v4.0.0\n")
    helm.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", FIRST_WORDS, *SUBMIT[3:], f"--helm={helm}"],
        env={**os.environ, "KUBECONFIG": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    words, *modules = done.stdout.splitlines()
    assert words == "ok    helm: v4.0.0", done  # Before it looks for a cluster, of which there is none.
    assert done.returncode == LaunchCode.FAILED, done
    assert "no cluster to talk to" in done.stderr
    assert "trainer.launch.cli" in modules
    assert not {"tensorflow", "keras", "numpy", "kubernetes", "google.cloud.storage", "obstore"} & {*modules}


def test_a_reader_that_leaves_ends_it(tmp_path: pathlib.Path) -> None:
    with served(ScriptedRun(3), tmp_path) as environ:
        command = f"{' '.join(ATTACH)} --logs=all | head -n 1; echo ${{PIPESTATUS[0]}}"
        process = subprocess.Popen(
            ["bash", "-c", command], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, error = process.communicate(timeout=DEADLINE)
    assert "Traceback" not in error
    assert out.splitlines()[-1] == str(int(LaunchCode.FAILED))


def test_credentials_that_expire_while_watching(tmp_path: pathlib.Path) -> None:
    with served(ScriptedRun(2, refusal="Unauthorized"), tmp_path) as environ:
        done = subprocess.run(ATTACH, env=environ, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == LaunchCode.FAILED
    assert "they are wrong or have expired; log in to the cluster again" in done.stderr
    assert "come back with:  python -m trainer.launch attach --name=big" in done.stdout
