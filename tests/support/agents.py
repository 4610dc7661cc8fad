"""Agents and launchers as real processes: started, watched line by line, waited for with a deadline."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from tests.support.paths import ROOT, STRICT, TESTS
from tests.support.progress_lines import progress_in
from trainer.core import attempts, run_token
from trainer.core.free_ports import free_ports
from trainer.core.log_lines import Progress, StateLine
from trainer.core.process import spawn
from trainer.core.tf_config import Cluster

STAND_IN = (sys.executable, str(TESTS / "support" / "stand_in.py"))
TRAINER = (sys.executable, "-m", "trainer")
TOKEN = "the-token-of-this-run"
DEADLINE = 300.0  # Seconds for anything that is waited for; it takes far less.


class Agent:
    """One agent process and what it printed."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], *, cores: Sequence[int] = ()) -> None:
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._open_streams = 2
        self.process = spawn(command, environ, output=subprocess.PIPE, cores=cores)
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def lines(self) -> list[str]:
        with self._changed:
            return list(self._lines)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def state(self) -> StateLine:
        """What its newest state line says; waits for the first line."""
        self.wait_for(lambda lines: any(StateLine.parse(line) for line in lines))
        return [state for line in self.lines if (state := StateLine.parse(line))][-1]

    @property
    def progress(self) -> list[Progress]:
        return progress_in(self.lines)

    @property
    def step(self) -> int:
        return self.progress[-1].step if self.progress else 0

    def wait_for(self, condition: Callable[[list[str]], bool], what: str = "the condition") -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition(self._lines) or not self._open_streams, DEADLINE)
            if not condition(self._lines):
                ended = "" if self._open_streams else ", and the process has ended"
                raise AssertionError(f"{what} did not come true{ended}")

    def wait_for_line(self, part: str) -> None:
        self.wait_for(lambda lines: any(part in line for line in lines), repr(part))

    def wait_for_step(self, step: int, attempt: int = 1) -> None:
        """Waits until a step at or after `step` was completed, in an attempt at or after `attempt`."""

        def reached(lines: list[str]) -> bool:
            return any(
                (progress := Progress.parse(line)) is not None and progress.step >= step and progress.attempt >= attempt
                for line in reversed(lines)
            )

        self.wait_for(reached, f"step {step} in attempt {attempt}")

    def wait_for_spare(self, attempt: int = 1) -> None:
        self.wait_for(
            lambda lines: any(
                (state := StateLine.parse(line)) and state.spare == "ready" and state.attempt >= attempt
                for line in lines
            ),
            "a spare",
        )

    def training_pid(self) -> int:
        """Of the training process that runs now; waits until there is one."""
        self.wait_for(lambda _: self._training_pid() != 0, "a training process")
        return self._training_pid()

    def signal_training(self, number: signal.Signals) -> int:
        """Sends a signal to the training process that runs now."""
        os.kill(pid := self.training_pid(), number)
        return pid

    def end(self, seconds: float = DEADLINE) -> int:
        """Waits for its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("the agent goes on") from None
        for reader in self._readers:
            reader.join(10)
        return code

    def _training_pid(self) -> int:
        return next((state.pid for line in reversed(self._lines) if (state := StateLine.parse(line))), 0)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.decode(errors="replace").rstrip())
                    self._changed.notify_all()
        with self._changed:
            self._open_streams -= 1
            self._changed.notify_all()


def signal_at_once(signals: Mapping[Agent, signal.Signals]) -> None:
    """Sends signals to the training processes that these agents have now: an agent soon has another than one killed."""
    pids = {agent.training_pid(): number for agent, number in signals.items()}
    for pid, number in pids.items():
        with contextlib.suppress(ProcessLookupError):  # Its agent was quicker.
            os.kill(pid, number)


@dataclasses.dataclass
class Run:
    """The agents of one run, each started when the test says so."""

    folder: pathlib.Path
    workers: int
    program: Sequence[str] = STAND_IN
    agent_flags: Sequence[str] = ()
    trainer_flags: Sequence[str] = ()
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prelude: str = ""  # Python that the agent's process runs first.
    cores: Sequence[int] = ()  # The CPU cores of an agent and what it starts; empty: all.
    host: str = "127.0.0.1"  # As in an address: an IPv6 one has brackets.

    def __post_init__(self) -> None:
        ports = free_ports(2 * self.workers)
        self.addresses = tuple(f"{self.host}:{port}" for port in ports[: self.workers])
        self.ports = ports[self.workers :]
        self.run_dir = self.folder / "run"
        self.agents: dict[int, Agent] = {}
        self._all: list[Agent] = []

    def start(self, index: int, *, agent_flags: Sequence[str] = (), trainer_flags: Sequence[str] = ()) -> Agent:
        """Starts the agent of a worker, for the first time or again; these flags are added to those of the run."""
        agent_arguments = [
            f"--port={self.ports[index]}",
            f"--chief_agent={self.host}:{self.ports[0]}",
            *self.agent_flags,
            *agent_flags,
        ]
        training_arguments = [f"--run_dir={self.run_dir}", *self.trainer_flags, *trainer_flags]
        main = f"import sys; from trainer.agent.cli import main; sys.exit(main(program={tuple(self.program)!r}))"
        command = f"{self.prelude}\n{main}"
        environ = {
            **os.environ,
            "PYTHONPATH": f"{STRICT}{os.pathsep}{ROOT}",
            "TERMINATION_MESSAGE_PATH": str(self.folder / f"termination-{index}"),
            run_token.TOKEN: TOKEN,
            **self.environ,
        }
        if self.workers > 1:
            environ["TF_CONFIG"] = Cluster(addresses=self.addresses, index=index).tf_config()
        agent = Agent(
            [sys.executable, "-c", command, *agent_arguments, "--", *training_arguments], environ, cores=self.cores
        )
        self.agents[index] = agent
        self._all.append(agent)
        return agent

    def start_all(self) -> list[Agent]:
        return [self.start(index) for index in range(self.workers)]

    def codes(self, seconds: float = DEADLINE) -> list[int]:
        """Waits until all agents have ended; their exit codes, in the order of the workers."""
        return [self.agents[index].end(seconds) for index in sorted(self.agents)]

    @property
    def result(self) -> dict[str, Any]:
        """What stands in result.json."""
        return dict(json.loads((self.run_dir / "result.json").read_text()))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """The lines of attempts.jsonl."""
        return attempts.read(self.run_dir)

    def termination(self, index: int) -> dict[str, Any]:
        """The termination message that a worker's agent has left."""
        return dict(json.loads((self.folder / f"termination-{index}").read_text()))

    def get(self, index: int, path: str) -> tuple[int, str]:
        """The status and the body of a worker's agent's answer over HTTP."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.ports[index]}{path}", timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        for agent in self._all:
            agent.process.kill()
            agent.process.wait()


@contextlib.contextmanager
def running(folder: pathlib.Path, workers: int, **options: Any) -> Iterator[Run]:
    """A run; at the end of the block its agents and all that they started are killed."""
    run = Run(folder, workers, **options)
    try:
        yield run
    except BaseException:
        for index, agent in run.agents.items():
            print(f"--- the end of what agent {index} printed", *agent.lines[-25:], sep="\n")
        raise
    finally:
        run.close()


@contextlib.contextmanager
def launched(
    *flags: str,
    command: Sequence[str] = (),
    training: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    cores: Sequence[int] = (),
) -> Iterator[Agent]:
    """A launcher with --local, watched as an agent is: it prints the same lines."""
    whole = [sys.executable, "-m", "trainer.launch", *command, "--local", *flags, "--", *training]
    launcher = Agent(whole, {**os.environ, **(environ or {})}, cores=cores)
    try:
        yield launcher
    except BaseException:
        print("--- the end of what the launcher printed", *launcher.lines[-40:], sep="\n")
        raise
    finally:
        launcher.process.kill()
        launcher.process.wait()


def children(pid: int) -> list[int]:
    """The ids of the processes that a process has started and that still run."""
    pids = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in pids if alive(int(child))]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, *, zombie: bool = False) -> None:
    """Waits until a process has ended, and with `zombie` until it has been reaped."""
    deadline = time.monotonic() + DEADLINE
    while pathlib.Path(f"/proc/{pid}").exists() if zombie else alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.05)
