"""How fast data are read while they are trained on, beside tf.data and, where TORCH names a Python with it, PyTorch.

All read the same TFRecord shards, shuffled: tf.data with a buffer for all of them, as a full shuffle takes.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.report.table import Row
from tests.support.servers import BUCKET, s3_environ, s3_server, toxiproxy
from trainer.core.tfrecord import record
from trainer.training.data import idx_files

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "bench" / "programs"
BATCH, SHARDS, PROCESSES, TURNS = 128, 4, 2, int(os.environ.get("TURNS", "3"))
RECORDS = {800: 200_000, 100_000: 12_800}  # So many of each size, in bytes.
LATENCY = 20  # Milliseconds.

Figures = dict[str, float]


def measure() -> list[Row]:
    """Runs every comparison, the programs of each in turns; takes minutes and a gigabyte of the disk."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size, count in RECORDS.items():
            data = Path(folder, str(size))
            write(data, size, count)
            rows += _side_by_side(data, size, count)
        rows += _far(Path(folder, "s3"))
        rows += _beside_arrays(Path(folder))
    return rows


def write(folder: Path, size: int, count: int) -> None:
    """Shards of records of one size: a label and noise."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for shard in range(SHARDS):
        with (folder / f"data-{shard}.tfrecord").open("wb") as file:
            for _ in range(count // SHARDS):
                file.write(record(numbers.bytes(size)))


def _side_by_side(data: Path, size: int, count: int) -> list[Row]:
    half = count // BATCH // 2
    ours = [sys.executable, str(PROGRAMS / "reading.py"), "ours", str(data), str(size)]
    tf_data = [sys.executable, str(PROGRAMS / "reading.py"), "tf_data", str(data), str(size)]

    def first_start() -> Figures:
        for index in data.glob(".*.index"):
            index.unlink()
        return _output([*ours, "0"])

    programs: dict[str, Callable[[], Figures]] = {
        "first start": first_start,  # Makes the index.
        "ours": lambda: _output([*ours, "0"]),
        "ours, resumed": lambda: _output([*ours, str(half)]),
        "tf.data": lambda: _output([*tf_data, "0"]),
        "tf.data, resumed": lambda: _output([*tf_data, str(half)]),
    }
    if torch := os.environ.get("TORCH"):
        loader = [torch, str(PROGRAMS / "torch_reading.py"), str(data), str(size)]
        programs |= {
            "ours, processes": lambda: _output([*ours, "0", f"--reader_processes={PROCESSES}"]),
            "PyTorch": lambda: _output([*loader, "0", str(PROCESSES)]),
            "PyTorch, resumed": lambda: _output([*loader, str(half), str(PROCESSES)]),
        }
    turns = [{name: program() for name, program in programs.items()} for _ in range(TURNS)]

    def speed(name: str) -> float:
        return statistics.median(turn[name]["examples"] / turn[name]["seconds"] for turn in turns)

    def steady(name: str) -> float:
        """Beyond the first batch: processes take a while to start."""
        return statistics.median(
            (turn[name]["examples"] - BATCH) / (turn[name]["seconds"] - turn[name]["first"]) for turn in turns
        )

    def first(name: str) -> float:
        return statistics.median(turn[name]["first"] for turn in turns)

    what = f"records of {size} B"
    rows = [
        Row(f"{what}, shuffled: thousand examples/s", speed("ours") / 1e3, ""),
        Row(f"{what}: examples/s / those of tf.data, an epoch", speed("ours") / speed("tf.data"), "≥ 1"),
        Row(f"{what}: to the first batch, the index made: ms", first("first start") * 1e3, ""),
        Row(f"{what}: to the first batch, the index there: ms", first("ours") * 1e3, ""),
        Row(f"{what}: to the first batch / tf.data's", first("ours") / first("tf.data"), "≤ 0.1"),
        Row(f"{what}: the same where the index is made", first("first start") / first("tf.data"), ""),
        Row(
            f"{what}: resume in mid-epoch / start, to the first batch", first("ours, resumed") / first("ours"), "≤ 1.2"
        ),
        Row(f"{what}: the same of tf.data", first("tf.data, resumed") / first("tf.data"), ""),
    ]
    if "PyTorch" in programs:
        rows += [
            Row(
                f"{what}: threads' examples/s / PyTorch's of {PROCESSES} processes", steady("ours") / steady("PyTorch")
            ),
            Row(f"{what}: {PROCESSES} processes' / the same", steady("ours, processes") / steady("PyTorch"), "≥ 1"),
            Row(f"{what}: PyTorch's resume / start", first("PyTorch, resumed") / first("PyTorch"), ""),
        ]
    return rows


def _far(folder: Path) -> list[Row]:
    """From an S3 server on this machine, behind a network that takes its time."""
    rows = []
    # Each its own proxy: one that is asked for a toxic waits for every connection that a reader left half read.
    with s3_server(folder) as address, toxiproxy(address) as (near, _), toxiproxy(address) as (far, toxics):
        toxics.add("latency", latency=LATENCY)
        for size, count in ((800, 40_000), (100_000, 3_200)):
            name = f"s{size}"
            write(folder / BUCKET / name, size, count)
            command = [sys.executable, str(PROGRAMS / "reading.py"), "ours", f"s3://{BUCKET}/{name}", str(size), "0"]
            _output(command, s3_environ(near))  # Makes the indexes.
            speeds: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(TURNS):
                for slow, found in speeds.items():
                    figures = _output(command, s3_environ(far if slow else near))
                    # What is read before the first batch is asked for one after the other.
                    found.append((figures["examples"] - BATCH) / (figures["seconds"] - figures["first"]))
            ratio = statistics.median(speeds[True]) / statistics.median(speeds[False])
            rows += [
                Row(f"S3, records of {size} B: thousand examples/s", statistics.median(speeds[False]) / 1e3, ""),
                Row(f"S3, records of {size} B: speed behind {LATENCY} ms / without", ratio, "≥ 0.8"),
            ]
    return rows


def _beside_arrays(folder: Path) -> list[Row]:
    """The default experiment's steps, on this machine's CPU."""
    (images, labels), _ = idx_files.load("")
    np.save(folder / "x.npy", images)
    np.save(folder / "y.npy", labels)
    given = ["--experiment=bench.programs.mnist_files", f"--data_dir={folder}"]
    speeds: dict[tuple[str, int], list[float]] = {
        (name, threads): [] for name in ("arrays", "files") for threads in (0, 1)
    }
    for turn in range(2 * TURNS):
        for (name, threads), found in speeds.items():
            run_dir = folder / f"{name}{threads}-{turn}"
            command = [sys.executable, "-m", "trainer", "--epochs=8", f"--threads={threads}", f"--run_dir={run_dir}"]
            _text(command + (given if name == "files" else []))
            found.append(json.loads((run_dir / "result.json").read_text())["examples_per_second"])
    ratios = [
        statistics.median(speeds["files", threads]) / statistics.median(speeds["arrays", threads]) for threads in (0, 1)
    ]
    return [
        Row("MNIST on CPU: speed from .npy files / from arrays", ratios[0], "≥ 0.97"),
        Row("the same with --threads=1, which leaves reading a core", ratios[1], "≥ 0.97"),
    ]


def _output(command: list[str], environ: dict[str, str] | None = None) -> Figures:
    figures: Any = json.loads(_text(command, environ).splitlines()[-1])
    return dict(figures)


def _text(command: list[str], environ: dict[str, str] | None = None) -> str:
    given = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **(environ or {})}
    return subprocess.run(command, cwd=ROOT, env=given, check=True, stdout=subprocess.PIPE, text=True).stdout
