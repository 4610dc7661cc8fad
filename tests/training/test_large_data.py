"""Data of 20 GB, which take no place on the disk: what a worker needs of memory, and reads before it begins."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.training_processes import Training, Worker
from trainer.core.log_lines import Progress
from trainer.core.tfrecord import record

BYTES = 20 * 10**9
MOST_MEMORY_KB = 1_200_000
RECORD = 2 * 2**20


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


def figure(worker: Worker, file: str, name: str) -> int:
    """A line of a file in the process's folder of /proc."""
    text = Path(f"/proc/{worker.process.pid}/{file}").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.parametrize(
    ("reader", "write", "flags", "read"),
    [
        ("npy", write_npy, ["--global_batch_size=1024"], 1e9),
        # A step reads 32 MiB.
        ("tfrecord", write_tfrecord, ["--global_batch_size=8"], 1e9 + 60 * 8 * RECORD * 2),
    ],
)  # fmt: skip
def test_a_worker_takes_little_memory_and_begins_at_once(
    training: Training, tmp_path: Path, reader: str, write: Callable[[Path], None], flags: list[str], read: float
) -> None:
    write(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 0.99 * BYTES
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < BYTES / 50
    worker = training.start("--experiment=tests.experiments.large", f"--data_dir={tmp_path}", f"--reader={reader}",
                            f"--run_dir={tmp_path / 'run'}", "--epochs=1000", "--hidden_units=32", *flags)  # fmt: skip
    worker.wait_for(Progress.parse)
    assert figure(worker, "io", "rchar") < 1e9  # Python's own files among them.
    worker.wait_for_step(60)
    assert figure(worker, "status", "VmHWM") < MOST_MEMORY_KB
    assert figure(worker, "io", "rchar") < read
    print(reader, figure(worker, "status", "VmHWM"), figure(worker, "io", "rchar"), worker.progress[-1].step)
    worker.kill()
    worker.wait()
