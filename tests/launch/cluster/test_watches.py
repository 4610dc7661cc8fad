"""Watches and logs that survive what an API server does to them."""

import pathlib
import queue
import threading

import pytest

from tests.support.api_server import Handler, Query, api_server, item, kubeconfig
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.watches import Changed, Connection, Gone, Kube, Listed, LogEnd, LogLine, News
from trainer.launch.codes import LaunchError

DEADLINE = 20.0
PODS = "/api/v1/namespaces/{namespace}/pods"


@pytest.fixture
def news() -> "queue.Queue[News]":
    return queue.Queue()


def test_a_watch_goes_on_after_closed_and_torn_streams_and_begins_anew_after_410(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, news: "queue.Queue[News]"
) -> None:
    asked: list[str] = []
    done = threading.Event()

    def answer(server: Handler, query: Query) -> None:
        if "watch" not in query:
            asked.append("list")
            version = 10 if asked.count("list") == 1 else 40
            server.reply({"metadata": {"resourceVersion": str(version)}, "items": [item("a", version)]})
            return
        asked.append(query["resourceVersion"])
        server.begin()
        match asked[-1]:
            case "10":
                server.send_event("MODIFIED", item("a", 11))
                server.end()  # As the server does after timeoutSeconds.
            case "11":
                server.send_event("BOOKMARK", item("", 20))
                server.send(b'{"type": "MODIFIED", "obj')  # Torn in the middle of an event.
                server.tear()
            case "20":
                server.send_event("ERROR", {"code": 410, "message": "too old resource version"})
                server.end()
            case "40":
                server.send_event("DELETED", item("a", 41))
                done.wait(DEADLINE)
                server.end()

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        kube = Kube()
        kube.watch("pod", PODS, news.put)
        told = [news.get(timeout=DEADLINE) for _ in range(4)]
        kube.close()
        done.set()
    assert told == [
        Listed("pod", (item("a", 10),)),
        Changed("pod", item("a", 11)),
        Listed("pod", (item("a", 40),)),
        Gone("pod", item("a", 41)),
    ]
    assert asked[:6] == ["list", "10", "11", "20", "list", "40"]


def test_an_api_server_that_is_away_is_waited_for_and_said(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, news: "queue.Queue[News]"
) -> None:
    monkeypatch.setattr("trainer.launch.cluster.watches._SAID_AFTER", 0.0)
    refusals = 2
    done = threading.Event()

    def answer(server: Handler, query: Query) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            server.refuse(503, "starting")
        elif "watch" in query:
            server.begin()
            done.wait(DEADLINE)
            server.end()
        else:
            server.reply({"metadata": {"resourceVersion": "1"}, "items": []})

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        kube = Kube()
        kube.watch("pod", PODS, news.put)
        assert news.get(timeout=DEADLINE) == Connection("starting")
        while isinstance(told := news.get(timeout=DEADLINE), Connection) and told.error:
            pass
        assert told == Connection(None)
        assert news.get(timeout=DEADLINE) == Listed("pod", ())
        kube.close()
        done.set()


def test_a_refusal_ends_a_watch(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, news: "queue.Queue[News]"
) -> None:
    with api_server(lambda server, _: server.refuse(403, "pods is forbidden"), tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        Kube().watch("pod", PODS, news.put)
        error = news.get(timeout=DEADLINE)
    assert isinstance(error, KubeError)
    assert (error.status, str(error)) == (403, "pods is forbidden")


def test_a_log_goes_on_after_a_torn_stream_without_a_line_twice(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, news: "queue.Queue[News]"
) -> None:
    since: list[str | None] = []

    def answer(server: Handler, query: Query) -> None:
        if not server.path.split("?")[0].endswith("/log"):
            server.reply({"metadata": {"uid": "u"}, "status": {"phase": "Succeeded"}})
            return
        since.append(query.get("sinceTime"))
        server.begin()
        server.send(b"2026-01-01T00:00:01.000000001Z one\n2026-01-01T00:00:01.000000002Z two\n2026-01-01T00:00:01.0")
        if len(since) == 1:
            server.tear()
            return
        server.send(b"00000003Z three\n")
        server.end()

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        Kube().follow("p", "u", news.put)
        told = [news.get(timeout=DEADLINE) for _ in range(4)]
    assert [line.text for line in told if isinstance(line, LogLine)] == ["one", "two", "three"]
    assert told[-1] == LogEnd("u")
    assert since == [None, "2026-01-01T00:00:01.000000002Z"]


def test_expired_credentials_are_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server(lambda server, _: server.refuse(401, "Unauthorized"), tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        with pytest.raises(KubeError, match=r"does not accept the credentials of context local .*log in") as error:
            Kube().get("/version")
    assert error.value.status == 401


def test_an_api_server_that_is_not_there(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:9")))
    with pytest.raises(KubeError, match=r"API server at http://127\.0\.0\.1:9 cannot be reached: .*refused"):
        Kube().get("/version")


def test_a_watch_that_cannot_be_read_says_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, news: "queue.Queue[News]"
) -> None:
    def answer(server: Handler, query: Query) -> None:
        if "watch" in query:
            server.begin()
            server.send(b"<html>log in</html>\n")
            server.end()
        else:
            server.reply({"metadata": {"resourceVersion": "1"}, "items": []})

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        Kube().watch("pod", PODS, news.put)
        assert news.get(timeout=DEADLINE) == Listed("pod", ())
        error = news.get(timeout=DEADLINE)
    assert isinstance(error, LaunchError)
    assert "gave an answer that cannot be used (watch pod): JSONDecodeError" in str(error)


@pytest.mark.parametrize("torn", [True, False])
@pytest.mark.parametrize("what", ["watch", "log"])
def test_streams_that_end_at_once_are_not_asked_for_without_a_pause(
    what: str, torn: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, news: "queue.Queue[News]"
) -> None:
    """No time is waited here: the pauses themselves are what is looked at."""
    pauses: list[float] = []
    enough = threading.Event()

    def answer(server: Handler, query: Query) -> None:
        if "watch" in query or "follow" in query:
            server.begin()
            server.tear() if torn else server.end()
        else:
            server.reply({"metadata": {"resourceVersion": "1", "uid": "u"}, "items": [], "status": {}})

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        kube = Kube()

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 6:
                kube.close()
                enough.set()

        monkeypatch.setattr(kube._closed, "wait", pause)
        kube.watch("pod", PODS, news.put) if what == "watch" else kube.follow("p", "u", news.put)
        assert enough.wait(DEADLINE)
    assert pauses == [0.2, 0.5, 1.0, 2.0, 5.0, 5.0]
