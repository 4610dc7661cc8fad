"""`python -m trainer.index`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources.conftest import Upload
from tests.support.paths import ROOT
from trainer.core.tfrecord import record
from trainer.sources import CsvRows, TFRecords


def index(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer.index", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_makes_indexes_once(tmp_path: Path, placed: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tfrecord").write_bytes(record(b"one") + record(b"three"))
    (tmp_path / "b.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    where = placed(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    done = index(where)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        "2 file(s) with 5 records; their indexes are in place",
        f"making the index of {where}/a.tfrecord",
        f"making the index of {where}/b.csv",
    ]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    assert index(where).stdout == "2 file(s) with 5 records; their indexes are in place\n"
    assert (len(TFRecords(where, bytes)), len(CsvRows(where, x="a", y="b"))) == (2, 3)


def test_imports_no_tensorflow() -> None:
    code = "import sys, trainer.index, trainer.sources; print([name for name in sys.modules if 'tensorflow' in name])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(record(b"one")[:-1])
    done = index(str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (65, 1)
    assert f"error: {tmp_path}/a.tfrecord, byte 0: the file ends 1 bytes before the record does" in done.stderr
    assert index(str(tmp_path / "nothing")).returncode == 65
    assert index("http://host/folder").returncode == 64
    assert index().returncode == 64
