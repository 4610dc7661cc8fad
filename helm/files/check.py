"""What `helm test` runs in the cluster: do the workers' names resolve, and does TensorBoard show their run?"""

import errno
import json
import os
import socket
import sys
import time
import urllib.request

SECONDS = 180  # The first epoch has to end before there are scalars.


def resolves(name: str) -> bool:
    """Whether DNS knows the name."""
    try:
        return bool(socket.getaddrinfo(name, None))
    except socket.gaierror:
        return False


def gone(name: str) -> bool:
    """Whether nobody has the name's address any more: Kubernetes may keep in DNS the pod that ended last."""
    try:
        with socket.create_connection((name, 8080), timeout=5):
            return False
    except OSError as error:  # A network policy, too, may keep one from a worker that is there: that times out.
        return error.errno == errno.EHOSTUNREACH


def runs(tensorboard: str) -> list[str]:
    """The runs with scalars that TensorBoard shows; none when it cannot be reached."""
    try:
        with urllib.request.urlopen(f"http://{tensorboard}:6006/data/plugin/scalars/tags", timeout=10) as answer:
            return [run for run, tags in json.load(answer).items() if tags]
    except (OSError, ValueError):
        return []


def main() -> str | None:
    """Returns what is wrong, or None."""
    job, service, tensorboard = (os.environ[name] for name in ("JOB_NAME", "SERVICE_NAME", "TENSORBOARD"))
    output = os.environ["OUTPUT"]
    deadline = time.monotonic() + SECONDS
    names = [f"{job}-{index}.{service}" for index in range(int(os.environ["WORKERS"]))]
    missing, over = names, False
    # All of them each time: of a job that has just ended DNS forgets one name before the other.
    while time.monotonic() < deadline and (missing := [name for name in names if not resolves(name)]):
        # An output may hold other jobs' runs; this job's, when nobody works on it any more, says that the job is over.
        nobody = all(gone(name) for name in names if name not in missing)
        if over := nobody and bool(tensorboard and output) and any(job in run for run in runs(tensorboard)):
            break
        time.sleep(1)
    print(f"{len(names) - len(missing)} of {len(names)} workers' names resolve")
    if missing == names and not over:
        return "no worker's name resolves: the job has ended or has not started; see kubectl get job,pods"
    if missing and not over:
        return f"these names do not resolve: {', '.join(missing)}"
    if not tensorboard:
        return None
    while time.monotonic() < deadline:
        if found := [run for run in runs(tensorboard) if job in run or not output]:
            print(f"TensorBoard shows the scalars of {', '.join(sorted(found))}")
            return None
        time.sleep(2)
    return f"TensorBoard at http://{tensorboard}:6006 shows no scalars of {job}"


if __name__ == "__main__":
    sys.exit(main())
