"""What a sweep makes of what its trials' launchers print, and what it tells them."""

import dataclasses
import itertools
import json
import pathlib
from typing import Any

import pytest

from trainer.core.log_lines import Progress
from trainer.launch import cli
from trainer.launch.codes import LaunchCode
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.view import JsonView
from trainer.launch.runs.trials import RUNNING, WAITING, Trial
from trainer.launch.sweep.cluster_trials import ClusterTrials
from trainer.launch.sweep.flags import LocalSweepFlags, SweepFlags
from trainer.launch.sweep.local_trials import LocalTrials
from trainer.launch.sweep.trial_kind import take_progress
from trainer.launch.sweep.trial_process import TrialLine

OUTPUT = "s3://bucket/runs"
RUN = "s-1-1a2b3c4d-01234567"
PROGRESS = "progress worker=0/2 attempt=1 epoch=2/5 step=936/2340 loss=0.1223 accuracy=0.9645 examples/s=3458 saved=865"


def printed(capsys: pytest.CaptureFixture[str], *texts: str, verdict: Verdict | None = None) -> list[TrialLine]:
    """What a launcher with --json prints."""
    view = JsonView()
    for text in texts:
        (view.log(0, text) if text.startswith("progress ") else view.say(text))
    if verdict:
        view.end(verdict)
    return [TrialLine(1, line, False) for line in capsys.readouterr().out.splitlines()]


def trials(**flags: Any) -> ClusterTrials:
    return ClusterTrials(SweepFlags(**{"name": "s", "namespace": "team", "workers": 2, **flags}), ["--epochs=5"])


def test_a_trial_that_succeeds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kind, trial = trials(output=OUTPUT, set=("a=1",)), Trial(1, {"learning_rate": "1e-3"})
    arguments = kind.begin(trial, None)
    assert arguments[0] == "submit"
    assert arguments[-3:] == ["--", "--epochs=5", "--learning_rate=1e-3"]
    assert {"--name=s-1", "--namespace=team", "--workers=2", "--json=true", f"--output={OUTPUT}"} < {*arguments}
    assert arguments.index("--set=tensorboard.enabled=false") < arguments.index("--set=a=1")  # The user's wins.
    first, *between, last = printed(
        capsys, "submitted s-1-1a2b3c4d", PROGRESS, f"{PROGRESS} val_loss=0.09 val_accuracy=0.97",
        verdict=Verdict(
            code=LaunchCode.DONE, headline="succeeded", lines=(f"kept in {OUTPUT}/{RUN} (python -m trainer.board …)",),
            facts={"result": {"epochs": 5, "steps": 9, "val_loss": 0.08, "val_accuracy": 0.98}},
        ),
    )  # fmt: skip
    assert not kind.read(trial, first)
    assert trial.job == "s-1-1a2b3c4d"
    assert [kind.read(trial, line) for line in between] == [False, True]
    assert (trial.epochs, trial.metrics["val_accuracy"], trial.metrics["loss"]) == (2, 0.97, 0.1223)
    assert kind.begin(trial, None)[:2] == ["attach", "--namespace=team"]  # It would be followed, not made twice.
    kind.read(trial, last)
    written: list[str] = []
    store = type("Store", (), {"create": lambda _, key, __: written.append(key)})()
    monkeypatch.setattr("trainer.launch.sweep.cluster_trials.open_store", lambda _: store)
    assert kind.end(trial, 0) == ["delete", "--namespace=team", "--json=true", "--name=s-1"]
    assert (trial.epochs, trial.metrics["val_accuracy"], trial.runs, trial.reason) == (5, 0.98, [RUN], "")
    assert all(key.startswith(f"{RUN}/events.out.tfevents.") for key in written)
    assert len(written) == 2


@pytest.mark.parametrize(("output", "seen_by_pods"), [("pvc:runs", "/runs"), (f"{OUTPUT}/", OUTPUT)])
def test_a_rung_goes_on_from_the_run_before(
    output: str, seen_by_pods: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterTrials, "_write_hparams", lambda *_, **__: None)  # There is no bucket here.
    kind, trial = trials(output=output), Trial(1, {"learning_rate": "1e-3"})
    assert kind.begin(trial, 2)[-3:] == ["--epochs=5", "--learning_rate=1e-3", "--epochs=2"]  # The last one counts.
    verdict = Verdict(
        code=LaunchCode.DONE,
        headline="",
        lines=(f"kept in {output.rstrip('/')}/{RUN}",),
        facts={"result": {"val_loss": 1}},
    )
    for line in printed(capsys, "submitted s-1-1a2b3c4d", verdict=verdict):
        kind.read(trial, line)
    assert kind.end(trial, 0)[:1] == ["delete"] * ("://" in output)
    trial.rung, trial.state = 1, WAITING
    assert kind.begin(trial, 4)[-2:] == ["--epochs=4", f"--resume_from={seen_by_pods}/{RUN}"]
    verdict = dataclasses.replace(verdict, lines=(f"kept in {output.rstrip('/')}/{RUN[:-1]}8",))
    for line in printed(capsys, verdict=verdict):
        kind.read(trial, line)
    assert trial.runs == [RUN, f"{RUN[:-1]}8"]


def test_a_trial_of_a_launcher_that_was_killed_is_followed() -> None:
    kind = trials(output=OUTPUT)
    assert kind.begin(Trial(1, {"learning_rate": "1e-3"}, RUNNING), None)[0] == "attach"
    assert kind.begin(Trial(1, {"learning_rate": "1e-3"}, WAITING), None)[0] == "submit"


@pytest.mark.parametrize("rest", ["", "; come back with `x attach`, or end it with `x delete`"])
def test_the_job_of_a_launcher_that_was_interrupted_is_known(rest: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, trial = trials(), Trial(1, {"learning_rate": "1e-3"}, RUNNING)
    for line in printed(capsys, f"submitted s-1-1a2b3c4d{rest}"):
        kind.read(trial, line)
    assert trial.job == "s-1-1a2b3c4d"


def test_without_a_bucket_the_release_stays(capsys: pytest.CaptureFixture[str]) -> None:
    kind, trial = trials(), Trial(1, {"learning_rate": "1e-3"}, RUNNING, job="s-1-1a2b3c4d")
    verdict = Verdict(code=LaunchCode.TRAINING, headline="failed: worker 0", lines=("| error: no data", "time: 3 s"))
    for line in printed(capsys, verdict=verdict):
        kind.read(trial, line)
    assert kind.end(trial, 125) == []
    assert trial.reason == "failed: worker 0: error: no data"


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_the_check_that_failed_is_the_reason_whichever_line_is_read_first(
    order: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    kind, trial = trials(), Trial(1, {"learning_rate": "1e-3"}, RUNNING)
    lines = printed(capsys, "ok    helm: v4", "FAIL  quota: small leaves 0\n      fix: fewer")
    lines.append(TrialLine(1, "error: nothing was submitted: 1 check(s) failed", True))
    for number in order:
        kind.read(trial, lines[number])
    assert trial.reason == "FAIL quota: small leaves 0"


def test_what_a_launcher_never_prints_does_no_harm() -> None:
    kind, trial = trials(output=OUTPUT), Trial(1, {}, RUNNING)
    hostile: list[object] = [
        {"event": "verdict", "result": 3, "lines": "x", "text": "\x1b[2Jx"},
        {"event": "verdict", "result": {"val_loss": 10**400}, "lines": [f"kept in {OUTPUT}/../../etc", 4]},
        {"event": "progress", "val_loss": "\x1b", "epoch": -3},
        {"event": "notice", "text": "submitted ../x"},
        [],
    ]
    for value in hostile:
        kind.read(trial, TrialLine(1, json.dumps(value), False))
    assert (trial.job, trial.runs, trial.metrics) == ("", [], {})
    assert trial.reason.isprintable()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--detach"], "--detach is not for a sweep"),
        (["--replace"], "--replace is not for a sweep: a trial that still goes on is followed"),
        (["--halving"], "--halving without an output: a trial goes on from its own checkpoint, which is gone with its"),
        (["--chart=/nowhere"], "--chart=/nowhere is no chart"),
        (["--name=Sweep"], "--name=Sweep must be a name of at most 53 characters"),
    ],
)
def test_bad_input(
    arguments: list[str], words: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    grid = "--grid=learning_rate=1e-3,1e-2"
    assert cli.main(["sweep", f"--folder={tmp_path}", grid, *arguments]) == LaunchCode.USAGE
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_metric_that_is_no_number_is_left_out_of_the_list() -> None:
    trial = Trial(1, {}, RUNNING)
    progress = Progress.parse(f"{PROGRESS.replace('0.1223', 'nan')} val_loss=inf val_accuracy=0.1")
    assert progress
    assert take_progress(trial, progress)
    assert trial.metrics == {"accuracy": 0.9645, "val_accuracy": 0.1}
    assert trial.diverged == ("loss", "val_loss")


@pytest.mark.parametrize("data_wait", [None, 0.25])  # None: data in memory.
def test_the_line_of_a_healthy_trial_has_its_metrics_and_nothing_else(
    data_wait: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(
        worker=0, workers=2, attempt=1, epoch=2, epochs=5, step=936, steps=2340, examples_per_second=3458.0, saved=865,
        data_wait=data_wait, metrics={"loss": 0.5, "accuracy": 0.75}, validation={"loss": 0.25, "accuracy": 0.875},
    )  # fmt: skip
    on_cluster, here = Trial(1, {}, RUNNING), Trial(1, {}, RUNNING)
    (line,) = printed(capsys, progress.format())
    assert trials().read(on_cluster, line)
    flags = LocalSweepFlags(name="s")
    assert LocalTrials(flags, pathlib.Path(), [], 1).read(here, TrialLine(1, progress.format(), False))
    assert on_cluster.metrics == {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 0.875}
    assert (on_cluster.diverged, on_cluster.epochs) == ((), 2)
    assert here == on_cluster


def test_a_metric_that_is_no_number_in_a_launchers_json_is_one_that_is_measured() -> None:
    kind, trial = trials(), Trial(1, {}, RUNNING)
    lines = [
        {"event": "progress", "epoch": 2, "loss": 1.0, "val_loss": None},
        {"event": "verdict", "text": "done", "result": {"epochs": 2, "loss": 1.0, "val_loss": None}},
    ]
    for line in lines:
        trial.metrics, trial.diverged = {}, ()
        kind.read(trial, TrialLine(1, json.dumps(line), False))
        assert list(trial.diverged) == ["val_loss"]
        assert (trial.metrics, trial.epochs) == ({"loss": 1.0}, 2)
