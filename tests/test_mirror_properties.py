"""Whatever the schedule of kills, failures and restarts: what is read back is what was written, in order, once."""

import hashlib
import json
import os
import random
import re
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from tests.memory_store import MemoryStore, Weather
from tests.processes import until
from trainer import records
from trainer.chain import SupersededError
from trainer.event_stream import EventStream
from trainer.exit_codes import DataError, OutputError
from trainer.manifest import KEY, Manifest
from trainer.mirror import FOLDERS, Mirror
from trainer.records import Mark
from trainer.storage import PIECES, Found, StorageError
from trainer.stored_files import newest_checkpoint
from trainer.trouble import Trouble
from trainer.worker_log import log_key

KEEP = 2


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += max(seconds, 0.01)


class Training:
    """What the training program does to a run directory: a point a step, dated by the attempt, and checkpoints."""

    def __init__(self, run_dir: Path, attempt: int) -> None:
        self.run_dir, self.attempt = run_dir, attempt
        newest = newest_checkpoint(run_dir)
        self.step = int(newest.removeprefix("step-").removesuffix(".npz")) if newest else 0
        self.written = {folder: max(steps_on_disk(run_dir / folder), default=0) for folder in FOLDERS}
        name = f"events.out.tfevents.{1700000000 + attempt}.host.1.0.v2"
        self.files = {folder: run_dir / folder / name for folder in FOLDERS}
        for folder, path in self.files.items():
            (run_dir / folder).mkdir(parents=True, exist_ok=True)
            path.write_bytes(records.record(Event(file_version="brain.Event:2").SerializeToString()))

    def do_step(self, size: int) -> None:
        self.step += 1
        for folder in FOLDERS if self.step % 3 == 0 else FOLDERS[:1]:
            if self.step > self.written[folder]:
                self._append(folder, records.record(point(self.step, size)))

    def tear(self, share: float) -> None:
        """Killed in the middle of a write."""
        if self.step >= self.written["train"]:
            whole = records.record(point(self.step + 1, 50))
            self._append("train", whole[: int(len(whole) * share)])

    def save(self) -> None:
        folder = self.run_dir / "checkpoints"
        folder.mkdir(exist_ok=True)
        # As in real ones, something in them is not the same if the step is done again; and some are large.
        text = b"weights of %d, by %d%s" % (self.step, self.attempt, b" " * 20 * (self.step % 2))
        (folder / f"step-{self.step:010d}.npz").write_bytes(text)
        for path in sorted(folder.glob("step-*.npz"))[:-KEEP]:
            path.unlink()

    def _append(self, folder: str, data: bytes) -> None:
        with self.files[folder].open("ab") as file:
            file.write(data)


def point(step: int, size: int) -> bytes:
    value = Summary.Value(tag="loss", simple_value=float(step), node_name="x" * size)
    return bytes(Event(wall_time=float(step), step=step, summary=Summary(value=[value])).SerializeToString())


def steps_in(data: bytes) -> list[int]:
    steps, start = [], 0
    for end in records.whole(data) if data else ():
        body = data[start + records.HEAD.size : end - records.TAIL.size]
        if Mark.parse(body) is None and (step := Event.FromString(body).step):
            steps.append(step)
        start = end
    return steps


def steps_on_disk(folder: Path) -> list[int]:
    files = sorted(folder.glob("*tfevents*"), key=lambda path: path.stat().st_mtime_ns)
    return [step for path in files for step in steps_in(path.read_bytes())]


Zombie = tuple[Mirror, MemoryStore, Training]


class Run(RuleBasedStateMachine):
    """One run, its bucket, the agents that believe to be its chief, and bad weather."""

    @initialize(etags=st.booleans(), seed=st.integers(0, 2**32))
    def start(self, etags: bool, seed: int) -> None:
        self.objects: dict[str, Found] = {}
        self.etags, self.random = etags, random.Random(seed)
        self.failing = 0.0
        self.root = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.disks = self.attempt = 0
        self.zombies: list[Zombie] = []
        self.meddler: Zombie | None = None  # Acts between the requests of its successor.
        self.new_disk()
        self.new_agent()

    def teardown(self) -> None:
        if hasattr(self, "root"):
            if self.whole:  # Otherwise a rule has failed, and its error is the one to show.
                self.check_all()
            shutil.rmtree(self.root)

    def new_disk(self) -> None:
        self.disks += 1
        self.run_dir = self.root / f"disk-{self.disks}"
        self.run_dir.mkdir()

    def new_agent(self) -> None:
        clock = Clock()
        self.store = MemoryStore(self.objects, weather=Weather(self.weather), etags=self.etags)
        self.mirror = Mirror(
            self.store,
            self.run_dir,
            worker=0,
            interval=5.0,
            final_timeout=10**6,
            say=lambda _: None,
            threads=False,
            clock=clock,
            wait=clock.wait,
        )
        before = self.failing
        self.failing = min(before, 0.3)  # It has to get through some time.
        self.whole = False
        self.mirror.begin()
        self.whole, self.failing = True, before
        self.new_attempt()

    def new_attempt(self) -> None:
        self.attempt += 1
        self.training = Training(self.run_dir, self.attempt)

    def weather(self) -> str:
        if self.meddler and self.random.random() < 0.2:
            zombie, self.meddler = self.meddler, None
            self.goes_on(zombie)
            self.meddler = zombie
        if self.random.random() >= self.failing:
            return ""
        return self.random.choice(["before", "after", "late"])

    @rule(count=st.integers(1, 5), size=st.sampled_from([10, 10, 1000, 100_000, 400_000]))
    def train(self, count: int, size: int) -> None:
        for _ in range(count):
            self.training.do_step(size)

    @rule()
    def save(self) -> None:
        self.training.save()

    @rule(failing=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    def weather_changes(self, failing: float) -> None:
        self.failing = failing

    @rule()
    def copy(self) -> None:
        try:
            self.mirror.copy_growing()
            assert steps_in_bucket(self.objects, "train") == steps_on_disk(self.run_dir / "train")
            self.mirror.copy_whole()
        except StorageError:
            assert self.failing > 0

    @rule()
    def late_requests_arrive(self) -> None:
        self.store.deliver()

    @rule(share=st.floats(0.0, 0.99))
    def training_is_killed(self, share: float) -> None:
        self.training.tear(share)
        self.new_attempt()

    @rule(share=st.floats(0.0, 0.99))
    def agent_is_killed(self, share: float) -> None:
        self.training.tear(share)
        self.new_agent()

    @rule(alive=st.booleans(), meddles=st.booleans())
    def pod_is_lost(self, alive: bool, meddles: bool) -> None:
        if alive:
            self.zombies.append((self.mirror, self.store, self.training))
            self.meddler = self.zombies[-1] if meddles else None
        self.new_disk()
        self.new_agent()
        self.meddler = None
        # The last interval may be lost with the disk, and nothing of what was stored.
        assert steps_on_disk(self.run_dir / "train") == steps_in_bucket(self.objects, "train")

    @rule(which=st.integers(0, 10))
    def an_older_disk_comes_back(self, which: int) -> None:
        taken = [self.run_dir, *(training.run_dir for _, _, training in self.zombies)]
        free = [path for path in sorted(self.root.iterdir()) if path not in taken]
        if free:
            self.run_dir = free[which % len(free)]
            self.new_agent()

    @rule(count=st.integers(1, 3))
    def lost_pod_goes_on(self, count: int) -> None:
        if not self.zombies:
            return
        zombie = self.zombies.pop()
        before = self.of_the_run()
        assert self.goes_on(zombie, count) or self.failing > 0, "it was not told"
        assert self.of_the_run() == before

    def goes_on(self, zombie: Zombie, count: int = 1) -> bool:
        """Lets an agent that was thought dead act; whether it is told so."""
        mirror, store, training = zombie
        for _ in range(count):
            training.do_step(10)
        training.save()
        store.deliver()
        told = False
        for act in (mirror.copy_growing, mirror.copy_whole):  # Threads of their own, so both act.
            try:
                act()
            except SupersededError:
                told = True
            except StorageError:
                assert self.failing > 0
        return told

    def of_the_run(self) -> dict[str, bytes]:
        """The objects that count: what else there is was left by somebody and is in nobody's way."""
        named = {f"checkpoints/{stored.file}" for stored in self.manifest().checkpoints}
        return {
            key: found.data
            for key, found in self.objects.items()
            if key in named or not key.startswith(("checkpoints/", PIECES))
        }

    def manifest(self) -> Manifest:
        manifest = Manifest(MemoryStore(dict(self.objects), etags=self.etags), "reader")
        manifest.take_over()
        return manifest

    @invariant()
    def nothing_is_torn_or_doubled(self) -> None:
        if not hasattr(self, "objects"):
            return
        steps = steps_in_bucket(self.objects, "train")
        assert steps == list(range(1, len(steps) + 1))
        validation = steps_in_bucket(self.objects, "validation")
        assert validation == list(range(3, 3 * len(validation) + 3, 3))
        if KEY in self.objects:
            for stored in self.manifest().checkpoints:
                step = int(stored.file.removeprefix("step-").removesuffix(".npz"))
                data = self.objects[f"checkpoints/{stored.file}"].data
                assert data.startswith(b"weights of %d," % step)
                assert hashlib.sha256(data).hexdigest() == stored.sha256
                assert step <= len(steps)

    def steps_anywhere(self, folder: str) -> list[int]:
        return steps_on_disk(self.run_dir / folder) + steps_in_bucket(self.objects, folder)

    def check_all(self) -> None:
        """In good weather everything arrives, and TensorBoard's own reader sees it."""
        self.failing = 0.0
        # Any folder's: of what a pod that was thought dead wrote last, one may have been stored and another not.
        last = max((step for folder in FOLDERS for step in self.steps_anywhere(folder)), default=0)
        while self.training.step < last:
            self.training.do_step(10)
        self.training.save()
        for name in ("model.keras", "result.json"):
            (self.run_dir / name).write_text(name)
        self.mirror.finish()
        for name in ("model.keras", "result.json"):
            assert self.objects[name].data == (self.run_dir / name).read_bytes()
        folder = self.root / "bucket"
        for key, found in self.objects.items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found.data)
        for name, every in (("train", 1), ("validation", 3)):
            events = EventAccumulator(str(folder / name), size_guidance={"tensors": 0, "scalars": 0})
            events.Reload()
            expected = list(range(every, self.training.step + 1, every))
            scalars = events.Scalars("loss") if expected else []
            assert [(scalar.step, scalar.value) for scalar in scalars] == [(step, float(step)) for step in expected]
        newest = f"checkpoints/{newest_checkpoint(self.run_dir)}"
        named = {f"checkpoints/{stored.file}" for stored in self.manifest().checkpoints}
        assert newest in named
        assert {key for key in self.objects if key.startswith("checkpoints/") and key <= newest} == named


def steps_in_bucket(objects: dict[str, Found], folder: str) -> list[int]:
    keys = sorted(key for key in objects if key.startswith(f"{folder}/"))
    return [step for key in keys for step in steps_in(objects[key].data)]


SCHEDULES = settings(
    stateful_step_count=40,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


def test_a_run_with_any_schedule() -> None:
    """The same schedules every time: what a change breaks, it breaks here and not in somebody else's change."""
    run_state_machine_as_test(Run, settings=settings(SCHEDULES, max_examples=150, derandomize=True))


@pytest.mark.soak
def test_a_run_with_many_schedules_at_random() -> None:
    run_state_machine_as_test(Run, settings=settings(SCHEDULES, max_examples=5000))


def a_mirror(store: MemoryStore, run_dir: Path, clock: Clock, said: list[str]) -> Mirror:
    """One that has begun, and has no threads."""
    mirror = Mirror(
        store,
        run_dir,
        worker=0,
        interval=5.0,
        final_timeout=300.0,
        say=said.append,
        threads=False,
        clock=clock,
        wait=clock.wait,
    )
    mirror.begin()
    return mirror


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
    assert 4 <= len(said) <= 7  # One a minute.


def test_an_output_that_comes_and_goes_is_told_of_once_a_minute() -> None:
    clock, said = Clock(), list[str]()
    trouble = Trouble("s3://b/run", say=said.append, clock=clock)
    for _ in range(600):
        for who in ("growing", "whole"):
            trouble.report(StorageError("no"), 1, who=who)
        clock.wait(0.5)
        for who in ("whole", "growing"):
            trouble.over(who)
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
    until(lambda: list(store.keys("checkpoints/")) == ["checkpoints/step-0000000001.npz"], "the checkpoint")
    mirror.finish()


def test_the_newest_checkpoint_that_is_whole_is_fetched_and_old_ones_are_removed(tmp_path: Path) -> None:
    store, clock = MemoryStore(etags=True), Clock()
    mirror = a_mirror(store, tmp_path / "disk", clock, [])
    training = Training(tmp_path / "disk", 1)
    for _ in range(KEEP + 2):
        training.do_step(10)
        training.save()
        mirror.copy_growing()
        mirror.copy_whole()
    older, newest = (f"checkpoints/step-{step:010d}.npz" for step in (KEEP + 1, KEEP + 2))
    assert sorted(store.keys("checkpoints/")) == [older, newest]
    store.objects[newest] = Found(b"weights", "damaged")
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


def test_what_a_run_ends_with_is_read_back(tmp_path: Path) -> None:
    """A store that takes a file and keeps half of it does not make a success."""
    store, clock, said = MemoryStore(etags=True), Clock(), list[str]()
    mirror = a_mirror(store, tmp_path, clock, said)
    for name in ("model.keras", "result.json"):
        (tmp_path / name).write_text(name)
    whole = store.upload

    def half(key: str, path: Path, *, replace: str | None = None) -> None:
        whole(key, path, replace=replace)
        store.objects[key] = Found(store.objects[key].data[:5], "half")

    store.upload = half  # type: ignore[method-assign]
    with pytest.raises(
        OutputError, match=r"lacks model.keras, result.json .*model.keras was read back and is not what"
    ):
        mirror.finish()
    store.upload = whole  # type: ignore[method-assign]
    mirror.finish()
    assert store.objects["model.keras"].data == b"model.keras"


class SlowUploads(MemoryStore):
    """Whose large files take until somebody lets them."""

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
    until(lambda: steps_in_bucket(store.objects, "train") == [1, 2] and "attempts.jsonl" in store.objects, "the rest")
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
    assert len(mirror._logs) == 1
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
                mirror.copy_whole()

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


def test_a_disk_that_fails_while_the_store_does_ends_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, said = MemoryStore(etags=True), list[str]()
    mirror = Mirror(store, tmp_path, worker=0, interval=0.01, final_timeout=60.0, say=said.append)
    mirror.begin()
    training = Training(tmp_path, 1)
    training.do_step(10)
    with monkeypatch.context() as patch:
        patch.setattr(EventStream, "backlog", lambda _: os.stat("/dev/null/nothing"))
        store.weather.next = lambda: "before"
        until(lambda: said, "a warning")
        assert mirror.missing() == ["the last answers of the store"]
        store.weather.next = lambda: ""
        until(lambda: steps_in_bucket(store.objects, "train") == [1], "the event")
    mirror.finish()
