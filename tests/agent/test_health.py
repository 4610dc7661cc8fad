"""What stays alive and does nothing is found or told: a hung agent, a thread that is gone, workers that only go."""

import os
import pathlib
import signal
import time

import pytest

from tests.support.agents import DEADLINE, running
from tests.support.waiting import until
from trainer.agent import pulse
from trainer.agent.pulse import Pulse

FOR_EVER = ("sh", "-c", "sleep 600")
SOON_HUNG = "from trainer.agent.port import server; server.HUNG_SECONDS = 2.0\n"
HANGS = "from trainer.agent.processes.watchdog import Watchdog; import time; Watchdog.check = lambda _: time.sleep(600)"


def test_a_main_loop_that_hangs_is_told(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1, program=FOR_EVER, prelude=SOON_HUNG + HANGS) as run:
        run.start(0).wait_for_line("state=starting")
        told = until(DEADLINE, "503", lambda: answer if (answer := run.get(0, "/healthz"))[0] == 503 else None)
        assert told[1].startswith("the agent's main loop has not come round for ")


def test_an_agent_that_did_not_run_for_a_while_is_healthy(tmp_path: pathlib.Path) -> None:
    """The machine slept, or a tool stopped the process: what counts is the time in which it could run."""
    with running(tmp_path, 1, program=FOR_EVER, prelude=SOON_HUNG) as run:
        agent = run.start(0)
        agent.wait_for_line("state=starting")
        agent.process.send_signal(signal.SIGSTOP)
        time.sleep(6)
        agent.process.send_signal(signal.SIGCONT)
        for _ in range(20):
            assert run.get(0, "/healthz") == (200, "ok\n")
            time.sleep(0.1)


def test_the_time_without_a_beat_is_counted_as_far_as_this_process_could_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    disk_is_away = False
    monkeypatch.setattr(pulse, "waits_for_a_disk", lambda: disk_is_away)
    watched = Pulse(clock=lambda: now)

    def pass_time(seconds: float, *, tick: float = 0.5) -> None:
        nonlocal now
        for _ in range(round(seconds / tick)):
            now += tick
            watched.look()

    watched.beat()
    pass_time(10)
    assert 9 < watched.silent_seconds <= 10
    pass_time(3600, tick=3600)
    assert watched.silent_seconds <= 12
    disk_is_away = True
    pass_time(3600)
    assert watched.silent_seconds <= 12
    disk_is_away = False
    pass_time(300)
    assert watched.silent_seconds > pulse.HUNG_SECONDS
    watched.beat()
    pass_time(0.5)
    assert watched.silent_seconds == 0


@pytest.mark.parametrize(
    "breaks",
    [
        "from trainer.agent.records.worker_log import WorkerLog; WorkerLog._add = lambda *_: 1 / 0",  # Its own thread.
        "from trainer.agent.agent import Agent; Agent._take_line = lambda *_: 1 / 0",  # The child's readers.
        "from trainer.agent.coordination.coordinator import Coordinator; Coordinator.look = lambda _: 1 / 0",
        "from trainer.agent.port.connections import Connections; Connections.close_silent = lambda _: 1 / 0",
    ],
)
def test_no_agent_lives_on_without_one_of_its_threads(tmp_path: pathlib.Path, breaks: str) -> None:
    with running(tmp_path, 1, prelude=breaks, trainer_flags=["--epochs=1000"]) as run:
        agent = run.start(0)
        assert agent.end() == os.EX_SOFTWARE
        assert "Traceback" in agent.text
        assert run.termination(0)["reason"] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("first", [0, 1])
def test_what_the_coordinator_cannot_read_ends_all_whoever_asked_last(tmp_path: pathlib.Path, first: int) -> None:
    with running(tmp_path, 2) as run:
        run.run_dir.mkdir()
        (run.run_dir / "attempts.jsonl").write_text('{"format": 99, "attempt": 1}\n')
        run.start(first).wait_for_line("state=meeting")
        run.start(1 - first)
        assert run.codes() == [65, 65]
        assert "attempts.jsonl" in run.agents[0].text
        assert "Traceback" not in run.agents[0].text


def test_workers_that_are_only_told_to_go_are_told_of(tmp_path: pathlib.Path) -> None:
    """The Job replaces who ended with 143, for ever; each of them looks like the first."""
    prelude = "from trainer.agent.processes import watchdog; watchdog._LEAVE_SECONDS = 0.5"
    with running(tmp_path, 2, program=FOR_EVER, prelude=prelude) as run:
        chief = run.start(0)
        for attempt in range(1, 5):
            other = run.start(1)
            other.wait_for_line(f"attempt {attempt} begins")
            chief.wait_for_line(f"attempt {attempt} begins")
            other.process.send_signal(signal.SIGTERM)
            assert other.end() == 143
        told = [line for line in chief.lines if "have left no newer checkpoint" in line]
        assert len(told) == 1
        assert "the last 3 attempts have left no newer checkpoint: this one begins at step 0. Workers that" in told[0]
        assert "job.activeDeadlineSeconds" in told[0]
