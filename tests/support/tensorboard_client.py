"""TensorBoard as a process, and what it answers over HTTP."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from trainer.core.process import spawn


@contextlib.contextmanager
def tensorboard(run_dir: pathlib.Path | str, port: int, *, fast: bool) -> Iterator[None]:
    """A TensorBoard that reads with its fast reader or its Python one; killed at the end of the block."""
    options = ["--logdir", str(run_dir), "--port", str(port), f"--load_fast={str(fast).lower()}"]
    process = spawn([sys.executable, "-m", "trainer.board", *options], os.environ, output=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wait_for_page(port: int, *, host: str = "127.0.0.1") -> None:
    """Waits until TensorBoard answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{host}:{port}", timeout=10):
            return
        time.sleep(0.25)
    raise AssertionError(f"TensorBoard on port {port} does not answer")


def scalars(port: int, run: str, tag: str, *, at_least: int) -> list[tuple[int, float]]:
    """The (step, value) pairs of a tag, as soon as TensorBoard shows `at_least` that many."""
    url = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?tag={tag}&run={run}"
    deadline = time.monotonic() + 60
    points: list[Any] = []
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError, json.JSONDecodeError):
            with urllib.request.urlopen(url, timeout=10) as response:
                points = json.load(response)
            if len(points) >= at_least:
                return [(step, value) for _, step, value in points]
        time.sleep(0.25)
    raise AssertionError(f"TensorBoard on port {port} shows {len(points)} points of {run}/{tag}, expected {at_least}")
