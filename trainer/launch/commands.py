"""The launcher's commands on a cluster; each returns its exit code."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Sequence

from trainer.core.safe_text import printable
from trainer.launch.checks import preflight
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.objects import Seen
from trainer.launch.cluster.port_forward import TensorBoardForward
from trainer.launch.cluster.removal import remove
from trainer.launch.cluster.runs import newest_job, next_command, release_jobs
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import AttachFlags, ClusterFlags, LogsFlags, ReleaseFlags, StatusFlags, SubmitFlags
from trainer.launch.helm.helm_program import HelmError
from trainer.launch.lookup import existing_release, find_run, observe, on_claim, read_logs
from trainer.launch.report.finished_run import FinishedRun
from trainer.launch.report.run_logs import RunLogs
from trainer.launch.report.snapshot import Snapshot
from trainer.launch.report.time_spent import Timeline
from trainer.launch.report.verdict import Verdict, duration
from trainer.launch.report.view import JsonView, TableView, View, open_view
from trainer.launch.report.watch import Watch
from trainer.launch.report.watched_run import End, watched_verdict
from trainer.launch.report.worker_activity import WorkerActivity
from trainer.launch.submission import dry_run, submission


def submit(flags: SubmitFlags, trainer_argv: Sequence[str]) -> int:
    """Checks, submits, and watches to the end."""
    submission.validate(flags, trainer_argv)
    if flags.dry_run:
        print(dry_run.manifests(flags, trainer_argv, _to_stderr), end="")
        return LaunchCode.DONE
    with open_view(json_lines=flags.json, prefixed=flags.logs == "all") as view:
        helm = preflight.check_helm(flags.helm)
        view.say(str(helm), check=vars(helm))  # So that a person reads something before the slower checks.
        kube = Kube(flags.context, flags.namespace)
        job = submission.submit(flags, kube, trainer_argv, view.say)
        if flags.detach:
            view.say(f"follow it with: {next_command('attach', flags, kube)}")
            return LaunchCode.DONE
        code = _watch(flags, kube, job, view)
        if code == LaunchCode.NOT_STARTED:
            view.say(f"removing {flags.name}, which never started")
            remove(existing_release(flags, kube), kube)  # All of it: what helm has let go of may still be there.
        return code


def doctor(flags: SubmitFlags, trainer_argv: Sequence[str]) -> int:
    """Makes the checks of submit, and nothing else."""
    submission.validate(flags, trainer_argv)
    failed = False

    def report(result: CheckResult) -> None:
        nonlocal failed
        print(json.dumps(dataclasses.asdict(result)) if flags.json else printable(str(result)), flush=True)
        failed = failed or result.failed

    subject = "helm"
    try:
        report(preflight.check_helm(flags.helm))
        subject = "cluster"
        submission.prepare(flags, Kube(flags.context, flags.namespace), trainer_argv, report)
    except LaunchError as error:
        if error.code == LaunchCode.USAGE:
            raise
        report(CheckResult(Mark.FAIL, "helm" if isinstance(error, HelmError) else subject, str(error)))
    return LaunchCode.NOT_STARTED if failed else LaunchCode.DONE


def attach(flags: AttachFlags) -> int:
    """Watches a run that was submitted before."""
    kube = Kube(flags.context, flags.namespace)
    job = newest_job(kube, flags.name)
    with open_view(json_lines=flags.json, prefixed=flags.logs == "all") as view:
        return _watch(flags, kube, job.name, view)


def status(flags: StatusFlags) -> int:
    """Says how a run stands, or how it ended: then with the exit code that watching it would have ended with."""
    run = find_run(flags)
    view: View = JsonView() if flags.json else TableView()
    if isinstance(run, FinishedRun):
        verdict = run.verdict()
        view.end(verdict)
        return verdict.code
    kube, job = run
    seen = observe(kube, job)
    # The choice of workers that have a row does not depend on logs, so that only theirs are read.
    rows = Snapshot.of(seen, 0, None, WorkerActivity()).shown(view.rows)
    timeline, activity = read_logs(kube, seen, {0, *(row.worker for row in rows)})
    if job.ended:
        verdict = _ended(seen, timeline)
        view.end(verdict)
        return verdict.code
    age = duration(time.time() - job.created)
    view.say(f"{flags.name} has been going on for {age} as the job {job.name}")
    view.show(Snapshot.of(seen, timeline.attempt, timeline.progress, activity, timeline.step_seconds))
    if flags.json and timeline.progress:
        view.log(0, timeline.progress.format())
    return LaunchCode.DONE


def logs(flags: LogsFlags) -> int:
    """Prints logs, worker by worker and oldest first; with --follow until the run ends, and ends as it ended."""
    run = find_run(flags)
    with open_view(json_lines=flags.json, prefixed=flags.logs == "all", live=False) as view:
        if isinstance(run, FinishedRun):
            _show_stored_logs(run, flags.logs, view)
            return run.verdict().code if flags.follow else LaunchCode.DONE
        kube, job = run
        if flags.follow and not job.ended:
            return Watch(kube, job.name, view, logs=flags.logs).run().code
        seen = observe(kube, job)
        if not seen.pods and "://" in job.output:
            _show_stored_logs(FinishedRun(job.output, job.run), flags.logs, view)
        else:
            where = "no output kept its log"
            if job.output:
                where = on_claim(job.output, job.run, flags.name, kube)
            RunLogs(kube, job, view, where).show(seen.pods, flags.logs)
        return _ended(seen).code if flags.follow else LaunchCode.DONE


def list_runs(flags: ClusterFlags) -> int:
    """Lists the runs of the namespace, a line each."""
    kube = Kube(flags.context, flags.namespace)
    jobs = release_jobs(kube)
    if flags.json:
        for job in jobs:
            print(json.dumps(dataclasses.asdict(job)))
        return LaunchCode.DONE
    if not jobs:
        print(f"no runs in namespace {kube.namespace} of {kube.context}")
        return LaunchCode.DONE
    print(f"{'NAME':20} {'JOB':30} {'WORKERS':>7}  {'STATE':9} AGE")
    for job in jobs:
        state = job.ended or ("suspended" if job.suspended else "active")
        print(f"{job.release:20} {job.name:30} {job.workers:7}  {state:9} {duration(time.time() - job.created)}")
    return LaunchCode.DONE


def delete(flags: ReleaseFlags) -> int:
    """Removes a run and all that was made for it, and waits until it is gone."""
    kube = Kube(flags.context, flags.namespace)
    with open_view(json_lines=flags.json, prefixed=False, live=False) as view:
        if not remove(existing_release(flags, kube), kube):
            raise LaunchError(f"there is no run {flags.name} in namespace {kube.namespace} of {kube.context}")
        view.say(f"{flags.name} is gone from namespace {kube.namespace}")
    return LaunchCode.DONE


def _to_stderr(result: CheckResult) -> None:
    print(printable(str(result)), file=sys.stderr, flush=True)


def _watch(flags: AttachFlags, kube: Kube, job: str, view: View) -> LaunchCode:
    watch = Watch(kube, job, view, logs=flags.logs)
    come_back = f"come back with:  {next_command('attach', flags, kube)}"
    forward = TensorBoardForward(kube, flags.name, view.say) if flags.tensorboard else contextlib.nullcontext()
    try:
        with forward:
            verdict = watch.run(timeout=flags.timeout, pending_timeout=flags.pending_timeout)
    except LaunchError:  # The cluster refuses, as when credentials expire. The run goes on without the launcher.
        view.say(come_back)
        raise
    view.end(verdict)
    if verdict.goes_on:
        view.say(come_back)
        view.say(f"end it with:     {next_command('delete', flags, kube)}")
    return verdict.code


def _show_stored_logs(run: FinishedRun, logs: str, view: View) -> None:
    empty = True
    for worker, line in run.logs(logs):
        empty = False
        view.log(worker, line)
    if empty:
        raise LaunchError(f"--logs={logs}: there is no such log in {run.address}")


def _ended(seen: Seen, timeline: Timeline | None = None) -> Verdict:
    """How a run ended that has; where its time went is known only with the timeline that its logs tell."""
    timeline = timeline or Timeline()
    return watched_verdict(seen, End.JOB, timeline.spent(seen, seen.ended or time.time()), step=timeline.step)
