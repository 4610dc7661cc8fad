"""The first weights are drawn from the seed alone, whatever else draws numbers while data are loaded."""

import random
from pathlib import Path

import pytest

from tests.support.training_processes import Training, result
from trainer.output.stores.errors import UnreachableError
from trainer.sources.files import retries

DRAWS = """
import random, time
from trainer import mnist
build_model, preprocess, Flags = mnist.build_model, mnist.preprocess, mnist.Flags

def load_data(config):
    loaded, end = mnist.load_data(config), time.monotonic() + 1
    while time.monotonic() < end:
        random.random()
    return loaded
"""


def test_load_data_may_draw_numbers(training: Training, tmp_path: Path) -> None:
    """As users do, who shuffle or augment; how many it draws is another number each time."""
    (tmp_path / "draws.py").write_text(DRAWS)
    found = set()
    for name, experiment in (("a", "draws"), ("b", "draws"), ("c", "trainer.mnist")):
        flags = (f"--experiment={experiment}", "--epochs=1", f"--run_dir={tmp_path / name}")
        worker = training.start(*flags, environ={"PYTHONPATH": str(tmp_path)})
        assert worker.wait() == 0, worker.text
        found.add(result(tmp_path / name)["weights_sha256"])
    assert len(found) == 1


def test_a_request_that_is_tried_again_draws_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose store was busy while they began had other weights than those whose store was not."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    before = random.getstate()
    retries.Retries("s3://a-bucket").failed(UnreachableError("busy"))
    assert random.getstate() == before
