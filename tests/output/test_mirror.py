"""The mirror on real stores and through bad networks."""

import hashlib
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.mirrored_run import Training, steps_in, steps_in_bucket, steps_on_disk
from tests.support.object_stores import Server, read
from tests.support.servers import BUCKET, SECRET, s3_server, toxiproxy
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy
from tests.support.waiting import until
from tests.support.worker_logs import a_log, write
from trainer.core.exit_codes import DataError, OutputError, UsageError
from trainer.core.run_dir import logs_in_order
from trainer.output import reader
from trainer.output.mirror.mirror import Mirror
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import Store

pytestmark = pytest.mark.servers


def a_mirror(store: Store, run_dir: Path, **options: Any) -> tuple[Mirror, list[str]]:
    said: list[str] = []
    defaults: dict[str, Any] = {"worker": 0, "interval": 0.3, "final_timeout": 20.0}
    return Mirror(store, run_dir, say=said.append, **{**defaults, **options}), said


def test_code_that_was_sent_is_kept_with_the_run(server: Server, run: str, tmp_path: Path) -> None:
    archive = os.urandom(9 * 2**20)
    for worker in (1, 0):
        run_dir = tmp_path / str(worker)
        run_dir.mkdir()
        (run_dir / "code.tar.gz").write_bytes(archive)
        mirror, _ = a_mirror(server.store(run), run_dir, worker=worker, threads=False)
        mirror.begin()
        mirror.copy_growing()
        assert ("code.tar.gz" in server.objects(run)) == (worker == 0), "it is the chief's"
    assert server.objects(run)["code.tar.gz"].data == archive


def test_a_run_and_its_successor_on_an_empty_disk(server: Server, run: str, tmp_path: Path) -> None:
    first, _ = a_mirror(server.store(run), tmp_path / "first")
    first.begin()
    training = Training(tmp_path / "first", 1)
    log, _ = a_log(tmp_path / "first")
    for _ in range(9):
        training.do_step(1000)
        write(log, b"step %d\n" % training.step)
    training.save()
    (tmp_path / "first" / "attempts.jsonl").write_text('{"attempt": 1}\n')
    until(
        30,
        "the last checkpoint in the bucket",
        lambda: "checkpoints/step-0000000009.npz" in server.store(run).keys("checkpoints/"),
    )
    until(30, "all events in the bucket", lambda: len(steps_in_bucket(server.objects(run), "train")) == 9)
    first.finish()

    second, said = a_mirror(server.store(run), tmp_path / "second")
    second.begin()
    assert "step-0000000009.npz and what led to it were fetched" in said[0]
    assert (tmp_path / "second" / "attempts.jsonl").read_text() == '{"attempt": 1}\n'
    training = Training(tmp_path / "second", 2)
    assert training.step == 9
    for _ in range(6):
        training.do_step(100_000)
    (tmp_path / "second" / "model.keras").write_bytes(os.urandom(5 * 2**20))
    (tmp_path / "second" / "result.json").write_text("{}")
    second.finish()
    objects = server.objects(run)
    assert steps_in_bucket(objects, "train") == list(range(1, 16))
    assert objects["model.keras"].data == (tmp_path / "second" / "model.keras").read_bytes()
    assert objects["workers/0/attempt-1.log"].data == b"".join(b"step %d\n" % step for step in range(1, 10))
    assert not list(server.store(run).keys("."))

    third, _ = a_mirror(server.store(run), tmp_path / "third")
    third.begin()  # The run has ended: its result is back, so that a start has nothing to do.
    third.finish()
    assert (tmp_path / "third" / "result.json").read_text() == "{}"


def test_a_stopped_agent_is_told_that_it_was_superseded(server: Server, run: str, tmp_path: Path) -> None:
    """A real process with a mirror is stopped, another takes over and writes, and the first goes on."""
    script = (
        "import os, pathlib, sys, time; from tests.output.test_mirror import a_mirror;"
        "from tests.support.mirrored_run import Training; from trainer.output.stores.opening import open_store;"
        "store = open_store(sys.argv[1]); run_dir = pathlib.Path(sys.argv[2]);"
        "mirror, said = a_mirror(store, run_dir, on_end=lambda e: (print(e, flush=True), os._exit(74)));"
        "mirror.begin(); training = Training(run_dir, 1);"
        "[(training.do_step(10), training.save(), time.sleep(0.02)) for _ in range(10**6)]"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, f"{server.scheme}://{BUCKET}/{run}", str(tmp_path / "a")]
    old = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **server.environ()})
    try:
        until(30, "a checkpoint in the manifest", lambda: server.named_checkpoints(run))
        old.send_signal(signal.SIGSTOP)
        new, _ = a_mirror(server.store(run), tmp_path / "b")
        new.begin()
        training = Training(tmp_path / "b", 2)
        for _ in range(3):
            training.do_step(10)
            training.save()
            newest = f"checkpoints/step-{training.step:010d}.npz"
            until(30, "the newest checkpoint in the manifest", lambda: newest in server.named_checkpoints(run))  # noqa: B023
        old.send_signal(signal.SIGCONT)
        out, _ = old.communicate(timeout=30)
        assert old.returncode == 74
        assert "another agent has taken over this run, and this one stops writing to it" in out
    finally:
        old.kill()
        old.wait()
    for _ in range(200):
        training.do_step(10)
    new.finish()
    objects = server.objects(run)
    steps = steps_in_bucket(objects, "train")
    assert steps == list(range(1, len(steps) + 1))
    assert steps == steps_on_disk(tmp_path / "b" / "train")
    assert newest in server.named_checkpoints(run)
    for key, sha256 in server.named_checkpoints(run).items():
        assert hashlib.sha256(objects[key].data).hexdigest() == sha256


@pytest.mark.parametrize(
    "weather", ["away", "429", "503", "latency", "slow", "reset", "truncated", "expired", "forbidden"]
)
def test_bad_weather(server: Server, run: str, tmp_path: Path, weather: str) -> None:
    """Everything arrives, in order, once it is over."""
    with (
        refusing_proxy(server.address) as (behind, proxy),
        toxiproxy(behind) as (front, toxics),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in server.environ(front).items():
            patch.setenv(name, value)
        store = open_store(f"{server.scheme}://{BUCKET}/{run}", os.environ)
        mirror, said = a_mirror(store, tmp_path, interval=0.1)
        mirror.begin()
        training = Training(tmp_path, 1)
        training.do_step(10)
        until(30, "the first step in the bucket", lambda: steps_in_bucket(server.objects(run), "train") == [1])
        answers = {"429": 429, "503": 503, "expired": 400 if server.scheme == "s3" else 401, "forbidden": 403}
        if weather in answers:
            code = {"expired": b"ExpiredToken", "forbidden": b"AccessDenied"}.get(weather, b"SlowDown")
            proxy.answer = lambda _method, _path: (answers[weather], S3_ERROR % (code, b"because"))
        elif weather == "away":
            toxics.enable(False)
        elif weather == "latency":
            toxics.add("latency", latency=300, jitter=200)
        elif weather == "slow":
            toxics.add("bandwidth", stream="upstream", rate=50)
        elif weather == "reset":
            toxics.add("reset_peer", toxicity=0.5, timeout=5)
        elif weather == "truncated":
            toxics.add("limit_data", toxicity=0.5, bytes=60)
        for _ in range(5):
            for _ in range(3):
                training.do_step(2000)
            training.save()
            time.sleep(0.1)  # The mirror's interval.
        if weather in answers or weather == "away":
            until(
                30,
                "what waits is said",
                lambda: any("bytes of events and logs wait on disk, and the run goes on" in text for text in said),
            )
            assert steps_in_bucket(server.objects(run), "train") == [1]
        proxy.answer = lambda _method, _path: None
        toxics.enable(True)
        toxics.clear()
        for name in ("model.keras", "result.json"):
            (tmp_path / name).write_text(name)
        mirror.finish()
        objects = server.objects(run)
        assert steps_in_bucket(objects, "train") == list(range(1, 17))
        assert "checkpoints/step-0000000016.npz" in objects
        assert len(said) <= 6, said  # No flood.
        assert SECRET not in "".join(said)


def test_a_folder_of_something_else_is_refused(server: Server, run: str, tmp_path: Path) -> None:
    server.store(run).create("mirror.json", b"[]")
    mirror, _ = a_mirror(server.store(run), tmp_path)
    with pytest.raises(DataError, match=r"mirror.json is not what a mirror writes; .* must be the folder of this run"):
        mirror.begin()
    assert list(server.store(run).keys("")) == ["mirror.json"]


def test_refused_before_training(server: Server, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ().items():
            patch.setenv(name, value)
        mirror, _ = a_mirror(open_store(f"{server.scheme}://no-such-bucket/run", os.environ), tmp_path)
        with pytest.raises(UsageError, match="there is no such bucket; make the bucket first"):
            mirror.begin()


def test_forbidden_at_the_start_is_given_a_minute(server: Server, run: str, tmp_path: Path) -> None:
    now = [0.0]
    with refusing_proxy(server.address) as (front, proxy), pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ(front).items():
            patch.setenv(name, value)
        proxy.answer = lambda _method, _path: (403, S3_ERROR % (b"AccessDenied", b"no")) if now[0] < 30 else None
        options: dict[str, Any] = {
            "clock": lambda: now[0],
            "wait": lambda seconds: now.__setitem__(0, now[0] + seconds),
        }
        store = open_store(f"{server.scheme}://{BUCKET}/{run}", os.environ)
        mirror, said = a_mirror(store, tmp_path, threads=False, interval=5.0, **options)
        mirror.begin()  # The identity came after half a minute.
        assert len(said) == 2
        now[0] = -1000.0
        mirror, said = a_mirror(store, tmp_path, threads=False, interval=5.0, **options)
        with pytest.raises(UsageError, match="give their service account"):
            mirror.begin()


def test_what_was_written_is_visible_soon(server: Server, run: str, tmp_path: Path) -> None:
    """Within the interval and 2 seconds, a large checkpoint on its way or not."""
    mirror, _ = a_mirror(server.store(run), tmp_path, interval=0.5)
    mirror.begin()
    training = Training(tmp_path, 1)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-0000000000.npz").write_bytes(os.urandom(50 * 2**20))
    store = server.store(run)

    def visible() -> list[int]:
        found = read(store, "train/events.out.tfevents.0000000000")
        return steps_in(found.data) if found else []

    took = []
    for step in range(1, 4):
        training.do_step(10)
        start = time.monotonic()
        until(30, f"step {step} in the bucket", lambda: visible() == list(range(1, step + 1)), pause=0.05)  # noqa: B023
        took.append(time.monotonic() - start)
    assert statistics.median(took) < 0.5 + 2  # One of them may have met a busy machine.
    mirror.finish()
    assert len(b"".join(store.stream("checkpoints/step-0000000000.npz"))) == 50 * 2**20


def test_a_log_of_any_length_in_order(server: Server, run: str, tmp_path: Path) -> None:
    mirror, _ = a_mirror(server.store(run), tmp_path, worker=3)
    mirror.begin()
    lines = [b"%06d %s\n" % (number, b"x" * 100) for number in range(8000)]
    write(a_log(tmp_path, worker=3)[0], *lines)
    write(a_log(tmp_path, 2, worker=3)[0], b"second\n")
    mirror.finish()
    objects = server.objects(run)
    keys = logs_in_order(key for key in objects if key.startswith("workers/3/attempt-1.log"))
    assert b"".join(objects[key].data for key in keys) == b"".join(lines)
    assert objects["workers/3/attempt-2.log"].data == b"second\n"
    on_disk = sorted(path.name for path in (tmp_path / "workers" / "3").iterdir())
    assert on_disk == ["attempt-2.log"]


def test_a_log_takes_no_more_disk_than_it_may(tmp_path: Path, run: str) -> None:
    with s3_server(tmp_path / "s3") as address:
        server = Server("s3", address)
        mirror, _ = a_mirror(server.store(run), tmp_path / "run", threads=False)
        mirror.begin()
        log, said = a_log(tmp_path / "run", limit=2**20)
        write(log, *(b"%06d %s\n" % (number, b"x" * 100) for number in range(30_000)))
        taken = sum(path.stat().st_size for path in (tmp_path / "run" / "workers" / "0").iterdir())
        assert taken <= 2**20
        assert said == ["the log of this worker has a gap from here on: --mirror_max_disk=1 is used up"]
        mirror.copy_growing()
        write(log, b"the end\n")
        mirror.finish()
        objects = server.objects(run)
        text = b"".join(objects[key].data for key in logs_in_order(objects))
        assert text.endswith(b"bytes of this log were left out here]\nthe end\n")


def test_a_disk_that_cannot_take_what_is_there(server: Server, run: str, tmp_path: Path) -> None:
    mirror, _ = a_mirror(server.store(run), tmp_path / "first", threads=False)
    mirror.begin()
    training = Training(tmp_path / "first", 1)
    training.do_step(10)
    training.save()
    mirror.finish()
    (tmp_path / "second").write_text("not a folder")
    mirror, _ = a_mirror(server.store(run), tmp_path / "second", threads=False)
    with pytest.raises(OutputError, match=r"cannot be brought back to .*second: .*; make room there"):
        mirror.begin()


def test_what_a_launcher_reads(server: Server, tmp_path: Path, run: str) -> None:
    mirror, _ = a_mirror(server.store(run), tmp_path, threads=False)
    mirror.begin()
    assert reader.result(server.store(run)) is None
    lines = [b"%06d %s\n" % (number, b"x" * 100) for number in range(4000)]
    for attempt in (1, 2):
        write(a_log(tmp_path, attempt)[0], *lines)
    (tmp_path / "attempts.jsonl").write_text('{"attempt": 1}\n{"atte\n{"attempt": 2}\n')
    (tmp_path / "model.keras").write_bytes(b"model")
    (tmp_path / "result.json").write_text('{"epochs": 5}')
    mirror.finish()
    store = server.store(run)
    pieces = list(reader.logs(store, 0))
    for attempt in (1, 2):
        assert b"".join(text for number, text in pieces if number == attempt) == b"".join(lines)
    assert [attempt for attempt, _ in pieces] == [1, 1, 2, 2]
    assert reader.result(store) == {"epochs": 5}
    assert reader.attempts(store) == [{"attempt": 1}, {"attempt": 2}]
    reader.probe(store)
    assert not list(store.keys(".probe"))
