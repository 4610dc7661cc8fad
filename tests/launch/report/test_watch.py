"""Watching, on what real clusters told while runs went on (`tools/recorded_runs.py`), and on made-up moments."""

import json
from typing import Any, cast

import pytest

from tests.support.api_objects import JOB_NAME, job, pod
from tests.support.paths import RECORDED
from tests.support.replay import Replay
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode
from trainer.launch.report.snapshot import Snapshot
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.watch import Watch


class Kept:
    """A view that keeps what it is told."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.said: list[str] = []
        self.snapshots: list[Snapshot] = []

    def say(self, text: str, **facts: object) -> None:  # noqa: ARG002
        self.said.append(text)

    def log(self, worker: int, text: str) -> None:
        """Not looked at."""

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def end(self, verdict: Verdict) -> None:
        """Not called by a watch."""


def watched(name: str, rows: int = 0) -> tuple[Verdict, Kept, Any]:
    lines = [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]
    replay, view = Replay(lines), Kept(rows)
    return Watch(cast(Kube, replay), replay.job, view, logs="chief").run(timeout=60), view, replay


def test_a_worker_whose_pod_was_deleted_is_named_in_a_success() -> None:
    verdict, view, _ = watched("deleted_pod")
    assert verdict.code == LaunchCode.DONE, verdict.text
    assert verdict.headline.startswith("succeeded: mnist-train reached validation accuracy 0.9")
    (replaced,) = [line for line in verdict.lines if line.endswith("its pod was replaced")]
    assert replaced.startswith("worker 1 on node2 ended with exit code 143 (SIGTERM)")
    assert "lost to failures" in verdict.lines[-1]
    assert any("worker 1 on node2 ended with exit code 143" in said for said in view.said)


def test_a_screen_has_a_line_for_what_each_worker_does() -> None:
    _, view, replay = watched("deleted_pod", rows=2)
    assert {name.rsplit("-", 2)[1] for name in replay.followed} == {"0", "1"}
    last = view.snapshots[-1]
    assert last.rows[0].step == last.progress.steps if last.progress else False
    assert [row.restarts for row in last.rows] == [2, 1]  # Twice in place; once by another pod.


def test_missing_data_is_the_first_cause() -> None:
    verdict, _, replay = watched("data_missing")
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.headline == "failed: worker 0 on node1 ended with exit code 65 before its first step"
    assert verdict.lines[0].startswith("| error: --data_dir=/nowhere is not a folder")
    assert verdict.text.count("--data_dir=/nowhere") == 1
    assert [name.rsplit("-", 2)[1] for name in replay.followed] == ["0"]  # The chief's log alone.


def test_memory_is_the_first_cause() -> None:
    verdict, _, _ = watched("memory")
    assert verdict.code == LaunchCode.TRAINING
    assert "ran out of memory before its first step (OOMKilled, exit code 137)" in verdict.headline
    assert any("failed 2 times: the job gave up (BackoffLimitExceeded)" in line for line in verdict.lines)


def job_is(kind: str, *conditions: str) -> dict[str, Any]:
    """A change of a made-up Job."""
    stamped = [{"type": c, "status": "True", "lastTransitionTime": "2026-01-01T00:01:01Z"} for c in conditions]
    return {"kind": "job", "type": kind, "object": job(1, {"conditions": stamped})}


def chief_is(kind: str, code: int | None) -> dict[str, Any]:
    chief = pod(0)
    if code is not None:
        times = {"startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:01:00Z"}
        ended = {"exitCode": code, "message": json.dumps({"val_accuracy": 0.98}), **times}
        chief["status"] = {
            "phase": "Succeeded",
            "containerStatuses": [{"name": "worker", "state": {"terminated": ended}}],
        }
    return {"kind": "pod", "type": kind, "object": chief}


def watch(*changes: dict[str, Any], view: Kept | None = None, **limits: float) -> Verdict:
    replay = Replay(list(changes)) if changes else Silent()
    return Watch(cast(Kube, replay), JOB_NAME, view or Kept(0), logs="chief").run(**limits)


class Silent:
    """A cluster that has not answered yet."""

    namespace = "silent"

    def __init__(self, error: type[BaseException] | None = None) -> None:
        self.error = error

    def watch(self, *_: object, **__: object) -> None:
        if self.error:
            raise self.error

    def close(self) -> None:
        """Nothing is open."""


class Interrupted(Kept):
    """A person who presses Ctrl-C at the first sight of the run."""

    def show(self, snapshot: Snapshot) -> None:
        super().show(snapshot)
        raise KeyboardInterrupt


@pytest.mark.parametrize(("code", "warned"), [(143, [3]), (1, [])])
def test_a_worker_that_is_told_to_go_again_and_again_is_told_of_once(code: int, warned: list[int]) -> None:
    """The Job replaces such a pod for ever; of other ends it has a bound of its own."""
    changes = [job_is("ADDED")]
    for number in range(5):
        for each in (chief_is("ADDED", None), chief_is("MODIFIED", code)):
            each["object"]["metadata"]["uid"] = f"another-{number}"
            changes.append(each)
    view = Kept(0)
    watch(*changes, job_is("DELETED"), view=view)
    lost = [line for line in view.said if not line.startswith("and more workers")]
    assert [number for number, line in enumerate(lost) if "was told to go 3 times" in line] == warned
    for number in warned:
        assert "replaced without a bound but job.activeDeadlineSeconds" in lost[number]


def test_a_success_that_is_deleted_at_once_is_a_success() -> None:
    changes = (job_is("ADDED"), chief_is("ADDED", None), chief_is("MODIFIED", 0))
    verdict = watch(*changes, job_is("DELETED", "SuccessCriteriaMet", "Complete"), chief_is("DELETED", 0))
    assert verdict.code == LaunchCode.DONE
    assert verdict.headline == "succeeded: big reached validation accuracy 0.9800 in 1 min 0 s"


def test_a_job_that_is_deleted_before_its_end_has_not_ended() -> None:
    verdict = watch(job_is("ADDED"), chief_is("ADDED", None), job_is("DELETED"))
    assert (verdict.code, verdict.headline[:8]) == (LaunchCode.FAILED, "deleted:")


def test_before_the_first_answer_there_is_a_verdict_too() -> None:
    verdict = watch(timeout=0.01)
    assert (verdict.code, verdict.headline[:28]) == (LaunchCode.TIMEOUT, "timed out after --timeout=0.")
    interrupted = Watch(cast(Kube, Silent(KeyboardInterrupt)), JOB_NAME, Kept(0), logs="chief").run()
    assert interrupted.code == LaunchCode.INTERRUPTED


def test_a_silent_cluster_is_not_a_run_that_never_started() -> None:
    verdict = watch(timeout=0.1, pending_timeout=0.01)
    assert verdict.code == LaunchCode.TIMEOUT


def test_ctrl_c_after_the_end_does_not_say_that_it_goes_on() -> None:
    changes = (job_is("ADDED"), chief_is("ADDED", None), chief_is("MODIFIED", 0))
    verdict = watch(*changes, job_is("MODIFIED", "SuccessCriteriaMet"), view=Interrupted(0))
    assert (verdict.code, verdict.headline[:10]) == (LaunchCode.DONE, "succeeded:")
    verdict = watch(*changes[:2], view=Interrupted(0))
    assert (verdict.code, verdict.headline.split(" before")[0]) == (LaunchCode.INTERRUPTED, "big goes on")


def test_one_worker_that_never_runs_uses_up_the_pending_timeout() -> None:
    both = job_is("ADDED")
    both["object"]["spec"]["completions"] = 2
    waits = {"kind": "pod", "type": "ADDED", "object": {**pod(1), "spec": {}, "status": {"phase": "Pending"}}}
    meets = "2026-01-01T00:00:11Z agent worker=0/2 attempt=0 state=meeting restarts=0 pid=0 spare=none last=new"
    log = {"kind": "log", "uid": "p0", "line": meets}
    verdict = watch(both, chief_is("ADDED", None), waits, log, timeout=60, pending_timeout=0.01)
    assert verdict.code == LaunchCode.NOT_STARTED
    assert verdict.headline == "never started: worker 1 of big did not run within --pending_timeout=0.01 s"


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.jsonl")))
def test_records_hold_nothing_of_the_machine(name: str) -> None:
    text = (RECORDED / f"{name}.jsonl").read_text()
    assert "hostIP" not in text
    assert "managedFields" not in text
