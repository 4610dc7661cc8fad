"""Labels are looked at in the threads that read ahead, while the model is traced in another."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.put_together import Y, put_together
from trainer.core.exit_codes import DataError
from trainer.training.model.compilation import LabelCheck


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Threads that take turns after each few instructions."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hurried_threads")
def test_it_leaves_the_model_as_it_is_at_every_moment() -> None:
    parts = put_together()
    check = LabelCheck(parts.model, parts.look.outputs, split="training")
    compiled = parts.model._compile_loss
    losses = compiled._flat_losses
    with ThreadPoolExecutor(8) as threads:
        looks = [threads.submit(check, Y) for _ in range(400)]
        seen = []
        while not all(look.done() for look in looks):
            seen.append(compiled._flat_losses)
    assert [look.result() for look in looks] == [None] * 400
    assert all(each is losses for each in [*seen, compiled._flat_losses])


def test_it_refuses_whatever_the_model_is_used_for_meanwhile() -> None:
    parts = put_together()
    check = LabelCheck(parts.model, parts.look.outputs, split="training")
    parts.model._compile_loss._flat_losses = []  # As while a step of several workers is traced they are others.
    with pytest.raises(DataError, match="7"):
        check(np.full(40, 7))
