"""The runs of the chart's releases, as the cluster knows them."""

from trainer.launch.cluster.labels import release_selector
from trainer.launch.cluster.objects import Job
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import PROGRAM, ReleaseFlags

_LONGEST_TENSORBOARD_RELEASE = 51  # As the chart cuts it.


def release_jobs(kube: Kube, release: str = "") -> list[Job]:
    """The Jobs of a release in the namespace, oldest first; of all the chart's releases where none is named."""
    jobs = kube.list("/apis/batch/v1/namespaces/{namespace}/jobs", labelSelector=release_selector(release))
    return sorted((Job.from_json(item) for item in jobs["items"]), key=lambda job: job.created)


def newest_job(kube: Kube, release: str) -> Job:
    """The newest Job of a release.

    Raises:
      LaunchError: there is none.
    """
    jobs = release_jobs(kube, release)
    if not jobs:
        raise no_such_run(kube, release)
    return jobs[-1]


def no_such_run(kube: Kube, release: str) -> LaunchError:
    """The error that says that the cluster knows no such run."""
    return LaunchError(
        f"there is no run {release} in namespace {kube.namespace} of {kube.context}; `{PROGRAM} list` shows those that "
        "are there, and `status --output=...` one that was kept",
        LaunchCode.NOT_STARTED,
    )


def tensorboard_name(release: str) -> str:
    """The name of a release's TensorBoard: of its Service and, with an output, of its Deployment."""
    return f"{release[:_LONGEST_TENSORBOARD_RELEASE].removesuffix('-')}-tensorboard"


def next_command(command: str, flags: ReleaseFlags, kube: Kube) -> str:
    """The command line that goes on with the release that these flags name."""
    parts = [f"{PROGRAM} {command} --name={flags.name}"]
    if flags.namespace:
        parts.append(f"--namespace={kube.namespace}")
    if flags.context:
        parts.append(f"--context={kube.context}")
    return " ".join(parts)
