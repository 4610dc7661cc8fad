"""What tests of the mirror share: a program that writes as training does, a clock that they move, readers of events."""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from trainer.core import tfrecord
from trainer.core.run_dir import BEST, EVENT_FOLDERS, checkpoint_name, newest_step
from trainer.output.mirror.marks import Mark
from trainer.output.mirror.mirror import Mirror
from trainer.output.stores.store import Store, StoredObject

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

    def __init__(self, run_dir: Path, attempt: int, *, epoch: int = 0) -> None:
        """With `epoch` steps an epoch, each ends with a checkpoint, and the best epochs are kept."""
        self.run_dir, self.attempt, self.epoch = run_dir, attempt, epoch
        self.step = newest_step(run_dir)
        self.written = {folder: max(steps_on_disk(run_dir / folder), default=0) for folder in EVENT_FOLDERS}
        name = f"events.out.tfevents.{1700000000 + attempt}.host.1.0.v2"
        self.files = {folder: run_dir / folder / name for folder in EVENT_FOLDERS}
        for folder, path in self.files.items():
            (run_dir / folder).mkdir(parents=True, exist_ok=True)
            path.write_bytes(tfrecord.record(Event(file_version="brain.Event:2").SerializeToString()))

    def do_step(self, size: int) -> None:
        self.step += 1
        for folder in EVENT_FOLDERS if self.step % 3 == 0 else EVENT_FOLDERS[:1]:
            if self.step > self.written[folder]:
                self._append(folder, tfrecord.record(point(self.step, size)))
        if self.epoch and self.step % self.epoch == 0:
            self.save()

    def tear(self, share: float) -> None:
        """Killed in the middle of a write."""
        if self.step >= self.written["train"]:
            whole = tfrecord.record(point(self.step + 1, 50))
            self._append("train", whole[: int(len(whole) * share)])

    def save(self) -> None:
        folder, best_folder = self.run_dir / "checkpoints", self.run_dir / BEST
        folder.mkdir(exist_ok=True)
        # A step that is done again makes another file, as in real training; and some files are large.
        text = b"weights of %d, by %d%s" % (self.step, self.attempt, b" " * 20 * (self.step % 2))
        name, best = checkpoint_name(self.step), [checkpoint_name(step) for step in best_steps(self.step, self.epoch)]
        if name in best:
            best_folder.mkdir(exist_ok=True)
            (best_folder / name).write_bytes(text)
        (folder / name).write_bytes(text)
        for path in sorted(folder.glob("step-*.npz"))[:-KEEP]:
            path.unlink()
        if self.epoch and self.step % self.epoch == 0:
            for path in best_folder.glob("step-*.npz"):
                if path.name not in best:
                    path.unlink()

    def _append(self, folder: str, data: bytes) -> None:
        with self.files[folder].open("ab") as file:
            file.write(data)


def best_steps(step: int, epoch: int) -> list[int]:
    """The steps with the best epochs' ends up to a step, in an order that has nothing to do with when they came."""
    ends = range(epoch, step + 1, epoch) if epoch else ()
    return sorted(sorted(ends, key=lambda end: end * 7919 % 101)[:KEEP])


def point(step: int, size: int) -> bytes:
    value = Summary.Value(tag="loss", simple_value=float(step), node_name="x" * size)
    return bytes(Event(wall_time=float(step), step=step, summary=Summary(value=[value])).SerializeToString())


def steps_in(data: bytes) -> list[int]:
    events = [tfrecord.data_of(record) for record in tfrecord.whole_records(data)]
    steps = [Event.FromString(event).step for event in events if Mark.parse(event) is None]
    return [step for step in steps if step]


def steps_on_disk(folder: Path) -> list[int]:
    files = sorted(folder.glob("*tfevents*"), key=lambda path: path.stat().st_mtime_ns)
    return [step for path in files for step in steps_in(path.read_bytes())]


def steps_in_bucket(objects: dict[str, StoredObject], folder: str) -> list[int]:
    keys = sorted(key for key in objects if key.startswith(f"{folder}/"))
    return [step for key in keys for step in steps_in(objects[key].data)]


def a_mirror(store: Store, run_dir: Path, clock: Clock, said: list[str]) -> Mirror:
    """A chief's mirror that has begun, without threads: the test calls what copies."""
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
