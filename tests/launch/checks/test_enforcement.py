"""Whether the network enforces NetworkPolicies, by what a cluster has; `tests/e2e` has a cluster that does."""

import pathlib
from typing import Any

import pytest

from tests.support.api_server import Handler, Query, api_server
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.enforcement import check_enforcement
from trainer.launch.cluster.watches import Kube

POLICY = {"kind": "NetworkPolicy"}
READS = "any pod that connects to a worker reads its environment, credentials and files"
HIDDEN = " (this user may not list DaemonSets, which most are)"
NOT_FOUND = f"nothing that is known to enforce NetworkPolicies was found; without such, {READS}"


def daemon(name: str, ready: int = 3) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"numberReady": ready}}


def found(
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    version: str = "v1.36.1",
    groups: tuple[str, ...] = ("apps", "batch"),
    daemons: tuple[dict[str, Any], ...] | None = (),
    objects: tuple[dict[str, Any], ...] = (POLICY,),
) -> CheckResult:
    """What the check finds on such a cluster; no `daemons`: this user may not list them."""

    def answer(server: Handler, _: Query) -> None:
        path = server.path.split("?")[0]
        if path == "/version":
            server.reply({"gitVersion": version})
        elif path == "/apis":
            server.reply({"groups": [{"name": name} for name in groups]})
        elif daemons is None:
            server.refuse(403, "daemonsets.apps is forbidden")
        else:
            assert path == "/apis/apps/v1/daemonsets"
            server.reply({"items": list(daemons)})

    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    with api_server(answer, folder):
        (result,) = check_enforcement(Kube(), objects, "run")
    return result


@pytest.mark.parametrize(
    ("cluster", "enforcer"),
    [
        ({"groups": ("apps", "cilium.io")}, "Cilium"),
        ({"groups": ("crd.projectcalico.org",), "daemons": None}, "Calico"),
        ({"daemons": (daemon("node-exporter"), daemon("kube-router"))}, "kube-router"),
        ({"version": "v1.36.1+k3s1", "daemons": None}, "k3s"),
    ],
)
def test_a_known_enforcer(
    cluster: dict[str, Any], enforcer: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = found(tmp_path, monkeypatch, **cluster)
    assert result == CheckResult(Mark.OK, "network", f"{enforcer} is there, which enforces NetworkPolicies")


@pytest.mark.parametrize(
    "cluster",
    [
        {},
        {"daemons": None},
        {"daemons": (daemon("kube-flannel-ds"), daemon("calico-node", ready=0))},
        {"groups": ("apps", "networking.k8s.aws"), "daemons": (daemon("aws-node"),)},  # Installed, and off.
    ],
)
def test_none_is_a_note_that_says_what_it_means(
    cluster: dict[str, Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = found(tmp_path, monkeypatch, **cluster)
    where = "found" if cluster.get("daemons", ()) is not None else f"found{HIDDEN}"
    assert (result.mark, result.what) == (Mark.NOTE, "network")
    assert result.text == NOT_FOUND.replace("found", where)
    assert result.fix.startswith("`helm test run --namespace=")


def test_no_policy_is_a_note(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(tmp_path, monkeypatch, groups=("cilium.io",), objects=({"kind": "Job"},))
    assert (result.mark, result.what) == (Mark.NOTE, "network")
    assert result.text == f"no NetworkPolicy (networkPolicy.enabled=false): {READS}"
