"""The order in which an epoch goes through the examples: a function of the seed and the epoch, so it is never saved.

Up to a million examples it is a shuffled array. Beyond, it is a keyed permutation of the row numbers, which takes no
memory: a Feistel network over the smallest even number of bits that holds them all, walked on until a number is a row.
"""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

LARGEST_ARRAY = 2**20
_ROUNDS = 8  # Four look random to a test of pairs; twice as many cost little beside reading an example.


class Order:
    """A permutation of the rows of a data set."""

    def __init__(self, seed: int, epoch: int, examples: int, *, shuffle: bool = True) -> None:
        """That of an epoch; in the order of the rows where it does not `shuffle`."""
        self._examples = examples
        self._array: Rows | None = None
        self._keys: npt.NDArray[np.uint64] | None = None
        if not shuffle:
            return
        if examples <= LARGEST_ARRAY:
            self._array = np.random.default_rng([seed, epoch]).permutation(examples)
        else:
            self._keys = np.random.SeedSequence([seed, epoch, 4]).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
            self._half = np.uint64(((examples - 1).bit_length() + 1) // 2)

    def rows(self, begin: int, end: int) -> Rows:
        """The rows at some places of the order: int64 [end - begin]."""
        if self._array is not None:
            return self._array[begin:end]
        places = np.arange(begin, min(end, self._examples), dtype=np.int64)
        return places if self._keys is None else self._permuted(places)

    def _permuted(self, places: Rows) -> Rows:
        rows = self._feistel(places.astype(np.uint64))
        # Of the numbers with as many bits at least a quarter are rows: a few walks find one for each.
        while (outside := rows >= self._examples).any():
            rows[outside] = self._feistel(rows[outside])
        return rows.astype(np.int64)

    def _feistel(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        assert self._keys is not None  # noqa: S101
        mask = (np.uint64(1) << self._half) - np.uint64(1)
        left, right = numbers >> self._half, numbers & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        return (left << self._half) | right


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each number's bits, spread over all 64 (the finalizer of SplitMix64, Steele and others 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
