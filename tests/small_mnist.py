"""The first images of MNIST, as a data folder of its own."""

import gzip
import pathlib
import struct

from trainer import idx


def write(folder: pathlib.Path, *, train: int, test: int) -> pathlib.Path:
    """Writes the four files with that many images."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("t10k", test)):
        for kind, size, head in (("images-idx3", 28 * 28, 16), ("labels-idx1", 1, 8)):
            name = f"{split}-{kind}-ubyte"
            whole = gzip.decompress((idx.EMBEDDED / f"{name}.gz").read_bytes())
            header = whole[:4] + struct.pack(">I", count) + whole[8:head]
            (folder / name).write_bytes(header + whole[head : head + count * size])
    return folder
