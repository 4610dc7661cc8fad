"""The ConfigMap that brings code to the pods: made before the Job, which then owns it, so that it goes with the Job."""

from trainer.core.json_types import Json
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.watches import Kube

_PATH = "/api/v1/namespaces/{namespace}/configmaps"
_CONFLICT = 409


def put(kube: Kube, config_map: Json) -> None:
    """Makes it; one of that name has that content, and is kept for the next Job.

    Raises:
      KubeError: with what the server said.
    """
    try:
        kube.post(_PATH, config_map)
    except KubeError as error:
        if error.status != _CONFLICT:
            raise
        # Its owner is the Job that is about to go, and would take it along.
        kube.patch(f"{_PATH}/{config_map['metadata']['name']}", {"metadata": {"ownerReferences": None}})


def give_to(kube: Kube, name: str, job: str) -> None:
    """Makes a Job its owner; nothing where the Job has gone again already.

    Raises:
      KubeError: with what the server said.
    """
    owner = kube.find(f"/apis/batch/v1/namespaces/{{namespace}}/jobs/{job}")
    if owner is None:
        return
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": owner["metadata"]["uid"]}
    kube.patch(f"{_PATH}/{name}", {"metadata": {"ownerReferences": [reference]}})


def drop(kube: Kube, name: str) -> None:
    """Removes it; raises as `put`."""
    kube.delete(f"{_PATH}/{name}")
