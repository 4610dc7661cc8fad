"""What is asked of an API server, as whom, and how often: as kubectl does it."""

import pathlib
import time
from typing import Any

import pytest
import yaml

from tests.support.api_server import Handler, Query, api_server
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchError

NODES = "/api/v1/nodes"


def busy(server: Handler, seconds: str = "") -> None:
    """Answers that it has too much to do."""
    server.send_response(429)
    if seconds:
        server.send_header("Retry-After", seconds)
    server.send_header("Content-Length", "0")
    server.end_headers()


class Scripted:
    """A server that puts off the first requests, and counts all."""

    def __init__(self, *, busy_for: int = 0, retry_after: str = "") -> None:
        self.left, self.retry_after = busy_for, retry_after
        self.requests: list[tuple[str, Query]] = []
        self.headers: list[Any] = []

    def __call__(self, server: Handler, query: Query) -> None:
        self.requests.append((server.path.split("?")[0], query))
        self.headers.append(server.headers)
        if self.left:
            self.left -= 1
            busy(server, self.retry_after)
        elif server.path.endswith("reviews?"):
            server.reply({"status": {"allowed": True}})
        else:
            server.reply({"metadata": {"resourceVersion": "1"}, "items": []})


@pytest.mark.parametrize("asks", ["get", "review"])
def test_a_busy_server_is_asked_again(asks: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted(busy_for=2, retry_after="1")
    with api_server(script, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        began = time.monotonic()
        if asks == "get":
            assert Kube().get(NODES)["items"] == []
        else:
            assert Kube().may("create", "", "pods")
        assert time.monotonic() - began >= 2  # As it asks for.
    assert len(script.requests) == 3


@pytest.mark.parametrize("retry_after", ["", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "²", "99999"])
def test_a_server_that_stays_busy_is_named(
    retry_after: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted(busy_for=99, retry_after=retry_after)
    monkeypatch.setattr("trainer.launch.cluster.api_server._WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr("trainer.launch.cluster.api_server._LONGEST_WAIT", 0.1)
    with api_server(script, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        with pytest.raises(KubeError, match="was answered with 429"):
            Kube().get(NODES)
        assert len(script.requests) == 4
        with pytest.raises(KubeError):  # What changes something is asked for once.
            Kube().post("/api/v1/namespaces/{namespace}/configmaps", {})
        assert len(script.requests) == 5


def test_lists_are_asked_for_page_by_page(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Query] = []
    forgets = False

    def answer(server: Handler, query: Query) -> None:
        asked.append(query)
        page = int(query.get("continue", "0"))
        if forgets and page == 2:
            server.refuse(410, "the list is too old")
        elif "limit" not in query:
            server.reply({"metadata": {"resourceVersion": "8"}, "items": [0, 1, 2, 3]})
        else:
            more = {"continue": str(page + 1)} if page < 2 else {}
            server.reply({"metadata": {"resourceVersion": "7", **more}, "items": [page]})

    with api_server(answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        listed = Kube().list(NODES, labelSelector="a=b")
        assert (listed["items"], listed["metadata"]) == ([0, 1, 2], {"resourceVersion": "7"})
        assert {(query["limit"], query["labelSelector"]) for query in asked} == {("500", "a=b")}
        forgets = True
        assert Kube().list(NODES)["items"] == [0, 1, 2, 3]


def with_user(config: pathlib.Path, **user: Any) -> None:
    """Gives the kubeconfig's context a user."""
    value = yaml.safe_load(config.read_text())
    value["contexts"][0]["context"]["user"] = "me"
    value["users"] = [{"name": "me", "user": user}]
    config.write_text(yaml.safe_dump(value))


def test_who_acts_as_another_does_so_here_too(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm does, so what is checked and watched must be what that user may."""
    script = Scripted()
    with api_server(script, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        user = {
            "as": "jane",
            "as-uid": "7",
            "as-groups": ["dev", "ml"],
            "as-user-extra": {"acme.com/Scope": ["a", "b"]},
        }
        with_user(config, token="t", **user)
        kube = Kube()
        kube.get(NODES)
        (headers,) = script.headers
        assert headers["Authorization"] == "Bearer t"
        assert (headers["Impersonate-User"], headers["Impersonate-Uid"]) == ("jane", "7")
        assert headers.get_all("Impersonate-Group") == ["dev", "ml"]
        assert headers.get_all("Impersonate-Extra-acme.com%2Fscope") == ["a", "b"]
        with pytest.raises(KubeError, match="cannot be reached as another user; use kubectl port-forward"):
            kube.tunnel("pod", 6006)
        for odd, words in (
            ({"as-groups": ["dev"]}, "without `as`"),
            ({"as": "jane\nX: y"}, "acts as what no header can carry"),
            ({"as": "jane", "as-groups": [5]}, "acts as what no header can carry"),
        ):
            with_user(config, token="t", **odd)
            with pytest.raises(LaunchError, match=words):
                Kube()


def test_a_file_with_a_token_may_end_in_a_line_break(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted()
    (tmp_path / "token").write_text("from-a-file\n")
    with api_server(script, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        with_user(config, tokenFile=str(tmp_path / "token"))
        Kube().get(NODES)
    assert script.headers[0]["Authorization"] == "Bearer from-a-file"


def test_an_empty_file_among_several_is_passed_over(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted()
    (tmp_path / "empty").write_text("\n")
    with api_server(script, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/empty:{config}:/not/there:")
        assert Kube().get(NODES)["items"] == []
        monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/empty")
        with pytest.raises(LaunchError, match="no cluster to talk to: there is no kubeconfig"):
            Kube()


def test_a_proxy_for_other_machines_is_not_asked_for_this_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kind and minikube listen here."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    script = Scripted()
    with api_server(script, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        assert Kube().get(NODES)["items"] == []
        value = yaml.safe_load(config.read_text())
        value["clusters"][0]["cluster"]["proxy-url"] = "http://127.0.0.1:9"  # Asked for by name, it counts.
        config.write_text(yaml.safe_dump(value))
        with pytest.raises(KubeError, match="cannot be reached"):
            Kube().get(NODES)
