import pytest

from trainer.core.metric_mode import more_is_better


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("val_accuracy", True), ("auc", True), ("f1_score", True), ("true_positives", True), ("val_precision", True),
        ("loss", False), ("val_loss", False), ("out_1_loss", False), ("mae", False), ("false_positives", False),
        ("val_mean_squared_error", False), ("quantile_90", False), ("val_error_type_accuracy", True),
        ("loss_kind_auc", True), ("distance_f1_score", True), ("accuracy_out_loss", False), ("score_mae", False),
        ("precision_class_cross_entropy", False), ("f1_error", False), ("unknown", True),
        ("brier_score", False), ("error_type_score", True),
    ],
)  # fmt: skip
def test_the_name_says_whether_more_is_better(metric: str, more: bool) -> None:
    assert more_is_better(metric) is more
