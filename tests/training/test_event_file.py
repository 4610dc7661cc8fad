"""Event files on a disk that is full for a while, read with TensorBoard's own reader."""

import contextlib
import logging as python_logging
import os
import random
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tests.support.event_reader import points
from tests.support.full_disk import no_room_beyond
from tests.support.mirrored_run import point, steps_in
from trainer.core import tfrecord
from trainer.training.progress import event_file
from trainer.training.progress.event_file import EventFile
from trainer.training.progress.summaries import Summaries

FIRST = point(0, 10)


def steps(folder: Path) -> list[int]:
    """In whole records, which the files must consist of."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        assert b"".join(tfrecord.whole_records(data)) == data
        found += steps_in(data)
    return found


def test_every_event_is_whole_in_the_file_once_whenever_the_disk_was_full(tmp_path: Path) -> None:
    chance = random.Random(1)
    file, size = EventFile(tmp_path, first=FIRST), 0
    for step in range(1, 201):
        file.add(point(step, chance.choice([10, 1000])))
        if chance.random() < 0.7:
            with no_room_beyond(size + chance.randrange(2000)), contextlib.suppress(OSError):
                file.flush()
            size = next(tmp_path.iterdir()).stat().st_size
            assert steps(tmp_path) == list(range(1, len(steps(tmp_path)) + 1))
    assert steps(tmp_path)[-1] < 200
    file.flush()
    assert steps(tmp_path) == list(range(1, 201))
    assert len(list(tmp_path.iterdir())) == 1
    assert file.lost == 0


def test_half_a_record_that_cannot_be_removed_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = EventFile(tmp_path, first=FIRST)
    file.add(point(1, 10))
    file.flush()
    file.add(point(2, 1000))
    with no_room_beyond(300), monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", lambda *_: os.close(-1))  # As on a disk that fails.
        with pytest.raises(OSError, match="File too large"):
            file.flush()
    file.flush()
    half, whole = sorted(tmp_path.iterdir())
    assert steps_in(half.read_bytes()) == [1]
    assert half.stat().st_size == 300
    assert steps_in(whole.read_bytes()) == [2]


def test_memory_has_its_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_file, "_MOST_WAITING", 5000)
    file = EventFile(tmp_path, first=FIRST)
    for step in range(1, 101):
        file.add(point(step, 100))
    file.flush()
    assert file.lost == 100 - len(steps(tmp_path)) > 0
    assert steps(tmp_path) == list(range(file.lost + 1, 101))


def test_summaries_wait_for_room_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.use_python_logging(quiet=True)
    caplog.set_level(python_logging.WARNING)
    summaries = Summaries(tmp_path)
    for epoch in range(9):
        summaries.epoch(epoch, step=epoch * 10, train={"loss": 0.5}, validation={"loss": epoch})
        if 3 <= epoch < 6:
            with no_room_beyond(0):
                assert not summaries.flush()
        else:
            assert summaries.flush()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, said
    assert "no checkpoint is saved before they are written: make room in" in said[0]
    assert said[1] == "TensorBoard events are written again"
    assert [(step, value) for tag, step, value in points(tmp_path / "validation") if tag == "epoch_loss"] == [
        (epoch, float(epoch)) for epoch in range(9)
    ]
    again = Summaries(tmp_path)
    again.epoch(8, step=80, train={"loss": 0.5}, validation={"loss": 8})
    assert again.flush()
    assert len(list((tmp_path / "train").iterdir())) == 1  # Nothing twice.


def test_a_model_too_large_for_a_picture_of_its_layers_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.use_python_logging(quiet=True)
    matrix = keras.initializers.Constant(np.linspace(0, 1, 500_000, dtype=np.float32).reshape(5000, 100))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Embedding(5000, 100, embeddings_initializer=matrix)])
    with tf.Graph().as_default() as graph:
        tf.constant(1.0)
    Summaries(tmp_path).model(model, graph)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "no picture of the layers: their configuration is" in said
    (path,) = (tmp_path / "train").iterdir()
    assert 0 < path.stat().st_size < 2**20  # The graph of the steps is there.


def test_a_successor_whose_clock_is_behind_writes_a_file_that_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard reads files in the order of their names, and never returns to an earlier one."""
    for step, now in enumerate((1_800_000_060.0, 1_800_000_000.0, 1_800_000_000.0, 1_800_000_100.0), 1):
        monkeypatch.setattr("time.time", lambda now=now: now)
        monkeypatch.setattr("os.getpid", lambda step=step: 100 - step)
        file = EventFile(tmp_path, first=FIRST)
        file.add(point(step, 10))
        file.flush()
    (tmp_path / "events.out.tfevents.backup").touch()
    assert [step for step in steps(tmp_path) if step] == [1, 2, 3, 4]
