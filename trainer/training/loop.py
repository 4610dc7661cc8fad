"""A run from its start to its result: Python decides what comes next, `Trainer` does the work."""

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Set
from pathlib import Path

from trainer.core import agent_link
from trainer.core.config import Config
from trainer.core.epoch_figures import DATA_WAIT_SECONDS, EXAMPLES_PER_SECOND, LEARNING_RATE
from trainer.core.exit_codes import DataError, ExitCode
from trainer.core.log_lines import Progress
from trainer.core.tf_config import Cluster
from trainer.training import announcement, resuming
from trainer.training.agreement import Agreed, Agreement
from trainer.training.assembly import Assembly, assemble
from trainer.training.chunks import ChunkLength
from trainer.training.ending import Ending
from trainer.training.explaining import explained
from trainer.training.hardware import devices, strategy
from trainer.training.model.experiment import Experiment
from trainer.training.model.update import learning_rate
from trainer.training.progress.pace import Pace
from trainer.training.progress.progress_bar import Display
from trainer.training.progress.summaries import Summaries
from trainer.training.results import result
from trainer.training.results.attempt_times import AttemptClock
from trainer.training.signals import StopWish
from trainer.training.state import variables
from trainer.training.state.checkpoint import Checkpoint, Checkpoints
from trainer.training.stepping import Stepping


def train(
    *,
    config: Config,
    given: Set[str],
    experiment: Experiment,
    cluster: Cluster | None,
    run_dir: Path,
    stop: StopWish,
    began: float,
) -> int:
    """Trains from the newest checkpoint, or from the start, to the end or until a worker is asked to stop.

    Args:
      config: the flags.
      given: the names of those that were given.
      experiment: what is trained.
      cluster: from TF_CONFIG, which must be in the environment; None trains alone.
      run_dir: the run's folder; only the chief uses it.
      stop: the wish of this process's signals.
      began: when this process began (time.monotonic).

    Returns:
      The exit code: 0; or, when the run was stopped, that of the signal, 75 where another worker was signalled.

    Raises:
      UsageError, DataError, AcceleratorError, OutputError: see trainer.core.exit_codes.
      PeerLostError: another worker is gone.
    """
    devices.configure(config, cluster, run_dir)
    with strategy.peers_watched(cluster), strategy.refusing_together(cluster):
        return _Run(config, cluster, run_dir, stop, began, assemble(config, cluster, experiment, given)).to_its_end()


class _Run:
    def __init__(
        self, config: Config, cluster: Cluster | None, run_dir: Path, stop: StopWish, began: float, parts: Assembly
    ) -> None:
        self._config, self._cluster, self._run_dir, self._stop, self._parts = config, cluster, run_dir, stop, parts
        self._chief = cluster is None or cluster.is_chief
        self._trainer, self._scores = parts.trainer, parts.trainer.scores
        self._steps = config.epochs * parts.trainer.steps_per_epoch
        self._checkpoints = Checkpoints(run_dir, keep=config.keep)
        self._ending = Ending(config, cluster, parts, self._checkpoints)
        self._summaries: Summaries | None = None  # The chief's, once it is known where the run stands.
        self._agreement = Agreement(parts.strategy, cluster)
        self._chunk = ChunkLength(fixed=config.chunk_steps)
        self._stepping = Stepping(parts.trainer, config, run_dir, chief=self._chief)
        self._clock = AttemptClock(began)
        self._stop_wish, self._pause_wish = threading.Event(), threading.Event()  # This worker's, set by other threads.
        self._state = Checkpoint(
            step=0, sums=self._scores.start(), history=[], seconds=0.0, step_seconds=0.0, step_examples=0,
            identity=parts.identity, arrays={},
        )  # fmt: skip
        self._counted = began  # Up to when wall time is in self._state.
        self._pace = Pace(config.global_batch_size, lambda: parts.trainer.feed.waited)

    def to_its_end(self) -> int:
        self._agreement.check_alike(self._parts.identity)
        find = functools.partial(resuming.find, self._run_dir, self._checkpoints, self._config)
        start = variables.agree(self._parts.strategy, self._cluster, find)
        if start.finished:
            print(f"{self._run_dir} holds a finished run; nothing to do")
            self._leave()
            return ExitCode.DONE
        if start.checkpoint:
            self._resume(start.checkpoint)
        else:
            with agent_link.busy():
                result.try_exports(self._config, self._parts)
        if self._chief:
            announcement.show(self._config, self._cluster, self._run_dir, self._parts)
        with agent_link.busy(), explained(f"a step of the model {self._parts.model.name}", self._parts.look.x):
            graph = self._trainer.graph()  # Traced before the first step, whose time counts.
        announcement.check_graph(graph, self._trainer.known_variables)
        self._stop.on_wish(self._stop_wish.set)
        self._clock.steps_begin(self._state.step)
        with Display(self._news, every=self._config.log_every) as display:
            if self._chief:
                self._summaries = Summaries(self._run_dir)
                self._summaries.model(self._parts.model, graph)
                self._wish_to_pause_regularly()
            stopped = self._epochs(display)
        with agent_link.busy():  # No step comes any more: the model and its page are written, which may take minutes.
            return self._end(stopped=stopped)

    def _end(self, *, stopped: bool) -> int:
        if self._summaries:
            self._checkpoints.wait()
            self._summaries.flush()  # What waited for room: nobody writes it once the result is there.
        if stopped:
            print(f"stopped at step {self._state.step} of {self._steps}", flush=True)
            self._leave()
            return self._stop.exit_code if self._stop.signal else ExitCode.PEER_LOST
        self._ending.restore(self._state)
        self._trainer.finalize()
        if self._chief:
            workers, ending = self._cluster.workers if self._cluster else 1, self._ending.figures(self._state)
            result.write(
                self._run_dir,
                config=self._config,
                workers=workers,
                final=self._state,
                parts=self._parts,
                ending=ending,
                clock=self._clock,
            )
        self._leave()
        return ExitCode.DONE

    def _resume(self, saved: Checkpoint) -> None:
        self._state = resuming.resumed(saved, self._state, self._parts, self._config)
        self._stepping.go_on(xla=saved.xla)
        self._pace.begin(saved.step)
        print(f"resuming at step {saved.step} of {self._steps}")

    def _epochs(self, display: Display) -> bool:
        """Trains what is left; whether it was stopped before the end."""
        per_epoch = self._trainer.steps_per_epoch
        for epoch in range(self._state.step // per_epoch - self._state.unevaluated, self._config.epochs):
            if self._state.ended:
                return False
            self._trainer.start_epoch(epoch)
            if self._epoch((epoch + 1) * per_epoch, display) or self._end_epoch(epoch, display):
                return True
        return False

    def _epoch(self, end: int, display: Display) -> bool:
        """Takes the steps of an epoch up to `end`, chunk by chunk; whether the run was stopped, and saved."""
        self._pace.begin_epoch(self._state.step_examples, self._state.step_seconds)
        while self._state.step < end:
            # The first step comes alone, so that everyone sees at once that training has begun.
            first = not self._stepping.begun
            steps = 1 if first and not self._config.chunk_steps else self._chunk.steps
            self._take_steps(self._stepping.end(self._state.step, min(self._state.step + steps, end)))
            agreed = self._agree(steps=self._chunk.steps, pause=self._pause_wish.is_set())
            self._chunk.steps = agreed.steps
            if first:
                display.show(self._progress())
            if agreed.stop:
                return self._stopped()
            if agreed.pause and self._state.step < end:
                self._save()
        return False

    def _stopped(self) -> bool:
        """Saves the run where it stops: within an epoch, or before its evaluation has ended."""
        if not self._state.unevaluated or self._checkpoints.saved is None:  # Else it has gone on from here.
            at_end = self._state.step % self._trainer.steps_per_epoch == 0
            self._state = dataclasses.replace(self._state, unevaluated=at_end)
            self._save()
        return True

    def _take_steps(self, until: int) -> None:
        outcome = self._stepping.run(self._state.step, until, self._state.sums)
        steps = outcome.step - self._state.step
        self._chunk.took(steps, outcome.seconds)
        self._state = dataclasses.replace(
            self._state,
            step=outcome.step,
            sums=outcome.sums,
            step_seconds=self._state.step_seconds + outcome.seconds,
            step_examples=self._state.step_examples + steps * self._config.global_batch_size,
        )
        if not outcome.finite or not math.isfinite(float(outcome.sums[0])):
            raise DataError(
                f"the loss of step {outcome.step} is not a finite number; lower {self._rate()} or look at the data; "
                "the checkpoints before it are kept"
            )

    def _rate(self) -> str:
        if self._parts.rate_is_a_flag:
            return f"--learning_rate ({self._config.learning_rate})"
        return f"the optimizer's learning rate ({learning_rate(self._parts.model.optimizer):g})"

    def _end_epoch(self, epoch: int, display: Display) -> bool:
        """Evaluates, writes down and saves an epoch; whether the run stops there, or meanwhile."""
        validation = self._stepping.evaluate(epoch, lambda more: self._goes_on(display, more=more))
        if validation is None:
            return self._stopped()
        speed, waited = self._pace.of_epoch(self._state.step_examples, self._state.step_seconds)
        train = self._values(self._state)
        display.show(self._progress(examples_per_second=speed, validation=validation))
        scores = train | {f"val_{name}": value for name, value in validation.items()}
        if self._summaries:
            shown = train | {LEARNING_RATE: learning_rate(self._parts.model.optimizer), EXAMPLES_PER_SECOND: speed}
            shown |= {} if waited is None else {DATA_WAIT_SECONDS: waited}
            self._summaries.epoch(epoch, step=self._state.step, train=shown, validation=validation)
            if self._config.histogram_freq and epoch % self._config.histogram_freq == 0:
                self._summaries.histograms(epoch, self._parts.model)
            self._summaries.flush()
        history = [*self._state.history, scores]
        # Asked before the epoch is saved: a run that is killed meanwhile asks again, and does not train on.
        finish = self._chief and self._ending.wished(history)
        agreed = self._agree(steps=self._chunk.steps, finish=finish)
        sums, ended = self._scores.start(self._state.sums), agreed.finish
        self._state = dataclasses.replace(self._state, sums=sums, history=history, ended=ended, unevaluated=False)
        if ended:
            print(self._ending.said(history), flush=True)
        self._save(best=self._ending.best_steps(history))
        return agreed.stop and not ended and epoch + 1 < self._config.epochs

    def _agree(self, *, steps: int, pause: bool = False, finish: bool = False) -> Agreed:
        return self._agreement.reach(pause=pause, stop=self._stop_wish.is_set(), steps=steps, finish=finish)

    def _goes_on(self, display: Display, *, more: bool) -> bool | None:
        """Whether some worker has more to evaluate; None: some worker wishes to stop."""
        if not self._pace.is_told:  # No step has come first: the agent learns that this process trains, and hears it.
            display.show(self._progress())
        return self._agreement.go_on(more=more, stop=self._stop_wish.is_set())

    def _save(self, *, best: list[int] | None = None) -> None:
        """Saves the state; `best` are the steps that are kept as the best from now on, None: as before."""
        if self._summaries is None:
            return
        self._pause_wish.clear()
        if not self._summaries.flush():  # The events up to a checkpoint's step are on disk before it is.
            return
        now = time.monotonic()
        seconds, self._counted = self._state.seconds + now - self._counted, now
        self._state = dataclasses.replace(self._state, seconds=seconds)
        arrays = variables.arrays(self._parts.model, keep_rate=not self._parts.rate_is_a_flag)
        sums = [value if not hasattr(value, "numpy") else value.numpy() for value in self._state.sums]
        saved = dataclasses.replace(self._state, arrays=arrays, sums=sums, xla=self._stepping.xla)
        self._checkpoints.save(saved, best=best)

    def _wish_to_pause_regularly(self) -> None:
        def wish() -> None:
            while True:
                time.sleep(self._config.checkpoint_every)
                self._pause_wish.set()

        threading.Thread(target=wish, name="checkpoint-timer", daemon=True).start()

    def _leave(self) -> None:
        strategy.leave(self._parts.strategy, self._cluster)

    def _news(self) -> Progress | None:
        """The progress when there is more than was shown; called from the display's thread."""
        return self._progress() if self._state.step < self._steps and self._pace.is_news(self._state.step) else None

    def _values(self, state: Checkpoint) -> dict[str, float]:
        """The loss and the metrics of the running epoch so far."""
        steps = (state.step - 1) % self._trainer.steps_per_epoch + 1
        return self._scores.values(state.sums, steps * self._config.global_batch_size)

    def _progress(
        self, *, examples_per_second: float | None = None, validation: dict[str, float] | None = None
    ) -> Progress:
        state = self._state
        since, data_wait = self._pace.since_told(state.step)
        return Progress(
            worker=self._cluster.index if self._cluster else 0,
            workers=self._cluster.workers if self._cluster else 1,
            attempt=agent_link.attempt(),
            epoch=(state.step - 1) // self._trainer.steps_per_epoch + 1,
            epochs=self._config.epochs,
            step=state.step,
            steps=self._steps,
            metrics=self._values(state),
            examples_per_second=since if examples_per_second is None else examples_per_second,
            data_wait=data_wait,
            saved=(self._checkpoints.saved or 0) if self._chief else None,
            validation=validation,
        )
