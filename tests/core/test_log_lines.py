from hypothesis import given
from hypothesis import strategies as st

from trainer.core.log_lines import Progress

counts = st.integers(0, 10**9)
figures = st.integers(0, 10**7).map(lambda figure: figure / 10**4)  # Lines have four decimals.
lines = st.builds(
    Progress,
    worker=counts,
    workers=counts,
    attempt=counts,
    epoch=counts,
    epochs=counts,
    step=counts,
    steps=counts,
    loss=figures,
    accuracy=figures,
    images_per_second=counts.map(float),
    saved=st.none() | counts,
    val_loss=st.none(),
    val_accuracy=st.none(),
) | st.builds(
    Progress,
    **dict.fromkeys(["worker", "workers", "attempt", "epoch", "epochs", "step", "steps", "saved"], counts),
    **dict.fromkeys(["loss", "accuracy", "images_per_second", "val_loss", "val_accuracy"], counts.map(float)),
)


@given(lines)
def test_parse_reads_what_format_wrote(progress: Progress) -> None:
    assert Progress.parse(progress.format()) == progress


@given(st.text())
def test_any_other_line_is_no_progress(line: str) -> None:
    assert Progress.parse(line) is None
    assert Progress.parse(f"progress {line}") is None


def test_the_line_is_as_documented() -> None:
    line = "progress worker=0/4 attempt=1 epoch=1/5 step=120/2340 loss=0.4123 accuracy=0.8812 images/s=23456 saved=100"
    progress = Progress.parse(line)
    assert progress
    assert (progress.worker, progress.workers, progress.step, progress.saved) == (0, 4, 120, 100)
    assert progress.format() == line


def test_a_loss_that_is_no_number_is_still_progress() -> None:
    line = "progress worker=0/1 attempt=1 epoch=1/1 step=1/1 loss=nan accuracy=0.0000 images/s=1"
    assert Progress.parse(line) is not None
