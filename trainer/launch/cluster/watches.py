"""The cluster as the launcher sees it: requests, watches that survive, and log lines.

The API's JSON stays inside this module and `observed`. Nothing here polls: a watch is one request that stays open,
taken up again where it ended.
"""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping

from trainer.launch.cluster.api_server import ApiServer, BrokenOffError, Json, KubeError, lines
from trainer.launch.cluster.kubeconfig import words
from trainer.launch.codes import LaunchError

_WATCH_SECONDS = 300  # After which the server ends a watch.
_SILENCE_SECONDS = 150.0  # Of a watch; the server sends a bookmark every minute.
_WAITS = (0.2, 0.5, 1.0, 2.0, 5.0)  # Between tries, the last for ever.
_SAID_AFTER = 3.0  # Seconds without the API server until a person is told.


@dataclasses.dataclass(frozen=True)
class Listed:
    """All objects of a watch, at its beginning and whenever it had to begin anew."""

    kind: str
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

    pod: str  # Its UID.
    time: str  # RFC 3339, with nanoseconds, as the kubelet wrote it.
    text: str


@dataclasses.dataclass(frozen=True)
class LogEnd:
    """A pod's log has come to its end."""

    pod: str


@dataclasses.dataclass(frozen=True)
class Connection:
    """The API server went away (`error` says how) or is back (None)."""

    error: str | None


News = Listed | Changed | Gone | LogLine | LogEnd | Connection | LaunchError


class Kube(ApiServer):
    """An API server, and news of what changes there."""

    def __init__(self, context: str = "", namespace: str = "") -> None:
        """As `ApiServer`."""
        super().__init__(context, namespace)
        self._closed = threading.Event()
        self._lost_since: float | None = None
        self._lock = threading.Lock()

    def watch(self, kind: str, path: str, tell: Callable[[News], None], **query: str) -> None:
        """Tells of all objects at `path` and then of every change, in a thread of its own, until `close`."""
        self._thread(f"watch {kind}", lambda: self._watch(kind, path, tell, query), tell)

    def follow(self, pod: str, uid: str, tell: Callable[[News], None], *, since: str = "") -> None:
        """Tells of every line of a pod's log, in a thread of its own, and of its end."""
        self._thread(f"log {pod}", lambda: self._follow(pod, uid, tell, since), tell)

    def close(self) -> None:
        """Ends all threads, at their next breath."""
        self._closed.set()

    def _thread(self, name: str, run: Callable[[], None], tell: Callable[[News], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except LaunchError as error:
                tell(error)
            except Exception as error:  # Whoever waits for news would wait for ever.
                text = f"{type(error).__name__}: {words(error)}"
                tell(LaunchError(f"{self.server} gave an answer that cannot be used ({name}): {text}"))

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def _watch(self, kind: str, path: str, tell: Callable[[News], None], query: Mapping[str, str]) -> None:
        version: str | None = None
        failures = 0
        while not self._closed.is_set():
            try:
                if version is None:
                    listed = self.get(path, **query)
                    version = listed["metadata"]["resourceVersion"]
                    self._answered(tell)
                    tell(Listed(kind, tuple(listed["items"])))
                before, began = version, time.monotonic()
                version = self._watch_once(kind, path, version, query, tell)
                if version != before or time.monotonic() - began > _WAITS[-1]:
                    failures = 0
                else:  # Ended at once: at the next try, too, if that came at once.
                    failures = self._again(failures, None, tell)
            except KubeError as error:
                if error.status == 410:  # The server remembers too little: all anew.
                    version = None
                    failures = self._again(failures, None, tell)
                elif error.passing:
                    failures = self._again(failures, error, tell)
                else:
                    raise

    def _watch_once(
        self, kind: str, path: str, version: str, query: Mapping[str, str], tell: Callable[[News], None]
    ) -> str:
        options = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        options["timeoutSeconds"] = str(_WATCH_SECONDS)
        try:
            with self.open("GET", path, {**query, **options}, read=_SILENCE_SECONDS) as answer:
                self._answered(tell)
                for line in lines(answer):
                    event = json.loads(line)
                    item = event["object"]
                    if event["type"] == "ERROR":
                        raise KubeError(str(item.get("message")), int(item.get("code", 0)))
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        tell((Gone if event["type"] == "DELETED" else Changed)(kind, item))
        except BrokenOffError:
            pass  # The stream broke: it goes on from the last version seen.
        return version

    def _follow(self, pod: str, uid: str, tell: Callable[[News], None], last: str) -> None:
        failures = 0
        while not self._closed.is_set():
            query = {"container": "worker", "follow": "true", "timestamps": "true"}
            if last:
                query["sinceTime"] = last
            try:
                with self.open("GET", self.log_path(pod), query, read=None) as answer:
                    for line in lines(answer):
                        stamp, _, text = line.partition(" ")
                        if stamp > last:  # sinceTime counts whole seconds only.
                            last, failures = stamp, 0
                            tell(LogLine(uid, stamp, text))
                if self._ended(pod, uid):
                    break
                failures = self._again(failures, None, tell)
            except BrokenOffError:
                failures = self._again(failures, None, tell)
            except KubeError as error:
                if error.status in (400, 404):  # Its container or itself is gone.
                    break
                if not error.passing:
                    raise
                # Where the API server does answer, it is the node that is away.
                failures = self._again(failures, None if error.status else error, tell)
        tell(LogEnd(uid))

    def _ended(self, pod: str, uid: str) -> bool:
        found = self.find(f"/api/v1/namespaces/{{namespace}}/pods/{pod}")
        return found is None or found["metadata"]["uid"] != uid or found["status"].get("phase") in (
            "Succeeded",
            "Failed",
        )  # fmt: skip

    def _again(self, failures: int, error: KubeError | None, tell: Callable[[News], None]) -> int:
        """Waits before another try; returns the number of failures in a row."""
        if error is not None:
            with self._lock:
                before, self._lost_since = self._lost_since, self._lost_since or time.monotonic()
                said = before is not None and time.monotonic() - before > _SAID_AFTER
            if said:
                tell(Connection(str(error)))
        self._closed.wait(_WAITS[min(failures, len(_WAITS) - 1)])
        return failures + 1

    def _answered(self, tell: Callable[[News], None]) -> None:
        with self._lock:
            lost, self._lost_since = self._lost_since, None
        if lost is not None:
            tell(Connection(None))
