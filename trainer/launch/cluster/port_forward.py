"""TensorBoard of a release at http://localhost:6006, through the API server: `--tensorboard`."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable

from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.objects import RELEASE
from trainer.launch.cluster.watches import Kube

PORT = 6006
_PIECE = 65536


class Forward:
    """Listens on this machine; every connection goes to the pod that is TensorBoard at that moment."""

    def __init__(self, kube: Kube, release: str, say: Callable[[str], None]) -> None:
        """Opens nothing yet."""
        self._kube, self._release, self._say = kube, release, say
        self._listener: socket.socket | None = None
        self._told: set[str] = set()

    def __enter__(self) -> "Forward":
        """Begins to listen, or says why not: watching goes on without it."""
        try:
            self._listener = socket.create_server(("127.0.0.1", PORT))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            self._say(f"TensorBoard is not forwarded: port {PORT} of this machine cannot be had ({why})")
            return self
        threading.Thread(target=self._accept, args=(self._listener,), name="tensorboard", daemon=True).start()
        self._say(f"TensorBoard, as soon as it runs: http://localhost:{PORT}")
        return self

    def __exit__(self, *_: object) -> None:
        """Listens no more; connections end with the process."""
        if self._listener:
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # Closed by __exit__.
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):  # The browser sees a closed connection, and asks again.
            try:
                pod = self._pod()
                if pod is None:
                    self._tell("none of its pods runs")
                    return
                far = self._kube.tunnel(pod, PORT)
            except KubeError as error:
                self._tell(str(error))
                return
            with contextlib.closing(far):  # The client library's connection is like a socket, but no context manager.
                back = threading.Thread(target=_pass, args=(far, near), daemon=True)
                back.start()
                _pass(near, far)
                back.join()

    def _tell(self, why: str) -> None:
        """Says why a browser gets nothing, once: it asks again and again."""
        if why not in self._told:
            self._told.add(why)
            self._say(f"TensorBoard cannot be reached: {why}")

    def _pod(self) -> str | None:
        """A pod behind the release's TensorBoard service that runs."""
        path = "/api/v1/namespaces/{namespace}"
        services = self._kube.get(f"{path}/services", labelSelector=f"{RELEASE}={self._release}")["items"]
        selectors = [s["spec"]["selector"] for s in services if any(p["port"] == PORT for p in s["spec"]["ports"])]
        for selector in selectors:
            labels = ",".join(f"{key}={value}" for key, value in selector.items())
            pods = self._kube.get(f"{path}/pods", labelSelector=labels, fieldSelector="status.phase=Running")["items"]
            if pods:
                return str(pods[-1]["metadata"]["name"])
        return None


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
