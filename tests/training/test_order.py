"""The order of an epoch: a permutation, another one for each epoch and seed, which takes no memory for large data."""

import itertools
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.training.data import order
from trainer.training.data.order import Order

LARGE = 2**20 + 12_345


@given(examples=st.integers(1, 3000), seed=st.integers(0, 2**40), epoch=st.integers(0, 2**20))
@settings(deadline=None, derandomize=True)
def test_every_example_comes_once(examples: int, seed: int, epoch: int) -> None:
    with mock.patch.object(order, "LARGEST_ARRAY", 0):  # So that small data sets go through the keyed permutation.
        rows = Order(seed, epoch, examples).rows(0, examples)
    assert sorted(rows) == list(range(examples))


@given(cuts=st.lists(st.integers(0, LARGE), min_size=2, max_size=4).map(sorted))
@settings(deadline=None, max_examples=10, derandomize=True)
def test_a_part_is_the_part_of_the_whole(cuts: list[int]) -> None:
    whole = Order(1, 2, LARGE).rows(cuts[0], cuts[-1])
    parts = [Order(1, 2, LARGE).rows(*ends) for ends in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("examples", [2**20, LARGE])
def test_seeds_and_epochs_have_orders_of_their_own(examples: int) -> None:
    first = Order(0, 0, examples).rows(0, 2000)
    assert np.array_equal(first, Order(0, 0, examples).rows(0, 2000))
    for other in (Order(0, 1, examples), Order(1, 0, examples)):
        assert np.mean(first == other.rows(0, 2000)) < 0.01


def test_it_takes_no_memory_where_data_is_large() -> None:
    tracemalloc.start()
    rows = Order(0, 0, 10**12).rows(10**11, 10**11 + 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert len(set(rows)) == 1000
    assert 0 <= rows.min() <= rows.max() < 10**12


@pytest.mark.parametrize("bins", [2, 10, 97])
def test_the_keyed_order_is_as_even_as_a_shuffled_array(bins: int) -> None:
    """Chi-square of where rows fall, of the distance of neighbours, and of their order: none is out of the ordinary."""
    rows = Order(3, 1, LARGE).rows(0, 200_000)
    steps = np.diff(rows) % LARGE
    ups = np.diff(rows) > 0
    for values in (rows * bins // LARGE, steps * bins // LARGE, rows % bins, steps % bins):
        counts = np.bincount(values, minlength=bins)
        chi = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
        assert chi < bins - 1 + 5 * np.sqrt(2 * (bins - 1)), (bins, chi)
    assert abs(ups.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.01


def test_unshuffled_it_is_the_rows_as_they_stand() -> None:
    for examples in (10, LARGE):
        assert list(Order(5, 3, examples, shuffle=False).rows(3, 9)) == list(range(3, 9))
