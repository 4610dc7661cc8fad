import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.small_mnist import write_idx
from trainer.core.exit_codes import DataError
from trainer.training.data import idx_files

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"


@pytest.fixture
def folder(small_mnist: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_mnist, tmp_path / "data"))


def test_the_embedded_mnist_is_whole() -> None:
    (images, labels), (test_images, test_labels) = idx_files.load("")
    assert images.shape == (60000, 28, 28)
    assert test_images.shape == (10000, 28, 28)
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test_labels.shape == (10000,)


def test_reads_a_data_set_of_another_size(tmp_path: Path) -> None:
    images, labels = np.arange(3 * 8 * 6, dtype=np.uint8).reshape(3, 8, 6), np.array([0, 9, 1], np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", labels)
    for read_images, read_labels in idx_files.load(str(tmp_path)):
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def cut(folder: Path) -> None:
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-100])


def cut_plain(folder: Path) -> None:
    (folder / LABELS).write_bytes((folder / LABELS).read_bytes()[:-1])


def flip(folder: Path) -> None:
    content = bytearray((folder / IMAGES).read_bytes())
    content[len(content) // 2] ^= 255
    (folder / IMAGES).write_bytes(content)


def no_gzip(folder: Path) -> None:
    (folder / IMAGES).write_bytes(b"<html>not found</html>")


def wrong_magic(folder: Path) -> None:
    write_idx(folder / LABELS, np.zeros((200, 1, 1), np.uint8))


def blank(folder: Path) -> None:
    (folder / LABELS).write_bytes(b"")


def fewer_labels(folder: Path) -> None:
    write_idx(folder / LABELS, np.zeros(199, np.uint8))


def label_of_ten(folder: Path) -> None:
    write_idx(folder / LABELS, np.array([0] * 199 + [10], np.uint8))


def nothing(folder: Path) -> None:
    write_idx(folder / IMAGES, np.zeros((0, 28, 28), np.uint8))
    write_idx(folder / LABELS, np.zeros(0, np.uint8))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (shutil.rmtree, ["is not a folder", "t10k"]),
        (empty, ["lacks train-images-idx3-ubyte.gz"]),
        (lambda folder: (folder / LABELS).unlink(), ["lacks t10k-labels-idx1-ubyte.gz"]),
        (cut, [IMAGES, "not a whole gzip file"]),
        (cut_plain, [LABELS, "207 bytes", "208"]),
        (flip, [IMAGES, "not a whole gzip file"]),
        (no_gzip, [IMAGES, "not a whole gzip file"]),
        (wrong_magic, [LABELS, "00 00 08 03", "00 00 08 01"]),
        (blank, [LABELS, "(none)"]),
        (fewer_labels, ["200 images", "199 labels"]),
        (label_of_ten, [LABELS, "label 10", "position 199"]),
        (nothing, ["no images"]),
    ],
)
def test_refuses_damaged_data_and_names_the_file(
    folder: Path, damage: Callable[[Path], object], named: list[str]
) -> None:
    damage(folder)
    with pytest.raises(DataError) as refused:
        idx_files.load(str(folder))
    for words in named:
        assert words in str(refused.value)


def test_an_embedded_copy_that_was_changed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx_files, "EMBEDDED", folder)
    with pytest.raises(DataError, match="MD5"):
        idx_files.load("")
