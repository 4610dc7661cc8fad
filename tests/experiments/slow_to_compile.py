"""MNIST and its model, whose first step and first evaluation take COMPILE_SECONDS longer, as if compiled.

What comes before the first step and after the last takes so long, too, as for data that are far away, kernels that a
GPU's driver compiles while a model is built, and a large model that is exported.
"""

import os
import time
from typing import Any

from trainer import mnist
from trainer.training.evaluation import Evaluation
from trainer.training.results import result
from trainer.training.trainer import Trainer

_waited: set[str] = set()


def _slow(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    def slow(*arguments: Any, **more: Any) -> Any:
        if name not in _waited:
            _waited.add(name)
            time.sleep(float(os.environ["COMPILE_SECONDS"]))
        return original(*arguments, **more)

    setattr(owner, name, slow)


_slow(mnist, "load_data")
_slow(mnist, "build_model")
_slow(Trainer, "run")
_slow(Evaluation, "begin")
_slow(result, "write")

load_data, build_model, preprocess, Flags = mnist.load_data, mnist.build_model, mnist.preprocess, mnist.Flags
