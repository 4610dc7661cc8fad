"""Arrays in `.npy` files, on this disk and in buckets."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.sources.conftest import Upload
from tests.sources.reading import check_source
from tests.support.paths import ROOT
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


def test_the_identity_is_that_of_the_content(tmp_path: Path) -> None:
    """A copy, as each pod may make one, is the same data; another array of the same shape is not."""
    path = tmp_path / "x.npy"
    np.save(path, VECTORS)
    before = NpyFiles(path, path).identity()
    assert before["each"][0]["file"] == str(path)
    os.utime(path, (1, 1))
    assert NpyFiles(path, path).identity() == before
    for place in (0, 30, -1):
        other = VECTORS.copy()
        other[place] += 1
        np.save(path, other)
        assert NpyFiles(path, path).identity() != before


@pytest.mark.servers
def test_the_identity_is_that_of_the_objects(tmp_path: Path, upload: Upload) -> None:
    np.save(tmp_path / "x.npy", VECTORS)
    where = upload(tmp_path)
    before = NpyFiles(where, where).identity()
    assert before == NpyFiles(where, where).identity()
    np.save(tmp_path / "x.npy", VECTORS + 1)
    upload(tmp_path)
    assert NpyFiles(where, where).identity() != before


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


WITHIN_MEMORY = """
import sys, numpy as np
from trainer.sources import NpyFiles
source = NpyFiles(sys.argv[1], sys.argv[2])
order = np.random.default_rng(1)
def memory():
    fields = open("/proc/self/status").read().split("VmRSS:")[1].split()
    return int(fields[0]) * 1024
before, most = memory(), 0
for _ in range(200):
    rows = order.integers(0, len(source), 512)
    assert len(source.__getitems__(rows)) == 512
    most = max(most, memory())
print(most - before)
"""


def test_an_array_larger_than_memory_takes_little_of_it(tmp_path: Path) -> None:
    """20 GB, sparse on the disk; the pages that reading maps are let go."""
    rows = 25_000_000
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (rows, 800))  # type: ignore[no-untyped-call]
    np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.int8, (rows,))  # type: ignore[no-untyped-call]
    command = [sys.executable, "-c", WITHIN_MEMORY, str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400e6
