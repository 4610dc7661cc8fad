"""Whatever is killed, fails or restarts, and when: what is read back is what was written, in order, once."""

import hashlib
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.memory_store import MemoryStore, Weather
from tests.support.mirrored_run import Clock, Training, best_steps, steps_in_bucket, steps_on_disk
from trainer.core.run_dir import (
    EVENT_FOLDERS,
    MANIFEST,
    best_names,
    checkpoint_step,
    newest_checkpoint,
    newest_step,
)
from trainer.output.mirror.mirror import Mirror
from trainer.output.mirror.mirror_manifest import MirrorManifest
from trainer.output.owned_object import SupersededError
from trainer.output.stores.errors import StorageError
from trainer.output.stores.store import PIECES, StoredObject

EPOCH = 3  # Steps.

Zombie = tuple[Mirror, MemoryStore, Training]


class Run(RuleBasedStateMachine):
    """One run, its bucket, the agents that believe to be its chief, and bad weather."""

    @initialize(etags=st.booleans(), seed=st.integers(0, 2**32))
    def start(self, etags: bool, seed: int) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.etags, self.random = etags, random.Random(seed)
        self.failing = 0.0
        self.root = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.disks = self.attempt = self.reached = 0
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
        self.failing = min(before, 0.3)  # It has to succeed at some time.
        self.whole = False
        self.mirror.begin()
        self.whole, self.failing = True, before
        self.new_attempt()

    def new_attempt(self) -> None:
        self.attempt += 1
        self.training = Training(self.run_dir, self.attempt, epoch=EPOCH)
        self.check_best()

    def check_best(self) -> None:
        """A run that goes on has the best epochs up to its step, but for those that later ones have beaten already."""
        step = newest_step(self.run_dir)
        lacking = set(best_steps(step, EPOCH)) - {checkpoint_step(name) for name in best_names(self.run_dir)}
        assert all(
            any(end not in best_steps(later, EPOCH) for later in range(step, self.reached + 1)) for end in lacking
        )

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
        self.reached = max(self.reached, self.training.step)

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
            self.mirror.copy_checkpoint()
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
        self.reached = max(self.reached, training.step)
        store.deliver()
        told = False
        for act in (mirror.copy_growing, mirror.copy_checkpoint):  # Threads of their own, so both act.
            try:
                act()
            except SupersededError:
                told = True
            except StorageError:
                assert self.failing > 0
        return told

    def of_the_run(self) -> dict[str, bytes]:
        """The objects that count: what else there is was left by somebody and is in nobody's way."""
        named = self.named()
        return {
            key: found.data
            for key, found in self.objects.items()
            if key in named or not key.startswith(("checkpoints/", "best/", PIECES))
        }

    def named(self) -> set[str]:
        manifest = self.manifest()
        stored = {f"checkpoints/{stored.file}" for stored in manifest.checkpoints}
        return stored | {f"best/{stored.file}" for stored in manifest.best}

    def manifest(self) -> MirrorManifest:
        manifest = MirrorManifest(MemoryStore(dict(self.objects), etags=self.etags), "reader")
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
        if MANIFEST in self.objects:
            manifest = self.manifest()
            folders = [("checkpoints", one) for one in manifest.checkpoints] + [("best", one) for one in manifest.best]
            for folder, stored in folders:
                step = int(stored.file.removeprefix("step-").removesuffix(".npz"))
                data = self.objects[f"{folder}/{stored.file}"].data
                assert data.startswith(b"weights of %d," % step)
                assert hashlib.sha256(data).hexdigest() == stored.sha256
                assert step <= len(steps)

    def steps_anywhere(self, folder: str) -> list[int]:
        return steps_on_disk(self.run_dir / folder) + steps_in_bucket(self.objects, folder)

    def check_all(self) -> None:
        """In good weather everything arrives, and TensorBoard's own reader sees it."""
        self.failing = 0.0
        # Any folder's: of what a pod that was thought dead wrote last, one may have been stored and another not.
        last = max((step for folder in EVENT_FOLDERS for step in self.steps_anywhere(folder)), default=0)
        while self.training.step < last:
            self.training.do_step(10)
        self.training.save()
        self.reached = max(self.reached, self.training.step)
        self.check_best()
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
        named = self.named()
        assert newest in named
        assert {key for key in self.objects if key.startswith("checkpoints/") and key <= newest} == {
            key for key in named if key.startswith("checkpoints/")
        }
        kept = {key for key in named if key.startswith("best/")}
        assert kept == {f"best/{name}" for name in best_names(self.run_dir)}
        newest = newest.replace("checkpoints/", "best/")
        assert not kept or {key for key in self.objects if key.startswith("best/") and key < newest} <= kept


SCHEDULES = settings(
    stateful_step_count=40,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.mark.thorough
def test_a_run_with_any_schedule() -> None:
    """The same schedules every time: what a change breaks, it breaks here and not in somebody else's change."""
    run_state_machine_as_test(Run, settings=settings(SCHEDULES, max_examples=150, derandomize=True))


@pytest.mark.soak
def test_a_run_with_many_schedules_at_random() -> None:
    run_state_machine_as_test(Run, settings=settings(SCHEDULES, max_examples=5000))
