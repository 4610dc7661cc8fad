"""What a pod does with the code that was sent to it: unpacking, and its requirements, from a folder of wheels."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.core import shipped_code
from trainer.core.exit_codes import UsageError


def wheel(folder: pathlib.Path, name: str, *, needs: str = "", tag: str = "py3-none-any") -> pathlib.Path:
    """A wheel of a package with one module, which is called as it is."""
    path = folder / f"{name}-1.0-{tag}.whl"
    facts = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + (f"Requires-Dist: {needs}\n" if needs else "")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", f"NAME = {name!r}\n")
        file.writestr(f"{facts}/METADATA", metadata)
        file.writestr(f"{facts}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(f"{facts}/RECORD", "")
    return path


class Pod:
    """A pod's folders, and what it runs before the agent."""

    def __init__(self, root: pathlib.Path) -> None:
        self.wheels, self.code, self.run, self.message = (root / name for name in ("wheels", "code", "run", "message"))
        self.archive = root / "code.tar.gz"
        self.wheels.mkdir()
        self.files: dict[str, str] = {"mine.py": "import first\nprint(first.NAME)\n"}

    def unpack(self, worker: str = "0") -> subprocess.CompletedProcess[str]:
        source = self.archive.parent / "source"
        source.mkdir(exist_ok=True)
        for name, text in self.files.items():
            (source / name).write_text(text)
        self.archive.write_bytes(shipped_code.pack({name: source / name for name in self.files}))
        environ = {
            **os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "JOB_COMPLETION_INDEX": worker,
            "TERMINATION_MESSAGE_PATH": str(self.message),
        }  # fmt: skip
        command = [sys.executable, "-m", "trainer.agent.shipped_code", str(self.archive), str(self.code), str(self.run)]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    def use(self) -> str:
        path = shipped_code.python_path(self.code, os.environ.get("PYTHONPATH", ""))
        command = [sys.executable, "-c", "import mine"]
        return subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture
def pod(tmp_path: pathlib.Path) -> Pod:
    return Pod(tmp_path)


def test_code_and_what_it_asks_for(pod: Pod) -> None:
    """TensorFlow's numpy is there already and stays as it is; what a package needs comes along."""
    wheel(pod.wheels, "first", needs="second")
    wheel(pod.wheels, "second")
    pod.files["requirements.txt"] = "first\nnumpy>=1.20\n"
    done = pod.unpack()
    assert done.returncode == 0, done.stderr
    assert (
        f"code {shipped_code.checksum(pod.archive.read_bytes())} is unpacked, and 2 package(s) installed" in done.stdout
    )
    assert pod.use() == "first\n"
    assert sorted(path.name for path in (pod.code / "packages").glob("*.py")) == ["first.py", "second.py"]
    assert (pod.run / "code.tar.gz").read_bytes() == pod.archive.read_bytes()


def test_only_worker_0_keeps_the_code_with_the_run(pod: Pod) -> None:
    assert pod.unpack(worker="1").returncode == 0
    assert not pod.run.exists()


def test_hashes_are_held(pod: Pod) -> None:
    digest = hashlib.sha256(wheel(pod.wheels, "first").read_bytes()).hexdigest()
    pod.files["requirements.txt"] = f"first==1.0 --hash=sha256:{digest}\n"
    assert pod.unpack().returncode == 0
    assert pod.use() == "first\n"
    pod.files["requirements.txt"] = f"first==1.0 --hash=sha256:{'0' * 64}\n"
    done = pod.unpack()
    assert done.returncode == 64
    assert "requirements.txt cannot be installed: " in done.stderr


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("nothing-like-it\n", "requirements.txt cannot be installed: "),
        ("native\n", "native 1.0 would have to be installed and is not pure Python (native-1.0-"),
        ("first==2.0\n", "No matching distribution found for first==2.0"),
        ("==\n", "requirements.txt cannot be installed: "),
    ],
)
def test_requirements_that_cannot_be_had(requirements: str, words: str, pod: Pod) -> None:
    wheel(pod.wheels, "first")
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheel(pod.wheels, "native", tag=f"{version}-{version}-linux_x86_64")
    pod.files["requirements.txt"] = requirements
    done = pod.unpack()
    assert done.returncode == 64
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    message = json.loads(pod.message.read_text())
    assert (message["exit_code"], words in message["reason"]) == (64, True)


def test_what_is_no_archive_or_leads_out_is_refused(pod: Pod) -> None:
    pod.unpack()
    command = [sys.executable, "-m", "trainer.agent.shipped_code", str(pod.archive), str(pod.code)]
    leads_out = shipped_code.pack({"../out": pod.archive})
    for content, words in ((b"no archive", "is damaged"), (leads_out, "holds '../out', which is no file of it")):
        pod.archive.write_bytes(content)
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, words in done.stderr) == (64, True), done.stderr
    assert not (pod.code / "out").exists()
    pod.archive.unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 64
    assert f"the code cannot be read from {pod.archive}" in done.stderr


def test_a_folder_that_cannot_be_written(pod: Pod) -> None:
    pod.code = pathlib.Path("/proc/code")
    done = pod.unpack()
    assert done.returncode == 64
    assert "the code cannot be unpacked: /proc/code cannot be written" in done.stderr


def a_tar(*entries: tarfile.TarInfo) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)) if entry.isreg() else None)
    return content.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in more.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    "entries",
    [
        [entry("link", tarfile.SYMTYPE, linkname="/"), entry("link/x")],
        [entry("link", tarfile.LNKTYPE, linkname="../../out")],
        [entry("pipe", tarfile.FIFOTYPE)],
        [entry("device", tarfile.CHRTYPE)],
        [entry("/out")],
        [entry("a/../../../out")],
        [entry("large", size=65 * 2**20)],
        [entry("a"), entry("a/b")],
        [entry("x" * 300)],
    ],
)
def test_what_no_folder_of_code_holds_is_refused(entries: list[tarfile.TarInfo], tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError):
        shipped_code.unpack(a_tar(*entries), tmp_path / "code")
    assert {path.name for path in tmp_path.rglob("*")} <= {"code", "src", "a"}


@settings(max_examples=400, deadline=None)
@given(
    names=st.lists(st.text(max_size=12) | st.sampled_from(["..", "a/..", "/a", ".", "a", "a/b"]), max_size=3),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    mode=st.integers(0, 0o7777),
    when=st.integers(0, 2**40),
    packed=st.booleans(),
)
def test_whatever_an_archive_holds(
    names: list[str], changes: list[tuple[int, int]], mode: int, when: int, packed: bool
) -> None:
    """Before it is compressed, or after, some of its bytes are others."""
    try:
        content = bytearray(a_tar(*[entry(name, mode=mode, mtime=when, size=10) for name in names]))
    except (ValueError, UnicodeError):  # Of no archive that can be made.
        return
    plain = content if packed else bytearray(gzip.decompress(content))
    for at, byte in changes:
        plain[at % len(plain)] = byte
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        folder = pathlib.Path(root) / "code"
        with contextlib.suppress(UsageError):
            shipped_code.unpack(bytes(plain) if packed else gzip.compress(plain), folder)
        assert {path.name for path in pathlib.Path(root).iterdir()} <= {"code"}
        assert {path.name for path in folder.glob("*")} <= {"src"}
