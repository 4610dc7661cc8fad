"""A training process without TensorFlow that behaves towards its agent as the real one does.

For tests of the agent alone: it starts in a blink and fails when told to. Workers "train" by counting to 10 times
--epochs, and worker 0 saves at each fifth step. They exchange a number at each step over sockets, and so notice when a
peer is gone. BEHAVIOUR in the environment makes one of them misbehave: see `misbehave`.
"""

import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time

from trainer.core import agent_link
from trainer.core.experiment_flags import parse
from trainer.core.log_lines import Progress
from trainer.core.tf_config import Cluster, host_and_port

STEP_SECONDS = float(os.environ.get("STEP_SECONDS", "0.03"))


def main() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    agent_link.start_beating()
    argv = agent_link.handed_over() if agent_link.is_spare() else sys.argv[1:]
    config = parse(argv)[0]
    cluster = Cluster.from_tf_config(os.environ.get("TF_CONFIG", ""))
    index, workers = (cluster.index, cluster.workers) if cluster else (0, 1)
    terminated = threading.Event()

    def wait_for_sigterm() -> None:
        signal.sigwait({signal.SIGTERM})
        terminated.set()

    threading.Thread(target=wait_for_sigterm, daemon=True).start()
    run_dir = pathlib.Path(config.run_dir)
    chief = index == 0
    ring = Ring(cluster) if cluster and workers > 1 else None
    steps = 10 * config.epochs
    step = newest(run_dir) if chief else 0
    if chief and (run_dir / "result.json").exists():
        print("finished before")
        return 0
    try:
        if ring:
            step = ring.exchange(step if chief else -1)[0]
        print(f"from step {step}", flush=True)
        while step < steps:
            misbehave(index, step)
            time.sleep(STEP_SECONDS)
            stop = any(ring.exchange(int(terminated.is_set()))) if ring else terminated.is_set()
            step += 1
            if chief and (step % 5 == 0 or stop):
                save(run_dir, step)
            say(index, workers, step, steps, config.epochs, newest(run_dir) if chief else None)
            if stop:
                if ring:
                    ring.exchange(0)
                return 143 if terminated.is_set() else 75
        if chief:
            (run_dir / ".result").write_text(json.dumps({"steps": step, "restarts": agent_link.attempt() - 1}))
            (run_dir / ".result").rename(run_dir / "result.json")
        if ring:
            ring.exchange(0)
        misbehave(index, step)
    except OSError as error:
        print(f"a peer is lost: {error}", file=sys.stderr, flush=True)
        return 75
    return 0


def misbehave(index: int, step: int) -> None:
    """Does what BEHAVIOUR says: "crash 1 7" lets worker 1 crash after step 7; see below for the others."""
    kind, _, rest = os.environ.get("BEHAVIOUR", "").partition(" ")
    if not kind or [index, step] != [int(word) for word in rest.split()]:
        return
    if kind == "crash":
        print("the step is bad", file=sys.stderr, flush=True)
        sys.exit(1)
    if kind == "exit":
        os._exit(0)
    if kind == "hang":
        time.sleep(3600)
    if kind == "compile":
        with agent_link.busy():
            time.sleep(6)
    if kind == "linger":
        time.sleep(12)
    if kind == "data":
        print("error: the data is bad", file=sys.stderr, flush=True)
        sys.exit(65)


def say(index: int, workers: int, step: int, steps: int, epochs: int, saved: int | None) -> None:
    progress = Progress(
        worker=index,
        workers=workers,
        attempt=agent_link.attempt(),
        epoch=min(step // 10 + 1, epochs),
        epochs=epochs,
        step=step,
        steps=steps,
        metrics={"loss": 1.0 / step, "accuracy": 0.5},
        examples_per_second=100.0,
        saved=saved,
    )
    print(progress.format(), flush=True)


def save(run_dir: pathlib.Path, step: int) -> None:
    (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run_dir / "checkpoints" / ".new").touch()
    (run_dir / "checkpoints" / ".new").rename(run_dir / "checkpoints" / f"step-{step:010d}.npz")


def newest(run_dir: pathlib.Path) -> int:
    return max((int(path.stem[5:]) for path in run_dir.glob("checkpoints/step-*.npz")), default=0)


class Ring:
    """Workers that exchange numbers: each sends one to worker 0, which sends all of them back."""

    def __init__(self, cluster: Cluster) -> None:
        host, port = host_and_port(cluster.addresses[0])
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._chief = cluster.is_chief
        if self._chief:
            with socket.create_server((host, port), family=family) as server:
                self._peers = [server.accept()[0] for _ in range(cluster.workers - 1)]
        else:
            while True:
                try:
                    self._peers = [socket.create_connection((host, port))]
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
        self._files = [peer.makefile("rw") for peer in self._peers]

    def exchange(self, number: int) -> list[int]:
        if self._chief:
            numbers = [number] + [int(self._read(file)) for file in self._files]
            for file in self._files:
                self._write(file, json.dumps(numbers))
            return numbers
        self._write(self._files[0], str(number))
        return list(json.loads(self._read(self._files[0])))

    def _read(self, file: object) -> str:
        line = file.readline()  # type: ignore[attr-defined]
        if not line:
            raise ConnectionResetError("closed")
        return str(line)

    def _write(self, file: object, text: str) -> None:
        file.write(text + "\n")  # type: ignore[attr-defined]
        file.flush()  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
