"""`python -m trainer.agent [agent flags] -- [trainer flags]`: a worker that survives.

Process 1 of a worker's container, without TensorFlow: it meets the other workers' agents, starts the training
process, watches it, and starts it again when a worker was lost.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import queue
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from trainer import attempts, settings, supervision, termination
from trainer.agent_config import AgentConfig
from trainer.agent_log import AgentLog
from trainer.agent_server import AgentServer
from trainer.child import Child
from trainer.cluster import Cluster
from trainer.config import Config
from trainer.exit_codes import FINAL, ExitCode, TrainerError, UsageError, meaning
from trainer.output import LocalOutput, Output, newest_checkpoint
from trainer.process import spawn
from trainer.progress import Progress
from trainer.rendezvous import CRASHES, Begin, Cause, Ended, Failure, Finish, Join, Meeting, Over
from trainer.rendezvous_http import Caller, Party
from trainer.status import Status

PROGRAM = "python -m trainer.agent"
TRAINER = (sys.executable, "-m", "trainer")

_TICK = 0.5  # Seconds between looks at the training process's beats.
_BEAT_TIMEOUT = 10.0
_STACKS_SECONDS = 1.0  # For faulthandler to write them before the kill.
_LEAVE_SECONDS = 10.0  # For a training process to leave by itself when all do.
_TELL_SECONDS = 10.0  # For the other agents to hear how it ended.
_RESOLVE_SECONDS = 60.0
_TENSORBOARD_PAUSE = 10.0  # Seconds before one that ended is started again.
_OWN_FLAGS = ("data_dir", "run_dir", "threads", "log_every", "verbosity")  # They may differ between workers.


@dataclasses.dataclass(frozen=True)
class _Terminate:
    """SIGTERM came."""


@dataclasses.dataclass(frozen=True)
class _ChildEnded:
    """SIGCHLD came."""


@dataclasses.dataclass(frozen=True)
class _Regroup:
    """A worker that is missing in the running attempt asks to join."""


@dataclasses.dataclass(frozen=True)
class _FirstStep:
    """The attempt's first progress line came."""


_Event = _Terminate | _ChildEnded | _Regroup | _FirstStep | Begin | Finish | Over | Exception


class Agent:
    """One worker's agent, from its first meeting to its exit code.

    All of it runs in the main thread, but for the calls that block: they run in threads that put what they bring into
    the queue of events.
    """

    def __init__(
        self,
        config: AgentConfig,
        trainer_argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        output: Output,
        program: Sequence[str] = TRAINER,
    ) -> None:
        """Reads the environment; nothing is started yet.

        Args:
          config: the agent's flags.
          trainer_argv: the training program's flags.
          environ: this process's environment, the training process's too.
          output: where the run directory and the worker's log are brought to.
          program: the command that the training flags are given to.

        Raises:
          UsageError: the environment names no usable place among the workers.
        """
        self._config, self._environ, self._output, self._program = config, dict(environ), output, tuple(program)
        given = Cluster.from_tf_config(environ.get("TF_CONFIG", ""))
        self._given_tf_config = given is not None
        self._cluster = given or Cluster.from_job(environ)
        self._workers, self._index = (self._cluster.workers, self._cluster.index) if self._cluster else (1, 0)
        if config.min_workers > self._workers:
            raise UsageError(
                f"--min_workers={config.min_workers} is more than the {self._workers} worker(s) of this run; "
                "give at most that many, or 0 for all"
            )
        self._trainer_argv = tuple(trainer_argv)
        self._run_dir = pathlib.Path()
        self._flags: tuple[str, ...] = ()
        self._token = uuid.uuid4().hex
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._log = AgentLog(self._index)
        self._status = Status(worker=self._index, workers=self._workers)
        self._meeting: Meeting | None = None
        self._party: Party
        self._child: Child | None = None
        self._spare: Child | None = None
        self._tensorboard: int | None = None
        self._tensorboard_due = 0.0
        self._terminated: float | None = None  # When SIGTERM came.
        self._regroup = False
        self._ended = Ended()
        self._begun_at = time.monotonic()
        self._rendezvous = 0.0  # Seconds that the last one took.
        self._span: attempts.Span | None = None  # Of the last attempt, once it has ended here.

    def run(self) -> int:
        """Runs the worker to its end; returns the exit code."""
        signal.signal(signal.SIGTERM, lambda *_: self._events.put(_Terminate()))
        signal.signal(signal.SIGINT, lambda *_: self._events.put(_Terminate()))
        signal.signal(signal.SIGCHLD, lambda *_: self._events.put(_ChildEnded()))
        try:
            self._ended = self._checked_flags()
            self._open()
            if self._ended.cause is Cause.NEW:
                self._output.begin()
            finish = self._attempts()
        except TrainerError as error:
            finish = Finish(code=error.exit_code, reason=str(error))
        self._leave(finish)
        return finish.code

    def _checked_flags(self) -> Ended:
        """Parses the training flags; bad ones end the run on all workers, at the first meeting."""
        try:
            config = Config.from_arguments(self._trainer_argv)
        except UsageError as error:
            return Ended(cause=Cause.FINAL, code=error.exit_code, errors=(str(error),))
        self._run_dir = pathlib.Path(config.run_dir or f"logs/fit/{datetime.datetime.now():%Y%m%d-%H%M%S}")
        self._trainer_argv = tuple(settings.arguments(dataclasses.replace(config, run_dir=str(self._run_dir))))
        alike = dataclasses.replace(config, **{name: getattr(Config(), name) for name in _OWN_FLAGS})
        self._flags = tuple(settings.arguments(alike))
        return Ended()

    def _open(self) -> None:
        """Opens the port and the meeting, or the way to it."""
        meeting: Meeting | None = None
        if self._cluster is None or self._cluster.is_chief:
            self._party = meeting = Meeting(
                workers=self._workers,
                min_workers=self._config.min_workers,
                elastic_wait=self._config.elastic_wait,
                timeout=self._config.rendezvous_timeout,
                max_restarts=self._config.max_restarts,
                last_attempt=max((line["attempt"] for line in attempts.read(self._run_dir)), default=0),
                saved_step=lambda: newest_checkpoint(self._run_dir),
                on_regroup=lambda: self._events.put(_Regroup()),
                on_news=self._log.say,
                on_closed=self._record,
            )
        else:
            host = self._cluster.addresses[0].rpartition(":")[0]
            address = self._config.chief_agent or f"{host}:{self._config.port}"
            self._party = Caller(address, timeout=self._config.rendezvous_timeout)
        AgentServer(self._config.port, status=self._status, meeting=meeting).start()
        self._meeting = meeting

    def _attempts(self) -> Finish:
        while True:
            answer = self._meet()
            if self._ended.cause in (Cause.LEFT, Cause.FINAL):  # That is so, whether worker 0's agent heard it or not.
                code = ExitCode.TERMINATED if self._ended.cause is Cause.LEFT else self._ended.code
                return Finish(code=code, reason=self._ended.described(self._index))
            if isinstance(answer, Finish):
                return answer
            if self._ended.attempt:
                self._status.restarted(self._ended.cause.value)
            self._ended = self._attempt(answer)
            if self._meeting and self._ended.cause is Cause.DONE:
                self._meeting.done(self._ended)
                self._output.finish()
                return Finish(code=ExitCode.DONE, reason="done")

    def _meet(self) -> Begin | Finish:
        self._show("meeting", pid=0, last=self._ended.cause.value)
        came = time.monotonic()
        join = Join(index=self._index, workers=self._workers, token=self._token, ended=self._ended, flags=self._flags)
        self._call(lambda: self._resolved(self._party.meet(join)))
        while True:
            if self._terminated and self._ended.cause is not Cause.LEFT:
                left = dataclasses.replace(join, ended=dataclasses.replace(self._ended, cause=Cause.LEFT))
                self._party.meet(left)  # A last word, answered at once.
                return Finish(code=ExitCode.TERMINATED, reason="it was told to go (SIGTERM)")
            event = self._next()
            if isinstance(event, Begin | Finish):
                self._rendezvous = time.monotonic() - came
                return event

    def _resolved(self, answer: Begin | Finish) -> Begin | Finish:
        """Waits until the names of all workers in the attempt resolve."""
        if isinstance(answer, Finish) or self._cluster is None:
            return answer
        deadline = time.monotonic() + _RESOLVE_SECONDS
        for index in answer.present:
            host = self._cluster.addresses[index].rpartition(":")[0].strip("[]")
            while True:
                try:
                    socket.getaddrinfo(host, None)
                    break
                except socket.gaierror as error:
                    if time.monotonic() > deadline:
                        reason = f"the name of worker {index}, {host!r}, does not resolve: {error.strerror}"
                        return Finish(code=ExitCode.PEER_LOST, reason=reason)
                    time.sleep(0.5)
        return answer

    def _attempt(self, begin: Begin) -> Ended:
        """Runs the training process through one attempt."""
        self._begun_at, self._span = time.monotonic(), None
        self._status.begin_attempt()
        self._log.keep(self._output.attempt_log(begin.attempt))
        child = self._child = self._start(begin)
        self._show("starting", attempt=begin.attempt, pid=child.pid, spare="none")
        self._call(lambda: self._party.hold(self._index, self._token, begin.attempt))
        self._regroup = False
        over: Over | None = None
        cause: Cause | None = None
        deadline: float | None = None  # For a process that was asked to leave.
        while child.code is None:
            match self._next():
                case Over(attempt=begin.attempt) as over:
                    if cause is None and over.cause in (Cause.DONE, Cause.LEFT, Cause.AGREED):
                        cause, deadline = Cause.STOPPED, deadline or time.monotonic() + _LEAVE_SECONDS
                    elif deadline is None:
                        cause = cause or Cause.STOPPED
                        child.kill()
                    if self._meeting is None:  # Which has said so.
                        self._log.say(f"attempt {begin.attempt} is over: {over.reason}")
                case _FirstStep():
                    self._show("training")
            if child.code is not None:
                break
            if self._terminated and cause is None:
                self._show("stopping")
                child.terminate()
                cause, deadline = Cause.LEFT, self._terminated + self._config.grace
            elif self._regroup and cause is None and self._status.state == "training":
                self._show("stopping")
                child.terminate()
                cause, deadline = Cause.AGREED, time.monotonic() + self._config.grace
            elif cause is None and child.silent_seconds() > _BEAT_TIMEOUT:
                cause = Cause.FROZEN
                self._put_down(child, f"it has not beaten for {_BEAT_TIMEOUT:g} s: frozen")
            elif cause is None and self._status.seconds_since_step > self._config.hang_timeout:
                cause = Cause.HUNG
                self._put_down(child, f"it made no step for --hang_timeout={self._config.hang_timeout:g} s")
            if deadline is not None and time.monotonic() > deadline:
                child.kill()
        self._child, self._span = None, self._measured()
        ended = Ended(
            cause=self._cause(child.code, cause),
            attempt=begin.attempt,
            code=child.code,
            step=self._status.step,
            errors=child.errors,
        )
        if ended.cause in CRASHES or ended.cause in (Cause.FINAL, Cause.PEER_LOST):
            self._log.say(dataclasses.replace(ended, errors=()).described(self._index))
        return ended

    def _cause(self, code: int, own: Cause | None) -> Cause:
        """Why the training process ended with `code`, `own` being what this agent did about it."""
        if code == ExitCode.DONE or (self._index == 0 and code not in FINAL and self._finished()):
            return Cause.DONE
        if own in (Cause.LEFT, Cause.FROZEN, Cause.HUNG, Cause.AGREED):
            return own
        if code in FINAL:
            return Cause.FINAL
        if code == ExitCode.PEER_LOST:
            return Cause.PEER_LOST
        if own is Cause.STOPPED:
            return own
        return Cause.AGREED if code == ExitCode.TERMINATED else Cause.CRASH

    def _finished(self) -> bool:
        """Whether the result, which is written last, is there."""
        return (self._run_dir / "result.json").exists()

    def _start(self, begin: Begin) -> Child:
        """Gives the attempt to the warm spare, or to a new process."""
        environ = {supervision.ATTEMPT: str(begin.attempt)}
        if self._cluster is not None:
            environ["TF_CONFIG"] = self._tf_config(self._cluster, begin.present)
        spare, self._spare = self._spare, None
        if spare and spare.code is None and spare.hand_over(environ, self._trainer_argv):
            kind = "a warm spare" if spare.awake else "a spare that is still waking"
            child = spare
        else:
            kind = "a new process"
            command = (*self._program, *self._trainer_argv)
            child = Child(command, {**self._environ, **environ}, spare=False, on_line=self._line)
        missing = self._workers - len(begin.present)
        without = f", without {missing} of {self._workers}" if missing else ""
        self._log.say(f"attempt {begin.attempt} begins with {len(begin.present)} worker(s){without}, in {kind}")
        return child

    def _tf_config(self, cluster: Cluster, present: Sequence[int]) -> str:
        if len(present) == cluster.workers:
            return self._environ["TF_CONFIG"] if self._given_tf_config else cluster.tf_config()
        addresses = tuple(cluster.addresses[index] for index in present)
        return dataclasses.replace(cluster, addresses=addresses, index=present.index(self._index)).tf_config()

    def _put_down(self, child: Child, why: str) -> None:
        """Lets a process that does not go on show where it stands, and kills it."""
        self._log.say(f"the training process is killed: {why}; the stacks of its threads:")
        child.show_stacks()
        until = time.monotonic() + _STACKS_SECONDS
        while child.code is None and time.monotonic() < until:
            self._next(until - time.monotonic())
        child.kill()

    def _next(self, timeout: float = _TICK) -> _Event | None:
        """The next event, after `timeout` seconds None; what is the same at any time is dealt with here."""
        try:
            event = self._events.get(timeout=max(timeout, 0.01))
        except queue.Empty:
            event = None
        if self._spare and not self._spare.awake:
            self._spare.silent_seconds()
        match event:
            case _ChildEnded():
                self._reap()
            case _Terminate() if self._terminated is None:
                self._log.say("SIGTERM: the training process saves and leaves")
                self._terminated = time.monotonic()
            case _Regroup():
                self._regroup = True
            case Exception():
                raise event
        self._keep_company()
        return event

    def _keep_company(self) -> None:
        """Starts what is to run beside the training process: a spare, TensorBoard."""
        training = self._status.state == "training" and self._child is not None and self._terminated is None
        if self._config.warm_spare and training and self._spare is None:
            self._spare = Child(self._program, self._environ, spare=True, on_line=self._line)
        if spare := self._spare:
            self._show(self._status.state, spare="ready" if spare.awake else "waking")
        else:
            self._show(self._status.state, spare="none")
        wanted = self._config.tensorboard and self._index == 0 and self._child is not None
        if wanted and self._tensorboard is None and time.monotonic() >= self._tensorboard_due:
            self._start_tensorboard()

    def _start_tensorboard(self) -> None:
        port = str(self._config.tensorboard_port)
        logdir = str(self._run_dir)
        command = (sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--host", "0.0.0.0", "--port", port)  # noqa: S104
        self._tensorboard = spawn(command, self._environ).pid

    def _reap(self) -> None:
        """Reaps all that has ended: this process may be process 1, to which orphans fall."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            child = next((child for child in (self._child, self._spare) if child and child.pid == pid), None)
            if child:
                child.kill()  # What it has started; as long as it is not reaped its group cannot be another's.
            _, status = os.waitpid(pid, 0)
            if child:
                child.ended(status)
            if child and child is self._spare:
                self._spare = None
            if pid == self._tensorboard:
                self._tensorboard, self._tensorboard_due = None, time.monotonic() + _TENSORBOARD_PAUSE
                self._log.say(f"TensorBoard has ended; it is started again in {_TENSORBOARD_PAUSE:g} s")

    def _call(self, ask: Callable[[], Begin | Finish | Over]) -> None:
        """Asks in a thread; the answer is an event, and so is an error: it is raised where it can be seen."""

        def answer() -> None:
            try:
                self._events.put(ask())
            except Exception as error:
                self._events.put(error)

        threading.Thread(target=answer, name="rendezvous", daemon=True).start()

    def _line(self, line: bytes, error: bool) -> None:
        """A line of the training process, in one of its readers' threads."""
        self._log.pass_on(line, error)
        progress = None if error else Progress.parse(line.decode(errors="replace").rstrip())
        if progress and self._status.progressed(progress):
            self._events.put(_FirstStep())

    def _show(self, state: str, **changes: int | str) -> None:
        if line := self._status.change(state=state, **changes):
            self._log.show(line.format())

    def _record(self, begin: Begin, over: Over, failure: Failure | None) -> None:
        """Adds an attempt to attempts.jsonl."""
        attempts.append(self._run_dir, attempts.record(begin, over, failure, self._span or self._measured()))

    def _measured(self) -> attempts.Span:
        now, first_at, first_step, step = (
            time.monotonic(),
            self._status.first_at,
            self._status.first_step,
            self._status.step,
        )
        return attempts.Span(
            step_from=first_step - 1 if first_step else step,
            step_to=step,
            rendezvous=self._rendezvous,
            start_up=(first_at or now) - self._begun_at,
            training=now - first_at if first_at else 0.0,
        )

    def _leave(self, finish: Finish) -> None:
        """Tells everybody how it ended."""
        if finish.code:
            self._log.say(f"exit {finish.code} ({meaning(finish.code)}): {finish.reason}")
        if self._index == 0 and (self._run_dir / "result.json").exists() and not finish.code:
            facts = json.loads((self._run_dir / "result.json").read_text())
        else:
            facts = {
                "worker": self._index,
                "attempt": self._ended.attempt,
                "exit_code": int(finish.code),
                "meaning": meaning(finish.code),
                "reason": finish.reason,
                "signal": attempts.signal_name(self._ended.code),
                "step": self._status.step,
                "restarts": self._status.restarts,
                "errors": list(self._ended.errors),
            }
        termination.write(facts, self._environ)
        if self._meeting:
            if finish.code in {ExitCode.DONE, *FINAL}:
                self._meeting.conclude(finish)
            self._meeting.wait_until_told(_TELL_SECONDS)
            self._meeting.close()
        self._show("ended", pid=0)


def main(argv: Sequence[str] | None = None, *, program: Sequence[str] = TRAINER, output: Output | None = None) -> int:
    """Runs an agent; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    own, trainer_argv = split(arguments)
    try:
        config = settings.parse(AgentConfig, own, program=PROGRAM)
        agent = Agent(config, trainer_argv, os.environ, output=output or LocalOutput(), program=program)
        return agent.run()
    except settings.HelpRequested as help_text:
        print(help_text)
        return ExitCode.DONE
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        termination.write({"exit_code": int(error.exit_code), "errors": [str(error)]}, os.environ)
        return error.exit_code


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts a command line at the first `--`: the program's own flags, and the training program's."""
    if "--" not in arguments:
        return list(arguments), []
    at = arguments.index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


if __name__ == "__main__":
    sys.exit(main())
