"""The labels and annotations of the chart's objects and of those that Kubernetes makes of them. Nobody else spells one.

The chart writes its own in helm/templates/_names.tpl and helm/templates/job.yaml.
"""

from collections.abc import Mapping

CHART = "app.kubernetes.io/name"
RELEASE = "app.kubernetes.io/instance"
OUTPUT = "trainer/output"  # An annotation of the Job: where its run is kept; absent where it is kept nowhere.

JOB_NAME = "batch.kubernetes.io/job-name"
INDEX = "batch.kubernetes.io/job-completion-index"
POD_SECURITY = "pod-security.kubernetes.io/enforce"
QUEUE = "kueue.x-k8s.io/queue-name"

CHART_NAME = "mnist-train"  # As in helm/Chart.yaml.


def release_labels(release: str = "") -> dict[str, str]:
    """The labels of every object of a release, whether Helm or kubectl made it; of any release where none is named."""
    return {CHART: CHART_NAME} | ({RELEASE: release} if release else {})


def release_selector(release: str = "") -> str:
    """The label selector that finds the objects of a release; of any release where none is named."""
    return selector(release_labels(release))


def selector(labels: Mapping[str, str]) -> str:
    """The label selector that finds what has all of these labels."""
    return ",".join(f"{key}={value}" for key, value in labels.items())
