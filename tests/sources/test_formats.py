"""The same examples through every reader are the same."""

import concurrent.futures
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sources.conftest import Upload
from tests.sources.reading import check_source, same
from tests.support import data_formats
from trainer.sources import ImageFolder
from trainer.training.data import idx_files

COUNT = 150


@pytest.fixture(scope="module")
def mnist() -> tuple[data_formats.Images, data_formats.Labels]:
    (images, labels), _ = idx_files.load("")
    return images[:COUNT], labels[:COUNT].astype(np.int64)


@pytest.mark.parametrize("name", data_formats.READERS)
def test_mnist(
    name: str, mnist: tuple[data_formats.Images, data_formats.Labels], tmp_path: Path, placed: Upload
) -> None:
    data_formats.write(tmp_path, *mnist)
    folder = placed(tmp_path)
    if name == "array_record" and "://" in folder:
        pytest.skip("the package array_record reads no buckets")
    check_source(data_formats.READERS[name](folder), list(zip(*mnist, strict=True)))


def test_mnist_as_pictures(
    mnist: tuple[data_formats.Images, data_formats.Labels], tmp_path: Path, placed: Upload
) -> None:
    images, labels = mnist
    data_formats.write_image_folder(tmp_path, images[:30], labels[:30])
    order = np.argsort(labels[:30], kind="stable")
    classes = {label: number for number, label in enumerate(sorted(set(labels[:30].tolist())))}
    expected = [(images[row][..., None], np.int64(classes[int(labels[row])])) for row in order]
    check_source(ImageFolder(placed(tmp_path), size=(28, 28), channels=1), expected)


def read_all(source: Any) -> list[Any]:
    return list(source.__getitems__(range(len(source))))


@pytest.mark.parametrize("name", ["npy", "tfrecord", "parquet"])
def test_in_another_process(
    name: str, mnist: tuple[data_formats.Images, data_formats.Labels], tmp_path: Path, placed: Upload
) -> None:
    images, labels = mnist[0][:20], mnist[1][:20]
    data_formats.write(tmp_path, images, labels)
    source = data_formats.READERS[name](placed(tmp_path))
    source[0]  # Its files are open, its clients made.
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        found = processes.submit(read_all, source).result()
    assert all(map(same, found, zip(images, labels, strict=True)))
