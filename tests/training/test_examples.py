"""The package's examples: each trains alone and by two workers, and survives a kill -9 with the same weights."""

import runpy
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.put_together import put_together
from tests.support.training_processes import Training, number, result
from trainer.core.log_lines import Progress
from trainer.training.model.merging import Merging
from trainer.training.model.scores import Scores
from trainer.training.model.sharing import Sharing

DOCUMENTED = ROOT / "docs" / "experiments.md"
EXPERIMENTS = {
    "cnn": ["--examples=384", "--epochs=3", "--global_batch_size=64", "--warmup=0.25"],
    "regression": [
        "--examples=2000",
        "--epochs=20",
        "--global_batch_size=50",
        "--learning_rate=0.01",
        "--quantile=0.6",
    ],
}
STEPS = {"cnn": 6, "regression": 40}  # Of an epoch, at whose end a checkpoint is saved.


def test_the_module_that_the_documentation_begins_with_can_be_trained(tmp_path: Path) -> None:
    """Compiled, as it stands there; on several workers, too."""
    _, _, rest = DOCUMENTED.read_text().partition("`my_model.py`, whole:\n\n```python\n")
    path = tmp_path / "my_model.py"
    path.write_text(rest.partition("```")[0])
    module = runpy.run_path(str(path))
    parts = put_together(data=module["load_data"](None), model=module["build_model"])
    assert [metric.name for metric in parts.model.metrics] == ["loss", "compile_metrics"]
    Merging(parts.model, Scores(parts.model), parts.look, 2)
    Sharing(parts.model, Scores(parts.model), parts.look, 8)


@pytest.fixture(params=list(EXPERIMENTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(name: str, small_mnist: Path) -> Iterator[Training]:
    flags = [f"--experiment=trainer.examples.{name}", f"--data_dir={small_mnist}", "--threads=1", "--histogram_freq=0"]
    started = Training([*flags, "--chunk_steps=1", "--log_every=0.01", *EXPERIMENTS[name]])
    yield started
    started.close()


def killed(example: Training, run_dir: Path, workers: int, saved: int) -> None:
    """Starts workers, and kills all of them once a checkpoint of step `saved` or a later one is there."""
    flag = f"--run_dir={run_dir}"
    started = [example.start(flag)] if workers == 1 else example.start_workers(workers, flag)
    started[0].wait_for(lambda line: (progress := Progress.parse(line)) and (progress.saved or 0) >= saved)
    for worker in started:
        worker.kill()
    assert all(worker.wait() == -signal.SIGKILL for worker in started)


@pytest.mark.thorough
def test_two_workers_end_close_to_one_and_a_kill_changes_nothing(name: str, example: Training, tmp_path: Path) -> None:
    results = {}
    for workers in (1, 2):
        whole, broken = tmp_path / f"whole-{workers}", tmp_path / f"broken-{workers}"
        example.run(f"--run_dir={whole}", count=workers)
        results[workers] = result(whole)
        killed(example, broken, workers, STEPS[name])
        chief, *_ = example.run(f"--run_dir={broken}", count=workers)
        assert number(r"resuming at step (\d+)", chief.text) >= STEPS[name]
        assert result(broken)["weights_sha256"] == results[workers]["weights_sha256"]
    one, two = results[1], results[2]
    if name == "regression":  # Nothing in it is per replica.
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
        assert one["val_mae"] < 0.5
    else:  # Each worker's batch has its own statistics, and its own dropout.
        assert two["steps"] == one["steps"] == 18
        assert two["loss"] == pytest.approx(one["loss"], rel=0.3)
        assert one["val_top5"] > one["val_accuracy"]
