"""The chart's values that the launcher's flags and those of the training program give."""

import re
from collections.abc import Sequence
from typing import Any

from trainer.core import experiment_flags, settings
from trainer.core.config import PROGRAM
from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json
from trainer.launch.flags import SubmitFlags

_SET_BY_CHART = {"run_dir": "the chart names the run's folder", "expect_gpus": "it follows from --gpus_per_worker"}


def values_of(flags: SubmitFlags, trainer_argv: Sequence[str], run_id: str) -> Json:
    """The values that are given by flags; the user's files and --set are helm's to read.

    Raises:
      UsageError: a flag of the training program that it would refuse, or an image without a tag.
    """
    values: Json = {"runId": run_id} if run_id else {}
    if flags.workers is not None:
        values["workers"] = flags.workers
    if flags.gpus_per_worker is not None:
        values["worker"] = {"gpus": flags.gpus_per_worker}
    if flags.image:
        values |= {"image": _image(flags.image), "global": {"imageRegistry": ""}}  # The name is whole.
    if flags.output:
        values["output"] = flags.output
    train, experiment = _training(trainer_argv)
    if "mode" in train:
        values["mode"] = train.pop("mode")
    return values | ({"train": train} if train else {}) | ({"experiment": experiment} if experiment else {})


def _training(trainer_argv: Sequence[str]) -> tuple[Json, Json]:
    """The flags that are given, by name: the training program's, and the experiment's own."""
    config, unchecked = experiment_flags.parse(trainer_argv)
    given = settings.given(type(config), trainer_argv, program=PROGRAM, known_only=True)
    for name, why in _SET_BY_CHART.items():
        if name in given:
            raise UsageError(f"--{name} cannot be given on a cluster: {why}")
    values = {name: value for name, value in vars(config).items() if name in given}
    own = {name: values.pop(name) for name in config.own_flags() if name in values}
    return values, own | dict(map(_unchecked, unchecked))


def _unchecked(argument: str) -> tuple[str, Any]:
    """A flag that only the experiment's module knows, which is not here: a worker checks it."""
    match = re.fullmatch(r"--?([A-Za-z]\w*)(?:=(.*))?", argument, re.DOTALL)
    if match is None:
        raise UsageError(
            f"{argument!r} is no flag of the training program; write a flag of the experiment's own as --name=value"
        )
    return match[1], True if match[2] is None else match[2]


def _image(image: str) -> Json:
    """Repository, tag and digest, which the chart joins again; those that are not given win over a file's as empty."""
    name, _, digest = image.partition("@")
    repository, _, tag = name.rpartition(":")
    if digest and (not repository or "/" in tag):
        repository, tag = name, ""
    if not repository or not (tag or digest) or "/" in tag:
        raise UsageError(
            f"--image={image} has no tag; expected repository:tag, such as registry.example/mnist-train:1, or "
            "repository@sha256:digest"
        )
    return {"repository": repository, "tag": tag, "digest": digest}
