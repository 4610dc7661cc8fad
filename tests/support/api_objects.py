"""A run's Job, its pods and the nodes as JSON of the Kubernetes API, with only the fields that the launcher reads."""

from typing import Any

JOB_NAME = "big-1a2b3c4d"  # The release is "big".


def job(workers: int, status: dict[str, Any] | None = None) -> dict[str, Any]:
    """The Job of a run that has begun, or ended where `status` says so."""
    return {
        "metadata": {
            "name": JOB_NAME,
            "uid": "j",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"app.kubernetes.io/instance": "big"},
        },
        "spec": {"completions": workers},
        "status": status or {},
    }


def pod(index: int) -> dict[str, Any]:
    """A worker's pod, which runs."""
    running = {"name": "worker", "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}}}
    return {
        "metadata": {
            "name": f"{JOB_NAME}-{index}-abcde",
            "uid": f"p{index}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"batch.kubernetes.io/job-completion-index": str(index)},
            "annotations": {"filler": "x" * 4000},  # A real pod is 5 kB or more.
        },
        "spec": {"nodeName": f"node{index % 50}"},
        "status": {"phase": "Running", "containerStatuses": [running], "conditions": []},
    }


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", gpus: int = 0, **more: Any) -> dict[str, Any]:
    """A node that is ready and empty, or whose `labels`, `taints` and `ready` (a status) are others."""
    has = {"cpu": cpu, "memory": memory, "ephemeral-storage": "100Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/arch": "amd64", **more.get("labels", {})}},
        "spec": {"taints": more.get("taints", [])},
        "status": {"allocatable": has, "conditions": [{"type": "Ready", "status": more.get("ready", "True")}]},
    }
