"""Which epochs are the best and when a run ends, as functions of its history."""

import math

import pytest

from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.core.selection import EarlyStopping, KeepBest

KNOWN = ["loss", "accuracy", "val_loss", "val_accuracy", "swing"]


def history(*values: float, metric: str = "val_loss") -> list[dict[str, float]]:
    return [{metric: value} for value in values]


def stopping(text: str) -> EarlyStopping:
    return EarlyStopping.parse(text).check(KNOWN, {})


def first_end(text: str, *values: float, metric: str = "val_loss") -> int | None:
    """After how many epochs a run with these values ends."""
    ends = (
        count for count in range(1, len(values) + 1) if stopping(text).ends(history(*values[:count], metric=metric))
    )
    return next(ends, None)


@pytest.mark.parametrize(
    ("text", "values", "epochs"),
    [
        ("val_loss:patience=2", [5, 4, 4, 4, 1], 4),
        ("val_loss:patience=2", [5, 4, 6, 3, 2, 1], None),
        ("val_loss:patience=1", [5, 5], 2),
        ("val_loss:patience=2,min_delta=0.5", [5, 4.6, 4.5, 4.4], 3),
        ("val_loss:patience=2,min_delta=0.5", [5, 4.6, 4.4, 4.1, 3.8], None),
        ("val_loss:patience=2", [math.nan, math.nan, 1], 2),
        ("val_loss:patience=2", [math.nan, 2, math.nan, math.inf], 4),
        ("val_loss:patience=2,mode=max", [5, 6, 6, 6], 4),
    ],
)
def test_it_ends_once_patience_is_over(text: str, values: list[float], epochs: int | None) -> None:
    assert first_end(text, *values) == epochs


def test_an_accuracy_should_be_high_and_a_loss_low() -> None:
    assert first_end("val_accuracy:patience=2", 0.5, 0.6, 0.6, 0.5, metric="val_accuracy") == 4
    names = ["loss", "mse", "val_mae", "root_mean_squared_error", "false_positives", "val_perplexity", "brier_score"]
    assert {KeepBest.parse(name).check(names, {}).mode for name in names} == {"min"}
    names = ["accuracy", "acc", "val_auc", "top_5", "f1_score", "val_mean_io_u_score", "true_positives", "recall"]
    assert {KeepBest.parse(name).check(names, {}).mode for name in names} == {"max"}


@pytest.mark.parametrize("name", ["accumulated_cost", "rank", "lr", "mouse", "temperature"])
def test_a_name_that_says_nothing_is_not_guessed_at(name: str) -> None:
    with pytest.raises(UsageError, match=r"add mode=max or mode=min"):
        KeepBest.parse(name).check([name], {})


def test_the_reason_names_what_was_measured() -> None:
    why = stopping("val_loss:patience=2,min_delta=0.1").ends(history(5, 4, 4, 4))
    assert why == "val_loss was 4 after epoch 2 and not better by more than 0.1 in 2 epoch(s) since"


def test_the_best_are_the_first_of_equals() -> None:
    values = history(3, 1, math.nan, 2, 1, 4)
    assert KeepBest.parse("val_loss:3").check(KNOWN, {}).best(values) == [1, 4, 3]
    assert KeepBest.parse("val_loss:2,mode=max").check(KNOWN, {}).best(values) == [5, 0]
    assert KeepBest.parse("val_loss").check(KNOWN, {}).best(values) == [1]
    assert KeepBest.parse("val_loss:9").check(KNOWN, {}).best(values) == [1, 4, 3, 0, 5]


def test_a_metric_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"^--keep_best names val_auc, which .* there are loss, accuracy, val_loss"):
        KeepBest.parse("val_auc:3").check(KNOWN, {})


def test_a_metric_of_which_nobody_knows_what_is_better() -> None:
    assert KeepBest.parse("swing").check(KNOWN, {"swing": "max"}).mode == "max"
    assert KeepBest.parse("swing:1,mode=min").check(KNOWN, {"swing": "max"}).mode == "min"
    with pytest.raises(UsageError, match=r"whether swing should be high or low; add mode=max or mode=min"):
        KeepBest.parse("swing").check(KNOWN, {})


@pytest.mark.parametrize(
    "text",
    [
        "val_loss", "val_loss:", ":patience=5", "val_loss:5", "val_loss:patience=0", "val_loss:patience=-1",
        "val_loss:patience=two", "val_loss:patience=1.5", "val_loss:patience=5,patience=6", "val_loss:patient=5",
        "val_loss:patience=5,min_delta=nan", "val_loss:patience=5,min_delta=-1", "val_loss:patience=5,mode=up",
        "val_loss:patience=5,", "val_loss:patience=1e99", "val_loss:patience=³",
    ],
)  # fmt: skip
def test_nonsense_of_early_stopping_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Config(early_stopping=text).check()
    assert str(refused.value).startswith(f"--early_stopping={text}: ")
    assert "expected METRIC:patience=EPOCHS" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [":3", "val_loss:", "val_loss:0", "val_loss:x", "val_loss:3,4", "val_loss:3,mode=0"])
def test_nonsense_of_keep_best_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected METRIC:COUNT") as refused:
        Config(keep_best=text).check()
    assert str(refused.value).startswith(f"--keep_best={text}: ")


def test_restore_best_needs_to_know_what_is_best() -> None:
    with pytest.raises(UsageError, match=r"--restore_best needs to know what is best: add --keep_best"):
        Config(restore_best=True).check()
    Config(restore_best=True, early_stopping="loss:patience=1").check()
