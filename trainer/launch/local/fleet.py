"""`python -m trainer.launch --local`: the agents of all workers as processes on this machine.

It stands in for Kubernetes' Job: it starts the agents, gives an agent that was killed a successor, and says how the
run ended. The agents die with it.
"""

import collections
import dataclasses
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

from trainer.agent.flags import AgentConfig, Survival
from trainer.core import experiment_flags, settings
from trainer.core.causes import CRASHES, Cause
from trainer.core.config import Config
from trainer.core.exit_codes import FINAL, ExitCode, UsageError, meaning
from trainer.core.log_lines import Progress, StateLine
from trainer.core.ports import free_ports
from trainer.core.process import spawn
from trainer.core.run_dir import RESULT, default_run_dir
from trainer.core.settings import setting
from trainer.core.tf_config import Cluster
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.local.view import FleetView, open_view

_SUCCESSORS = 10  # Agents that may be replaced without a newer checkpoint in between.
_KEPT_LINES = 20
_MOST_WORKERS = 1000  # Far more than a machine has cores for.
_FAREWELL_SECONDS = 5.0  # Beyond --grace, or after the first agent has failed, for the others.


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalConfig(Survival):
    """The launcher's flags for a fleet on this machine."""

    local: bool = setting(True, "run the workers as processes on this machine")
    workers: int = setting(4, "how many", minimum=1, below=_MOST_WORKERS + 1)
    timeout: float = setting(0.0, "seconds after which the run is ended with exit code 124; 0: none", minimum=0.0)


@dataclasses.dataclass
class _Worker:
    index: int
    port: int  # Of its agent.
    process: subprocess.Popen[bytes] | None = None
    lines: collections.deque[str] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=_KEPT_LINES))


@dataclasses.dataclass(frozen=True)
class _Line:
    worker: _Worker
    text: str
    error: bool


@dataclasses.dataclass(frozen=True)
class _Ended:
    worker: _Worker
    process: subprocess.Popen[bytes]
    code: int


class Fleet:
    """All agents of one run. Everything happens in the main thread; threads only read and wait."""

    def __init__(self, config: LocalConfig, trainer_config: Config, view: FleetView) -> None:
        """Chooses ports and the run directory; nothing is started yet.

        Raises:
          UsageError: more workers are required than there are.
        """
        if config.min_workers > config.workers:
            raise UsageError(f"--min_workers={config.min_workers} is more than --workers={config.workers}")
        run_dir = trainer_config.run_dir or default_run_dir()
        self._config, self._view = config, view
        self._trainer_config = dataclasses.replace(trainer_config, run_dir=run_dir)
        self._run_dir = pathlib.Path(run_dir)
        ports = free_ports(2 * config.workers)
        self._cluster = Cluster(addresses=tuple(f"127.0.0.1:{port}" for port in ports[: config.workers]), index=0)
        self._workers = [_Worker(index, port) for index, port in enumerate(ports[config.workers :])]
        self._events: queue.SimpleQueue[_Line | _Ended | signal.Signals] = queue.SimpleQueue()
        self._code: int | None = None  # The launcher's, once it is known.
        self._until = float("inf")  # When agents that still run are killed.
        self._successors, self._saved = 0, -1

    def run(self) -> int:
        """Runs the fleet to its end; returns the launcher's exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: self._events.put(signal.Signals(number)))
        self._say_cores()
        deadline = time.monotonic() + (self._config.timeout or float("inf"))
        try:
            for worker in self._workers:
                try:
                    self._start(worker)
                except (OSError, RuntimeError) as error:  # Processes, files and threads all have their limits.
                    raise LaunchError(
                        f"worker {worker.index} of {self._config.workers} cannot be started on this machine: {error}; "
                        "fewer --workers, or higher limits (`ulimit -n`, `ulimit -u`)"
                    ) from None
            while any(worker.process for worker in self._workers):
                self._step()
                if time.monotonic() > deadline and self._code is None:
                    self._end(LaunchCode.TIMEOUT, f"timed out after --timeout={self._config.timeout:g} s")
                if time.monotonic() > self._until:
                    self._signal_all(signal.SIGKILL)
        finally:
            self._signal_all(signal.SIGKILL)
        return LaunchCode.FAILED if self._code is None else self._code

    def result(self) -> str:
        """The result of a run that succeeded, in words."""
        result = json.loads((self._run_dir / RESULT).read_text())
        figures = (
            f"val_accuracy {result['val_accuracy']:.4f}, val_loss {result['val_loss']:.4f}, "
            f"{result['seconds']:.1f} s, {result['restarts']} restart(s)"
        )
        return f"succeeded: {figures}\nrun directory: {self._run_dir} (tensorboard --logdir {self._run_dir.parent})"

    def _start(self, worker: _Worker) -> None:
        cores = sorted(os.sched_getaffinity(0))
        shared = {field.name: getattr(self._config, field.name) for field in dataclasses.fields(Survival)}
        agent = AgentConfig(port=worker.port, chief_agent=f"127.0.0.1:{self._workers[0].port}", **shared)
        cluster = dataclasses.replace(self._cluster, index=worker.index)
        worker.process = process = spawn(
            (
                *(sys.executable, "-m", "trainer.agent", *settings.arguments(agent)),
                *("--", *settings.arguments(self._trainer_config)),
            ),
            {**os.environ, "TF_CONFIG": cluster.tf_config()},
            output=subprocess.PIPE,
            cores=share(cores, worker.index, self._config.workers),
        )
        readers = [
            threading.Thread(target=self._read, args=(worker, stream, error), daemon=True)
            for stream, error in ((process.stdout, False), (process.stderr, True))
            if stream
        ]
        for thread in (*readers, threading.Thread(target=self._wait, args=(worker, process, readers), daemon=True)):
            thread.start()

    def _read(self, worker: _Worker, stream: IO[bytes], error: bool) -> None:
        with stream:
            for line in stream:
                self._events.put(_Line(worker, line.decode(errors="replace").rstrip(), error))

    def _wait(self, worker: _Worker, process: subprocess.Popen[bytes], readers: Sequence[threading.Thread]) -> None:
        code = process.wait()
        for reader in readers:
            reader.join(_FAREWELL_SECONDS)
        self._events.put(_Ended(worker, process, code))

    def _step(self) -> None:
        try:
            event = self._events.get(timeout=0.5)
        except queue.Empty:
            return
        match event:
            case _Line(worker, text, error):
                self._take(worker, text, error)
            case _Ended(worker, process, code) if process is worker.process:
                worker.process = None
                self._agent_ended(worker, code)
            case signal.Signals():
                self._interrupted(event)

    def _take(self, worker: _Worker, text: str, error: bool) -> None:
        if (state := StateLine.parse(text)) is not None:
            if state.state == "meeting" and state.last in {*CRASHES, Cause.FINAL}:
                self._show_lines(worker)
            if state.state in ("starting", "meeting"):
                worker.lines.clear()
            self._view.state(state, text)
        elif (progress := Progress.parse(text)) is not None:
            if progress.saved is not None and progress.saved > self._saved:
                self._saved, self._successors = progress.saved, 0
            self._view.progress(progress, text)
        elif error:
            worker.lines.append(text)
            if worker.index == 0 and text.startswith("agent 0: "):
                self._view.say(text)
        elif worker.index == 0:
            self._view.say(text)

    def _show_lines(self, worker: _Worker) -> None:
        for line in worker.lines:
            self._view.say(f"worker {worker.index} | {line}")
        worker.lines.clear()

    def _agent_ended(self, worker: _Worker, code: int) -> None:
        if code == 0 and worker.index == 0:  # The result is there, whatever becomes of the others.
            self._code, self._until = LaunchCode.DONE, time.monotonic() + 2 * _FAREWELL_SECONDS
        if code == 0 or self._code is not None:
            return
        if code in FINAL:  # All agents have heard it and end by themselves.
            self._show_lines(worker)
            self._fail(worker, code, signalled=False)
        elif (code < 0 or code == ExitCode.TERMINATED) and self._successors < _SUCCESSORS:
            self._successors += 1
            self._view.say(f"the agent of worker {worker.index} has ended ({meaning(code)}); another takes its place")
            self._start(worker)
        else:
            self._show_lines(worker)
            self._fail(worker, code, signalled=True)

    def _fail(self, worker: _Worker, code: int, *, signalled: bool) -> None:
        self._view.say(f"failed: worker {worker.index} ended with {code} ({meaning(code)})")
        self._code = LaunchCode.TRAINING
        self._until = time.monotonic() + 2 * _FAREWELL_SECONDS + (self._config.grace if signalled else 0)
        if signalled:
            self._signal_all(signal.SIGTERM)

    def _end(self, code: LaunchCode, why: str) -> None:
        self._view.say(f"{why}; the workers save and leave")
        self._code, self._until = code, time.monotonic() + self._config.grace + _FAREWELL_SECONDS
        self._signal_all(signal.SIGTERM)

    def _interrupted(self, number: signal.Signals) -> None:
        if self._code is None:
            self._end(LaunchCode.INTERRUPTED, "interrupted" if number == signal.SIGINT else f"ended by {number.name}")
        else:
            self._until = 0.0

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process and worker.process.returncode is None:
                worker.process.send_signal(number)

    def _say_cores(self) -> None:
        cores = len(os.sched_getaffinity(0))
        if self._config.workers > cores:
            self._view.say(
                f"{self._config.workers} workers share the {cores} core(s) of this machine: expect them slow"
            )


def main(own: Sequence[str], trainer_argv: Sequence[str]) -> int:
    """Runs a fleet on this machine; returns the launcher's exit code.

    Args:
      own: the launcher's flags.
      trainer_argv: the training program's.

    Raises:
      UsageError: something given cannot be used.
      LaunchError: this machine does not have what so many workers need.
    """
    config = settings.parse(LocalConfig, own, program="python -m trainer.launch --local")
    trainer_config = experiment_flags.parse(trainer_argv)[0]
    with open_view(config.workers) as view:
        fleet = Fleet(config, trainer_config, view)
        code = fleet.run()
    if code == LaunchCode.DONE:
        print(fleet.result())
    return code


def share(cores: Sequence[int], index: int, workers: int) -> Sequence[int]:
    """The cores of one of `workers`: as many for each as there are, and at least one."""
    if workers > len(cores):
        return [cores[index % len(cores)]]
    return cores[index * len(cores) // workers : (index + 1) * len(cores) // workers]
