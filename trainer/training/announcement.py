"""What a run says before its first step, and what its compiled steps must not hold."""

from pathlib import Path

import tensorflow as tf

from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.core.tf_config import Cluster
from trainer.training.assembly import Assembly
from trainer.training.data.feeding import SourceFeed
from trainer.training.state.saving import as_its_user_made_it
from trainer.training.trainer import shares

# Operations that draw from hidden state: after a kill they would go on elsewhere.
_HIDDEN_RANDOMNESS = frozenset(
    {"RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "Multinomial", "RandomShuffle",
     "RandomGamma", "RandomPoissonV2", "ParameterizedTruncatedNormal", "StatefulUniform", "StatefulStandardNormalV2"}
)  # fmt: skip


def show(config: Config, cluster: Cluster | None, run_dir: Path, parts: Assembly) -> None:
    """Prints what is trained and how the work is shared out."""
    with as_its_user_made_it(parts.model):
        parts.model.summary(line_length=80, print_fn=print)
    print(f"writing to {run_dir}; to see it: tensorboard --logdir {run_dir.parent}")
    replicas = parts.strategy.num_replicas_in_sync
    each = sorted({*shares(config.global_batch_size, replicas)}, reverse=True)
    steps = parts.trainer.steps_per_epoch
    left_out = parts.examples - steps * config.global_batch_size
    print(
        f"global batch {config.global_batch_size} = {replicas} replica(s) on {cluster.workers if cluster else 1} "
        f"worker(s) × {' or '.join(map(str, each))} examples; {steps} steps an epoch × {config.epochs} epochs = "
        f"{config.epochs * steps} steps",
        flush=True,
    )
    if isinstance(feed := parts.trainer.feed, SourceFeed):
        room = f"at most {feed.bytes_ahead / 2**20:.1f} MiB of each worker's memory"
        print(f"reading {feed.depth.batches} batches ahead, {room}", flush=True)
    if left_out * 20 > parts.examples:
        print(
            f"each epoch leaves out {left_out} of the {parts.examples} training examples, which fill no whole batch; "
            "others in every epoch",
            flush=True,
        )


def check_graph(graph: tf.Graph, known: set[int]) -> None:
    """Refuses steps that a restarted run would not make again: with hidden random numbers, or state of their own.

    Args:
      graph: of the compiled steps.
      known: the variables that a checkpoint holds or that follow from the step, by `id`.

    Raises:
      UsageError: names the operation or the variable.
    """
    for variable in graph.variables:
        if id(variable) not in known:
            raise UsageError(
                f"the model or preprocess uses the tf.Variable {variable.name}, which is no weight of the model: no "
                "checkpoint would hold it; make it by add_weight(trainable=False) of a layer"
            )
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    for node in nodes:
        if node.op.startswith("LookupTable") and tf.string.as_datatype_enum in (
            node.attr["Tin"].type,
            node.attr["Tout"].type,
        ):
            raise UsageError(
                f"the model or preprocess looks up text ({node.name}), which a compiled step cannot on every device; "
                "turn text into numbers in load_data"
            )
        if node.op in _HIDDEN_RANDOMNESS:
            raise UsageError(
                f"the model or preprocess draws random numbers by {node.op} ({node.name}), which a restarted run would "
                "not draw again; use keras.random with a keras.random.SeedGenerator, or tf.random.stateless_* with the "
                "seed that preprocess is given"
            )
