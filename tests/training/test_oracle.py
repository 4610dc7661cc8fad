"""The oracle is Keras: for every kind of model our loop ends with what `fit` ends with, fed the same batches.

Each way of training is one process, which goes through all kinds; see tests/training/oracle. Here it is one replica,
without XLA; test_oracle_xla.py and test_oracle_replicas.py have the others. `make test` trains every common kind in one
of these ways; `make test-thorough` has the others, and all that are less common.
"""

import pytest

from tests.training.oracle.every_kind import KINDS
from tests.training.oracle.results import Oracle, a_few, check_ends_as_fit, check_same_bits, each


@pytest.mark.thorough
def test_every_kind_is_read(oracle: Oracle) -> None:
    assert len(KINDS) >= 24
    assert set(KINDS) == {oracle.one("fit", kind)["kind"] for kind in KINDS}


@each(KINDS, "1")
def test_ends_as_keras_fit_does(oracle: Oracle, kind: str) -> None:
    check_ends_as_fit(oracle, oracle.one("1", kind), kind)


@each(KINDS, "resumed")
def test_goes_on_from_a_checkpoint_to_the_same_bits(oracle: Oracle, kind: str) -> None:
    """After a kill -9, in another process: all that training changes is in the checkpoint."""
    check_same_bits(oracle.one("resumed", kind), oracle.one("1", kind))


@pytest.mark.parametrize("way", ["1:1", "1:7", "1s"])
@a_few(KINDS, "resumed")
def test_the_length_of_chunks_and_sources_change_no_bit(oracle: Oracle, kinds: list[str], way: str) -> None:
    for kind in kinds:
        check_same_bits(oracle.ended(way, *kinds)[kind], oracle.one("1", kind))
