import pytest

from trainer.core.metric_mode import more_is_better


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("val_accuracy", True), ("auc", True), ("f1_score", True), ("true_positives", True), ("val_precision", True),
        ("loss", False), ("val_loss", False), ("out_1_loss", False), ("mae", False), ("false_positives", False),
        ("val_mean_squared_error", False), ("quantile_90", False),
    ],
)  # fmt: skip
def test_the_name_says_whether_more_is_better(metric: str, more: bool) -> None:
    assert more_is_better(metric) is more
