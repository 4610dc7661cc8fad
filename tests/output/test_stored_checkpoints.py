"""Checkpoints and final files in a store: damaged, left behind, or written by two mirrors."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.support.memory_store import WHOLE_BYTES, MemoryStore
from trainer.core.exit_codes import DataError
from trainer.output.mirror.mirror_manifest import MirrorManifest
from trainer.output.mirror.stored_checkpoints import fetch_best, fetch_checkpoint, put_checkpoint
from trainer.output.mirror.whole_files import put_and_read_back
from trainer.output.owned_object import SupersededError
from trainer.output.stores.errors import ConflictError, UnreachableError
from trainer.output.stores.store import StoredObject

ONE, TWO, THREE = (f"step-000000000{step}.npz" for step in (1, 2, 3))


def a_manifest(store: MemoryStore, owner: str) -> MirrorManifest:
    manifest = MirrorManifest(store, owner)
    manifest.take_over()
    return manifest


def save(run_dir: Path, name: str, content: bytes) -> None:
    (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run_dir / "checkpoints" / name).write_bytes(content)


def in_store(store: MemoryStore) -> dict[str, bytes]:
    return {
        key.removeprefix("checkpoints/"): found.data
        for key, found in store.objects.items()
        if key.startswith("checkpoints/")
    }


def all_whole(store: MemoryStore, manifest: MirrorManifest) -> bool:
    data = in_store(store)
    return all(hashlib.sha256(data[stored.file]).hexdigest() == stored.sha256 for stored in manifest.checkpoints)


def test_a_damaged_checkpoint_is_stored_anew_when_its_step_comes_again(tmp_path: Path) -> None:
    store = MemoryStore(etags=True)
    manifest = a_manifest(store, "first")
    for name in (ONE, TWO):
        save(tmp_path / "first", name, b"first " + name.encode())
        put_checkpoint(store, manifest, tmp_path / "first", name)
    store.objects[f"checkpoints/{TWO}"] = StoredObject(b"damaged", "damaged")

    manifest = a_manifest(store, "second")
    assert fetch_checkpoint(store, manifest, tmp_path / "second") == ONE
    assert [stored.file for stored in manifest.checkpoints] == [ONE]
    assert list(in_store(store)) == [ONE]
    save(tmp_path / "second", TWO, b"second")
    put_checkpoint(store, manifest, tmp_path / "second", TWO)
    assert in_store(store)[TWO] == b"second"
    assert fetch_checkpoint(store, a_manifest(store, "third"), tmp_path / "third") == TWO


def test_the_last_checkpoint_stays_named_though_damaged(tmp_path: Path) -> None:
    """Or else the next start would begin at step 0."""
    store = MemoryStore(etags=True)
    save(tmp_path, ONE, b"one")
    put_checkpoint(store, a_manifest(store, "first"), tmp_path, ONE)
    del store.objects[f"checkpoints/{ONE}"]
    for owner in ("second", "third"):
        with pytest.raises(DataError, match=f"none of the checkpoints that it should, whole: {ONE}"):
            fetch_checkpoint(store, a_manifest(store, owner), tmp_path / owner)


@pytest.mark.parametrize("size", [1, WHOLE_BYTES + 1])
@pytest.mark.parametrize("etags", [True, False])
def test_one_that_is_there_and_not_named_is_replaced(tmp_path: Path, size: int, etags: bool) -> None:
    """Somebody who was superseded left it; it may be damaged."""
    store = MemoryStore(etags=etags)
    store.create(f"checkpoints/{ONE}", b"left")
    manifest = a_manifest(store, "first")
    save(tmp_path, ONE, b"x" * size)
    put_checkpoint(store, manifest, tmp_path, ONE)
    assert in_store(store) == {ONE: b"x" * size}
    assert all_whole(store, manifest)


@pytest.mark.parametrize(
    ("etags", "size", "left"),
    [
        (True, 1, False),
        (True, 1, True),
        (True, WHOLE_BYTES + 1, False),  # To replace what is large, S3 knows no condition.
        (False, WHOLE_BYTES + 1, False),
        (False, WHOLE_BYTES + 1, True),
    ],
)
def test_who_was_superseded_never_replaces_a_checkpoint(tmp_path: Path, etags: bool, size: int, left: bool) -> None:
    """Whatever the request before which the successor stores the same step."""
    told = 0
    for moment in range(20):
        store = MemoryStore(etags=etags)
        if left:
            store.create(f"checkpoints/{ONE}", b"left")
        old = a_manifest(store, "old")
        save(tmp_path / "old", ONE, b"o" * size)
        save(tmp_path / "new", ONE, b"n" * size)
        requests = 0
        successor = MemoryStore(store.objects, etags=etags)
        new = MirrorManifest(successor, "new")

        def succeed() -> str:
            nonlocal requests
            requests += 1
            if requests == moment + 1:  # noqa: B023
                new.take_over()  # noqa: B023
                put_checkpoint(successor, new, tmp_path / "new", ONE)  # noqa: B023
            return ""

        store.weather.next = succeed
        try:
            put_checkpoint(store, old, tmp_path / "old", ONE)
        except (SupersededError, ConflictError):
            told += 1
        if new.checkpoints:
            assert all_whole(store, new)
    assert told >= 3


def test_old_ones_are_removed_though_the_store_failed_in_between(tmp_path: Path) -> None:
    store = MemoryStore(etags=True)
    manifest = a_manifest(store, "owner")
    for name in (ONE, TWO):
        save(tmp_path, name, b"x")
        put_checkpoint(store, manifest, tmp_path, name)
    save(tmp_path, THREE, b"x")
    (tmp_path / "checkpoints" / ONE).unlink()
    store.weather.next = lambda: (
        "before" if len(manifest.checkpoints) == 2 and manifest.checkpoints[-1].file == THREE else ""
    )
    with pytest.raises(UnreachableError):
        put_checkpoint(store, manifest, tmp_path, THREE)
    assert list(in_store(store)) == [ONE, TWO, THREE]
    store.weather.next = lambda: ""
    put_checkpoint(store, manifest, tmp_path, THREE)
    assert list(in_store(store)) == [TWO, THREE]


def test_a_result_is_never_replaced_by_who_was_superseded(tmp_path: Path) -> None:
    """Though it was still the owner when it last asked."""
    store = MemoryStore(etags=True)
    store.create("result.json", b"of an agent that did not come to its end")
    old = a_manifest(store, "old")
    for owner in ("old", "new"):
        (tmp_path / owner).mkdir()
        (tmp_path / owner / "result.json").write_text(owner)
    check = old.check_owner

    def check_and_pause() -> None:
        check()
        put_and_read_back(store, a_manifest(store, "new"), tmp_path / "new", "result.json")

    old.check_owner = check_and_pause  # type: ignore[method-assign]
    with pytest.raises(ConflictError):
        put_and_read_back(store, old, tmp_path / "old", "result.json")
    old.check_owner = check  # type: ignore[method-assign]
    with pytest.raises(SupersededError):
        put_and_read_back(store, old, tmp_path / "old", "result.json")
    assert store.objects["result.json"].data == b"new"


def save_best(run_dir: Path, name: str, content: bytes) -> None:
    (run_dir / "best").mkdir(parents=True, exist_ok=True)
    (run_dir / "best" / name).write_bytes(content)
    save(run_dir, name, content)


def best_in_store(store: MemoryStore) -> dict[str, bytes]:
    return {key.removeprefix("best/"): found.data for key, found in store.objects.items() if key.startswith("best/")}


def test_the_best_are_stored_before_what_follows_them_and_come_back(tmp_path: Path) -> None:
    store = MemoryStore(etags=True)
    manifest = a_manifest(store, "first")
    save_best(tmp_path / "first", ONE, b"best")
    save(tmp_path / "first", TWO, b"two")  # Saved before the mirror had a look at the first.
    save_best(tmp_path / "first", THREE, b"not whose turn it is")
    put_checkpoint(store, manifest, tmp_path / "first", TWO)
    assert best_in_store(store) == {ONE: b"best"}
    assert list(in_store(store)) == [TWO]

    manifest = a_manifest(store, "second")
    assert [stored.file for stored in manifest.best] == [ONE]
    assert fetch_best(store, manifest, tmp_path / "second") == []
    assert fetch_checkpoint(store, manifest, tmp_path / "second") == TWO
    assert (tmp_path / "second" / "best" / ONE).read_bytes() == b"best"


def test_what_is_no_longer_among_the_best_leaves_the_store(tmp_path: Path) -> None:
    store = MemoryStore(etags=True)
    manifest = a_manifest(store, "first")
    save_best(tmp_path, ONE, b"one")
    put_checkpoint(store, manifest, tmp_path, ONE)
    save_best(tmp_path, TWO, b"two")
    (tmp_path / "best" / ONE).unlink()
    store.create("best/notes.txt", b"somebody else's")
    put_checkpoint(store, manifest, tmp_path, TWO)
    assert best_in_store(store) == {"notes.txt": b"somebody else's", TWO: b"two"}
    assert [stored.file for stored in manifest.best] == [TWO]
    save(tmp_path, THREE, b"three")
    put_checkpoint(store, manifest, tmp_path, THREE)  # The best stays as it is.
    assert [stored.file for stored in a_manifest(store, "second").best] == [TWO]


def test_a_damaged_best_is_given_up(tmp_path: Path) -> None:
    store = MemoryStore(etags=True)
    for name in (ONE, TWO):
        save_best(tmp_path / "first", name, b"best " + name.encode())
        put_checkpoint(store, a_manifest(store, name), tmp_path / "first", name)
    store.objects[f"best/{ONE}"] = StoredObject(b"damaged", "damaged")
    manifest = a_manifest(store, "second")
    assert fetch_best(store, manifest, tmp_path / "second") == [ONE]
    assert [path.name for path in (tmp_path / "second" / "best").iterdir()] == [TWO]
    assert [stored.file for stored in a_manifest(store, "third").best] == [TWO]


@pytest.mark.parametrize("best", [{"file": "x"}, [{"file": "../../x", "size": 1, "sha256": "0" * 64}]])
def test_what_a_manifest_may_call_best(best: object) -> None:
    store = MemoryStore(etags=True)
    store.create("mirror.json", json.dumps({"format": 1, "owner": "x", "checkpoints": [], "best": best}).encode())
    with pytest.raises(DataError, match=r"is not what a mirror writes"):
        a_manifest(store, "second")
