"""How long chunks become by the clock."""

import pytest

from trainer.training.chunks import TARGET_SECONDS, ChunkLength


@pytest.mark.parametrize("step_seconds", [1e-5, 1e-3, 0.03, 0.2])
def test_chunks_grow_from_one_step_to_as_many_as_fit(step_seconds: float) -> None:
    length, lengths = ChunkLength(), [1]
    for _ in range(10):
        length.took(length.steps, length.steps * step_seconds)
        assert length.steps <= 4 * lengths[-1]
        lengths.append(length.steps)
    assert length.steps == max(1, int(TARGET_SECONDS / step_seconds))
    assert 0.05 <= TARGET_SECONDS <= 0.1


def test_a_slower_machine_shortens_them_and_an_epochs_end_does_not() -> None:
    length = ChunkLength()
    for _ in range(6):
        length.took(length.steps, length.steps * 1e-3)
    assert length.steps == 75
    length.took(3, 3 * 1e-1)  # What was left of an epoch.
    assert length.steps == 75
    length.took(75, 75 * 2e-3)
    assert length.steps == 37


def test_a_length_that_is_given_stays() -> None:
    length = ChunkLength(fixed=7)
    length.took(7, 100.0)
    assert length.steps == 7
