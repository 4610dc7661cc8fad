"""The package's other experiments on the chart: models that are compiled, with flags of their own, on two workers."""

import pytest

from tests.e2e.release import VALUES, Release

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("name", "values", "own", "figure", "between"),
    [
        ("regression", "train.epochs=10,experiment.examples=40000", {"examples": 40000, "quantile": 0.5}, "val_mae",
         (0.08, 0.09)),
        ("cnn", "train.epochs=2",
         {"examples": 60000, "peak_rate": 0.004, "warmup": 0.1, "weight_decay": 0.01}, "val_accuracy", (0.99, 1.0)),
    ],
)  # fmt: skip
def test_an_example_trains_with_flags_of_its_own(
    name: str, values: str, own: dict[str, object], figure: str, between: tuple[float, float], release: Release
) -> None:
    module = f"trainer.examples.{name}"
    release.install(*VALUES, "--set", f"train.experiment={module},{values}")
    assert release.ended(300)[0] == "Complete", release.story()
    result = release.message()
    assert between[0] < result[figure] < between[1]
    assert (result["workers"], result["restarts"]) == (2, 0)
    assert result["experiment"] == {"module": module, **own}
