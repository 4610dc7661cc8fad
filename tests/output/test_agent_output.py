"""Agents with an output, on real stores and through bad networks."""

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import STAND_IN, running
from tests.support.object_stores import Server
from tests.support.servers import BUCKET, SECRET, toxiproxy
from tests.support.waiting import until
from trainer.output.stores.store import StoredObject

pytestmark = pytest.mark.servers


@contextlib.contextmanager
def an_agent(server: Server, folder: Path, address: str = "", workers: int = 1, **options: Any) -> Iterator[Any]:
    flags = [f"--output={server.scheme}://{BUCKET}/agents/{folder.name}", "--mirror_interval=0.2"]
    flags += [f"--{name}={value}" for name, value in options.pop("flags", {}).items()]
    environ = {**server.environ(address), **options.pop("environ", {})}
    with running(folder, workers, program=STAND_IN, agent_flags=flags, environ=environ, **options) as agents:
        yield agents
        told = [agent.text for agent in agents.agents.values()]
        told += [path.read_text() for path in [*folder.glob("termination-*"), *agents.run_dir.rglob("*.log*")]]
        assert SECRET not in "".join(told)


def stored(server: Server, folder: Path) -> dict[str, StoredObject]:
    return server.objects(f"agents/{folder.name}/run")


def test_agents_bring_a_run_to_its_output(server: Server, tmp_path: Path) -> None:
    with an_agent(server, tmp_path, workers=2) as agents:
        agents.start_all()
        assert agents.codes() == [0, 0]
        objects = stored(server, tmp_path)
        assert json.loads(objects["result.json"].data) == agents.result
        assert len(objects["attempts.jsonl"].data.splitlines()) == 1
        for worker in (0, 1):
            assert b"progress worker=%d/2" % worker in objects[f"workers/{worker}/attempt-1.log"].data
        assert SECRET not in str(objects)


def test_a_lost_chief_resumes_from_its_output(server: Server, tmp_path: Path) -> None:
    with an_agent(server, tmp_path, environ={"BEHAVIOUR": "hang 0 20"}) as agents:
        agent = agents.start(0)
        until(
            30,
            "its first checkpoint in the bucket",
            lambda: any(key.startswith("checkpoints/step-000000001") for key in stored(server, tmp_path)),
        )
        agent.process.kill()
        agent.end()
        agents.run_dir.rename(tmp_path / "lost")
        agents.environ = {**agents.environ, "BEHAVIOUR": ""}
        agent = agents.start(0)
        agent.wait_for(
            lambda lines: any(re.search(r"from step [1-9]", line) for line in lines), "a resume above step 0"
        )
        assert agent.end() == 0
        assert [line["attempt"] for line in agents.attempts] == [2]  # The first agent died before it could say.
        assert "workers/0/attempt-2.log" in stored(server, tmp_path)


def test_what_was_written_is_brought_to_the_output_after_sigterm(server: Server, tmp_path: Path) -> None:
    with an_agent(server, tmp_path, flags={"mirror_interval": 3600}) as agents:
        agent = agents.start(0)
        agent.wait_for_step(7)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.end() == 143
        objects = stored(server, tmp_path)
        assert f"checkpoints/step-{agent.step:010d}.npz" in objects
        assert json.loads(objects["attempts.jsonl"].data)["step_to"] == agent.step
        assert b"exit 143" in objects["workers/0/attempt-1.log"].data


def test_a_finished_run_whose_disk_is_lost_is_not_run_again(server: Server, tmp_path: Path) -> None:
    with an_agent(server, tmp_path) as agents:
        assert agents.start(0).end() == 0
        before = stored(server, tmp_path)
        agents.run_dir.rename(tmp_path / "lost")
        agent = agents.start(0)
        assert agent.end() == 0
        agent.wait_for_line("finished before")
        assert not agent.progress
        assert agents.termination(0) == agents.result == json.loads(before["result.json"].data)
        after = stored(server, tmp_path)
    assert [json.loads(line)["attempt"] for line in after["attempts.jsonl"].data.splitlines()] == [1, 2]
    for key in before.keys() - {"mirror.json"}:
        assert after[key].data.startswith(before[key].data), key
        if "events" not in key and key != "attempts.jsonl":  # A mark, and a line, are added to these.
            assert after[key].version == before[key].version, key


@pytest.mark.parametrize("code", [143, 0])
def test_sigterm_while_a_run_that_is_done_waits_for_its_output(server: Server, tmp_path: Path, code: int) -> None:
    with (
        toxiproxy(server.address) as (front, toxics),
        an_agent(server, tmp_path, front) as agents,
    ):
        agent = agents.start(0, agent_flags=["--grace=1" if code else "--grace=100"])
        agent.wait_for_step(3)
        toxics.enable(False)
        agent.wait_for_line("warning: the output cannot be written")
        until(30, "the result", (agents.run_dir / "result.json").exists)
        agent.wait_for_line("is over: worker 0 is done")
        agent.process.send_signal(signal.SIGTERM)
        agent.wait_for_line("SIGTERM: the output gets what the grace period is long enough for")
        if not code:
            toxics.enable(True)
        assert agent.end() == code
        if code:
            message = agents.termination(0)
            assert message["exit_code"] == code
            assert re.search(r"SIGTERM: the output lacks .*result.json", message["reason"])
        else:
            assert json.loads(stored(server, tmp_path)["result.json"].data)["steps"] == 50


def test_a_chief_that_is_lost_while_it_waits_for_the_output_has_a_successor(server: Server, tmp_path: Path) -> None:
    with toxiproxy(server.address) as (front, toxics), an_agent(server, tmp_path, front, workers=2) as agents:
        chief, other = agents.start_all()
        chief.wait_for_step(3)
        toxics.enable(False)
        chief.wait_for_line("is over: worker 0 is done")
        other.wait_for_line("state=meeting restarts=0 pid=0 spare=none last=done")
        chief.process.kill()
        chief.end()
        assert other.process.poll() is None
        toxics.enable(True)
        agents.start(0)
        assert agents.codes() == [0, 0]
        assert json.loads(stored(server, tmp_path)["result.json"].data)["steps"] == 50


def test_an_output_that_is_gone_at_the_end_exits_74(server: Server, tmp_path: Path) -> None:
    flags = {"mirror_final_timeout": 1}
    with (
        toxiproxy(server.address) as (front, toxics),
        an_agent(server, tmp_path, front, flags=flags) as agents,
    ):
        agent = agents.start(0)
        agent.wait_for_step(3)
        toxics.enable(False)
        assert agent.end() == 74
        message = agents.termination(0)
        assert message["exit_code"] == 74
        assert re.search(r"lacks .*checkpoints/step-0000000050.npz, result.json after 1 s", message["reason"])
        agent.wait_for_line(message["reason"])


def test_an_agent_ends_all_with_64_when_there_is_no_bucket(server: Server, tmp_path: Path) -> None:
    flags = {"output": f"{server.scheme}://no-such-bucket/runs"}
    with an_agent(server, tmp_path, workers=2, flags=flags) as agents:
        agents.start_all()
        assert agents.codes() == [64, 64]
        assert "there is no such bucket" in agents.agents[0].text
