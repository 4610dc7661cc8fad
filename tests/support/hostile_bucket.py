"""What a bucket may hold that nobody's mirror wrote, and whether it leads anywhere outside of the run directory."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.support.memory_store import MemoryStore
from tests.support.mirrored_run import Clock, Training, a_mirror, point
from trainer.agent.records.attempt_history import AttemptHistory
from trainer.agent.status import Status
from trainer.core import protobuf, tfrecord
from trainer.core.exit_codes import TrainerError
from trainer.core.run_dir import ATTEMPTS, EVENT_FOLDERS, MANIFEST, RESULT
from trainer.output.mirror.marks import _MARK_TAG
from trainer.output.stores.store import Store, StoredObject

VICTIM = "a victim"


class Writes:
    """The paths that this process opens to write, makes, renames or removes, while it is watched."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is None:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, str) and (set(mode or "") & set("wax+") or (flags or 0) & 0o1103):
                self.paths.append(path)
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
            self.paths += [path for path in arguments if isinstance(path, str)]


WRITES = Writes()


@dataclasses.dataclass
class Place:
    """A run directory with neighbours that must stay as they are."""

    root: Path

    @property
    def run_dir(self) -> Path:
        return self.root / "work" / "runs" / "run"

    def neighbours(self) -> dict[str, bytes]:
        files = (path for path in self.root.rglob("*") if not path.is_relative_to(self.run_dir))
        return {str(path): path.read_bytes() for path in files if path.is_file()}


def made(root: Path) -> Place:
    place = Place(root)
    place.run_dir.mkdir(parents=True)
    for folder in (root, root / "work", root / "work" / "runs"):
        for name in ("keras.py", f"{VICTIM} tfevents", "step-0000000001.npz"):
            (folder / name).write_text("as it was")
    return place


def a_store(objects: dict[str, bytes], *, etags: bool = True) -> MemoryStore:
    stored = {key: StoredObject(data, str(number)) for number, (key, data) in enumerate(objects.items())}
    return MemoryStore(stored, etags=etags)


def taken_over(place: Place, objects: dict[str, bytes], *, etags: bool = True) -> TrainerError | None:
    """A successor's start and end on those objects; what it ended with, if not well."""
    return taken_over_from(place, a_store(objects, etags=etags))


def taken_over_from(place: Place, store: Store) -> TrainerError | None:
    """The same, on what is in a store."""
    error = None
    before, WRITES.paths = place.neighbours(), []
    try:
        mirror = a_mirror(store, place.run_dir, Clock(), [])
        AttemptHistory(place.run_dir, Status(worker=0, workers=1), lambda _: None).last_attempt()
        Training(place.run_dir, 99).do_step(10)
        mirror.finish()
    except TrainerError as ended:
        error = ended
    finally:
        written, WRITES.paths = WRITES.paths or [], None
    assert place.neighbours() == before
    outside = [path for path in written if not Path(path).resolve().is_relative_to(place.run_dir)]
    assert outside in ([], [str(place.run_dir.parent)]), outside
    assert str(error).isprintable()
    return error


def manifest(*names: Any, **changes: Any) -> bytes:
    entries = [{"file": name, "size": 5, "sha256": hashlib.sha256(b"bytes").hexdigest(), **changes} for name in names]
    return json.dumps({"format": 1, "owner": "o", "checkpoints": entries}).encode()


def mark(source: Any, offset: Any = 0, **more: Any) -> bytes:
    return raw_mark(json.dumps({"owner": "o", "source": source, "offset": offset, **more}).encode())


def raw_mark(text: bytes) -> bytes:
    return tfrecord.record(b"\x09" + bytes(8) + _MARK_TAG + protobuf.varint(len(text)) + text)


def segment(*marks: bytes) -> bytes:
    return b"".join(mark + tfrecord.record(point(step, 10)) for step, mark in enumerate(marks, 1))


GOOD = "events.out.tfevents.1700000000.host.1.0.v2"
FIRST = "train/events.out.tfevents.0000000000"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FOLDERS = (
    "",
    "..",
    ".",
    "/",
    "work",
    "runs",
    "run",
    "train",
    "keras.py",
    f"{VICTIM} tfevents",
    GOOD,
    "step-0000000001.npz",
)
NAMES = (
    st.sampled_from([GOOD, "tfevents", "step-0000000001.npz", "step-0000000002.npz", "", "/", "..", "\x00", "a\nb"])
    | st.lists(st.sampled_from(FOLDERS), min_size=1, max_size=6).map("/".join)
    | st.text(max_size=8).map(lambda text: f"{text}tfevents")
    | JSON
)
OFFSETS = st.sampled_from([0, 0, 0, 1, 45, -1, 2**60, 10**300, True, 0.5, None]) | JSON
CHECKSUMS = st.sampled_from([hashlib.sha256(b"bytes").hexdigest(), "0" * 64, "", 5])


@st.composite
def marks(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        return raw_mark(json.dumps(draw(JSON)).encode() if draw(st.booleans()) else draw(st.binary(max_size=20)))
    return mark(draw(NAMES), draw(OFFSETS))


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    entries = draw(
        st.lists(st.fixed_dictionaries({"file": NAMES, "size": OFFSETS, "sha256": CHECKSUMS}) | JSON, max_size=3)
    )
    return json.dumps({"format": draw(st.sampled_from([1, 1, 1, 2, True, None])), "checkpoints": entries}).encode()


SEGMENTS = st.lists(marks(), min_size=1, max_size=4).map(lambda all_of_them: segment(*all_of_them))
LINES = st.lists(st.fixed_dictionaries({"attempt": OFFSETS}) | JSON, max_size=4).map(
    lambda lines: "".join(json.dumps(line) + "\n" for line in lines).encode()
)


@st.composite
def buckets(draw: st.DrawFn) -> dict[str, bytes]:
    objects = draw(
        st.fixed_dictionaries(
            {},
            optional={
                MANIFEST: manifests() | st.binary(max_size=50),
                **{
                    f"{folder}/events.out.tfevents.{number:010d}": SEGMENTS
                    for folder in EVENT_FOLDERS
                    for number in (0, 1)
                },
                ATTEMPTS: LINES | st.binary(max_size=50),
                RESULT: JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50),
                "model.keras": st.binary(max_size=50),
                ".pieces/../../keras.py": st.binary(max_size=5),
            },
        )
    )
    for name in draw(st.lists(NAMES.map(str), max_size=4)):
        objects[draw(st.sampled_from(["checkpoints/", "train/", "workers/0/", "workers/", ""])) + name] = b"bytes"
    return objects
