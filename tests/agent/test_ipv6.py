"""IPv6: alone, as some clusters have it, and beside IPv4."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.support.agents import running
from tests.support.forging import join, message, status
from tests.support.paths import ROOT
from tests.support.tensorboard_client import wait_for_page
from trainer.core.free_ports import free_ports

# A network of its own that has nothing but ::1, as a user may make it.
_WITHOUT_IPV4 = 'ip link set lo up && ip addr del 127.0.0.1/8 dev lo && exec "$@"'
ONLY_IPV6 = ("unshare", "--map-root-user", "--net", "sh", "-c", _WITHOUT_IPV4, "-")


def test_a_fleet_over_ipv6(tmp_path: pathlib.Path) -> None:
    (port,) = free_ports(1)
    flags = ["--tensorboard", f"--tensorboard_port={port}", "--warm_spare"]
    with running(tmp_path, 3, host="[::1]", agent_flags=flags, trainer_flags=["--epochs=1000"]) as run:
        chief, first, _ = run.start_all()
        chief.wait_for_step(7)
        assert run.get(1, "/healthz") == (200, "ok\n")
        assert status(run.ports[0], message(join(), token=None), host="::1") == 401
        assert status(run.ports[0], message(join(), token=None), host="127.0.0.1") == 401  # Both families are served.
        for host in ("[::1]", "127.0.0.1"):
            wait_for_page(port, host=host)
        first.process.kill()
        chief.wait_for_line("the agent of worker 1 is gone")
        run.start(1)
        chief.wait_for_step(12, attempt=2)
        chief.process.send_signal(signal.SIGTERM)
        assert chief.end() == 143
        told = next(line for line in chief.lines if "without this run's token were refused" in line)
        assert "the last from ::1;" in told


def test_worker_0_is_found_by_its_host_in_tf_config(tmp_path: pathlib.Path) -> None:
    """Without --chief_agent, as in a TFJob: its agent has the same port as this one."""
    with running(tmp_path, 2, host="[::1]", agent_flags=["--rendezvous_timeout=1", "--chief_agent="]) as run:
        assert run.start(1).end() == 75
        assert f"worker 0's agent at [::1]:{run.ports[1]} did not answer" in run.agents[1].text


@pytest.mark.parametrize("address", ["::1:8080", "host", "host:0", "http://host:8080", "host:port"])
def test_an_address_of_worker_0_that_is_none_is_refused(tmp_path: pathlib.Path, address: str) -> None:
    with running(tmp_path, 2, agent_flags=[f"--chief_agent={address}"]) as run:
        assert run.start(1).end() == 64
        assert f"{address!r} is no address, expected host:port, or [host]:port for IPv6" in run.agents[1].text


@pytest.mark.thorough
def test_real_training_on_a_machine_without_ipv4(tmp_path: pathlib.Path, small_mnist: pathlib.Path) -> None:
    made = subprocess.run([*ONLY_IPV6, "true"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    training = [f"--data_dir={small_mnist}", f"--run_dir={tmp_path / 'run'}", "--epochs=1", "--global_batch_size=64"]
    ended = subprocess.run(
        [*ONLY_IPV6, sys.executable, "-m", "trainer.launch", "--local", "--workers=2", "--", *training],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert (tmp_path / "run" / "result.json").exists()
