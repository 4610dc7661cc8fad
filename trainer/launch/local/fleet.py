"""The agents of all workers of a run as processes on this machine.

The fleet stands in for Kubernetes' Job: it starts the agents, replaces one that was killed, and decides when the run
has ended and how. The agents die with it.
"""

import dataclasses
import os
import queue
import signal
import time
from collections.abc import Sequence

from trainer.core import run_token
from trainer.core.causes import CRASHES, Cause
from trainer.core.exit_codes import PodEnd, meaning, rule
from trainer.core.free_ports import free_ports, loopback
from trainer.core.log_lines import Progress, StateLine
from trainer.core.tf_config import Cluster, address
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.local.agent_process import AgentEvents, AgentExit, AgentLine, Worker
from trainer.launch.local.flags import LocalFlags, agent_arguments
from trainer.launch.local.view import FleetView

_MOST_REPLACED = 10  # Agents that are replaced without a newer checkpoint in between.
_LEAVE_SECONDS = 10.0  # For agents that end by themselves, before they are killed.
_SPARE_SECONDS = 5.0  # For agents that were told to end, beyond --grace.


class Fleet:
    """All agents of one run. Everything happens in the thread that calls `run`; others only read and wait."""

    def __init__(self, flags: LocalFlags, trainer_arguments: Sequence[str], view: FleetView) -> None:
        """Chooses the ports.

        Args:
          flags: the fleet's.
          trainer_arguments: the training program's; they name the run directory.
          view: takes what is seen.
        """
        self._flags, self._trainer_arguments, self._view = flags, tuple(trainer_arguments), view
        ports = free_ports(2 * flags.workers)
        self._host = loopback()
        addresses = tuple(address(self._host, port) for port in ports[: flags.workers])
        self._cluster = Cluster(addresses=addresses, index=0)
        self._workers = [Worker(index, port) for index, port in enumerate(ports[flags.workers :])]
        self._token = run_token.read(os.environ) or run_token.new()
        self._events: AgentEvents = queue.SimpleQueue()
        self._code: LaunchCode | None = None  # How the run ended; None: it goes on.
        self.headline = ""  # The same in a line for a person.
        self._kill_at = float("inf")  # When agents that still run are killed.
        self._replaced = 0  # Agents, since the newest checkpoint.
        self._saved_step = -1  # The newest checkpoint's.

    def run(self) -> LaunchCode:
        """Runs the fleet to its end.

        Raises:
          LaunchError: this machine does not have what so many workers need.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: self._events.put(signal.Signals(number)))
        self._warn_of_few_cores()
        deadline = time.monotonic() + (self._flags.timeout or float("inf"))
        try:
            self._start_all()
            while any(worker.process for worker in self._workers):
                self._handle_event()
                if time.monotonic() > deadline and self._code is None:
                    self._stop(LaunchCode.TIMEOUT, f"timed out after --timeout={self._flags.timeout:g} s")
                if time.monotonic() > self._kill_at:
                    self._signal_all(signal.SIGKILL)
        finally:
            self._signal_all(signal.SIGKILL)
        return LaunchCode.FAILED if self._code is None else self._code

    def _start_all(self) -> None:
        for worker in self._workers:
            try:
                self._start(worker)
            except (OSError, RuntimeError) as error:  # Processes, files and threads all have their limits.
                raise LaunchError(
                    f"worker {worker.index} of {self._flags.workers} cannot be started on this machine: {error}; "
                    "fewer --workers, or higher limits (`ulimit -n`, `ulimit -u`)"
                ) from None

    def _start(self, worker: Worker) -> None:
        chief_agent = address(self._host, self._workers[0].port)
        agent = agent_arguments(self._flags, port=worker.port, chief_agent=chief_agent)
        tf_config = dataclasses.replace(self._cluster, index=worker.index).tf_config()
        cores = share(sorted(os.sched_getaffinity(0)), worker.index, self._flags.workers)
        environ = {"TF_CONFIG": tf_config, run_token.TOKEN: self._token}
        worker.start((*agent, "--", *self._trainer_arguments), environ, cores, self._events)

    def _handle_event(self) -> None:
        """Waits a moment for the next event, and handles it."""
        try:
            event = self._events.get(timeout=0.5)
        except queue.Empty:
            return
        match event:
            case AgentLine(worker, text, error):
                self._handle_line(worker, text, error)
            case AgentExit(worker, process, code) if process is worker.process:
                worker.process = None
                self._handle_exit(worker, code)
            case signal.Signals() if self._code is None:
                why = "interrupted" if event == signal.SIGINT else f"ended by {event.name}"
                self._stop(LaunchCode.INTERRUPTED, why)
            case signal.Signals():  # A second one, or one while the agents leave.
                self._kill_at = 0.0

    def _handle_line(self, worker: Worker, text: str, error: bool) -> None:
        if (state := StateLine.parse(text)) is not None and state.worker == worker.index:
            if state.state == "meeting" and state.last in {*CRASHES, Cause.FATAL}:
                self._show_errors(worker)
            if state.state in ("starting", "meeting"):
                worker.error_lines.clear()
            self._view.state(state, text)
        elif (progress := Progress.parse(text)) is not None:
            if progress.saved is not None and progress.saved > self._saved_step:
                self._saved_step, self._replaced = progress.saved, 0
            self._view.progress(progress, text)
        elif error:
            if worker.index == 0 and text.startswith("agent 0: "):
                self._view.say(text)
            elif not text.startswith(f"agent {worker.index}: attempt "):  # What worker 0's agent says, too.
                worker.error_lines.append(text)
        elif worker.index == 0:
            self._view.say(text)

    def _show_errors(self, worker: Worker) -> None:
        for line in worker.error_lines:
            self._view.say(f"worker {worker.index} | {line}")
        worker.error_lines.clear()

    def _handle_exit(self, worker: Worker, code: int) -> None:
        if code == 0:
            if worker.index == 0:  # The result is there, however the others end.
                self.headline = "succeeded"
                self._close(LaunchCode.DONE, _LEAVE_SECONDS)
        elif self._code is not None:
            pass  # The run has ended: its agents leave.
        elif rule(code).ends_all:  # All agents know, and end by themselves.
            self._fail(worker, code)
            self._close(LaunchCode.TRAINING, _LEAVE_SECONDS)
        elif (code < 0 or rule(code).pod_end is PodEnd.IGNORED) and self._replaced < _MOST_REPLACED:
            self._replaced += 1
            self._view.say(f"the agent of worker {worker.index} has ended ({meaning(code)}); another takes its place")
            self._start(worker)
        else:
            self._fail(worker, code)
            self._close(LaunchCode.TRAINING, _LEAVE_SECONDS + self._flags.grace, signal.SIGTERM)

    def _fail(self, worker: Worker, code: int) -> None:
        """Says which worker ended the run."""
        self._show_errors(worker)
        self.headline = f"failed: worker {worker.index} ended with {code} ({meaning(code)})"
        self._view.say(self.headline)

    def _stop(self, code: LaunchCode, why: str) -> None:
        """Ends a run that could go on."""
        self.headline = why
        self._view.say(f"{why}; the workers save and leave")
        self._close(code, _SPARE_SECONDS + self._flags.grace, signal.SIGTERM)

    def _close(self, code: LaunchCode, seconds: float, number: signal.Signals | None = None) -> None:
        """The run has ended: its agents get the signal, if one is given, and are killed when the time is over."""
        self._code, self._kill_at = code, time.monotonic() + seconds
        if number:
            self._signal_all(number)

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.send(number)

    def _warn_of_few_cores(self) -> None:
        cores = len(os.sched_getaffinity(0))
        if self._flags.workers > cores:
            self._view.say(
                f"{self._flags.workers} workers share the {cores} core(s) of this machine: expect them to be slow"
            )


def share(cores: Sequence[int], index: int, workers: int) -> Sequence[int]:
    """The cores of one of `workers`: as many for each as there are, and at least one."""
    if workers > len(cores):
        return [cores[index % len(cores)]]
    return cores[index * len(cores) // workers : (index + 1) * len(cores) // workers]
