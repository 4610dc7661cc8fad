"""MNIST and its model, whose first step and first evaluation take COMPILE_SECONDS longer, as if compiled.

What comes after the last step takes so long, too, as it does for a large model that is exported.
"""

import os
import time
from typing import Any

from trainer import mnist
from trainer.training.results import result
from trainer.training.trainer import Trainer

load_data, build_model, preprocess, Flags = mnist.load_data, mnist.build_model, mnist.preprocess, mnist.Flags

_waited: set[str] = set()


def _slow(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    def slow(*arguments: Any, **more: Any) -> Any:
        if name not in _waited:
            _waited.add(name)
            time.sleep(float(os.environ["COMPILE_SECONDS"]))
        return original(*arguments, **more)

    setattr(owner, name, slow)


_slow(Trainer, "run")
_slow(Trainer, "evaluate")
_slow(result, "write")
