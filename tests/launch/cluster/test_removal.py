"""`delete` of what Helm knows, of what it does not, and of what it leaves."""

import json
import pathlib
import threading
from typing import Any

import pytest

from tests.support.api_server import Handler, Query, api_server
from trainer.launch import cli
from trainer.launch.codes import LaunchCode

KNOWN = "echo STATUS: deployed"
UNKNOWN = "echo 'Error: release: not found' >&2; exit 1"


class Objects:
    """The objects of a namespace; those that are deleted go when their watchers have seen them go."""

    def __init__(self, *, stay: bool = False, hidden: str = "", **objects: list[str]) -> None:
        """`hidden`: a kind that this user may not list."""
        self.there, self.stay, self.hidden = objects, stay, hidden
        self.asked: list[str] = []
        self.deleted = threading.Event()

    def answer(self, server: Handler, query: Query) -> None:
        kind, _, name = server.path.split("?")[0].partition("/namespaces/team/")[2].partition("/")
        if server.command == "DELETE":
            self.asked.append(f"{kind}/{name} {query['propagationPolicy']}")
            server.reply({})
            if self.asked[-1].startswith(("pods", "jobs")):
                self.deleted.set()
        elif kind == self.hidden:
            server.refuse(403, f"{kind} is forbidden")
        elif "watch" in query:
            assert self.deleted.wait(20)
            server.begin()
            for name in () if self.stay else self.there.get(kind, ()):
                server.send_event("DELETED", self.item(name))
            server.end()
        else:
            assert query["labelSelector"] == "app.kubernetes.io/name=mnist-train,app.kubernetes.io/instance=mnist-train"
            items = [self.item(name) for name in self.there.get(kind, ())]
            server.reply({"metadata": {"resourceVersion": "1"}, "items": items})

    @staticmethod
    def item(name: str) -> dict[str, Any]:
        owned: dict[str, Any] = {"ownerReferences": [{}]} if name.startswith("owned") else {}
        return {"metadata": {"name": name, "uid": name, "resourceVersion": "2", **owned}}


def deleted(
    objects: Objects, helm: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> tuple[int, list[str]]:
    """The exit code, and what helm was asked."""
    program, asked = folder / "helm", folder / "asked"
    program.write_text(f"#!/bin/sh\necho $1 >> {asked}\n[ $1 = status ] || exit 0\n{helm}\n")
    program.chmod(0o755)
    with api_server(objects.answer, folder) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        code = cli.main(["delete", f"--helm={program}", *more])
    return code, asked.read_text().split()


def test_a_run_without_a_release_is_removed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = Objects(jobs=["mnist-train"], pods=["owned-0"], services=["mnist-train"], networkpolicies=["mnist-train"])
    assert deleted(objects, UNKNOWN, tmp_path, monkeypatch) == (LaunchCode.DONE, ["status"])
    names = ("jobs", "services", "networkpolicies")
    assert objects.asked == [f"{kind}/mnist-train Foreground" for kind in names]
    assert capsys.readouterr().out == "mnist-train is gone from namespace team\n"


def test_the_pod_of_a_test_that_failed_goes_with_the_release(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = Objects(pods=["mnist-train-test"])
    assert deleted(objects, KNOWN, tmp_path, monkeypatch, "--json") == (LaunchCode.DONE, ["status", "uninstall"])
    assert objects.asked == ["pods/mnist-train-test Foreground"]
    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["text"]) == ("notice", "mnist-train is gone from namespace team")


@pytest.mark.parametrize("helm", [KNOWN, UNKNOWN])
def test_code_that_no_job_owns_yet_goes_too(helm: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects(jobs=["mnist-train"], configmaps=["mnist-train-code-1", "owned-code-2"])
    assert deleted(objects, helm, tmp_path, monkeypatch)[0] == LaunchCode.DONE
    assert objects.asked == ["jobs/mnist-train Foreground", "configmaps/mnist-train-code-1 Foreground"]


def test_who_may_see_no_config_maps_has_sent_none(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects(hidden="configmaps", pods=["mnist-train-test"])
    assert deleted(objects, KNOWN, tmp_path, monkeypatch)[0] == LaunchCode.DONE
    assert deleted(Objects(hidden="services"), UNKNOWN, tmp_path, monkeypatch)[0] == LaunchCode.FAILED


def test_what_does_not_go_is_not_said_to_be_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.launch.cluster.removal._SECONDS", 0.5)
    assert deleted(Objects(stay=True, jobs=["stays"]), UNKNOWN, tmp_path, monkeypatch)[0] == LaunchCode.FAILED
    assert "mnist-train is being removed, and after 0.5 s not all of it is gone: stays" in capsys.readouterr().err


def test_there_is_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deleted(Objects(), UNKNOWN, tmp_path, monkeypatch)[0] == LaunchCode.FAILED
    assert "error: there is no run mnist-train in namespace team of local" in capsys.readouterr().err
