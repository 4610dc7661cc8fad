"""`delete` of what Helm knows, of what it does not, and of what it leaves."""

import json
import pathlib
from typing import Any, ClassVar

import pytest

from tests.support.api_server import Handler, Query, api_server
from trainer.launch import cli
from trainer.launch.codes import LaunchCode

KNOWN = "echo STATUS: deployed"
UNKNOWN = "echo 'Error: release: not found' >&2; exit 1"
MANIFEST = [
    ("v1", "Service", "mnist-train"),
    ("v1", "PersistentVolume", "of-the-cluster"),
    ("gone.example.com/v1", "Widget", "of-a-kind-that-is-gone"),
]
SERVED = {
    "/api/v1": [
        {"kind": "Service", "name": "services/status", "namespaced": True},
        {"kind": "Service", "name": "services", "namespaced": True},
        {"kind": "PersistentVolume", "name": "persistentvolumes", "namespaced": False},
    ]
}


class Objects:
    """The objects of a namespace; those that are deleted are gone when they are asked for."""

    GOING: ClassVar = {"deletionTimestamp": "2026-01-01T00:00:00Z"}

    def __init__(
        self, *, stay: bool = False, hidden: str = "", going: dict[str, int] | None = None, **objects: list[str]
    ) -> None:
        """`hidden`: a kind that this user may not list; `going`: how often what helm removed is still seen."""
        self.there, self.stay, self.hidden, self.going = objects, stay, hidden, going or {}
        self.asked: list[str] = []

    def answer(self, server: Handler, query: Query) -> None:
        path = server.path.split("?")[0]
        kind, _, name = path.partition("/namespaces/team/")[2].partition("/")
        if path in SERVED:
            return server.reply({"resources": SERVED[path]})
        if not kind or (name and server.command == "GET"):
            return self.found(server, path)
        if server.command == "DELETE":
            self.asked.append(f"{kind}/{name} {query['propagationPolicy']}")
            server.reply({})
        elif kind == self.hidden:
            server.refuse(403, f"{kind} is forbidden")
        else:
            assert query["labelSelector"] == "app.kubernetes.io/name=mnist-train,app.kubernetes.io/instance=mnist-train"
            items = [self.item(name) for name in self.there.get(kind, ())]
            server.reply({"metadata": {"resourceVersion": "1"}, "items": items})
        return None

    def found(self, server: Handler, path: str) -> None:
        self.going[path] = self.going.get(path, 0) - 1
        if self.going[path] < 0 and not self.stay:
            server.refuse(404, "not found")
        else:
            server.reply({"metadata": self.GOING})

    @staticmethod
    def item(name: str) -> dict[str, Any]:
        owned: dict[str, Any] = {"ownerReferences": [{}]} if name.startswith("owned") else {}
        return {"metadata": {"name": name, "uid": name, "resourceVersion": "2", **owned}}


def deleted(
    objects: Objects, helm: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> tuple[int, list[str]]:
    """The exit code, and what helm was asked."""
    program, asked = folder / "helm", folder / "asked"
    (folder / "manifest").write_text(
        "---\n".join(
            json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": name}}) + "\n"
            for version, kind, name in MANIFEST
        )
    )
    program.write_text(
        f"#!/bin/sh\necho $1 >> {asked}\n[ $1 != get ] || cat {folder}/manifest\n[ $1 = status ] || exit 0\n{helm}\n"
    )
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
    assert deleted(objects, KNOWN, tmp_path, monkeypatch, "--json") == (LaunchCode.DONE, ["status", "get", "uninstall"])
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


def test_what_helm_removed_is_waited_for(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["/api/v1/namespaces/team/services/mnist-train", "/api/v1/persistentvolumes/of-the-cluster"]
    objects = Objects(going={path: number + 1 for number, path in enumerate(paths)})
    assert deleted(objects, KNOWN, tmp_path, monkeypatch)[0] == LaunchCode.DONE
    assert [objects.going[path] for path in paths] == [-1, -1]  # Each was asked for until it was gone.
    assert "/apis/gone.example.com/v1" in objects.going


def test_what_helm_removed_and_does_not_go_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.launch.cluster.removal._SECONDS", 0.5)
    objects = Objects(going={"/api/v1/persistentvolumes/of-the-cluster": 1000})
    assert deleted(objects, KNOWN, tmp_path, monkeypatch)[0] == LaunchCode.FAILED
    assert "after 0.5 s not all of it is gone: of-the-cluster" in capsys.readouterr().err


def test_what_helm_keeps_is_not_waited_for(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Objects, "GOING", {})  # It has no time of deletion.
    objects = Objects(going={"/api/v1/persistentvolumes/of-the-cluster": 1000})
    assert deleted(objects, KNOWN, tmp_path, monkeypatch)[0] == LaunchCode.DONE
    assert objects.going["/api/v1/persistentvolumes/of-the-cluster"] == 999


def test_there_is_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deleted(Objects(), UNKNOWN, tmp_path, monkeypatch)[0] == LaunchCode.FAILED
    assert "error: there is no run mnist-train in namespace team of local" in capsys.readouterr().err
