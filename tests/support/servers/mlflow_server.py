"""A real MLflow server, in a virtual environment of its own: its packages do not fit beside TensorFlow's."""

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import started
from tests.support.waiting import until
from trainer.core.free_ports import free_ports

VERSION = "3.17.2"
PLACE = Path.home() / ".cache" / "trainer-tools" / f"mlflow-{VERSION}"


def program() -> Path:
    """The server's command, installed once; the test is skipped where it cannot be."""
    command = PLACE / "bin" / "mlflow"
    ready = PLACE / ".ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True)
        install = [str(PLACE / "bin" / "pip"), "install", "--quiet", f"mlflow=={VERSION}"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs mlflow {VERSION}, which pip cannot install here: {done.stderr.strip()[-200:]}")
        ready.touch()
    return command


class Mlflow:
    """What a test asks a server."""

    def __init__(self, port: int) -> None:
        self.port, self.address = port, f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return json.loads(self.get(f"/api/2.0/mlflow/{path}", body))

    def get(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET" if data is None else "POST", path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise OSError(f"{path}: HTTP {answer.status} {content[:500]!r}")
            return content

    def runs(self, experiment: str = "trainer") -> list[Any]:
        found = self.ask(f"experiments/get-by-name?experiment_name={experiment}")["experiment"]["experiment_id"]
        return list(self.ask("runs/search", {"experiment_ids": [found]}).get("runs", []))

    def history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        path = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key={metric}&max_results=1000"
        return [(int(one["step"]), one["value"]) for one in self.ask(path).get("metrics", [])]


@contextlib.contextmanager
def mlflow_server(folder: Path, *, others: bool = False) -> Iterator[Mlflow]:
    """A server that keeps its runs in a folder; `others` than this machine may be allowed to ask it."""
    (port,) = free_ports(1)
    reached = ("--host", "0.0.0.0", "--allowed-hosts", "*") if others else ("--host", "127.0.0.1")
    command = (program(), "server", *reached, "--port", port, "--workers", 1)
    store = ("--backend-store-uri", f"sqlite:///{folder}/runs.db", "--default-artifact-root", folder)
    with started(
        *map(str, (*command, *store)),
        port=port,
        environ={"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        seconds=120,
    ):
        server = Mlflow(port)

        def healthy() -> bool:
            with contextlib.suppress(OSError):
                return bool(server.get("/health"))
            return False

        until(60, "MLflow", healthy)
        yield server
