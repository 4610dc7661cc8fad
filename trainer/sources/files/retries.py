"""How often a request is tried, how long that goes on, and what its last failure means for the run."""

import random
import threading
import time
from typing import NoReturn

from absl import logging

from trainer.core.exit_codes import DataError, UsageError
from trainer.output.stores.errors import (
    AddressError,
    ConflictError,
    CredentialsError,
    MissingError,
    NoBucketError,
    RefusedError,
    StorageError,
)
from trainer.sources.errors import StoreAwayError

PATIENCE_SECONDS = 180.0  # A store that is away for so long ends the training process, which its agent starts again.
FIRST_PATIENCE_SECONDS = 60.0  # The same of a store that has not answered this process yet: is its address right?
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # Seconds, doubled from one to the other.
_SAY_EVERY = 60.0  # Seconds.
_RANDOM = random.Random()  # Its own: from Python's the first weights are drawn.

# Places that have answered this process: what they refuse now may pass, as IAM's delays do.
_answered: set[str] = set()
_said: dict[str, float] = {}  # When it was last said that a place does not answer.
_lock = threading.Lock()


class Retries:
    """How often one request, or requests that follow each other, are tried again."""

    def __init__(self, place: str) -> None:
        """Takes the bucket or folder that is asked: what is said of it is said once for all that ask."""
        self._place = place
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    def succeeded(self) -> None:
        """Begins to count anew."""
        if self._since is not None:
            self._since, self._pause = None, FIRST_PAUSE
            with _lock:
                _said.pop(self._place, None)
        if self._place not in _answered:
            _answered.add(self._place)

    def failed(self, error: StorageError) -> None:
        """Waits before the next try.

        Raises:
          UsageError, DataError, StoreAwayError: there is to be none.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        answered = self._place in _answered
        refused = isinstance(error, RefusedError) and not answered
        lasting = isinstance(error, AddressError | NoBucketError | MissingError | ConflictError)
        if refused or lasting or now - self._since > (PATIENCE_SECONDS if answered else FIRST_PATIENCE_SECONDS):
            self._end(error, now - self._since)
        pause = self._pause * _RANDOM.uniform(0.5, 1.0)  # Many readers that fail together do not come back together.
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._say(error, now, pause)
        time.sleep(pause)

    def _say(self, error: StorageError, now: float, pause: float) -> None:
        with _lock:
            if self._pause < 1.0 or now < _said.get(self._place, -_SAY_EVERY) + _SAY_EVERY:
                return
            _said[self._place] = now
        logging.warning("data: %s; trying again in %.1f s", error, pause)

    def _end(self, error: StorageError, seconds: float) -> NoReturn:
        match error:
            case NoBucketError():
                raise UsageError(f"{error}; check its name, and the endpoint in the environment") from None
            case AddressError():
                raise UsageError(f"{error}; check the address, and the region in the environment") from None
            case MissingError():
                raise DataError(str(error)) from None
            case ConflictError():
                raise DataError(
                    f"{str(error).removesuffix(' is not the version that was expected')} was changed since this run "
                    "looked at it first; data must stay as they are while they are read"
                ) from None
            case CredentialsError():
                raise UsageError(
                    f"wrong credentials for {error}; see docs/data.md for where they are taken from"
                ) from None
            case RefusedError():
                raise UsageError(
                    f"no right to read {error}; the credentials are those of somebody who may not do that"
                ) from None
            case _:
                hint = "" if self._place in _answered else "; it has not answered yet: is its address right?"
                raise StoreAwayError(f"not reachable for {seconds:.0f} s: {error}{hint}") from None


def forget() -> None:
    """Forgets what has answered, as a new process does."""
    _answered.clear()
    _said.clear()
