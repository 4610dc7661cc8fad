"""Arrays in `.npy` files, on this disk and in buckets."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.sources.conftest import Upload
from tests.sources.reading import check_source
from trainer.core.exit_codes import DataError, UsageError
from trainer.sources import NpyFiles

RANDOM = np.random.default_rng(1)
IMAGES = RANDOM.integers(0, 256, (60, 4, 5), np.uint8)
VECTORS = RANDOM.normal(size=(60, 3)).astype(np.float32)
LABELS = np.arange(60) % 7
WEIGHTS = RANDOM.random(60).astype(np.float32)


def test_one_file_each(tmp_path: Path, placed: Upload) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", LABELS)
    where = placed(tmp_path)
    check_source(NpyFiles(f"{where}/x.npy", f"{where}/y.npy"), list(zip(IMAGES, LABELS, strict=True)))


def test_many_files_and_several_inputs(tmp_path: Path, placed: Upload) -> None:
    (tmp_path / "images").mkdir()
    for number, begin in enumerate(range(0, 60, 25)):
        np.save(tmp_path / "images" / f"{number:02}.npy", IMAGES[begin : begin + 25])
    for name, array in (("vectors", VECTORS), ("y", LABELS), ("weights", WEIGHTS)):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "empty.npy", VECTORS[:0])
    where = placed(tmp_path)
    source = NpyFiles(
        {"image": f"{where}/images", "vector": [f"{where}/empty.npy", f"{where}/vectors.npy"]},
        (f"{where}/y.npy",),
        f"{where}/weights.npy",
    )
    expected = [
        ({"image": image, "vector": vector}, (label,), weight)
        for image, vector, label, weight in zip(IMAGES, VECTORS, LABELS, WEIGHTS, strict=True)
    ]
    check_source(source, expected)


def test_the_identity_changes_with_the_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VECTORS)
    before = NpyFiles(tmp_path / "x.npy", tmp_path / "x.npy").identity()
    os.utime(tmp_path / "x.npy", (1, 1))  # As in a copy on another worker.
    assert NpyFiles(tmp_path / "x.npy", tmp_path / "x.npy").identity() == before
    np.save(tmp_path / "x.npy", VECTORS + 1)
    after = NpyFiles(tmp_path / "x.npy", tmp_path / "x.npy").identity()
    assert before != after
    assert before["each"][0]["file"] == "x.npy"


def test_what_is_no_array_of_rows(tmp_path: Path, placed: Upload) -> None:
    np.save(tmp_path / "y.npy", LABELS)
    np.save(tmp_path / "short.npy", LABELS[:10])
    np.save(tmp_path / "columns.npy", np.asfortranarray(VECTORS))
    np.save(tmp_path / "objects.npy", np.array([None, {}]), allow_pickle=True)
    np.save(tmp_path / "value.npy", np.float32(1))
    (tmp_path / "text.npy").write_text("1,2,3\n" * 100)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "y.npy").read_bytes()[:-1])
    (tmp_path / "nothing.npy").write_bytes(b"")
    (tmp_path / "two").mkdir()
    np.save(tmp_path / "two" / "a.npy", LABELS)
    np.save(tmp_path / "two" / "b.npy", VECTORS)
    where = placed(tmp_path)
    for name, error, words in (
        ("short.npy", DataError, "hold 10 rows, .*hold(s)? 60|60: they must be of one data set"),
        ("columns.npy", UsageError, "stored column by column"),
        ("objects.npy", UsageError, "holds Python objects"),
        ("value.npy", UsageError, "holds one value"),
        ("text.npy", DataError, r"text\.npy is no \.npy file"),
        ("nothing.npy", DataError, r"nothing\.npy is no \.npy file"),
        ("cut.npy", DataError, r"cut\.npy holds \d+ bytes, its header \(int64 60\) asks for \d+"),
        ("two", DataError, r"b\.npy has rows of float32 \[3\], .*a\.npy of int64 \[\]"),
    ):
        with pytest.raises(error, match=words):
            NpyFiles(f"{where}/y.npy", f"{where}/{name}")
