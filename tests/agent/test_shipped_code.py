"""What a pod does with the code that was sent to it: unpacking, and its requirements, from a folder of wheels."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.object_stores import opened
from tests.support.servers import BUCKET, s3_environ, s3_server
from tests.support.waiting import until
from trainer.agent import shipped_code as in_pods
from trainer.core import shipped_code
from trainer.core.exit_codes import UsageError
from trainer.output import sent_code


def wheel(
    folder: pathlib.Path, name: str, *, needs: str = "", tag: str = "py3-none-any", more: str = ""
) -> pathlib.Path:
    """A wheel of a package with one module, which is called as it is."""
    path = folder / f"{name}-1.0-{tag}.whl"
    facts = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + (f"Requires-Dist: {needs}\n" if needs else "")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", f"NAME = {name!r}\n# {more}\n")
        file.writestr(f"{facts}/METADATA", metadata)
        file.writestr(f"{facts}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(f"{facts}/RECORD", "")
    return path


PROGRAM = (sys.executable, "-m", "trainer.agent.shipped_code")


class Pod:
    """A pod's folders, and what it runs before the agent."""

    def __init__(self, root: pathlib.Path) -> None:
        self.wheels, self.code, self.run, self.message = (root / name for name in ("wheels", "code", "run", "message"))
        self.archive = root / "code.tar.gz"
        self.wheels.mkdir()
        self.files: dict[str, str] = {"mine.py": "import first\nprint(first.NAME)\n"}

    def unpack(self, worker: str = "0", **more: Any) -> subprocess.CompletedProcess[str]:
        with self.start(worker, **more) as process:
            stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def pack(self) -> None:
        source = self.archive.parent / "source"
        source.mkdir(exist_ok=True)
        for name, text in self.files.items():
            (source / name).write_text(text)
        self.archive.write_bytes(shipped_code.pack({name: source / name for name in self.files}))

    def start(
        self,
        worker: str = "0",
        *,
        before: Sequence[str] = (),
        agent: Sequence[str] = (),
        address: str = "",
        **environ: str,
    ) -> subprocess.Popen[str]:
        self.pack()
        environ = {
            **os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "JOB_COMPLETION_INDEX": worker,
            "TERMINATION_MESSAGE_PATH": str(self.message), **environ,
        }  # fmt: skip
        command = [*before, *PROGRAM, str(self.run), address or str(self.archive), str(self.code), *agent]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

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
    command = [*PROGRAM, str(pod.run), str(pod.archive), str(pod.code)]
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
        [entry("large", size=2**20 + 1)],
        [entry("a"), entry("a/b")],
        [entry("x" * 300)],
    ],
)
def test_what_no_folder_of_code_holds_is_refused(
    entries: list[tarfile.TarInfo], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped_code, "MOST_UNPACKED", 2**20)
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


@pytest.mark.parametrize("full", ["while it is unpacked", "while pip installs"])
def test_a_disk_without_room_may_be_another_machines_luck(full: str, pod: Pod) -> None:
    noise = "".join(random.Random(1).choices("0123456789abcdef", k=200_000))
    if full == "while pip installs":
        wheel(pod.wheels, "first", more=noise)
        pod.files["requirements.txt"] = "first\n"
    else:
        pod.files["large.txt"] = noise
    done = pod.unpack(before=("sh", "-c", 'ulimit -f 300; exec "$@"', "sh"))  # No file can grow beyond so many blocks.
    assert done.returncode == 74, done.stderr
    assert done.stderr.startswith("error: ")
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_disk_of_the_run_that_cannot_be_written(pod: Pod) -> None:
    """Another pod may have more luck."""
    pod.run = pathlib.Path("/proc/run")
    done = pod.unpack()
    assert done.returncode == 74
    assert done.stderr.startswith("error: the code cannot be kept in /proc/run: ")
    assert json.loads(pod.message.read_text())["exit_code"] == 74


def test_sigterm_while_pip_waits_ends_the_pod_at_once(pod: Pod) -> None:
    """An index that takes requests and answers none."""
    pod.files["requirements.txt"] = "first\n"
    with socket.create_server(("127.0.0.1", 0)) as index:
        address = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        process = pod.start(PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=address)
        index.settimeout(60)
        connection, _ = index.accept()
        with connection:
            (pip,) = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=30)
            seconds = time.monotonic() - told
    assert process.returncode == 143
    assert seconds < 10, "pip gives up after more than a minute"
    assert stderr == "error: SIGTERM came before the code was unpacked and what it asks for installed\n"
    assert json.loads(pod.message.read_text())["exit_code"] == 143
    assert not pathlib.Path(f"/proc/{pip}").exists(), "pip has been ended, too"


@pytest.mark.servers
def test_code_is_fetched_from_the_output(pod: Pod, tmp_path: pathlib.Path) -> None:
    pod.pack()
    archive = pod.archive.read_bytes()
    key = f".code/{shipped_code.digest(archive)}.tar.gz"
    with s3_server(tmp_path / "s3") as address:
        with opened(f"s3://{BUCKET}/runs", address) as store:
            store.create(key, archive)
        done = pod.unpack(address=f"s3://{BUCKET}/runs/{key}", **s3_environ(address))
        assert done.returncode == 0, done.stderr
        assert f"code {shipped_code.checksum(archive)} is unpacked" in done.stdout
        assert (pod.code / "src" / "mine.py").read_text() == pod.files["mine.py"]
        assert (pod.run / "code.tar.gz").read_bytes() == archive
        other = key.replace(key[6:10], "0000")
        done = pod.unpack(address=f"s3://{BUCKET}/runs/{other}", **s3_environ(address))
    assert done.returncode == 65
    assert f"error: s3://{BUCKET}/runs/{other}: there is no such object; the launcher's --code puts" in done.stderr
    assert json.loads(pod.message.read_text())["exit_code"] == 65


def test_sigterm_while_a_store_does_not_answer(pod: Pod) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = s3_environ(f"http://127.0.0.1:{silent.getsockname()[1]}")
        process = pod.start(address=f"s3://{BUCKET}/runs/.code/{'a1' * 32}.tar.gz", **environ)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            seconds = time.monotonic() - told
    assert process.returncode == 143
    assert seconds < 10
    assert json.loads(pod.message.read_text())["exit_code"] == 143


def test_a_signal_that_ends_no_wait_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes to the main thread right before a wait; here another thread has it, which looks the same."""

    class Heard(Exception):  # noqa: N818
        pass

    def heard(*_: object) -> None:
        raise Heard

    def silent(_: str) -> bytes:
        time.sleep(0.5)  # The main thread waits meanwhile.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        time.sleep(5)
        return b"after it"

    monkeypatch.setattr(sent_code, "fetch", silent)
    before, began = signal.signal(signal.SIGTERM, heard), time.monotonic()
    try:
        with pytest.raises(Heard):
            in_pods._fetched("s3://bucket/code")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("program", ["trainer.agent", "trainer.agent.shipped_code"])
def test_sigterm_while_it_begins(program: str, tmp_path: pathlib.Path) -> None:
    """On a slow disk its imports take long; here one of them takes for ever."""
    begun = tmp_path / "begun"
    (tmp_path / "absl").mkdir()
    (tmp_path / "absl" / "__init__.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n"
    )
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-m", program, "run", "archive", "folder"]
    environ = {**os.environ, "PYTHONPATH": path, "TERMINATION_MESSAGE_PATH": str(tmp_path / "message")}
    process = subprocess.Popen(command, env=environ)
    until(60, "the import", begun.exists)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert time.monotonic() - told < 10


def test_it_goes_on_as_the_agent_which_has_the_code(pod: Pod) -> None:
    pod.files["mine.py"] = "import first\n\nraise ValueError(f'{first.NAME} is here')\n"
    wheel(pod.wheels, "first")
    pod.files["requirements.txt"] = "first\n"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    alone = {"cluster": {"worker": ["127.0.0.1:2222"]}, "task": {"type": "worker", "index": 0}}
    agent = [f"--port={port}", "--", "--experiment=mine", f"--run_dir={pod.run}"]
    done = pod.unpack(agent=agent, TF_CONFIG=json.dumps(alone))
    assert done.returncode == 64, done.stderr
    assert "it raised ValueError: first is here (mine.py:3)" in done.stderr
    assert json.loads(pod.message.read_text())["worker"] == 0, "it is the agent's"


def test_what_the_agent_refuses(pod: Pod) -> None:
    done = pod.unpack(agent=["--max_restarts=-1", "--"])
    assert done.returncode == 64
    assert done.stderr == "error: --max_restarts=-1 must be at least 0; the default is 3\n"
