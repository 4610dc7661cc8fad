"""Where XLA compiles the steps, every kind of model that it can compile ends as with Keras' `fit`."""

import pytest

from tests.training.oracle.every_kind import KINDS
from tests.training.oracle.results import Oracle, a_few, check_ends_as_fit, check_same_bits, each

COMPILED = [name for name, kind in KINDS.items() if kind.xla]
# XLA is refused for synchronized layers on several replicas.
SHARED = [name for name in COMPILED if KINDS[name].replicas and not name.startswith("synchronized")]


@each(COMPILED, "1x")
def test_ends_as_keras_fit_does(oracle: Oracle, kind: str) -> None:
    check_ends_as_fit(oracle, oracle.one("1x", kind), kind)


@a_few(COMPILED, "1x")
def test_the_length_of_chunks_and_sources_change_no_bit(oracle: Oracle, kinds: list[str]) -> None:
    for way in ("1x:1", "1x:7", "1xs"):
        for kind in kinds:
            check_same_bits(oracle.ended(way, *kinds)[kind], oracle.one("1x", kind))


@pytest.mark.thorough
@a_few(SHARED, "1x")
def test_two_replicas_end_as_fit_does_with_chunks_of_any_length(oracle: Oracle, kinds: list[str]) -> None:
    for kind in kinds:
        ours = oracle.ended("2x", *kinds)[kind]
        check_ends_as_fit(oracle, ours, kind, least=1e-4)
        check_same_bits(oracle.ended("2x:5", *kinds)[kind], ours)
