"""An experiment put together in this process, up to its first step."""

from collections.abc import Callable, Set
from typing import Any

import keras
import numpy as np

from trainer.core.config import Config
from trainer.training import announcement
from trainer.training.assembly import Assembly, assemble
from trainer.training.explaining import explained
from trainer.training.model.experiment import Experiment

X = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
Y = (np.arange(40) % 3).astype("int64")
GOOD = (X, Y), (X[:10], Y[:10])


def network(**more: Any) -> Any:
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "softmax")])
    model.compile(**{"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"} | more)
    return model


def network_of(*first: Any) -> Any:
    """The same below these layers."""
    model = keras.Sequential([keras.Input((5,)), *first, keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def put_together(
    data: Any = GOOD, model: Callable[[Any], Any] = lambda _: network(), given: Set[str] = frozenset(), **more: Any
) -> Assembly:
    """A run of an experiment with these parts, up to its first step."""
    preprocess = more.pop("preprocess", None)
    load_data = more.pop("load_data", lambda _: data)
    experiment = Experiment(name="e", load_data=load_data, build_model=model, preprocess=preprocess)
    parts = assemble(Config(experiment="e", global_batch_size=8, **more), None, experiment, given)
    with explained("a step", parts.look.x):
        announcement.check_graph(parts.trainer.graph(), parts.trainer.known_variables)
    return parts
