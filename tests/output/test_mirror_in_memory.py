"""The mirror in one situation a test, with a store in memory and a clock that the test moves."""

import hashlib
import json
import os
import re
import threading
from pathlib import Path

import pytest

from tests.support.memory_store import MemoryStore
from tests.support.mirrored_run import KEEP, Clock, Training, a_mirror, steps_in_bucket, steps_on_disk
from tests.support.waiting import until
from trainer.core.exit_codes import DataError, OutputError
from trainer.core.run_dir import MANIFEST, log_key, newest_checkpoint
from trainer.output.mirror.event_stream import EventStream
from trainer.output.mirror.mirror import Mirror
from trainer.output.outage import Outage
from trainer.output.stores.errors import StorageError, UnreachableError
from trainer.output.stores.store import StoredObject


def test_gives_up_and_names_what_is_missing(tmp_path: Path) -> None:
    clock, said = Clock(), list[str]()
    store = MemoryStore(etags=True)
    mirror = a_mirror(store, tmp_path, clock, said)
    training = Training(tmp_path, 1)
    training.do_step(10)
    training.save()
    (tmp_path / "result.json").write_text("{}")
    store.weather.next = lambda: "before"
    with pytest.raises(OutputError, match=r"lacks \d+ bytes of train/, .*step-0000000001.npz, result.json after 300 s"):
        mirror.finish()
    assert 300 <= clock.now < 310
    assert 4 <= len(said) <= 7  # One warning a minute.


def test_the_code_that_was_sent_with_a_run_is_kept_from_its_beginning(tmp_path: Path) -> None:
    store, clock = MemoryStore(etags=True), Clock()
    for disk in ("first", "successor"):  # A pod that is replaced brings the same.
        (tmp_path / disk).mkdir()
        (tmp_path / disk / "code.tar.gz").write_bytes(b"code")
        mirror = a_mirror(store, tmp_path / disk, clock, [])
        mirror.finish()  # The run has failed: there is no result.
        assert store.objects["code.tar.gz"].data == b"code"


def test_an_output_that_comes_and_goes_is_told_of_once_a_minute() -> None:
    clock, said = Clock(), list[str]()
    outage = Outage("s3://b/run", say=said.append, clock=clock)
    for _ in range(600):
        for writer in ("growing", "whole"):
            outage.report(StorageError("no"), 1, writer=writer)
        clock.wait(0.5)
        for writer in ("whole", "growing"):
            outage.over(writer)
        clock.wait(0.5)
    assert said.count("the output s3://b/run is written again, after 0 s") == 10
    assert len(said) == 20


def test_a_checkpoint_that_may_soon_be_removed_goes_at_once(tmp_path: Path) -> None:
    store = MemoryStore(etags=True)
    training = Training(tmp_path, 1)
    training.do_step(10)
    training.save()
    mirror = Mirror(
        store,
        tmp_path,
        worker=0,
        interval=3600.0,
        final_timeout=300.0,
        say=lambda _: None,
    )
    mirror.begin()
    until(
        60,
        "the checkpoint",
        lambda: list(store.keys("checkpoints/")) == ["checkpoints/step-0000000001.npz"],
        pause=0.01,
    )
    mirror.finish()


def test_the_newest_checkpoint_that_is_whole_is_fetched_and_old_ones_are_removed(tmp_path: Path) -> None:
    store, clock = MemoryStore(etags=True), Clock()
    mirror = a_mirror(store, tmp_path / "disk", clock, [])
    training = Training(tmp_path / "disk", 1)
    for _ in range(KEEP + 2):
        training.do_step(10)
        training.save()
        mirror.copy_growing()
        mirror.copy_checkpoint()
    older, newest = (f"checkpoints/step-{step:010d}.npz" for step in (KEEP + 1, KEEP + 2))
    assert sorted(store.keys("checkpoints/")) == [older, newest]
    store.objects[newest] = StoredObject(b"weights", "damaged")
    said: list[str] = []
    a_mirror(store, tmp_path / "another disk", clock, said)
    assert newest_checkpoint(tmp_path / "another disk") == Path(older).name
    assert said == [f"{Path(older).name} and what led to it were fetched from {store.url}"]
    del store.objects[older]
    assert newest not in store.objects
    with pytest.raises(
        DataError, match=re.escape(f"none of the checkpoints that it should, whole: {Path(older).name}")
    ):
        a_mirror(store, tmp_path / "a third", clock, [])
    assert newest_checkpoint(tmp_path / "a third") is None


@pytest.mark.parametrize("etags", [True, False])
def test_a_checkpoint_done_again_does_not_replace_one_that_may_be_named_already(tmp_path: Path, etags: bool) -> None:
    """The manifest was stored and the answer lost; the agent may die before it can say of which content it speaks."""
    store = MemoryStore(etags=etags)
    mirror, swap = a_mirror(store, tmp_path, Clock(), []), store.swap

    def unanswered(key: str, data: bytes, version: str) -> str:
        swap(key, data, version)
        raise UnreachableError("the answer was lost")

    def away(*_: object) -> str:
        raise UnreachableError("the request was lost")

    def consistent() -> bool:
        (named,) = json.loads(store.objects[MANIFEST].data)["checkpoints"]
        return hashlib.sha256(store.objects[f"checkpoints/{named['file']}"].data).hexdigest() == str(named["sha256"])

    training = Training(tmp_path, 1)
    training.do_step(10)
    training.save()
    mirror.copy_growing()
    for attempt, swapping in enumerate((unanswered, away), start=2):
        store.swap = swapping  # type: ignore[assignment]
        with pytest.raises(UnreachableError):
            mirror.copy_checkpoint()
        assert consistent()
        Training(tmp_path, attempt).save()
    store.swap = swap  # type: ignore[method-assign]
    mirror.copy_checkpoint()
    assert consistent()


def test_what_a_run_ends_with_is_read_back(tmp_path: Path) -> None:
    """A store that takes a file and keeps half of it does not make a success."""
    store, clock, said = MemoryStore(etags=True), Clock(), list[str]()
    mirror = a_mirror(store, tmp_path, clock, said)
    for name in ("model.keras", "result.json"):
        (tmp_path / name).write_text(name)
    whole = store.upload

    def half(key: str, path: Path, *, replace: str | None = None) -> None:
        whole(key, path, replace=replace)
        store.objects[key] = StoredObject(store.objects[key].data[:5], "half")

    store.upload = half  # type: ignore[method-assign]
    with pytest.raises(
        OutputError, match=r"lacks model.keras, result.json .*model.keras was read back and is not what"
    ):
        mirror.finish()
    store.upload = whole  # type: ignore[method-assign]
    mirror.finish()
    assert store.objects["model.keras"].data == b"model.keras"


class SlowUploads(MemoryStore):
    """Uploads wait until the test lets them go on."""

    def __init__(self) -> None:
        super().__init__(etags=True)
        self.began, self.go_on = threading.Event(), threading.Event()

    def upload(self, key: str, path: Path, *, replace: str | None = None) -> None:
        self.began.set()
        assert self.go_on.wait(60)
        super().upload(key, path, replace=replace)


@pytest.mark.parametrize("begins", ["before the end", "at the end"])
def test_what_grows_does_not_wait_for_a_checkpoint_on_its_way(tmp_path: Path, begins: str) -> None:
    """And that may take longer than a store that is away is waited for."""
    store, clock = SlowUploads(), Clock()
    mirror = Mirror(store, tmp_path, worker=0, interval=0.01, final_timeout=60.0, say=lambda _: None, clock=clock)
    mirror.begin()
    training = Training(tmp_path, 1)
    training.do_step(10)
    if begins == "before the end":
        training.save()
        assert store.began.wait(60)
    training.do_step(10)
    training.save()
    (tmp_path / "attempts.jsonl").write_text('{"attempt": 1}\n')
    ending = threading.Thread(target=mirror.finish)
    ending.start()
    assert store.began.wait(60)
    until(
        60,
        "the rest",
        lambda: steps_in_bucket(store.objects, "train") == [1, 2] and "attempts.jsonl" in store.objects,
        pause=0.01,
    )
    assert mirror.missing() == ["checkpoints/step-0000000002.npz"]
    clock.wait(1000.0)
    assert ending.is_alive()
    store.go_on.set()
    ending.join(60)
    assert not ending.is_alive()
    assert "checkpoints/step-0000000002.npz" in store.objects


def test_logs_that_are_stored_take_no_room(tmp_path: Path) -> None:
    """In memory and on disk there is one log, whatever the number of attempts."""
    store = MemoryStore(etags=True)
    mirror = a_mirror(store, tmp_path, Clock(), [])
    (tmp_path / "workers" / "0").mkdir(parents=True)
    for attempt in range(1, 30):
        (tmp_path / log_key(0, attempt)).write_text(f"attempt {attempt}\n" * 1000)
        mirror.copy_growing()
        assert [path.name for path in (tmp_path / "workers" / "0").iterdir()] == [f"attempt-{attempt}.log"]
    assert mirror.backlog() == 0
    assert len(mirror._logs.files) == 1
    mirror.finish()
    for attempt in range(1, 30):
        assert store.objects[log_key(0, attempt)].data == f"attempt {attempt}\n".encode() * 1000


def test_attempts_count_above_a_log_that_nobody_stored(tmp_path: Path) -> None:
    (tmp_path / "workers" / "0").mkdir(parents=True)
    (tmp_path / log_key(0, 3)).write_text("its agent was killed\n")
    mirror = Mirror(
        MemoryStore(etags=True), tmp_path, worker=0, interval=5.0, final_timeout=0.0, say=lambda _: None, threads=False
    )
    assert mirror.begin() == 3


def test_a_disk_with_an_older_state_takes_over_what_is_stored(tmp_path: Path) -> None:
    store, clock, said = MemoryStore(etags=True), Clock(), list[str]()

    def train(disk: str, attempt: int, steps: int, stored: int) -> None:
        mirror = a_mirror(store, tmp_path / disk, clock, said)
        training = Training(tmp_path / disk, attempt)
        with (tmp_path / disk / "attempts.jsonl").open("a") as file:
            file.write(json.dumps({"attempt": attempt}) + "\n")
        for _ in range(steps):
            training.do_step(10)
            training.save()
            if training.step <= stored:
                mirror.copy_growing()
                mirror.copy_checkpoint()

    train("a", 1, 10, stored=4)
    train("b", 2, 2, stored=6)
    assert newest_checkpoint(tmp_path / "a") == "step-0000000010.npz"
    said.clear()
    train("a", 3, 6, stored=12)
    assert "holds an older state of this run, up to step-0000000010.npz" in said[0]
    assert "step-0000000006.npz and what led to it were fetched" in said[1]
    assert steps_in_bucket(store.objects, "train") == list(range(1, 13)) == steps_on_disk(tmp_path / "a" / "train")
    attempts = store.objects["attempts.jsonl"].data.splitlines()
    assert [json.loads(line)["attempt"] for line in attempts] == [1, 2, 3]


def test_a_disk_whose_last_stored_file_grew_elsewhere_meanwhile_takes_over_what_is_stored(tmp_path: Path) -> None:
    """Two disks have the first attempt's file; what the second wrote after it does not follow what the first stored."""
    store, clock = MemoryStore(etags=True), Clock()
    first, second = tmp_path / "first", tmp_path / "second"
    mirror, training = a_mirror(store, first, clock, []), Training(first, 1)
    mirror.copy_growing()
    training.do_step(10)
    a_mirror(store, second, clock, [])  # The second disk gets the file as it is stored, without the step.
    lost = Training(second, 2)
    for _ in range(3):
        lost.do_step(10)
    lost.save()
    a_mirror(store, first, clock, []).copy_growing()
    assert steps_in_bucket(store.objects, "train") == [1]
    said: list[str] = []
    mirror = a_mirror(store, second, clock, said)
    training = Training(second, 3)
    for _ in range(5):
        training.do_step(10)
    mirror.copy_growing()
    assert steps_in_bucket(store.objects, "train") == [1, 2, 3, 4, 5]
    assert "holds an older state of this run, up to step-0000000003.npz" in said[0]


def test_a_disk_that_fails_while_the_store_does_ends_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, said = MemoryStore(etags=True), list[str]()
    mirror = Mirror(store, tmp_path, worker=0, interval=0.01, final_timeout=60.0, say=said.append)
    mirror.begin()
    training = Training(tmp_path, 1)
    training.do_step(10)
    with monkeypatch.context() as patch:
        patch.setattr(EventStream, "backlog", lambda _: os.stat("/dev/null/nothing"))
        store.weather.next = lambda: "before"
        until(60, "a warning", lambda: said, pause=0.01)
        assert mirror.missing() == ["the last answers of the store"]
        store.weather.next = lambda: ""
        until(60, "the event", lambda: steps_in_bucket(store.objects, "train") == [1], pause=0.01)
    mirror.finish()
