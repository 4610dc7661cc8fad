"""XLA in this process: which kernels it may take, where its choices among them are kept, what it refuses to compile.

XLA reads XLA_FLAGS when it compiles first, so that they can be set after TensorFlow was imported, as in a warm spare.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from trainer.core import agent_link
from trainer.core.exit_codes import UsageError
from trainer.core.run_dir import autotuning_key

_DETERMINISTIC = "--xla_gpu_deterministic_ops"
_DUMP, _LOAD = "--xla_gpu_dump_autotune_results_to", "--xla_gpu_load_autotune_results_from"


class Autotuning:
    """Which of several kernels XLA has measured to be the fastest on a worker's GPUs, kept from one start to the next.

    Another choice gives other bits, and measuring takes seconds.
    """

    def __init__(self, run_dir: Path, worker: int) -> None:
        """Nothing is written yet."""
        self._kept = run_dir / autotuning_key(worker, tf.__version__)
        # XLA writes it anew after each compilation, and would end with an error at half a file.
        self._written = self._kept.with_name(f".{self._kept.name}")

    def flags(self) -> list[str]:
        """What XLA is to be told; nothing where the run directory cannot be written to."""
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            self._written.unlink(missing_ok=True)
        except OSError:
            return []
        load = [f'{_LOAD}="{self._kept}"'] if self._kept.exists() else []
        return [*load, f'{_DUMP}="{self._written}"']

    def keep(self) -> None:
        """Keeps what XLA has written since."""
        with contextlib.suppress(OSError):  # It has compiled nothing that needed a choice, or the disk is full.
            with self._written.open("rb") as file:
                os.fsync(file.fileno())
            self._written.replace(self._kept)


_autotuning: Autotuning | None = None


def configure(autotuning: Autotuning | None, *, deterministic: bool) -> None:
    """Sets XLA_FLAGS for GPUs, before XLA compiles anything. A flag that is there already stays as it is.

    Args:
      autotuning: where its choices are kept; None: nowhere.
      deterministic: whether only kernels may be taken that give the same in every run.
    """
    global _autotuning
    _autotuning = autotuning
    own = [*([f"{_DETERMINISTIC}=true"] if deterministic else []), *(autotuning.flags() if autotuning else [])]
    given = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in given}
    os.environ["XLA_FLAGS"] = " ".join([*given, *(flag for flag in own if flag.partition("=")[0] not in names)])


@contextlib.contextmanager
def first_call(what: str, *, jit_compile: bool) -> Iterator[None]:
    """Around the first call of a compiled function, which compiles it, by XLA or by CUDA's driver on a GPU.

    That may take minutes, which the agent is told, so that it takes them for no hang; its seconds are printed, and what
    XLA has chosen is kept: before a checkpoint is that another start would go on from.

    Args:
      what: the function, for a person.
      jit_compile: whether XLA compiles it.

    Raises:
      UsageError: an operation of it has no deterministic kernel.
    """
    if not (jit_compile or tf.config.list_physical_devices("GPU")):
        yield
        return
    began = time.monotonic()
    with agent_link.busy():
        try:
            yield
        except tf.errors.UnimplementedError as error:
            if "etermini" not in error.message:  # "Deterministic GPU implementation of ... not available", and others.
                raise
            line = " ".join(error.message.split())[:300]
            raise UsageError(f"{line}; use another operation, or give up exactness: --deterministic=false") from None
    if _autotuning:
        _autotuning.keep()
    print(f"{what}: first call {time.monotonic() - began:.1f} s, compilation included", flush=True)


def refusal(error: Exception) -> str:
    """The first line of what XLA says where it could not compile a function; "" for an error of one that it did."""
    text = str(error)
    refused = ("XLA", "uncompilable", "compile", "tf2xla", "must be a compile-time constant")
    if not any(words in text for words in refused):
        return ""
    return next(iter(text.strip().splitlines()))[:200]
