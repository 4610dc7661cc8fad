"""How a run ended that the cluster no longer knows, from the files that it left."""

import json
import pathlib

import pytest

from tests.support.memory_store import MemoryStore
from trainer.agent.coordination.messages import Begin, Ended, Failure, Over
from trainer.agent.records import attempt_log
from trainer.core import attempts
from trainer.core.attempts import Span
from trainer.core.causes import Cause
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.report.finished_run import FinishedRun, StoredAttempt, newest_in_output, stored_verdict

WRITTEN_BY_0_1_0 = pathlib.Path(__file__).parent / "written_by_0_1_0"
SPAN = Span(step_from=0, step_to=70, rendezvous=1.0, start_up=2.0, training=3.0)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Ended(cause=Cause.CRASH, code=139, step=70), "worker 1 ended with exit code 139 (SIGSEGV)"),
        (
            Ended(cause=Cause.FROZEN, code=137, step=70),
            "worker 1 was frozen, and its agent killed it (exit code 137)",
        ),
        (Ended(cause=Cause.AGENT_LOST), "the agent of worker 1 is gone"),
        (Ended(cause=Cause.LEFT, code=143), "worker 1 was told to go (SIGTERM)"),
    ],
)
def test_the_last_attempt_says_what_happened(ended: Ended, words: str) -> None:
    begin, over = Begin(attempt=3, present=(0, 1)), Over(attempt=3, cause=ended.cause, reason=ended.described(1))
    line = attempt_log.record(begin, over, Failure(worker=1, ended=ended), SPAN)
    verdict = stored_verdict("run", "s3://b/runs/run", None, [StoredAttempt.from_json(line)])
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.headline == f"not finished: attempt 3 of run, the last, ended at step 70: {words}"


def test_a_run_of_which_nothing_ended() -> None:
    verdict = stored_verdict("run", "s3://b/runs/run", None, [])
    assert (verdict.code, verdict.headline[:13]) == (LaunchCode.TRAINING, "not finished:")


def test_an_error_stands_there_once() -> None:
    lines = attempts.parse((WRITTEN_BY_0_1_0 / "attempts.jsonl").read_bytes())
    stored = [StoredAttempt.from_json(line) for line in lines]
    assert stored_verdict("run", "s3://b/runs/run", None, stored).text.splitlines() == [
        "not finished: attempt 3 of run, the last, ended at step 70: worker 1 ended with exit code 1",
        "  | Traceback",
        "  | RuntimeError: boom",
        "  attempt 1 ended at step 40: worker 1 was told to go (SIGTERM)",
        "  attempt 2 ended at step 60: worker 0 made no step for too long, and its agent killed it (exit code 137)",
        "  kept in s3://b/runs/run",
    ]


def test_the_result_of_0_1_0_is_read() -> None:
    result = json.loads((WRITTEN_BY_0_1_0 / "result.json").read_text())
    verdict = stored_verdict("run", "s3://b/runs/run", result, [])
    assert verdict.code == LaunchCode.DONE
    assert verdict.headline == "succeeded: run reached validation accuracy 0.9727 in 1 min 54 s"
    assert verdict.lines[0] == "2 worker(s), 2 epoch(s), 936 steps, 2,213 examples/s, 2 restart(s)"


def test_a_run_that_has_a_page_names_it() -> None:
    result = json.loads((WRITTEN_BY_0_1_0 / "result.json").read_text()) | {"report": "report.html"}
    assert stored_verdict("run", "s3://b/runs/run", result, []).lines[-2:] == (
        "kept in s3://b/runs/run", "on one page: s3://b/runs/run/report.html",
    )  # fmt: skip
    strange = result | {"report": "https://elsewhere/"}
    assert stored_verdict("run", "s3://b/runs/run", strange, []).lines[-1] == "kept in s3://b/runs/run"


def test_why_it_ended_and_which_epoch_the_model_is_of() -> None:
    result = json.loads((WRITTEN_BY_0_1_0 / "result.json").read_text())
    best = {"metric": "val_loss", "mode": "min", "epoch": 5, "value": 0.0582451, "model_epoch": 5}
    told = result | {"epochs": 9, "end": {"by": "early_stopping", "why": "val_loss was\x1b[2J 0.06"}, "best": best}
    assert stored_verdict("run", "s3://b/runs/run", told, []).lines[1:3] == (
        "early_stopping ended it after epoch 9: val_loss was 0.06",
        "best val_loss 0.0582451 after epoch 5; the model is that of epoch 5",
    )
    ended = result | {"end": {"by": "on_epoch_end"}}
    assert stored_verdict("run", "s3://b/runs/run", ended, []).lines[1] == "on_epoch_end ended it after epoch 2"
    strange = result | {"end": {"by": ["epochs"]}, "best": {"metric": 1, "value": "much"}, "outputs": "none"}
    for nothing in (strange, result | {"end": {"by": "epochs"}}):
        assert len(stored_verdict("run", "s3://b/runs/run", nothing, []).lines) == 2
    predicted = {"mode": "predict", "workers": 2, "outputs": {"file": "/runs/x/predictions.npy", "examples": 10000}}
    lines = stored_verdict("run", "s3://b/runs/run", predicted, []).lines
    assert lines[1] == "predictions.npy has the outputs for 10,000 examples"


@pytest.mark.parametrize(
    ("run", "job", "is_one"),
    [
        ("mnist-train-1a2b3c4d-01234567", "", True),
        ("mnist-train-two-1a2b3c4d-01234567", "", False),
        ("mnist-1a2b3c4d-01234567", "", False),
        ("mnist-train-20260101", "", False),
        ("mnist-train-1a2b3c4d-01234567", "mnist-train-1a2b3c4d", True),
        ("mnist-train-1a2b3c4d-01234567", "mnist-train-5e6f7a8b", False),
    ],
)
def test_which_runs_are_of_a_release(run: str, job: str, is_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(etags=True)
    store.create(f"{run}/mirror.json", b"{}")
    monkeypatch.setattr("trainer.launch.report.finished_run.open_store", lambda *_, **__: store)
    if is_one:
        assert newest_in_output("s3://b/runs", "mnist-train", job).run == run
    else:
        with pytest.raises(LaunchError, match="there is no run of mnist-train"):
            newest_in_output("s3://b/runs", "mnist-train", job)


def test_the_chart_cuts_the_name_of_a_long_release(monkeypatch: pytest.MonkeyPatch) -> None:
    release = "a-release-with-a-name-of-the-greatest-length-of-all-x"
    run = f"{release[:52]}-1a2b3c4d-01234567"
    store = MemoryStore(etags=True)
    store.create(f"{run}/mirror.json", b"{}")
    monkeypatch.setattr("trainer.launch.report.finished_run.open_store", lambda *_, **__: store)
    assert newest_in_output("s3://b/runs", release).run == run


@pytest.mark.parametrize(
    "files", [{"attempts.jsonl": b'{"attempt": 1}\n'}, {"result.json": b"{"}, {"result.json": b"[]"}]
)
def test_damaged_files_are_named_not_raised(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(etags=True)
    for key, data in files.items():
        store.create(key, data)
    monkeypatch.setattr("trainer.launch.report.finished_run.open_store", lambda *_, **__: store)
    with pytest.raises(LaunchError, match=f"the run in s3://b/runs/run cannot be read: {next(iter(files))} "):
        FinishedRun("s3://b/runs", "run").verdict()


def test_attempts_of_a_newer_version_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(etags=True)
    store.create("attempts.jsonl", b'{"format": 99, "try": 1}\n')
    monkeypatch.setattr("trainer.launch.report.finished_run.open_store", lambda *_, **__: store)
    with pytest.raises(LaunchError, match="is of format 99"):
        FinishedRun("s3://b/runs", "run").verdict()
