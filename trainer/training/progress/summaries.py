"""TensorBoard's event files, with the tags and steps that Keras' TensorBoard callback writes.

Every attempt writes a file of its own. What an earlier attempt has written is not written again, so that a resumed run
shows every point once: TensorBoard reads files in order and never goes back.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from trainer.core.run_dir import TRAIN, VALIDATION
from trainer.training.progress.event_file import EventFile

_MOST_OF_LAYERS = 2**23  # Characters of a model's configuration.


class Summaries:
    """Writes the event files of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._written = {kind: _written(run_dir / kind) for kind in (TRAIN, VALIDATION)}
        self._files: dict[str, EventFile] = {}
        self._failing = False

    def model(self, model: Any, graph: tf.Graph) -> None:
        """Writes the model's structure, as layers and as the operations of `graph`."""

        def layers(tag: str) -> Any:
            summary = tf.compat.v1.Summary()
            value = summary.value.add(tag=tag, tensor=tf.make_tensor_proto(text))
            value.metadata.plugin_data.plugin_name = "graph_keras_model"
            value.metadata.plugin_data.content = b"1"
            return summary

        try:
            text = model.to_json()
        except Exception:  # A model whose configuration cannot be written has no picture of its layers.
            text = ""
        if len(text) > _MOST_OF_LAYERS:
            logging.warning(
                "TensorBoard gets no picture of the layers: their configuration is %d MiB, as where an initializer "
                "holds an array; set_weights gives a layer its values without that",
                len(text) >> 20,
            )
            text = ""
        described = {"keras": layers} if text else {}
        if self._write(TRAIN, 0, described) or not described:
            self._add(TRAIN, graph_def=graph.as_graph_def().SerializeToString())
        self.flush()

    def epoch(self, epoch: int, *, step: int, train: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """Takes the scalars of an epoch (from 0) that ended with the run's step `step`; `flush` writes them."""
        self._write(TRAIN, epoch, {f"epoch_{name}": _scalar(value) for name, value in train.items()})
        self._write(VALIDATION, epoch, {f"epoch_{name}": _scalar(value) for name, value in validation.items()})
        self._write(
            VALIDATION, step, {f"evaluation_{name}_vs_iterations": _scalar(value) for name, value in validation.items()}
        )

    def histograms(self, epoch: int, model: Any) -> None:
        """Takes how the model's weights are distributed at the end of an epoch; `flush` writes it."""
        weights = {f"{weight.path}/histogram": weight for layer in model.layers for weight in layer.weights}
        self._write(TRAIN, epoch, {tag: _histogram(weight.numpy()) for tag, weight in weights.items()})

    def flush(self) -> bool:
        """Brings everything to the disk's files; what cannot be written costs a warning, and waits for the next call.

        Returns:
          Whether all is on the disk. If not, no checkpoint may be saved: a resume would begin behind these events.
        """
        try:
            for file in self._files.values():
                file.flush()
        except OSError as error:
            if not self._failing:
                logging.warning(
                    "TensorBoard events could not be written (%s); training goes on, they wait in memory, and no "
                    "checkpoint is saved before they are written: make room in %s",
                    error.strerror or error,
                    self._run_dir,
                )
            self._failing = True
            return False
        if self._failing:
            lost = sum(file.lost for file in self._files.values())
            logging.warning(
                "TensorBoard events are written again%s",
                f"; {lost} did not fit into memory meanwhile and are left out" if lost else "",
            )
        self._failing = False
        return True

    def _write(self, kind: str, step: int, points: Mapping[str, Callable[[str], Any]]) -> bool:
        """Takes those points that are new; whether any was."""
        missing = {tag: make for tag, make in points.items() if (tag, step) not in self._written[kind]}
        for tag, make in missing.items():
            self._add(kind, step=step, summary=make(tag).SerializeToString())
            self._written[kind].add((tag, step))
        return bool(missing)

    def _add(self, kind: str, *, summary: bytes = b"", **fields: Any) -> None:
        if kind not in self._files:
            first = tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2")
            self._files[kind] = EventFile(self._run_dir / kind, first=first.SerializeToString())
        event = tf.compat.v1.Event(wall_time=time.time(), **fields)
        if summary:  # TensorBoard's own summaries are of another class than TensorFlow's.
            event.summary.MergeFromString(summary)
        self._files[kind].add(event.SerializeToString())


def _scalar(value: float) -> Callable[[str], Any]:
    return lambda tag: scalar_pb(tag, value)


def _histogram(values: Any) -> Callable[[str], Any]:
    return lambda tag: histogram_pb(tag, values)


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
