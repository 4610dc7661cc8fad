"""Five hundred workers: one screen, soon, little memory, and no request more as time goes on."""

import os
import pathlib
import subprocess
import sys
import time

from tests.support.api_objects import pod
from tests.support.api_server import api_server
from tests.support.scripted_run import ScriptedRun

MEGABYTES = 150


def test_five_hundred_workers(tmp_path: pathlib.Path) -> None:
    changed = {**pod(7), "status": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}
    run = ScriptedRun(500, change=changed)
    with api_server(run.answer, tmp_path) as config:
        environ = {**os.environ, "KUBECONFIG": str(config)}
        command = (sys.executable, "-m", "trainer.launch", "attach", "--name=big")
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            with process.stdout as output:
                said = []
                for text in output:
                    said.append(text.rstrip())
                    if said[-1].startswith("workers: 499 running, 1 Evicted") or len(said) > 20:
                        break
                assert "worker 7 on node7 was evicted by its node: disk" in said
                assert said[-1] == "workers: 499 running, 1 Evicted"
                before = len(run.requests)
                time.sleep(2)  # In which a program that polls would ask.
                assert len(run.requests) == before <= 8, run.requests
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                peak = next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM")) / 1024
                assert peak < MEGABYTES
        finally:
            process.kill()
            process.wait()
            run.done.set()
    print(f"{peak:.0f} MB at most, {before} requests")
