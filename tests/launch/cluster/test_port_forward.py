"""TensorBoard on this machine's port: what keeps it from being there is said."""

import contextlib
import os
import pathlib
import queue
import resource
import socket
import time

import pytest

from tests.support.api_server import Handler, Query, api_server
from trainer.launch.cluster import port_forward
from trainer.launch.cluster.port_forward import TensorBoardForward
from trainer.launch.cluster.watches import Kube

DEADLINE = 20.0


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port in place of TensorBoard's own, which this machine may have in use."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = int(probe.getsockname()[1])
    monkeypatch.setattr(port_forward, "PORT", number)
    return number


@pytest.fixture
def said() -> "queue.Queue[str]":
    return queue.Queue()


def cluster(server: Handler, _: Query) -> None:
    service = {"spec": {"selector": {"a": "b"}, "ports": [{"port": port_forward.PORT}]}}
    server.reply({"items": [service] if server.path.split("?")[0].endswith("services") else []})


def asked(port: int) -> bytes:
    """What a browser gets."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), DEADLINE) as browser:
        browser.settimeout(DEADLINE)
        return browser.recv(1)
    return b""


def test_a_port_that_is_taken(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, port: int, said: "queue.Queue[str]"
) -> None:
    with api_server(cluster, tmp_path) as config, socket.create_server(("127.0.0.1", port)):
        monkeypatch.setenv("KUBECONFIG", str(config))
        with TensorBoardForward(Kube(), "big", said.put):
            words = said.get(timeout=DEADLINE)
    assert (
        words == f"TensorBoard is not forwarded: port {port} of this machine cannot be opened (Address already in use)"
    )


@pytest.mark.parametrize("refused", [True, False])
def test_what_cannot_be_reached_is_said_once(
    refused: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, port: int, said: "queue.Queue[str]"
) -> None:
    def refuse(server: Handler, _: Query) -> None:
        server.refuse(403, "services is forbidden")

    with api_server(refuse if refused else cluster, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        with TensorBoardForward(Kube(), "big", said.put):
            assert said.get(timeout=DEADLINE) == f"TensorBoard, as soon as it runs: http://localhost:{port}"
            assert asked(port) == asked(port) == b""
            why = "services is forbidden" if refused else "none of its pods runs"
            assert said.get(timeout=DEADLINE) == f"TensorBoard cannot be reached: {why}"
    assert said.empty()


def test_without_room_for_files_it_listens_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, port: int, said: "queue.Queue[str]"
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with api_server(cluster, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        with TensorBoardForward(Kube(), "big", said.put), socket.socket() as browser:
            said.get(timeout=DEADLINE)
            browser.settimeout(DEADLINE)
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                browser.connect(("127.0.0.1", port))
                time.sleep(1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert browser.recv(1) == b""
            assert asked(port) == b""
            while said.get(timeout=DEADLINE) != "TensorBoard cannot be reached: none of its pods runs":
                pass  # It may have been accepted, and then there was no room for a question to the server.
