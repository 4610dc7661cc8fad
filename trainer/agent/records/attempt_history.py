"""What the run directory tells of a run's attempts, and the line that each adds to it."""

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

from trainer.agent.coordination.messages import Begin, Failure, Over
from trainer.agent.records import attempt_log
from trainer.agent.status import Status
from trainer.core import attempts, typed_json
from trainer.core.run_dir import ATTEMPTS, newest_step

_MANY_FRUITLESS = 3  # Attempts in a row without a newer checkpoint of which a person is told.


class AttemptHistory:
    """The attempts of a run so far. The main thread begins and ends them; the coordinator asks from any thread."""

    def __init__(self, run_dir: pathlib.Path, status: Status, say: Callable[[str], None]) -> None:
        """Takes the run directory; it need not exist.

        Args:
          run_dir: the run directory.
          status: what is known of this worker's steps.
          say: takes a sentence for a person.
        """
        self._run_dir, self._status, self._say = run_dir, status, say
        self.stored_attempt = 0  # The highest number that the output knows of.
        self._begun_at = time.monotonic()
        self._rendezvous_seconds = 0.0
        self._saved_at_begin = 0  # Step of the newest checkpoint when the attempt began; on worker 0 alone.
        self._span: attempts.Span | None = None  # Once the attempt has ended here.

    def last_attempt(self) -> int:
        """The highest number used so far; 0: there was no attempt.

        Raises:
          DataError: a newer version of the trainer wrote attempts.jsonl.
        """
        return max(attempts.last(self._run_dir), self.stored_attempt)

    def saved_step(self) -> int:
        """The step of the newest checkpoint; 0: there is none."""
        return newest_step(self._run_dir)

    def begin(self, attempt: int, rendezvous_seconds: float) -> None:
        """An attempt begins, after a rendezvous of so many seconds."""
        self._begun_at, self._rendezvous_seconds, self._span = time.monotonic(), rendezvous_seconds, None
        self._saved_at_begin = self.saved_step()
        if self._status.worker != 0:
            return
        fruitless = attempt - 1 - self._last_fruitful()
        if fruitless >= _MANY_FRUITLESS:
            self._say(
                f"warning: the last {fruitless} attempts have left no newer checkpoint: this one begins at step "
                f"{self._saved_at_begin}. Workers that are told to go (exit 143: eviction, drain, a failed probe) are "
                "replaced without a bound but job.activeDeadlineSeconds; the events of their pods say why they went"
            )

    def end(self) -> None:
        """The attempt has ended here: its times are those until now."""
        self._span = self._measured()

    def record(self, begin: Begin, over: Over, failure: Failure | None) -> None:
        """Adds the attempt to attempts.jsonl."""
        line = attempt_log.record(begin, over, failure, self._span or self._measured())
        try:
            attempt_log.append(self._run_dir, line)
        except OSError as error:  # A full disk costs the line, not the run.
            self._say(f"warning: {self._run_dir / ATTEMPTS} lacks attempt {begin.attempt}: {error.strerror}")

    def _last_fruitful(self) -> int:
        """The number of the last attempt that saved a step; 0: none that is known of, as where the disk was lost."""
        lines = attempts.read(self._run_dir)
        began_earlier = (line for line in lines if _step_from(line) < self._saved_at_begin)
        return max((line["attempt"] for line in began_earlier), default=0)

    def _measured(self) -> attempts.Span:
        now, (first_at, first_step) = time.monotonic(), self._status.first
        if first_at is None or first_step is None:
            return attempts.Span(
                step_from=self._saved_at_begin,
                step_to=max(self._saved_at_begin, self.saved_step()),
                rendezvous=self._rendezvous_seconds,
                start_up=now - self._begun_at,
                training=0.0,
            )
        return attempts.Span(
            # A damaged checkpoint makes training start before the newest.
            step_from=self._saved_at_begin if first_step >= self._saved_at_begin else first_step - 1,
            step_to=max(self._status.step, self.saved_step()),
            rendezvous=self._rendezvous_seconds,
            start_up=first_at - self._begun_at,
            training=now - first_at,
        )


def _step_from(line: dict[str, Any]) -> int:
    """The step that an attempt began at; the file may come from a bucket."""
    with contextlib.suppress(ValueError):
        return typed_json.whole(line, "step_from")
    return 0
