"""Trains kinds of models by Keras' `fit` and by ours, and prints what they end with: a line of JSON a kind.

python -m tests.training.oracle.run MODE [--save=FOLDER | --resume=FOLDER] [KIND ...]

MODE: fit; or the number of replicas, each a logical device of this process; with "x" behind it XLA compiles the steps,
with a number behind ":" chunks have that many; with "s" behind it the examples are read one by one, from sources.
With --save each kind's checkpoint is written in the midst of an epoch, and the process ends by kill -9.
"""

import functools
import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

REPLICAS = 3
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * REPLICAS
)
tf.config.threading.set_intra_op_parallelism_threads(1)

import keras  # noqa: E402

from tests.training.oracle.every_kind import KINDS, WITH_OURS  # noqa: E402
from tests.training.oracle.kinds import BATCH, Kind  # noqa: E402
from trainer.core.config import Config  # noqa: E402
from trainer.training import assembly  # noqa: E402
from trainer.training.chunks import ChunkLength  # noqa: E402
from trainer.training.data.order import Order  # noqa: E402
from trainer.training.hardware import strategy  # noqa: E402
from trainer.training.hardware.compiling import Compiling  # noqa: E402
from trainer.training.model.experiment import Experiment  # noqa: E402
from trainer.training.state import variables  # noqa: E402
from trainer.training.state.checkpoint import Checkpoint, check_identity  # noqa: E402
from trainer.training.stepping import measured  # noqa: E402

EPOCHS, SEED = 3, 5
gc.disable()
gc.freeze()  # clear_session looks through all that is not, for each kind anew, and nobody else.
SAVED = 10  # Steps, of which an epoch has 7.


def by_fit(kind: Kind) -> dict[str, Any]:
    """What Keras ends with, fed the same batches in the same order."""
    keras.utils.set_random_seed(SEED)
    model = kind.model()
    train, validation = kind.data()
    examples = len(keras.tree.flatten(train[0])[0])
    steps = examples // BATCH
    if not model.compiled:
        _compile_as_the_flags(model, train)
    model.jit_compile = False  # The same results, sooner.
    if model.built and getattr(model, "optimizer", None) and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)  # Or the step would be traced twice.
    orders = [Order(SEED, epoch, examples).rows(0, steps * BATCH) for epoch in range(EPOCHS)]
    rows = np.concatenate(orders)
    train, validation = (split and tuple(part for part in split if part is not None) for split in (train, validation))
    nests = tuple(keras.tree.map_structure(lambda leaf: _taken(leaf, rows), part) for part in train)
    nests = tuple(tuple(part) if isinstance(part, list) else part for part in nests)
    data = tf.data.Dataset.from_tensor_slices(nests).batch(BATCH)
    if validation is not None:
        validation = tuple(tuple(part) if isinstance(part, list) else part for part in validation)
    history = model.fit(
        data, epochs=EPOCHS, steps_per_epoch=steps, validation_data=validation, validation_batch_size=BATCH, verbose=0
    )
    return _ended(model, [_single(history.history, epoch) for epoch in range(EPOCHS)])


def by_ours(
    kind: Kind,
    replicas: int,
    *,
    jit_compile: bool,
    chunk: int,
    read: bool,
    save: Path | None,
    resume: Path | None,
) -> dict[str, Any]:
    """What our loop ends with; `save` and `resume` name the file of a checkpoint in the midst of the second epoch."""
    experiment = Experiment(
        name="kind",
        load_data=lambda _: _sources(kind.data()) if read else kind.data(),
        build_model=lambda _: kind.model(),
        preprocess=kind.preprocess,
    )
    strategy.create = lambda *_: _strategy(replicas)
    config = Config(
        seed=SEED, epochs=EPOCHS, global_batch_size=BATCH, jit_compile="true" if jit_compile else "auto"
    )  # fmt: skip
    parts = assembly.assemble(config, None, experiment)
    trainer, compiling, history = parts.trainer, Compiling(config.jit_compile), []
    step = 0
    sums: Any = trainer.scores.start()
    by_flags = parts.rate_is_a_flag
    if resume:
        saved = Checkpoint.decode(resume.read_bytes())
        check_identity(saved, parts.identity)
        variables.assign(parts.model, saved.arrays, keep_rate=not by_flags)
        step, sums, history = saved.step, saved.sums, saved.history
    for epoch in range(step // trainer.steps_per_epoch, EPOCHS):
        trainer.start_epoch(epoch)
        end = (epoch + 1) * trainer.steps_per_epoch
        while step < end:
            until = min(step + chunk, end) if chunk else end
            until = min(until, SAVED) if step < SAVED else until
            outcome = trainer.run(step, until, sums)
            step, sums = outcome.step, outcome.sums
            if save and step == SAVED:
                save.write_bytes(
                    Checkpoint(
                        step=step, sums=[np.asarray(value) for value in sums], history=list(history), seconds=0.0,
                        step_seconds=0.0, step_examples=0, identity=parts.identity,
                        arrays=variables.arrays(parts.model, keep_rate=not by_flags),
                    ).encode()
                )  # fmt: skip
        values = trainer.scores.values(sums, trainer.steps_per_epoch * BATCH)
        sums = trainer.scores.start(sums)
        validation: dict[str, float] | None = {}
        if trainer.evaluation:
            length = ChunkLength(fixed=chunk)
            validation = measured(trainer.evaluation, epoch, compiling=compiling, chunk=length, agree=bool)
        history.append(values | {f"val_{name}": value for name, value in (validation or {}).items()})
    trainer.finalize()
    return _ended(parts.model, history)


class _Source:
    """Arrays, given one example at a time."""

    def __init__(self, split: Any) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(keras.tree.flatten(self._split[0])[0])

    def __getitem__(self, row: int) -> Any:
        return tuple(
            None if part is None else keras.tree.map_structure(lambda leaf: leaf[row], part) for part in self._split
        )


def _sources(data: Any) -> Any:
    return tuple(None if split is None else _Source(split) for split in data)


@functools.cache
def _strategy(replicas: int) -> Any:
    devices = [f"CPU:{index}" for index in range(replicas)]
    return tf.distribute.MirroredStrategy(devices) if replicas > 1 else tf.distribute.get_strategy()


def _ended(model: Any, history: list[dict[str, Any]]) -> dict[str, Any]:
    weights = [np.asarray(weight).astype("float64").ravel().tolist() for weight in _weights(model)]
    return {
        "weights": weights,
        "history": [{name: np.ravel(value).tolist() for name, value in epoch.items()} for epoch in history],
    }


def _single(history: dict[str, Any], epoch: int) -> dict[str, Any]:
    """Each value of an epoch by a name of its own, as we show a metric that has several."""
    values = {name: np.ravel(of_epochs[epoch]) for name, of_epochs in history.items()}
    return {
        f"{name}_{index}" if len(several) > 1 else name: one
        for name, several in values.items()
        for index, one in enumerate(several)
    }


def _weights(model: Any) -> list[Any]:
    return [weight.numpy() for weight in model.weights if weight.name != "seed_generator_state"]


def _taken(leaf: Any, rows: Any) -> Any:
    taken = leaf[rows]
    return taken.astype("float32") if taken.dtype.kind == "f" else taken


def _compile_as_the_flags(model: Any, train: Any) -> None:
    from trainer.training.model.compilation import compile_by_flags

    y = tf.convert_to_tensor(train[1][:40])
    compile_by_flags(model, Config(), y, model(train[0][:40]), steps=1)


def main(mode: str, arguments: list[str]) -> None:
    name, _, chunk = mode.partition(":")
    options = dict(option.removeprefix("--").split("=") for option in arguments if option.startswith("--"))
    names = [argument for argument in arguments if not argument.startswith("--")]

    def file(option: str, kind: str) -> Path | None:
        return Path(options[option]) / f"{list(WITH_OURS).index(kind)}.npz" if option in options else None

    for kind in names or KINDS:
        keras.backend.clear_session()
        try:
            if mode == "fit":
                ended = by_fit(WITH_OURS[kind])
            else:
                replicas = int(name.rstrip("xs"))
                ended = by_ours(
                    WITH_OURS[kind], replicas, jit_compile="x" in name, chunk=int(chunk or 0), read="s" in name,
                    save=file("save", kind), resume=file("resume", kind),
                )  # fmt: skip
        except Exception:
            ended = {"error": traceback.format_exc()}
        print(json.dumps({"kind": kind} | ended), flush=True)
    if "save" in options:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
