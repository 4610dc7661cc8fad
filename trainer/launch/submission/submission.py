"""Submitting a run: the values it takes, the checks, helm, and the Job to watch."""

import dataclasses
import datetime
import secrets
from collections.abc import Callable, Sequence

from trainer.core.json_types import Json
from trainer.core.safe_text import redacted
from trainer.launch.checks import preflight
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.code_check import check_code, check_module
from trainer.launch.checks.nodes import Nodes
from trainer.launch.cluster import code_map
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.objects import Job, output_of
from trainer.launch.cluster.removal import uninstall
from trainer.launch.cluster.runs import next_command, release_jobs
from trainer.launch.cluster.watches import Kube
from trainer.launch.code_folder import Code
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import SubmitFlags
from trainer.launch.helm import rendered
from trainer.launch.helm.helm_program import HelmError
from trainer.launch.helm.release import HelmRelease
from trainer.launch.report.lines import Say
from trainer.launch.submission.plan import (
    GPUS_KEY,
    check_name,
    code_of,
    experiment,
    gpus_found,
    gpus_of,
    release_of,
    say_contradictions,
    with_gpus,
)
from trainer.output import sent_code
from trainer.output.stores.errors import StorageError
from trainer.output.stores.store import join


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """What submit is about to do."""

    release: HelmRelease
    objects: list[Json]  # What the chart makes.
    running: list[Job]  # Jobs of this release that still go on.
    code: Code | None  # What --code sends.


def validate(flags: SubmitFlags, trainer_argv: Sequence[str]) -> None:
    """Refuses what could not be used, before helm or a cluster is asked for anything.

    Raises:
      UsageError: a flag, a file or a value that cannot be used.
    """
    code = code_of(flags)
    release = release_of(flags, None, trainer_argv, "", code)
    release.validate()
    release.gives(*GPUS_KEY)  # It refuses null, by which the chart would lose its default.
    if code:
        code.check_output(str(release.value("output") or ""))


def prepare(
    flags: SubmitFlags, kube: Kube, trainer_argv: Sequence[str], report: Callable[[CheckResult], None]
) -> Prepared:
    """Renders the chart and checks what would be made.

    Args:
      flags: the launcher's, which `validate` has taken.
      kube: the cluster.
      trainer_argv: the training program's flags.
      report: takes what each check finds.

    Raises:
      UsageError: values that the chart refuses.
      LaunchError: the cluster cannot be asked.
    """
    code = code_of(flags)
    release = release_of(flags, kube, trainer_argv, _run_id(), code)
    say_contradictions(release, report)
    objects = rendered.parse(release.render())
    check_name(objects)
    if code:
        check_module(code, experiment(objects))
    results = list(preflight.check_cluster(kube, release.oldest_kubernetes()))
    for result in results:
        report(result)
    if any(result.failed for result in results):  # No other check could be made.
        return Prepared(release=release, objects=objects, running=[], code=code)
    running = _running(kube, flags.name)
    if running and not flags.replace:  # What the running one uses would count against this one in further checks.
        fix = f"follow it with `{next_command('attach', flags, kube)}`, or end it and start this one with --replace"
        text = f"{flags.name} is still running as the job {running[0].name}"
        report(CheckResult(Mark.FAIL, "release", text, fix))
        return Prepared(release=release, objects=objects, running=running, code=code)
    if code:
        for result in check_code(code, experiment(objects)):
            report(result)
    nodes = Nodes.of(kube, flags.name)
    if nodes and not release.gives(*GPUS_KEY) and (gpus := nodes.gpus(rendered.job_in(objects))):
        release = with_gpus(release, gpus)
        objects = rendered.parse(release.render())
        report(gpus_found(gpus))
    everything = [*objects, *(code.objects(flags.name) if code else ())]
    in_output = code is not None and code.goes_through_output
    for result in preflight.check(kube, everything, nodes, flags, replaces=bool(running), code_in_output=in_output):
        report(result)
    return Prepared(release=release, objects=objects, running=running, code=code)


def submit(flags: SubmitFlags, kube: Kube, trainer_argv: Sequence[str], say: Say) -> str:
    """Checks and submits; returns the Job's name.

    Raises:
      UsageError: values that the chart refuses.
      LaunchError: a check failed, or helm did; nothing of this run is left.
    """
    failed = 0

    def report(result: CheckResult) -> None:
        nonlocal failed
        failed += result.failed
        say(str(result), check=vars(result))

    prepared = prepare(flags, kube, trainer_argv, report)
    release = prepared.release
    if prepared.running and not flags.replace:  # --force does not help: it would end the run that goes on.
        raise LaunchError(f"nothing was submitted: {flags.name} is still running", LaunchCode.NOT_STARTED)
    if failed and not flags.force:
        text = f"nothing was submitted: {failed} check(s) failed; --force submits anyway"
        raise LaunchError(text, LaunchCode.NOT_STARTED)
    job = str(rendered.job_in(prepared.objects)["metadata"]["name"])
    say(f"submitting {_summary(prepared, kube.context)}")
    existed = release.exists()
    config_map = next(iter(prepared.code.objects(flags.name)), None) if prepared.code else None
    if config_map:
        code_map.put(kube, config_map)
    elif prepared.code:
        say(_put_into_output(prepared.code, output_of(rendered.job_in(prepared.objects))))
    try:
        release.upgrade()
    except HelmError as error:
        if existed:
            raise
        if release.exists():
            uninstall(release, kube)
        if config_map:
            code_map.drop(kube, config_map["metadata"]["name"])
        raise LaunchError(f"{error}\nwhat was made of {flags.name} has been removed again") from None
    except KeyboardInterrupt:
        attach, delete = next_command("attach", flags, kube), next_command("delete", flags, kube)
        say(f"submitted {job}; come back with `{attach}`, or end it with `{delete}`", job=job)
        raise
    if config_map:
        code_map.give_to(kube, config_map["metadata"]["name"], job)
    say(f"submitted {job}", job=job)
    return job


def _put_into_output(code: Code, output: str) -> str:
    """Writes the code to the output, from where the pods fetch it; returns what was done.

    Raises:
      LaunchError: it cannot be written, and nothing of it is there.
    """
    address = redacted(join(output.rstrip("/"), code.key))
    try:
        written = sent_code.put(output, code.archive)
    except StorageError as error:
        text = f"nothing was submitted: the code cannot be written to {address} with this user's credentials: {error}"
        raise LaunchError(text, LaunchCode.NOT_STARTED) from None
    return f"the code {'was written to' if written else 'is already in'} {address}"


def _run_id() -> str:
    """A value that no other run has, so that the chart makes a new Job even for the same values."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _summary(prepared: Prepared, context: str) -> str:
    """What is about to be made, in one line."""
    release, job = prepared.release, rendered.job_in(prepared.objects)
    kinds = ", ".join(str(value["kind"]) for value in prepared.objects)
    return (
        f"release {release.name} in {release.namespace} ({context}): {rendered.workers(job)} worker(s), "
        f"{gpus_of(job) or 'no'} GPU(s) each, image {rendered.pod_spec(job)['containers'][0]['image']}; {kinds}"
    )


def _running(kube: Kube, name: str) -> list[Job]:
    """The Jobs of a release that go on; none where this user may not see them, which `check_rights` reports."""
    try:
        return [job for job in release_jobs(kube, name) if not job.ended]
    except KubeError as error:
        if error.status == 403:
            return []
        raise
