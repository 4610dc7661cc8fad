"""The same examples in every format that trainer.sources reads."""

import csv
import itertools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python import array_record_module
from PIL import Image

from trainer import sources
from trainer.core.tfrecord import record
from trainer.sources.formats.tf_example import _EXAMPLE

Images = npt.NDArray[np.uint8]  # [count, height, width]
Labels = npt.NDArray[np.integer[Any]]  # [count]

# Each takes the folder's address and returns a source of (uint8 image, label).
READERS: dict[str, Callable[[str], Any]] = {
    "npy": lambda folder: sources.NpyFiles(f"{folder}/npy/x-*.npy", f"{folder}/npy/y.npy"),
    "tfrecord": lambda folder: sources.TFRecords(f"{folder}/tfrecord", from_example),
    "array_record": lambda folder: sources.ArrayRecords(f"{folder}/array_record", from_bytes),
    "parquet": lambda folder: sources.ParquetRows(f"{folder}/parquet", parse=from_row),
    "csv": lambda folder: sources.CsvRows(f"{folder}/csv", parse=from_cells),
}


def write(
    folder: Path, images: Images, labels: Labels, *, shards: int = 3, formats: Collection[str] = tuple(READERS)
) -> None:
    """Writes a sub-folder a format, the examples in their order over several files."""
    for name in formats:
        (folder / name).mkdir(parents=True, exist_ok=True)
    if "npy" in formats:
        np.save(folder / "npy" / "y.npy", labels)
    edges = np.linspace(0, len(images), shards + 1).astype(int)
    for shard, (begin, end) in enumerate(itertools.pairwise(edges)):
        some = list(zip(images[begin:end], map(int, labels[begin:end]), strict=True))
        if "npy" in formats:
            np.save(folder / "npy" / f"x-{shard}.npy", images[begin:end])
        if "tfrecord" in formats:
            with (folder / "tfrecord" / f"data-{shard}-of-{shards}.tfrecord").open("wb") as file:
                for image, label in some:
                    file.write(record(serialized(image, label)))
        if "array_record" in formats:
            path = folder / "array_record" / f"data-{shard}.array_record"
            writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
            for image, label in some:
                writer.write(bytes([label, *image.shape]) + image.tobytes())
            writer.close()
        if "parquet" in formats:
            columns = {
                "image": pa.array([image.tobytes() for image, _ in some], pa.binary()),
                "height": [image.shape[0] for image, _ in some],
                "label": [label for _, label in some],
            }
            pq.write_table(pa.table(columns), folder / "parquet" / f"data-{shard}.parquet", row_group_size=64)
        if "csv" in formats:
            with (folder / "csv" / f"data-{shard}.csv").open("w", newline="") as text:
                cells = csv.writer(text)
                cells.writerow(["label", "height", "image"])
                cells.writerows([label, image.shape[0], image.tobytes().hex()] for image, label in some)


def write_image_folder(folder: Path, images: Images, labels: Labels) -> None:
    """Writes PNGs, a sub-folder a label; their order is by label, then as given."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"{int(label):03}" / f"{number:08}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def serialized(image: npt.NDArray[np.uint8], label: int) -> bytes:
    """A tf.train.Example."""
    example = _EXAMPLE()
    example.features.feature["image"].bytes_list.value.append(image.tobytes())
    example.features.feature["height"].int64_list.value.append(image.shape[0])
    example.features.feature["label"].int64_list.value.append(label)
    return bytes(example.SerializeToString())


def from_example(data: bytes) -> Any:
    features: Any = sources.example(data)
    image = np.frombuffer(features["image"][0], np.uint8).reshape(int(features["height"][0]), -1)
    return image, features["label"][0]


def from_bytes(data: bytes) -> Any:
    return np.frombuffer(data, np.uint8, offset=3).reshape(data[1], data[2]), np.int64(data[0])


def from_row(row: dict[str, Any]) -> Any:
    return np.frombuffer(row["image"], np.uint8).reshape(row["height"], -1), np.int64(row["label"])


def from_cells(row: dict[str, Any]) -> Any:
    return from_row({**row, "image": bytes.fromhex(row["image"])})
