"""The logs of workers in the run directory, which may lie on a disk that is full, slow or hangs."""

import os
import pathlib
import re
import signal

import pytest

from tests.support.agents import running, wait_until_gone
from tests.support.full_disk import no_room_beyond
from tests.support.worker_logs import a_log, write
from trainer.agent.records import attempt_log
from trainer.core.run_dir import log_key, logs_on_disk
from trainer.output.mirror.segments import SEGMENT_BYTES


def test_every_attempt_of_every_worker_has_its_log_in_the_run_directory(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, trainer_flags=["--epochs=4"]) as run:
        chief, other = run.start_all()
        chief.wait_for_step(7)
        other.signal_training(signal.SIGKILL)
        chief.wait_for_step(12, attempt=2)
        pids = [agent.state.pid for agent in (chief, other)]
        for agent in (chief, other):  # Nobody is left who knows of the second attempt, but for its logs.
            agent.process.kill()
        for pid in pids:
            wait_until_gone(pid)
        run.start_all()
        assert run.codes() == [0, 0]
        assert [line["attempt"] for line in run.attempts] == [1, 3]
        for worker in (0, 1):
            logs = logs_on_disk(run.run_dir, worker)
            assert logs == [f"workers/{worker}/attempt-{attempt}.log" for attempt in (1, 2, 3)]
            for attempt, log in enumerate(logs, 1):
                text = (run.run_dir / log).read_text()
                assert f"agent {worker}: attempt {attempt} begins" in text
                assert f"progress worker={worker}/2 attempt={attempt} " in text
        assert "worker 1 ended with 137 (ended by SIGKILL)" in (run.run_dir / "workers/1/attempt-1.log").read_text()


def test_a_disk_that_hangs_costs_the_log_and_nothing_else(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1) as run:
        log = run.run_dir / log_key(0, 1)
        log.parent.mkdir(parents=True)
        os.mkfifo(log)  # To open it for writing takes until somebody reads.
        assert run.start(0).end() == 0
        assert run.result["steps"] == 50


def test_what_a_slow_disk_costs_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "workers/0").mkdir(parents=True)
    os.mkfifo(tmp_path / "workers/0/attempt-1.log")
    log, said = a_log(tmp_path)
    lines = [b"%06d %s\n" % (number, b"x" * 1000) for number in range(12_000)]
    for line in lines:
        log.write(line)
    written = b""
    with (tmp_path / "workers/0/attempt-1.log").open("rb") as file:
        while len(written) + len(lines[0]) <= SEGMENT_BYTES:
            written += file.read(len(lines[0]))
    log.flush(30)
    write(log, b"the end\n")
    written += b"".join((tmp_path / key).read_bytes() for key in logs_on_disk(tmp_path, 0)[1:])
    *kept, last = written.splitlines(keepends=True)
    gaps = [int(match[1]) for line in kept if (match := re.fullmatch(rb"\[(\d+) bytes .* left out here\]\n", line))]
    whole = [line for line in kept if not line.startswith(b"[")]
    assert sum(gaps) + sum(map(len, whole)) == sum(map(len, lines))
    assert gaps
    assert whole == sorted(whole)
    assert last == b"the end\n"
    assert set(said) == {"the log of this worker has a gap from here on: the disk is too slow"}


def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(tmp_path: pathlib.Path) -> None:
    (tmp_path / "workers" / "0").mkdir(parents=True)
    (tmp_path / "workers" / "0" / "attempt-1.log").symlink_to("/dev/full")
    log, said = a_log(tmp_path)
    write(log, *[b"a line\n"] * 3)
    assert said == ["the log of this worker has a gap from here on: No space left on device"]
    (tmp_path / "workers" / "0" / "attempt-1.log").unlink()
    write(log, b"another\n")
    text = (tmp_path / "workers" / "0" / "attempt-1.log").read_text()
    assert text == "[21 bytes of this log were left out here]\nanother\n"


def test_a_full_disk_costs_a_whole_line_of_attempts(tmp_path: pathlib.Path) -> None:
    attempt_log.append(tmp_path, {"attempt": 1})
    with no_room_beyond(25), pytest.raises(OSError, match="No space left on device"):
        attempt_log.append(tmp_path, {"attempt": 2})
    attempt_log.append(tmp_path, {"attempt": 3})
    assert (tmp_path / "attempts.jsonl").read_text() == '{"attempt": 1}\n{"attempt": 3}\n'
