"""The start of a mirror, with a store that fails in the middle of it."""

import itertools
from pathlib import Path

import pytest

from tests.support.memory_store import MemoryStore, Weather
from tests.support.mirrored_run import Clock, Training, a_mirror, steps_in_bucket, steps_on_disk
from trainer.core.run_dir import ATTEMPTS, BEST, best_names, checkpoint_name, log_key, newest_checkpoint
from trainer.output.stores.store import PIECES


def store_of_a_run(run_dir: Path, *, etags: bool) -> MemoryStore:
    """What a predecessor, which was killed, left."""
    store = MemoryStore(etags=etags)
    mirror = a_mirror(store, run_dir, Clock(), [])
    training = Training(run_dir, 1)
    for _ in range(6):
        training.do_step(10)
    training.save()
    (run_dir / ATTEMPTS).write_text('{"attempt": 1}\n')
    (run_dir / log_key(0, 2)).parent.mkdir(parents=True)
    (run_dir / log_key(0, 2)).write_text("the log of attempt 2\n")
    mirror.finish()
    store.create(f"{PIECES}left", b"in the middle of an upload")
    return store


def begin(objects: MemoryStore, run_dir: Path, *, failing: int, failure: str) -> int:
    """Takes the run over, while one request, from 1, fails; returns how many requests that took."""
    count = 0

    def weather() -> str:
        nonlocal count
        count += 1
        return failure if count == failing else ""

    store = MemoryStore(objects.objects, weather=Weather(weather), etags=objects.etags)
    clock = Clock()
    a_mirror(store, run_dir, clock, [])
    requests, waited = count, clock.now > 0
    assert waited == (failing in range(1, requests + 1))
    store.deliver()
    return requests


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("failure", ["before", "after", "late"])
def test_goes_on_where_the_store_failed(tmp_path: Path, failure: str, etags: bool) -> None:
    """Whichever request fails: the next try does what is left, and the run is brought back whole."""
    undisturbed = 0
    for failing in itertools.count():
        objects = store_of_a_run(tmp_path / f"first-{failing}", etags=etags)
        run_dir = tmp_path / f"second-{failing}"
        requests = begin(objects, run_dir, failing=failing, failure=failure)
        undisturbed = undisturbed or requests
        if failing > undisturbed:
            break
        # Only the step that failed is repeated, and none takes more requests than this.
        assert requests <= undisturbed + 5
        assert newest_checkpoint(run_dir) == "step-0000000006.npz"
        assert (run_dir / ATTEMPTS).read_text() == '{"attempt": 1}\n'
        steps = list(range(1, 7))
        assert steps_on_disk(run_dir / "train") == steps_in_bucket(objects.objects, "train") == steps
        assert not list(objects.keys(PIECES))
        a_mirror(objects, run_dir, Clock(), []).finish()
        assert steps_in_bucket(objects.objects, "train") == steps
    assert undisturbed > 15


def test_a_disk_with_an_older_state_gives_its_best_up_for_those_that_are_stored(tmp_path: Path) -> None:
    store, clock = MemoryStore(etags=True), Clock()

    def train(disk: str, attempt: int, *, best: int, stored: int) -> None:
        mirror = a_mirror(store, tmp_path / disk, clock, [])
        training = Training(tmp_path / disk, attempt)
        while training.step < best:
            training.do_step(10)
            training.save()
            if training.step == best:
                (tmp_path / disk / BEST).mkdir(exist_ok=True)
                (tmp_path / disk / BEST / checkpoint_name(best)).write_bytes(b"of attempt %d" % attempt)
            if training.step <= stored:
                mirror.copy_growing()
                mirror.copy_checkpoint()

    train("a", 1, best=2, stored=2)
    train("a", 2, best=5, stored=3)  # The fifth is not stored, and the disk is away for a while.
    train("b", 3, best=4, stored=4)
    a_mirror(store, tmp_path / "a", clock, [])
    names = [checkpoint_name(2), checkpoint_name(4)]
    assert best_names(tmp_path / "a") == best_names(tmp_path / "b") == names
    assert (tmp_path / "a" / BEST / names[1]).read_bytes() == b"of attempt 3"


def test_what_a_run_was_exported_as_comes_back_with_its_result(tmp_path: Path) -> None:
    store, clock = MemoryStore(etags=True), Clock()
    exported = {"export/model.tflite": b"lite", "export/saved_model/variables/variables.index": b"index"}
    mirror = a_mirror(store, tmp_path / "first", clock, [])
    for key, data in (exported | {"result.json": b"{}"}).items():
        (tmp_path / "first" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "first" / key).write_bytes(data)
    (tmp_path / "first" / "export" / ".part").write_bytes(b"nobody's")
    mirror.finish()
    assert {key: found.data for key, found in store.objects.items() if key.startswith("export/")} == exported
    store.create("export/saved_model/../../../stranger", b"leads elsewhere")
    a_mirror(store, tmp_path / "deep" / "second", clock, [])
    for key, data in exported.items():
        assert (tmp_path / "deep" / "second" / key).read_bytes() == data
    assert not list(tmp_path.rglob("stranger"))
