"""Kubeconfigs as people have them: contexts that are not there, credentials that cannot be got."""

import pathlib
from typing import Any

import pytest
import yaml

from tests.support.api_server import Handler, Query, api_server, kubeconfig
from trainer.launch import cli
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError

USER = "me"


@pytest.fixture
def config(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A good one, which `write` writes as it is by then."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:9")))
    return dict(yaml.safe_load((tmp_path / "kubeconfig").read_text()))


def write(folder: pathlib.Path, config: dict[str, Any], **user: Any) -> None:
    if user:
        config["users"] = [{"name": USER, "user": user}]
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))


def test_a_context_that_is_named_needs_no_current_one(tmp_path: pathlib.Path, config: dict[str, Any]) -> None:
    for current in ({}, {"current-context": "gone"}):
        write(tmp_path, {**{key: config[key] for key in config if key != "current-context"}, **current})
        kube = Kube("local")
        assert (kube.context, kube.kubeconfig_context, kube.namespace) == ("local", "local", "team")
    with pytest.raises(LaunchError, match="the current context gone is not in the kubeconfig, which has: local"):
        Kube()
    write(tmp_path, {key: config[key] for key in config if key != "current-context"})
    with pytest.raises(LaunchError, match="names no current context, --context= can be one of: local"):
        Kube()


def test_a_context_may_have_the_name_of_what_is_none(tmp_path: pathlib.Path, config: dict[str, Any]) -> None:
    context = {"cluster": "local", "user": USER}
    write(tmp_path, {**config, "contexts": [{"name": "in-cluster", "context": context}]})
    assert Kube("in-cluster").kubeconfig_context == "in-cluster"


def test_inside_a_cluster_the_namespace_is_the_pods_own(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    monkeypatch.setattr("trainer.launch.cluster.kubeconfig._INSIDE", tmp_path / "namespace")
    # It reads files below /var/run, which only a pod has.
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda **_: None)
    assert Kube().namespace == "default"
    (tmp_path / "namespace").write_text("own\n")
    kube = Kube()
    assert (kube.context, kube.kubeconfig_context, kube.namespace) == ("in-cluster", "", "own")
    assert Kube(namespace="other").namespace == "other"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}}, "process returned 1; log in"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/no/plugin"}}, "/no/plugin"),
        ({"token": "one\ntwo"}, "characters that none may have, such as a line break"),
        ({"auth-provider": {"name": "gcp"}}, "context local of the kubeconfig"),
    ],
)
def test_credentials_that_cannot_be_used(
    user: dict[str, Any], words: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    write(tmp_path, config, **user)
    assert cli.main(["list"]) == LaunchCode.FAILED
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("error: ")
    assert "two" not in said
    assert len(said.splitlines()) == 1


def test_a_plugin_that_fails_later_is_named(tmp_path: pathlib.Path, config: dict[str, Any]) -> None:
    plugin = tmp_path / "plugin"
    status = '{"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"}'
    answer = f'{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {status}}}'
    plugin.write_text(f"#!/bin/sh\necho '{answer}'\n")
    plugin.chmod(0o755)
    write(tmp_path, config, exec={"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)})
    kube = Kube()
    plugin.write_text("#!/bin/sh\necho 'session is over' >&2; exit 3\n")
    with pytest.raises(KubeError, match=r"process returned 3\. session is over; log in to the cluster again") as error:
        kube.get("/version")
    assert error.value.status == 401


def test_a_proxy_that_is_no_address(tmp_path: pathlib.Path, config: dict[str, Any]) -> None:
    cluster = {"server": "http://127.0.0.1:9", "proxy-url": "nonsense://x"}
    write(tmp_path, {**config, "clusters": [{"name": "local", "cluster": cluster}]})
    with pytest.raises(LaunchError, match=r"the cluster of context local cannot be asked: .*nonsense"):
        Kube().get("/version")


def test_a_certificate_that_is_not_checked_is_known(tmp_path: pathlib.Path, config: dict[str, Any]) -> None:
    assert Kube().verified
    cluster = {"server": "https://127.0.0.1:9", "insecure-skip-tls-verify": True}
    write(tmp_path, {**config, "clusters": [{"name": "local", "cluster": cluster}]})
    assert not Kube().verified


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[1]"])
def test_an_address_of_something_else(
    body: bytes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(server: Handler, _: Query) -> None:
        server.send_response(200)
        server.send_header("Content-Length", str(len(body)))
        server.end_headers()
        server.wfile.write(body)

    with api_server(answer, tmp_path) as path:
        monkeypatch.setenv("KUBECONFIG", str(path))
        assert cli.main(["list"]) == LaunchCode.FAILED
    said = capsys.readouterr().err
    assert "does not answer as the API server of a cluster does: GET /apis/batch/v1/namespaces/team/jobs gave " in said
    assert body.decode()[:3] in said
