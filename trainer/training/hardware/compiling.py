"""What XLA is to compile, and what becomes of what it refuses: it runs as plain TensorFlow, or not at all."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import tensorflow as tf

from trainer.core.exit_codes import UsageError
from trainer.training.hardware import xla

STEPS, EVALUATION, OUTPUTS = "training steps", "evaluation", "outputs"  # What is compiled, for a person.
_Result = TypeVar("_Result")
_REFUSALS = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)


def asked_of_xla(flag: str, compiled: bool | None, *, synchronized: bool) -> bool:
    """Whether XLA is to compile the steps: as the flag says, or as `compile` does, or on GPUs.

    On CPUs XLA was measured to be no faster than plain TensorFlow where it matters (docs/kubernetes.md).

    Args:
      flag: --jit_compile.
      compiled: what the model is compiled with; None: nothing.
      synchronized: layers ask other replicas in the midst of a step.

    Raises:
      UsageError: they contradict each other, or ask for what cannot be.
    """
    said = {"true": True, "false": False}.get(flag)
    if None not in (said, compiled) and said != compiled:
        raise UsageError(f"--jit_compile={flag}, and the model is compiled with jit_compile={compiled}; leave one out")
    wished = compiled if said is None else said
    if wished is not None and not (wished and synchronized):
        return wished
    if wished:
        raise UsageError(
            "XLA cannot compile a step whose synchronized layers ask the other replicas in its midst; leave "
            "--jit_compile=true, or compile's jit_compile=True, or synchronized=True out"
        )
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if on_gpu and synchronized:
        print("XLA does not compile the steps: synchronized layers ask the other replicas in their midst", flush=True)
    return on_gpu and not synchronized


class Compiled(Protocol):
    """Has functions that XLA may compile."""

    jit_compile: bool  # Whether it does.

    def without_xla(self) -> None:
        """Makes them run as plain TensorFlow from now on."""


class Compiling:
    """Calls compiled functions, as `--jit_compile` says."""

    def __init__(self, flag: str) -> None:
        """`flag` is --jit_compile. Nothing has been called yet."""
        self._flag = flag
        self._called: set[str] = set()

    def call(self, what: str, function: Callable[[], _Result], of: Compiled) -> _Result:
        """Calls a function. Only its first call compiles it: what a later one raises is no refusal.

        Args:
          what: the function, for a person; the same words every time.
          function: to be called; called again where XLA has refused it, which has changed nothing then.
          of: what it is a function of.

        Returns:
          What the function returns.

        Raises:
          UsageError: XLA cannot compile it, and --jit_compile=true; or an operation has no deterministic kernel.
        """
        if what in self._called:
            return function()
        with xla.first_call(what, jit_compile=of.jit_compile):
            try:
                result = function()
            except _REFUSALS as error:
                reason = xla.refusal(error) if of.jit_compile else ""
                if not reason:
                    raise
                if self._flag == "true":
                    raise UsageError(
                        f"XLA cannot compile this model ({what}: {reason}); leave --jit_compile=true out, and it runs "
                        "as plain TensorFlow"
                    ) from None
                print(f"XLA cannot compile this model ({what}: {reason}): it runs as plain TensorFlow", flush=True)
                of.without_xla()
                result = function()
        self._called.add(what)
        return result
