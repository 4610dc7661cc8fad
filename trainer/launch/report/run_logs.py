"""A run's logs so far: of its pods, and for pods that are gone from its output."""

import itertools
from collections.abc import Sequence

from trainer.core.log_lines import StateLine
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.objects import Job, Pod
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.report.finished_run import FinishedRun
from trainer.launch.report.snapshot import name_workers
from trainer.launch.report.view import View


class RunLogs:
    """Shows logs worker by worker, oldest first."""

    def __init__(self, kube: Kube, job: Job, view: View, kept: str) -> None:
        """Makes a reader of a run's logs.

        Args:
          kube: the cluster.
          job: the Job of the run.
          view: shows the logs.
          kept: a sentence that says what became of logs that cannot be read from here.
        """
        self._kube, self._job, self._view, self._kept = kube, job, view, kept
        self._stored = FinishedRun(job.output, job.run) if "://" in job.output else None
        self._lines = 0

    def show(self, pods: Sequence[Pod], wanted: str) -> None:
        """Shows the logs of the chief, of all workers, or of one by its index.

        Raises:
          LaunchError: there is none to show, or this user may not read them.
        """
        workers = range(self._job.workers) if wanted == "all" else [0 if wanted == "chief" else int(wanted)]
        if workers[-1] >= self._job.workers:
            raise LaunchError(f"--logs={wanted}: {self._job.name} has {self._job.workers} worker(s)", LaunchCode.USAGE)
        pods_of = {worker: [pod for pod in pods if pod.index == worker] for worker in workers}
        if not any(pods_of.values()) and not self._stored:
            raise LaunchError(f"--logs={wanted}: no such pod of {self._job.name} is left, and {self._kept}")
        missing = [worker for worker in workers if not self._worker(worker, pods_of[worker]) and not pods_of[worker]]
        if missing:
            where = f"no log in {self._stored.address}" if self._stored else self._kept
            self._view.say(f"{name_workers(missing)}: no pod is left, and {where}")
        if not self._lines:
            raise LaunchError(f"--logs={wanted}: {self._job.name} has no such log yet")

    def _worker(self, worker: int, pods: Sequence[Pod]) -> bool:
        """Shows the logs of one worker; returns whether there were any."""
        lines_before = self._lines
        for pod in pods:
            if pod.started is None:
                self._view.say(f"worker {worker} has no log yet: its pod {pod.name} has not started")
                continue
            try:
                self._pod(pod, first=self._lines == lines_before)
            except KubeError as error:
                if error.status in (401, 403):
                    raise
                self._view.say(f"the log of worker {worker}'s pod {pod.name} on {pod.node} cannot be read: {error}")
        if self._lines == lines_before:
            self._earlier(worker, None)
        return self._lines > lines_before

    def _pod(self, pod: Pod, *, first: bool) -> None:
        """Shows a pod's log; before that of the worker's first pod, what earlier pods have left in the output."""
        lines = (text for _, text in self._kube.log(pod.name))
        begin: list[str] = []  # Lines that were read to find the attempt with which this pod began.
        if first:
            attempt = None
            for text in lines:
                begin.append(text)
                state = StateLine.parse(text)
                if state and state.attempt:
                    attempt = state.attempt
                    break
            if attempt != 1:
                self._earlier(pod.index, attempt)
        for text in itertools.chain(begin, lines):
            self._show(pod.index, text)

    def _earlier(self, worker: int, attempt: int | None) -> None:
        """Shows a worker's logs of the attempts before this one from the output; None: of all attempts."""
        if self._stored is None:
            if attempt is not None:
                self._view.say(
                    f"worker {worker}'s pod began with attempt {attempt}; as for earlier attempts, {self._kept}"
                )
            return
        try:
            for _, line in self._stored.logs(str(worker), before=attempt):
                self._show(worker, line)
        except LaunchError as error:
            self._view.say(f"{error}; the logs of worker {worker}'s earlier pods are left out")

    def _show(self, worker: int, text: str) -> None:
        self._lines += 1
        self._view.log(worker, text)
