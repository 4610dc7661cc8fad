"""TFRecord shards, read at random by their side indexes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np

from trainer.core import tfrecord
from trainer.sources import identity
from trainer.sources.errors import parsed
from trainer.sources.files import File, find, read_many
from trainer.sources.files.finding import Address
from trainer.sources.indexes import record_index
from trainer.sources.sequences import Rows, RowSource

NAMES = ("*tfrecord*",)
# Many threads read; large records are not to be held for all of a batch before one is parsed.
_AT_ONCE_BYTES = 8 * 2**20


class TFRecords(RowSource):
    """The records of TFRecord shards, each made an example by a function."""

    def __init__(
        self,
        where: Address | Sequence[Address],
        parse: Callable[[bytes], Any],
        *,
        names: Iterable[str] = NAMES,
    ) -> None:
        """Finds the shards, and reads or makes their indexes.

        Args:
          where: a shard, a folder, a pattern, or several of these; local paths, gs:// or s3://.
          parse: makes an example, (x, y) or (x, y, weight), of a record; `trainer.sources.example` reads a
            tf.train.Example. It is called in many threads. A DataError that it raises marks the record as damaged.
          names: patterns of the shards' names in a folder.

        Raises:
          DataError: there are none, or one is damaged so that its records cannot be found.
          UsageError: one is compressed.
        """
        self._files = find(where, names=names)
        self._parse = parse
        self._indexes = record_index.load(self._files)
        self._rows = Rows([len(index) for index in self._indexes])

    def __getstate__(self) -> dict[str, Any]:
        """Without the indexes, of which a large one would be copied: they are mapped again where this goes to."""
        return {**self.__dict__, "_indexes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._indexes = record_index.load(self._files)

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """The examples of several records, read together.

        Raises:
          DamagedRecord: one of them does not have its checksum, or `parse` finds it damaged.
        """
        return [
            parsed(self._parse_framed, framed, file.url, start)
            for places in _parts(self._places(indices))
            for (file, start, _), framed in zip(places, read_many(places), strict=True)
        ]

    def identity(self) -> dict[str, Any]:
        """What a resume compares."""
        return identity.of_files("TFRecords", self._files, len(self))

    def _places(self, indices: Iterable[SupportsIndex]) -> list[tuple[File, int, int]]:
        files, rows = self._rows.find_all(indices)
        places: list[Any] = [None] * len(rows)
        for number in np.unique(files).tolist():
            (those,) = np.nonzero(files == number)
            file = self._files[number]
            for at, start, size in zip(those.tolist(), *self._indexes[number].places(rows[those]), strict=True):
                places[at] = (file, start, size)
        return places

    def _parse_framed(self, framed: bytes) -> Any:
        return self._parse(tfrecord.checked_data_of(framed))


def _parts(places: list[tuple[File, int, int]]) -> Iterator[list[tuple[File, int, int]]]:
    part, total = list[tuple[File, int, int]](), 0
    for place in places:
        if part and total + place[2] > _AT_ONCE_BYTES:
            yield part
            part, total = [], 0
        part.append(place)
        total += place[2]
    if part:
        yield part
