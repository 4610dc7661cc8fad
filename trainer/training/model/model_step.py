"""A model's part of a step, as functions of tensors alone: no variable is read or written here.

So the same function serves one replica and many, plain TensorFlow and XLA, and says the same on each.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import tensorflow as tf
from absl import logging

from trainer.core.exit_codes import UsageError
from trainer.training.data import random_state
from trainer.training.model.first_look import FirstLook, call
from trainer.training.model.scores import Scores, Sums
from trainer.training.model.sharing import Sharing
from trainer.training.nests import Nest
from trainer.training.state.variables import Variables


class ModelStep:
    """Gradients and scores of a model that is compiled and built."""

    def __init__(
        self, model: Any, variables: Variables, scores: Scores, sharing: Sharing | None, look: FirstLook
    ) -> None:
        """`sharing` says how several replicas share a batch; None: there is one."""
        self._model, self._variables, self._scores, self._sharing = model, variables, scores, sharing
        self._look = look
        self._without: list[int] = []  # Weights on which the loss does not depend, as the steps are traced.
        self.scales_loss = hasattr(model.optimizer, "dynamic_scale")

    def gradients(
        self,
        x: Nest,
        y: Nest,
        weight: Nest,
        seeds: Any,
        trained: Any,
        others: Any,
        state: Any,
        metrics: Any,
        divisors: Any,
    ) -> tuple[list[tf.Tensor | None], list[tf.Tensor | None], tf.Tensor, list[tf.Tensor]]:
        """A replica's part of a step.

        Args:
          x: the inputs.
          y: the labels.
          weight: of each example.
          seeds: what each seed generator holds.
          trained: values of the variables that are trained.
          others: of those that are not.
          state: of the optimizer's, where it scales the loss; else empty.
          metrics: of the metrics'.
          divisors: see `Sharing.loss`; not used where there is one replica.

        Returns:
          The gradients, None where the loss does not depend on a variable; new values of what the forward pass has
          assigned, first those of variables that are not trained, then of those that are, None for the rest; the loss,
          or this replica's part of it; the metrics after this batch.
        """
        scope = self._scope(trained, others, seeds, state, metrics)
        before = [scope.get_current_value(variable) for variable in self._variables.others]
        parts: list[tf.Tensor] = []
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            scope.watch(tape, self._variables.trained)
            with scope:
                outputs = call(self._model, x, training=True)
                if self._sharing is None:
                    loss = self._whole_loss(x, y, outputs, weight, training=True)
                else:
                    loss, parts, _ = self._sharing.loss(x, y, outputs, weight, divisors)
                # A loss of each example, with the reduction None, is trained on as a sum and shown as a mean.
                scaled = self._model.optimizer.scale_loss(tf.reduce_sum(loss))
        gradients = scope.gradients(tape, scaled, trained)
        self._without = [place for place, gradient in enumerate(gradients) if gradient is None]
        with scope:
            self._model.compute_metrics(x, y, outputs, weight)
        after = [scope.get_current_value(variable) for variable in self._variables.others]
        measured = self._scores.after(scope, metrics)
        if self._sharing is not None:
            measured = self._sharing.with_parts(measured, parts)
        changed = [None if new is old else new for new, old in zip(after, before, strict=True)]
        return gradients, [*changed, *scope.assigned()], tf.reduce_mean(loss), measured

    def check_trained(self) -> None:
        """Says what would not be trained, once the steps are traced.

        Raises:
          UsageError: that is all, or Keras' fit would train it.
        """
        if not self._without:
            return
        names, by_fit = [variable.path for variable in self._variables.trained], self._trained_by_fit()
        if hidden := [names[place] for place in self._without if by_fit[place]]:
            raise UsageError(
                f"{', '.join(hidden)} would not be trained: a keras.remat or a custom gradient keeps weights from a "
                "step that is a function of them; leave it out"
            )
        if len(self._without) == len(names):
            raise UsageError(
                "the loss depends on no weight of the model, so that nothing would be trained; look for a rounding "
                "between the weights and the loss"
            )
        untrained = ", ".join(names[place] for place in self._without)
        logging.warning("the loss does not depend on %s: not trained", untrained)

    def _trained_by_fit(self) -> list[bool]:
        """Whether the loss depends on each weight, where the model computes with its variables themselves."""
        look, weights = self._look, [variable.value for variable in self._variables.trained]
        known: list[bool] = []

        def traced() -> None:  # And never run, so that nothing is assigned.
            with tf.GradientTape() as tape:
                outputs = call(self._model, look.x, training=True)
                loss = self._whole_loss(look.x, look.y, outputs, look.weight, training=True)
            known.extend(gradient is not None for gradient in tape.gradient(loss, weights))

        tf.function(traced, autograph=False).get_concrete_function()
        return known

    def counts(self, *arguments: Any) -> tf.Tensor:
        """What a replica adds to the divisor of each loss: float32 [losses]. Takes what `gradients` takes but the last.

        All else that is computed here is left out by TensorFlow as unused.
        """
        x, y, weight, seeds, trained, others, state, metrics = arguments
        assert self._sharing is not None  # noqa: S101
        with self._scope(trained, others, seeds, state, metrics):
            outputs = call(self._model, x, training=True)
            _, _, counted = self._sharing.loss(x, y, outputs, weight, None)
        return tf.stack([tf.zeros([]) if count is None else tf.cast(count, tf.float32) for count in counted])

    def evaluated(
        self, x: Nest, y: Nest, weight: Nest, seeds: Any, trained: Any, others: Any, sums: Any
    ) -> tuple[Sums, list[tf.Tensor]]:
        """The sums over a validation split after one more batch, and the variables that are not trained."""
        examples = keras.tree.flatten(x)[0].shape[0]
        scope = self._scope(trained, others, seeds, [], sums[1:])
        with scope:
            outputs = call(self._model, x, training=False)
            loss = self._whole_loss(x, y, outputs, weight, training=False)
            self._model.compute_metrics(x, y, outputs, weight)
        after = self._scores.after(scope, sums[1:])
        for place in (place for tracker in self._scores.loss_trackers for place in tracker):
            # Keras' fit does not know how many examples a batch of validation has, and counts each as one.
            after[place] = sums[1 + place] + (after[place] - sums[1 + place]) / examples
        state = [scope.get_current_value(variable) for variable in self._variables.others]
        return [sums[0] + tf.cast(tf.reduce_mean(loss), tf.float64) * examples, *after], state

    def _whole_loss(self, x: Nest, y: Nest, outputs: Nest, weight: Nest, *, training: bool) -> tf.Tensor:
        return self._model._compute_loss(x, y, outputs, weight, training=training)

    def _scope(self, trained: Any, others: Any, seeds: Any, state: Any, metrics: Any) -> "_Scope":
        """Where all variables have these values, and changes are kept beside them."""
        variables = self._variables
        mapping = [
            *zip(variables.trained, trained, strict=True), *zip(variables.others, others, strict=True),
            *zip(variables.seeds, seeds, strict=True), *zip(self._scores.variables, metrics, strict=True),
            *(zip(variables.optimizer, state, strict=True) if state else ()),
            # Keras reads its own mean of the loss with the metrics; outside of a replica that would be a collective.
            *((variable, tf.zeros(variable.shape, variable.dtype)) for variable in self._scores.unused),
        ]  # fmt: skip
        return _Scope(mapping, collect_losses=True, initialize_variables=False)


class _Scope(keras.StatelessScope):  # type: ignore[misc]  # Keras has no types.
    """A scope in which a layer may assign a variable that is trained, too, as SpectralNormalization does.

    As with TensorFlow's variables, no gradient passes through the assignment, and that of what is read afterwards
    counts as the variable's.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        self._graph, self._misplaced = tf.compat.v1.get_default_graph(), ""
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._misplaced:  # Said here: within a layer, Keras would put words of its own around it.
            raise UsageError(self._misplaced)

    def watch(self, tape: tf.GradientTape, trained: Sequence[Any]) -> None:
        """From now on notes what is assigned to these variables."""
        self._tape, self._trained = tape, list(trained)
        self._values: dict[int, list[tf.Tensor]] = {}

    def add_update(self, update: tuple[Any, Any]) -> None:
        """Called by Keras for each assignment."""
        variable, value = update
        inside = list(self._graphs_inside())
        if random_state.is_seed(variable):
            if any(name != "CondBranchFuncGraph" for name in inside):
                self._misplaced = (
                    "a layer draws random numbers in the body of a loop, a map or a recurrent cell, where every round "
                    "would get the same ones; draw them before it"
                )
        elif inside:
            self._misplaced = (
                f"{variable.path} is assigned in a branch of keras.ops.cond or in the body of a loop, from where a "
                "compiled step cannot bring it out; assign keras.ops.where(condition, new, old) outside of it"
            )
            return
        if any(variable is one for one in getattr(self, "_trained", ())):
            value = tf.stop_gradient(value)
            self._tape.watch(value)
            self._values.setdefault(id(variable), []).append(value)
        super().add_update((variable, value))

    def _graphs_inside(self) -> Iterator[str]:
        """The kinds of graphs that are being traced inside of the step's own: of branches and bodies of loops."""
        graph = tf.compat.v1.get_default_graph()
        while graph is not self._graph and graph is not None:
            yield type(graph).__name__
            graph = getattr(graph, "outer_graph", None)

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor, trained: Sequence[tf.Tensor]) -> list[Any]:
        """Of a loss, by each variable; None where it does not depend on one."""
        assigned = [self._values.get(id(variable), []) for variable in self._trained]
        by_value = tape.gradient(loss, [list(trained), assigned])
        gradients = []
        for first, later in zip(*by_value, strict=True):
            known = [gradient for gradient in (first, *later) if gradient is not None]
            gradients.append(known[0] if len(known) == 1 else tf.add_n(known) if known else None)
        return gradients

    def assigned(self) -> list[tf.Tensor | None]:
        """What each variable that is trained was assigned last."""
        return [self._values[id(variable)][-1] if id(variable) in self._values else None for variable in self._trained]


def traced_alone(function: Callable[..., Any], arguments: Any, *, jit_compile: bool) -> Callable[..., Any]:
    """A function traced outside of any strategy: Keras divides losses by a strategy's replicas, and here that is done.

    Args:
      function: of nests of tensors, in which None may stand.
      arguments: such nests, of `tf.TensorSpec`s.
      jit_compile: whether XLA compiles it.
    """
    places = [index for index, leaf in enumerate(tf.nest.flatten(arguments)) if leaf is not None]
    specs = [tf.nest.flatten(arguments)[index] for index in places]
    count = len(tf.nest.flatten(arguments))

    def on_tensors(*tensors: tf.Tensor) -> Any:
        leaves: list[tf.Tensor | None] = [None] * count
        for place, tensor in zip(places, tensors, strict=True):
            leaves[place] = tensor
        return function(*tf.nest.pack_sequence_as(arguments, leaves))

    compiled = tf.function(on_tensors, autograph=False, jit_compile=True if jit_compile else None)
    traced = compiled.get_concrete_function(*specs)

    def called(*given: Any) -> Any:
        leaves = tf.nest.flatten(list(given))
        return traced(*[leaves[place] for place in places])

    return called
