"""Looks up the names of workers, many at the same time: one look-up may take seconds, and a run may have thousands."""

import collections
import socket
import threading
from collections.abc import Callable, Collection

from trainer.core import threads

_MOST_THREADS = 32


def problem_with(host: str) -> str:
    """Why a name does not resolve; "": it does."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, ValueError) as error:  # The latter for what can be no name at all.
        return str(error)
    return ""


class NameLookUps:
    """Threads that come when there is something to look up, and go when there is nothing more."""

    def __init__(
        self, host: Callable[[int], str], on_looked_up: Callable[[int, str], None], say: Callable[[str], None]
    ) -> None:
        """Nothing is looked up yet.

        Args:
          host: names a worker's host.
          on_looked_up: called, in a thread, with a worker and what is wrong with its name; "": it resolves.
          say: takes a sentence for a person.
        """
        self._host, self._on_looked_up, self._say = host, on_looked_up, say
        self._lock = threading.Lock()
        self._waiting: collections.deque[int] = collections.deque()  # For a thread.
        self._unknown: set[int] = set()  # Those, and those that a thread is at.
        self._threads = 0
        self._is_full = False  # Whether it was said that there is no room for a thread.

    def start(self, workers: Collection[int]) -> None:
        """Begins to look up those that are not being looked up; without room for a thread, the next call begins."""
        with self._lock:
            self._waiting.extend(worker for worker in workers if worker not in self._unknown)
            self._unknown.update(workers)
            while self._threads < min(_MOST_THREADS, len(self._waiting)):
                if not threads.start(threading.Thread(target=self._work, name="look-up", daemon=True)):
                    break
                self._threads += 1
            before, self._is_full = self._is_full, bool(self._waiting) and not self._threads
            if self._is_full and not before:
                self._say(threads.NO_ROOM)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                worker = self._waiting.popleft()
            host = self._host(worker)
            problem = problem_with(host)
            with self._lock:
                self._unknown.discard(worker)
            self._on_looked_up(worker, problem and f"{host!r}: {problem}")
