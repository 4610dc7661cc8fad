"""Outputs that 0.1.0 wrote are taken over and read; an output of a newer format is named as such."""

import json
from pathlib import Path

import pytest

from tests.support.event_reader import scalars
from tests.support.memory_store import MemoryStore
from tests.support.mirrored_run import Clock, Training, a_mirror
from trainer.core import format_versions
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import MANIFEST, checkpoint_names
from trainer.output import reader
from trainer.output.mirror.mirror import Mirror
from trainer.output.mirror.mirror_manifest import MirrorManifest

SAMPLES = Path(__file__).parent / "written_by_0_1_0"


def sample(name: str) -> MemoryStore:
    """A store that holds what 0.1.0 wrote."""
    store = MemoryStore(etags=True)
    for path in (SAMPLES / name).rglob("*"):
        if path.is_file():
            store.create(path.relative_to(SAMPLES / name).as_posix(), path.read_bytes())
    return store


def as_files(store: MemoryStore, folder: Path) -> Path:
    for key, stored in store.objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored.data)
    return folder


def test_a_run_that_0_1_0_left_is_brought_back_whole(tmp_path: Path) -> None:
    store, said = sample("unfinished"), list[str]()
    mirror = Mirror(store, tmp_path, worker=0, interval=5.0, final_timeout=300.0, say=said.append, threads=False)
    assert mirror.begin() == 2
    assert said == [f"step-0000000040.npz and what led to it were fetched from {store.url}"]
    assert checkpoint_names(tmp_path) == ["step-0000000040.npz"]
    for key in ("checkpoints/step-0000000040.npz", "attempts.jsonl"):
        assert (tmp_path / key).read_bytes() == (SAMPLES / "unfinished" / key).read_bytes()
    curves = scalars(tmp_path)
    assert [epoch for epoch, _ in curves["train", "epoch_loss"]] == [0, 1, 2, 3]
    assert curves == scalars(SAMPLES / "unfinished")


def test_a_run_that_0_1_0_left_goes_on(tmp_path: Path) -> None:
    store = sample("unfinished")
    mirror = a_mirror(store, tmp_path / "disk", Clock(), [])
    before = scalars(SAMPLES / "unfinished")
    training = Training(tmp_path / "disk", 3)
    training.step = 40
    for _ in range(20):
        training.do_step(10)
    training.save()
    mirror.finish()
    after = scalars(as_files(store, tmp_path / "bucket"))
    assert {curve: after[curve] for curve in before} == before
    manifest = json.loads(store.objects[MANIFEST].data)
    assert manifest[format_versions.KEY] == format_versions.MANIFEST
    assert [entry["file"] for entry in manifest["checkpoints"]] == ["step-0000000040.npz", "step-0000000060.npz"]
    assert "checkpoints/step-0000000030.npz" not in store.objects


def test_a_run_that_0_1_0_finished_has_its_result(tmp_path: Path) -> None:
    store = sample("finished")
    a_mirror(store, tmp_path, Clock(), []).finish()
    for key in ("model.keras", "result.json"):
        assert (tmp_path / key).read_bytes() == (SAMPLES / "finished" / key).read_bytes()
    assert [epoch for epoch, _ in scalars(tmp_path)["validation", "epoch_loss"]] == [0, 1, 2, 3, 4, 5]


def test_the_reader_reads_what_0_1_0_wrote() -> None:
    unfinished, finished = sample("unfinished"), sample("finished")
    assert reader.result(unfinished) is None
    assert reader.result(finished) == json.loads((SAMPLES / "finished" / "result.json").read_text())
    assert [line["attempt"] for line in reader.attempts(unfinished)] == [1]
    assert [(line["attempt"], line["ended"]) for line in reader.attempts(finished)] == [(1, "crash"), (3, "done")]
    logs = dict(reader.logs(finished, 0))
    assert sorted(logs) == [1, 2, 3]
    for attempt, text in logs.items():
        assert b"agent 0: attempt %d begins" % attempt in text


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (
            format_versions.MANIFEST + 1,
            r"mirror.json is of format 2, .* reads up to 1: a newer version wrote it; use that one",
        ),
        ("two", r"mirror.json says that its format is 'two', expected a whole number from 1: it is damaged"),
    ],
)
def test_a_manifest_of_another_format_is_named_as_such(version: object, message: str) -> None:
    store = MemoryStore(etags=True)
    store.create(MANIFEST, json.dumps({format_versions.KEY: version, "owner": "another", "files": []}).encode())
    before = dict(store.objects)
    with pytest.raises(DataError, match=message):
        MirrorManifest(store, "this").take_over()
    assert store.objects == before


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"checkpoints": 5}', b'{"checkpoints": [{"file": "x"}]}'])
def test_what_is_no_manifest_is_named_as_such(content: bytes) -> None:
    store = MemoryStore(etags=True)
    store.create(MANIFEST, content)
    with pytest.raises(DataError, match=r"mirror.json is not what a mirror writes; the output must be the folder of"):
        MirrorManifest(store, "this").take_over()
