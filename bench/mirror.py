"""What the mirror costs: `python -m bench.mirror`.

Bytes and requests are counted by a proxy between the real mirror and real servers; the table says what was measured and
what it has to be. The picture goes to docs/mirror-bytes.svg.
"""

import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.curves import Curve, draw
from tests.agents import running
from tests.servers import BUCKET, gcs_server, s3_environ, s3_server
from tests.servers.refusing_proxy import RefusingProxy, refusing_proxy
from trainer.chain import SEGMENT_BYTES
from trainer.mirror import Mirror
from trainer.records import record
from trainer.storage import open_store

FLUSHES = int(os.environ.get("FLUSHES", "10000"))
FLUSH_BYTES = 4096  # Of events, what a few scalars and a histogram take.
TENSORFLOW_FLUSHES = 150  # Measured; beyond, calculated: each flush sends the whole file.
PAIRS = int(os.environ.get("PAIRS", "3"))
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
    """A real server behind a proxy that counts; the environment to reach it with, and the proxy."""
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
            max_disk=MIB,
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
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "AWS_LOG_LEVEL": "0"}
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
    """The most MiB that an agent takes while it mirrors 50 MB of events and a checkpoint of 200 MiB."""
    run_dir = folder / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "train").mkdir()
    if scheme:
        (run_dir / "checkpoints" / "step-0000000000.npz").write_bytes(os.urandom(200 * MIB))
        events = b"".join(record(os.urandom(50_000)) for _ in range(1000))
        (run_dir / "train" / "events.out.tfevents.1").write_bytes(events)
    with server(scheme or "s3", folder / "server") as (environ, _):
        flags = [f"--output={scheme}://{BUCKET}/memory"] if scheme else []
        with running(folder, 1, agent_flags=flags, environ={**environ, "STEP_SECONDS": "0.3"}) as agents:
            agent = agents.start(0)
            agent.wait_for_step(45)
            status = Path(f"/proc/{agent.process.pid}/status").read_text()
            assert agent.end(120) == 0
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def throughput(folder: Path) -> tuple[float, float]:
    """Images per second of real training under an agent, without an output and with one: medians of PAIRS runs each."""
    speeds: dict[bool, list[float]] = {False: [], True: []}
    with server("s3", folder / "server") as (environ, _):
        for number in range(2 * PAIRS):
            mirrored = number % 2 == 1
            output = f"s3://{BUCKET}/speed-{number}" if mirrored else ""
            with running(
                folder / str(number),
                1,
                program=(sys.executable, "-m", "trainer"),
                agent_flags=[f"--output={output}", "--mirror_interval=1"],
                trainer_flags=["--epochs=3", "--checkpoint_every=5"],
                environ=environ,
            ) as agents:
                assert agents.start(0).end(300) == 0
                speeds[mirrored].append(float(agents.result["images_per_second"]))
    return statistics.median(speeds[False]), statistics.median(speeds[True])


def main() -> None:
    """Measures, prints the table and draws the picture."""
    began = time.monotonic()
    rows: list[tuple[str, str, str, bool]] = []

    def row(what: str, measured: str, wanted: str, met: bool) -> None:
        rows.append((what, measured, wanted, met))
        print(f"  {what}: {measured} (wanted: {wanted})", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grown = {scheme: growth(scheme, folder / scheme) for scheme in ("gs", "s3")}
        for scheme, each in grown.items():
            ratio = each.sent / each.written
            if scheme == "gs":
                row("gs://: bytes sent for one written", f"{ratio:.2f}", "at most 1.3", ratio <= 1.3)
            else:
                extra = (each.sent - each.written) / FLUSHES / 1024
                bound = SEGMENT_BYTES / 2 / 1024
                row(
                    "s3://: KiB a flush on top of those written", f"{extra:.0f}", f"at most {bound:.0f}", extra <= bound
                )
            most = {"gs": 3, "s3": 1}[scheme]
            row(
                f"{scheme}://: most writes in an interval",
                f"{each.most_writes}",
                f"at most {most}",
                each.most_writes <= most,
            )
            segments = -(-each.written // SEGMENT_BYTES)
            row(
                f"{scheme}://: objects for {each.written / MIB:.0f} MiB",
                f"{each.objects}",
                f"about {segments} segments of {SEGMENT_BYTES // 1024} KiB",
                each.objects <= 1.1 * segments + 1,
            )
        quadratic = tensorflow(folder / "tensorflow")
        ratio = quadratic[-1][1] / grown["s3"].sent
        row(
            f"TensorFlow's own way, {FLUSHES} flushes", f"{ratio:,.0f} times the bytes of the mirror", "more", ratio > 1
        )
        for scheme, bound in (("", 60), ("s3", 90), ("gs", 90)):
            most_mib = memory(scheme, folder / f"memory-{scheme}")
            row(f"MiB of an agent, {scheme or 'no output'}", f"{most_mib:.0f}", f"below {bound}", most_mib < bound)
        without, with_ = throughput(folder / "speed")
        row(
            "images/s with the mirror, of those without",
            f"{with_ / without:.3f}",
            "at least 0.98",
            with_ >= 0.98 * without,
        )
        curves = {
            "TensorFlow to s3://": quadratic,
            "mirror to s3://": grown["s3"].curve,
            "mirror to gs://": grown["gs"].curve,
            "written": [(flush, flush * FLUSH_BYTES) for flush, _ in grown["gs"].curve],
        }
        draw(
            PICTURE,
            curves,
            title=f"Bytes sent for a log that grows by {FLUSH_BYTES // 1024} KiB a flush",
            x_label=f"flushes (TensorFlow: measured to {TENSORFLOW_FLUSHES}, then calculated)",
            y_label="bytes sent",
            dashed="written",
        )
    print(f"\n| {FLUSHES} flushes of {FLUSH_BYTES} bytes | measured | wanted | |\n| --- | --- | --- | --- |")
    for what, measured, wanted, met in rows:
        print(f"| {what} | {measured} | {wanted} | {'met' if met else 'NOT met'} |")
    print(f"\ncurves: {PICTURE.relative_to(Path.cwd())}; {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
