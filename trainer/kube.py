"""The cluster as the launcher sees it: requests, watches that survive, and log lines.

The client library, its exceptions and the API's JSON stay inside this module, `kubeconfig` and `observed`. Nothing
here polls: a watch is one request that stays open, taken up again where it ended.
"""

import contextlib
import dataclasses
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import urllib3

from trainer.kubeconfig import Access, errors_told, words
from trainer.launch_codes import LaunchCode, LaunchError

_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 30.0
_WATCH_SECONDS = 300  # After which the server ends a watch.
_SILENCE_SECONDS = 150.0  # Of a watch; the server sends a bookmark every minute.
_WAITS = (0.2, 0.5, 1.0, 2.0, 5.0)  # Between tries, the last for ever.
_SAID_AFTER = 3.0  # Seconds without the API server until a person is told.
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"  # The field selector of pods that use something.
_NO_API = -1  # The status of what no API server answers: asking again gives no other.

Json = dict[str, Any]


class KubeError(LaunchError):
    """The API server refused, or could not be asked."""

    def __init__(self, text: str, status: int = 0, *, code: LaunchCode = LaunchCode.FAILED) -> None:
        """`status` is the HTTP status; 0: there was no answer."""
        super().__init__(text, code)
        self.status = status


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


class Kube:
    """One namespace of one cluster. Its methods may be called from any thread."""

    def __init__(self, context: str = "", namespace: str = "") -> None:
        """Reads the kubeconfig, or inside a cluster the pod's own access; asks nothing yet.

        Raises:
          LaunchError: there is none, it lacks the context, or what it says cannot be used.
        """
        import kubernetes.client

        access = Access.of(context)
        configuration = access.configuration
        self.kubeconfig_context = access.context
        self.context = access.context or "in-cluster"
        self.namespace = namespace or access.namespace
        self.server = str(configuration.host)
        self.verified = bool(configuration.verify_ssl)
        if not self.verified:  # It is said once, not at every request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        configuration.connection_pool_maxsize = 64
        try:
            self._api = kubernetes.client.ApiClient(configuration)
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise LaunchError(f"the cluster of context {self.context} cannot be asked: {words(error)}") from None
        self._closed = threading.Event()
        self._lost_since: float | None = None
        self._lock = threading.Lock()

    def get(self, path: str, **query: str) -> Json:
        """One request; `path` may hold {namespace}.

        Raises:
          KubeError: with what the server said.
        """
        return self._json("GET", path, query)

    def find(self, path: str, **query: str) -> Json | None:
        """As `get`; None when there is no such object."""
        try:
            return self.get(path, **query)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """Creates an object, or asks a question that is put as one.

        Raises:
          KubeError: with what the server said.
        """
        return self._json("POST", path, query, body)

    def may(self, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        """Whether this user may do that in this namespace."""
        wanted = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        if subresource:
            wanted["subresource"] = subresource
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        answer = self.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"].get("allowed"))

    def delete(self, path: str) -> None:
        """Deletes an object and what it owns, owned objects first; the rest happens by and by.

        Raises:
          KubeError: with what the server said, unless there is no such object any more.
        """
        try:
            self._json("DELETE", path, {"propagationPolicy": "Foreground"})
        except KubeError as error:
            if error.status != 404:
                raise

    def watch(self, kind: str, path: str, tell: Callable[[News], None], **query: str) -> None:
        """Tells of all objects at `path` and then of every change, in a thread of its own, until `close`."""
        self._thread(f"watch {kind}", lambda: self._watch(kind, path, tell, query), tell)

    def follow(self, pod: str, uid: str, tell: Callable[[News], None], *, since: str = "") -> None:
        """Tells of every line of a pod's log, in a thread of its own, and of its end."""
        self._thread(f"log {pod}", lambda: self._follow(pod, uid, tell, since), tell)

    def log(self, pod: str) -> Iterator[tuple[str, str]]:
        """The lines of a pod's log so far: when each was written, in RFC 3339, and its text.

        Raises:
          KubeError: with what the server said.
        """
        try:
            with self._open("GET", self._log_path(pod), {"container": "worker", "timestamps": "true"}) as answer:
                for line in _lines(answer):
                    stamp, _, text = line.partition(" ")
                    yield stamp, text
        except _InterruptedError as error:
            raise KubeError(f"{self.server} broke off the log of {pod}: {error}") from None

    def tunnel(self, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod.

        Raises:
          KubeError: with what the server said.
        """
        import kubernetes.client
        import kubernetes.stream  # Another client, for websockets, which only this needs.

        core = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self._api.configuration))
        try:
            ask = core.connect_get_namespaced_pod_portforward
            forward = kubernetes.stream.portforward(ask, pod, self.namespace, ports=str(port))
        except kubernetes.client.ApiException as error:
            raise KubeError(f"port {port} of pod {pod} cannot be reached: {error.reason}", error.status or 0) from None
        connection: socket.socket = forward.socket(port)
        return connection

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
                tell(LaunchError(f"{self.server} gave an answer that cannot be used ({name}): {_what(error)}"))

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def _watch(self, kind: str, path: str, tell: Callable[[News], None], query: Mapping[str, str]) -> None:
        version: str | None = None
        failures = 0
        while not self._closed.is_set():
            try:
                if version is None:
                    listed = self._json("GET", path, query)
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
                elif _passing(error):
                    failures = self._again(failures, error, tell)
                else:
                    raise

    def _watch_once(
        self, kind: str, path: str, version: str, query: Mapping[str, str], tell: Callable[[News], None]
    ) -> str:
        options = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        options["timeoutSeconds"] = str(_WATCH_SECONDS)
        try:
            with self._open("GET", path, {**query, **options}, read=_SILENCE_SECONDS) as answer:
                self._answered(tell)
                for line in _lines(answer):
                    event = json.loads(line)
                    item = event["object"]
                    if event["type"] == "ERROR":
                        raise KubeError(str(item.get("message")), int(item.get("code", 0)))
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        tell((Gone if event["type"] == "DELETED" else Changed)(kind, item))
        except _InterruptedError:
            pass  # The stream broke: it goes on from the last version seen.
        return version

    def _follow(self, pod: str, uid: str, tell: Callable[[News], None], last: str) -> None:
        failures = 0
        while not self._closed.is_set():
            query = {"container": "worker", "follow": "true", "timestamps": "true"}
            if last:
                query["sinceTime"] = last
            try:
                with self._open("GET", self._log_path(pod), query, read=None) as answer:
                    for line in _lines(answer):
                        stamp, _, text = line.partition(" ")
                        if stamp > last:  # sinceTime counts whole seconds only.
                            last, failures = stamp, 0
                            tell(LogLine(uid, stamp, text))
                if self._ended(pod, uid):
                    break
                failures = self._again(failures, None, tell)
            except _InterruptedError:
                failures = self._again(failures, None, tell)
            except KubeError as error:
                if error.status in (400, 404):  # Its container or itself is gone.
                    break
                if not _passing(error):
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

    def _full(self, path: str) -> str:
        return path.replace("{namespace}", self.namespace)

    def _log_path(self, pod: str) -> str:
        return f"/api/v1/namespaces/{{namespace}}/pods/{pod}/log"

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

    def _json(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None) -> Json:
        try:
            with self._open(method, path, query, body) as answer:
                content = answer.read()
        except _InterruptedError as error:
            raise KubeError(f"{self.server} broke off its answer: {error}") from None
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            begin = content[:60].decode(errors="replace")
            raise KubeError(
                f"{self.server} does not answer as the API server of a cluster does: {method} {self._full(path)} gave "
                f"{begin!r}; is it another program's address, or a login page's?",
                _NO_API,
            )
        return value

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        read: float | None = _REQUEST_SECONDS,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An open answer; the client library gives the connections and the credentials, not more."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        fields = list(query.items())
        response = None
        headers |= self._credentials()
        try:
            response = self._api.rest_client.pool_manager.request(
                method,
                f"{self.server}{self._full(path)}?{urllib.parse.urlencode(fields)}",
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=read),
                preload_content=False,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(f"the API server at {self.server} cannot be reached: {_words(error)}") from None
        except ValueError:  # Its text would show the token.
            raise KubeError(
                f"the credentials of context {self.context} cannot be sent: the token has characters that none may "
                "have, such as a line break",
                401,
            ) from None
        try:
            if response.status >= 400:
                raise self._refused(response.status, response.read(), method, path)
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _InterruptedError(_words(error)) from None
        finally:
            response.close()

    def _credentials(self) -> dict[str, str]:
        """The header that says who asks; a plugin may have to be asked for it again."""
        try:
            with errors_told() as told:
                settings = self._api.configuration.auth_settings().values()
        except Exception as error:  # A file, a plugin, a provider's library: they raise whatever comes.
            told = [words(error)]
        if told:
            text = f"the credentials of context {self.context} cannot be had: {told[-1]}; log in to the cluster anew"
            raise KubeError(text, 401)
        return {auth["key"]: auth["value"] for auth in settings}

    def _refused(self, status: int, body: bytes, method: str, path: str) -> KubeError:
        try:
            text = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            text = body.decode(errors="replace").strip()[:300] or f"{method} {path} was answered with {status}"
        if status == 401:
            text = (
                f"the API server at {self.server} does not accept the credentials of context {self.context} ({text}): "
                "they are wrong or have expired; log in to the cluster anew"
            )
        return KubeError(text, status)


class _InterruptedError(Exception):
    """The connection broke in the middle of an answer."""


def _passing(error: KubeError) -> bool:
    """Whether the same request may succeed a little later."""
    return error.status in (0, 429) or error.status >= 500


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {words(error)}"


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).split("object at 0x")[-1].split(": ", 1)[-1] or type(error).__name__


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """Whole lines as they come; one that is broken off is left out."""
    rest = b""
    for chunk in answer.stream(amt=None):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
