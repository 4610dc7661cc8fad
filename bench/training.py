"""How fast the training program is, as ratios to what it replaces, all measured in one run."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.report.table import Row
from trainer.core.free_ports import free_ports
from trainer.training.data import idx_files

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "bench" / "programs"
ACCURACY = 0.975
TURNS = 3


def measure() -> list[Row]:
    """Runs every comparison; takes minutes.

    Raises:
      SystemExit: a run's validation accuracy is off, so that its time says nothing.
    """
    return [*_against_fit(), *_two_workers(), *_start(), *_memory()]


def _against_fit() -> list[Row]:
    """Whole processes, in turns, because a machine's speed changes with time."""
    ratios: dict[int, list[float]] = {0: [], 1: []}
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2):
            began = time.perf_counter()
            fit = json.loads(
                _output([sys.executable, str(PROGRAMS / "keras_fit.py"), f"{folder}/fit{turn}"]).splitlines()[-1]
            )
            fit_process = time.perf_counter() - began
            _check("Keras fit", fit["val_accuracy"])
            for threads, ratios_of_turns in ratios.items():
                run_dir = f"{folder}/ours{turn}-{threads}"
                flags = ["--global_batch_size=32", f"--threads={threads}", f"--run_dir={run_dir}"]
                began = time.perf_counter()
                _output([sys.executable, "-m", "trainer", *flags])
                process = time.perf_counter() - began
                _check("ours", json.loads(Path(run_dir, "result.json").read_text())["val_accuracy"])
                ratios_of_turns.append(fit["seconds"] / (process - _import_seconds()))
                if not threads:
                    processes.append(fit_process / process)
    return [
        Row("Keras fit / ours, 5 epochs of batch 32, import of TensorFlow aside", max(ratios[0]), "≥ 4"),
        Row("the same, ours with --threads=1", max(ratios[1]), ""),
        Row("the same, whole processes, TensorFlow's choice of threads", max(processes), ""),
    ]


def _two_workers() -> list[Row]:
    """The best of several turns of each program: what else the machine does comes and goes."""
    rows = []
    for batch, steps in ((512, 117), (128, 468)):
        step = [sys.executable, str(PROGRAMS / "step.py")]
        commands = {
            "ours": ([*step, str(batch), str(steps)], True),
            "all_reduce": ([sys.executable, str(PROGRAMS / "allreduce.py"), str(steps)], True),
            "alone": ([*step, str(batch // 2), str(steps)], False),
            "matmuls": ([sys.executable, str(PROGRAMS / "matmuls.py"), str(batch // 2), str(steps)], False),
        }
        if torch := os.environ.get("TORCH"):
            commands["ddp"] = (
                [torch, str(PROGRAMS / "ddp.py"), "{rank}", "{port}", str(batch), str(steps), str(idx_files.EMBEDDED)],
                False,
            )
        turns = [{name: pair(*command) for name, command in commands.items()} for _ in range(TURNS)]
        best = {name: min(turn[name] for turn in turns) for name in commands}
        ours, alone = best["ours"], best["alone"]
        floor = alone + best["all_reduce"]
        name = f"2 workers, batch {batch}"
        rows += [
            Row(f"{name}: ms a step", ours * 1e3, ""),
            Row(f"{name}: step / its matrix multiplications", ours / best["matmuls"], "≤ 1.3" if batch == 512 else ""),
            Row(f"{name}: step / the same without communication", ours / alone, "≤ 2" if batch == 128 else ""),
            Row(f"{name}: step / (the same without communication + one all-reduce)", ours / floor, "≤ 1.2"),
        ]
        if "ddp" in best:
            rows.append(Row(f"{name}: PyTorch DDP on gloo / ours", best["ddp"] / ours, "≥ 1.5"))
    return rows


def _start() -> list[Row]:
    """From the start of the process to the end of the first step, beyond the import of TensorFlow."""
    beyond = []
    for _ in range(3):
        imported = _import_seconds()
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "trainer", f"--run_dir={folder}"], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout
            next(line for line in process.stdout if line.startswith("progress"))
            beyond.append(time.perf_counter() - began - imported)
            process.kill()
            process.wait()
            process.stdout.close()
    return [Row("process start to first step, beyond the import: s", min(beyond), "≤ 1.5")]


def _memory() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "trainer", "--epochs=2", f"--run_dir={folder}/run"]
        shown = subprocess.run(
            [sys.executable, "-c", _PEAK, *command], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    peak = re.search(r"^peak (\d+)$", shown, re.MULTILINE)
    assert peak
    return [Row("peak memory of a worker: MB", int(peak[1]) / 1024, "≤ 700")]


_PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
    "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def pair(command: Sequence[str], cluster: bool) -> float:
    """Runs a command on each of two cores at the same time, in a TensorFlow cluster or not; the slower's seconds."""
    ports = free_ports(2)
    processes = []
    for rank in range(2):
        environ = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if cluster:
            workers = [f"127.0.0.1:{port}" for port in ports]
            task = {"type": "worker", "index": rank}
            environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
        processes.append(
            subprocess.Popen(
                ["taskset", "-c", str(rank), *(word.format(rank=rank, port=ports[0]) for word in command)],
                cwd=ROOT,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    return max(float(process.communicate()[0].split()[-1]) for process in processes)


def _import_seconds() -> float:
    began = time.perf_counter()
    _output([sys.executable, "-c", "import tensorflow, os; os._exit(0)"])
    return time.perf_counter() - began


def _output(command: Sequence[str]) -> str:
    environ = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True).stdout


def _check(name: str, accuracy: float) -> None:
    if accuracy < ACCURACY:
        raise SystemExit(f"bench: {name} ended with a validation accuracy of {accuracy}, below {ACCURACY}: no figures")
