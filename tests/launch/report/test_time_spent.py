"""Where the time of a run went."""

import pytest

from tests.support.run_objects import pod, running, seen
from trainer.core.log_lines import Progress, StateLine
from trainer.launch.report.time_spent import Timeline


def state(word: str, attempt: int) -> StateLine:
    return StateLine(worker=0, workers=2, attempt=attempt, state=word, restarts=0, pid=1, spare="none", last="new")


def progress(step: int, attempt: int) -> Progress:
    return Progress(
        worker=0, workers=2, attempt=attempt, epoch=1, epochs=1, step=step, steps=100,
        metrics={"loss": 1.0, "accuracy": 0.5}, examples_per_second=1000.0,
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
    assert (spent.queued, spent.starting, spent.rendezvous, spent.training, spent.lost) == (3, 9, 8, 101, 0)
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


def test_steps_before_an_earlier_checkpoint_are_repeated_whichever_attempt_made_them() -> None:
    """As goodput has it that is counted by attempts.jsonl; here waiting for nodes and images is part of the time."""
    timeline = Timeline()
    for time, step, attempt in ((20, 0, 1), (120, 100, 1), (120, 100, 2), (140, 120, 2), (140, 20, 3), (320, 200, 3)):
        timeline.take(time, None, progress(step, attempt))
    timeline.take(320, state("ended", 3), None)
    spent = timeline.spent(seen(running(0, scheduled=0.0, started=20.0)), 320)
    assert (spent.starting, spent.training, spent.lost) == (20.0, 200.0, 100.0)


def test_before_the_first_step_nothing_is_training() -> None:
    spent = Timeline().spent(seen(running(0, scheduled=5.0, started=10.0)), 30.0)
    assert (spent.queued, spent.starting, spent.rendezvous, spent.training) == (5, 5, 20, 0)
    assert Timeline().spent(seen(), 30.0).queued == 30.0


def test_who_waits_for_a_node_or_an_image_is_not_in_a_rendezvous() -> None:
    spent = Timeline().spent(seen(running(0, scheduled=5.0, started=10.0), pod(1)), 30.0)
    assert (spent.queued, spent.starting, spent.rendezvous) == (30, 0, 0)
    spent = Timeline().spent(seen(running(0, scheduled=5.0, started=10.0), pod(1, scheduled=6.0)), 30.0)
    assert (spent.queued, spent.starting, spent.rendezvous) == (6, 24, 0)


def test_what_a_chief_told_that_is_gone_is_not_known() -> None:
    timeline = Timeline()
    timeline.take(1000, state("meeting", 0), None)
    timeline.take(1010, state("starting", 4), None)
    timeline.take(1030, None, progress(41, 4))
    timeline.take(1089, None, progress(100, 4))
    timeline.take(1090, state("ended", 4), None)
    spent = timeline.spent(seen(running(0, number=9, scheduled=990.0, started=999.0)), 1090)
    assert (spent.unknown, spent.queued, spent.starting, spent.rendezvous) == (1000, 0, 0, 0)
    assert (spent.training, spent.lost, spent.total) == (60, 30, 1090)
    assert spent.goodput == pytest.approx(60 / 90)


def test_a_run_that_ended_and_whose_chief_has_left_no_word() -> None:
    spent = Timeline().spent(seen(running(1, scheduled=5.0, started=10.0), ended="complete"), 500.0)
    assert (spent.queued, spent.starting, spent.rendezvous, spent.unknown) == (5, 5, 0, 490)
    assert spent.goodput == 0.0


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([(20, 10, 1)], None),
        ([(20, 10, 1), (50, 20, 1)], 3.0),  # However fast the lines of the past come in.
        ([(20, 10, 1), (50, 20, 1), (200, 18, 2)], None),  # Another attempt has its own speed.
        ([(20, 10, 1), (50, 20, 1), (200, 18, 2), (202, 20, 2)], 1.0),
    ],
)
def test_what_a_step_takes_is_measured_by_the_logs_clock(
    lines: list[tuple[float, int, int]], seconds: float | None
) -> None:
    timeline = Timeline()
    for time, step, attempt in lines:
        timeline.take(time, None, progress(step, attempt))
    assert timeline.step_seconds == seconds
    assert timeline.step == f"{lines[-1][1]}/100"
