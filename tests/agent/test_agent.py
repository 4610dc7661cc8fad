"""The agent's own logic with real agents and real child processes that count instead of training.

What needs TensorFlow to be true is tested in test_agent_training.py.
"""

import json
import pathlib
import signal
import socket
import time

import pytest

from tests.support.agents import children, running, signal_at_once, wait_until_gone
from tests.support.tensorboard_client import wait_for_page
from trainer.core.free_ports import free_ports
from trainer.core.log_lines import StateLine


def test_killed_training_processes_are_restarted_and_the_run_ends_with_its_result(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 3, agent_flags=["--warm_spare"], trainer_flags=["--epochs=6"]) as run:
        chief, first, second = run.start_all()
        chief.wait_for_step(7)
        assert run.get(1, "/healthz") == (200, "ok\n")
        first.signal_training(signal.SIGKILL)
        chief.wait_for_step(14, attempt=2)
        assert run.get(0, "/readyz") == (200, "training\n")
        metrics = run.get(0, "/metrics")[1]
        assert "trainer_step " in metrics
        assert 'trainer_restarts_total{cause="stopped"} 1.0' in metrics
        assert run.get(1, "/rendezvous")[0] == 404
        chief.wait_for_spare(attempt=2)
        signal_at_once({chief: signal.SIGSEGV, second: signal.SIGKILL})
        assert run.codes() == [0, 0, 0]
        assert run.result["restarts"] == 2
        assert [line["attempt"] for line in run.attempts] == [1, 2, 3]
        assert [line["ended"] for line in run.attempts] == ["crash", "crash", "done"]
        first_failure = run.attempts[0]["failure"]
        assert (first_failure["worker"], first_failure["exit_code"], first_failure["signal"]) == (1, 137, "SIGKILL")
        assert run.attempts[1]["failure"]["worker"] in (0, 2)
        for line in run.attempts:
            assert line["seconds"].keys() == {"rendezvous", "start_up", "training"}
            assert 0 < line["seconds"]["training"] < 60
        for before, after in zip(run.attempts, run.attempts[1:], strict=False):
            assert before["step_to"] - 5 <= after["step_from"] <= before["step_to"]
        assert run.termination(0) == run.result
        assert run.termination(2)["exit_code"] == 0
        assert "in a warm spare" in chief.text


def test_a_compilation_is_no_hang(tmp_path: pathlib.Path) -> None:
    environ = {"BEHAVIOUR": "compile 0 7"}
    with running(tmp_path, 1, agent_flags=["--hang_timeout=3", "--max_restarts=0"], environ=environ) as run:
        assert run.start(0).end() == 0


def test_a_process_that_makes_no_step_shows_its_stacks_and_is_killed(tmp_path: pathlib.Path) -> None:
    environ = {"BEHAVIOUR": "hang 0 7"}
    with running(tmp_path, 1, agent_flags=["--hang_timeout=3", "--max_restarts=0"], environ=environ) as run:
        agent = run.start(0)
        assert agent.end() == 137  # The step hangs in every attempt.
        assert 'stand_in.py", line' in agent.text
        assert "in misbehave" in agent.text
        message = run.termination(0)
        assert (message["worker"], message["signal"], message["step"], message["restarts"]) == (0, "SIGKILL", 7, 0)
        assert (message["cause"], message["killed_by_agent"], message["accused"]) == ("hung", True, [])
        assert (message["format"], message["run"], message["output"]) == (2, "run", "")


def test_a_step_that_always_crashes_ends_the_run_after_max_restarts(tmp_path: pathlib.Path) -> None:
    environ = {"BEHAVIOUR": "crash 0 12"}
    with running(tmp_path, 1, agent_flags=["--max_restarts=2"], environ=environ) as run:
        agent = run.start(0)
        assert agent.end() == 1
        # The first crash comes after a newer checkpoint than none; the others find none newer.
        assert [line["ended"] for line in run.attempts] == ["crash"] * 3
        assert [line["failure"]["errors"] for line in run.attempts] == [["the step is bad"]] * 3
        message = run.termination(0)
        assert message["exit_code"] == 1
        assert message["errors"] == ["the step is bad"]
        assert "--max_restarts=2" in message["reason"]


def test_a_process_that_exits_before_there_is_a_result_is_not_done(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1, agent_flags=["--max_restarts=0"], environ={"BEHAVIOUR": "exit 0 7"}) as run:
        agent = run.start(0)
        assert agent.end() == 70
        assert "ended with 0 before there was a result" in run.termination(0)["errors"][-1]
        assert [line["ended"] for line in run.attempts] == ["crash"] * len(run.attempts)


@pytest.mark.parametrize("behaviour", ["crash 0 12", "data 0 12"])
def test_each_attempts_log_says_once_how_it_ended(tmp_path: pathlib.Path, behaviour: str) -> None:
    with running(tmp_path, 1, agent_flags=["--max_restarts=1"], environ={"BEHAVIOUR": behaviour}) as run:
        code = run.start(0).end()
        logs = [path.read_text() for path in sorted((run.run_dir / "workers" / "0").glob("*.log"))]
        assert len(logs) == {"crash 0 12": 2, "data 0 12": 1}[behaviour]
        for number, log in enumerate(logs, 1):
            assert log.count(f"worker 0 ended with {code} (") == 1
            assert log.count(" is bad\n") == 1
            assert f"agent 0: attempt {number} is over\n" in log
        assert f"agent 0: exit {code} (" in logs[-1]


@pytest.mark.parametrize("bad", [0, 1])
def test_bad_flags_of_one_worker_end_all_with_64_and_everybody_says_whose(tmp_path: pathlib.Path, bad: int) -> None:
    with running(tmp_path, 3) as run:
        for index in range(3):
            run.start(index, trainer_flags=["--epochs=0"] if index == bad else [])
        assert run.codes() == [64, 64, 64]
        for agent in run.agents.values():
            assert f"worker {bad} ended with 64" in agent.text
            assert "--epochs=0 must be at least 1" in agent.text
        assert run.termination(2)["exit_code"] == 64
        assert not run.run_dir.exists()


def test_flags_that_differ_between_workers_are_refused(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2) as run:
        run.start(0)
        run.start(1, trainer_flags=["--epochs=7", "--threads=1"])
        assert run.codes() == [64, 64]
        assert "flags" in run.agents[0].text
        assert "--epochs=7" in run.agents[0].text
        assert "--threads" not in run.agents[0].text.partition("differ")[2]


def test_bad_data_on_one_worker_ends_all_with_65(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, environ={"BEHAVIOUR": "data 1 3"}) as run:
        run.start_all()
        assert run.codes() == [65, 65]
        assert "worker 1 ended with 65" in run.agents[0].text
        assert [run.termination(index)["accused"] for index in (0, 1)] == [[1], []]
        # Worker 0's process may notice that its peer is gone before its agent stops it.
        assert run.termination(0)["cause"] in {"stopped", "peer_lost"}
        assert run.termination(1)["cause"] == "final"
        assert "the data is bad" in run.agents[0].text


def test_who_never_comes_is_named(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 3, agent_flags=["--rendezvous_timeout=1"]) as run:
        run.start(0)
        run.start(2)
        assert run.codes() == [75, 75]
        for agent in run.agents.values():
            assert "worker 1 of 3 did not come within --rendezvous_timeout=1 s" in agent.text
        assert [run.termination(index)["accused"] for index in (0, 2)] == [[1], [1]]


def test_a_missing_worker_0_is_named_with_its_address(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, agent_flags=["--rendezvous_timeout=1"]) as run:
        assert run.start(1).end() == 75
        assert f"worker 0's agent at 127.0.0.1:{run.ports[0]} did not answer within 1 s" in run.agents[1].text
        assert "refused" in run.agents[1].text
        assert run.termination(1)["accused"] == [0]


def test_a_name_that_does_not_resolve_is_named(tmp_path: pathlib.Path) -> None:
    tf_config = {"cluster": {"worker": ["nowhere.invalid:2222", "b:2222"]}, "task": {"type": "worker", "index": 1}}
    environ = {"TF_CONFIG": json.dumps(tf_config)}
    with running(tmp_path, 1, agent_flags=["--rendezvous_timeout=1", "--chief_agent="], environ=environ) as run:
        assert run.start(0).end() == 75
        assert "the name of worker 0, 'nowhere.invalid', did not resolve within 1 s" in run.agents[0].text
        assert run.termination(0)["accused"] == [0]


def test_worker_0_waits_for_a_name_that_it_alone_cannot_resolve_and_names_it(tmp_path: pathlib.Path) -> None:
    """The other worker, as far as it knows, can begin: it hears from worker 0 what is wrong with its name."""
    with running(tmp_path, 2, agent_flags=["--rendezvous_timeout=3"]) as run:
        given, run.addresses = run.addresses, ("localhost:2222", "nowhere.invalid:2222")
        began = time.monotonic()
        run.start(0)
        run.addresses = given
        run.start(1)
        assert run.codes() == [75, 75]
        assert time.monotonic() - began > 3
        for agent in run.agents.values():
            assert (
                "the name of worker 1 did not resolve within --rendezvous_timeout=3 s: 'nowhere.invalid': "
                in agent.text
            )
        assert run.termination(0)["accused"] == [1]


def test_sigterm_saves_and_the_others_wait_for_the_successor(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, trainer_flags=["--epochs=6"]) as run:
        chief, other = run.start_all()
        chief.wait_for_step(7)
        other.process.send_signal(signal.SIGTERM)
        other.process.send_signal(signal.SIGTERM)  # A second one shortens nothing.
        assert other.end() == 143
        stopped_at = other.step
        chief.wait_for_line("worker 1 was told to go (SIGTERM)")
        assert chief.process.poll() is None
        run.start(1)
        assert run.codes() == [0, 0]
        assert run.attempts[1]["step_from"] == stopped_at == run.attempts[0]["step_to"]
        assert run.attempts[0]["failure"]["cause"] == "left"


def test_a_process_that_waits_for_its_first_step_has_nothing_to_save(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1, agent_flags=["--grace=1000"], environ={"BEHAVIOUR": "hang 0 0"}) as run:
        (agent,) = run.start_all()
        agent.wait_for_line("from step 0")
        agent.process.send_signal(signal.SIGTERM)
        assert agent.end() == 143


def test_a_process_that_is_stopped_before_its_first_step_is_killed(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1, agent_flags=["--max_restarts=0"], environ={"BEHAVIOUR": "hang 0 0"}) as run:
        (agent,) = run.start_all()
        agent.wait_for_line("from step 0")
        agent.signal_training(signal.SIGSTOP)
        assert agent.end() == 137
        assert "frozen" in agent.text


def test_a_lost_worker_0_is_waited_for_and_its_successor_counts_on(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, trainer_flags=["--epochs=6"]) as run:
        chief, _ = run.start_all()
        chief.wait_for_step(7)
        chief.process.send_signal(signal.SIGTERM)
        assert chief.end() == 143
        chief = run.start(0)
        chief.wait_for_step(12, attempt=2)
        pid = chief.state.pid
        chief.process.kill()  # Not even a word; its training process goes with it.
        wait_until_gone(pid)
        run.start(0)
        assert run.codes() == [0, 0]
        assert run.result["restarts"] == 2
        assert [line["attempt"] for line in run.attempts] == [1, 3]  # Nobody was left to write the line of 2.


def test_a_killed_agent_takes_its_processes_along_and_a_successor_its_place(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, agent_flags=["--warm_spare"], trainer_flags=["--epochs=6"]) as run:
        chief, other = run.start_all()
        other.wait_for_spare()
        pids = children(other.process.pid)
        assert len(pids) == 2
        other.process.kill()
        for pid in pids:
            wait_until_gone(pid)
        chief.wait_for_line("the agent of worker 1 is gone")
        run.start(1)
        assert run.codes() == [0, 0]
        assert run.attempts[0]["failure"]["cause"] in ("agent_lost", "peer_lost")


def test_an_elastic_run_goes_on_without_a_worker_and_takes_it_in_again(tmp_path: pathlib.Path) -> None:
    flags, environ = ["--min_workers=2", "--elastic_wait=1"], {"STEP_SECONDS": "0.02"}
    with running(tmp_path, 3, agent_flags=flags, trainer_flags=["--epochs=16"], environ=environ) as run:
        chief, _, last = run.start_all()
        chief.wait_for_step(7)
        run.agents[1].process.kill()
        chief.wait_for_step(20, attempt=2)
        assert chief.progress[-1].workers == 2
        assert last.progress[-1].worker == 1  # The second of two now.
        run.start(1)
        chief.wait_for_step(30, attempt=3)
        assert chief.progress[-1].workers == 3
        assert run.codes() == [0, 0, 0]
        assert [line["workers"] for line in run.attempts] == [[0, 1, 2], [0, 2], [0, 1, 2]]
        assert run.attempts[1]["ended"] == "agreed"
        assert "failure" not in run.attempts[1]
        assert run.attempts[2]["step_from"] == run.attempts[1]["step_to"]  # They stopped at a save.


def test_a_taken_port_is_a_usage_error(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1) as run, socket.create_server(("", run.ports[0])):
        agent = run.start(0)
        assert agent.end() == 64
        assert f"cannot listen on --port={run.ports[0]}" in agent.text


def test_a_worker_that_is_slow_to_end_still_hears_that_all_is_done(tmp_path: pathlib.Path) -> None:
    """Slower than it may be: its agent ends its process, and asks worker 0's after that."""
    with running(tmp_path, 2, environ={"BEHAVIOUR": "linger 1 10"}, trainer_flags=["--epochs=1"]) as run:
        run.start_all()
        assert run.codes(seconds=60) == [0, 0]


@pytest.mark.parametrize(
    ("flags", "environ", "part"),
    [
        (["--max_restarts=-1"], {}, "--max_restarts=-1 must be at least 0"),
        (["--min_workers=3"], {}, "--min_workers=3 is more than the 1 worker(s)"),
        ([], {"TF_CONFIG": "{"}, "TF_CONFIG is not JSON"),
    ],
)
def test_bad_agent_flags_and_environment(
    tmp_path: pathlib.Path, flags: list[str], environ: dict[str, str], part: str
) -> None:
    with running(tmp_path, 1, agent_flags=flags, environ=environ) as run:
        agent = run.start(0)
        assert agent.end() == 64
        assert part in agent.text
        assert "Traceback" not in agent.text


def test_of_tensorboard_a_person_hears_only_that_it_does_not_run(tmp_path: pathlib.Path) -> None:
    (port,) = free_ports(1)
    flags, environ = ["--tensorboard", f"--tensorboard_port={port}"], {"BEHAVIOUR": "hang 0 7"}
    prelude = "from trainer.agent.processes import children; children._PAUSE = 0.5"
    with running(tmp_path, 1, agent_flags=flags, environ=environ, prelude=prelude) as run:
        with socket.create_server(("", port)):
            agent = run.start(0)
            agent.wait_for_line("ERROR: TensorBoard could not bind to port")
        wait_for_page(port)
        theirs = ("tensor", "pkg_resources", "fast data")
        (line,) = (line for line in agent.lines if any(word in line.lower() for word in theirs))
        assert line == (
            f"agent 0: warning: TensorBoard has ended with 255: ERROR: TensorBoard could not bind to port {port}, "
            "it was already in use; it is started again every 0.5 s"
        )


def test_orphans_are_reaped(tmp_path: pathlib.Path) -> None:
    script = "( setsid sh -c 'echo orphan $$; sleep 0.2' & ); exec sleep 60"
    # What process 1 of a container is without asking, any process can be: the parent of orphans below it.
    become_reaper = "import ctypes; ctypes.CDLL(None).prctl(36, 1)"
    with running(tmp_path, 1, program=("sh", "-c", script), prelude=become_reaper) as run:
        agent = run.start(0)
        agent.wait_for_line("orphan ")
        pid = int(next(line for line in agent.lines if line.startswith("orphan ")).split()[1])
        wait_until_gone(pid, zombie=True)
        assert agent.process.poll() is None


def test_the_agent_is_small_and_does_not_import_tensorflow(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1, trainer_flags=["--epochs=9"]) as run:
        agent = run.start(0)
        agent.wait_for_step(5)
        run.get(0, "/metrics")
        status = pathlib.Path(f"/proc/{agent.process.pid}/status").read_text()
        assert int(status.partition("VmRSS:")[2].split()[0]) < 60_000  # kB
        assert "tensorflow" not in pathlib.Path(f"/proc/{agent.process.pid}/maps").read_text()


def test_the_state_line_is_read_as_it_was_written() -> None:
    line = StateLine(
        worker=1, workers=4, attempt=2, state="training", restarts=1, pid=4711, spare="ready", last="peer_lost"
    )
    assert StateLine.parse(line.format()) == line
    assert StateLine.parse("agent 1: attempt 1 begins") is None
