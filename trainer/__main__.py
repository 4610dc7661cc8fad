"""`python -m trainer [flags]`: one worker's training process.

TF_CONFIG in the environment makes it one of several workers; without it, it trains alone.
"""

import os
import sys
import time
from pathlib import Path

from absl import logging

from trainer import supervision
from trainer.cluster import Cluster
from trainer.config import Config
from trainer.exit_codes import ExitCode, TrainerError, UsageError
from trainer.stop import StopWish


def main(argv: list[str], *, began: float) -> int:
    """Runs one attempt; returns the process's exit code."""
    stop = StopWish()
    supervision.start_beating()
    if supervision.is_spare():
        _silence_tensorflow(verbosity=0)
        import trainer.run  # noqa: F401  The import is what a spare is for.

        argv = supervision.handed_over()
        began = time.monotonic()
    try:
        config = Config.from_arguments(argv)
        logging.set_verbosity(config.verbosity)
        logging.use_absl_handler()
        cluster = Cluster.from_tf_config(os.environ.get("TF_CONFIG", ""))
        _check_shares(config, cluster)
        run_dir = Path(config.run_dir or time.strftime("logs/fit/%Y%m%d-%H%M%S"))
        if cluster is None and (run_dir / "result.json").exists():
            print(f"{run_dir} holds a finished run; nothing to do")
            return ExitCode.DONE
        if cluster is None or cluster.is_chief:
            _check_writable(run_dir)
        _silence_tensorflow(config.verbosity)
        from trainer import run  # TensorFlow takes seconds to import: what can be refused is refused before.

        return run.attempt(config=config, cluster=cluster, run_dir=run_dir, stop=stop, began=began)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _check_shares(config: Config, cluster: Cluster | None) -> None:
    if cluster and config.global_batch_size < cluster.workers:
        raise UsageError(
            f"--global_batch_size={config.global_batch_size} is smaller than the number of workers, {cluster.workers}; "
            "every worker needs at least one example of each batch"
        )


def _check_writable(run_dir: Path) -> None:
    """Refuses a run directory that could not be written to later."""
    probe = run_dir / ".probe"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(65536))
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"--run_dir={run_dir} cannot be written to ({error.strerror}); make room or name another folder"
        ) from None


def _silence_tensorflow(verbosity: int) -> None:
    """TensorFlow's C++ code reads its verbosity when it is imported."""
    if verbosity < 1:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], began=time.monotonic()))
