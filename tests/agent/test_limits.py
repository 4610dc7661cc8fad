"""Process 1 of a worker lives, whatever a pod lacks: threads, files, somebody who reads what it prints."""

import contextlib
import os
import pathlib
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.agents import DEADLINE, Agent, Run, children, running
from tests.support.few_threads import few_threads
from tests.support.forging import connected
from tests.support.paths import ROOT
from tests.support.waiting import until
from trainer.agent.events import Events, OutputFinished
from trainer.agent.processes.children import Children
from trainer.core.tf_config import Cluster

FILES = 128
READS_TF_CONFIG = """
import os
from trainer.core import agent_link
argv = agent_link.handed_over() if agent_link.is_spare() else sys.argv[1:]
print(len(os.environ["TF_CONFIG"]), argv)
"""
FEW_FILES = f"""
from resource import *
setrlimit(RLIMIT_NOFILE, ({FILES}, getrlimit(RLIMIT_NOFILE)[1]))
"""


@contextlib.contextmanager
def idle(port: int, count: int) -> Iterator[None]:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as crowd:
        for _ in range(count):
            crowd.enter_context(connected(port))
        yield


def open_files(pid: int) -> tuple[int, int]:
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    soft, hard = limits.partition("Max open files")[2].split()[:2]
    return int(soft), int(hard)


def test_the_agent_may_open_more_files_than_what_it_starts(tmp_path: pathlib.Path) -> None:
    flags, environ = ["--epochs=2000"], {"STEP_SECONDS": "0.05"}
    with running(tmp_path, 2, trainer_flags=flags, environ=environ, prelude=FEW_FILES) as run:
        chief, other = run.start_all()
        chief.wait_for_step(2)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for agent in (chief, other):
            assert open_files(agent.process.pid) == (min(hard, 2**20), hard)
            (training,) = children(agent.process.pid)
            assert open_files(training) == (FILES, hard)
        with idle(run.ports[0], 2 * FILES):
            assert run.get(0, "/healthz") == (200, "ok\n")
            other.signal_training(signal.SIGKILL)
            chief.wait_for_step(chief.step + 2, attempt=2)
        assert "Traceback" not in chief.text


@contextlib.contextmanager
def starved(run: Run, agent: Agent, more: int) -> Iterator[None]:
    """The agent may have so many more threads, or fewer than it has, and strangers knock."""
    try:
        limit = few_threads(agent.process.pid, more)
        limit.__enter__()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    with contextlib.ExitStack() as stack:
        stack.push(limit.__exit__)
        stack.enter_context(idle(run.ports[0], 20))
        yield


@pytest.mark.parametrize("who", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_without_room_for_threads_and_processes_the_agent_waits(tmp_path: pathlib.Path, who: int) -> None:
    """The training process of one worker is killed while the chief's agent can start neither thread nor process."""
    flags, environ = ["--epochs=30"], {"STEP_SECONDS": "0.05"}
    # What it starts in there may end for the same reason.
    with running(tmp_path, 2, agent_flags=["--max_restarts=99"], trainer_flags=flags, environ=environ) as run:
        chief, _ = run.start_all()
        chief.wait_for_step(2)
        with starved(run, chief, -2):
            run.agents[who].signal_training(signal.SIGKILL)
            words = ("no more threads; it goes on when there is room", "the training process cannot be started")
            chief.wait_for(lambda lines: any(word in line for line in lines for word in words), str(words))
        chief.wait_for_step(chief.step + 2, attempt=2)
        assert run.codes() == [0, 0]
        assert "trainer/agent/" not in chief.text  # No traceback of its own.
        assert run.attempts[-1]["ended"] == "done"


def test_a_training_process_that_cannot_be_started_is_a_crash_in_the_end(tmp_path: pathlib.Path) -> None:
    prelude = "from trainer.agent import agent; agent._START_SECONDS = 1.0"
    with running(tmp_path, 1, agent_flags=["--max_restarts=0"], program=("/nowhere/python",), prelude=prelude) as run:
        agent = run.start(0)
        assert agent.end() == os.EX_OSERR
        assert "the training process cannot be started: No such file or directory; it is tried again" in agent.text
        assert "cannot be started: No such file or directory, for 1 s" in run.termination(0)["reason"]
        assert "Traceback" not in agent.text


@pytest.mark.parametrize("closed", ["sys.stdout", "sys.stderr", "sys.stdout = sys.stderr"])
def test_closed_outputs_are_nobodys_loss(tmp_path: pathlib.Path, closed: str) -> None:
    """What is printed goes to the log of the attempt all the same."""
    with running(tmp_path, 1, prelude=f"import sys; {closed} = None") as run:
        assert run.start(0).end() == 0
        assert "step=10/" in (run.run_dir / "workers" / "0" / "attempt-1.log").read_text()


class PanicException(BaseException):
    """As a client that is written in Rust raises it."""


@pytest.mark.parametrize("raised", [PanicException("at the disco"), SystemExit(3), ValueError("no")])
def test_what_a_thread_raises_is_raised_in_the_main_thread(raised: BaseException) -> None:
    said: list[str] = []
    events = Events(reap=lambda: None, say=said.append)

    def fail() -> Any:
        raise raised

    events.call(fail, name="fails")
    with pytest.raises(Exception, match=str(raised)):
        until(DEADLINE, "an event", events.next)
    events.call(lambda: OutputFinished(None), name="well")
    assert until(DEADLINE, "an event", events.next) == OutputFinished(None)
    assert said == []


def test_the_tf_config_of_thousands_of_workers_reaches_training() -> None:
    """The kernel takes no variable of more than 128 KiB in the environment of a new process."""
    tf_config = "x" * 400_000
    program = (sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{READS_TF_CONFIG}")
    lines: list[bytes] = []
    children = Children(program, dict(os.environ), on_line=lambda line, _: lines.append(line), say=lambda _: None)
    child, _ = children.start({"TF_CONFIG": tf_config}, ["--run_dir=here"])

    def ended() -> bool:
        children.reap()
        return child.code is not None

    until(DEADLINE, "its end", ended)
    assert lines == [b"400000 ['--run_dir=here']\n"], child.errors


def test_without_room_for_files_strangers_go_and_workers_stay(tmp_path: pathlib.Path) -> None:
    """The hard limit is reached: of connections that say nothing the older half makes room."""
    prelude = f"from resource import *; setrlimit(RLIMIT_NOFILE, ({FILES}, {FILES}))"
    flags, environ = ["--epochs=2000"], {"STEP_SECONDS": "0.05"}
    with running(tmp_path, 2, trainer_flags=flags, environ=environ, prelude=prelude) as run:
        chief, other = run.start_all()
        chief.wait_for_step(2)
        with idle(run.ports[0], 2 * FILES):
            assert run.get(0, "/healthz") == (200, "ok\n")
            other.signal_training(signal.SIGKILL)
            chief.wait_for_step(chief.step + 2, attempt=2)
            assert run.get(0, "/healthz") == (200, "ok\n")
        assert "Traceback" not in chief.text


@pytest.mark.parametrize(("workers", "says"), [(300, True), (200, False)])
def test_too_few_files_for_so_many_workers_are_told(tmp_path: pathlib.Path, workers: int, says: bool) -> None:
    tf_config = Cluster(addresses=tuple(f"127.0.0.1:{1000 + index}" for index in range(workers)), index=0).tf_config()
    prelude = "from resource import *; setrlimit(RLIMIT_NOFILE, (600, 600))"
    flags = ["--rendezvous_timeout=1"]
    with running(tmp_path, 1, agent_flags=flags, environ={"TF_CONFIG": tf_config}, prelude=prelude) as run:
        agent = run.start(0)
        assert agent.end() == 75
        told = "warning: this machine lets worker 0's agent open 600 files, and 300 workers need 700"
        assert (told in agent.text) == says
