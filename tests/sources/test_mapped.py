"""How much of mapped files counts as the process's memory."""

import re
from pathlib import Path

import numpy as np
import pytest

from trainer.sources import NpyFiles
from trainer.sources.formats import mapped

MIB = 2**20


def kept(folder: Path) -> int:
    """Bytes of the folder's files that this process has mapped and touched."""
    maps = Path("/proc/self/smaps").read_text()
    return 1024 * sum(
        int(size) for name, size in re.findall(r"^\S+ r\S+ \S+ \S+ \d+ +(\S+)\n(?:.*\n)*?Rss: +(\d+) kB", maps, re.M)
        if name.startswith(str(folder))
    )  # fmt: skip


def files(folder: Path, count: int, rows: int) -> NpyFiles:
    folder.mkdir()
    for number in range(count):
        np.save(folder / f"{number}.npy", np.full((rows, 4096), number, np.uint8))
    return NpyFiles(str(folder), str(folder))


def test_many_files_let_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_LET_GO_BYTES", 4 * MIB)
    source = files(tmp_path / "data", 16, 256)  # A mebibyte each, none of them much by itself.
    most = 0
    for first in range(0, len(source), 64):
        source.stacked(np.arange(first, first + 64))
        most = max(most, kept(tmp_path))
    assert MIB <= most <= 5 * MIB  # What one call touches comes on top.


def test_what_is_small_stays_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_LET_GO_BYTES", 8 * MIB)
    source = files(tmp_path / "data", 1, 256)
    for _ in range(4):
        source.stacked(np.arange(256))
    first = kept(tmp_path)
    assert first >= 2 * MIB
    for _ in range(100):
        source.stacked(np.arange(256))
        assert kept(tmp_path) >= first
