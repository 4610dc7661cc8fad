"""A run's variables as arrays and back, and the chief's state on every worker."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.exit_codes import DataError, ExitCode, UsageError
from trainer.core.tf_config import Cluster
from trainer.training import strategy as strategies
from trainer.training.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What an attempt starts from."""

    checkpoint: Checkpoint | None = None
    finished: bool = False  # The run has its result; there is nothing to do.


def arrays(model: Any, optimizer: Any) -> dict[str, npt.NDArray[Any]]:
    """Copies of the variables that training changes, by name."""
    return {name: variable.numpy() for name, variable in _variables(model, optimizer).items()}


def assign(model: Any, optimizer: Any, values: dict[str, npt.NDArray[Any]]) -> None:
    """Sets the variables to what `arrays` returned."""
    for name, variable in _variables(model, optimizer).items():
        variable.assign(values[name])


def shapes(model: Any) -> str:
    """The model's variables and their shapes, for a person."""
    return ", ".join(f"{variable.path} {tuple(variable.shape)}" for variable in _weights(model))


def agree(strategy: tf.distribute.Strategy, cluster: Cluster | None, find: Callable[[], Start]) -> Start:
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
    length = int(strategies.broadcast(strategy, np.array([len(message)], np.int32))[0])
    padded = np.zeros(-(-length // 4), np.int32)
    padded.view(np.uint8)[: len(message)] = np.frombuffer(message, np.uint8)
    return _decode(strategies.broadcast(strategy, padded).tobytes()[:length])


def _encode(start: Start) -> bytes:
    content = start.checkpoint.encode() if start.checkpoint else b""
    return bytes([ExitCode.DONE]) + json.dumps(start.finished).encode() + b"\n" + content


def _decode(message: bytes) -> Start:
    for error in (UsageError, DataError):
        if message[0] == error.exit_code:
            raise error(f"on the chief: {message[1:].decode()}")
    finished, _, content = message[1:].partition(b"\n")
    return Start(finished=json.loads(finished), checkpoint=Checkpoint.decode(content) if content else None)


def _weights(model: Any) -> list[Any]:
    """The variables of a model, less the hidden state of random layers, which training does not use."""
    return [variable for variable in model.variables if variable.name != "seed_generator_state"]


def _variables(model: Any, optimizer: Any) -> dict[str, Any]:
    named = {f"model/{index}/{variable.path}": variable for index, variable in enumerate(_weights(model))}
    # The learning rate is a flag: a resume may change it.
    learned = [variable for variable in optimizer.variables if variable.name != "learning_rate"]
    return named | {f"optimizer/{index}/{variable.path}": variable for index, variable in enumerate(learned)}
