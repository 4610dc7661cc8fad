"""Where the time of a run went."""

import pytest

from tests.runs import running, seen
from trainer.progress import Progress
from trainer.status import StateLine
from trainer.timeline import Timeline


def state(word: str, attempt: int) -> StateLine:
    return StateLine(worker=0, workers=2, attempt=attempt, state=word, restarts=0, pid=1, spare="none", last="new")


def progress(step: int, attempt: int) -> Progress:
    return Progress(
        worker=0, workers=2, attempt=attempt, epoch=1, epochs=1, step=step, steps=100, loss=1.0, accuracy=0.5,
        images_per_second=1000.0,
    )  # fmt: skip


def test_a_run_without_failures() -> None:
    timeline = Timeline()
    timeline.take(12, state("meeting", 0), None)
    timeline.take(15, state("starting", 1), None)
    timeline.take(20, None, progress(1, 1))
    timeline.take(20, state("training", 1), None)
    timeline.take(120, None, progress(100, 1))
    timeline.take(121, state("ended", 1), None)
    spent = timeline.spent(seen(running(0, scheduled=2.0, started=10.0), running(1, scheduled=3.0, started=12.0)), 121)
    assert (spent.queued, spent.starting, spent.meeting, spent.training, spent.lost) == (3, 9, 8, 101, 0)
    assert spent.total == 121
    assert spent.goodput == pytest.approx(101 / 121)


def test_restarts_and_repeated_steps_are_lost_time() -> None:
    timeline = Timeline()
    timeline.take(20, None, progress(0, 1))
    timeline.take(70, None, progress(50, 1))
    timeline.take(70, state("meeting", 1), None)
    timeline.take(80, None, progress(40, 2))  # 10 steps anew, at a step a second.
    timeline.take(140, None, progress(100, 2))
    timeline.take(140, state("ended", 2), None)
    spent = timeline.spent(seen(running(0, scheduled=0.0, started=10.0)), 140)
    assert spent.training == pytest.approx(100.0, abs=0.1)
    assert spent.lost == pytest.approx(20.0, abs=0.1)
    assert timeline.attempt == 2


def test_before_the_first_step_nothing_is_training() -> None:
    spent = Timeline().spent(seen(running(0, scheduled=5.0, started=10.0)), 30.0)
    assert (spent.queued, spent.starting, spent.meeting, spent.training) == (5, 5, 20, 0)
    assert Timeline().spent(seen(), 30.0).queued == 30.0
