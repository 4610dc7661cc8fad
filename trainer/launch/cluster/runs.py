"""The runs of the chart's releases, as the cluster knows them."""

from typing import Any

from trainer.launch.cluster.objects import RELEASE, Job
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError

_CHART = "app.kubernetes.io/name"


def labels(release: str) -> dict[str, str]:
    """What all objects of a release carry, however they were made; "" for those of any release."""
    return {_CHART: "mnist-train"} | ({RELEASE: release} if release else {})


def selector(release: str) -> str:
    """The same for a request."""
    return ",".join(f"{key}={value}" for key, value in labels(release).items())


def releases(kube: Kube, name: str = "") -> list[Job]:
    """The Jobs of the chart's releases in the namespace, oldest first; of one release, or of all."""
    found = kube.get("/apis/batch/v1/namespaces/{namespace}/jobs", labelSelector=selector(name))
    return sorted((Job.from_json(item) for item in found["items"]), key=lambda job: job.created)


def newest(kube: Kube, name: str) -> Job:
    """The Job of a release.

    Raises:
      LaunchError: there is none.
    """
    found = releases(kube, name)
    if not found:
        raise unknown(kube, name)
    return found[-1]


def unknown(kube: Kube, name: str) -> LaunchError:
    """The error that says that the cluster knows no such run."""
    return LaunchError(
        f"there is no run {name} in namespace {kube.namespace} of {kube.context}; `python -m trainer.launch list` "
        "shows those that are there, and `status --output=...` one that was kept",
        LaunchCode.NOT_STARTED,
    )


def command(verb: str, config: Any, kube: Kube) -> str:
    """The command that goes on with this release."""
    parts = [f"python -m trainer.launch {verb} --name={config.name}"]
    if config.namespace:
        parts.append(f"--namespace={kube.namespace}")
    if config.context:
        parts.append(f"--context={kube.context}")
    return " ".join(parts)
