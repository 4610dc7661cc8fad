"""Which nodes may run a pod at all, whatever room they have, and why another may not."""

from collections.abc import Sequence

from trainer.core.json_types import Json

_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def may_run(node: Json, pod_spec: Json) -> bool:
    """Whether the node is ready, and the pod selects it and tolerates its taints."""
    return not why_not(node, pod_spec)


def why_not(node: Json, pod_spec: Json) -> str:
    """Why a node may not run the pod, as the end of a sentence about it; "" where it may."""
    ready = [c["status"] for c in node["status"].get("conditions", ()) if c["type"] == "Ready"]
    if ready and ready[0] != "True":
        return "not ready"
    labels = node["metadata"].get("labels", {})
    for key, value in pod_spec.get("nodeSelector", {}).items():
        if labels.get(key) != value:
            return f"without the label {key}={value}"
    for taint in node.get("spec", {}).get("taints", ()):
        if taint["effect"] in ("NoSchedule", "NoExecute") and not _tolerated(taint, pod_spec.get("tolerations", ())):
            if taint["key"] == _UNSCHEDULABLE:
                return "cordoned"
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"with the taint {taint['key']}{value}:{taint['effect']}"
    affinity = pod_spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not any(_matches(term, node) for term in required.get("nodeSelectorTerms", ())):
        return "outside of worker.affinity.nodeAffinity"
    return ""


def _tolerated(taint: Json, tolerations: Sequence[Json]) -> bool:
    for toleration in tolerations:
        if (toleration.get("effect") or taint["effect"]) != taint["effect"]:
            continue
        if (toleration.get("key") or taint["key"]) != taint["key"]:
            continue
        if toleration.get("operator", "Equal") == "Exists" or toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


def _matches(term: Json, node: Json) -> bool:
    """Whether a node fulfils all of a term's requirements; a term without any is fulfilled by none."""
    labels = node["metadata"].get("labels", {})
    fields = {"metadata.name": node["metadata"]["name"]}
    expressions, of_fields = term.get("matchExpressions", ()), term.get("matchFields", ())
    held = [_holds(one, labels) for one in expressions] + [_holds(one, fields) for one in of_fields]
    return bool(held) and all(held)


def _holds(requirement: Json, labels: Json) -> bool:
    value, values = labels.get(requirement["key"]), requirement.get("values", ())
    match requirement["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                return int(value or "") > int(values[0]) if operator == "Gt" else int(value or "") < int(values[0])
            except (ValueError, IndexError):
                return False
    return True  # An operator of a later Kubernetes: the scheduler knows.
