"""TensorBoard of a release at http://localhost:6006, through the API server: `--tensorboard`."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

from trainer.core import threads
from trainer.core.free_ports import loopback
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.labels import release_selector, selector
from trainer.launch.cluster.watches import Kube

PORT = 6006
_PIECE = 65536
_PAUSE = 0.5  # Seconds.


class TensorBoardForward:
    """Listens on this machine, and connects every connection to the pod that is TensorBoard at that moment."""

    def __init__(self, kube: Kube, release: str, say: Callable[[str], None]) -> None:
        """Notes what to forward; `__enter__` opens the port."""
        self._kube, self._release, self._say = kube, release, say
        self._listener: socket.socket | None = None
        self._told: set[str] = set()  # Why a browser got nothing, as far as that was said.

    def __enter__(self) -> "TensorBoardForward":
        """Begins to listen. Where the port is not free it says so, and watching goes on without it."""
        try:
            host = loopback()
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, PORT), family=family)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            self._say(f"TensorBoard is not forwarded: port {PORT} of this machine cannot be opened ({why})")
            return self
        threading.Thread(target=self._accept, args=(self._listener,), name="tensorboard", daemon=True).start()
        self._say(f"TensorBoard, as soon as it runs: http://localhost:{PORT}")
        return self

    def __exit__(self, *_: object) -> None:
        """Stops listening; open connections end with the process."""
        if self._listener:
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0:  # Closed by __exit__.
                    return
                time.sleep(_PAUSE)  # A browser that went away, or no room for another file.
                continue
            if not threads.start(threading.Thread(target=self._serve, args=(near,), daemon=True)):
                near.close()  # It asks again.

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):  # The browser sees a closed connection and asks again.
            try:
                pod = self._pod()
                if pod is None:
                    self._tell("none of its pods runs")
                    return
                far = self._kube.tunnel(pod, PORT)
            except KubeError as error:
                self._tell(str(error))
                return
            with contextlib.closing(
                far
            ):  # The client library's connection is like a socket, but not a context manager.
                back = threading.Thread(target=_pass, args=(far, near), daemon=True)
                back.start()
                _pass(near, far)
                back.join()

    def _tell(self, why: str) -> None:
        """Says why a browser gets nothing; once, since browsers ask again and again."""
        if why not in self._told:
            self._told.add(why)
            self._say(f"TensorBoard cannot be reached: {why}")

    def _pod(self) -> str | None:
        """The name of a running pod behind the release's TensorBoard Service; None: none runs."""
        path = "/api/v1/namespaces/{namespace}"
        services = self._kube.get(f"{path}/services", labelSelector=release_selector(self._release))["items"]
        for service in services:
            if all(port["port"] != PORT for port in service["spec"]["ports"]):
                continue
            labels = selector(service["spec"]["selector"])
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
