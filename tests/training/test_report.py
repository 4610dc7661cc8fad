"""report.html: what stands in it for every kind of model, what a browser makes of it, and that no run fails for it."""

import html
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.browser import needs_chromium, page
from tests.support.training_processes import Training, Worker, result
from trainer.core.attempts import goodput
from trainer.core.config import Config
from trainer.training.data.arrays import Arrays
from trainer.training.model.first_look import FirstLook
from trainer.training.results import mistakes, report_page
from trainer.training.results.attempt_times import AttemptTime, attempt_times
from trainer.training.results.report_page import Report

HOSTILE = """</title><script>document.title='taken'</script><img src=x onerror="document.title='taken'">"""
BINARY = """
import keras
import numpy as np
rng = np.random.default_rng(0)
x = rng.normal(size=(200, 3))

def load_data(config):
    return (x, (x.sum(1) > 0).astype("float32")[:, None]), None

def build_model(config):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model
"""
NO_PREDICTION = """
import os
import keras
from trainer import mnist
from trainer.mnist import Flags, load_data, preprocess

class Moody(keras.layers.Layer):
    def call(self, inputs):
        if os.path.exists(os.environ["MODEL"]):  # Once all else is done.
            raise RuntimeError("not <b>today</b>")
        return inputs

def build_model(config):
    return keras.Sequential([keras.Input((28, 28)), Moody(), *mnist.build_model(config).layers])
"""


def experiment(folder: Path, text: str) -> dict[str, str]:
    (folder / "reported.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def finished(worker: Worker, run_dir: Path) -> str:
    """The page of a run that has succeeded."""
    assert worker.wait() == 0, worker.text
    assert result(run_dir)["report"] == "report.html"
    return (run_dir / "report.html").read_text()


def a_report(**changes: Any) -> Report:
    figures = {
        "workers": 2, "global_batch_size": 128, "epochs": 2, "steps": 20, "examples_per_second": 1000.0, "seconds": 9.5,
        "restarts": 1, "weights_sha256": "ab" * 32, "versions": {"trainer": "1"},
    }  # fmt: skip
    attempt = an_attempt(1, 0, 20)
    given: dict[str, Any] = {
        "run": "run",
        "history": [{"loss": 1.0}, {"loss": 0.5}],
        "attempts": [attempt],
        "flags": [],
    }
    return Report(**{"figures": figures, "predictions": None, **given, **changes})


def an_attempt(number: int, step_from: int, step_to: int, end: str = "") -> AttemptTime:
    return AttemptTime(
        number=number, workers=2, step_from=step_from, step_to=step_to, rendezvous=1.0, start_up=2.0, training=10.0,
        lost=0.0, end=end,
    )  # fmt: skip


@needs_chromium
def test_a_browser_shows_it_and_asks_nobody(training: Training, tmp_path: Path) -> None:
    """A run directory, which is on the page, may be called anything."""
    run_dir = tmp_path / HOSTILE.replace("/", "\N{FRACTION SLASH}")
    content = finished(training.start(f"--run_dir={run_dir}", "--epochs=3", "--global_batch_size=64"), run_dir)
    (tmp_path / "page.html").write_text(content)
    with page(width=1000, height=900) as ask:
        ask("Network.enable")
        ask("Page.navigate", url=f"file://{tmp_path}/page.html")

        def count(selector: str) -> int:
            expression = f"document.querySelectorAll({json.dumps(selector)}).length"
            return int(ask("Runtime.evaluate", expression=expression)["result"]["value"])

        def value(expression: str) -> Any:
            return ask("Runtime.evaluate", expression=expression)["result"]["value"]

        for _ in range(100):
            if value("document.readyState") == "complete":
                break
        assert value("document.title") == run_dir.name
        assert value("document.querySelector('h1').textContent") == run_dir.name
        assert count("script") == count("link") == count("img:not([src^='data:image/png'])") == 0
        assert count("polyline.curve") == 4  # Loss and accuracy, of training and of validation.
        assert count("circle.dot") == 12
        assert count("table.matrix td") == 100
        assert 1 <= count(".misses img") <= 25
        assert value("[...document.querySelectorAll('.misses img')].every(image => image.naturalWidth === 28)")
        assert (
            value("performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length") == 0
        )
        assert value("document.documentElement.scrollWidth") <= 1000
        matrix = "[...document.querySelectorAll('table.matrix td')].reduce((sum, cell) => sum + +cell.textContent, 0)"
        assert value(matrix) == 200


def test_whatever_a_text_holds_stays_text() -> None:
    attempts = [an_attempt(1, 0, 10, end=HOSTILE), an_attempt(2, 10, 20)]
    split = mistakes.Predictions(
        split="validation", examples=1, of=1, wrong=1, classes=2, confusion={(0, 1): 1},
        misses=[mistakes.Miss(index=0, label=HOSTILE, predicted=HOSTILE, picture=None, values=HOSTILE)],
    )  # fmt: skip
    text = report_page.page(
        a_report(
            run=HOSTILE,
            history=[{HOSTILE: 1.0}],
            attempts=attempts,
            predictions=split,
            flags=[(HOSTILE, HOSTILE, True)],
        )
    )
    assert text.count(html.escape(HOSTILE)) >= 8
    assert not re.search(r"<script|<img|onerror=\"", text)


def test_addresses_lose_their_passwords() -> None:
    text = report_page.page(a_report(flags=[("data_dir", "https://me:secret@host/data?key=secret", True)]))
    assert "https://host/data" in text
    assert "secret" not in text


def test_attempts_and_what_was_lost() -> None:
    seconds = {"rendezvous": 1.0, "start_up": 2.0, "training": 10.0}
    line = {
        "attempt": 1,
        "workers": [0, 1],
        "step_from": 0,
        "step_to": 20,
        "seconds": seconds,
        "reason": "worker 1 died",
    }
    damaged: list[dict[str, Any]] = [
        {"attempt": 1},
        {**line, "seconds": {"rendezvous": "1"}},
        {**line, "attempt": 7},
        line,
    ]
    first, second = attempt_times(damaged, an_attempt(2, 15, 40))
    assert (first.number, first.lost, first.end) == (1, 2.5, "worker 1 died")
    assert second.lost == 0.0
    assert goodput([first, second]) == pytest.approx((10.0 - 2.5 + 10.0) / 26.0)
    assert attempt_times([], second) == [second]
    text = report_page.page(a_report(attempts=[first, second]))
    assert "2 attempts; goodput 67%" in text
    assert "steps that were made again: 2.5 s" in text
    assert "one attempt" in report_page.page(a_report())


def test_a_resume_behind_an_earlier_checkpoint_loses_steps_of_all_attempts_before() -> None:
    line = {"workers": [0, 1], "seconds": {"rendezvous": 1.0, "start_up": 2.0, "training": 10.0}, "reason": "lost"}
    lines = [
        {**line, "attempt": 1, "step_from": 0, "step_to": 100},
        {**line, "attempt": 2, "step_from": 100, "step_to": 120},
    ]
    times = attempt_times(lines, an_attempt(3, 20, 200))  # What the second began with was damaged.
    assert [time.lost for time in times] == [8.0, 10.0, 0.0]
    assert goodput(times) == pytest.approx((2.0 + 0.0 + 10.0) / 39.0)


def test_two_workers_write_one_page_and_a_resume_counts_as_an_attempt(training: Training, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    flags = (f"--run_dir={run_dir}", "--epochs=2", "--global_batch_size=64")
    workers = training.start_workers(2, *flags, environs=[{}, {"TMPDIR": str(tmp_path)}])
    for worker in workers:
        assert worker.wait() == 0, worker.text
    assert "one attempt" in finished(workers[0], run_dir)
    (run_dir / "result.json").unlink()  # As if it had been killed before it wrote it.
    seconds = {"rendezvous": 1.0, "start_up": 2.0, "training": 10.0}
    line = {"format": 2, "attempt": 1, "workers": [0, 1], "step_from": 0, "step_to": 20, "seconds": seconds}
    (run_dir / "attempts.jsonl").write_text(json.dumps(line | {"reason": "worker 0 <was> killed"}) + "\n")
    text = finished(training.start(*flags, environ={"TRAINER_ATTEMPT": "2"}), run_dir)
    assert "2 attempts" in text
    assert "worker 0 &lt;was&gt; killed" in text


@pytest.mark.parametrize("count", [1, 2])
def test_two_classes_without_validation_data(count: int, training: Training, tmp_path: Path) -> None:
    environ, run_dir = experiment(tmp_path, BINARY), tmp_path / "run"
    flags = ("--experiment=reported", f"--run_dir={run_dir}", "--epochs=2", "--global_batch_size=20")
    workers = training.start_workers(count, *flags, environ=environ) if count > 1 else []
    text = finished((workers or [training.start(*flags, environ=environ)])[0], run_dir)
    assert "of all 200 training examples got another class than their label" in text
    cells = [int(cell or 0) for cell in re.findall(r"<td style=[^>]*>(\d*)</td>", text)]
    assert len(cells) == 4
    assert sum(cells) == 200
    assert "<th>input</th>" in text


def test_numbers_show_the_farthest_and_no_matrix(training: Training, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    flags = ("--experiment=trainer.examples.regression", "--examples=2000", f"--run_dir={run_dir}", "--epochs=1")
    training = Training([])
    text = finished(training.start(*flags), run_dir)
    training.close()
    assert "Farthest from the label" in text
    assert "of all 4,000 validation examples" in text
    assert "measured: " in text
    assert "matrix" not in text.partition("</style>")[2]


def test_several_outputs_have_neither() -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(2)(inputs)])
    split = Arrays((np.ones((5, 2)), [np.ones((5, 1)), np.ones((5, 2))]), "validation")
    found = mistakes.predictions(model, split, None, 0, look_at(model, split))
    assert (found.wrong, found.confusion, found.misses, found.examples) == (None, {}, [], 5)
    assert "Farthest" not in report_page.page(a_report(predictions=found))


def look_at(model: Any, split: Arrays) -> FirstLook:
    """What the first examples show of a classifier."""
    x, y, _ = split.head(2)
    kinds = {"synchronized": False, "independent": True, "assigns": False, "classes": True}
    return FirstLook(x=x, y=y, weight=None, outputs=model(x), **kinds)


def test_many_classes_take_a_bounded_memory() -> None:
    """As few examples as there is room for, and no matrix of all classes, which would be gigabytes."""
    classes = 50_000
    x = np.zeros((2000, 1), np.float32)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(classes, bias_initializer="ones")])
    split = Arrays((x, np.arange(2000)), "validation")
    tracemalloc.start()
    found = mistakes.predictions(model, split, None, 0, look_at(model, split))
    text = report_page.page(a_report(predictions=found))
    assert tracemalloc.get_traced_memory()[1] < 2**30
    tracemalloc.stop()
    assert found.examples == 2**27 // (4 * classes + 8)
    assert (found.classes, found.wrong) == (classes, found.examples - 1)
    assert "<td>1</td><td>0</td><td>1</td>" in text


def test_it_looks_at_a_bounded_number_of_examples() -> None:
    count = mistakes.MOST + 500
    x = np.zeros((count, 2), np.float32)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, bias_initializer="ones")])
    split = Arrays((x, np.arange(count) % 3), "validation")
    found = mistakes.predictions(model, split, None, 0, look_at(model, split))
    assert (found.examples, found.of) == (mistakes.MOST, count)
    assert sum(found.confusion.values()) == mistakes.MOST
    assert [miss.index for miss in found.misses[:3]] == [1, 2, 4]
    assert "the first 10,000 of the 10,500 validation examples" in report_page.page(a_report(predictions=found))


def test_a_model_that_cannot_be_asked_costs_a_line_and_not_the_run(training: Training, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    environ = experiment(tmp_path, NO_PREDICTION) | {"MODEL": str(run_dir / "model.keras")}
    flags = (
        "--experiment=reported",
        f"--run_dir={run_dir}",
        "--epochs=1",
        "--global_batch_size=64",
        "--hidden_units=8",
    )
    worker = training.start(*flags, environ=environ)
    text = finished(worker, run_dir)
    warnings = [line for line in worker.lines if "report.html" in line and "WARNING" in line]
    assert len(warnings) == 1, worker.text
    assert "shows no predictions, as they could not be made: RuntimeError" in warnings[0]
    assert "Confusion" not in text
    assert "Curves" in text


def test_a_page_that_cannot_be_made_costs_a_line_and_not_the_run(training: Training, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "report.html").mkdir(parents=True)  # In the way.
    (run_dir / "report.html" / "file").touch()
    worker = training.start(f"--run_dir={run_dir}", "--epochs=1", "--global_batch_size=64")
    assert worker.wait() == 0, worker.text
    assert len([line for line in worker.lines if "report.html is left out, as it could not be made" in line]) == 1
    assert "report" not in result(run_dir)


def test_many_classes_are_named_in_pairs() -> None:
    confusion = {(label, label): 3 for label in range(50)} | {(4, 7): 5, (9, 1): 8}
    found = mistakes.Predictions(
        split="validation", examples=163, of=163, wrong=13, classes=50, confusion=confusion, misses=[]
    )
    text = report_page.page(a_report(predictions=found))
    assert "<td>9</td><td>1</td><td>8</td></tr><tr><td>4</td><td>7</td><td>5</td>" in text
    assert '<table class="matrix"' not in text


def test_a_picture_is_one_by_its_shape() -> None:
    for shape, kind, is_one in (
        ((28, 28), np.uint8, True), ((28, 28, 3), np.float32, True), ((300, 500, 1), np.uint8, True),
        ((28, 28, 2), np.uint8, False), ((3, 28), np.float32, False), ((28,), np.float32, False),
        ((28, 28), np.int64, False),
    ):  # fmt: skip
        assert (mistakes._picture(np.ones(shape, kind)) is not None) is is_one, shape


def test_flags_that_were_given_stand_first() -> None:
    flags = [("epochs", 3, True), ("seed", Config().seed, False)]
    text = report_page.page(a_report(flags=flags))
    assert text.index("--epochs") < text.index("<details>") < text.index("--seed")
