"""What the mirror costs: bytes and requests, memory, CPU time, and examples a second of the training beside it.

A proxy between the real mirror and real servers counts bytes and requests. Also writes docs/mirror-bytes.svg.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from bench.agent_cost import cpu_seconds
from bench.report.curves import Curve, draw
from bench.report.table import Row
from tests.support.agents import running
from tests.support.servers import BUCKET, gcs_server, s3_environ, s3_server
from tests.support.servers.refusing_proxy import RefusingProxy, refusing_proxy
from tests.support.waiting import until
from trainer.core.run_dir import VALIDATION, log_key
from trainer.core.tfrecord import record
from trainer.output.mirror.mirror import Mirror
from trainer.output.mirror.segments import SEGMENT_BYTES
from trainer.output.stores.opening import open_store

FLUSHES = int(os.environ.get("FLUSHES", "10000"))
FLUSH_BYTES = 4096  # What a few scalars and a histogram take as events.
TENSORFLOW_FLUSHES = 150  # So many are measured. More are calculated: each flush sends the whole file.
TURNS = int(os.environ.get("TURNS", "25"))
TURN = 3  # Epochs of a turn, with the agent or without it.
PICTURE = Path(__file__).parent.parent / "docs" / "mirror-bytes.svg"
MIB = 2**20


@dataclasses.dataclass
class Growth:
    """What a run of many flushes took."""

    curve: Curve  # Flushes, and the bytes sent up to there.
    written: int  # Bytes of events.
    sent: int  # Bytes in the bodies of requests.
    objects: int
    most_writes: int  # In one interval.


@contextlib.contextmanager
def server(scheme: str, folder: Path) -> Iterator[tuple[dict[str, str], RefusingProxy]]:
    """The environment to reach a real server through a proxy that counts requests, and the proxy."""
    with s3_server(folder) if scheme == "s3" else gcs_server() as address, refusing_proxy(address) as (front, proxy):
        yield {**s3_environ(front), "STORAGE_EMULATOR_HOST": front}, proxy


def growth(scheme: str, folder: Path) -> Growth:
    """Mirrors a log that grows by FLUSH_BYTES before each of FLUSHES flushes."""
    with server(scheme, folder / "server") as (environ, proxy):
        os.environ.update(environ)
        store = open_store(f"{scheme}://{BUCKET}/run")
        mirror = Mirror(
            store,
            folder / "run",
            worker=0,
            interval=5.0,
            final_timeout=60.0,
            say=print,
            threads=False,
        )
        mirror.begin()
        (folder / "run" / "train").mkdir(parents=True)
        proxy.requests.clear()
        curve: list[tuple[float, float]] = []
        most = written = sent = 0
        with (folder / "run" / "train" / "events.out.tfevents.1").open("ab") as events:
            for flush in range(1, FLUSHES + 1):
                written += events.write(record(os.urandom(FLUSH_BYTES - 16)))
                events.flush()
                mirror.copy_growing()
                sent += sum(size for _, _, size in proxy.requests)
                most = max(most, sum(method != "GET" for method, _, _ in proxy.requests))
                proxy.requests.clear()
                if flush < 10 or flush % max(FLUSHES // 100, 1) == 0:
                    curve.append((flush, sent))
        return Growth(curve, written, sent, sum(1 for _ in store.keys("train/")), most)


def tensorflow(folder: Path) -> Curve:
    """The same log written by TensorFlow itself to s3://, through tensorflow-io."""
    script = f"""
import os, tensorflow as tf, tensorflow_io
writer = tf.summary.create_file_writer("s3://{BUCKET}/tensorflow", flush_millis=10**9, max_queue=10**6)
for step in range({TENSORFLOW_FLUSHES}):
    with writer.as_default(step):
        tf.summary.write("x", tf.constant(os.urandom({FLUSH_BYTES} - 100)))
    writer.flush()
    print(flush=True)
os._exit(0)
"""
    with server("s3", folder / "server") as (environ, proxy):
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "AWS_LOG_LEVEL": "0", "S3_ENDPOINT": environ["AWS_ENDPOINT_URL"]}
        process = subprocess.Popen(
            [sys.executable, "-c", script], env={**os.environ, **environ, **quiet}, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        curve: list[tuple[float, float]] = []
        for flush, _ in enumerate(process.stdout, 1):
            curve.append((flush, sum(size for _, _, size in proxy.requests)))
        assert process.wait() == 0
    last = curve[-1][1]
    return [*curve, *((flush, last * (flush / len(curve)) ** 2) for flush in (300, 1000, 3000, FLUSHES))]


def memory(scheme: str, folder: Path) -> float:
    """The most MiB that an agent takes while it mirrors 50 MB of events, 200 logs and a checkpoint of 200 MiB."""
    run_dir = folder / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "train").mkdir()
    if scheme:
        (run_dir / "checkpoints" / "step-0000000000.npz").write_bytes(os.urandom(200 * MIB))
        events = b"".join(record(os.urandom(50_000)) for _ in range(1000))
        (run_dir / "train" / "events.out.tfevents.1").write_bytes(events)
        for attempt in range(1, 201):
            log = run_dir / log_key(0, attempt)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_bytes(b"%099d\n" % attempt * 2500)
    with server(scheme or "s3", folder / "server") as (environ, _):
        flags = [f"--output={scheme}://{BUCKET}/memory"] if scheme else []
        with running(folder, 1, agent_flags=flags, environ={**environ, "STEP_SECONDS": "0.3"}) as agents:
            agent = agents.start(0)
            agent.wait_for_step(45)
            status = Path(f"/proc/{agent.process.pid}/status").read_text()
            assert agent.end(120) == 0
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextlib.contextmanager
def cores_apart() -> Iterator[list[int]]:
    """Keeps this process and the servers that it starts off one core; yields that core, for the worker alone."""
    every = os.sched_getaffinity(0)
    worker = max(every)
    os.sched_setaffinity(0, every - {worker} or every)
    try:
        yield [worker]
    finally:
        os.sched_setaffinity(0, every)


def epoch_ends(run_dir: Path) -> Iterator[float]:
    """The Unix time at which each epoch has ended, its validation included; waits for the next."""
    folder = run_dir / VALIDATION
    until(120, "an event file", lambda: list(folder.glob("*tfevents*")), pause=0.01)
    (path,) = folder.glob("*tfevents*")
    loader = EventFileLoader(str(path))
    while True:
        for event in loader.Load():  # Since the call before.
            if any(value.tag == "epoch_loss" for value in event.summary.value):
                yield event.wall_time
        time.sleep(0.01)


def throughput(folder: Path) -> tuple[list[float], float]:
    """What an output costs real training: its agent is stopped and goes on in turns, of TURN epochs each.

    Two processes that do the same differ by more than what is to be measured, so it is measured in one. What a turn
    without the agent leaves to be copied, the next one with it copies, too: it has twice the work that it always has.
    As in a pod, the agent has the processor time of its worker only, here one core; the server, which would be on
    another machine, has the others, and its files are in memory.

    Returns:
      Of each turn without the agent, the seconds that an epoch took, divided by those of the turns around it; sorted.
      And the share of the core that the agent takes in a turn.
    """
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as files,
        cores_apart() as cores,
        s3_server(Path(files), modest=True) as address,
        running(
            folder,
            1,
            program=(sys.executable, "-m", "trainer"),
            agent_flags=[f"--output=s3://{BUCKET}/speed"],
            trainer_flags=["--epochs=100000"],
            environ=s3_environ(address),
            cores=cores,
        ) as agents,
    ):
        pid = agents.start(0).process.pid
        ends = epoch_ends(agents.run_dir)
        *_, began = itertools.islice(ends, TURN)
        seconds, cpu = list[float](), cpu_seconds(pid)
        for turn in range(2 * TURNS + 1):
            if turn % 2:
                os.kill(pid, signal.SIGSTOP)
            *_, ended = itertools.islice(ends, TURN)
            os.kill(pid, signal.SIGCONT)
            seconds.append(ended - began)
            began = ended
        share = (cpu_seconds(pid) - cpu) / sum(seconds[::2])
    around = [(before + after) / 2 for before, after in itertools.pairwise(seconds[::2])]
    return sorted(without / with_ for without, with_ in zip(seconds[1::2], around, strict=True)), share


def measure() -> Iterator[Row]:
    """Measures, and draws the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with concurrent.futures.ProcessPoolExecutor() as pool:  # Side by side: nothing is timed.
            gs, s3 = pool.map(growth, ("gs", "s3"), (folder / "gs", folder / "s3"))
        what = f"in {FLUSHES} flushes of {FLUSH_BYTES} bytes"
        yield Row(f"mirror, gs://: bytes sent for one written, {what}", gs.sent / gs.written, "≤ 1.3")
        yield Row(
            f"mirror, s3://: segments a flush sent on top, {what}",
            (s3.sent - s3.written) / FLUSHES / SEGMENT_BYTES,
            "≤ 0.5",
        )
        yield Row("mirror, gs://: most writes in an interval", gs.most_writes, "≤ 3")
        yield Row("mirror, s3://: most writes in an interval", s3.most_writes, "≤ 1")
        for scheme, each in (("gs", gs), ("s3", s3)):
            segments = each.written / SEGMENT_BYTES + 1
            yield Row(
                f"mirror, {scheme}://: objects for one of {SEGMENT_BYTES // 1024} KiB", each.objects / segments, "≤ 1.1"
            )
        quadratic = tensorflow(folder / "tensorflow")
        yield Row("mirror, s3://: bytes TensorFlow's own way sends, for one sent", quadratic[-1][1] / s3.sent)
        curves = {
            "TensorFlow to s3://": quadratic,
            "mirror to s3://": s3.curve,
            "mirror to gs://": gs.curve,
            "written": [(flush, flush * FLUSH_BYTES) for flush, _ in gs.curve],
        }
        draw(
            PICTURE,
            curves,
            title=f"Bytes sent for a log that grows by {FLUSH_BYTES // 1024} KiB a flush",
            x_label=f"flushes (TensorFlow: measured to {TENSORFLOW_FLUSHES}, then calculated)",
            y_label="bytes sent",
            dashed="written",
        )
        bounds = {"": 60, "s3": 90, "gs": 90}
        with concurrent.futures.ProcessPoolExecutor() as pool:
            taken = pool.map(memory, bounds, (folder / f"memory-{scheme}" for scheme in bounds))
        for (scheme, bound), most in zip(bounds.items(), taken, strict=True):
            yield Row(f"mirror: MiB of an agent with {scheme or 'no output'}", most, f"≤ {bound}")
        ratios, share = throughput(folder / "speed")
        yield Row("mirror: share of a worker's core that the agent takes with s3, in %", 100 * share, "≤ 2")
        spread = f"{TURNS} turns, standard error {statistics.stdev(ratios) / TURNS**0.5:.3f}"
        yield Row(f"mirror: examples/s with it, of those without, mean of {spread}", statistics.mean(ratios), "≥ 0.98")
