"""Threads in a process that must not end because there is no room for one more."""

import threading
import time

NO_ROOM = "warning: this machine gives this process no more threads; it goes on when there is room"
_PAUSE = 0.5  # Seconds.


def start(thread: threading.Thread) -> bool:
    """Starts a thread, unless this machine gives no more now; returns whether it runs."""
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread": a limit of the pod, of the user or of memory.
        return False
    return True


def start_patiently(thread: threading.Thread) -> None:
    """Starts a thread, however long this machine takes to give one; not for the thread that all else waits for."""
    while not start(thread):
        time.sleep(_PAUSE)


def as_exception(error: BaseException) -> Exception:
    """What ended a thread, as an exception that another thread can raise: a client's panic is none."""
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
