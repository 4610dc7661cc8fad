"""On several replicas every kind of model that they can share ends as with Keras' `fit` on one."""

import numpy as np
import pytest

from tests.training.oracle.every_kind import KINDS
from tests.training.oracle.results import Oracle, a_few, check_ends_as_fit, check_same_bits, each

SHARED = [name for name, kind in KINDS.items() if kind.replicas]


@each(SHARED, "3")
def test_ends_as_keras_fit_does(oracle: Oracle, kind: str) -> None:
    check_ends_as_fit(oracle, oracle.one("3", kind), kind, least=1e-4)


def test_frozen_weights_keep_every_bit(oracle: Oracle) -> None:
    """They are not averaged, which would round them."""
    kind = "frozen and shared"
    ours, theirs = oracle.ended("3", kind)[kind]["weights"], oracle.one("fit", kind)["weights"]
    frozen = [index for index, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one == other]
    assert frozen == [2, 3]  # Kernel and bias of the second layer.


@pytest.mark.parametrize(("one", "several"), [("1:0", "3"), pytest.param("1x", "2x", marks=pytest.mark.thorough)])
def test_examples_are_augmented_alike_by_any_number(oracle: Oracle, one: str, several: str) -> None:
    alone, shared = (oracle.ended(mode, "augmented")["augmented"] for mode in (one, several))
    for weights, theirs in zip(alone["weights"], shared["weights"], strict=True):
        np.testing.assert_allclose(weights, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.thorough
@a_few(SHARED, "3")
def test_the_length_of_chunks_changes_no_bit(oracle: Oracle, kinds: list[str]) -> None:
    for kind in kinds:
        check_same_bits(oracle.ended("3:1", *kinds)[kind], oracle.one("3", kind))


@a_few(SHARED, "3")
def test_read_from_sources_changes_no_bit(oracle: Oracle, kinds: list[str]) -> None:
    for kind in kinds:
        check_same_bits(oracle.ended("3s", *kinds)[kind], oracle.one("3", kind))
