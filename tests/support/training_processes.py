"""Training processes without an agent: started, watched line by line, killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support import imported
from tests.support.paths import ROOT, STRICT
from tests.support.progress_lines import progress_in
from trainer.core.free_ports import free_ports
from trainer.core.log_lines import Progress

PATIENCE = 120.0  # Seconds that anything may take, on a busy machine too.


class Worker:
    """One training process, its output as lines and its exit code."""

    def __init__(self, process: "subprocess.Popen[str] | imported.Process") -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self) -> int:
        """Waits for the end; the exit code, or minus the number of the signal that ended it."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("still running; its output:\n" + self.text) from None
        self._reader.join()
        return code

    def wait_for(self, condition: Callable[[str], Any]) -> str:
        """Waits for a line for which `condition` is true, and returns it."""
        seen, deadline = 0, time.monotonic() + PATIENCE
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if condition(line):
                        return line
                seen = len(self.lines)
                assert not self._ended, "the process ended without the line; its output:\n" + self.text
                assert self._changed.wait(deadline - time.monotonic()), "no such line; the output:\n" + self.text

    def wait_for_step(self, step: int) -> None:
        """Waits until a progress line says that `step` steps are completed."""
        self.wait_for(lambda line: (progress := Progress.parse(line)) and progress.step >= step)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def progress(self) -> list[Progress]:
        return progress_in(self.lines)

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Training:
    """Starts training processes that share some flags, and kills what is left of them."""

    def __init__(self, flags: Sequence[str], python: Path | str = sys.executable) -> None:
        self._flags, self._python = list(flags), str(python)
        self._started: list[Worker] = []

    def start(
        self,
        *flags: str,
        tf_config: str | None = None,
        environ: dict[str, str] | None = None,
        anew: bool = False,
    ) -> Worker:
        """Starts one process; `anew`: one that imports all by itself, and has this one's limits."""
        environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"} | (environ or {})
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STRICT), environment.get("PYTHONPATH")]))
        if tf_config is not None:
            environment["TF_CONFIG"] = tf_config
        worker = Worker(self._process([*self._flags, *flags], environment, anew=anew))
        self._started.append(worker)
        return worker

    def _process(
        self, argv: list[str], environ: dict[str, str], *, anew: bool
    ) -> "subprocess.Popen[str] | imported.Process":
        if not anew and self._python == sys.executable and imported.serves(argv, environ):
            return imported.Process(argv, environ)
        return subprocess.Popen(
            [self._python, "-m", "trainer", *argv],
            cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def start_workers(
        self,
        count: int,
        *flags: str,
        environ: dict[str, str] | None = None,
        environs: Sequence[dict[str, str]] | None = None,
    ) -> list[Worker]:
        """Starts a cluster of `count` processes on this machine; `environs` are each worker's own."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        return [
            self.start(
                *flags,
                tf_config=json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}),
                environ=(environ or {}) | (environs[index] if environs else {}),
            )
            for index in range(count)
        ]

    def run(self, *flags: str, count: int = 1) -> list[Worker]:
        """Runs a whole training, which must succeed."""
        workers = [self.start(*flags)] if count == 1 else self.start_workers(count, *flags)
        for worker in workers:
            assert worker.wait() == 0, worker.text
        return workers

    def close(self) -> None:
        for worker in self._started:
            if worker.process.poll() is None:
                worker.kill()
            worker.wait()
            assert worker.process.stdout
            worker.process.stdout.close()


def result(run_dir: Path) -> dict[str, Any]:
    """What stands in result.json."""
    return dict(json.loads((run_dir / "result.json").read_text()))


def number(pattern: str, text: str) -> int:
    """The integer that the first group of `pattern` matches in `text`."""
    match = re.search(pattern, text)
    assert match, f"{pattern} is not in:\n{text}"
    return int(match[1])
