"""Requests to the API server of a cluster, and its refusals as errors that a person can act on.

The client library and its exceptions stay inside this module and `kubeconfig`.
"""

import contextlib
import json
import socket
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from trainer.core.json_types import Json
from trainer.launch.cluster.kubeconfig import Access, error_text, logged_errors
from trainer.launch.codes import LaunchCode, LaunchError

_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 30.0
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"  # The field selector of pods that use resources.
_WAITS = (0.5, 1.0, 2.0)  # Seconds before a question is asked again that a busy server has put off.
_LONGEST_WAIT = 10.0  # Of those that a server asks for.
_NO_API = -1  # The status of an answer that no API server gives, and which another try would not change.


class KubeError(LaunchError):
    """The API server refused, or could not be asked."""

    def __init__(
        self, text: str, status: int = 0, *, code: LaunchCode = LaunchCode.FAILED, retry_after: float = 0.0
    ) -> None:
        """`status` is the HTTP status of the answer; 0: there was none. `retry_after`: seconds that it asks for."""
        super().__init__(text, code)
        self.status, self.retry_after = status, retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in (0, 429) or self.status >= 500


class BrokenOffError(Exception):
    """The connection broke in the middle of an answer."""


class ApiServer:
    """One namespace of one cluster. Its methods may be called from any thread."""

    def __init__(self, context: str = "", namespace: str = "") -> None:
        """Reads the kubeconfig, or inside a cluster the pod's own access; asks nothing yet.

        Raises:
          LaunchError: there is no kubeconfig, it lacks the context, or what it says cannot be used.
        """
        import kubernetes.client

        access = Access.of(context)
        configuration = access.configuration
        self.kubeconfig_context = access.context
        self.context = access.context or "in-cluster"
        self.namespace = namespace or access.namespace
        self.server = str(configuration.host)
        self._acts_as = access.acts_as
        self.verified = bool(configuration.verify_ssl)
        if not self.verified:  # A check says it once; urllib3 would warn at every request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        configuration.connection_pool_maxsize = 64
        try:
            self._api = kubernetes.client.ApiClient(configuration)
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise LaunchError(f"the cluster of context {self.context} cannot be asked: {error_text(error)}") from None

    def get(self, path: str, **query: str) -> Json:
        """The object at a path, which may hold {namespace}.

        Raises:
          KubeError: with what the server said.
        """
        return self._json("GET", path, query)

    def get_once(self, path: str, **query: str) -> Json:
        """As `get`, for who tries again himself where the server is busy."""
        return self._asked("GET", path, query, None)

    def find(self, path: str, **query: str) -> Json | None:
        """As `get`; None where there is no such object."""
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

    def patch(self, path: str, body: Mapping[str, Any]) -> Json:
        """Changes the fields of an object that `body` names (RFC 7386); returns it.

        Raises:
          KubeError: with what the server said.
        """
        return self._json("PATCH", path, {}, body)

    def may(self, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        """Whether this user may do that in this namespace."""
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        if subresource:
            attributes["subresource"] = subresource
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"].get("allowed"))

    def delete(self, path: str) -> None:
        """Deletes an object and what it owns, owned objects first; returns before they are gone.

        Raises:
          KubeError: with what the server said, unless there is no such object any more.
        """
        try:
            self._json("DELETE", path, {"propagationPolicy": "Foreground"})
        except KubeError as error:
            if error.status != 404:
                raise

    def log(self, pod: str) -> Iterator[tuple[str, str]]:
        """The lines of a pod's log so far: when each was written, in RFC 3339, and its text.

        Raises:
          KubeError: with what the server said.
        """
        try:
            with self.open("GET", self.log_path(pod), {"container": "worker", "timestamps": "true"}) as answer:
                for line in lines(answer):
                    stamp, _, text = line.partition(" ")
                    yield stamp, text
        except BrokenOffError as error:
            raise KubeError(f"{self.server} broke off the log of {pod}: {error}") from None

    def tunnel(self, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod.

        Raises:
          KubeError: with what the server said.
        """
        import kubernetes.client
        import kubernetes.stream  # Another client, for websockets, which only this needs.

        if self._acts_as:  # The client sends no more than the credentials.
            raise KubeError(
                f"port {port} of pod {pod} cannot be reached as another user; use kubectl port-forward", 403
            )
        core = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self._api.configuration))
        try:
            ask = core.connect_get_namespaced_pod_portforward
            forward = kubernetes.stream.portforward(ask, pod, self.namespace, ports=str(port))
        except kubernetes.client.ApiException as error:
            raise KubeError(f"port {port} of pod {pod} cannot be reached: {error.reason}", error.status or 0) from None
        connection: socket.socket = forward.socket(port)
        return connection

    def _full(self, path: str) -> str:
        return path.replace("{namespace}", self.namespace)

    def log_path(self, pod: str) -> str:
        """Where a worker's log is."""
        return f"/api/v1/namespaces/{{namespace}}/pods/{pod}/log"

    def _json(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None) -> Json:
        """Asks; what changes nothing is asked again where the server is busy."""
        for wait in _WAITS if method == "GET" or path.endswith("reviews") else ():
            try:
                return self._asked(method, path, query, body)
            except KubeError as error:
                if error.status != 429 and error.status < 500:
                    raise
                time.sleep(min(max(wait, error.retry_after), _LONGEST_WAIT))
        return self._asked(method, path, query, body)

    def _asked(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None) -> Json:
        try:
            with self.open(method, path, query, body) as answer:
                content = answer.read()
        except BrokenOffError as error:
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
    def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        read: float | None = _REQUEST_SECONDS,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An open answer. The client library gives only the connections and the credentials."""
        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "Content-Type": "application/json"})
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        fields = list(query.items())
        response = None
        headers.update(self._credentials())
        for name, value in self._acts_as:
            headers.add(name, value)
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
            raise KubeError(f"the API server at {self.server} cannot be reached: {_reason(error)}") from None
        except ValueError:  # Its text would show the token.
            raise KubeError(
                f"the credentials of context {self.context} cannot be sent: the token has characters that none may "
                "have, such as a line break",
                401,
            ) from None
        try:
            if response.status >= 400:
                raise self._refused(response, method, path)
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenOffError(_reason(error)) from None
        finally:
            response.close()

    def _credentials(self) -> dict[str, str]:
        """The header that says who asks; where a plugin gives it, it may be asked again each time."""
        try:
            with logged_errors() as errors:
                settings = self._api.configuration.auth_settings().values()
        except Exception as error:  # A file, a plugin, a provider's library may raise anything.
            errors = [error_text(error)]
        if errors:
            text = f"context {self.context} gives no credentials: {errors[-1]}; log in to the cluster again"
            raise KubeError(text, 401)
        # A file with a token may end in a line break, as kubectl has it.
        return {auth["key"]: auth["value"].strip() for auth in settings}

    def _refused(self, answer: urllib3.BaseHTTPResponse, method: str, path: str) -> KubeError:
        status, body, after = answer.status, answer.read(), answer.headers.get("Retry-After", "")
        try:
            text = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            text = body.decode(errors="replace").strip()[:300] or f"{method} {path} was answered with {status}"
        if status == 401:
            text = (
                f"the API server at {self.server} does not accept the credentials of context {self.context} ({text}): "
                "they are wrong or have expired; log in to the cluster again"
            )
        return KubeError(text, status, retry_after=float(after) if after.isascii() and after.isdecimal() else 0.0)


def lines(answer: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """Whole lines as they come; one that breaks off is left out."""
    rest = b""
    for chunk in answer.stream(amt=None):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")


def _reason(error: Exception) -> str:
    """Why a request failed, without what urllib3 puts before it."""
    reason = getattr(error, "reason", None) or error
    return str(reason).split("object at 0x")[-1].split(": ", 1)[-1] or type(error).__name__
