"""What every source must do, checked."""

import json
import operator
import pickle
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest


def parse(data: bytes) -> Any:
    """An example of a record: its bytes, and how many there are."""
    return np.frombuffer(data, np.uint8), np.int64(len(data))


def same(one: Any, other: Any) -> bool:
    """Whether two examples are equal, in types and shapes, too."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))
    one, other = np.asarray(one), np.asarray(other)
    return bool(one.dtype == other.dtype and one.shape == other.shape and (one == other).all())


def nested(part: Any, function: Callable[[Any], Any]) -> Any:
    """`part` with its arrays replaced."""
    if isinstance(part, dict):
        return {name: nested(inner, function) for name, inner in part.items()}
    return tuple(nested(inner, function) for inner in part) if isinstance(part, tuple) else function(part)


def check_source(source: Any, expected: Sequence[Any]) -> None:
    """It is the expected examples, in any order, from many threads, and in another process."""
    assert len(source) == len(expected)
    order = random.Random(1).sample(range(len(expected)), len(expected))
    for index in [0, len(expected) - 1, -1, *order[:20]]:
        assert same(source[index], expected[index]), index
    assert source.__getitems__([]) == []
    for index in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            source[index]
    other = pickle.loads(pickle.dumps(source))  # noqa: S301
    found: dict[int, Any] = {}
    failed = list[BaseException]()

    def read(begin: int) -> None:
        chosen = order[begin::4]
        try:
            for at in range(0, len(chosen), 16):
                indices = chosen[at : at + 16]
                found.update(zip(indices, other.__getitems__(indices), strict=True))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read, args=(begin,)) for begin in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(found) == list(range(len(expected)))
    assert all(same(found[index], expected[index]) for index in found)
    assert same(source.__getitems__([3, 1, 3])[2], expected[3])
    if hasattr(source, "stacked"):
        chosen = order[:20]
        stacked = source.stacked(chosen)
        for at, index in enumerate(chosen):
            assert same(nested(stacked, operator.itemgetter(at)), expected[index]), index
    identity = source.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["length"] == len(expected)
    assert other.identity() == identity
