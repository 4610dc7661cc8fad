"""What `helm test` runs in the cluster: do the workers' names resolve, is their run shown, is the policy enforced?

That is: does TensorBoard show it, and does the NetworkPolicy keep this pod, which is no worker, from the workers?
"""

import errno
import json
import os
import socket
import sys
import time
import urllib.request

SECONDS = 180  # The first epoch has to end before there are scalars.
TRY_SECONDS = 15  # A policy takes a moment to hold for a pod that is new, and an agent one until it listens.
DNS_SECONDS = 40  # The name of a pod that has ended may still be in a cache: CoreDNS keeps an answer for 30 s.
TRIED = 4  # Workers whose ports are tried: they have one policy, and there may be a thousand.
CONSEQUENCE = "any pod that connects to a worker reads its environment, credentials and files, and can change the model"


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


def reached(names: list[str], ports: list[int]) -> list[str]:
    """The workers' ports that this pod can connect to, a while after they may have been opened and closed."""
    deadline = time.monotonic() + TRY_SECONDS
    while True:
        found = [f"{name}:{port}" for name in names[:TRIED] for port in ports if connects(name, port)]
        if time.monotonic() >= deadline:
            return found
        time.sleep(1)


def connects(name: str, port: int) -> bool:
    """Whether somebody accepts the connection: one that is refused may be refused by the policy."""
    try:
        with socket.create_connection((name, port), timeout=2):
            return True
    except OSError:
        return False


def at_work(names: list[str], tensorboard: str, output: str) -> bool:
    """Whether the workers were there until now: nothing reaches those that have ended, policy or none."""
    if not tensorboard:  # It shows the run: else nobody says that they have begun.
        return False
    if not output:  # It is in worker 0's pod, and open to this one.
        return connects(tensorboard, 6006)
    deadline = time.monotonic() + DNS_SECONDS
    while time.monotonic() < deadline:
        if not all(resolves(name) for name in names[:TRIED]):
            return False
        time.sleep(1)
    return not all(gone(name) for name in names[:TRIED])


def unenforced(names: list[str], ports: list[int], tensorboard: str, output: str) -> str | None:
    """What to know where the NetworkPolicy holds nobody off; `ports` has those that it does not open to this pod."""
    if not ports:
        print(f"networkPolicy.enabled is false: {CONSEQUENCE}")
        return None
    if found := reached(names, ports):
        return (
            f"this pod is no worker, and reaches {', '.join(found)}: this cluster does not enforce NetworkPolicies, or "
            f"networkPolicy.extraIngress admits everybody, so that {CONSEQUENCE}; install what enforces them, or say "
            "that you know by networkPolicy.enabled=false (docs/security.md)"
        )
    closed = " and ".join(map(str, ports))
    if at_work(names, tensorboard, output):
        print(f"the NetworkPolicy is enforced: this pod, which is no worker, does not reach the workers' {closed}")
    else:
        why = "the job has ended meanwhile" if tensorboard else "without TensorBoard nobody says that they listen"
        print(f"nobody answers at the workers' {closed}, but {why}: whether the NetworkPolicy is enforced is not known")
    return None


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
    if tensorboard and not shown(tensorboard, job, output, deadline):
        return f"TensorBoard at http://{tensorboard}:6006 shows no scalars of {job}"
    if over:
        print("the job is over: whether the NetworkPolicy is enforced was not tried")
        return None
    return unenforced(names, [int(port) for port in os.environ["CLOSED_PORTS"].split()], tensorboard, output)


def shown(tensorboard: str, job: str, output: str, deadline: float) -> bool:
    """Whether TensorBoard shows the job's scalars before the deadline."""
    while time.monotonic() < deadline:
        if found := [run for run in runs(tensorboard) if job in run or not output]:
            print(f"TensorBoard shows the scalars of {', '.join(sorted(found))}")
            return True
        time.sleep(2)
    return False


if __name__ == "__main__":
    sys.exit(main())
