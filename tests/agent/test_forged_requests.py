"""Who may speak to the coordinator: real agents that train while strangers, and broken agents, send them requests."""

import json
import pathlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.agents import Run, running
from tests.support.forging import (
    FORGED_REQUESTS,
    MALFORMED_REQUESTS,
    connected,
    hold,
    join,
    message,
    seconds_until_closed,
    status,
)
from trainer.agent.coordination.messages import MOST_BYTES


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Two workers that train for as long as the tests of this module need."""
    flags, environ = ["--epochs=2000"], {"STEP_SECONDS": "0.05"}
    with running(tmp_path_factory.mktemp("run"), 2, trainer_flags=flags, environ=environ) as run:
        chief, _ = run.start_all()
        chief.wait_for_step(2)
        yield run


def assert_undisturbed(run: Run) -> None:
    """It trains on, in its first attempt."""
    chief = run.agents[0]
    step = chief.step
    chief.wait_for_step(step + 3)
    assert chief.progress[-1].attempt == 1
    for agent in run.agents.values():
        assert agent.process.poll() is None
        assert "Traceback" not in agent.text


@pytest.mark.parametrize("token", [None, "", "another", "the-token-of-this-ruN"])
@pytest.mark.parametrize("what", FORGED_REQUESTS)
def test_without_the_token_nothing_is_believed(trained: Run, what: str, token: str | None) -> None:
    assert status(trained.ports[0], message(FORGED_REQUESTS[what], token=token)) == 401
    if token is None:
        assert_undisturbed(trained)


@pytest.mark.parametrize("what", MALFORMED_REQUESTS)
def test_what_no_agent_sends_is_refused(trained: Run, what: str) -> None:
    assert status(trained.ports[0], message(MALFORMED_REQUESTS[what])) == 400


def test_what_was_refused_has_changed_nothing_and_is_counted_and_told_once_a_minute(trained: Run) -> None:
    chief = trained.agents[0]
    for _ in range(20):
        status(trained.ports[0], message(b"", token="no"))
    refused = next(
        line for line in trained.get(0, "/metrics")[1].splitlines() if 'requests_total{status="401"}' in line
    )
    assert float(refused.split()[-1]) >= 20
    told = [line for line in chief.lines if "without this run's token were refused" in line]
    assert 1 <= len(told) <= 3
    assert "127.0.0.1" in told[0]
    assert_undisturbed(trained)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content_Length": "abc"}, 400),
        ({"Content_Length": "-1"}, 400),
        ({"Content_Length": "²"}, 400),
        ({"Content_Length": ""}, 400),
        ({"Content_Length": "9" * 5000}, 413),
        ({"Content_Length": str(MOST_BYTES + 1)}, 413),
        ({"Transfer_Encoding": "chunked"}, 400),
    ],
)
@pytest.mark.parametrize("worker", [0, 1])
def test_a_message_without_a_length_or_too_long_is_refused_before_it_is_read(
    trained: Run, worker: int, headers: dict[str, str], expected: int
) -> None:
    sent = message(b"{}", **headers)
    assert status(trained.ports[worker], sent) == (expected if worker == 0 else 404)


def test_a_gigabyte_is_not_read(trained: Run) -> None:
    for port, path in ((trained.ports[0], "/rendezvous"), (trained.ports[1], "/nothing")):
        for token in ("no", "the-token-of-this-run"):
            with connected(port) as connection:
                connection.sendall(message(b"", token=token, path=path, Content_Length=str(2**30)))
                connection.settimeout(5)
                sent, chunk = 0, bytes(1 << 16)
                try:
                    while sent < 2**26:
                        sent += connection.send(chunk)
                except OSError:
                    pass
                assert sent < 2**24  # The kernel's buffers, and what is passed over while the answer is read.
    for agent in trained.agents.values():
        peak = pathlib.Path(f"/proc/{agent.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        assert int(peak) < 100_000  # kB
    assert_undisturbed(trained)


@pytest.mark.thorough
def test_silent_connections_and_those_that_trickle_end(trained: Run) -> None:
    """Half a minute for all of them together: nothing, half a head, half a body, a head byte by byte."""
    head, _, _ = message({}).partition(b"\r\n\r\n")
    begun = [b"", b"GET /healthz HTT", head, message(b"x" * 10, Content_Length="100")]
    ended: dict[int, float] = {}

    def watch(number: int, start: bytes, trickle: bytes = b"") -> None:
        with connected(trained.ports[0]) as connection:
            connection.sendall(start)
            began = time.monotonic()
            if trickle:
                try:
                    while time.monotonic() - began < 60:
                        connection.sendall(trickle)
                        time.sleep(1)
                except OSError:
                    pass
            else:
                seconds_until_closed(connection, 60)
            ended[number] = time.monotonic() - began

    threads = [threading.Thread(target=watch, args=(number, start)) for number, start in enumerate(begun)]
    threads.append(threading.Thread(target=watch, args=(9, b"GET /healthz HTTP/1.1\r\nX-A: ", b"a")))
    threads.append(threading.Thread(target=watch, args=(10, message(b"", Content_Length="100"), b" ")))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == len(threads)
    assert all(20 < seconds < 45 for seconds in ended.values()), ended
    assert_undisturbed(trained)


def test_a_crowd_of_idle_connections_keeps_nobody_out(trained: Run) -> None:
    crowd = []
    try:
        for _ in range(700):  # More than are waited for at once.
            context = connected(trained.ports[0])
            context.__enter__()
            crowd.append(context)
        assert trained.get(0, "/healthz") == (200, "ok\n")
        threads = pathlib.Path(f"/proc/{trained.agents[0].process.pid}/status").read_text()
        assert int(threads.partition("Threads:")[2].split()[0]) < 400
        assert_undisturbed(trained)
    finally:
        for context in crowd:
            context.__exit__(None, None, None)


def test_an_agent_with_another_token_is_told_so_and_worker_0_is_told_of_it(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, agent_flags=["--rendezvous_timeout=5"]) as run:
        chief = run.start(0)
        run.environ = {"TRAINER_TOKEN": "another"}
        other = run.start(1)
        assert run.codes() == [75, 75]
        assert "worker 1 of 2 did not come" in chief.text
        assert "requests without this run's token were refused" in chief.text
        (said,) = (line for line in other.lines if "has refused this one, which asks again" in line)
        assert "all workers of a run need the same TRAINER_TOKEN" in said
        assert "the-token-of-this-run" not in chief.text + other.text


def test_the_uid_of_the_job_is_the_token_of_its_pods(tmp_path: pathlib.Path) -> None:
    uid = "5fa6c1ee-1f2b-4f4c-8b4e-0a1b2c3d4e5f"
    with running(tmp_path, 2, environ={"TRAINER_TOKEN": "", "JOB_UID": uid}) as run:
        chief, other = run.start_all()
        chief.wait_for_step(2)
        assert status(run.ports[0], message(hold(7, token="x"), token=None)) == 401
        assert status(run.ports[0], message(hold(7, token="x"), token=uid)) == 200  # A hold of nothing is over.
        assert run.codes() == [0, 0]
        assert "has no token" not in chief.text + other.text


def test_without_any_token_the_run_says_so_and_goes_on(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2, environ={"TRAINER_TOKEN": ""}) as run:
        run.start_all()
        assert run.codes() == [0, 0]
        for index, agent in run.agents.items():
            (said,) = (line for line in agent.lines if "has no token" in line)
            assert f"port {run.ports[index]}" in said
            assert "TRAINER_TOKEN" in said


def test_a_worker_that_is_alone_needs_no_token_and_listens_to_nobody(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1, environ={"TRAINER_TOKEN": ""}) as run:
        agent = run.start(0)
        agent.wait_for_step(2)
        assert status(run.ports[0], message(join(0, cause="final", code=64), token=None)) == 401
        assert agent.end() == 0
        assert "has no token" not in agent.text


def test_a_token_that_no_header_can_carry_names_itself(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 1, environ={"TRAINER_TOKEN": "secret\n"}) as run:
        agent = run.start(0)
        assert agent.end() == 64
        assert "TRAINER_TOKEN in the environment has a blank, a line break" in agent.text
        assert "Traceback" not in agent.text


def test_what_trains_does_not_know_the_token(tmp_path: pathlib.Path) -> None:
    program = ("sh", "-c", 'echo "token: $TRAINER_TOKEN."; sleep 60')
    with running(tmp_path, 1, program=program) as run:
        run.start(0).wait_for_line("token: .")


def test_what_a_worker_prints_reaches_nobody_as_a_command_or_as_lines_of_its_own(tmp_path: pathlib.Path) -> None:
    hostile = r"boom\033]0;owned\007\033[2J\033]52;c;aGk=\007\302\2331A\342\200\256 \rprogress worker=0/2 step=1/0"
    program = f"grep -q '\"index\": 0' <<< $TF_CONFIG && sleep 600; printf '{hostile}' >&2; exit 65"
    with running(tmp_path, 2, program=("bash", "-c", program)) as run:
        chief, other = run.start_all()
        assert run.codes() == [65, 65]
        (said,) = (line for line in chief.lines if line.startswith("agent 0: attempt 1 is over"))
        assert said.endswith("at step 0: boom  progress worker=0/2 step=1/0")
        shown = [line for line in chief.lines + other.lines if line.startswith("agent ")]
        for text in (*shown, json.dumps(run.attempts), json.dumps(run.termination(0)), json.dumps(run.termination(1))):
            assert "boom" not in text or "boom  progress" in text
            assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
            assert "\\u001b" not in text
            assert "\\u202e" not in text


def test_secrets_in_addresses_do_not_travel(tmp_path: pathlib.Path) -> None:
    fails = "echo 'cannot read https://me:hidden@host/data?X-Amz-Signature=hidden: 403' >&2; exit 65"
    with running(tmp_path, 1, program=("bash", "-c", fails)) as run:
        agent = run.start(0)
        assert agent.end() == 65
        message = run.termination(0)
        assert message["errors"] == ["cannot read https://host/data?… 403"]
        own = [line for line in agent.lines if line.startswith("agent ")]
        assert "hidden" not in json.dumps([message, run.attempts, own])


@pytest.mark.parametrize("flags", [["--epochs=0"], ["--no_such_flag=1"]])
def test_a_full_disk_at_the_termination_message_keeps_the_exit_code(tmp_path: pathlib.Path, flags: list[str]) -> None:
    environ = {"TERMINATION_MESSAGE_PATH": "/dev/full"}
    for options in ({"trainer_flags": flags}, {"agent_flags": ["--max_restarts=-1"]}):
        with running(tmp_path, 1, environ=environ, **options) as run:
            agent = run.start(0)
            assert agent.end() == 64
            assert "Traceback" not in agent.text


def test_lines_without_end_leave_the_reason_readable(tmp_path: pathlib.Path) -> None:
    fails = "head -c 300000 /dev/zero | tr '\\0' x >&2; exit 65"
    with running(tmp_path, 1, program=("bash", "-c", fails)) as run:
        assert run.start(0).end() == 65
        message = run.termination(0)
        assert message["reason"].startswith("worker 0 ended with 65 (bad data, checkpoint or loss) at step 0: xxxxx")
        assert message["errors"]
        assert len((run.run_dir / "attempts.jsonl").read_bytes()) < 20_000
