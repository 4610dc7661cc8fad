"""The launcher's commands on a cluster; each returns its exit code."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Sequence

from trainer import chart, preflight, stored_run, submission
from trainer.chart import Chart
from trainer.forward import Forward
from trainer.kube import Kube, KubeError
from trainer.launch_codes import LaunchCode, LaunchError
from trainer.launch_config import Attach, Delete, Logs, Submit, Target, Where
from trainer.observed import JOB_NAME, Job, Pod, Seen, Warned, in_order, seconds
from trainer.picture import Picture
from trainer.storage import StorageError, open_store
from trainer.timeline import Timeline
from trainer.verdict import End, duration, judge
from trainer.view import View, open_view
from trainer.watch import Watch


def submit(config: Submit, trainer_argv: Sequence[str]) -> int:
    """Checks, submits, and watches to the end."""
    made = submission.make_chart(config, None, trainer_argv, "")  # What cannot be used is refused before anything else.
    if config.dry_run:
        print(made.render(), end="")
        return LaunchCode.DONE
    with open_view(json_lines=config.json, prefixed=config.logs == "all") as view:
        view.say(str(preflight.helm(config.helm)))  # The first word comes before the slower ones.
        kube = Kube(config.context, config.namespace)
        job = submission.submit(config, kube, trainer_argv, view.say)
        if config.detach:
            view.say(f"follow it with: {submission.command('attach', config, kube)}")
            return LaunchCode.DONE
        code = _watch(config, kube, job, view)
        if code == LaunchCode.NOT_STARTED:
            view.say(f"removing {config.name}, which never started")
            _chart(config, kube).uninstall()
        return code


def doctor(config: Submit, trainer_argv: Sequence[str]) -> int:
    """Only the checks."""
    failed = False
    for line in _checks(config, trainer_argv):
        print(json.dumps(dataclasses.asdict(line)) if config.json else line, flush=True)
        failed = failed or line.failed
    return LaunchCode.NOT_STARTED if failed else LaunchCode.DONE


def _checks(config: Submit, trainer_argv: Sequence[str]) -> Iterator[preflight.Line]:
    yield preflight.helm(config.helm)
    kube = Kube(config.context, config.namespace)
    made = submission.make_chart(config, kube, trainer_argv, "")
    yield from preflight.check(kube, made, chart.objects(made.render()))


def attach(config: Attach) -> int:
    """Watches a run that was submitted before."""
    kube = Kube(config.context, config.namespace)
    job = submission.newest(kube, config.name)
    with open_view(json_lines=config.json, prefixed=config.logs == "all") as view:
        return _watch(config, kube, job.name, view)


def status(config: Target) -> int:
    """How a run stands, or how it ended: with the exit code that watching it would have ended with."""
    kube = Kube(config.context, config.namespace)
    seen = _look(kube, submission.newest(kube, config.name))
    timeline = _history(kube, seen)
    with open_view(json_lines=config.json, prefixed=False, live=False) as view:
        if seen.job.ended:
            verdict = judge(seen, End.JOB, timeline.spent(seen, seen.job.finished or time.time()))
            view.end(verdict)
            return verdict.code
        view.say(f"{config.name} has been going on for {duration(time.time() - seen.job.created)} as the job "
                 f"{seen.job.name}")  # fmt: skip
        view.show(Picture.of(seen, timeline.attempt, timeline.progress))
        if timeline.progress:
            view.log(0, timeline.progress.format())
    return LaunchCode.DONE


def logs(config: Logs) -> int:
    """Prints logs of pods that still are, oldest first; with --follow to the run's end."""
    kube = Kube(config.context, config.namespace)
    job = submission.newest(kube, config.name)
    prefixed = config.logs == "all"
    with open_view(json_lines=config.json, prefixed=prefixed, live=False) as view:
        if config.follow and not job.ended:
            return Watch(kube, job.name, view, logs=config.logs).run().code
        chosen = [pod for pod in _look(kube, job).pods if _chosen(pod, config.logs)]
        if not chosen and not _stored_logs(job, config.logs, view):
            raise LaunchError(
                f"no pod of {job.name} is left that --logs={config.logs} means, and no output that kept its log"
            )
        for pod in chosen:
            for _, line in kube.log(pod.name):
                view.log(pod.index, line)
    return LaunchCode.DONE


def _stored_logs(job: Job, logs: str, view: View) -> bool:
    """Shows the logs that the run's bucket has; returns whether there were any."""
    if "://" not in job.output:
        return False
    store = open_store(f"{job.output.rstrip('/')}/{job.run}")
    found = False
    try:
        for worker in range(job.workers):
            if logs in ("all", str(worker)) or (logs == "chief" and worker == 0):
                for _, lines in stored_run.logs(store, worker):
                    found = True
                    for line in lines.decode(errors="replace").splitlines():
                        view.log(worker, line)
    except StorageError as error:
        raise LaunchError(f"the logs in {job.output} cannot be read: {error}") from None
    return found


def list_runs(config: Where) -> int:
    """The runs of the namespace, a line each."""
    kube = Kube(config.context, config.namespace)
    found = submission.releases(kube)
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


def delete(config: Delete) -> int:
    """Removes a run and all that was made for it, and waits until it is gone."""
    kube = Kube(config.context, config.namespace)
    made = _chart(config, kube)
    if not made.deployed() and not submission.releases(kube, config.name):
        raise LaunchError(f"there is no run {config.name} in namespace {kube.namespace} of {kube.context}")
    made.uninstall()
    print(f"{config.name} is gone from namespace {kube.namespace}")
    return LaunchCode.DONE


def _watch(config: Attach, kube: Kube, job: str, view: View) -> LaunchCode:
    watch = Watch(kube, job, view, logs=config.logs)
    with Forward(kube, config.name, view.say) if config.tensorboard else contextlib.nullcontext():
        verdict = watch.run(timeout=config.timeout, pending_timeout=config.pending_timeout)
    view.end(verdict)
    if verdict.code in (LaunchCode.INTERRUPTED, LaunchCode.TIMEOUT):
        view.say(f"come back with:  {submission.command('attach', config, kube)}")
        view.say(f"end it with:     {submission.command('delete', config, kube)}")
    return verdict.code


def _look(kube: Kube, job: Job) -> Seen:
    """The run as it is now."""
    pods = kube.get("/api/v1/namespaces/{namespace}/pods", labelSelector=f"{JOB_NAME}={job.name}")["items"]
    events = kube.get("/api/v1/namespaces/{namespace}/events", fieldSelector="type=Warning")["items"]
    mine = [item for item in events if item["involvedObject"].get("name", "").startswith(job.name)]
    warnings = sorted((Warned.from_json(item) for item in mine), key=lambda warned: warned.time)
    return Seen(job=job, pods=in_order(map(Pod.from_json, pods)), warnings=tuple(warnings))


def _history(kube: Kube, seen: Seen) -> Timeline:
    """What the chief's logs, as far as they are there, tell of the past."""
    timeline = Timeline()
    for pod in seen.of(0):
        if pod.started is None:
            continue
        try:
            for stamp, text in kube.log(pod.name):
                timeline.read(seconds(stamp) or 0.0, text)
        except KubeError as error:
            if error.status in (401, 403):
                raise  # Otherwise the pod or its node is gone, and its log with it.
        if pod.finished:
            timeline.pod_lost(pod.finished)
    return timeline


def _chosen(pod: Pod, logs: str) -> bool:
    return logs == "all" or (logs == "chief" and pod.index == 0) or logs == str(pod.index)


def _chart(config: Submit | Delete, kube: Kube) -> Chart:
    return Chart(helm=config.helm, folder="", release=config.name, namespace=kube.namespace, context=kube.context)
