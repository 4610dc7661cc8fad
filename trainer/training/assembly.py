"""A run put together: from the flags to a trainer that can take its first step."""

import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Set
from typing import Any

import keras
import tensorflow as tf

from trainer.core import agent_link
from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.core.tf_config import Cluster
from trainer.training.data import arrays
from trainer.training.data.arrays import Arrays
from trainer.training.data.feeding import Split
from trainer.training.data.order import LARGEST_ARRAY
from trainer.training.data.read_ahead import Readers
from trainer.training.data.source_split import SourceSplit, is_source
from trainer.training.explaining import explained, not_exiting
from trainer.training.hardware import compiling, strategy
from trainer.training.model import first_look, schedules
from trainer.training.model.compilation import Compilations, check_model, set_precision
from trainer.training.model.experiment import Experiment
from trainer.training.model.first_look import FirstLook
from trainer.training.state import variables
from trainer.training.state.saving import ModelFile, as_its_user_made_it
from trainer.training.trainer import Trainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
    """Everything that a run is made of."""

    experiment: Experiment
    strategy: tf.distribute.Strategy
    model: Any
    trainer: Trainer
    look: FirstLook
    file: ModelFile
    identity: dict[str, Any]  # What a resume may not change.
    examples: int  # To train on.
    validation: Split | None
    shown: Split  # The split that examples are taken from which are shown: that of validation, if there is one.
    rate_is_a_flag: bool  # Whether the flags have compiled the model.
    readers: Readers  # What reads its sources.


def assemble(
    config: Config, cluster: Cluster | None, experiment: Experiment, given: Set[str] = frozenset()
) -> Assembly:
    """Loads the data, builds the model, and looks whether they can be trained.

    Args:
      config: the flags.
      cluster: from TF_CONFIG.
      experiment: what is trained.
      given: the names of the flags that were given.

    Raises:
      UsageError, DataError: they cannot, or not together.
    """
    readers = Readers(config)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(_load, experiment, config)
        distribution = strategy.create(config, cluster)
        _check_shares(config, distribution.num_replicas_in_sync)
        with agent_link.busy():  # What it loads may be far away, and no step can be made before.
            train, validation, digest = loading.result()
    with agent_link.busy():  # A GPU's driver may compile kernels for minutes where they are used first.
        return _put_together(config, experiment, given, distribution, readers, train, validation, digest)


def _put_together(
    config: Config,
    experiment: Experiment,
    given: Set[str],
    distribution: tf.distribute.Strategy,
    readers: Readers,
    train: Split,
    validation: Split | None,
    digest: dict[str, Any] | str,
) -> Assembly:
    set_precision(config)
    # The model's first weights are drawn from it: nothing else may draw numbers meanwhile, as what loads data does.
    keras.utils.set_random_seed(config.seed % 2**32)
    compilations = Compilations()
    noted, read = _noted(config)
    of = f"build_model of --experiment={config.experiment}"
    with explained(of), distribution.scope(), compilations.noted():
        model = experiment.build_model(noted)
    check_model(model, config.experiment)
    if model.compiled:
        _check_flags(config, given - read)
    steps = _steps_per_epoch(config, experiment, train)
    first_look.build(model, distribution, train, experiment.preprocess)
    with distribution.scope():
        look, by_flags = first_look.look(model, config, train, validation, experiment.preprocess, steps)
        if not model.optimizer.built:
            with explained(f"the optimizer {type(model.optimizer).__name__}"):
                model.optimizer.build(model.trainable_variables)
    with explained(f"a step of the model {model.name}", look.x):
        trainer = Trainer(
            config=config,
            strategy=distribution,
            model=model,
            look=look,
            train=train,
            validation=validation,
            preprocess=experiment.preprocess,
            readers=readers,
            steps_per_epoch=steps,
            jit_compile=compiling.asked_of_xla(
                config.jit_compile,
                compilations.jit_compile(model),
                synchronized=look.synchronized and distribution.num_replicas_in_sync > 1,
            ),
        )
    return Assembly(
        experiment=experiment,
        strategy=distribution,
        model=model,
        trainer=trainer,
        look=look,
        file=ModelFile(model, compiled_by_flags=by_flags),
        identity=_identity(config, model, digest, train.examples, config.epochs * steps if by_flags else None),
        examples=train.examples,
        validation=validation,
        shown=train if validation is None else validation,
        rate_is_a_flag=by_flags,
        readers=readers,
    )


def _noted(config: Config) -> tuple[Config, set[str]]:
    """The flags again, and the names of those that have been read of them since."""
    read: set[str] = set()

    class Noted(type(config)):  # type: ignore[misc]  # A class of its own for each experiment's flags.
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    noted = object.__new__(Noted)
    noted.__dict__.update(config.__dict__)
    return noted, read


def _check_flags(config: Config, unread: Set[str]) -> None:
    """Refuses flags that compile a model where build_model has compiled it and has not looked at them."""
    for name in ("optimizer", "learning_rate", "learning_rate_schedule", "warmup_steps", "momentum", "loss"):
        if name in unread:
            raise UsageError(
                f"--{name}={getattr(config, name)} is of a model that is not compiled, and build_model of "
                f"--experiment={config.experiment} has compiled this one; leave the flag out, or read config.{name} in "
                "build_model"
            )


def _load(experiment: Experiment, config: Config) -> tuple[Split, Split | None, dict[str, Any] | str]:
    """The data, checked, and what tells it from other data."""
    with not_exiting("load_data"):  # What it raises is left as it is: another start may reach the data.
        loaded = experiment.load_data(config)
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        raise UsageError(
            f"load_data returned a {type(loaded).__name__}; expected two: the training data and the validation data, "
            "None for none"
        )
    train = split_of(loaded[0], "training", config)
    validation = None if loaded[1] is None else split_of(loaded[1], "validation", config)
    if validation is not None:
        train.known.check_alike(validation.known)
    return train, validation, _told_apart([train] if validation is None else [train, validation])


def split_of(loaded: Any, name: str, config: Config) -> Split:
    """What `load_data` returned for the split called `name`: arrays, or a source."""
    if is_source(loaded):
        return SourceSplit(loaded, name, may_skip=config.skip_bad_records)
    return Arrays(loaded, name)


def _told_apart(splits: list[Split]) -> dict[str, Any] | str:
    """Of arrays a digest of all of them; of a source what it says of itself, since nobody reads all of it."""
    held = [split for split in splits if isinstance(split, Arrays)]
    if len(held) == len(splits):
        return arrays.digest(held)
    return {split.name: arrays.digest([split]) if isinstance(split, Arrays) else split.identity() for split in splits}


def _steps_per_epoch(config: Config, experiment: Experiment, train: Split) -> int:
    if config.global_batch_size > train.examples:
        raise UsageError(
            f"--global_batch_size={config.global_batch_size} is more than the {train.examples} training examples; "
            "an epoch must have at least one step"
        )
    whole = train.examples // config.global_batch_size
    if experiment.steps_per_epoch is None:
        return whole
    with explained("steps_per_epoch"):
        steps = experiment.steps_per_epoch(config)
    if not isinstance(steps, int) or not 1 <= steps <= whole:
        raise UsageError(
            f"steps_per_epoch returned {steps!r}; expected a whole number from 1 to {whole}, of whole batches"
        )
    return steps


def _check_shares(config: Config, replicas: int) -> None:
    if config.global_batch_size < replicas:
        raise UsageError(
            f"--global_batch_size={config.global_batch_size} is smaller than the number of replicas, {replicas}: each "
            "GPU of each worker is one, and needs at least one example of each batch"
        )


def _identity(config: Config, model: Any, data: Any, examples: int, steps_by_flags: int | None) -> dict[str, Any]:
    """What a resume may not change; `steps_by_flags` are the run's steps, where the flags have compiled the model."""
    common = {
        "seed": config.seed,
        "global batch size": config.global_batch_size,
        "data set": data,
        "model": variables.shapes(model),
        "layers": _layers(model),
    }
    if not config.shuffle:
        common["order"] = "as it stands"
    elif examples > LARGEST_ARRAY:  # 0.1.0 had another.
        common["order"] = "keyed permutation"
    if steps_by_flags is not None:
        if config.optimizer == "sgd":
            common["momentum"] = config.momentum
        return common | {
            "optimizer": config.optimizer,
            "loss": config.loss,
            "learning rate schedule": schedules.described(config, steps_by_flags),
            "experiment's flags": _own_flags(config),
        }
    settings = model._compile_config.config if hasattr(model._compile_config, "config") else {}
    optimizer = model.optimizer
    return common | {
        "optimizer": f"{type(optimizer).__name__} {json.dumps(_plain(optimizer.get_config()), sort_keys=True)}",
        "loss": json.dumps(_plain(getattr(model, "loss", None)), sort_keys=True),
        "loss weights": json.dumps(_plain(settings.get("loss_weights")), sort_keys=True),
        "metrics": json.dumps(_plain(model._compile_metrics and [
            model._compile_metrics._user_metrics, model._compile_metrics._user_weighted_metrics
        ]), sort_keys=True),
        "experiment's flags": _own_flags(config),
    }  # fmt: skip


def _own_flags(config: Config) -> str:
    return " ".join(f"{name}={getattr(config, name)}" for name in config.own_flags())


def _layers(model: Any) -> str:
    try:
        with as_its_user_made_it(model):  # How it is compiled is said beside it.
            described = model.to_json()
    except Exception:  # A subclassed model may have no configuration.
        described = " ".join(f"{type(layer).__name__}" for layer in model._flatten_layers())
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Objects of Keras' and functions as what they are called and set to."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, keras.losses.Loss | keras.metrics.Metric):
        try:
            return [type(value).__name__, _plain(value.get_config())]
        except Exception:
            return type(value).__name__
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    return float(value) if hasattr(value, "dtype") and getattr(value, "shape", None) == () else type(value).__name__
