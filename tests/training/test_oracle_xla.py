"""Where XLA compiles the steps, every kind of model that it can compile ends as with Keras' `fit`."""

import pytest

from tests.training.oracle.every_kind import KINDS
from tests.training.oracle.results import SOME, Oracle, check_ends_as_fit, check_same_bits

COMPILED = [name for name, kind in KINDS.items() if kind.xla]
SHARED = [name for name in SOME if not name.startswith("synchronized")]  # XLA is refused for these on several replicas.


@pytest.mark.parametrize("kind", COMPILED)
def test_ends_as_keras_fit_does(oracle: Oracle, kind: str) -> None:
    check_ends_as_fit(oracle, "1x", kind)


def test_the_length_of_chunks_changes_no_bit(oracle: Oracle) -> None:
    check_same_bits(oracle.ended("1x:7", *SOME), oracle.ended("1x"), SOME)
    check_same_bits(oracle.ended("2x:5", *SHARED), oracle.ended("2x", *SHARED), SHARED)


def test_read_from_sources_changes_no_bit(oracle: Oracle) -> None:
    check_same_bits(oracle.ended("1xs", *SOME), oracle.ended("1x"), SOME)


@pytest.mark.parametrize("kind", SHARED)
def test_two_replicas_end_as_fit_does(oracle: Oracle, kind: str) -> None:
    check_ends_as_fit(oracle, "2x", kind, least=1e-4, among=SHARED)
