"""The four files of MNIST and of the data sets that share its format, read into arrays and checked."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

import trainer
from trainer.core.exit_codes import DataError
from trainer.training.data import remote_files

Array = npt.NDArray[np.uint8]
Split = tuple[Array, Array]  # images [count, height, width], labels [count]

EMBEDDED = Path(trainer.__file__).parent / "data"

# MD5 of the uncompressed files, as published with the data set.
_EMBEDDED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_UNSIGNED_BYTE = 8  # The third byte of the magic number; the fourth counts the dimensions.


def load(data_dir: str) -> tuple[Split, Split]:
    """Reads the training and the test split.

    Args:
      data_dir: folder with the four files under their usual names, with or without .gz: a local path, gs:// or s3://.
        Empty: the MNIST inside the package, whose files are checked by hash.

    Returns:
      (images, labels) of training and of test: uint8 [count, height, width] and uint8 [count], labels 0 to 9.

    Raises:
      DataError: a file is missing or damaged, or files do not belong together.
    """
    folder = data_dir or str(EMBEDDED)
    return _split(folder, "train", embedded=not data_dir), _split(folder, "t10k", embedded=not data_dir)


def _split(folder: str, prefix: str, *, embedded: bool) -> Split:
    images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    images = _array(folder, images_name, dimensions=3, embedded=embedded)
    labels = _array(folder, labels_name, dimensions=1, embedded=embedded)
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: {images_name} holds {len(images)} images but {labels_name} {len(labels)} labels; "
            "they must be of one data set"
        )
    if not len(images):
        raise DataError(f"{folder}: {images_name} holds no images")
    if labels.max() > 9:
        raise DataError(
            f"{folder}: {labels_name} holds the label {labels.max()} at position {int(labels.argmax())}; "
            "labels must be 0 to 9"
        )
    return images, labels


def _array(folder: str, name: str, *, dimensions: int, embedded: bool) -> Array:
    path, content = _content(folder, name)
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise DataError(
            f"{path} begins with the bytes {content[:4].hex(' ') or '(none)'}, expected {magic.hex(' ')}: an IDX file "
            f"of unsigned bytes with {dimensions} dimension(s)"
        )
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(
            f"{path} holds {len(content)} bytes, its header ({' × '.join(map(str, shape))}) asks for {expected}: "
            "it was cut or damaged; get it again"
        )
    if embedded and hashlib.md5(content, usedforsecurity=False).hexdigest() != _EMBEDDED_MD5[name]:
        raise DataError(f"{path} is not the file that was shipped (its MD5 differs); install the package again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(folder: str, name: str) -> tuple[str, bytes]:
    """The file's path as found, and its content uncompressed."""
    path, raw = _read(folder, name)
    if not path.endswith(".gz"):
        return path, raw
    try:
        return path, gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}); get it again") from None


def _read(folder: str, name: str) -> tuple[str, bytes]:
    if "://" not in folder and not os.path.isdir(folder):
        raise DataError(f"--data_dir={folder} is not a folder; it must hold {_NAMES}")
    for path in (remote_files.join(folder, f"{name}.gz"), remote_files.join(folder, name)):
        if (content := remote_files.read(path)) is not None:
            return path, content
    raise DataError(f"--data_dir={folder} lacks {name}.gz (or {name}); it must hold {_NAMES}")


_NAMES = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, each with or without .gz"
