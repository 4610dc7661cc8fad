"""What changes on a cluster: watches and logs that are followed, each taken up again where it broke off.

Nothing here polls: a watch is one request that stays open.
"""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping

from trainer.core.json_types import Json
from trainer.launch.cluster.api_server import ApiServer, BrokenOffError, KubeError, lines
from trainer.launch.cluster.kubeconfig import error_text
from trainer.launch.codes import LaunchError

_WATCH_SECONDS = 300  # The server is asked to end a watch after so long.
_SILENCE_SECONDS = 150.0  # A watch that is silent for so long is broken: the server sends a bookmark every minute.
_WAITS = (0.2, 0.5, 1.0, 2.0, 5.0)  # Seconds between tries; all later ones wait as long as the last.
_PAGE = "500"  # Objects of a list that are asked for at once.
_SAID_AFTER = 3.0  # Seconds without the API server until a person is told.


@dataclasses.dataclass(frozen=True)
class Listed:
    """All objects of a watch: at its beginning, and whenever it had to begin anew."""

    kind: str  # The name that `Kube.watch` was given for what it watches; so below.
    items: tuple[Json, ...]


@dataclasses.dataclass(frozen=True)
class Changed:
    """One object of a watch is new or changed."""

    kind: str
    item: Json


@dataclasses.dataclass(frozen=True)
class Gone:
    """One object of a watch was deleted."""

    kind: str
    item: Json


@dataclasses.dataclass(frozen=True)
class LogLine:
    """A line of a worker's log."""

    pod: str  # The pod's UID.
    time: str  # RFC 3339, with nanoseconds, as the kubelet wrote it.
    text: str


@dataclasses.dataclass(frozen=True)
class LogEnd:
    """A pod's log has come to its end."""

    pod: str  # The pod's UID.


@dataclasses.dataclass(frozen=True)
class Connection:
    """The API server cannot be reached any more, or is back."""

    error: str | None  # Why it cannot be reached; None: it is back.


News = Listed | Changed | Gone | LogLine | LogEnd | Connection | LaunchError
"""What watches and logs tell; an error is the last that they do."""


class Kube(ApiServer):
    """One namespace of one cluster: its API server, and news of what changes there."""

    def __init__(self, context: str = "", namespace: str = "") -> None:
        """Reads the kubeconfig and asks nothing yet; raises as `ApiServer`."""
        super().__init__(context, namespace)
        self._closed = threading.Event()
        self._lost_since: float | None = None
        self._lock = threading.Lock()

    def list(self, path: str, **query: str) -> Json:
        """The list at a path, as `get` gives it, asked for page by page: a large cluster has tens of thousands of pods.

        Raises:
          KubeError: with what the server said.
        """
        return _paged(self.get, path, query)

    def watch(self, kind: str, path: str, tell: Callable[[News], None], **query: str) -> None:
        """Tells of all objects at `path` and then of every change, in a thread of its own, until `close`.

        Args:
          kind: a name for what is watched, which all news of it carries.
          path: as of `get`.
          tell: is called in that thread.
          query: selects objects.
        """
        self._in_thread(f"watch {kind}", lambda: self._watch(kind, path, tell, query), tell)

    def follow(self, pod: str, uid: str, tell: Callable[[News], None]) -> None:
        """Tells of every line of a pod's log from its first, in a thread of its own, and of its end."""
        self._in_thread(f"log {pod}", lambda: self._follow(pod, uid, tell), tell)

    def close(self) -> None:
        """Ends all threads as soon as what they wait for ends."""
        self._closed.set()

    def _in_thread(self, name: str, run: Callable[[], None], tell: Callable[[News], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except LaunchError as error:
                tell(error)
            except Exception as error:  # Unsaid, it would leave whoever waits for news waiting for ever.
                text = f"{type(error).__name__}: {error_text(error)}"
                tell(LaunchError(f"{self.server} gave an answer that cannot be used ({name}): {text}"))

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def _watch(self, kind: str, path: str, tell: Callable[[News], None], query: Mapping[str, str]) -> None:
        version: str | None = None
        failures = 0
        while not self._closed.is_set():
            try:
                if version is None:
                    listed = _paged(self.get_once, path, query)
                    version = listed["metadata"]["resourceVersion"]
                    self._is_back(tell)
                    tell(Listed(kind, tuple(listed["items"])))
                first_version, began = version, time.monotonic()
                version = self._watch_once(kind, path, version, query, tell)
                if version != first_version or time.monotonic() - began > _WAITS[-1]:
                    failures = 0
                else:  # It ended at once and without news, as the next would: a pause keeps it from a busy loop.
                    failures = self._pause(failures, None, tell)
            except KubeError as error:
                if error.status == 410:  # The server no longer knows that version: the watch begins anew.
                    version = None
                    failures = self._pause(failures, None, tell)
                elif error.passing:
                    failures = self._pause(failures, error, tell)
                else:
                    raise

    def _watch_once(
        self, kind: str, path: str, version: str, query: Mapping[str, str], tell: Callable[[News], None]
    ) -> str:
        """Watches until the stream ends, on the server's side or by breaking; returns the last version seen."""
        options = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        options["timeoutSeconds"] = str(_WATCH_SECONDS)
        try:
            with self.open("GET", path, {**query, **options}, read=_SILENCE_SECONDS) as answer:
                self._is_back(tell)
                for line in lines(answer):
                    event = json.loads(line)
                    item = event["object"]
                    if event["type"] == "ERROR":
                        raise KubeError(str(item.get("message")), int(item.get("code", 0)))
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        tell((Gone if event["type"] == "DELETED" else Changed)(kind, item))
        except BrokenOffError:
            pass
        return version

    def _follow(self, pod: str, uid: str, tell: Callable[[News], None]) -> None:
        failures, last = 0, ""  # `last`: the time stamp of the last line told.
        while not self._closed.is_set():
            query = {"container": "worker", "follow": "true", "timestamps": "true"}
            if last:
                query["sinceTime"] = last
            try:
                with self.open("GET", self.log_path(pod), query, read=None) as answer:
                    for line in lines(answer):
                        stamp, _, text = line.partition(" ")
                        if stamp > last:  # The server rounds sinceTime down to the second.
                            last, failures = stamp, 0
                            tell(LogLine(uid, stamp, text))
                if self._ended(pod, uid):
                    break
                failures = self._pause(failures, None, tell)
            except BrokenOffError:
                failures = self._pause(failures, None, tell)
            except KubeError as error:
                if error.status in (400, 404):  # The container, or the pod itself, is gone.
                    break
                if not error.passing:
                    raise
                # An error with a status is an answer of the API server: it is the node that is away.
                failures = self._pause(failures, None if error.status else error, tell)
        tell(LogEnd(uid))

    def _ended(self, pod: str, uid: str) -> bool:
        """Whether a pod writes no more log: it has ended, is gone, or another one has its name."""
        item = self.find(f"/api/v1/namespaces/{{namespace}}/pods/{pod}")
        if item is None or item["metadata"]["uid"] != uid:
            return True
        return item["status"].get("phase") in ("Succeeded", "Failed")

    def _pause(self, failures: int, error: KubeError | None, tell: Callable[[News], None]) -> int:
        """Waits before another try; returns the number of failures in a row.

        Args:
          failures: how many there were before.
          error: what keeps the API server from being reached; None: it can be.
          tell: hears of it when that lasts.
        """
        if error is not None:
            now = time.monotonic()
            with self._lock:
                if self._lost_since is None:
                    self._lost_since = now
                lost_seconds = now - self._lost_since
            if lost_seconds > _SAID_AFTER:
                tell(Connection(str(error)))
        wait = _WAITS[min(failures, len(_WAITS) - 1)]
        self._closed.wait(max(wait, min(error.retry_after, _WAITS[-1])) if error else wait)
        return failures + 1

    def _is_back(self, tell: Callable[[News], None]) -> None:
        """Notes that the API server answers; says so where it could not be reached before."""
        with self._lock:
            lost_since, self._lost_since = self._lost_since, None
        if lost_since is not None:
            tell(Connection(None))


def _paged(get: Callable[..., Json], path: str, query: Mapping[str, str]) -> Json:
    try:
        listed = get(path, **query, limit=_PAGE)
        while token := listed.get("metadata", {}).get("continue"):
            page = get(path, **{**query, "limit": _PAGE, "continue": str(token)})
            listed = {**page, "items": [*listed["items"], *page["items"]]}
        return listed
    except KubeError as error:
        if error.status != 410:
            raise
    return get(path, **query)  # The server no longer knows the list that the pages are of.
