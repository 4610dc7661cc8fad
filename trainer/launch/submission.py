"""Submitting a run: the values it takes, the checks, helm, and the Job to watch."""

import dataclasses
import datetime
import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from trainer.launch import helm
from trainer.launch.checks import preflight
from trainer.launch.checks.capacity import GPU
from trainer.launch.checks.check_result import Line
from trainer.launch.checks.preflight import Nodes
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.objects import Job
from trainer.launch.cluster.runs import command, releases
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import Submit
from trainer.launch.helm import Chart, HelmError
from trainer.launch.helm_values import own_values

_LOOK_SECONDS = 5.0  # That --dry_run waits for a cluster.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """What submit is about to do."""

    made: Chart
    rendered: list[dict[str, Any]]
    running: list[Job]  # Of this release, that still go on.


def make_chart(config: Submit, kube: Kube | None, trainer_argv: Sequence[str], run_id: str) -> Chart:
    """The chart with all values.

    Raises:
      UsageError: a flag, a file or a value that cannot be used.
    """
    made = Chart(
        helm=config.helm,
        folder=config.chart,
        release=config.name,
        namespace=kube.namespace if kube else config.namespace,
        context=kube.kubeconfig_context if kube else config.context,
        files=config.values,
        own=own_values(config, trainer_argv, run_id),
        sets=config.set,
    )
    made.check()
    made.gives("worker", "gpus")  # What it refuses is refused before anything else.
    return made


def run_id() -> str:
    """Another one for every run."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def prepare(config: Submit, kube: Kube, trainer_argv: Sequence[str], say: Callable[[Line], None]) -> Prepared:
    """Makes the chart with all values, and checks what would be made; `say` takes whether a check failed.

    Raises:
      UsageError: something given cannot be used.
      LaunchError: the cluster cannot be asked.
    """
    made = make_chart(config, kube, trainer_argv, run_id())
    rendered = helm.objects(made.render())
    lines = list(preflight.cluster(kube))
    for line in lines:
        say(line)
    if any(line.failed for line in lines):  # Nothing else could be answered.
        return Prepared(made=made, rendered=rendered, running=[])
    running = _running(kube, config.name)
    if running and not config.replace:  # What it uses would count against another of it.
        fix = f"follow it with `{command('attach', config, kube)}`, or end it and start this one with --replace"
        say(Line("FAIL", "release", f"{config.name} is still running as the job {running[0].name}", fix))
        return Prepared(made=made, rendered=rendered, running=running)
    nodes = Nodes.of(kube, config.name)
    if nodes and not made.gives("worker", "gpus") and (gpus := nodes.gpus(helm.the_job(rendered))):
        made = _with_gpus(made, gpus)
        rendered = helm.objects(made.render())
        say(_found(gpus))
    for line in preflight.check(kube, rendered, nodes, config, replaces=bool(running)):
        say(line)
    return Prepared(made=made, rendered=rendered, running=running)


def dry_run(config: Submit, trainer_argv: Sequence[str], say: Callable[[Line], None]) -> str:
    """The manifests that would be made; `say` hears where the number of GPUs comes from, if nobody has said it.

    Raises:
      UsageError: something given cannot be used.
      LaunchError: helm cannot be used.
    """
    made = make_chart(config, None, trainer_argv, "")
    text = made.render()
    if made.gives("worker", "gpus"):
        return text
    job = helm.the_job(helm.objects(text))
    stands = f"{_gpus(job)} for each worker, as the chart has it"
    try:
        nodes = _look(config)
    except LaunchError as error:
        say(Line("note", "GPUs", f"{stands}: {error}"))
        return text
    if nodes is None:
        say(Line("note", "GPUs", f"{stands}: this user may not list nodes and pods"))
    elif gpus := nodes.gpus(job):
        say(_found(gpus))
        return _with_gpus(made, gpus).render()
    else:
        say(Line("note", "GPUs", f"{stands}: none of the {len(nodes.nodes)} node(s) has any, so submit would refuse"))
    return text


def _look(config: Submit) -> Nodes | None:
    """The nodes of the cluster, if it answers soon; None: this user may not see them.

    Raises:
      LaunchError: it does not.
    """
    answers: queue.SimpleQueue[Nodes | LaunchError | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(Nodes.of(Kube(config.context, config.namespace), config.name))
        except LaunchError as error:
            answers.put(error)

    threading.Thread(target=ask, name="nodes", daemon=True).start()  # Whatever it waits for, nobody waits for it.
    try:
        answer = answers.get(timeout=_LOOK_SECONDS)
    except queue.Empty:
        raise LaunchError(f"no cluster answered within {_LOOK_SECONDS:g} s") from None
    if isinstance(answer, LaunchError):
        raise LaunchError(f"no cluster answered ({answer})")
    return answer


def _found(gpus: int) -> Line:
    return Line("ok", "GPUs", f"{gpus} for each worker, found out from the nodes; --gpus_per_worker asks for others")


def _gpus(job: dict[str, Any]) -> int:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return int(container["resources"].get("limits", {}).get(GPU, 0))


def _with_gpus(made: Chart, gpus: int) -> Chart:
    return dataclasses.replace(made, own={**made.own, "worker": {"gpus": gpus}})


def submit(config: Submit, kube: Kube, trainer_argv: Sequence[str], say: Callable[[str], None]) -> str:
    """Checks and submits; returns the Job's name.

    Raises:
      UsageError: something given cannot be used.
      LaunchError: a check failed, or helm did; nothing of this run is left.
    """
    checked: list[Line] = []

    def take(line: Line) -> None:
        checked.append(line)
        say(str(line))

    prepared = prepare(config, kube, trainer_argv, take)
    made, rendered = prepared.made, prepared.rendered
    if prepared.running and not config.replace:  # Whatever --force says: one name, one run.
        raise LaunchError(f"nothing was submitted: {config.name} is still running", LaunchCode.NOT_STARTED)
    if (failed := sum(line.failed for line in checked)) and not config.force:
        raise LaunchError(
            f"nothing was submitted: {failed} check(s) failed; --force submits all the same",
            LaunchCode.NOT_STARTED,
        )
    job = str(helm.the_job(rendered)["metadata"]["name"])
    say(f"submitting {described(made, rendered, kube.context)}")
    existed = made.deployed()
    try:
        made.upgrade()
    except HelmError as error:
        if existed:
            raise
        made.uninstall()
        raise LaunchError(f"{error}\nwhat was made of {config.name} has been removed again") from None
    except KeyboardInterrupt:
        say(f"submitted {job}; come back with `{command('attach', config, kube)}`, or end it with "
            f"`{command('delete', config, kube)}`")  # fmt: skip
        raise
    say(f"submitted {job}")
    return job


def described(made: Chart, rendered: Sequence[dict[str, Any]], context: str) -> str:
    """What is about to be made, in one line."""
    job = helm.the_job(rendered)
    container = job["spec"]["template"]["spec"]["containers"][0]
    kinds = ", ".join(str(value["kind"]) for value in rendered)
    return (
        f"release {made.release} in {made.namespace} ({context}): {job['spec']['completions']} worker(s), "
        f"{_gpus(job) or 'no'} GPU(s) each, image {container['image']}; {kinds}"
    )


def _running(kube: Kube, name: str) -> list[Job]:
    """The Jobs of a release that go on; none where this user may not see them, which another check says."""
    try:
        return [job for job in releases(kube, name) if not job.ended]
    except KubeError as error:
        if error.status == 403:
            return []
        raise
