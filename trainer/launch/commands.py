"""The launcher's commands on a cluster; each returns its exit code."""

import concurrent.futures
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Container, Sequence

from trainer.core.log_lines import Progress, StateLine
from trainer.launch import submission
from trainer.launch.checks import preflight
from trainer.launch.checks.check_result import Line
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.objects import JOB_NAME, Job, Pod, Seen, Warned, concerns, in_order, seconds
from trainer.launch.cluster.port_forward import Forward
from trainer.launch.cluster.removal import remove
from trainer.launch.cluster.runs import command, newest, releases, unknown
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import Attach, Logs, Look, Submit, Target, Where
from trainer.launch.helm import Chart, HelmError, the_job
from trainer.launch.report import finished_run
from trainer.launch.report.finished_run import FinishedRun
from trainer.launch.report.run_logs import RunLogs
from trainer.launch.report.snapshot import Snapshot
from trainer.launch.report.time_spent import Timeline
from trainer.launch.report.verdict import Verdict, duration
from trainer.launch.report.view import JsonView, TableView, View, open_view
from trainer.launch.report.watch import Watch
from trainer.launch.report.watched_run import End, watched_verdict
from trainer.launch.report.worker_activity import WorkerActivity


def submit(config: Submit, trainer_argv: Sequence[str]) -> int:
    """Checks, submits, and watches to the end."""
    if config.dry_run:
        print(submission.dry_run(config, trainer_argv, lambda line: print(line, file=sys.stderr, flush=True)), end="")
        return LaunchCode.DONE
    submission.make_chart(config, None, trainer_argv, "")  # What cannot be used is refused before anything else.
    with open_view(json_lines=config.json, prefixed=config.logs == "all") as view:
        view.say(str(preflight.helm(config.helm)))  # The first word comes before the slower ones.
        kube = Kube(config.context, config.namespace)
        job = submission.submit(config, kube, trainer_argv, view.say)
        if config.detach:
            view.say(f"follow it with: {command('attach', config, kube)}")
            return LaunchCode.DONE
        code = _watch(config, kube, job, view)
        if code == LaunchCode.NOT_STARTED:
            view.say(f"removing {config.name}, which never started")
            _chart(config, kube).uninstall()
        return code


def doctor(config: Submit, trainer_argv: Sequence[str]) -> int:
    """Only the checks."""
    failed = False

    def say(line: Line) -> None:
        nonlocal failed
        print(json.dumps(dataclasses.asdict(line)) if config.json else line, flush=True)
        failed = failed or line.failed

    what = "helm"
    try:
        say(preflight.helm(config.helm))
        what = "cluster"
        submission.prepare(config, Kube(config.context, config.namespace), trainer_argv, say)
    except LaunchError as error:
        if error.code == LaunchCode.USAGE:
            raise
        say(Line("FAIL", "helm" if isinstance(error, HelmError) else what, str(error)))
    return LaunchCode.NOT_STARTED if failed else LaunchCode.DONE


def attach(config: Attach) -> int:
    """Watches a run that was submitted before."""
    kube = Kube(config.context, config.namespace)
    job = newest(kube, config.name)
    with open_view(json_lines=config.json, prefixed=config.logs == "all") as view:
        return _watch(config, kube, job.name, view)


def status(config: Look) -> int:
    """How a run stands, or how it ended: with the exit code that watching it would have ended with."""
    run = _run(config)
    view: View = JsonView() if config.json else TableView()
    if isinstance(run, FinishedRun):
        verdict = run.verdict()
        view.end(verdict)
        return verdict.code
    kube, job = run
    seen = _look(kube, job)
    wanted = {row.worker for row in Snapshot.of(seen, 0, None, WorkerActivity()).shown(view.rows)}
    timeline, activity = _history(kube, seen, {0, *wanted})
    if seen.job.ended:
        verdict = _ended(seen, timeline)
        view.end(verdict)
        return verdict.code
    view.say(f"{config.name} has been going on for {duration(time.time() - seen.job.created)} as the job "
             f"{seen.job.name}")  # fmt: skip
    view.show(Snapshot.of(seen, timeline.attempt, timeline.progress, activity, timeline.step_seconds))
    if config.json and timeline.progress:
        view.log(0, timeline.progress.format())
    return LaunchCode.DONE


def logs(config: Logs) -> int:
    """Prints logs, worker by worker and oldest first; with --follow to the run's end, and ends as it ended."""
    run = _run(config)
    with open_view(json_lines=config.json, prefixed=config.logs == "all", live=False) as view:
        if isinstance(run, FinishedRun):
            _stored_logs(run, config.logs, view)
            return run.verdict().code if config.follow else LaunchCode.DONE
        kube, job = run
        if config.follow and not job.ended:
            return Watch(kube, job.name, view, logs=config.logs).run().code
        seen = _look(kube, job)
        if not seen.pods and "://" in job.output:
            _stored_logs(FinishedRun(job.output, job.run), config.logs, view)
        else:
            kept = _on_claim(job.output, job.run, config, kube) if job.output else "no output kept its log"
            RunLogs(kube, job, view, kept).show(seen.pods, config.logs)
        return _ended(seen).code if config.follow else LaunchCode.DONE


def _stored_logs(run: FinishedRun, wanted: str, view: View) -> None:
    lines = 0
    for lines, (worker, line) in enumerate(run.logs(wanted), 1):  # noqa: B007
        view.log(worker, line)
    if not lines:
        raise LaunchError(f"--logs={wanted}: there is no such log in {run.address}")


def _run(config: Look) -> tuple[Kube, Job] | FinishedRun:
    """The run that is meant: as the cluster knows it, or else where it was kept.

    Raises:
      LaunchError: neither knows it.
    """
    if config.output:
        return finished_run.newest_in_output(config.output, config.name)
    kube = Kube(config.context, config.namespace)
    if found := releases(kube, config.name):
        return kube, found[-1]
    try:
        job = the_job(_chart(config, kube).installed())
    except HelmError:
        raise unknown(kube, config.name) from None
    name, output = job["metadata"]["name"], Job.output_of(job["spec"])
    if "://" in output:
        return finished_run.newest_in_output(output, config.name, name)
    kept = "it had no output, so nothing was kept"
    if output:
        kept = _on_claim(output, f"{name}-*", config, kube)
    raise LaunchError(f"the job {name} of {config.name} is gone, and {kept}")


def _on_claim(output: str, run: str, config: Look, kube: Kube) -> str:
    """How a person reads a run on a claim: only pods can, and TensorBoard's does."""
    reader = f"kubectl --namespace={kube.namespace} exec deploy/{config.name[:51].removesuffix('-')}-tensorboard --"
    return (
        f"its run lies on the claim {output[4:]}: {reader} sh -c 'cat /runs/{run}/result.json' reads its result, and "
        f"{reader} sh -c 'cat /runs/{run}/workers/0/*' the log of its chief"
    )


def list_runs(config: Where) -> int:
    """The runs of the namespace, a line each."""
    kube = Kube(config.context, config.namespace)
    found = releases(kube)
    if config.json:
        for job in found:
            print(json.dumps(dataclasses.asdict(job)))
        return LaunchCode.DONE
    if not found:
        print(f"no runs in namespace {kube.namespace} of {kube.context}")
        return LaunchCode.DONE
    print(f"{'NAME':20} {'JOB':30} {'WORKERS':>7}  {'STATE':9} AGE")
    for job in found:
        state = job.ended or ("suspended" if job.suspended else "active")
        print(f"{job.release:20} {job.name:30} {job.workers:7}  {state:9} {duration(time.time() - job.created)}")
    return LaunchCode.DONE


def delete(config: Target) -> int:
    """Removes a run and all that was made for it, and waits until it is gone."""
    kube = Kube(config.context, config.namespace)
    with open_view(json_lines=config.json, prefixed=False, live=False) as view:
        if not remove(_chart(config, kube), kube):
            raise LaunchError(f"there is no run {config.name} in namespace {kube.namespace} of {kube.context}")
        view.say(f"{config.name} is gone from namespace {kube.namespace}")
    return LaunchCode.DONE


def _watch(config: Attach, kube: Kube, job: str, view: View) -> LaunchCode:
    watch = Watch(kube, job, view, logs=config.logs)
    back = f"come back with:  {command('attach', config, kube)}"
    try:
        with Forward(kube, config.name, view.say) if config.tensorboard else contextlib.nullcontext():
            verdict = watch.run(timeout=config.timeout, pending_timeout=config.pending_timeout)
    except LaunchError:  # The cluster says no more, as when credentials expire; the run does not depend on it.
        view.say(back)
        raise
    view.end(verdict)
    if verdict.goes_on:
        view.say(back)
        view.say(f"end it with:     {command('delete', config, kube)}")
    return verdict.code


def _look(kube: Kube, job: Job) -> Seen:
    """The run as it is now."""
    pods = kube.get("/api/v1/namespaces/{namespace}/pods", labelSelector=f"{JOB_NAME}={job.name}")["items"]
    events = kube.get("/api/v1/namespaces/{namespace}/events", fieldSelector="type=Warning")["items"]
    mine = [item for item in events if concerns(item, job.name)]
    warnings = sorted((Warned.from_json(item) for item in mine), key=lambda warned: warned.time)
    return Seen(job=job, pods=in_order(map(Pod.from_json, pods)), warnings=tuple(warnings))


def _ended(seen: Seen, timeline: Timeline | None = None) -> Verdict:
    """How a run ended that has; where its time went is known from the timeline alone."""
    timeline = timeline or Timeline()
    return watched_verdict(seen, End.JOB, timeline.spent(seen, seen.ended or time.time()), step=timeline.step)


def _history(kube: Kube, seen: Seen, workers: Container[int]) -> tuple[Timeline, WorkerActivity]:
    """What the logs of these workers, as far as they are there, tell of the past."""
    timeline, activity = Timeline(), WorkerActivity()
    pods = [pod for pod in seen.pods if pod.index in workers and pod.started is not None]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        told = pool.map(lambda pod: _told(kube, pod), pods)
    for pod, lines in zip(pods, told, strict=True):
        for stamp, state, progress in lines:
            activity.read(pod, state, progress)
            if pod.index == 0:
                timeline.take(stamp, state, progress)
        if pod.index == 0 and pod.finished:
            timeline.pod_lost(pod.finished)
    return timeline, activity


def _told(kube: Kube, pod: Pod) -> list[tuple[float, StateLine | None, Progress | None]]:
    """The state and progress lines of a pod's log; none where the log is gone with the pod or its node."""
    lines = []
    try:
        for stamp, text in kube.log(pod.name):
            state, progress = StateLine.parse(text), Progress.parse(text)
            if state or progress:
                lines.append((seconds(stamp) or 0.0, state, progress))
    except KubeError as error:
        if error.status in (401, 403):
            raise
    return lines


def _chart(config: Target, kube: Kube) -> Chart:
    return Chart(
        helm=config.helm, folder="", release=config.name, namespace=kube.namespace, context=kube.kubeconfig_context
    )
