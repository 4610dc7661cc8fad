"""MLflow and Weights & Biases beside a run: every step once, whatever is lost; a tracker that is away costs nothing."""

import contextlib
import importlib.util
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import running
from tests.support.servers.mlflow_server import Mlflow, mlflow_server
from tests.support.servers.refusing_proxy import refusing_proxy
from tests.support.waiting import until
from trainer.agent.trackers.mlflow_tracker import MlflowTracker
from trainer.agent.trackers.tracking import MOST_WAITING, Point, RefusedError, Run, Tracking
from trainer.core.free_ports import free_ports
from trainer.core.log_lines import Progress

RUN = Run(name="run", flags={}, goes_on=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


def progress(step: int, *, validation: Mapping[str, float] | None = None) -> Progress:
    return Progress(
        worker=0, workers=1, attempt=1, epoch=1, epochs=1, step=step, steps=100_000, metrics={"loss": 1.0},
        examples_per_second=1.0, validation=validation,
    )  # fmt: skip


def said(server: Mlflow, experiment: str, step: int) -> bool:
    """Whether a run of the experiment has come to a step."""
    with contextlib.suppress(OSError):
        return any(server.history(run, "loss")[-1:] >= [(step, 0.0)] for run in server.runs(experiment))
    return False


@contextlib.contextmanager
def relay(port: int, to: int) -> Iterator[None]:
    """Whoever connects to `port` speaks to the server at `to`."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", to)) as server:
                back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
                back.start()
                _pump(self.request, server)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as relaying:
        threading.Thread(target=relaying.serve_forever, daemon=True).start()
        yield
        relaying.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Notes:
    """A tracker that takes notes, and fails when it is told to; the real ones are below."""

    name = "Notes"

    def __init__(self, failing: BaseException | None = None) -> None:
        self.steps: list[int] = []
        self.ended: list[int] = []
        self.failing = failing
        self.known = (0, False)
        self.go_on = threading.Event()
        self.go_on.set()

    def begin(self, run: Run) -> tuple[int, bool]:
        assert run is RUN
        assert self.go_on.wait(60)
        self._fail()
        return self.known

    def log(self, points: Sequence[Point]) -> None:
        self._fail()
        self.steps += [point.progress.step for point in points]

    def end(self, result: Mapping[str, Any] | None, code: int) -> None:
        assert result is None
        self.ended.append(code)

    def _fail(self) -> None:
        if self.failing:
            raise self.failing


@pytest.mark.servers
def test_mlflow_has_every_step_once_though_worker_0_and_its_agent_were_lost(server: Mlflow, tmp_path: Path) -> None:
    environ = {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_EXPERIMENT_NAME": "lost", "STEP_SECONDS": "0.1"}
    with running(tmp_path, 1, trainer_flags=["--epochs=6", "--seed=3"], environ=environ) as run:
        agent = run.start(0)
        agent.wait_for_step(13)
        agent.signal_training(signal.SIGKILL)
        agent.wait_for_step(24, attempt=2)
        until(60, "the run in MLflow", lambda: said(server, "lost", 20))
        agent.process.kill()
        agent.end()
        last = run.start(0)
        assert run.codes() == [0]
    (found,) = server.runs("lost")
    assert (found["info"]["status"], found["info"]["run_name"]) == ("FINISHED", "run")
    params = {one["key"]: one["value"] for one in found["data"]["params"]}
    assert (params["epochs"], params["seed"]) == ("6", "3")
    history = server.history(found, "loss")
    steps = [step for step, _ in history]
    assert steps == sorted(set(steps))
    assert {*range(last.progress[0].step, 61)} <= set(steps)  # All that was told to an agent that lived on.
    assert all(value == pytest.approx(1 / step, abs=1e-4) for step, value in history)
    assert [value for _, value in server.history(found, "final/restarts")] == [2.0]


@pytest.mark.thorough
@pytest.mark.servers
def test_lines_of_a_time_without_mlflow_are_told_later(server: Mlflow, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    address = f"http://me:secret@127.0.0.1:{port}"
    environ = {"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "away", "STEP_SECONDS": "0.4"}
    with running(tmp_path, 1, trainer_flags=["--epochs=9"], environ=environ) as run:
        agent = run.start(0)
        agent.wait_for_line(f"warning: MLflow at http://127.0.0.1:{port} is away: ")
        agent.wait_for_step(5)
        with relay(port, server.port):
            agent.wait_for_line("takes lines again")
            assert run.codes() == [0]
        assert "secret" not in agent.text
    (found,) = server.runs("away")
    assert [step for step, _ in server.history(found, "loss")] == list(range(1, 91))


@pytest.mark.servers
@pytest.mark.parametrize("lost", [False, True])
def test_mlflow_that_fails_while_a_run_begins_has_it_once(server: Mlflow, lost: bool) -> None:
    experiment, left = f"begun-{lost}", {"refused": 3, "runs/create": int(lost), "runs/log-batch": 1}

    def take(name: str) -> bool:
        left[name] = left.get(name, 0) - 1
        return left[name] >= 0

    with refusing_proxy(server.address) as (address, proxy):
        proxy.answer = lambda _, path: (429, b"") if path.endswith("log-batch") and take("refused") else None
        proxy.loses = lambda _, path: take(path.partition("/mlflow/")[2])
        tracker = MlflowTracker({"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": experiment})
        run = Run(name="run", flags={"epochs": "3"}, goes_on=False)
        tracking = Tracking(tracker, run, say=lambda _: None, pause=0.01)
        tracking.progressed(progress(1))
        until(60, "the step in MLflow", lambda: said(server, experiment, 1))
        tracking.finish(None, 0)
        tracking.wait(30)
    assert max(left.values()) <= 0  # All of them failed as they were to.
    (found,) = server.runs(experiment)
    assert (found["info"]["status"], found["info"]["run_name"]) == ("FINISHED", "run")
    assert [(one["key"], one["value"]) for one in found["data"]["params"]] == [("epochs", "3")]


def test_mlflow_that_refuses_is_told_of_once_and_the_run_goes_on(tmp_path: Path) -> None:
    environ = {"MLFLOW_TRACKING_URI": "sqlite:///runs.db"}
    with running(tmp_path, 1, environ=environ) as run:
        agent = run.start(0)
        assert run.codes() == [0]
        told = [line for line in agent.lines if "MLFLOW_TRACKING_URI is no http:// or https:// address" in line]
        assert len(told) == 1


@pytest.mark.thorough
def test_a_server_that_never_answers_keeps_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with running(tmp_path, 2, trainer_flags=["--epochs=3"], environ=environ) as run:
            run.start_all()
            assert run.codes(60) == [0, 0]
            assert "does not know how the run ended; 30 line(s) were not sent" in run.agents[0].text
            assert "MLflow" not in run.agents[1].text  # Worker 0's agent alone speaks to it.


def test_an_address_may_have_a_password_that_nobody_sees() -> None:
    tracker = MlflowTracker({"MLFLOW_TRACKING_URI": "https://me:se%40cret@host:8443/path/"})
    assert tracker.name == "MLflow at https://host:8443"
    assert tracker._base == "https://host:8443/path/api/2.0/mlflow/"
    assert tracker._headers["Authorization"] == "Basic bWU6c2VAY3JldA=="
    with pytest.raises(RefusedError, match="no http"):
        MlflowTracker({"MLFLOW_TRACKING_URI": "databricks"})


def test_a_tracker_that_is_away_is_told_of_once_a_minute() -> None:
    now, said, notes = [0.0], list[str](), Notes(ConnectionError("http://me:secret@host is away"))
    tracking = Tracking(notes, RUN, say=said.append, pause=0.001, clock=lambda: now[0])
    tracking.progressed(progress(1))
    until(20, "the warning", lambda: said, pause=0.01)
    tracking.progressed(progress(2))
    until(20, "more tries", lambda: not tracking._wake.is_set(), pause=0.05)
    assert len(said) == 1
    assert "http://host is away; 1 lines wait" in said[0] or "0 lines wait" in said[0]
    now[0] = 61.0
    until(60, "the next warning", lambda: len(said) == 2, pause=0.01)
    notes.failing = None
    until(60, "the lines", lambda: notes.steps == [1, 2], pause=0.01)
    tracking.finish(None, 0)
    tracking.wait(20)
    assert notes.ended == [0]
    assert said[2:] == ["Notes takes lines again"]


def test_a_tracker_that_asks_for_an_exit_is_away_like_any_other() -> None:
    """Its client is other people's code; a thread that ends by it would end the agent, or nobody would hear of it."""
    said, notes = list[str](), Notes(SystemExit("no licence"))
    tracking = Tracking(notes, RUN, say=said.append, pause=0.001)
    tracking.progressed(progress(1))
    until(20, "the warning", lambda: said, pause=0.01)
    assert "Notes is away: SystemExit: no licence" in said[0]
    notes.failing = None
    until(60, "the line", lambda: notes.steps == [1], pause=0.01)
    tracking.finish(None, 0)
    tracking.wait(20)
    assert notes.ended == [0]


def test_what_a_tracker_knows_already_is_not_told_again() -> None:
    notes = Notes()
    notes.known = (3, False)
    tracking = Tracking(notes, RUN, say=lambda _: None, pause=0.001)
    for step in (2, 3, 4, 5, 3, 4, 5, 6):  # A resume in between.
        tracking.progressed(progress(step))
    tracking.progressed(progress(6, validation={"loss": 1.0}))  # The end of an epoch is more than its last step.
    tracking.finish(None, 0)
    tracking.wait(20)
    assert notes.steps == [4, 5, 6, 6]


def test_the_queue_ends_somewhere() -> None:
    notes = Notes()
    notes.go_on.clear()
    tracking = Tracking(notes, RUN, say=lambda _: None, pause=0.001)
    for step in range(1, MOST_WAITING + 101):
        tracking.progressed(progress(step))
    notes.go_on.set()
    tracking.finish(None, 0)
    tracking.wait(30)
    assert (notes.steps[0], len(notes.steps)) == (101, MOST_WAITING)


def test_a_tracker_that_refuses_ends_it() -> None:
    said, notes = list[str](), Notes(RefusedError("no such key"))
    tracking = Tracking(notes, RUN, say=said.append, pause=0.001)
    until(20, "the refusal", lambda: said, pause=0.01)
    tracking.progressed(progress(1))
    tracking.finish(None, 0)
    tracking.wait(5)
    assert said == ["warning: Notes is not told of this run: no such key"]


def test_without_the_client_of_weights_and_biases_a_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "wandb.py").write_text("raise ModuleNotFoundError('wandb')")
    environ = {"WANDB_API_KEY": "key"}
    prelude = f"import os; os.environ['PYTHONPATH'] += ':{tmp_path / 'empty'}'"
    with running(tmp_path, 1, environ=environ, prelude=prelude, trainer_flags=["--epochs=20"]) as run:
        agent = run.start(0)
        agent.wait_for_line("warning: Weights & Biases is not told of this run: wandb is not installed; pip install")
        assert run.codes() == [0]


@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="needs the extra wandb")
def test_weights_and_biases_offline_has_the_steps_and_the_result(tmp_path: Path) -> None:
    """The real client, which writes to a folder: its server cannot be had here."""
    environ = {"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)}
    with running(tmp_path, 1, trainer_flags=["--epochs=5", "--seed=3"], environ=environ) as run:
        agent = run.start(0)
        agent.wait_for_step(13)
        agent.signal_training(signal.SIGKILL)
        assert run.codes(120) == [0]
        assert "Weights" not in agent.text, agent.text
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for part in (b"loss", b"accuracy", b"final/steps", b"seed", b"examples_per_second"):
        assert part in content, part
    assert os.path.getsize(file) > 2000
