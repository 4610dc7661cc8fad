"""What passes between a training process and the agent that started it, as the training process sees it.

- It beats: a byte a second down a pipe, from a thread of its own, so that the agent notices a frozen process.
- A warm spare imports what is slow to import, then waits on a pipe for the arguments and the environment of the
  attempt it is to run.
- SIGUSR1 makes faulthandler write the stacks of all threads to standard error.

The agent names the pipes' descriptors in the environment. Nothing here needs an agent: without one, nothing happens.
"""

import concurrent.futures
import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

BEAT_FD = "TRAINER_BEAT_FD"  # Descriptor of the pipe's end to beat on.
SPARE_FD = "TRAINER_SPARE_FD"  # Descriptor of the pipe's end a warm spare reads its hand-over from.
ATTEMPT = "TRAINER_ATTEMPT"  # Number of the attempt, from 1.

NICE = 10  # A spare's imports get a tenth of a core where training wants all of it.
BEAT_SECONDS = 1.0
BUSY_SECONDS = 1800.0
ALIVE, BUSY, HUNGRY = b".", b"c", b"d"  # What a beat says: it lives; or does what is no step; or waits for data.
STACKS_SIGNAL = signal.SIGUSR1


def start_beating() -> None:
    """Beats on the agent's pipe until the process ends, and lets STACKS_SIGNAL show where it hangs."""
    faulthandler.register(STACKS_SIGNAL, all_threads=True)
    if BEAT_FD in os.environ:
        threading.Thread(target=_beat, args=(int(os.environ[BEAT_FD]),), name="beat", daemon=True).start()


@contextlib.contextmanager
def busy(seconds: float = BUSY_SECONDS) -> Iterator[None]:
    """While what is in here runs, the agent takes each beat for progress: loading, compiling, exporting may take long.

    Not for ever, since its collectives may hang: for `seconds` at most.
    """
    global _busy_until
    before, _busy_until = _busy_until, time.monotonic() + seconds
    try:
        yield
    finally:
        _busy_until = before


def moved() -> None:
    """Tells the agent, with the next beat, that something was done that no step tells of."""
    global _moved_until
    _moved_until = time.monotonic() + 2 * BEAT_SECONDS


@contextlib.contextmanager
def waiting_for_data() -> Iterator[None]:
    """While what is in here runs, the agent knows that no step can be made for want of data."""
    global _waits_for_data
    _waits_for_data = True
    try:
        yield
    finally:
        _waits_for_data = False


def attempt() -> int:
    """The number of this attempt, from 1."""
    return int(os.environ.get(ATTEMPT, "1"))


def handed_over() -> list[str]:
    """Waits, in a warm spare, for its attempt: takes over the environment given and returns the arguments given.

    The hand-over is one line of JSON, `{"environ": {name: value}, "argv": [argument, ...]}`. If the pipe is closed
    instead, the agent needs no spare any more and the process ends.
    """
    with os.fdopen(int(os.environ.pop(SPARE_FD))) as pipe:
        line = pipe.readline()
    if not line:
        sys.exit(0)
    hand_over = json.loads(line)
    os.environ.update(hand_over["environ"])
    return list(hand_over["argv"])


def at_low_priority(work: Callable[[], object]) -> None:
    """Does `work` without getting into the way of what else runs on this machine.

    It is done in a thread, since on Linux each thread has a nice value of its own, and a process that is not root could
    never take its own back.
    """

    def do() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        work()

    with concurrent.futures.ThreadPoolExecutor(1, "low priority") as thread:
        thread.submit(do).result()


def is_spare() -> bool:
    """Whether this process was started as a warm spare."""
    return SPARE_FD in os.environ


_busy_until = 0.0  # On time.monotonic's clock.
_moved_until = 0.0  # Likewise; it counts even while data are waited for, since some have come.
_waits_for_data = False


def _beat(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # The agent is gone; its parent-death signal ends this process.
        while True:
            now = time.monotonic()
            busy = BUSY if now < _busy_until else ALIVE
            os.write(descriptor, BUSY if now < _moved_until else HUNGRY if _waits_for_data else busy)
            time.sleep(BEAT_SECONDS)
