"""How this process computes together with the others: the tf.distribute strategy, its start and its end."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from trainer.core.config import Config
from trainer.core.exit_codes import AcceleratorError, PeerLostError
from trainer.core.tf_config import Cluster
from trainer.training import tf_logging

# Time for the last bytes of a collective to reach the others before this process is gone.
_LEAVE_SECONDS = 0.2


def configure_devices(config: Config) -> None:
    """Sets what TensorFlow must know before it starts: threads, and memory taken as needed.

    Raises:
      AcceleratorError: there are fewer GPUs than `--expect_gpus`.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) < config.expect_gpus:
        raise AcceleratorError(
            f"asked for {config.expect_gpus} GPU{'s' * (config.expect_gpus != 1)}, TensorFlow sees {len(gpus)}; "
            "check the driver, the device plugin and that the image is the GPU one, or train on CPUs: "
            "--expect_gpus=0 (in the chart: worker.gpus=0)"
        )
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if config.threads:
        tf.config.threading.set_intra_op_parallelism_threads(config.threads)
        tf.config.threading.set_inter_op_parallelism_threads(config.threads)


def create(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """The strategy for this process; with a cluster it waits until every worker is there.

    TF_CONFIG must be in the environment when a cluster is given.
    """
    if cluster is None:
        several = len(tf.config.list_physical_devices("GPU")) > 1
        return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    implementation = getattr(tf.distribute.experimental.CommunicationImplementation, config.communication.upper())
    options = tf.distribute.experimental.CommunicationOptions(implementation=implementation)
    with tf_logging.withheld(verbosity=config.verbosity):
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


@contextlib.contextmanager
def peers_watched(cluster: Cluster | None) -> Iterator[None]:
    """Turns what TensorFlow raises when a peer is gone into PeerLostError."""
    try:
        yield
    except (
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError,
        tf.errors.InternalError,
        tf.errors.UnavailableError,
        tf.errors.UnknownError,
    ) as error:
        if cluster is None or cluster.workers == 1:
            raise
        first = str(error).strip().splitlines()[0]
        if "Could not start gRPC server" in first:
            raise PeerLostError(
                f"TensorFlow cannot listen on {cluster.addresses[cluster.index]}, this worker's address in TF_CONFIG: "
                "another process holds the port; end it, or name another"
            ) from error
        raise PeerLostError(f"another worker is gone ({type(error).__name__}: {first})") from error


def broadcast(strategy: tf.distribute.Strategy, values: Any) -> Any:
    """The chief's values, bit by bit, on every worker.

    Args:
      strategy: of all workers.
      values: int32 [count]; only the chief's matter, the others give an array of the same length.

    Returns:
      int32 [count], the chief's.
    """
    # The strategy gives every new variable the chief's initial value: the one broadcast that is public.
    with strategy.scope():
        variable = tf.Variable(values, trainable=False, name="broadcast")
    return strategy.experimental_local_results(variable)[0].numpy()


def leave(strategy: tf.distribute.Strategy, cluster: Cluster | None) -> None:
    """Returns when every worker has come here, so that none leaves while another still needs it (tensorflow#58434)."""
    if cluster is None or cluster.workers == 1:
        return

    def together() -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.ones([])), axis=None)

    tf.function(together, autograph=False)()
    time.sleep(_LEAVE_SECONDS)
