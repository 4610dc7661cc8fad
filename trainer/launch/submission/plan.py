"""What is submitted: the release with all values, the code that goes with it, the GPUs of a worker."""

import dataclasses
from collections.abc import Callable, Sequence

from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json
from trainer.launch import code_folder
from trainer.launch.checks.capacity import GPU
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster import labels
from trainer.launch.cluster.watches import Kube
from trainer.launch.code_folder import Code
from trainer.launch.flags import SubmitFlags
from trainer.launch.helm import own_files, pulled_chart, rendered
from trainer.launch.helm.helm_values import values_of
from trainer.launch.helm.release import HelmRelease

GPUS_KEY = ("worker", "gpus")  # Where the chart's values have a worker's GPUs.


def code_of(flags: SubmitFlags) -> Code | None:
    """What --code sends; raises UsageError for a folder that cannot be sent."""
    return code_folder.read(flags.code) if flags.code else None


def check_name(objects: Sequence[Json]) -> None:
    """Refuses a Job that the launcher's other commands would not find.

    Raises:
      UsageError: says why.
    """
    name = rendered.job_in(objects)["metadata"].get("labels", {}).get(labels.CHART)
    if name != labels.CHART_NAME:
        raise UsageError(
            f"the Job has the label {labels.CHART}={name}, and the launcher finds runs by {labels.CHART_NAME}; leave "
            "nameOverride out, or use helm"
        )


def experiment(objects: Sequence[Json]) -> str:
    """The experiment that these objects train."""
    return rendered.experiment(rendered.job_in(objects)) or Config().experiment


def release_of(
    flags: SubmitFlags, kube: Kube | None, trainer_argv: Sequence[str], run_id: str, code: Code | None
) -> HelmRelease:
    """The release with all values; raises UsageError for a flag of the training program that it would refuse."""
    with code_folder.importable(code):
        values = values_of(flags, trainer_argv, run_id)
    if code:
        values["code"] = code.value(flags.name)
    return HelmRelease(
        helm=flags.helm,
        name=flags.name,
        namespace=kube.namespace if kube else flags.namespace,
        context=kube.kubeconfig_context if kube else flags.context,
        chart=_chart(flags),
        files=flags.values,
        flag_values=values,
        sets=flags.set,
    )


def _chart(flags: SubmitFlags) -> str:
    if flags.chart.startswith(pulled_chart.SCHEME):
        return pulled_chart.folder(flags.chart, flags.helm, flags.chart_key)
    if flags.chart_key:
        what = f"--chart={flags.chart} is none" if flags.chart else "the launcher's own is none"
        raise UsageError(f"--chart_key={flags.chart_key} is for a chart in a registry, --chart=oci://...; {what}")
    return flags.chart or str(own_files.chart())


def say_contradictions(release: HelmRelease, report: Callable[[CheckResult], None]) -> None:
    """Says which values are given twice and differ."""
    for text in release.contradictions():
        report(CheckResult(Mark.NOTE, "values", text))


def gpus_found(gpus: int) -> CheckResult:
    """What is said of GPUs that nobody asked for."""
    text = f"{gpus} for each worker, found out from the nodes; --gpus_per_worker asks for others"
    return CheckResult(Mark.OK, "GPUs", text)


def gpus_of(job: Json) -> int:
    """The GPUs of a worker."""
    return int(rendered.pod_spec(job)["containers"][0]["resources"].get("limits", {}).get(GPU, 0))


def with_gpus(release: HelmRelease, gpus: int) -> HelmRelease:
    """The release with that many GPUs for each worker."""
    return dataclasses.replace(release, flag_values={**release.flag_values, "worker": {"gpus": gpus}})
