"""The launcher as a process, line by line."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tests.e2e.release import Release, run
from tests.support.paths import CHART

DEADLINE = 240.0


class Launching:
    """One run of `python -m trainer.launch`."""

    started: ClassVar[list["Launching"]] = []  # For a test's end, whatever became of it.

    def __init__(
        self,
        *arguments: str,
        kubeconfig: str | pathlib.Path = "",
        trainer: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it; `environ` is what its environment has besides this process's."""
        command = [sys.executable, "-m", "trainer.launch", *arguments]
        if trainer:
            command += ["--", *trainer]
        config = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **config, **(environ or {})},
        )
        self.started.append(self)
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._times: list[float] = []
        self.began = time.monotonic()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        with self._changed:
            return "\n".join(self._lines)

    def lines(self) -> list[dict[str, Any]]:
        """What --json wrote."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def says(self, words: str, seconds: float = DEADLINE) -> None:
        """Waits until it has."""
        self._wait(lambda: words in "\n".join(self._lines), f"{words!r}", seconds)

    def when(self, words: str) -> float:
        """Waits until it has said `words`; returns when it did, in time.monotonic's seconds."""
        self.says(words)
        with self._changed:
            return next(time_ for time_, line in zip(self._times, self._lines, strict=True) if words in line)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ends(self, seconds: float = DEADLINE) -> int:
        """Waits for its end; returns its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the launcher has not ended:\n{self.text}") from None
        self._reader.join(10)
        return code

    @classmethod
    def end_all(cls) -> None:
        """Leaves no launcher behind."""
        while cls.started:
            launching = cls.started.pop()
            launching.process.kill()
            launching.process.wait()
            launching._reader.join(10)

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as output:
            for line in output:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._times.append(time.monotonic())
                    self._changed.notify_all()

    def _wait(self, seen: Callable[[], bool], what: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._changed:
            while not seen():
                left = until - time.monotonic()
                over = left < 0 or (self.process.poll() is not None and not self._reader.is_alive())
                assert not over, f"{what} was not said:\n" + "\n".join(self._lines)
                self._changed.wait(min(left, 1.0))


def launched(
    *arguments: str,
    kubeconfig: str | pathlib.Path = "",
    trainer: tuple[str, ...] = (),
    environ: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Runs the launcher to its end: its exit code and what it said."""
    launching = Launching(*arguments, kubeconfig=kubeconfig, trainer=trainer, environ=environ)
    return launching.ends(), launching.text


def at(release: Release) -> str:
    """The flag that names the release's namespace."""
    return f"--namespace={release.namespace}"


def submission(release: Release, *more: str) -> list[str]:
    """The arguments that submit this checkout's chart with this run's image, for a machine without GPUs."""
    where = (at(release), f"--chart={CHART}", f"--image={os.environ['IMAGE']}")
    return [*where, "--gpus_per_worker=0", f"--values={CHART}/values-cpu.yaml", *more]


def typed(release: Release, folder: pathlib.Path) -> tuple[list[str], pathlib.Path]:
    """All that a person types whose nodes have the image that the chart names, in the context's namespace."""
    kubeconfig = folder / "config"
    kubeconfig.write_text(run("kubectl", "config", "view", "--raw", "--flatten", "--minify").stdout)
    run("kubectl", f"--kubeconfig={kubeconfig}", "config", "set-context", "--current", at(release))
    own = [] if "OWN_CLUSTER" in os.environ else [f"--image={os.environ['IMAGE']}"]
    return ["--workers=2", "--gpus_per_worker=0", *own], kubeconfig


def of_workers(environ: Mapping[str, str]) -> str:
    """The launcher's flag for variables of the workers' environment."""
    values = [
        f"worker.extraEnv[{number}].name={name},worker.extraEnv[{number}].value={value}"
        for number, (name, value) in enumerate(environ.items())
    ]
    return f"--set={','.join(values)}"
