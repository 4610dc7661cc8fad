"""One worker's agent: process 1 of its container, without TensorFlow.

It meets the other workers' agents, starts the training process, watches it, and starts it again when a worker was lost.
"""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence

from trainer.agent import finishing
from trainer.agent.coordination.messages import Begin, Ended, Finish, Over
from trainer.agent.events import Events, FirstStep, OutputOpened
from trainer.agent.flags import AgentConfig
from trainer.agent.identity import Identity
from trainer.agent.processes.child import Child
from trainer.agent.processes.children import Children
from trainer.agent.processes.watchdog import Watchdog
from trainer.agent.records.agent_log import AgentLog
from trainer.agent.records.attempt_history import AttemptHistory
from trainer.agent.rendezvous import Rendezvous
from trainer.agent.status import Status
from trainer.agent.trackers.chosen import Trackers
from trainer.agent.training_flags import TrainingFlags
from trainer.core import agent_link, run_token
from trainer.core.causes import CRASHES, Cause
from trainer.core.exit_codes import ExitCode, TrainerError, UsageError, meaning
from trainer.core.log_lines import Progress
from trainer.core.run_dir import RESULT
from trainer.core.safe_text import one_line, redacted
from trainer.output.interface import LocalOutput, Output, open_output

_START_SECONDS = 60.0  # For this machine to have room for a training process: silent connections are gone by then.


class Agent:
    """One worker's agent, from its first rendezvous to its exit code.

    All of it runs in the main thread, but for the calls that block: they run in threads that put what they bring into
    the queue of events.
    """

    def __init__(
        self, config: AgentConfig, trainer_argv: Sequence[str], environ: Mapping[str, str], *, program: Sequence[str]
    ) -> None:
        """Reads the environment; nothing is started yet.

        Args:
          config: the agent's flags.
          trainer_argv: the training program's flags.
          environ: this process's environment, the training process's too.
          program: the command that the training flags are given to.

        Raises:
          UsageError: the environment does not say which worker this is, or says what the flags contradict.
        """
        self._config, self._trainer_argv, self._environ = config, tuple(trainer_argv), environ
        self._identity = Identity(environ)
        if config.min_workers > self._identity.workers:
            raise UsageError(
                f"--min_workers={config.min_workers} is more than the {self._identity.workers} worker(s) of this run; "
                "give at most that many, or 0 for all"
            )
        self._token = run_token.read(environ)
        self._log = AgentLog(self._identity.index)
        self._status = Status(worker=self._identity.index, workers=self._identity.workers)
        # What trains has no say in the rendezvous, and its environment is easier to read than this process's.
        of_children = {name: value for name, value in environ.items() if name != run_token.TOKEN}
        self._children = Children(program, of_children, on_line=self._take_line, say=self._log.say)
        self._events = Events(reap=self._children.reap, say=self._log.say)
        self._ended = Ended()  # How the last attempt ended here.
        self._trackers = Trackers()

    def run(self) -> int:
        """Runs the worker to its end; returns the exit code.

        Raises:
          UsageError: the agent's port is taken.
        """
        self._events.catch_signals()
        self._events.catch_what_threads_raise()
        try:
            flags = TrainingFlags.parse(self._trainer_argv)
        except UsageError as error:
            return self._refuse(error)
        history = AttemptHistory(flags.run_dir, self._status, self._log.say)
        rendezvous = self._rendezvous(flags.shared, history)
        output: Output = LocalOutput(flags.run_dir)
        try:
            output = self._output(flags)
            if self._opened(output, history):
                finish = self._train(flags, rendezvous, history)
            else:
                finish = Finish(code=ExitCode.TERMINATED, reason="it was told to go (SIGTERM) before it began")
        except TrainerError as error:
            finish = Finish(code=error.exit_code, reason=str(error))
        return self._end(finish, flags, rendezvous, output)

    def _refuse(self, error: UsageError) -> int:
        """Training flags that cannot be used end the run on all workers: the others hear of it when all meet."""
        self._ended = Ended(cause=Cause.FATAL, code=error.exit_code, errors=(one_line(redacted(str(error))),))
        rendezvous = self._rendezvous(flags=(), history=None)
        self._meet(rendezvous)
        return self._end(self._own_finish(), None, rendezvous, None)

    def _rendezvous(self, flags: tuple[str, ...], history: AttemptHistory | None) -> Rendezvous:
        alone = self._identity.workers == 1
        if not (self._token or alone):
            self._log.say(
                f"warning: this run has no token: whoever reaches port {self._config.port} can end it or take a "
                f"worker's place; give all workers the same {run_token.TOKEN}"
            )
        return Rendezvous(
            self._config,
            self._identity,
            self._events,
            self._log,
            self._status,
            token=self._token or (run_token.new() if alone else ""),  # Nobody has to ask a worker that is alone.
            flags=flags,
            history=history,
        )

    def _output(self, flags: TrainingFlags) -> Output:
        return open_output(
            self._config,
            flags.run_dir,
            worker=self._identity.index,
            say=self._log.say,
            warn=self._log.warn,
            on_end=self._events.put,
        )

    def _opened(self, output: Output, history: AttemptHistory) -> bool:
        """Brings back from the output what this disk lacks; False: SIGTERM came first."""
        self._events.call(lambda: OutputOpened(last_attempt=output.begin()), name="output")
        while self._events.terminated_at is None:
            event = self._events.next()
            if isinstance(event, OutputOpened):
                history.stored_attempt = event.last_attempt
                return True
        return False

    def _track(self, flags: TrainingFlags, *, goes_on: bool) -> None:
        """Tells the trackers that the environment asks for of the run, on worker 0."""
        if self._identity.index == 0:
            self._trackers.begin(self._environ, flags.run_dir, flags.arguments, goes_on=goes_on, say=self._log.say)

    def _train(self, flags: TrainingFlags, rendezvous: Rendezvous, history: AttemptHistory) -> Finish:
        """Meets the others and takes part in attempts until there is no further one."""
        while True:
            answer = self._meet(rendezvous)
            if isinstance(answer, Finish):
                return answer
            if not self._ended.attempt:
                self._track(flags, goes_on=answer.attempt > 1)
            else:
                self._status.restarted(self._ended.cause.value)
            history.begin(answer.attempt, rendezvous.seconds)
            self._ended = self._take_part(answer, flags, rendezvous)
            history.end()
            if rendezvous.coordinator and self._ended.cause is Cause.DONE:
                rendezvous.coordinator.done(self._ended)  # The others may go only once the output is complete.
                return Finish(code=ExitCode.DONE, reason="done")

    def _meet(self, rendezvous: Rendezvous) -> Begin | Finish:
        """Says how the last attempt ended, and waits for the next."""
        self._show("meeting", pid=0, last=self._ended.cause.value)
        self._ended, answer = rendezvous.meet(self._ended)
        if self._ended.cause in (Cause.LEFT, Cause.FATAL):  # True whether worker 0's agent heard it or not.
            return self._own_finish()
        return answer

    def _own_finish(self) -> Finish:
        """How a worker ends that has ended by itself, whatever the others do."""
        index = self._identity.index
        code = ExitCode.TERMINATED if self._ended.cause is Cause.LEFT else self._ended.code
        return Finish(code=code, reason=self._ended.described(index), accused=(index,))

    def _take_part(self, begin: Begin, flags: TrainingFlags, rendezvous: Rendezvous) -> Ended:
        """Runs the training process through one attempt."""
        self._status.begin_attempt()
        self._log.begin_attempt(flags.run_dir, begin.attempt, limit=self._config.mirror_max_disk * 2**20)
        environ = {agent_link.ATTEMPT: str(begin.attempt), "TF_CONFIG": self._identity.tf_config(begin.present)}
        rendezvous.hold(begin.attempt)
        started = self._start_process(begin, environ, flags.arguments)
        if isinstance(started, Ended):
            return started
        child, kind = started
        workers = f"{len(begin.present)} of {self._identity.workers} worker(s)"
        self._log.say(f"attempt {begin.attempt} begins with {workers}, here in {kind}")
        self._show("starting", attempt=begin.attempt, pid=child.pid, spare="none")
        watchdog = Watchdog(begin.attempt, child, config=self._config, status=self._status, say=self._log.say)
        while True:
            event = self._events.next()  # It may reap the child.
            if isinstance(event, Over) and event.attempt == begin.attempt:
                watchdog.attempt_over(event)
                if rendezvous.coordinator is None:  # Worker 0's coordinator has said so itself.
                    self._log.say(f"attempt {begin.attempt} is over: {event.reason}")
            if isinstance(event, FirstStep):
                self._show("training")
            if child.code is not None:
                break
            self._ask_to_leave(watchdog, rendezvous)
            watchdog.check()
            self._keep_companions(flags)
        has_result = (flags.run_dir / RESULT).exists() if self._identity.index == 0 else None
        ended = watchdog.ended(has_result=has_result)
        if ended.cause in {*CRASHES, Cause.FATAL, Cause.PEER_LOST}:
            # Its error lines stand right above.
            self._log.say(dataclasses.replace(ended, errors=()).described(self._identity.index))
        return ended

    def _start_process(
        self, begin: Begin, environ: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[Child, str] | Ended:
        """Starts the training process as soon as this machine has room for it; or says how the attempt ended before."""
        deadline, said = time.monotonic() + _START_SECONDS, False
        while True:
            try:
                return self._children.start(environ, arguments)
            except OSError as error:
                problem = f"the training process cannot be started: {error.strerror or error}"
            if time.monotonic() > deadline:
                errors = (f"{problem}, for {_START_SECONDS:g} s",)
                return Ended(cause=Cause.CRASH, attempt=begin.attempt, code=os.EX_OSERR, errors=errors)
            if not said:
                self._log.say(f"warning: {problem}; it is tried again for {_START_SECONDS:g} s")
                said = True
            event = self._events.next()
            if self._events.terminated_at is not None:
                return Ended(cause=Cause.LEFT, attempt=begin.attempt, step=self._status.step)
            if isinstance(event, Over) and event.attempt == begin.attempt:
                return Ended(cause=Cause.STOPPED, attempt=begin.attempt, step=self._status.step)

    def _ask_to_leave(self, watchdog: Watchdog, rendezvous: Rendezvous) -> None:
        """Asks the training process to save and leave, where it has to make way."""
        coordinator = rendezvous.coordinator
        if self._events.terminated_at is not None:
            watchdog.leave(Cause.LEFT, since=self._events.terminated_at)
        elif coordinator and coordinator.asked_to_join() and self._status.state == "training":
            watchdog.leave(Cause.AGREED, since=time.monotonic())
        if watchdog.asked_to_leave:
            self._show("stopping")

    def _keep_companions(self, flags: TrainingFlags) -> None:
        """Keeps running what runs beside the training process: a spare, TensorBoard."""
        if self._config.warm_spare and self._status.state == "training":
            self._children.keep_spare()
        if self._config.tensorboard and self._identity.index == 0:
            self._children.keep_tensorboard(flags.run_dir, self._config.tensorboard_port)
        self._show(self._status.state, spare=self._children.spare)

    def _end(self, finish: Finish, flags: TrainingFlags | None, rendezvous: Rendezvous, output: Output | None) -> int:
        """Brings everything to the output and tells everybody how it ended; returns the exit code."""
        if finish.code:
            self._log.say(f"exit {finish.code} ({meaning(finish.code)}): {finish.reason}")
        if rendezvous.coordinator:
            rendezvous.coordinator.close()  # Its last line in attempts.jsonl is part of what the output is to have.
        self._log.flush()
        if output:
            finish = finishing.bring_to_output(finish, output, self._events, self._log, grace=self._config.grace)
        self._trackers.finish(finish.code)
        finishing.leave(
            finish,
            self._ended,
            self._status,
            self._log,
            self._environ,
            run_dir=flags.run_dir if flags else None,
            output=self._config.output,
            coordinator=rendezvous.coordinator,
        )
        self._show("ended", pid=0)
        return finish.code

    def _take_line(self, line: bytes, error: bool) -> None:
        """Takes a line of the training process, in one of its readers' threads."""
        self._log.pass_on(line, error)
        progress = None if error else Progress.parse(line.decode(errors="replace").rstrip())
        if progress:
            self._trackers.progressed(progress)
        if progress and self._status.progressed(progress):
            self._events.put(FirstStep())

    def _show(self, state: str, **changes: int | str) -> None:
        """Sets fields of the state line, and prints it if that has changed it."""
        if line := self._status.change(state=state, **changes):
            self._log.show(line.format())
