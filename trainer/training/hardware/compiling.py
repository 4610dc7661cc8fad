"""The first call of each compiled function: XLA may refuse it, and then it runs as plain TensorFlow, or not at all."""

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from trainer.core.exit_codes import UsageError
from trainer.training.hardware import xla

STEPS, EVALUATION, OUTPUTS = "training steps", "evaluation", "outputs"  # What is compiled, for a person.
_Result = TypeVar("_Result")
_REFUSALS = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)


class Compiling:
    """Calls compiled functions, as `--jit_compile` says."""

    def __init__(self, flag: str) -> None:
        """`flag` is --jit_compile. Nothing has been called yet."""
        self._flag = flag
        self._called: set[str] = set()

    def call(
        self, what: str, function: Callable[[], _Result], *, jit_compile: bool, without_xla: Callable[[], None]
    ) -> _Result:
        """Calls a function. Only its first call compiles it: what a later one raises is no refusal.

        Args:
          what: the function, for a person; the same words every time.
          function: to be called; called again where XLA has refused it, which has changed nothing then.
          jit_compile: whether XLA compiles it.
          without_xla: makes `function` one that runs as plain TensorFlow.

        Returns:
          What the function returns.

        Raises:
          UsageError: XLA cannot compile it, and --jit_compile=true; or an operation has no deterministic kernel.
        """
        if what in self._called:
            return function()
        with xla.first_call(what, jit_compile=jit_compile):
            try:
                result = function()
            except _REFUSALS as error:
                reason = xla.refusal(error) if jit_compile else ""
                if not reason:
                    raise
                if self._flag == "true":
                    raise UsageError(
                        f"XLA cannot compile this model ({what}: {reason}); leave --jit_compile=true out, and it runs "
                        "as plain TensorFlow"
                    ) from None
                print(f"XLA cannot compile this model ({what}: {reason}): it runs as plain TensorFlow", flush=True)
                without_xla()
                result = function()
        self._called.add(what)
        return result
