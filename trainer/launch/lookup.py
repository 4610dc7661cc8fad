"""Finding a run, on the cluster or where it was kept, and what is known of it."""

import concurrent.futures
from collections.abc import Container

from trainer.core.log_lines import Progress, StateLine
from trainer.core.run_dir import RESULT, WORKERS, run_name
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.labels import JOB_NAME
from trainer.launch.cluster.objects import Job, Pod, Seen, Warned, concerns, in_order, output_of, seconds
from trainer.launch.cluster.runs import no_such_run, release_jobs, tensorboard_name
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchError
from trainer.launch.flags import ReleaseFlags, StatusFlags
from trainer.launch.helm import rendered
from trainer.launch.helm.helm_program import HelmError
from trainer.launch.helm.release import HelmRelease
from trainer.launch.report import finished_run
from trainer.launch.report.finished_run import FinishedRun
from trainer.launch.report.time_spent import Timeline
from trainer.launch.report.worker_activity import WorkerActivity


def find_run(flags: StatusFlags) -> tuple[Kube, Job] | FinishedRun:
    """The newest run of a release: as the cluster knows it, or else where it was kept.

    Raises:
      LaunchError: neither knows it.
    """
    if flags.output:
        return finished_run.newest_in_output(flags.output, flags.name)
    kube = Kube(flags.context, flags.namespace)
    if jobs := release_jobs(kube, flags.name):
        return kube, jobs[-1]
    try:
        job = rendered.job_in(existing_release(flags, kube).objects())
    except HelmError:
        raise no_such_run(kube, flags.name) from None
    name, output = job["metadata"]["name"], output_of(job)
    if "://" in output:
        return finished_run.newest_in_output(output, flags.name, name)
    where = "it had no output, so nothing was kept"
    if output:
        where = on_claim(output, run_name(name, "*"), flags.name, kube)
    raise LaunchError(f"the job {name} of {flags.name} is gone, and {where}")


def existing_release(flags: ReleaseFlags, kube: Kube) -> HelmRelease:
    """The release as helm knows it, without a chart or values."""
    return HelmRelease(helm=flags.helm, name=flags.name, namespace=kube.namespace, context=kube.kubeconfig_context)


def on_claim(output: str, run: str, release: str, kube: Kube) -> str:
    """How a person reads a run on a claim: only pods can read it, and TensorBoard's does.

    Args:
      output: pvc:NAME.
      run: the run's name; it may be a pattern of the shell.
      release: the release.
      kube: the cluster.
    """
    tensorboard = f"kubectl --namespace={kube.namespace} exec deploy/{tensorboard_name(release)} --"
    return (
        f"its run lies on the claim {output.removeprefix('pvc:')}: {tensorboard} sh -c 'cat /runs/{run}/{RESULT}' "
        f"reads its result, and {tensorboard} sh -c 'cat /runs/{run}/{WORKERS}/0/*' the log of its chief"
    )


def observe(kube: Kube, job: Job) -> Seen:
    """The run as the cluster knows it now."""
    pods = kube.list("/api/v1/namespaces/{namespace}/pods", labelSelector=f"{JOB_NAME}={job.name}")["items"]
    events = kube.list("/api/v1/namespaces/{namespace}/events", fieldSelector="type=Warning")["items"]
    warnings = [Warned.from_json(event) for event in events if concerns(event, job.name)]
    return Seen(
        job=job,
        pods=in_order(map(Pod.from_json, pods)),
        warnings=tuple(sorted(warnings, key=lambda warning: warning.time)),
    )


def read_logs(kube: Kube, seen: Seen, workers: Container[int]) -> tuple[Timeline, WorkerActivity]:
    """What the logs of these workers, as far as they still exist, say of the run's past."""
    timeline, activity = Timeline(), WorkerActivity()
    pods = [pod for pod in seen.pods if pod.index in workers and pod.started is not None]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        logs = pool.map(lambda pod: _log(kube, pod), pods)
    for pod, lines in zip(pods, logs, strict=True):
        for time, state, progress in lines:
            activity.read(pod, state, progress)
            if pod.index == 0:
                timeline.take(time, state, progress)
        if pod.index == 0 and pod.finished:
            timeline.pod_lost(pod.finished)
    return timeline, activity


def _log(kube: Kube, pod: Pod) -> list[tuple[float, StateLine | None, Progress | None]]:
    """The state and progress lines of a pod's log, each with its Unix time; none where the log is gone."""
    lines = []
    try:
        for stamp, text in kube.log(pod.name):
            state, progress = StateLine.parse(text), Progress.parse(text)
            if state or progress:
                lines.append((seconds(stamp) or 0.0, state, progress))
    except KubeError as error:  # The pod or its node is gone.
        if error.status in (401, 403):
            raise
    return lines
