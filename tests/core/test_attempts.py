"""Which time of a run's attempts counted."""

import pytest

from trainer.core.attempts import Span, goodput, useful


def span(step_from: int, step_to: int, training: float = 10.0) -> Span:
    return Span(step_from=step_from, step_to=step_to, rendezvous=1.0, start_up=4.0, training=training)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], []),
        ([span(0, 100)], [10.0]),
        ([span(0, 100), span(80, 200)], [8.0, 10.0]),
        # The checkpoint that the second began with was damaged when the third began.
        ([span(0, 100), span(100, 105), span(20, 200)], [2.0, 0.0, 10.0]),
        ([span(0, 100), span(90, 190), span(140, 140), span(120, 200)], [9.0, 3.0, 0.0, 10.0]),
        ([span(0, 100), span(0, 100)], [0.0, 10.0]),
        ([span(50, 40), span(300, 400)], [0.0, 10.0]),  # No attempt says so, but a bucket may.
    ],
)
def test_steps_count_that_no_later_attempt_made_again(spans: list[Span], seconds: list[float]) -> None:
    assert useful(spans) == pytest.approx(seconds)
    if spans:
        assert goodput(spans) == pytest.approx(sum(seconds) / (15.0 * len(spans)))


def test_without_any_time_there_is_no_goodput() -> None:
    assert goodput([]) is None
    assert goodput([Span(step_from=0, step_to=10, rendezvous=0.0, start_up=0.0, training=0.0)]) is None
