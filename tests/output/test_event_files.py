"""Event files of a real bucket, brought to a disk as they grow: for a TensorBoard that reads no buckets itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.object_stores import Server
from tests.support.paths import ROOT
from tests.support.servers import BUCKET
from trainer.core.exit_codes import ExitCode
from trainer.output import event_files
from trainer.output.event_files import EventFiles
from trainer.output.stores.errors import NoBucketError
from trainer.output.stores.ranges import Entry
from trainer.output.stores.store import Store

pytestmark = pytest.mark.servers
PROFILE = "run/train/plugins/profile/2026_11_28_10_33_28/host.xplane.pb"
FIRST, SECOND = "train/events.out.tfevents.0000000000", "train/events.out.tfevents.0000000001"


@pytest.fixture
def store(server: Server, run: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in server.environ().items():
        monkeypatch.setenv(name, value)
    return server.store(run)


@pytest.fixture
def brought(store: Store, tmp_path: Path) -> EventFiles:
    return EventFiles(store.url, tmp_path)


def on_disk(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_grows_is_brought_and_nothing_else(store: Store, brought: EventFiles, tmp_path: Path) -> None:
    store.create("result.json", b"{}")
    store.create("checkpoints/step-0000000010.npz", bytes(100))
    version = store.create(FIRST, b"the first record, ")
    brought.fetch()
    assert on_disk(tmp_path) == {FIRST: b"the first record, "}
    read = tmp_path.joinpath(FIRST).open("rb")  # As TensorBoard has it open.
    store.append(FIRST, b"the first record, ", b"and the second", version)
    store.create(SECOND, b"another")
    store.create("validation/events.out.tfevents.0000000000", b"")
    brought.fetch()
    expected = {FIRST: b"the first record, and the second", SECOND: b"another"}
    assert on_disk(tmp_path) == {**expected, "validation/events.out.tfevents.0000000000": b""}
    assert read.read() == expected[FIRST]
    read.close()


@pytest.mark.parametrize("alone", [False, True])
def test_profiles_come_whole(store: Store, tmp_path: Path, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With event files, or without them; beside them lies nothing that has their name and is a part."""
    monkeypatch.setattr(event_files, "PART_BYTES", 1000)
    content = os.urandom(2500)
    store.create(FIRST, b"a record")
    store.create(PROFILE, content)
    for other in ("plugins/profile/host.xplane.pb", "plugins/other/1/host.xplane.pb", f"{PROFILE}.txt"):
        store.create(other, b"no profile")
    brought = EventFiles(store.url, tmp_path, profiles_alone=alone)
    read, seen = brought._read, []

    def half_way(entry: Entry, *arguments: int) -> bytes:
        if entry.key.endswith(PROFILE):  # The event file is brought at the same time.
            seen.append((tmp_path / PROFILE).exists())
        return read(entry, *arguments)

    monkeypatch.setattr(brought, "_read", half_way)
    brought.fetch()
    assert seen == [False] * 3
    events = {} if alone else {FIRST: b"a record"}
    assert on_disk(tmp_path) == {PROFILE: content, **events}
    store.delete(PROFILE)
    store.create(PROFILE, b"another one")
    brought.fetch()
    assert on_disk(tmp_path) == {PROFILE: b"another one", **events}
    store.delete(PROFILE)
    brought.fetch()
    assert on_disk(tmp_path) == events


def test_a_file_of_several_requests(
    store: Store, brought: EventFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "PART_BYTES", 1000)
    content = os.urandom(2500)
    version = store.create(FIRST, content)
    brought.fetch()
    store.append(FIRST, content, content, version)
    brought.fetch()
    assert on_disk(tmp_path) == {FIRST: 2 * content}


def test_another_run_of_the_same_name(store: Store, brought: EventFiles, tmp_path: Path) -> None:
    """A run that was removed is gone; one that is written over it begins anew, longer or shorter."""
    for content in (b"a first run of some length", b"quite another one, which has become longer", b"short"):
        store.delete(FIRST)
        store.create(FIRST, content)
        brought.fetch()
        assert on_disk(tmp_path) == {FIRST: content}
    store.delete(FIRST)
    brought.fetch()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_asked_for(
    store: Store, brought: EventFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(FIRST, b"a record")
    brought.fetch()
    monkeypatch.setattr(brought, "_read", None)
    brought.fetch()


@pytest.mark.parametrize(
    "name",
    [
        "../../x.tfevents", "/etc/x.tfevents", "a/../../x.tfevents", "a//x.tfevents", "./x.tfevents", "..tfevents",
        "../plugins/profile/x/h.xplane.pb", "plugins/profile/../h.xplane.pb", "/plugins/profile/x/h.xplane.pb",
        "plugins/profile//h.xplane.pb", "plugins/profile/x/.xplane.pb", "plugins/profile/x/a\nb.xplane.pb",
    ],
)  # fmt: skip
def test_no_name_in_the_bucket_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """No server here takes such a name; what another says is in its bucket is not known."""

    class Hostile:
        def entries(self, _folder: str) -> list[Entry]:
            return [Entry(f"runs/{name}", 4, "1"), Entry(f"runs/{FIRST}", 4, "1")]

        def read(self, *_: object) -> bytes:
            return b"data"

    brought = EventFiles("s3://bucket/runs", tmp_path / "board" / "folder", {})
    brought._ranges = Hostile()  # type: ignore[assignment]
    brought.fetch()
    assert on_disk(tmp_path) == {f"board/folder/{FIRST}": b"data"}


def test_a_bucket_that_is_not_there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environ().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NoBucketError):
        EventFiles(f"{server.scheme}://no-such-bucket/runs", tmp_path).fetch()


@pytest.mark.parametrize("address", ["s3://", "gs://x", "s3://a/../b", "az://bucket/runs"])
def test_an_address_that_is_none_ends_it(address: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainer.output.event_files", address, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == ExitCode.USAGE
    assert len(ended.stderr.splitlines()) == 1
    assert "error: the output" in ended.stderr


def test_the_store_of_a_whole_bucket(server: Server, store: Store, tmp_path: Path) -> None:
    store.create(FIRST, b"a record")
    brought = EventFiles(f"{server.scheme}://{BUCKET}", tmp_path)
    brought.fetch()
    path = store.url.removeprefix(f"{server.scheme}://{BUCKET}/")
    assert on_disk(tmp_path)[f"{path}/{FIRST}"] == b"a record"
