"""What a sweep makes of what its trials' launchers print, and what it tells them."""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import types
from typing import Any

import pytest

from tests.support.run_objects import SPENT, failed, running, seen
from tests.support.run_objects import job as a_job
from trainer.core.log_lines import Progress
from trainer.launch import cli
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import SubmitFlags
from trainer.launch.report.verdict import Verdict, kept_facts
from trainer.launch.report.view import JsonView
from trainer.launch.report.watched_run import End, watched_verdict
from trainer.launch.runs.trials import RUNNING, WAITING, Trial
from trainer.launch.submission import submission
from trainer.launch.sweep.cluster_trials import ClusterTrials
from trainer.launch.sweep.flags import LocalSweepFlags, SweepFlags
from trainer.launch.sweep.local_trials import LocalTrials
from trainer.launch.sweep.trial_kind import take_progress
from trainer.launch.sweep.trial_process import TrialLine

OUTPUT = "s3://bucket/runs"
RUN = "s-1-1a2b3c4d-01234567"
JOB = a_job(name="s-1-1a2b3c4d", uid="01234567-cdef", release="s-1", output=OUTPUT)
PROGRESS = "progress worker=0/2 attempt=1 epoch=2/5 step=936/2340 loss=0.1223 accuracy=0.9645 examples/s=3458 saved=865"


def printed(
    capsys: pytest.CaptureFixture[str], *said: str | CheckResult, job: str = "", verdict: Verdict | None = None
) -> list[TrialLine]:
    """What a launcher with --json prints: checks, that it has submitted a Job, progress, other notices, a verdict."""
    view = JsonView()
    if job:
        view.say("in the words of any version", job=job)
    for one in said:
        if isinstance(one, CheckResult):
            view.say(str(one), check=vars(one))
        elif one.startswith("progress "):
            view.log(0, one)
        else:
            view.say(one)
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
        capsys, PROGRESS, f"{PROGRESS} val_loss=0.09 val_accuracy=0.97", job="s-1-1a2b3c4d",
        verdict=Verdict(
            code=LaunchCode.DONE, headline="succeeded",
            facts={"result": {"epochs": 5, "steps": 9, "val_loss": 0.08, "val_accuracy": 0.98}, **kept_facts(JOB)},
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
    assert kind.end(trial, 0) == ["delete", "--namespace=team", "--name=s-1"]
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
    job = dataclasses.replace(JOB, output=output)
    verdict = Verdict(code=LaunchCode.DONE, headline="", facts={"result": {"val_loss": 1}, **kept_facts(job)})
    for line in printed(capsys, job=job.name, verdict=verdict):
        kind.read(trial, line)
    assert kind.end(trial, 0)[:1] == ["delete"] * ("://" in output)
    trial.rung, trial.state = 1, WAITING
    assert kind.begin(trial, 4)[-2:] == ["--epochs=4", f"--resume_from={seen_by_pods}/{RUN}"]
    verdict = dataclasses.replace(verdict, facts=kept_facts(dataclasses.replace(job, uid="01234568-cdef")))
    for line in printed(capsys, verdict=verdict):
        kind.read(trial, line)
    assert trial.runs == [RUN, f"{RUN[:-1]}8"]


def test_a_trial_of_a_launcher_that_was_killed_is_followed() -> None:
    kind = trials(output=OUTPUT)
    assert kind.begin(Trial(1, {"learning_rate": "1e-3"}, RUNNING), None)[0] == "attach"
    assert kind.begin(Trial(1, {"learning_rate": "1e-3"}, WAITING), None)[0] == "submit"


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_job_that_was_submitted_is_known(
    interrupted: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a launcher that was interrupted meanwhile, too. Helm, which would need a cluster, is made up."""

    def upgrade() -> None:
        if interrupted:
            raise KeyboardInterrupt

    spec = {"completions": 2, "template": {"spec": {"containers": [{"image": "i:1", "resources": {}}]}}}
    objects = [{"kind": "Job", "metadata": {"name": JOB.name}, "spec": spec}]
    release: Any = types.SimpleNamespace(name="s-1", namespace="team", exists=lambda: False, upgrade=upgrade)
    prepared = submission.Prepared(release=release, objects=objects, running=[], code=None)
    monkeypatch.setattr(submission, "prepare", lambda *_: prepared)
    kube: Any = types.SimpleNamespace(context="local", namespace="team")
    with contextlib.suppress(KeyboardInterrupt):
        assert submission.submit(SubmitFlags(name="s-1"), kube, [], JsonView().say) == JOB.name
    trial = Trial(1, {"learning_rate": "1e-3"}, RUNNING)
    for line in capsys.readouterr().out.splitlines():
        trials().read(trial, TrialLine(1, line, False))
    assert trial.job == JOB.name


def test_a_run_that_was_kept_elsewhere_is_none_to_go_on_from(capsys: pytest.CaptureFixture[str]) -> None:
    kind, trial = trials(output=OUTPUT, halving=True), Trial(1, {"learning_rate": "1e-3"})
    kind.begin(trial, 2)
    elsewhere = dataclasses.replace(JOB, output="s3://bucket/others")  # As --set=output=… has it.
    verdict = Verdict(code=LaunchCode.DONE, headline="", facts={"result": {"val_loss": 1}, **kept_facts(elsewhere)})
    for line in printed(capsys, job=JOB.name, verdict=verdict):
        kind.read(trial, line)
    assert (trial.runs, trial.job) == ([], JOB.name)
    trial.rung, trial.state, trial.job = 1, WAITING, ""
    with pytest.raises(LaunchError) as error:
        kind.begin(trial, 4)
    assert str(error.value) == (
        "it cannot go on to epoch 4: its run before is none in --output=s3://bucket/runs; give the place where runs "
        "are kept by --output alone, and --name=another"
    )


def test_a_timeout_is_the_end_of_a_trial_only_where_the_job_has_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterTrials, "_write_hparams", lambda *_, **__: None)  # There is no bucket here.
    changes: dict[str, Any] = {"release": "s-1", "name": JOB.name, "uid": JOB.uid, "output": OUTPUT}
    goes_on = watched_verdict(seen(running(0), running(1), **changes), End.TIMEOUT, SPENT, limit=5.0)
    deadline = {**changes, "ended": "failed", "reason": "DeadlineExceeded", "finished": 60.0}
    is_over = watched_verdict(seen(failed(0, 143, 60.0), running(1), **deadline), End.JOB, SPENT)
    deleted = watched_verdict(seen(running(0), running(1), **changes), End.DELETED, SPENT)
    assert (goes_on.code, is_over.code, deleted.code) == (LaunchCode.TIMEOUT, LaunchCode.TIMEOUT, LaunchCode.FAILED)
    delete = ["delete", "--namespace=team", "--name=s-1"]
    for verdict, job, clear_up in ((goes_on, JOB.name, []), (is_over, "", delete), (deleted, "", delete)):
        kind, trial = trials(output=OUTPUT), Trial(1, {"learning_rate": "1e-3"})
        kind.begin(trial, None)
        for line in printed(capsys, job=JOB.name, verdict=verdict):
            kind.read(trial, line)
        assert kind.end(trial, verdict.code) == clear_up
        assert (trial.job, trial.runs, trial.reason) == (job, [RUN], verdict.headline)
    kind, trial = trials(output=OUTPUT), Trial(1, {}, RUNNING, job=JOB.name)
    assert kind.end(trial, LaunchCode.FAILED) == []  # The API failed, and nobody knows.
    assert trial.job == JOB.name


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
    failed_check = CheckResult(Mark.FAIL, "quota", "small leaves 0", "fewer")
    lines = printed(capsys, CheckResult(Mark.OK, "helm", "v4"), failed_check)
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
        {"event": "notice", "text": "submitted ../x", "job": "../x"},
        {"event": "notice", "text": "submitted x", "job": ["x"], "check": "FAIL"},
        {"event": "notice", "check": {"mark": "FAIL", "what": ["\x1b[2J"]}},
        {"event": "verdict", "run": "../../etc-1a2b3c4d-01234567", "output": OUTPUT, "job": "x/y", "goes_on": 1},
        {"event": "verdict", "run": {}, "output": [OUTPUT], "job": None},
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
        (["--timeout=60"], "--timeout is not for a sweep: it ends the watching and not the trial, which "),
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
