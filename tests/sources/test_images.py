"""Folders of images, on this disk and in buckets."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.sources.conftest import Upload
from tests.sources.reading import check_source
from trainer.core.exit_codes import DataError, UsageError
from trainer.sources import DamagedRecord, ImageFolder

RANDOM = np.random.default_rng(1)


def pixels(height: int, width: int, channels: int = 3) -> Any:
    return RANDOM.integers(0, 256, (height, width, channels), np.uint8)


def write_folder(folder: Path) -> list[Any]:
    """Two classes of PNGs, which lose nothing, of the size that is asked for."""
    expected = []
    for number, name in enumerate(("cat", "dog")):
        for file in ("a.png", "deep/b.PNG", "z.png"):
            image = pixels(8, 6)
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, "PNG")
            expected.append((image, np.int64(number)))
        (folder / name / "notes.txt").write_text("no image")
        (folder / name / ".hidden.png").write_text("no image")
    (folder / "readme.png").write_text("in no class")
    return expected


def test_a_folder_of_classes(tmp_path: Path, placed: Upload) -> None:
    expected = write_folder(tmp_path)
    source = ImageFolder(placed(tmp_path), size=(8, 6))
    check_source(source, expected)
    assert source.classes == ("cat", "dog")


def test_jpegs_are_decoded_and_all_are_resized(tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    ramp = np.tile(np.arange(0, 250, 2, np.uint8), (100, 1))
    Image.fromarray(ramp).save(tmp_path / "grey" / "a.jpg", quality=95)
    Image.fromarray(np.stack([ramp] * 4, -1), "RGBA").save(tmp_path / "grey" / "b.png")
    source = ImageFolder(str(tmp_path), size=(10, 25))
    for image, label in (source[0], source[1]):
        assert (image.shape, image.dtype, int(label)) == ((10, 25, 3), np.uint8, 0)
        assert np.abs(image[5, :, 0].astype(int) - ramp[0, 2::5]).max() < 8
    assert ImageFolder(str(tmp_path), size=(10, 25), channels=1)[0][0].shape == (10, 25, 1)
    assert ImageFolder(str(tmp_path), size=(10, 25), channels=4)[1][0].shape == (10, 25, 4)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_an_image_that_cannot_be_decoded(tmp_path: Path, damage: str) -> None:
    write_folder(tmp_path)
    content = io.BytesIO()
    Image.fromarray(pixels(50, 50)).save(content, "JPEG")
    damaged = {"cut": content.getvalue()[:-500], "text": b"<html>", "empty": b""}[damage]
    (tmp_path / "cat" / "a.png").write_bytes(damaged)
    source = ImageFolder(str(tmp_path), size=(8, 6))
    with pytest.raises(DamagedRecord, match=r"cat/a\.png, byte 0: it cannot be decoded as JPEG or PNG") as caught:
        source[0]
    assert caught.value.file == str(tmp_path / "cat" / "a.png")
    assert "\n" not in str(caught.value)
    assert len(source.__getitems__([1, 2, 3])) == 3


def test_classes_that_are_given_keep_their_numbers(tmp_path: Path) -> None:
    write_folder(tmp_path)
    source = ImageFolder(str(tmp_path), size=(8, 6), classes=("dog", "cat"))
    assert [int(y) for _, y in source.__getitems__(range(6))] == [0, 0, 0, 1, 1, 1]
    assert "/dog/" in source._file(0).url
    with pytest.raises(DataError, match="holds no images of 'bird'"):
        ImageFolder(str(tmp_path), size=(8, 6), classes=("dog", "bird"))


def test_the_identity_changes_with_an_image(tmp_path: Path) -> None:
    write_folder(tmp_path)
    before = ImageFolder(str(tmp_path), size=(8, 6)).identity()
    assert before["classes"] == {"cat": 3, "dog": 3}
    os.utime(tmp_path / "cat" / "a.png", (1, 1))  # As a copy has.
    assert ImageFolder(str(tmp_path), size=(8, 6)).identity() == before
    Image.fromarray(pixels(8, 9)).save(tmp_path / "cat" / "a.png")
    assert ImageFolder(str(tmp_path), size=(8, 6)).identity() != before


def test_no_images(tmp_path: Path, placed: Upload) -> None:
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(DataError, match="holds no images; expected a sub-folder for each class"):
        ImageFolder(placed(tmp_path), size=(8, 6))
    with pytest.raises(UsageError, match="expected \\(height, width\\) and 1, 3 or 4"):
        ImageFolder(str(tmp_path), size=(8, 6), channels=2)
