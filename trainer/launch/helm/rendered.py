"""The chart's objects as helm renders them."""

from collections.abc import Sequence

import yaml

from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json
from trainer.launch.helm.helm_program import HelmError

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(manifests: str) -> list[Json]:
    """The objects in rendered manifests, without those of `helm test`.

    Raises:
      HelmError: these are no manifests.
    """
    try:
        objects = [value for value in yaml.load_all(manifests, Loader=YAML_LOADER) if value]  # Both loaders are safe.
        return [value for value in objects if "helm.sh/hook" not in value["metadata"].get("annotations", {})]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        raise HelmError(f"helm printed something other than Kubernetes' objects: {manifests[:60]!r}") from None


def job_in(objects: Sequence[Json]) -> Json:
    """The Job among the chart's objects.

    Raises:
      UsageError: there is none.
    """
    for value in objects:
        if value.get("kind") == "Job":
            return value
    raise UsageError("this chart makes no Job; leave --chart out for the launcher's own")


def pod_spec(job: Json) -> Json:
    """The specification of a worker's pod."""
    spec: Json = job["spec"]["template"]["spec"]
    return spec


def experiment(job: Json) -> str:
    """The experiment that the workers train, as their arguments name it; "" where they name none."""
    given = [part for part in pod_spec(job)["containers"][0].get("args", ()) if part.startswith("--experiment=")]
    return str(given[-1]).partition("=")[2] if given else ""


def workers(job: Json) -> int:
    """The number of workers."""
    return int(job["spec"]["completions"])
