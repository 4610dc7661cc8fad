"""Whatever lies in the bucket, it is data: nothing outside of the run directory is written, nothing is a traceback.

Whoever can write the bucket can make a run fail or lose it. They cannot reach the machine that reads it.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile_bucket import (
    FIRST,
    GOOD,
    VICTIM,
    Place,
    a_store,
    buckets,
    made,
    manifest,
    mark,
    raw_mark,
    segment,
    taken_over,
)
from tests.support.mirrored_run import Clock, Training, a_mirror, point
from trainer.agent.records.attempt_history import AttemptHistory
from trainer.agent.status import Status
from trainer.core import tfrecord
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import ATTEMPTS, EVENT_FOLDERS, MANIFEST, highest_attempt
from trainer.output import reader
from trainer.output.mirror.marks import _MARK_TAG


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return made(tmp_path)


def test_what_a_mirror_writes_is_taken(place: Place) -> None:
    objects = {
        MANIFEST: manifest("step-0000000007.npz"),
        "checkpoints/step-0000000007.npz": b"bytes",
        FIRST: segment(mark(GOOD), mark(GOOD, len(tfrecord.record(point(1, 10))))),
    }
    assert taken_over(place, objects) is None
    assert (place.run_dir / "checkpoints" / "step-0000000007.npz").read_bytes() == b"bytes"
    assert (place.run_dir / "train" / GOOD).exists()


@pytest.mark.parametrize(
    "name",
    [
        "../../../keras.py", "/etc/keras.py", "..", ".", "", "a/step-0000000001.npz", "step-1.npz", "step-backup.npz",
        "step-٣٣٣٣٣٣٣٣٣٣.npz", "step-0000000001.npz\n", "step-0000000001.npz\x00", 5, None, [], {}, True,
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_name_is_refused(place: Place, name: Any) -> None:
    objects = {MANIFEST: manifest(name), f"checkpoints/{name}": b"bytes", "../keras.py": b"bytes"}
    error = taken_over(place, objects)
    assert isinstance(error, DataError)
    assert "memory://bucket/run/mirror.json is not what a mirror writes" in str(error)


@pytest.mark.parametrize(
    "data",
    [b"5", b"[]", b"null", b"{", b"\xff", b"[" * 50_000, b'{"checkpoints": 5}', b'{"checkpoints": {"a": 1}}', b"{}"]
    + [b'{"checkpoints": [5]}', b'{"checkpoints": ["step-0000000001.npz"]}', b'{"checkpoints": [], "format": true}']
    + [
        manifest("step-0000000001.npz", **changes)
        for changes in ({"size": "5"}, {"size": -1}, {"sha256": 5}, {"sha256": "x"})
    ],
    ids=repr,
)
def test_a_manifest_of_another_form_is_refused(place: Place, data: bytes) -> None:
    error = taken_over(place, {MANIFEST: data})
    assert isinstance(error, DataError)
    assert "memory://bucket/run/mirror.json" in str(error)


@pytest.mark.parametrize(
    "event",
    [
        mark("../../keras.py"), mark(f"../{VICTIM} tfevents"), mark("../../../../tmp/tfevents"), mark("/tmp/tfevents"),
        mark("tfevents/../../x"), mark(".tfevents"), mark("tfevents\n"), mark("tfevents\x00"), mark("tfevents" * 40),
        mark("result.json"), mark(5), mark(None), mark(GOOD, -1), mark(GOOD, 0.5), mark(GOOD, True), mark(GOOD, 10**30),
        mark(GOOD, 5), mark("", 5), mark(GOOD, owner=5), raw_mark(b"[1,2]"), raw_mark(b"{}"), raw_mark(b"{"),
        raw_mark(b""), raw_mark(b"\xff"), tfrecord.record(b"\x09" + bytes(8) + _MARK_TAG + b"\xff\xff"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", EVENT_FOLDERS)
@pytest.mark.parametrize("last", [True, False])
def test_a_mark_of_another_form_is_refused(place: Place, folder: str, event: bytes, last: bool) -> None:
    """Also where it is not the last one, which the copying goes on from."""
    rest = segment(mark(GOOD)) if not last else b""
    error = taken_over(place, {f"{folder}/events.out.tfevents.0000000000": segment(event) + rest})
    assert isinstance(error, DataError)
    assert f"memory://bucket/run/{folder}/events.out.tfevents.*" in str(error)


@pytest.mark.parametrize(
    "line",
    [
        b"5", b"{}", b"[]", b'{"attempt": "1"}', b'{"attempt": 1e999}', b'{"attempt": true}', b"[" * 50_000, b"\xff",
        b'{"attempt": 1' + b"0" * 300 + b"}", b'{"attempt": 1' + b"0" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_line_that_is_no_attempts_is_passed_over(place: Place, line: bytes) -> None:
    assert taken_over(place, {ATTEMPTS: line + b'\n{"attempt": 3}\n'}) is None
    assert AttemptHistory(place.run_dir, Status(worker=0, workers=1), lambda _: None).last_attempt() == 3


@pytest.mark.parametrize(
    "key",
    [
        f"workers/0/attempt-{'9' * 5000}.log", f"workers/{'1' * 5000}/attempt-1.log", "workers/../../attempt-1.log",
        "workers/٣/attempt-٣.log", "workers/0/attempt-1.log.x",
    ],
)  # fmt: skip
def test_a_log_of_another_name_is_passed_over(place: Place, key: str) -> None:
    objects = {key: b"line\n", "workers/1/attempt-4.log": b"line\n", "workers/1/attempt-9999999999.log": b"line\n"}
    assert taken_over(place, objects) is None
    assert highest_attempt(objects) == 4
    assert list(reader.logs(a_store(objects), 0)) == []


def test_what_is_not_the_runs_own_is_left_alone(place: Place) -> None:
    """Objects of others in its folders: neither counted, nor deleted, nor a reason to end."""
    foreign = {
        "checkpoints/a-note.txt": b"", "checkpoints/step-backup.npz": b"", "train/events.out.tfevents.backup": b"",
        ".pieces/../keras.py": b"", "validation/notes": b"",
    }  # fmt: skip
    objects = {MANIFEST: manifest("step-0000000007.npz"), "checkpoints/step-0000000007.npz": b"bytes", **foreign}
    store, clock = a_store(objects), Clock()
    mirror = a_mirror(store, place.run_dir, clock, [])
    training = Training(place.run_dir, 1)
    for _ in range(3):
        training.do_step(10)
        training.save()
    mirror.finish()
    assert foreign.keys() <= store.objects.keys()
    assert clock.now < 60


# -- Whatever the content ----------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(objects=buckets(), etags=st.booleans(), begun_before=st.booleans())
def test_whatever_is_in_the_bucket(objects: dict[str, bytes], etags: bool, begun_before: bool) -> None:
    root = Path(tempfile.mkdtemp(dir="/dev/shm")).resolve()
    try:
        place = made(root)
        if begun_before:
            Training(place.run_dir, 1).do_step(10)
        taken_over(place, objects, etags=etags)
        store = a_store(objects)
        for read in (reader.result, reader.attempts, lambda store: list(reader.logs(store, 0))):
            with contextlib.suppress(DataError):
                read(store)
    finally:
        shutil.rmtree(root)
