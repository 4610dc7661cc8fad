"""The chart's values that the launcher's flags and those of the training program give."""

from collections.abc import Sequence

from trainer.core import settings
from trainer.core.config import PROGRAM, Config
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
        values["image"] = _image(flags.image)
    if flags.output:
        values["output"] = flags.output
    if train := _train(trainer_argv):
        values["train"] = train
    return values


def _train(trainer_argv: Sequence[str]) -> Json:
    """The training program's flags that are given, by name."""
    config, given = Config.from_arguments(trainer_argv), settings.given(Config, trainer_argv, program=PROGRAM)
    for name, why in _SET_BY_CHART.items():
        if name in given:
            raise UsageError(f"--{name} cannot be given on a cluster: {why}")
    return {name: value for name, value in vars(config).items() if name in given}


def _image(image: str) -> Json:
    """The parts before and after the last colon, which the chart joins again; so, too, of an image by its digest."""
    repository, _, tag = image.rpartition(":")
    if not repository or not tag or "/" in tag:
        raise UsageError(
            f"--image={image} has no tag; expected repository:tag, such as registry.example/mnist-train:1, or "
            "repository@sha256:digest"
        )
    return {"repository": repository, "tag": tag}
