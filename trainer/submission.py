"""Submitting a run: the values it takes, the checks, helm, and the Job to watch."""

import dataclasses
import datetime
import queue
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from trainer import chart, preflight
from trainer.answer import Line
from trainer.chart import Chart, HelmError
from trainer.config import Config
from trainer.exit_codes import UsageError
from trainer.kube import Kube
from trainer.launch_codes import LaunchCode, LaunchError
from trainer.launch_config import Submit
from trainer.observed import RELEASE, Job
from trainer.preflight import Nodes
from trainer.room import GPU

_LOOK_SECONDS = 5.0  # That --dry_run waits for a cluster.
_CHARTS_OWN = {"run_dir": "the chart names the run's folder", "expect_gpus": "it follows from --gpus_per_worker"}


def own_values(config: Submit, trainer_argv: Sequence[str], run_id: str) -> dict[str, Any]:
    """The chart's values that the launcher's flags and the training program's say.

    Raises:
      UsageError: a flag of the training program that it would refuse, or an image without a tag.
    """
    values: dict[str, Any] = {"runId": run_id} if run_id else {}
    if config.workers is not None:
        values["workers"] = config.workers
    if config.gpus_per_worker is not None:
        values["worker"] = {"gpus": config.gpus_per_worker}
    if config.image:
        values["image"] = _image(config.image)
    if config.output:
        values["output"] = config.output
    if train := train_values(trainer_argv):
        values["train"] = train
    return values


def train_values(trainer_argv: Sequence[str]) -> dict[str, Any]:
    """The training program's flags that are given, by name.

    Raises:
      UsageError: what the training program would refuse.
    """
    parsed = Config.from_arguments(trainer_argv)
    given = {re.split(r"=", argument.lstrip("-"))[0] for argument in trainer_argv if argument.startswith("-")}
    values = {}
    for name, value in vars(parsed).items():
        if name in given or f"no{name}" in given:
            if name in _CHARTS_OWN:
                raise UsageError(f"--{name} cannot be given on a cluster: {_CHARTS_OWN[name]}")
            values[name] = value
    return values


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
        context=kube.context if kube else config.context,
        files=config.values,
        own=own_values(config, trainer_argv, run_id),
        sets=config.set,
    )
    made.check()
    return made


def run_id() -> str:
    """Another one for every run."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def prepare(
    config: Submit, kube: Kube, trainer_argv: Sequence[str], say: Callable[[Line], None]
) -> tuple[Chart, list[dict[str, Any]]]:
    """Makes the chart with all values, and checks what would be made.

    Returns:
      The chart and what it renders to; whether a check failed is in the lines that `say` took.

    Raises:
      UsageError: something given cannot be used.
      LaunchError: the cluster cannot be asked.
    """
    made = make_chart(config, kube, trainer_argv, run_id())
    rendered = chart.objects(made.render())
    lines = list(preflight.cluster(kube))
    for line in lines:
        say(line)
    if any(line.failed for line in lines):  # Nothing else could be answered.
        return made, rendered
    nodes = Nodes.of(kube)
    if nodes and not made.gives("worker", "gpus") and (gpus := nodes.gpus(chart.the_job(rendered))):
        made = _with_gpus(made, gpus)
        rendered = chart.objects(made.render())
        say(_found(gpus))
    for line in preflight.check(kube, rendered, nodes):
        say(line)
    return made, rendered


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
    job = chart.the_job(chart.objects(text))
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
            answers.put(Nodes.of(Kube(config.context, config.namespace)))
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

    made, rendered = prepare(config, kube, trainer_argv, take)
    if (failed := sum(line.failed for line in checked)) and not config.force:
        raise LaunchError(
            f"nothing was submitted: {failed} check(s) failed; --force submits all the same",
            LaunchCode.NOT_STARTED,
        )
    job = str(chart.the_job(rendered)["metadata"]["name"])
    there = releases(kube, config.name)
    running = [other for other in there if not other.ended]
    if running and not config.replace:
        raise LaunchError(
            f"nothing was submitted: {config.name} is still running as the job {running[0].name}; follow it with "
            f"`{command('attach', config, kube)}`, or end it and start this one with --replace",
            LaunchCode.NOT_STARTED,
        )
    say(f"submitting {described(made, rendered)}")
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


def described(made: Chart, rendered: Sequence[dict[str, Any]]) -> str:
    """What is about to be made, in one line."""
    job = chart.the_job(rendered)
    container = job["spec"]["template"]["spec"]["containers"][0]
    kinds = ", ".join(str(value["kind"]) for value in rendered)
    return (
        f"release {made.release} in {made.namespace} ({made.context}): {job['spec']['completions']} worker(s), "
        f"{_gpus(job) or 'no'} GPU(s) each, image {container['image']}; {kinds}"
    )


def releases(kube: Kube, name: str = "") -> list[Job]:
    """The Jobs of the chart's releases in the namespace, oldest first; of one release, or of all."""
    labels = "app.kubernetes.io/name=mnist-train" + (f",{RELEASE}={name}" if name else "")
    found = kube.get("/apis/batch/v1/namespaces/{namespace}/jobs", labelSelector=labels)
    return sorted((Job.from_json(item) for item in found["items"]), key=lambda job: job.created)


def newest(kube: Kube, name: str) -> Job:
    """The Job of a release.

    Raises:
      LaunchError: there is none.
    """
    found = releases(kube, name)
    if not found:
        raise unknown(kube, name)
    return found[-1]


def unknown(kube: Kube, name: str) -> LaunchError:
    """The error that says that the cluster knows no such run."""
    return LaunchError(
        f"there is no run {name} in namespace {kube.namespace} of {kube.context}; `python -m trainer.launch list` "
        "shows those that are there, and `status --output=...` one that was kept",
        LaunchCode.NOT_STARTED,
    )


def command(verb: str, config: Any, kube: Kube) -> str:
    """The command that goes on with this release."""
    parts = [f"python -m trainer.launch {verb} --name={config.name}"]
    if config.namespace:
        parts.append(f"--namespace={kube.namespace}")
    if config.context:
        parts.append(f"--context={kube.context}")
    return " ".join(parts)


def _image(image: str) -> dict[str, str]:
    repository, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        raise UsageError(f"--image={image} has no tag; expected repository:tag, such as registry.example/mnist-train:1")
    return {"repository": repository, "tag": tag}
