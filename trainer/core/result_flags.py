"""The flags that a run's result.json says it had, for another program that builds its model again."""

import re
from typing import Any

from trainer.core import experiment_flags, typed_json
from trainer.core.config import Config
from trainer.core.run_dir import RESULT

# What of a run's flags its model, and the numbers measured with it, follow from.
_FLAGS = ("data_dir", "loss", "precision", "global_batch_size", "seed", "tf32")


def arguments(content: bytes) -> list[str]:
    """The arguments of the training program that give its experiment, that one's own flags, and what the model is.

    Args:
      content: of a result.json, which may come from a bucket: nothing in it has a say in where a program writes.

    Raises:
      ValueError: it is not what a run writes.
    """
    result = typed_json.an_object(typed_json.loads(content, lenient=True), RESULT)
    given = typed_json.an_object(result.get("flags", {}), "flags")
    experiment = typed_json.an_object(result.get("experiment", {}), "experiment")
    named = {name: given[name] for name in _FLAGS if name in given}
    module, own = experiment_flags.said_by_result(experiment.get("module", Config.experiment), experiment)
    if "module" in experiment:
        named["experiment"] = module
    return [argument for name, value in (named | own).items() for argument in _arguments(name, value)]


def _arguments(name: str, value: Any) -> list[str]:
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(f"{name[:40]!a} is no flag's name")
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | bool | int | float) for one in values):
        raise ValueError(f"{name} is no flag's value")
    return [f"--{name}={str(one).lower() if isinstance(one, bool) else one}" for one in values]
