"""Removing a run and all that was made for it, by Helm or not."""

import time
from collections.abc import Sequence

from trainer.core.json_types import Json
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.labels import release_selector
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchError
from trainer.launch.helm.release import HelmRelease

_SECONDS = 300.0
_PAUSE = 0.2  # Seconds between two looks at what is being deleted: no watch, as a user may get what he may not watch.
_JOBS_AND_PODS = ("/apis/batch/v1/namespaces/{namespace}/jobs", "/api/v1/namespaces/{namespace}/pods")
_CODE = "/api/v1/namespaces/{namespace}/configmaps"  # The launcher makes them, not helm.
_OTHER_OBJECTS = (
    "/apis/apps/v1/namespaces/{namespace}/deployments",
    "/api/v1/namespaces/{namespace}/services",
    "/api/v1/namespaces/{namespace}/serviceaccounts",
    "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
)


def remove(release: HelmRelease, kube: Kube) -> bool:
    """Removes what carries the release's labels, and waits until it is gone.

    Helm removes a release that it knows. What it leaves is the pod of a `helm test` that failed, and all of a run whose
    release it does not know, as after `kubectl apply -k k8s/`.

    Returns:
      Whether there was anything.

    Raises:
      LaunchError: helm or the cluster refused, or not all is gone after five minutes.
    """
    known = release.exists()
    if known:
        uninstall(release, kube)
    paths = (*_JOBS_AND_PODS, _CODE) if known else (*_JOBS_AND_PODS, _CODE, *_OTHER_OBJECTS)
    rest = [
        f"{path}/{item['metadata']['name']}"
        for path in paths
        for item in _listed(kube, path, release.name)
        if not item["metadata"].get("ownerReferences")  # An object that has an owner goes with it.
    ]
    for path in rest:
        kube.delete(path)
    _wait(kube, release.name, rest)
    return known or bool(rest)


def uninstall(release: HelmRelease, kube: Kube) -> None:
    """Removes a release that helm knows, and waits until its objects are gone.

    Helm is not asked to wait: from 4.1 on its `--wait` misses deletions, and then ends after its whole time or too soon
    (https://github.com/helm/helm/issues/31766, https://github.com/helm/helm/issues/32261).

    Raises:
      LaunchError: helm or the cluster refused, or not all is gone after five minutes.
    """
    paths = _paths(kube, release.objects())
    release.uninstall()
    _wait(kube, release.name, paths)


def _paths(kube: Kube, objects: Sequence[Json]) -> list[str]:
    """Where the API server has these objects; none of a kind that it does not know any more."""
    paths = []
    served: dict[str, list[Json]] = {}  # By API version.
    for item in objects:
        version, metadata = str(item["apiVersion"]), item["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if version not in served:
            served[version] = (kube.find(root) or {"resources": []})["resources"]
        for resource in served[version]:
            if resource["kind"] == item["kind"] and "/" not in resource["name"]:
                where = f"namespaces/{metadata.get('namespace', '{namespace}')}/" if resource["namespaced"] else ""
                paths.append(f"{root}/{where}{resource['name']}/{metadata['name']}")
    return paths


def _listed(kube: Kube, path: str, release: str) -> list[Json]:
    """The objects of a release at a path."""
    try:
        items: list[Json] = kube.list(path, labelSelector=release_selector(release))["items"]
    except KubeError as error:
        if path == _CODE and error.status == 403:  # A user who may see none has sent none.
            return []
        raise
    return items


def _wait(kube: Kube, release: str, paths: Sequence[str]) -> None:
    """Waits until what is being deleted is gone. A Job goes after its pods; helm keeps what is annotated so."""
    until = time.monotonic() + _SECONDS
    while paths := [path for path in paths if _is_going(kube, path)]:
        if time.monotonic() > until:
            names = ", ".join(path.rpartition("/")[2] for path in paths)
            raise LaunchError(
                f"{release} is being removed, and after {_SECONDS:g} s not all of it is gone: {names}; `kubectl "
                f"--namespace={kube.namespace} describe pods` says why"
            )
        time.sleep(_PAUSE)


def _is_going(kube: Kube, path: str) -> bool:
    """Whether an object is being deleted, and still there."""
    item = kube.find(path)
    return item is not None and "deletionTimestamp" in item["metadata"]
