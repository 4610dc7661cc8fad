"""What TensorFlow says while it is imported: notes are dropped, and what a process dies of is shown.

The real one aborts there only on machines that it cannot run on; in its place is a package that does.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agents import TRAINER, running
from tests.support.paths import ROOT
from tests.support.waiting import until

NOTE = "I0000 00:00:1700000000.000000 1 port.cc:153] oneDNN custom operations are on."
FATAL = "F0000 00:00:1700000000.000000 1 cpu.cc:51] this machine lacks what the library was compiled for"
SAYS = f"import os, signal, time\nos.write(2, b'''{NOTE}\n{FATAL}\n''')\n"


def environ(folder: Path, code: str) -> dict[str, str]:
    """The environment of processes whose TensorFlow is this code."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(SAYS + code)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def begun(folder: Path, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trainer", f"--run_dir={folder / 'run'}"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environ(folder, code), stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize(("code", "ends"), [("os.abort()", -signal.SIGABRT), ("os._exit(3)", 3)])
def test_what_it_dies_of_is_shown(code: str, ends: int, tmp_path: Path) -> None:
    process = begun(tmp_path, code)
    assert process.communicate(timeout=60)[1].splitlines() == [NOTE, FATAL]
    assert process.returncode == ends


def test_also_when_all_that_it_has_started_is_killed(tmp_path: Path) -> None:
    process = begun(tmp_path, f"open({str(tmp_path / 'here')!r}, 'w')\ntime.sleep(100)")
    until(60, "the import", (tmp_path / "here").exists)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.communicate(timeout=60)[1].splitlines() == [NOTE, FATAL]


def test_of_an_import_that_succeeds_the_errors_are_shown(tmp_path: Path) -> None:
    process = begun(tmp_path, "os.write(2, b'said in the end\\n')\nraise ImportError('half of it is missing')")
    lines = process.communicate(timeout=60)[1].splitlines()
    assert NOTE not in lines
    assert lines[:2] == [FATAL, "said in the end"]
    assert lines[-1] == "ImportError: half of it is missing"


def test_the_agents_last_words_have_it(tmp_path: Path) -> None:
    said = environ(tmp_path, "os.abort()")
    with running(tmp_path, 1, program=TRAINER, environ=said, agent_flags=["--max_restarts=0"]) as run:
        agent = run.start(0)
        assert agent.end() == 134
        assert FATAL in agent.lines
        assert run.termination(0)["errors"] == [FATAL]
