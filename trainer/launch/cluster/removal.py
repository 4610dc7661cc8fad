"""Removing a run and all that was made for it, by Helm or not."""

import queue
import time
from typing import Any

from trainer.launch.cluster.runs import selector
from trainer.launch.cluster.watches import Changed, Gone, Kube, Listed, News
from trainer.launch.codes import LaunchError
from trainer.launch.helm import Chart

_SECONDS = 300.0  # As helm has for it.
_WORK = ("/apis/batch/v1/namespaces/{namespace}/jobs", "/api/v1/namespaces/{namespace}/pods")
_REST = (
    "/apis/apps/v1/namespaces/{namespace}/deployments",
    "/api/v1/namespaces/{namespace}/services",
    "/api/v1/namespaces/{namespace}/serviceaccounts",
    "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
)


def remove(made: Chart, kube: Kube) -> bool:
    """Removes what carries the release's labels, and waits until its Jobs and pods are gone.

    Helm does it where it knows the release. What it leaves is the pod of a `helm test` that failed, and all of a run
    whose release it does not know, as after `kubectl apply -k k8s/`.

    Returns:
      Whether there was anything.

    Raises:
      LaunchError: helm or the cluster refused, or not all is gone after five minutes.
    """
    known = made.deployed()
    if known:
        made.uninstall()
    left = [
        f"{path}/{item['metadata']['name']}"
        for path in (*_WORK, *(() if known else _REST))
        for item in kube.get(path, labelSelector=selector(made.release))["items"]
        if not item["metadata"].get("ownerReferences")  # Those go with their owners.
    ]
    for path in left:
        kube.delete(path)
    if left:
        _wait(kube, made.release)
    return known or bool(left)


def _wait(kube: Kube, release: str) -> None:
    """Waits until no Job and no pod of the release is left."""
    news: queue.SimpleQueue[News] = queue.SimpleQueue()
    for path in _WORK:
        kube.watch(path, path, news.put, labelSelector=selector(release))
    there: dict[str, dict[str, Any]] = {}  # By what is watched: the objects by their UIDs.
    until = time.monotonic() + _SECONDS
    try:
        while len(there) < len(_WORK) or any(there.values()):
            match news.get(timeout=max(0.0, until - time.monotonic())):
                case Listed(kind=path, items=items):
                    there[path] = {item["metadata"]["uid"]: item for item in items}
                case Changed(kind=path, item=item):
                    there[path][item["metadata"]["uid"]] = item
                case Gone(kind=path, item=item):
                    there[path].pop(item["metadata"]["uid"], None)
                case LaunchError() as error:
                    raise error
    except queue.Empty:
        names = ", ".join(item["metadata"]["name"] for items in there.values() for item in items.values())
        raise LaunchError(
            f"{release} is being removed, and after {_SECONDS:g} s not all of it is gone: {names}; `kubectl "
            f"--namespace={kube.namespace} describe pods` says why"
        ) from None
    finally:
        kube.close()
