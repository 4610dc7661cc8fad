"""The variables that training reads and writes: each replica's own, as arrays, and the same on all workers."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras.src.random.seed_generator import SeedGenerator, global_seed_generator

from trainer.core.exit_codes import DataError, ExitCode, UsageError
from trainer.core.tf_config import Cluster
from trainer.training.data import random_state
from trainer.training.hardware import strategy as strategies
from trainer.training.state.checkpoint import Checkpoint

Tensors = list[tf.Tensor]


class Variables:
    """A model's and its optimizer's variables, by what becomes of them in a step.

    A strategy keeps a copy of each on every replica. A step works on its replica's own, without asking the strategy.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: Any) -> None:
        """Takes a model whose optimizer is built."""
        self.trained = list(model.trainable_variables)
        fixed = list(model.non_trainable_variables)
        self.others = [variable for variable in fixed if not random_state.is_seed(variable)]
        self.seeds = [variable for variable in fixed if random_state.is_seed(variable)]
        self.optimizer = list(model.optimizer.variables)
        self.seeds.append(_global_seed())
        self._copies = {
            id(variable): strategy.experimental_local_results(variable.value)
            for variable in (*self.trained, *self.others, *self.optimizer)
        }

    def of_trained(self, local: int) -> list[tf.Variable]:
        """The variables that are trained, on a replica of this process."""
        return self._of(self.trained, local)

    def of_optimizer(self, local: int) -> list[tf.Variable]:
        """The optimizer's."""
        return self._of(self.optimizer, local)

    @property
    def ids(self) -> set[int]:
        """All copies of all variables, by `id`, with what a strategy keeps them in."""
        kept = (*self.trained, *self.others, *self.optimizer)
        return {id(copy) for copies in self._copies.values() for copy in copies} | {id(one.value) for one in kept}

    def read_trained(self, local: int) -> Tensors:
        """Values of the variables that are trained."""
        return [variable.read_value() for variable in self.of_trained(local)]

    def read_others(self, local: int) -> Tensors:
        """Values of those that are not."""
        return [variable.read_value() for variable in self._of(self.others, local)]

    def read_optimizer(self, local: int) -> Tensors:
        """Values of the optimizer's."""
        return [variable.read_value() for variable in self.of_optimizer(local)]

    def write_trained(self, local: int, values: Sequence[tf.Tensor | None]) -> None:
        """Sets the variables that are trained; None leaves one as it is."""
        _write(self.of_trained(local), values)

    def write_others(self, local: int, values: Sequence[tf.Tensor | None]) -> None:
        """Sets those that are not."""
        _write(self._of(self.others, local), values)

    def write_optimizer(self, local: int, values: Sequence[tf.Tensor | None]) -> None:
        """Sets the optimizer's."""
        _write(self.of_optimizer(local), values)

    def _of(self, variables: Sequence[Any], local: int) -> list[tf.Variable]:
        return [self._copies[id(variable)][local] for variable in variables]


def arrays(model: Any, *, keep_rate: bool) -> dict[str, npt.NDArray[Any]]:
    """Copies of the variables that training changes, by name.

    Args:
      model: the model, whose optimizer is built.
      keep_rate: whether the learning rate is part of them; it is not where it is a flag, which a resume may change.
    """
    return {name: np.asarray(variable.numpy()) for name, variable in _named(model, keep_rate=keep_rate).items()}


def assign(model: Any, values: dict[str, npt.NDArray[Any]], *, keep_rate: bool) -> None:
    """Sets the variables to what `arrays` returned.

    Raises:
      DataError: one of them is missing.
    """
    for name, variable in _named(model, keep_rate=keep_rate).items():
        if name not in values:
            raise DataError(f"the checkpoint lacks {name}; start it as before, or start anew with another --run_dir")
        variable.assign(values[name])


def of_model(model: Any) -> dict[str, npt.NDArray[Any]]:
    """Copies of a model's own variables, by the names that `arrays` gives them."""
    return {name: np.asarray(variable.numpy()) for name, variable in _named_weights(model).items()}


def assign_model(model: Any, values: dict[str, npt.NDArray[Any]]) -> None:
    """Sets a model's own variables to what `of_model` returned."""
    for name, variable in _named_weights(model).items():
        variable.assign(values[name])


def shapes(model: Any) -> str:
    """The model's variables and their shapes, for a person."""
    return ", ".join(f"{variable.path} {tuple(variable.shape)}" for variable in _weights(model))


_WORDS = 2**26  # Of 4 bytes, which are sent at once: no message of gRPC has 2 GiB.


def agree(strategy: tf.distribute.Strategy, cluster: Cluster | None, find: Callable[[], "Start"]) -> "Start":
    """Calls `find` on the chief and gives its answer, or its error, to every worker.

    Raises:
      UsageError, DataError: what `find` raised on the chief.
    """
    if cluster is None or cluster.workers == 1:
        return find()
    message = b""
    if cluster.is_chief:
        try:
            message = _encode(find())
        except (UsageError, DataError) as error:
            message = bytes([error.exit_code]) + str(error).encode()
    size = np.array([len(message)], np.int64).view(np.int32)
    length = int(strategies.broadcast(strategy, size).view(np.int64)[0])
    words = np.zeros(-(-length // 4), np.int32)
    words.view(np.uint8)[: len(message)] = np.frombuffer(message, np.uint8)
    for first in range(0, len(words), _WORDS):
        piece = words[first : first + _WORDS]
        piece[:] = strategies.broadcast(strategy, piece)
    told = words.tobytes()[:length]
    return _decode(told)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What an attempt starts from."""

    checkpoint: Checkpoint | None = None
    finished: bool = False  # The run has its result; there is nothing to do.


def _encode(start: Start) -> bytes:
    content = start.checkpoint.encode() if start.checkpoint else b""
    return bytes([ExitCode.DONE]) + json.dumps(start.finished).encode() + b"\n" + content


def _decode(message: bytes) -> Start:
    for error in (UsageError, DataError):
        if message[0] == error.exit_code:
            raise error(f"on the chief: {message[1:].decode()}")
    finished, _, content = message[1:].partition(b"\n")
    return Start(finished=json.loads(finished), checkpoint=Checkpoint.decode(content) if content else None)


def _write(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor | None]) -> None:
    for variable, value in zip(variables, values, strict=True):
        if value is not None:
            variable.assign(tf.cast(value, variable.dtype))


def _weights(model: Any) -> list[Any]:
    """The variables of a model, less the hidden state of random layers, which training does not use."""
    return [variable for variable in model.variables if not random_state.is_seed(variable)]


def _named_weights(model: Any) -> dict[str, Any]:
    return {f"model/{index}/{variable.path}": variable for index, variable in enumerate(_weights(model))}


def _named(model: Any, *, keep_rate: bool) -> dict[str, Any]:
    named = _named_weights(model)
    kept = [variable for variable in model.optimizer.variables if keep_rate or variable.name != "learning_rate"]
    return named | {f"optimizer/{index}/{variable.path}": variable for index, variable in enumerate(kept)}


def _global_seed() -> Any:
    """The state of the generator that Keras draws from where a layer names no seed."""
    generator = global_seed_generator()
    # Keras lets such draws run through fewer than a million numbers; as a layer's, each is another one.
    generator.next = lambda ordered=True: SeedGenerator.next(generator, ordered=bool(ordered) or True)
    return generator.state
