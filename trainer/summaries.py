"""TensorBoard's event files, with the tags and steps that Keras' TensorBoard callback writes.

Every attempt writes a file of its own. What an earlier attempt has written is not written again, so that a resumed run
shows every point once: TensorBoard reads files in order and never goes back.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging
from tensorboard.plugins.histogram.summary_v2 import histogram_pb

from trainer.run_files import TRAIN, VALIDATION

_FLUSH_MILLISECONDS = 1000  # A writer's own default keeps two minutes of events in memory.


class Summaries:
    """Writes the event files of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._written = {kind: _written(run_dir / kind) for kind in (TRAIN, VALIDATION)}
        self._writers: dict[str, Any] = {}

    def model(self, model: Any, graph: tf.Graph) -> None:
        """Writes the model's structure, as layers and as the operations of `graph`."""
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "graph_keras_model"
        metadata.plugin_data.content = b"1"

        def structure(tag: str) -> None:
            tf.summary.write(tag, model.to_json(), step=0, metadata=metadata)
            tf.summary.graph(graph.as_graph_def())

        self._write(TRAIN, 0, {"keras": structure})

    def epoch(self, epoch: int, *, step: int, train: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """Writes the scalars of an epoch (from 0) that ended with the run's step `step`."""
        self._write(TRAIN, epoch, {f"epoch_{name}": _scalar(value) for name, value in train.items()})
        self._write(VALIDATION, epoch, {f"epoch_{name}": _scalar(value) for name, value in validation.items()})
        self._write(
            VALIDATION, step, {f"evaluation_{name}_vs_iterations": _scalar(value) for name, value in validation.items()}
        )

    def histograms(self, epoch: int, model: Any) -> None:
        """Writes how the model's weights are distributed at the end of an epoch."""
        weights = {f"{weight.path}/histogram": weight for layer in model.layers for weight in layer.weights}
        self._write(TRAIN, epoch, {tag: _histogram(weight.numpy()) for tag, weight in weights.items()})

    def flush(self) -> None:
        """Brings everything to the disk's files; what cannot be written costs a warning."""
        for kind, writer in self._writers.items():
            try:
                writer.flush()
            except tf.errors.OpError as error:
                logging.warning("TensorBoard events could not be written to %s: %s", self._run_dir / kind, error)

    def _write(self, kind: str, step: int, points: Mapping[str, Callable[[str], None]]) -> None:
        missing = {tag: write for tag, write in points.items() if (tag, step) not in self._written[kind]}
        if not missing:
            return
        try:
            if kind not in self._writers:
                self._writers[kind] = tf.summary.create_file_writer(
                    str(self._run_dir / kind), flush_millis=_FLUSH_MILLISECONDS
                )
            with self._writers[kind].as_default(step):
                for tag, write in missing.items():
                    write(tag)
                    self._written[kind].add((tag, step))
        except tf.errors.OpError as error:
            logging.warning("TensorBoard events could not be written to %s: %s", self._run_dir / kind, error)


def _scalar(value: float) -> Callable[[str], None]:
    return lambda tag: tf.summary.scalar(tag, value)


def _histogram(values: Any) -> Callable[[str], None]:
    # tf.summary.histogram writes the same bins, but its first call traces a graph for 0.2 s.
    return lambda tag: tf.summary.experimental.write_raw_pb(histogram_pb(tag, values).SerializeToString())


def _written(folder: Path) -> set[tuple[str, int]]:
    """The points (tag, step) in a folder's event files; a torn last record does not count."""
    paths = sorted(folder.glob("events.out.tfevents.*"))
    if not paths:
        return set()
    from tensorboard.backend.event_processing import event_file_loader

    return {
        (value.tag, event.step)
        for path in paths
        for event in event_file_loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    }
