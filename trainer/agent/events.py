"""What happens to an agent, one after the other: signals, and the answers to what it asks in other threads."""

import collections
import dataclasses
import queue
import signal
import threading
import time
from collections.abc import Callable

from trainer.agent.coordination.messages import Begin, Finish, Over
from trainer.agent.pulse import Pulse
from trainer.core import threads

_TICK = 0.5  # Seconds without an event after which the main thread looks at its clocks.


@dataclasses.dataclass(frozen=True)
class Terminated:
    """SIGTERM or SIGINT came."""


@dataclasses.dataclass(frozen=True)
class ChildEnded:
    """SIGCHLD came."""


@dataclasses.dataclass(frozen=True)
class OutputOpened:
    """The output is open."""

    last_attempt: int  # The highest number of an attempt that has left something there.


@dataclasses.dataclass(frozen=True)
class FirstStep:
    """The attempt's first progress line came."""


@dataclasses.dataclass(frozen=True)
class OutputFinished:
    """The output has everything, or cannot be given it."""

    error: Exception | None


Event = Terminated | ChildEnded | OutputOpened | FirstStep | OutputFinished | Begin | Finish | Over | Exception


class Events:
    """The queue of events. Any thread puts them in; the main thread takes them out, and calls everything else here."""

    def __init__(self, *, reap: Callable[[], None], say: Callable[[str], None]) -> None:
        """Makes an empty queue; signals are not caught yet.

        Args:
          reap: reaps the child processes that have ended.
          say: takes a sentence for a person.
        """
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._reap, self._say = reap, say
        self._to_start: collections.deque[threading.Thread] = collections.deque()  # There was no room for them.
        self._is_full = False  # Whether that was said.
        self.pulse = Pulse()  # Of the main thread, which takes the events out.
        self.terminated_at: float | None = None  # When SIGTERM came first, on time.monotonic's clock.
        self.upon_sigterm = "the training process saves and leaves"  # What follows from it now, for a person.

    def catch_signals(self) -> None:
        """Makes events of SIGTERM, SIGINT and SIGCHLD from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.put(Terminated()))
        signal.signal(signal.SIGCHLD, lambda *_: self.put(ChildEnded()))

    def catch_what_threads_raise(self) -> None:
        """Makes events of what ends any thread of this process, which else would live on without it, and look well."""
        threading.excepthook = lambda args: self.put(
            threads.as_exception(args.exc_value or RuntimeError(args.exc_type.__name__))
        )

    def put(self, event: Event) -> None:
        """Adds an event; of an exception the main thread will hear as if it had raised it itself."""
        self._queue.put(event)

    def next(self) -> Event | None:
        """Waits for the next event, at most half a second; None: there was none.

        Children are reaped, and the first SIGTERM is noted, before it returns.

        Raises:
          Exception: the event is one.
        """
        self.pulse.beat()
        self._start_threads()
        try:
            event = self._queue.get(timeout=_TICK)
        except queue.Empty:
            return None
        match event:
            case ChildEnded():
                self._reap()
            case Terminated() if self.terminated_at is None:
                self._say(f"SIGTERM: {self.upon_sigterm}")
                self.terminated_at = time.monotonic()
            case Exception():
                raise event
        return event

    def call(self, function: Callable[[], Event], *, name: str) -> None:
        """Calls a function that takes long in a thread of that name; what it returns or raises becomes an event.

        Where this machine has no room for a thread, it is called once there is; only the main thread may ask for it.
        """

        def run() -> None:
            try:
                self.put(function())
            except BaseException as error:  # A client's panic, too: nobody else would hear of it.
                self.put(threads.as_exception(error))

        self._to_start.append(threading.Thread(target=run, name=name, daemon=True))
        self._start_threads()

    def _start_threads(self) -> None:
        while self._to_start and threads.start(self._to_start[0]):
            self._to_start.popleft()
        if self._to_start and not self._is_full:
            self._say(threads.NO_ROOM)
        self._is_full = bool(self._to_start)
