"""Odd HTTP, and messages of any form, to the port of a real agent: each is answered or closed, and nothing comes of it.

The port speaks as much of HTTP/1.1 as agents, kubelets and Prometheus need; all else is refused.
"""

import contextlib
import pathlib
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.agents import TOKEN, Run, running
from tests.support.forging import connected, hold, join, message, status
from trainer.core.causes import Cause

FUZZED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Two workers that train for as long as the tests of this module need."""
    flags, environ = ["--epochs=9000"], {"STEP_SECONDS": "0.05"}
    with running(tmp_path_factory.mktemp("run"), 2, trainer_flags=flags, environ=environ) as run:
        run.start_all()[0].wait_for_step(2)
        yield run
        assert_undisturbed(run)


def assert_undisturbed(run: Run) -> None:
    """It trains on, in its first attempt."""
    chief = run.agents[0]
    chief.wait_for_step(chief.step + 3)
    assert chief.progress[-1].attempt == 1
    for agent in run.agents.values():
        assert agent.process.poll() is None
        assert "Traceback" not in agent.text


def answers(port: int, sent: bytes, *, seconds: float = 5.0) -> list[int]:
    """The statuses of all answers on one connection, until it is closed or silent for so long."""
    received = b""
    with connected(port) as connection, contextlib.suppress(ConnectionError, TimeoutError):
        connection.sendall(sent)
        connection.settimeout(seconds)
        while data := connection.recv(1 << 16):
            received += data
    return [int(code) for code in re.findall(rb"(?:^|\n)HTTP/1\.1 (\d{3}) ", received)]


CHUNKS = b'9\r\n{"ask": "\r\n6\r\nstop"}\r\n0\r\n\r\n'


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (message(CHUNKS, Transfer_Encoding="chunked"), [400]),
        (message(CHUNKS, Transfer_Encoding="gzip, chunked", Content_Length="0"), [400]),
        (message(b"{}", Content_Length="2\r\nContent-Length: 3"), [400]),
        (message(b"{}", Content_Length="2, 2"), [400]),
        (message(b"{}", Content_Length="+2"), [400]),
        (message(b"{}", Content_Length="0x2"), [400]),
        (message(b"{}", Content_Length="2\r\nContent-Length : 3"), [400]),
        (message(b"{}", token=None, Authorization=f"Bearer x\r\nAuthorization: Bearer {TOKEN}"), [400]),
        (message(b"{}", token=None, authorization=f"bearer {TOKEN}"), [401]),
        (message(b"{}", token=None, Cookie=f"Authorization=Bearer {TOKEN}"), [401]),
        (message(b"{}", path=f"/rendezvous?token={TOKEN}", token=None), [401]),
        (message(b"{}", path="/RENDEZVOUS"), [404]),
        (message(b"{}", path="//rendezvous"), [404]),
        (message(b"{}", path="http://x/rendezvous"), [404]),
        (b"GET /healthz\r\n\r\n", [400]),
        (b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
        (b"GET /rendezvous HTTP/1.1\r\n\r\n", [404]),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", [405]),
        (b"CONNECT x:443 HTTP/1.1\r\n\r\n", [405]),
        (b"TRACE /healthz HTTP/1.1\r\n\r\n", [405]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.0\r\n\r\n", [200]),
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", [200]),
        (b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n", [200]),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.1\r\n: y\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.1\r\nX\r\n\r\n", [400]),
        (b"GET\t/healthz\tHTTP/1.1\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.1 \r\n\r\n", [400]),
        (b"GET /\xff\x00 HTTP/1.1\r\n\r\n", [404]),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", [431]),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70_000, [431]),
        # Nobody here sends a request before the answer to the last: the rest is passed over.
        (b"GET /healthz HTTP/1.1\r\n\r\n" * 3, [200]),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 99\r\n\r\n" + message({"ask": "stop"}), [200]),
        (message({"ask": "stop"}) * 3, [400]),
        (message(b"{}" + message(join(1, cause="final", code=64)), Content_Length="2"), [400]),
    ],
)
def test_odd_http(trained: Run, sent: bytes, expected: list[int]) -> None:
    found = answers(trained.ports[0], sent, seconds=0.5 if expected == [200] else 5.0)
    # A connection that may go on is given one 200 and stays open.
    assert found[:1] == expected, found
    assert len(found) == 1


def test_lines_without_returns_are_no_request(trained: Run) -> None:
    assert status(trained.ports[0], b"GET /healthz HTTP/1.1\n\n") == 0


def test_a_client_that_never_reads_costs_a_connection_and_no_memory(trained: Run) -> None:
    before = resident(trained)
    with contextlib.ExitStack() as crowd:
        for _ in range(100):
            connection = crowd.enter_context(connected(trained.ports[0]))
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                for _ in range(50):
                    connection.send(b"GET /metrics HTTP/1.1\r\n\r\n")
        time.sleep(2)
        assert trained.get(0, "/healthz") == (200, "ok\n")
        assert resident(trained) - before < 20_000  # kB


def resident(run: Run) -> int:
    text = pathlib.Path(f"/proc/{run.agents[0].process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.thorough
@FUZZED
@given(data=st.data())
def test_whatever_bytes(trained: Run, data: st.DataObject) -> None:
    """Without the token: some bytes of a request changed, left out, or repeated."""
    sent = bytearray(message(join(1, cause="final", code=64), token="not it"))
    for _ in range(data.draw(st.integers(0, 6))):
        at, end = sorted((data.draw(st.integers(0, len(sent))), data.draw(st.integers(0, len(sent)))))
        sent[at:end] = data.draw(st.binary(max_size=20) | st.just(bytes(sent[at:end]) * 2))
    with connected(trained.ports[0]) as connection, contextlib.suppress(OSError):
        connection.sendall(sent)
        connection.settimeout(0.05)
        assert connection.recv(100)[:12] in (b"", *(b"HTTP/1.1 %d" % code for code in (400, 401, 404, 405, 413, 431)))


OTHER = {  # Of each field, what is neither as it was nor what another run's worker says, which ends this one.
    "index": JSON.filter(lambda value: value not in (0, 1)),
    "workers": JSON.filter(lambda value: not isinstance(value, int) or isinstance(value, bool)),
    "token": JSON.filter(lambda value: not isinstance(value, str)),
    "ended": JSON.filter(lambda value: not isinstance(value, dict)),  # {} says of a worker that it is new.
    "flags": JSON.filter(lambda value: not isinstance(value, list) or not all(isinstance(one, str) for one in value)),
    "attempt": JSON.filter(lambda value: not isinstance(value, int)),
}


@FUZZED
@given(data=st.data())
def test_whatever_a_worker_says_that_has_the_token(trained: Run, data: st.DataObject) -> None:
    """One field is of another kind."""
    said: dict[str, Any] = data.draw(st.sampled_from([join(0, token="x"), hold(7), hold(0, attempt=99)]))
    fields = said["join"] if said["ask"] == "meet" else said
    name = data.draw(st.sampled_from([name for name in fields if name != "ask"]))
    changed = {**fields, name: data.draw(OTHER[name])}
    with connected(trained.ports[0]) as connection:
        connection.sendall(message({"ask": "meet", "join": changed} if said["ask"] == "meet" else changed))
        connection.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            assert connection.recv(100)[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 400")


ENDED = st.fixed_dictionaries(
    {
        "cause": st.sampled_from([cause.value for cause in Cause]),
        "code": st.integers(0, 255),
        "attempt": st.integers(0, 3) | st.just(2 * 10**9),
        "step": st.integers(0, 2**53),
        "errors": st.lists(st.text(max_size=20), max_size=3),
    }
)


# A failing example is not made smaller: each costs a process.
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(asked=st.lists(st.tuples(st.integers(0, 3), ENDED), min_size=1, max_size=6))
def test_whatever_workers_say_the_agent_ends_in_order(asked: list[tuple[int, dict[str, Any]]]) -> None:
    """Messages of the right form, one after the other, as broken agents that have the token might send them."""
    with tempfile.TemporaryDirectory() as folder, running(pathlib.Path(folder), 2) as run:
        chief = run.start(0)
        chief.wait_for_line("state=meeting")
        with contextlib.ExitStack() as crowd:
            for index, ended in asked:
                with contextlib.suppress(OSError):  # It has ended.
                    connection = crowd.enter_context(connected(run.ports[0]))
                    connection.sendall(message(join(index, **ended)))
                    connection.settimeout(0.1)
                    connection.recv(100)
        chief.process.terminate()
        gone = -signal.SIGTERM  # It was on its way out already.
        assert chief.end() in {143, gone, 64, 75, *(ended["code"] for _, ended in asked)}
        assert "Traceback" not in chief.text, chief.text
