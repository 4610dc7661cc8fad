"""MNIST and its model, whose first step and first evaluation take COMPILE_SECONDS longer, as if compiled."""

import os
import time
from typing import Any

from trainer import mnist
from trainer.training.trainer import Trainer

load_data, build_model, preprocess, Flags = mnist.load_data, mnist.build_model, mnist.preprocess, mnist.Flags

_waited: set[str] = set()


def _slow(name: str) -> None:
    original = getattr(Trainer, name)

    def slow(*arguments: Any) -> Any:
        if name not in _waited:
            _waited.add(name)
            time.sleep(float(os.environ["COMPILE_SECONDS"]))
        return original(*arguments)

    setattr(Trainer, name, slow)


_slow("run")
_slow("evaluate")
