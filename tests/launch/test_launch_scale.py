"""Thousands of workers: one screen, soon, little memory, and no request more as time goes on."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from tests.support.api_objects import pod
from tests.support.api_server import api_server
from tests.support.scripted_run import ScriptedRun


@pytest.mark.parametrize(("workers", "seconds", "megabytes"), [(500, 10.0, 150), (2000, 15.0, 250)])
def test_many_workers(tmp_path: pathlib.Path, workers: int, seconds: float, megabytes: int) -> None:
    changed = {**pod(7), "status": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}
    run = ScriptedRun(workers, change=changed)
    with api_server(run.answer, tmp_path) as config:
        environ = {**os.environ, "KUBECONFIG": str(config)}
        command = (sys.executable, "-m", "trainer.launch", "attach", "--name=big")
        began = time.monotonic()
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            with process.stdout as output:
                said = []
                for text in output:
                    said.append(text.rstrip())
                    if said[-1].startswith(f"workers: {workers - 1} running, 1 Evicted") or len(said) > 20:
                        break
                assert "worker 7 on node7 was evicted by its node: disk" in said
                assert said[-1] == f"workers: {workers - 1} running, 1 Evicted"
                took = time.monotonic() - began
                assert took < seconds  # 1 to 3 s where nothing else runs.
                before = len(run.requests)
                time.sleep(2)  # In which a program that polls would ask.
                assert len(run.requests) == before <= 16, run.requests
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                peak = next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM")) / 1024
                assert peak < megabytes
        finally:
            process.kill()
            process.wait()
            run.done.set()
    print(f"{workers} workers: {took:.1f} s, {peak:.0f} MB at most, {before} requests")
