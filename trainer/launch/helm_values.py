"""The chart's values that the launcher's flags and the training program's say."""

from collections.abc import Sequence
from typing import Any

from trainer.core import settings
from trainer.core.config import PROGRAM, Config
from trainer.core.exit_codes import UsageError
from trainer.launch.flags import Submit

_CHARTS_OWN = {"run_dir": "the chart names the run's folder", "expect_gpus": "it follows from --gpus_per_worker"}


def own_values(config: Submit, trainer_argv: Sequence[str], run_id: str) -> dict[str, Any]:
    """The values that are given on the command line, but --set.

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
    if train := _train(trainer_argv):
        values["train"] = train
    return values


def _train(trainer_argv: Sequence[str]) -> dict[str, Any]:
    """The training program's flags that are given, by name."""
    parsed, given = Config.from_arguments(trainer_argv), settings.given(Config, trainer_argv, program=PROGRAM)
    for name in _CHARTS_OWN:
        if name in given:
            raise UsageError(f"--{name} cannot be given on a cluster: {_CHARTS_OWN[name]}")
    return {name: value for name, value in vars(parsed).items() if name in given}


def _image(image: str) -> dict[str, str]:
    """The parts before and after the last colon, with which the chart joins them: of a digest, too."""
    repository, _, tag = image.rpartition(":")
    if not repository or not tag or "/" in tag:
        raise UsageError(
            f"--image={image} has no tag; expected repository:tag, such as registry.example/mnist-train:1, or "
            "repository@sha256:digest"
        )
    return {"repository": repository, "tag": tag}
