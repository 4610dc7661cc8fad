"""The oracle is Keras: for every kind of model our loop ends with what `fit` ends with, fed the same batches.

Each way of training is one process, which goes through all kinds; see tests/training/oracle. Here it is one replica,
without XLA; test_oracle_xla.py and test_oracle_replicas.py have the others.
"""

import pytest

from tests.training.oracle.every_kind import KINDS
from tests.training.oracle.results import SOME, Oracle, check_ends_as_fit, check_same_bits


def test_every_kind_is_read(oracle: Oracle) -> None:
    assert len(KINDS) >= 24
    assert set(KINDS) == set(oracle.ended("fit"))


@pytest.mark.parametrize("kind", KINDS)
def test_ends_as_keras_fit_does(oracle: Oracle, kind: str) -> None:
    check_ends_as_fit(oracle, "1", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_goes_on_from_a_checkpoint_to_the_same_bits(oracle: Oracle, kind: str) -> None:
    """After a kill -9, in another process: all that training changes is in the checkpoint."""
    check_same_bits(oracle.resumed(), oracle.ended("1"), [kind])


@pytest.mark.parametrize("chunk", [1, 7])
def test_the_length_of_chunks_changes_no_bit(oracle: Oracle, chunk: int) -> None:
    check_same_bits(oracle.ended(f"1:{chunk}", *SOME), oracle.ended("1"), SOME)


def test_read_from_sources_changes_no_bit(oracle: Oracle) -> None:
    check_same_bits(oracle.ended("1s", *SOME), oracle.ended("1"), SOME)
