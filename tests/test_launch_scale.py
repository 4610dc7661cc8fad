"""Five hundred workers: one screen, soon, little memory, and no request more as time goes on."""

import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

from tests.api_server import Handler, Query, api_server
from trainer.progress import Progress

WORKERS = 500
DEADLINE = 60.0
MEGABYTES = 150


def job() -> dict[str, Any]:
    return {
        "metadata": {
            "name": "big-1a2b3c4d",
            "uid": "j",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"app.kubernetes.io/instance": "big"},
        },
        "spec": {"completions": WORKERS},
        "status": {},
    }


def pod(index: int) -> dict[str, Any]:
    running = {"name": "worker", "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}}}
    return {
        "metadata": {
            "name": f"big-1a2b3c4d-{index}-abcde",
            "uid": f"p{index}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"batch.kubernetes.io/job-completion-index": str(index)},
            "annotations": {"filler": "x" * 4000},  # A real pod is 5 kB or more.
        },
        "spec": {"nodeName": f"node{index % 50}"},
        "status": {"phase": "Running", "containerStatuses": [running], "conditions": []},
    }


def test_five_hundred_workers(tmp_path: pathlib.Path) -> None:
    requests: list[str] = []
    done = threading.Event()
    pods = [pod(index) for index in range(WORKERS)]
    line = Progress(
        worker=0, workers=WORKERS, attempt=1, epoch=1, epochs=5, step=7, steps=100, loss=1.0, accuracy=0.5,
        images_per_second=1.0,
    )  # fmt: skip

    def answer(server: Handler, query: Query) -> None:
        path = server.path.split("?")[0]
        requests.append(server.path)
        if path.endswith("/log"):
            server.begin()
            server.send(f"2026-01-01T00:00:20.000000001Z {line.format()}\n".encode())
            done.wait(DEADLINE)
            server.end()
        elif "watch" in query:
            server.begin()
            if path.endswith("/pods"):
                changed = {**pods[7], "status": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}
                server.send_event("MODIFIED", changed)
            done.wait(DEADLINE)
            server.end()
        else:
            kind = path.rsplit("/", 1)[1]
            items = {"jobs": [job()], "pods": pods}.get(kind, [])
            server.reply({"metadata": {"resourceVersion": "1"}, "items": items})

    with api_server(answer, tmp_path) as config:
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
                before = len(requests)
                time.sleep(2)  # In which a program that polls would ask.
                assert len(requests) == before <= 8, requests
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                peak = next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM")) / 1024
                assert peak < MEGABYTES
        finally:
            process.kill()
            process.wait()
            done.set()
    print(f"{peak:.0f} MB at most, {before} requests")
