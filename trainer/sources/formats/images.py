"""A folder of images, a sub-folder a class: JPEG and PNG, decoded and resized on the way."""

import io
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np

from trainer.core.exit_codes import DataError, UsageError
from trainer.sources import identity
from trainer.sources.errors import DamagedRecord
from trainer.sources.files import File, entries, read_many
from trainer.sources.files.file import join
from trainer.sources.formats.extras import needed
from trainer.sources.sequences import Rows, RowSource

SUFFIXES = (".jpg", ".jpeg", ".png")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageFolder(RowSource):
    """Images and the numbers of their classes: (uint8 [height, width, channels], int64)."""

    def __init__(self, folder: str, size: tuple[int, int], *, channels: int = 3, classes: Sequence[str] = ()) -> None:
        """Lists the images.

        Args:
          folder: of classes, whose numbers are their places among the sorted names of the sub-folders; images may lie
            deeper. A local path, gs:// or s3://.
          size: (height, width) that all images are resized to, smoothly and without regard to their shape.
          channels: 1 for grey, 3 for colours, 4 for colours and opacity.
          classes: the sub-folders to take, in the order that is to number them; none: all. A validation set names
            those of its training set (`classes=train.classes`), so that one class more or less renumbers nothing.

        Raises:
          DataError: there is no such folder, or no image in it.
          UsageError: Pillow is not installed, or a setting is none.
        """
        self._image = needed("PIL.Image", "pillow")
        if channels not in _MODES or len(size) != 2 or min(size) < 1:
            raise UsageError(f"ImageFolder: size={size}, channels={channels}; expected (height, width) and 1, 3 or 4")
        self.folder, self._size, self._channels = folder, (int(size[0]), int(size[1])), channels
        found = sorted(
            (entry.key, entry.size, entry.version)
            for entry in entries(folder)
            if entry.key.lower().endswith(SUFFIXES) and "/" in entry.key and not _is_hidden(entry.key)
        )
        names = sorted({key.partition("/")[0] for key, _, _ in found})
        self.classes: tuple[str, ...] = tuple(classes) or tuple(names)
        of_class = [[entry for entry in found if entry[0].partition("/")[0] == name] for name in self.classes]
        if not names or not all(of_class):
            lacking = f"no images of {self.classes[[*map(bool, of_class)].index(False)]!r}" if names else "no images"
            raise DataError(
                f"{folder} holds {lacking}; expected a sub-folder for each class, with "
                f"files *{', *'.join(SUFFIXES)} in it"
            )
        self._rows = Rows([len(some) for some in of_class])
        kept = [entry for some in of_class for entry in some]
        # Three arrays rather than an object for each of millions of files.
        self._keys = np.array([key.encode("utf-8", "surrogateescape") for key, _, _ in kept])
        self._sizes = np.array([size for _, size, _ in kept], np.int64)
        self._versions = np.array([version.encode() for _, _, version in kept])

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """The examples of several images, read together.

        Raises:
          DamagedRecord: a file is no image that can be decoded.
        """
        places = [self._rows.find(index) for index in indices]
        starts = [self._rows.first(number) + row for number, row in places]
        files = [self._file(row) for row in starts]
        contents = read_many([(file, 0, file.size) for file in files])
        return [
            (self._decoded(file, content), np.int64(number))
            for file, content, (number, _) in zip(files, contents, places, strict=True)
        ]

    def identity(self) -> dict[str, Any]:
        """What a resume compares."""
        counts = {name: self._rows.length(number) for number, name in enumerate(self.classes)}
        # The times of local files are not those of a copy of them.
        versions = self._versions if "://" in self.folder else [b""] * len(self)
        rows = zip(self._keys, self._sizes, versions, strict=True)
        return {
            "kind": "ImageFolder",
            "length": len(self),
            "folder": self.folder,
            "size": list(self._size),
            "channels": self._channels,
            "classes": counts,
            "sha256": identity.digest(
                (key.decode("utf-8", "surrogateescape"), int(size), version.decode()) for key, size, version in rows
            ),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Without Pillow, which is imported again."""
        return {**self.__dict__, "_image": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._image = needed("PIL.Image", "pillow")

    def _file(self, row: int) -> File:
        key = self._keys[row].decode("utf-8", "surrogateescape")
        return File(join(self.folder, key), int(self._sizes[row]), self._versions[row].decode())

    def _decoded(self, file: File, content: bytes) -> Any:
        height, width = self._size
        mode = _MODES[self._channels]
        try:
            image = self._image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
            if mode != "RGBA":
                image.draft(mode, (width, height))  # A JPEG is decoded no larger than is needed.
            image = image.convert(mode)
            if image.size != (width, height):
                image = image.resize((width, height), self._image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, MemoryError, Warning, self._image.DecompressionBombError) as error:
            reason = f"it cannot be decoded as JPEG or PNG: {str(error).replace('<', '').partition(' object at ')[0]}"
            raise DamagedRecord(file.url, 0, reason) from None
        return np.asarray(image, np.uint8).reshape(height, width, self._channels)


def _is_hidden(key: str) -> bool:
    return any(part.startswith(".") for part in key.split("/"))
