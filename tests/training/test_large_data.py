"""Data of 20 GB, which take no place on the disk: what a worker needs of memory, and reads before it begins."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import data_formats
from tests.support.training_processes import Training, Worker
from trainer.core.log_lines import Progress
from trainer.core.tfrecord import record

BYTES = 20 * 10**9
MOST_MEMORY_KB = 1_200_000
RECORD = 2 * 2**20
SIDE, LINKED = 250, 1000  # Of pictures of which a file holds many, and how many.
PICTURE = 1024  # The side of one that is a file.
STEPS = 60


def write_npy(folder: Path) -> None:
    rows = BYTES // 784
    open_memmap: Any = np.lib.format.open_memmap
    open_memmap(folder / "x.npy", "w+", np.uint8, (rows, 28, 28))
    open_memmap(folder / "y.npy", "w+", np.uint8, (rows,))


def write_tfrecord(folder: Path) -> None:
    framed = record(bytes(RECORD))
    assert framed[12:-4] == bytes(RECORD)
    count = BYTES // RECORD
    for shard in range(2):
        with (folder / f"data-{shard}.tfrecord").open("wb") as file:
            for number in range(count // 2):
                file.seek(number * len(framed))
                file.write(framed[:12])
                file.seek((number + 1) * len(framed) - 4)
                file.write(framed[-4:])


def write_links(folder: Path, reader: str) -> None:
    """A file of pictures of one colour, and links to it, each of which is another file to a reader."""
    pictures = np.full([LINKED, SIDE, SIDE], 0xAB, np.uint8)
    data_formats.write(folder / "one", pictures, np.zeros(LINKED, np.uint8), shards=1, formats=[reader])
    (file,) = (folder / "one" / reader).iterdir()
    if reader == "csv":  # An index is made by reading the file, here 20 GB: one is that of all.
        data_formats.READERS[reader](str(folder / "one"))
    index = file.with_name(f".{file.name}.index")
    target = folder / reader
    target.mkdir()
    for number in range(-(-BYTES // pictures.nbytes)):
        os.link(file, target / f"{number:05}{file.suffix}")
        if index.exists():
            os.link(index, target / f".{number:05}{file.suffix}.index")
    shutil.rmtree(folder / "one")


def write_images(folder: Path) -> None:
    """PNG files of one colour in the folders of ten classes, links likewise."""
    data_formats.write_image_folder(folder, np.zeros([1, PICTURE, PICTURE], np.uint8), np.zeros(1, np.uint8))
    (file,) = folder.glob("*/*.png")
    for number in range(1, BYTES // PICTURE**2 + 1):
        target = folder / f"{number % 10:03}" / f"{number:08}.png"
        target.parent.mkdir(exist_ok=True)
        os.link(file, target)


def figure(worker: Worker, file: str, name: str) -> int:
    """A line of a file in the process's folder of /proc."""
    text = Path(f"/proc/{worker.process.pid}/{file}").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.parametrize(
    ("reader", "write", "batch", "read"),
    [
        ("npy", write_npy, 1024, 1e9),
        # A step reads 32 MiB.
        pytest.param("tfrecord", write_tfrecord, 8, 1e9 + STEPS * 8 * RECORD * 2, marks=pytest.mark.thorough),
        pytest.param("array_record", write_links, 32, 2e9, marks=pytest.mark.thorough),
        pytest.param("parquet", write_links, 32, 2e9, marks=pytest.mark.thorough),
        pytest.param("csv", write_links, 32, 2e9, marks=pytest.mark.thorough),
        pytest.param("images", write_images, 8, 2e9, marks=pytest.mark.thorough),
    ],
)
def test_a_worker_takes_little_memory_and_begins_at_once(
    training: Training, tmp_path: Path, reader: str, write: Callable[..., None], batch: int, read: float
) -> None:
    write(tmp_path, reader) if write is write_links else write(tmp_path)
    if reader in ("npy", "tfrecord"):
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 0.99 * BYTES
        assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < BYTES / 50
    worker = training.start("--experiment=tests.experiments.large", f"--data_dir={tmp_path}", f"--reader={reader}",
                            f"--run_dir={tmp_path / 'run'}", f"--global_batch_size={batch}", "--epochs=1000",
                            "--hidden_units=32", anew=True)  # fmt: skip
    worker.wait_for(Progress.parse)
    assert figure(worker, "io", "rchar") < 1e9  # Python's own files among them.
    worker.wait_for_step(STEPS)
    assert figure(worker, "status", "VmHWM") < MOST_MEMORY_KB
    assert figure(worker, "io", "rchar") < read
    print(reader, figure(worker, "status", "VmHWM"), figure(worker, "io", "rchar"), worker.progress[-1].step)
    worker.kill()
    worker.wait()
