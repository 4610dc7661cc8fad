"""How this process computes together with the others: the tf.distribute strategy, its start and its end."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from trainer.core.config import Config
from trainer.core.exit_codes import PeerLostError, TrainerError
from trainer.core.tf_config import Cluster
from trainer.training.hardware import tf_logging, worker_gpus

# Time for the last bytes of a collective to reach the others before this process is gone.
_LEAVE_SECONDS = 0.2
_REFUSE_MS = 5000  # For which what all refuse waits for the others: they have all done the same until then.
_RING = tf.distribute.experimental.CommunicationImplementation.RING
_NCCL = tf.distribute.experimental.CommunicationImplementation.NCCL


def create(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """The strategy for this process; with a cluster it waits until every worker is there.

    TF_CONFIG must be in the environment when a cluster is given.

    Raises:
      AcceleratorError: the workers have different numbers of GPUs, or NCCL was asked for and cannot be had.
    """
    if cluster is None:
        several = len(tf.config.list_physical_devices("GPU")) > 1
        return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    # gRPC has what a collective receives in one piece, and not in pieces of 4 KiB. No public name sets that once
    # TensorFlow has been asked for its devices; it reads it when its server starts.
    received = tf.compat.v1.ConfigProto.Experimental(recv_buf_max_chunk=-1)
    context.context()._config = tf.compat.v1.ConfigProto(experimental=received)
    options = tf.distribute.experimental.CommunicationOptions(implementation=_RING)
    with tf_logging.withheld(verbosity=config.verbosity):
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    workers = worker_gpus.exchange(cluster) if cluster.workers > 1 else [worker_gpus.of_this_process()]
    worker_gpus.check_alike(workers)
    # The strategy reads its options at each collective; TensorFlow's own AUTO never takes NCCL.
    options.implementation = _NCCL if worker_gpus.take_nccl(config.communication, workers) else _RING
    return strategy


@contextlib.contextmanager
def refusing_together(cluster: Cluster | None) -> Iterator[None]:
    """What every worker refuses, each by itself, ends none before all have come so far: it may still answer another.

    Raises:
      TrainerError: what is raised in here.
    """
    try:
        yield
    except TrainerError:
        if cluster and cluster.workers > 1:
            with contextlib.suppress(tf.errors.OpError):  # A worker is gone, or was here and has left.
                # What of tf.distribute waits without a collective; no public name leads there.
                context.context().wait_at_barrier("trainer/refusing", _REFUSE_MS)
        raise


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
