"""Sources that are not what they should be: what is said of them, and that nothing else is trained on in silence."""

import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.training.plans import plans
from trainer.core.config import Config
from trainer.core.exit_codes import DataError, TrainerError, UsageError
from trainer.training.data.read_ahead import Depth, ReadAhead, Readers
from trainer.training.data.source_split import SourceSplit

EXAMPLES, BATCH, LATE = 100, 25, 60  # The first 48 are looked at before any step.
X = np.zeros(3, np.float32)
MASKED: Any = np.ma.MaskedArray(X, mask=True)  # type: ignore[no-untyped-call]


@dataclasses.dataclass
class Source:
    """Gives what a function says."""

    example: Callable[[int], Any] = lambda row: (X, np.int64(row % 3))
    length: Any = EXAMPLES

    def __len__(self) -> int:
        return self.length() if callable(self.length) else self.length  # type: ignore[no-any-return]

    def __getitem__(self, row: int) -> Any:
        return self.example(row)


class Shrinking(Source):
    """Loses examples while it is read."""

    left = EXAMPLES

    def __len__(self) -> int:
        return self.left

    def __getitem__(self, row: int) -> Any:
        if row >= LATE:
            self.left = LATE
            raise IndexError(row)
        return super().__getitem__(row)


class NothingAtOnce(Source):
    def __getitems__(self, rows: list[int]) -> Any:
        return None


class Undecoded(Source):
    def decode(self, example: Any, _: Any) -> Any:
        return [][len(example)]


class Parent:
    """Of module level, as what travels to processes has to be."""

    here = os.getpid()

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, row: int) -> Any:
        return X, np.int64(row % 3)


@dataclasses.dataclass
class Unopened(Parent):
    """Cannot be made anew in another process."""

    held: int = 0

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("opened nowhere else")


@dataclasses.dataclass
class Killed(Parent):
    """Loses the process that reads it."""

    own: int = dataclasses.field(default_factory=os.getpid)

    def __getitem__(self, row: int) -> Any:
        if os.getpid() != self.own:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(row)


def late(example: Any) -> Callable[[int], Any]:
    """Gives something else from an example on that is not looked at before the first step."""

    def of(row: int) -> Any:
        if row < LATE:
            return X, np.int64(row % 3)
        return example() if callable(example) else example

    return of


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def read(source: Any, processes: int = 0) -> list[Any]:
    """All blocks of the source."""
    split, readers = SourceSplit(source, "training"), Readers(Config(reader_processes=processes))
    ahead = ReadAhead(split, readers, plans(EXAMPLES, BATCH), shares=[BATCH], devices=[None], depth=Depth(2))
    blocks = []
    while (block := ahead.next()) is not None:
        blocks.append(block)
    return blocks


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source(length=10.5), "the source of the training data cannot be run: 'float' object"),
        (Source(length=failing(RuntimeError("unknown"))), "it raised RuntimeError: unknown"),
        (Source(failing(KeyError(0))), "it raised KeyError: 0"),
        (NothingAtOnce(), "'NoneType' object is not iterable"),
        (Undecoded(), "it raised IndexError: list index out of range"),
        (Source(lambda _: None), "gives a NoneType; expected pairs"),
        (Source(lambda _: (None, 1)), "has no x"),
        (Source(lambda _: (np.datetime64("2020-01-01"), 1)), "gives datetime64"),
        (Source(lambda _: (np.complex64(1j), 1)), "gives complex64"),
        (Source(lambda _: (np.zeros(2, [("a", "f4")]), 1)), "gives ..'a'"),
        (Source(lambda _: (MASKED, 1)), r"Source\[0\] is a masked array"),
    ],
)
def test_what_is_seen_before_the_first_step_is_refused(source: Source, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(source)


@pytest.mark.parametrize(
    "example", [(X, None), ({"x": X}, np.int64(0)), (np.zeros(4, np.float32), np.int64(0)), (X, np.float64(0))]
)
def test_an_example_unlike_the_first_is_named(example: Any) -> None:
    with pytest.raises(DataError, match=f"^example {LATE} of the training data"):
        read(Source(late(example)))


@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("flaky"), ValueError), (OSError("flaky"), OSError), (SystemExit(3), RuntimeError)]
)
def test_what_a_source_raises_later_is_a_crash_that_names_the_example(
    error: BaseException, kind: type[BaseException]
) -> None:
    with pytest.raises(kind) as caught:
        read(Source(late(failing(error))))
    assert not isinstance(caught.value, TrainerError)
    assert f"Source[{LATE}] of the training data" in caught.value.__notes__[0]


def test_a_mask_that_comes_later_is_refused() -> None:
    with pytest.raises(UsageError, match=f"^a part of example {LATE} of the training data is a masked array"):
        read(Source(late((MASKED, np.int64(0)))))


def test_a_source_that_shrinks_is_named_as_data() -> None:
    with pytest.raises(DataError, match=f"^Shrinking of the training data has {LATE} examples now, and had {EXAMPLES}"):
        read(Shrinking())


def test_data_without_labels_are_read() -> None:
    assert len(read(Source(lambda _: (X, None)))) == EXAMPLES // BATCH


def test_numbers_of_the_other_byte_order_are_the_same_numbers() -> None:
    blocks = read(Source(lambda row: (np.full(2, row, ">f4"), np.array(row, ">i4"))))
    labels = [int(label) for block in blocks for label in block.leaves[0][1]]
    assert labels == list(range(EXAMPLES))


def test_a_source_that_a_process_cannot_open_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot take the source \(RuntimeError: opened nowhere else\)"):
        read(Unopened(), processes=1)


def test_a_process_that_is_lost_is_named() -> None:
    with pytest.raises(RuntimeError, match="--reader_processes=1 that read the training data has ended"):
        read(Killed(), processes=1)
