"""Examples of a source, stacked: the same by every way that a source may offer."""

from typing import Any

import numpy as np
import pytest

from trainer.core.exit_codes import DataError
from trainer.sources import DamagedRecord
from trainer.training.data.example_reader import ExampleReader, Piece

ROWS = np.array([7, 3, 9, 3])
X = np.random.default_rng(0).normal(size=(10, 2, 3))  # float64, handed to a model as float32.
Y = np.arange(10, dtype=np.uint8)


class OneByOne:
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> Any:
        return X[row], Y[row]


class Stacked(OneByOne):
    asked = 0

    def stacked(self, rows: Any) -> Any:
        self.asked += 1
        return X[rows], Y[rows]


class Negative(Stacked):
    """Reads in another way than the class that it extends, which gives examples stacked."""

    def __getitem__(self, row: int) -> Any:
        return -X[row], Y[row]


class Lists(OneByOne):
    def __getitem__(self, row: int) -> Any:
        return [X[row], int(Y[row])]


class Nested(OneByOne):
    def __getitem__(self, row: int) -> Any:
        return {"x": X[row]}, Y[row], np.float64(row)


class Broken(Stacked):
    def __getitem__(self, row: int) -> Any:
        if row == 3:
            raise DamagedRecord("file", 3, "broken")
        return super().__getitem__(row)

    def stacked(self, rows: Any) -> Any:
        if 3 in rows:
            raise DamagedRecord("file", 3, "broken")
        return super().stacked(rows)


class Wrong(Stacked):
    def stacked(self, rows: Any) -> Any:
        return X[rows][1:], Y[rows]


def read(source: Any, may_skip: int = 0) -> Piece:
    return ExampleReader(source, "training", may_skip=may_skip, floatx="float32").read(ROWS, 0)


@pytest.mark.parametrize("kind", [OneByOne, Stacked, Lists, Nested, Wrong])
def test_every_way_gives_the_same(kind: Any) -> None:
    x, y, *_ = read(kind()).leaves
    assert x.dtype == np.float32
    assert np.array_equal(x, X[ROWS].astype(np.float32))
    assert np.array_equal(y, Y[ROWS])


def test_what_a_source_gives_stacked_is_taken_unless_it_reads_in_another_way() -> None:
    source, other = Stacked(), Negative()
    read(source)
    assert source.asked
    assert np.array_equal(read(other).leaves[0], -X[ROWS].astype(np.float32))
    assert not other.asked


def test_a_damaged_example_among_stacked_ones() -> None:
    with pytest.raises(DamagedRecord):
        read(Broken())
    piece = read(Broken(), may_skip=1)
    assert list(piece.damaged) == [3]
    assert piece.leaves[1].tolist() == [7, 4, 9, 4]


def test_where_all_are_damaged_there_is_none_to_take_in_their_place() -> None:
    class Useless(OneByOne):
        def __getitem__(self, row: int) -> Any:
            raise DamagedRecord("file", row, "it is damaged")

    with pytest.raises(DamagedRecord):
        read(Useless(), may_skip=10**6)


@pytest.mark.parametrize(
    "odd", [(X[0, :1], Y[0]), (X[0].astype(np.float32), Y[0]), (X[0], np.int64(1)), (X[0], np.ones(1, np.uint8))]
)
def test_an_example_unlike_the_first_is_named(odd: Any) -> None:
    class Odd(OneByOne):
        def __getitem__(self, row: int) -> Any:
            return odd if row == 9 else super().__getitem__(row)

    with pytest.raises(DataError, match="example 9 of the training data has"):
        read(Odd())
