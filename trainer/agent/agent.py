"""`python -m trainer.agent [agent flags] -- [trainer flags]`: a worker that survives.

Process 1 of a worker's container, without TensorFlow: it meets the other workers' agents, starts the training
process, watches it, and starts it again when a worker was lost.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from trainer.agent import attempt_log, termination_message
from trainer.agent.children import Children
from trainer.agent.coordinator import Meeting
from trainer.agent.coordinator_http import Caller, Party
from trainer.agent.flags import AgentConfig
from trainer.agent.identity import Place
from trainer.agent.log import AgentLog
from trainer.agent.messages import Begin, Ended, Failure, Finish, Join, Over
from trainer.agent.server import AgentServer
from trainer.agent.status import Status
from trainer.agent.watchdog import Attempt
from trainer.core import agent_link, attempts, experiment_flags, settings
from trainer.core.causes import CRASHES, Cause
from trainer.core.config import Config
from trainer.core.exit_codes import FINAL, ExitCode, OutputError, TrainerError, UsageError, meaning
from trainer.core.log_lines import Progress
from trainer.core.run_dir import ATTEMPTS, RESULT, default_run_dir, newest_step
from trainer.output.interface import LocalOutput, Output, open_output

PROGRAM = "python -m trainer.agent"
TRAINER = (sys.executable, "-m", "trainer")

_TICK = 0.5  # Seconds between looks at the training process's beats.
_TELL_SECONDS = 10.0  # For the other agents to hear how it ended.
_RESOLVE_SECONDS = 60.0
_AFTER_GRACE = 4.0  # Seconds that a pod's grace period leaves after --grace for the output.
_FLUSH_SECONDS = 4.0  # That a run which did not succeed waits for an output that is away.
_OWN_FLAGS = ("data_dir", "run_dir", "threads", "log_every", "verbosity")  # They may differ between workers.


@dataclasses.dataclass(frozen=True)
class _Terminate:
    """SIGTERM came."""


@dataclasses.dataclass(frozen=True)
class _ChildEnded:
    """SIGCHLD came."""


@dataclasses.dataclass(frozen=True)
class _Begun:
    """The output is open."""

    last_attempt: int  # That left something there.


@dataclasses.dataclass(frozen=True)
class _FirstStep:
    """The attempt's first progress line came."""


@dataclasses.dataclass(frozen=True)
class _Flushed:
    """The output has everything, or cannot be given it."""

    error: Exception | None


_Event = _Terminate | _ChildEnded | _Begun | _FirstStep | _Flushed | Begin | Finish | Over | Exception
_TOLD_TO_GO = Finish(code=ExitCode.TERMINATED, reason="it was told to go (SIGTERM) before it began")


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
        program: Sequence[str] = TRAINER,
    ) -> None:
        """Reads the environment; nothing is started yet.

        Args:
          config: the agent's flags.
          trainer_argv: the training program's flags.
          environ: this process's environment, the training process's too.
          program: the command that the training flags are given to.

        Raises:
          UsageError: the environment names no usable place among the workers.
        """
        self._config, self._environ = config, environ
        self._place = Place(environ)
        self._index = self._place.index
        if config.min_workers > self._place.workers:
            raise UsageError(
                f"--min_workers={config.min_workers} is more than the {self._place.workers} worker(s) of this run; "
                "give at most that many, or 0 for all"
            )
        self._trainer_argv = tuple(trainer_argv)
        self._run_dir = pathlib.Path()
        self._output: Output = LocalOutput(self._run_dir)
        self._flags: tuple[str, ...] = ()
        self._token = uuid.uuid4().hex
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._log = AgentLog(self._index)
        self._status = Status(worker=self._index, workers=self._place.workers)
        self._children = Children(program, environ, on_line=self._line, say=self._log.say)
        self._meeting: Meeting | None = None
        self._party: Party
        self._terminated: float | None = None  # When SIGTERM came.
        self._flushing = False  # The run has ended here.
        self._ended = Ended()
        self._begun_at = time.monotonic()
        self._rendezvous = 0.0  # Seconds that the last one took.
        self._newest = 0  # Step of the checkpoint that the attempt begins with; of worker 0.
        self._stored_attempt = 0  # The highest of which the output knows.
        self._span: attempt_log.Span | None = None  # Of the last attempt, once it has ended here.

    def run(self) -> int:
        """Runs the worker to its end; returns the exit code."""
        signal.signal(signal.SIGTERM, lambda *_: self._events.put(_Terminate()))
        signal.signal(signal.SIGINT, lambda *_: self._events.put(_Terminate()))
        signal.signal(signal.SIGCHLD, lambda *_: self._events.put(_ChildEnded()))
        try:
            self._ended = self._checked_flags()
            self._open()
            if self._ended.cause is Cause.NEW:
                self._begin()
            finish = self._attempts() if self._terminated is None else _TOLD_TO_GO
        except TrainerError as error:
            finish = Finish(code=error.exit_code, reason=str(error))
        finish = self._flushed(finish)
        self._leave(finish)
        return finish.code

    def _checked_flags(self) -> Ended:
        """Parses the training flags; bad ones end the run on all workers, at the first meeting."""
        try:
            config = experiment_flags.parse(self._trainer_argv)[0]
        except UsageError as error:
            return Ended(cause=Cause.FINAL, code=error.exit_code, errors=(str(error),))
        self._run_dir = pathlib.Path(config.run_dir or default_run_dir())
        self._trainer_argv = tuple(settings.arguments(dataclasses.replace(config, run_dir=str(self._run_dir))))
        alike = dataclasses.replace(config, **{name: getattr(Config(), name) for name in _OWN_FLAGS})
        self._flags = tuple(settings.arguments(alike))
        return Ended()

    def _open(self) -> None:
        """Opens the port and the meeting, or the way to it."""
        meeting: Meeting | None = None
        if self._index == 0:
            self._party = meeting = Meeting(
                workers=self._place.workers,
                min_workers=self._config.min_workers,
                elastic_wait=self._config.elastic_wait,
                timeout=self._config.rendezvous_timeout,
                max_restarts=self._config.max_restarts,
                last_attempt=lambda: max(attempts.last(self._run_dir), self._stored_attempt),
                saved_step=lambda: newest_step(self._run_dir),
                on_news=self._log.say,
                on_closed=self._record,
            )
        else:
            address = self._config.chief_agent or f"{self._place.chief_host()}:{self._config.port}"
            self._party = Caller(address, timeout=self._config.rendezvous_timeout)
        AgentServer(self._config.port, status=self._status, meeting=meeting).start()
        self._meeting = meeting

    def _begin(self) -> None:
        """Opens the output, and brings back from there what this disk lacks; SIGTERM ends the waiting for it."""
        self._output = open_output(
            self._config,
            self._run_dir,
            worker=self._index,
            say=self._log.say,
            warn=self._log.warn,
            on_end=self._events.put,
        )

        def begin() -> _Begun:
            return _Begun(last_attempt=self._output.begin())

        self._call(begin)
        while self._terminated is None:
            if isinstance(begun := self._next(), _Begun):
                self._stored_attempt = begun.last_attempt
                return

    def _flushed(self, finish: Finish) -> Finish:
        """Brings everything to the output; a run that is not all there has not succeeded."""
        if finish.code:
            self._log.say(f"exit {finish.code} ({meaning(finish.code)}): {finish.reason}")
        if self._meeting:
            self._meeting.close()  # Its last line in attempts.jsonl is part of what the output is to have.
        self._log.flush()
        done = finish.code == ExitCode.DONE
        try:
            there = self._finish_output(patient=done)
        except OutputError as error:
            if not done:
                self._log.say(f"warning: {error}")
                return finish
            self._log.say(f"exit {error.exit_code} ({meaning(error.exit_code)}): {error}")
            return Finish(code=error.exit_code, reason=str(error))
        if there:
            return finish
        lacks = f"the output lacks {', '.join(self._output.missing())}, for which the grace period was too short"
        self._log.say(f"warning: {lacks}")
        # Of 143 the Job takes no notice: another pod resumes from what the output has, and finishes the run.
        return Finish(code=ExitCode.TERMINATED, reason=f"SIGTERM: {lacks}") if done else finish

    def _finish_output(self, *, patient: bool) -> bool:
        """Brings everything to the output, in a thread: SIGTERM, before or meanwhile, leaves the grace period for it.

        Args:
          patient: wait for an output that is away as long as the flags say.

        Returns:
          Whether all is there.

        Raises:
          OutputError: the output is away; names what is missing.
        """
        self._flushing, began = True, time.monotonic()
        timeout = None if patient else _FLUSH_SECONDS if self._terminated is None else self._grace_left(began) - 1.0

        def finish() -> None:
            error: Exception | None = None
            try:
                self._output.finish(timeout=timeout)
            except Exception as raised:
                error = raised
            self._events.put(_Flushed(error))

        threading.Thread(target=finish, name="output", daemon=True).start()
        while (self._terminated is None and patient) or self._grace_left(began) > 0:
            event = None
            with contextlib.suppress(TrainerError):  # What else ends now has no say any more.
                event = self._next()
            if isinstance(event, _Flushed):
                if event.error:
                    raise event.error
                return True
        return False

    def _grace_left(self, began: float) -> float:
        """Seconds of the grace period, which begins with SIGTERM or, without it, with the end of the run."""
        return (self._terminated or began) + self._config.grace + _AFTER_GRACE - time.monotonic()

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
                self._meeting.done(self._ended)  # The others hear that they may go once the output is complete.
                return Finish(code=ExitCode.DONE, reason="done")

    def _meet(self) -> Begin | Finish:
        self._show("meeting", pid=0, last=self._ended.cause.value)
        came = time.monotonic()
        join = Join(
            index=self._index,
            workers=self._place.workers,
            token=self._token,
            ended=self._ended,
            flags=self._flags,
        )
        self._call(lambda: self._resolved(self._party.meet(join)))
        while True:
            if self._terminated and self._ended.cause is not Cause.LEFT:
                self._ended = dataclasses.replace(self._ended, cause=Cause.LEFT)
                return self._party.meet(dataclasses.replace(join, ended=self._ended))  # A last word, answered at once.
            event = self._next()
            if isinstance(event, Begin | Finish):
                self._rendezvous = time.monotonic() - came
                return event

    def _resolved(self, answer: Begin | Finish) -> Begin | Finish:
        if isinstance(answer, Begin) and (problem := self._place.unresolved(answer.present, _RESOLVE_SECONDS)):
            return Finish(code=ExitCode.PEER_LOST, reason=problem)
        return answer

    def _attempt(self, begin: Begin) -> Ended:
        """Runs the training process through one attempt."""
        self._begun_at, self._span = time.monotonic(), None
        self._newest = newest_step(self._run_dir)
        self._status.begin_attempt()
        self._log.keep(self._run_dir, begin.attempt, limit=self._config.mirror_max_disk * 2**20)
        environ = {agent_link.ATTEMPT: str(begin.attempt), "TF_CONFIG": self._place.tf_config(begin.present)}
        child, kind = self._children.start(environ, self._trainer_argv)
        there, all_ = len(begin.present), self._place.workers
        self._log.say(f"attempt {begin.attempt} begins with {there} of {all_} worker(s), here in {kind}")
        self._show("starting", attempt=begin.attempt, pid=child.pid, spare="none")
        self._call(lambda: self._party.hold(self._index, self._token, begin.attempt))
        attempt = Attempt(begin, child, config=self._config, status=self._status, say=self._log.say)
        while child.code is None:
            match self._next():
                case Over(attempt=begin.attempt) as over:
                    attempt.over(over)
                    if self._meeting is None:  # Which has said so.
                        self._log.say(f"attempt {begin.attempt} is over: {over.reason}")
                case _FirstStep():
                    self._show("training")
            if child.code is not None:
                break
            if self._terminated:
                attempt.leave(Cause.LEFT, self._terminated)
            elif self._meeting and self._meeting.asked_to_join() and self._status.state == "training":
                attempt.leave(Cause.AGREED, time.monotonic())
            if attempt.stopping:
                self._show("stopping")
            attempt.look()
            self._keep_company()
        self._span = self._measured()
        ended = attempt.ended(finished=self._index == 0 and (self._run_dir / RESULT).exists())
        if ended.cause in CRASHES or ended.cause in (Cause.FINAL, Cause.PEER_LOST):
            self._log.say(dataclasses.replace(ended, errors=()).described(self._index))
        return ended

    def _keep_company(self) -> None:
        """Keeps up what runs beside the training process: a spare, TensorBoard."""
        if self._config.warm_spare and self._status.state == "training":
            self._children.keep_spare()
        if self._config.tensorboard and self._index == 0:
            self._children.keep_tensorboard(self._run_dir, self._config.tensorboard_port)
        self._show(self._status.state, spare=self._children.spare)

    def _next(self) -> _Event | None:
        """The next event, after a while None; what is the same at any time is dealt with here."""
        try:
            event = self._events.get(timeout=_TICK)
        except queue.Empty:
            return None
        match event:
            case _ChildEnded():
                self._children.reap()
            case _Terminate() if self._terminated is None:
                what = "the output gets what the grace period is long enough for"
                self._log.say(f"SIGTERM: {what if self._flushing else 'the training process saves and leaves'}")
                self._terminated = time.monotonic()
            case Exception():
                raise event
        return event

    def _call(self, ask: Callable[[], Begin | Finish | Over | _Begun]) -> None:
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
        try:
            attempt_log.append(self._run_dir, attempt_log.record(begin, over, failure, self._span or self._measured()))
        except OSError as error:  # A full disk costs the line, not the run.
            self._log.say(f"warning: {self._run_dir / ATTEMPTS} lacks attempt {begin.attempt}: {error.strerror}")

    def _measured(self) -> attempt_log.Span:
        now, (first_at, first_step) = time.monotonic(), self._status.first
        seen = self._newest if first_step is None else self._status.step
        return attempt_log.Span(
            # A damaged checkpoint makes training start before the newest.
            step_from=self._newest if first_step is None or first_step >= self._newest else first_step - 1,
            step_to=max(seen, newest_step(self._run_dir)),
            rendezvous=self._rendezvous,
            start_up=(first_at or now) - self._begun_at,
            training=now - first_at if first_at else 0.0,
        )

    def _leave(self, finish: Finish) -> None:
        """Tells everybody how it ended."""
        result = self._run_dir / RESULT
        if self._index == 0 and not finish.code and result.exists():
            facts = json.loads(result.read_text())
        else:
            facts = termination_message.facts(finish, self._ended, self._status)
        try:
            termination_message.write(facts, self._environ)
        except OSError as error:
            self._log.say(f"warning: the termination message could not be written: {error}")
        if self._meeting:
            if finish.code in {ExitCode.DONE, *FINAL}:
                self._meeting.conclude(finish)
            self._meeting.wait_until_told(_TELL_SECONDS)
        self._show("ended", pid=0)


def main(argv: Sequence[str] | None = None, *, program: Sequence[str] = TRAINER) -> int:
    """Runs an agent; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    own, trainer_argv = settings.split(arguments)
    try:
        config = settings.parse(AgentConfig, own, program=PROGRAM)
        agent = Agent(config, trainer_argv, os.environ, program=program)
        return agent.run()
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        termination_message.write({"exit_code": int(error.exit_code), "errors": [str(error)]}, os.environ)
        return error.exit_code
