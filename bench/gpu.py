"""How fast one GPU trains, as ratios to what else trains the same on it, all measured in one run.

TORCH in the environment: a Python with PyTorch, whose rows are left out without it. BASELINE: a checkout of version
0.1.0, the same. Nothing is downloaded; what is installed trains.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench import recovery
from bench.report.table import Row
from trainer.training.data import idx_files
from trainer.training.hardware import cuda

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "bench" / "programs"
STEPS = {32: 4000, 128: 4000, 1024: 500, 4096: 1000}  # By batch: about half a second of a fast GPU.
KILLS = 3
FIT_STEPS = 5 * 1875  # Of Keras' fit: 5 epochs of batch 32.
CNN = "--experiment=trainer.examples.cnn"
CARD = re.compile(r"^GPU: .*$", re.MULTILINE)


def measure() -> Iterator[Row]:
    """Takes minutes.

    Raises:
      SystemExit: there is no GPU.
    """
    if not cuda.driver_version():
        raise SystemExit(
            "bench: no NVIDIA driver here; this benchmark is of a GPU: make bench ARGS=training is of CPUs"
        )
    said = _output(_step(128, steps=10))
    card = CARD.search(said)
    if card is None:
        raise SystemExit(
            "bench: TensorFlow sees no GPU, though there is a driver; install it with CUDA: pip install '.[gpu]'"
        )
    print(card[0], flush=True)
    ours = {batch: _seconds(_step(batch)) for batch in (32, 128, 4096)}
    yield Row("batch 128: µs a step, exact", ours[128] * 1e6, "≤ 90")
    yield Row("batch 4096: µs a step, exact", ours[4096] * 1e6)
    for batch in (128, 4096):
        free = _seconds(_step(batch, "--nodeterministic"))
        yield Row(f"batch {batch}: exact / --deterministic=false, time of a step", ours[batch] / free)
    if torch := os.environ.get("TORCH"):
        for batch, goal in ((128, "≥ 1.5"), (4096, "≥ 0.9")):
            theirs = _seconds(_graph(torch, "mlp", batch))
            yield Row(f"batch {batch}: PyTorch in a CUDA graph / ours", theirs / ours[batch], goal)
        for batch in (128, 1024):
            theirs = _seconds(_graph(torch, "cnn", batch))
            name = f"CNN of trainer/examples, batch {batch}: PyTorch in a CUDA graph / ours"
            yield Row(name, theirs / _seconds(_step(batch, CNN)), "≥ 1")
    if baseline := os.environ.get("BASELINE"):
        yield Row("batch 128: version 0.1.0 / ours", _step_of_0_1_0(Path(baseline)) / ours[128], "≥ 40")
    with tempfile.TemporaryDirectory() as folder:
        fit = json.loads(_output([sys.executable, str(PROGRAMS / "keras_fit.py"), folder]).splitlines()[-1])
    yield Row("batch 32: a step of Keras' fit / ours", fit["seconds"] / FIT_STEPS / ours[32], "≥ 60")
    several = _seconds(_step(128, steps=500), REPLICAS="2")
    yield Row("2 replicas, one process, batch 128: ms a step", several * 1e3, "≤ 0.9")
    with recovery.running(spare=True, workers=1) as run:
        seconds = [run.lose(signal.SIGKILL, spare=True, worker=0) for _ in range(KILLS)]
    name = f"kill -9 to the next step, a warm spare, seconds (median of {KILLS})"
    yield Row(name, statistics.median(seconds), "≤ 5")


def _step(batch: int, *flags: str, steps: int = 0) -> list[str]:
    return [sys.executable, str(PROGRAMS / "step.py"), str(batch), str(steps or STEPS[batch]), "--threads=0", *flags]


def _graph(torch: str, kind: str, batch: int) -> list[str]:
    return [torch, str(PROGRAMS / "cuda_graph.py"), kind, str(batch), str(STEPS[batch]), str(idx_files.EMBEDDED)]


def _step_of_0_1_0(checkout: Path) -> float:
    """Seconds of a step of batch 128, as its own result says, over whole epochs with its default flags."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "trainer", "--global_batch_size=128", "--epochs=2", f"--run_dir={folder}/run"]
        _output(command, cwd=checkout)
        return 128 / float(json.loads(Path(folder, "run", "result.json").read_text())["images_per_second"])


def _seconds(command: Sequence[str], **environ: str) -> float:
    return float(_output(command, environ=environ).split()[-1])


def _output(command: Sequence[str], *, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    variables = {"PYTHONPATH": str(cwd), "TF_CPP_MIN_LOG_LEVEL": "3", **(environ or {})}
    done = subprocess.run(command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
