import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.long_texts import PIECES, cpu_seconds, long_text
from trainer.core.log_lines import Progress, StateLine

counts = st.integers(0, 10**9)
figures = st.integers(10, 10**7).map(lambda figure: figure / 10**4)  # Lines have four decimals.
names = st.lists(st.sampled_from(["loss", "accuracy", "top5", "mean_io_u", "auc_1", "f1/b"]), unique=True)
metrics = names.flatmap(lambda chosen: st.fixed_dictionaries(dict.fromkeys(chosen, figures)))


@st.composite
def lines(draw: st.DrawFn) -> Progress:
    workers, steps = draw(st.integers(1, 10**9)), draw(st.integers(1, 10**9))
    return Progress(
        worker=draw(st.integers(0, workers - 1)),
        workers=workers,
        attempt=draw(counts),
        epoch=draw(counts),
        epochs=draw(counts),
        step=draw(st.integers(0, steps)),
        steps=steps,
        metrics=draw(metrics),
        examples_per_second=draw(counts.map(float)),
        saved=draw(st.none() | counts),
        validation=draw(st.none() | metrics),
    )


@given(lines())
def test_parse_reads_what_format_wrote(progress: Progress) -> None:
    assert Progress.parse(progress.format()) == progress


@given(st.text())
def test_any_other_line_is_no_progress(line: str) -> None:
    assert Progress.parse(line) is None
    assert Progress.parse(f"progress {line}") is None


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
@pytest.mark.parametrize("start", ["", "progress ", "progress worker=0/4 attempt=", "agent worker=0/4 "])
def test_a_long_line_takes_no_time(piece: str, start: str) -> None:
    """Whoever prints it: agent and launcher read every line."""
    line = long_text(piece, start)
    assert cpu_seconds(Progress.parse, line) < 1
    assert cpu_seconds(StateLine.parse, line) < 1


def test_the_line_is_as_documented() -> None:
    line = (
        "progress worker=0/4 attempt=1 epoch=1/5 step=120/2340 loss=0.4123 accuracy=0.8812 examples/s=23456 saved=100"
    )
    progress = Progress.parse(line)
    assert progress
    assert (progress.worker, progress.workers, progress.step, progress.saved) == (0, 4, 120, 100)
    assert progress.format() == line


@pytest.mark.parametrize("name", ["step", "worker", "saved", "examples/s", "images/s"])
def test_a_metric_with_the_name_of_a_field_is_left_out(name: str) -> None:
    progress = Progress.parse("progress worker=0/4 attempt=1 epoch=1/5 step=1/10 loss=0.5 examples/s=3 saved=1")
    assert progress
    with_metric = dataclasses.replace(progress, metrics={"loss": 0.5, name: 0.25})
    assert Progress.parse(with_metric.format()) == progress


def test_reads_the_lines_of_0_1_0() -> None:
    line = "progress worker=0/4 attempt=1 epoch=1/5 step=120/2340 loss=0.4123 accuracy=0.8812 images/s=23456 saved=100"
    progress = Progress.parse(f"{line} val_loss=0.1000 val_accuracy=0.9000")
    assert progress
    assert progress.metrics == {"loss": 0.4123, "accuracy": 0.8812}
    assert progress.validation == {"loss": 0.1, "accuracy": 0.9}
    assert progress.examples_per_second == 23456


def test_a_loss_that_is_no_number_is_still_progress() -> None:
    line = "progress worker=0/1 attempt=1 epoch=1/1 step=1/1 loss=nan accuracy=0.0000 images/s=1"
    assert Progress.parse(line) is not None


LINE = "progress worker=0/2 attempt=1 epoch=1/5 step=1/10 loss=0.5 examples/s=3 saved=1"


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("step=1/10", "step=1/0"),
        ("step=1/10", "step=11/10"),
        ("step=1/10", "step=-1/10"),
        ("step=1/10", f"step=1/1{'0' * 400}"),
        ("step=1/10", "step=1/10/10"),
        ("step=1/10", "step=1_0/1_0"),
        ("step=1/10", "step=\u0661/\u0661"),
        ("worker=0/2", "worker=7/2"),
        ("worker=0/2", "worker=0/0"),
        ("attempt=1", f"attempt={'9' * 5000}"),
        ("attempt=1", "attempt=1.5"),
        ("saved=1", f"saved={'9' * 5000}"),
        ("loss=0.5", "loss=half"),
    ],
)
def test_impossible_numbers_are_no_progress(part: str, other: str) -> None:
    assert Progress.parse(LINE)
    assert Progress.parse(LINE.replace(part, other)) is None


@pytest.mark.parametrize("speed", ["inf", "nan", "-1", "1e400", "1e300"])
def test_an_impossible_speed_is_none(speed: str) -> None:
    progress = Progress.parse(LINE.replace("examples/s=3", f"examples/s={speed}"))
    assert progress
    assert progress.examples_per_second == 0


STATE = "agent worker=1/4 attempt=2 state=training restarts=1 pid=4711 spare=ready last=peer_lost"


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("worker=1/4", "worker=7/2"),
        ("attempt=2", f"attempt={'9' * 5000}"),
        ("pid=4711", "pid=٤"),
        ("state=training", f"state={'x' * 5000}"),
    ],
)
def test_impossible_numbers_are_no_state(part: str, other: str) -> None:
    assert StateLine.parse(STATE)
    assert StateLine.parse(STATE.replace(part, other)) is None
