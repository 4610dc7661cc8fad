"""Whether the cluster's network enforces NetworkPolicies, which the API takes whether it does or not."""

import re
from collections.abc import Iterator, Sequence

from trainer.core.json_types import Json
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.watches import Kube

_CONSEQUENCE = "any pod that connects to a worker reads its environment, credentials and files"
_DOCUMENT = "docs/security.md"

_GROUPS = {
    "cilium.io": "Cilium",
    "crd.projectcalico.org": "Calico",
    "projectcalico.org": "Calico",
    "crd.antrea.io": "Antrea",
    "k8s.ovn.org": "OVN-Kubernetes",
    "kubeovn.io": "Kube-OVN",
}
"""API groups of those that enforce policies wherever they are installed. Amazon's VPC CNI brings a group, too, and
enforces nothing until it is told to.
"""

_DAEMONS = {
    "kube-router": "kube-router",
    "calico-node": "Calico",
    "canal": "Calico",
    "cilium": "Cilium",
    "antrea-agent": "Antrea",
    "weave-net": "Weave Net",
    "ovnkube-node": "OVN-Kubernetes",
    "kube-network-policies": "kube-network-policies",
    "azure-npm": "Azure Network Policy Manager",
}
"""Names of DaemonSets, as their own manifests have them."""


def check_enforcement(kube: Kube, objects: Sequence[Json], name: str) -> Iterator[CheckResult]:
    """Looks for a known enforcer. It proves nothing, and keeps no run from being submitted: `helm test` tries it.

    Args:
      kube: the cluster.
      objects: the chart's objects.
      name: the release.
    """
    if not any(value["kind"] == "NetworkPolicy" for value in objects):
        text = f"no NetworkPolicy (networkPolicy.enabled=false): {_CONSEQUENCE}"
        yield CheckResult(Mark.NOTE, "network", text, f"read {_DOCUMENT}")
        return
    enforcer = _by_version(kube) or _by_group(kube) or _by_daemon(kube)
    if enforcer:
        yield CheckResult(Mark.OK, "network", f"{enforcer} is there, which enforces NetworkPolicies")
        return
    where = "" if enforcer == "" else " (this user may not list DaemonSets, which most are)"
    text = f"nothing that is known to enforce NetworkPolicies was found{where}; without such, {_CONSEQUENCE}"
    fix = f"`helm test {name} --namespace={kube.namespace}` tries it while the run goes on; {_DOCUMENT} says more"
    yield CheckResult(Mark.NOTE, "network", text, fix)


def _by_version(kube: Kube) -> str:
    """K3s has an enforcer in its own program."""
    return "k3s" if re.search(r"\+k3s\d", str(kube.get("/version").get("gitVersion"))) else ""


def _by_group(kube: Kube) -> str:
    names = {group["name"] for group in kube.get("/apis").get("groups", ())}
    return next((enforcer for group, enforcer in _GROUPS.items() if group in names), "")


def _by_daemon(kube: Kube) -> str | None:
    """An enforcer without an API of its own; None where this user may not look at other namespaces."""
    try:
        found = kube.list("/apis/apps/v1/daemonsets")["items"]
    except KubeError as error:
        if error.status != 403:
            raise
        return None
    names = {value["metadata"]["name"] for value in found if value.get("status", {}).get("numberReady")}
    return next((enforcer for daemon, enforcer in _DAEMONS.items() if daemon in names), "")
