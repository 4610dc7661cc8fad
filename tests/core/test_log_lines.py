from hypothesis import given
from hypothesis import strategies as st

from trainer.core.log_lines import Progress

counts = st.integers(0, 10**9)
figures = st.integers(10, 10**7).map(lambda figure: figure / 10**4)  # Lines have four decimals.
names = st.lists(st.sampled_from(["loss", "accuracy", "top5", "mean_io_u", "auc_1", "f1/b"]), unique=True)
metrics = names.flatmap(lambda chosen: st.fixed_dictionaries(dict.fromkeys(chosen, figures)))
lines = st.builds(
    Progress,
    **dict.fromkeys(["worker", "workers", "attempt", "epoch", "epochs", "step", "steps"], counts),
    metrics=metrics,
    examples_per_second=counts.map(float),
    saved=st.none() | counts,
    validation=st.none() | metrics,
)


@given(lines)
def test_parse_reads_what_format_wrote(progress: Progress) -> None:
    assert Progress.parse(progress.format()) == progress


@given(st.text())
def test_any_other_line_is_no_progress(line: str) -> None:
    assert Progress.parse(line) is None
    assert Progress.parse(f"progress {line}") is None


def test_the_line_is_as_documented() -> None:
    line = (
        "progress worker=0/4 attempt=1 epoch=1/5 step=120/2340 loss=0.4123 accuracy=0.8812 examples/s=23456 saved=100"
    )
    progress = Progress.parse(line)
    assert progress
    assert (progress.worker, progress.workers, progress.step, progress.saved) == (0, 4, 120, 100)
    assert progress.format() == line


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
