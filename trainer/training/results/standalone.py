"""A run's model outside of its strategy, for what is done with it by one process alone."""

from typing import Any

import tensorflow as tf

from trainer.core.config import Config
from trainer.training.assembly import Assembly
from trainer.training.explaining import explained
from trainer.training.model import samples
from trainer.training.model.first_look import call


def standalone(parts: Assembly, config: Config) -> Any:
    """The model with the values that its variables have now; where there is a strategy it is built once more.

    To read a variable of several replicas in a saved function would be a collective, and the other workers are not
    in it.

    Raises:
      UsageError: build_model does not give the same model again.
    """
    if parts.strategy is tf.distribute.get_strategy():
        return parts.model
    with explained(f"build_model of --experiment={config.experiment}, called once more"):
        model = parts.experiment.build_model(config)
        call(model, parts.look.x, training=False)  # It may not be built yet.
        for variable, trained in zip(model.weights, parts.model.weights, strict=True):
            variable.assign(trained.numpy())
    return model


def first_inputs(parts: Assembly, config: Config, count: int) -> Any:
    """The first examples of the validation split as the model takes them, or of the training split without one."""
    return samples.first_inputs(parts.shown, parts.experiment.preprocess, config.seed, count)
