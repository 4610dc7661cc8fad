"""The list of a sweep's trials: kept, read again, refused where it is damaged, and written by one launcher alone."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.memory_store import MemoryStore, Weather
from trainer.core.exit_codes import DataError
from trainer.launch.codes import LaunchError
from trainer.launch.runs import trials
from trainer.launch.runs.trials import DONE, FAILED, Sweep, Trial
from trainer.launch.sweep.book import Book, FileBook, StoreBook


def a_sweep() -> Sweep:
    done = Trial(1, {"seed": "1"}, DONE, runs=["s-1"], epochs=2, metrics={"val_loss": 0.5}, exit_code=0, seconds=3.0)
    lost = Trial(2, {"seed": "2"}, FAILED, job="s-2-1a2b3c4d", exit_code=-9, reason="error: no data")
    return Sweep("s", {"seed": ("1", "2")}, 0, False, ("--epochs=2",), [done, lost], "val_loss")


@pytest.fixture(params=["file", "store"])
def books(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Callable[[], Book]]:
    """Makes a launcher's book; all are of one list."""
    file = request.param == "file"
    objects: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:

        def made() -> Book:
            book = FileBook(tmp_path, "s") if file else StoreBook(MemoryStore(objects, etags=True), "s")
            return stack.enter_context(contextlib.closing(book))

        yield made


def test_what_was_kept_is_read_again(books: Callable[[], Book]) -> None:
    book = books()
    assert book.open() is None
    assert book.save(a_sweep()) == ""
    changed = a_sweep()
    changed.trials[1].state = DONE
    assert book.save(changed) == ""
    book.close()
    assert books().open() == changed


def test_a_second_launcher_is_told_of_the_first(books: Callable[[], Book]) -> None:
    first = books()
    first.open()
    first.save(a_sweep())
    second = books()
    changed = a_sweep()
    changed.trials[1].state = DONE

    def both_write() -> None:
        if second.open():  # A file can be locked; in a store it is who writes first.
            second.save(changed)
            changed.trials[0].state = FAILED
            first.save(changed)

    with pytest.raises(LaunchError, match="another launcher"):
        both_write()


def test_a_bucket_that_is_away_costs_no_change() -> None:
    weather = Weather()
    store = MemoryStore(etags=True, weather=weather)
    book = StoreBook(store, "s")
    assert book.open() is None
    for lost in ("before", "after"):
        weather.next = lambda lost=lost: lost  # type: ignore[misc]
        changed = a_sweep()
        changed.trials[0].seconds = len(lost)
        assert "cannot be written" in book.save(changed)
        weather.next = lambda: ""
        changed.trials[0].seconds += 100
        assert book.save(changed) == ""
        assert trials.read(store, "s") == changed


def test_a_disk_that_takes_nothing_is_said(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(FileBook(tmp_path / "s", "s")) as book:
        book.open()
        (tmp_path / "s" / "s.sweep.json").mkdir()
        assert "s.sweep.json cannot be written: Is a directory" in book.save(a_sweep())


@pytest.mark.parametrize(
    "change",
    [
        {"trials": {}},
        {"trials": [{}]},
        {"grid": []},
        {"format": "one"},
        {"name": 3},
        {"trials": [{**json.loads(a_sweep().to_json())["trials"][0], "state": "\x1b[2J"}]},
        {"trials": [{**json.loads(a_sweep().to_json())["trials"][0], "runs": ["../../etc"]}]},
        {"trials": [{**json.loads(a_sweep().to_json())["trials"][0], "number": 10**30}]},
    ],
)
def test_what_is_no_list_of_trials(change: dict[str, Any]) -> None:
    data = json.dumps({**json.loads(a_sweep().to_json()), **change}).encode()
    with pytest.raises(DataError) as refused:
        Sweep.from_json(data, "s3://b/s.sweep.json")
    assert str(refused.value).startswith("s3://b/s.sweep.json ")
    assert str(refused.value).isprintable()


def test_one_of_a_newer_version_is_named_as_such() -> None:
    data = json.dumps({**json.loads(a_sweep().to_json()), "format": 9}).encode()
    with pytest.raises(DataError, match="is of format 9"):
        Sweep.from_json(data, "s3://b/s.sweep.json")


def test_the_flags_of_trials_are_known_by_their_runs() -> None:
    store = MemoryStore(etags=True)
    store.create("s.sweep.json", a_sweep().to_json())
    store.create("torn.sweep.json", b"{")
    names = ["s-1", "s-2-1a2b3c4d-01234567", "other-1a2b3c4d-01234567"]
    assert trials.flags_of_trials(store, names) == {"s-1": {"seed": "1"}, names[1]: {"seed": "2"}}
