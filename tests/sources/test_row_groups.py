"""Decoded groups: how many threads may decode at the same time."""

import concurrent.futures
import threading
import time

import numpy as np
import pytest

from trainer.sources.formats.row_groups import Group, RowGroups


@pytest.mark.parametrize(("group_bytes", "most"), [(2**24, 4), (2**27, 1), (1000, 16)])
def test_of_large_groups_few_are_decoded_at_the_same_time(group_bytes: int, most: int) -> None:
    groups, lock = RowGroups(10 * group_bytes), threading.Lock()
    running, seen = [0], [0]

    def decode() -> Group:
        with lock:
            running[0] += 1
            seen[0] = max(seen[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1
        return Group([np.zeros(group_bytes, np.uint8)], {})

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: groups.get(key, decode), range(48)))
    assert seen[0] <= most
    assert seen[0] > most // 2  # And no fewer than there is room for; one more byte than the array is counted.


def test_a_group_that_cannot_be_decoded_makes_way_for_others() -> None:
    groups = RowGroups(1000)

    def fail() -> Group:
        raise ValueError("damaged")

    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"):
            groups.get("damaged", fail)
    assert groups.get("other", lambda: Group([], {})).columns == []


def test_what_is_decoded_twice_is_counted_once() -> None:
    """A group is dropped while some wait for it, and decoded by two of them, if there is little room."""
    groups, size = RowGroups(8000), Group([np.zeros(1000, np.uint8)], {}).nbytes

    def decode() -> Group:
        return Group([np.zeros(1000, np.uint8)], {})

    def ask(seed: int) -> None:
        keys = np.random.default_rng(seed).integers(0, 8, 4000)
        for key in keys.tolist():
            groups.get(key, decode)

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(16)))
    assert groups._bytes == size * len(groups._kept)
    assert len(groups._kept) == 8000 // size
