"""A run's logs so far: of the pods that are there, and from its output those of pods that are gone."""

import itertools
from collections.abc import Sequence

from trainer.core.log_lines import StateLine
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.objects import Job, Pod
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.report.finished_run import Past
from trainer.launch.report.snapshot import indexes
from trainer.launch.report.view import View


class RunLogs:
    """Shows them worker by worker, oldest first."""

    def __init__(self, kube: Kube, job: Job, view: View, kept: str) -> None:
        """Reads nothing yet; `kept` says where logs are that nothing here can read."""
        self._kube, self._job, self._view, self._kept = kube, job, view, kept
        self._past = Past(job.output, job.run) if "://" in job.output else None
        self._lines = 0

    def show(self, pods: Sequence[Pod], wanted: str) -> None:
        """Shows the logs of the chief, of all workers, or of one by its index.

        Raises:
          LaunchError: there is none to show, or this user may not read them.
        """
        workers = range(self._job.workers) if wanted == "all" else [0 if wanted == "chief" else int(wanted)]
        if workers[-1] >= self._job.workers:
            raise LaunchError(f"--logs={wanted}: {self._job.name} has {self._job.workers} worker(s)", LaunchCode.USAGE)
        of = {worker: [pod for pod in pods if pod.index == worker] for worker in workers}
        if not any(of.values()) and not self._past:
            raise LaunchError(f"no pod of {self._job.name} is left that --logs={wanted} means, and {self._kept}")
        missing = [worker for worker in workers if not self._worker(worker, of[worker]) and not of[worker]]
        if missing:
            where = f"nothing in {self._past.where}" if self._past else self._kept
            self._view.say(f"{indexes(missing)}: there is no pod, and {where}")
        if not self._lines:
            raise LaunchError(f"{self._job.name} has no log yet that --logs={wanted} means")

    def _worker(self, worker: int, pods: Sequence[Pod]) -> bool:
        """Shows what there is of one worker; returns whether there was anything."""
        before = self._lines
        for pod in pods:
            if pod.started is None:
                self._view.say(f"worker {worker} has no log yet: its pod {pod.name} has not started")
                continue
            try:
                self._pod(pod, first=self._lines == before)
            except KubeError as error:
                if error.status in (401, 403):
                    raise
                self._view.say(f"the log of worker {worker}'s pod {pod.name} on {pod.node} cannot be read: {error}")
        if self._lines == before:
            self._earlier(worker, None)
        return self._lines > before

    def _pod(self, pod: Pod, *, first: bool) -> None:
        """A pod's log; before that of the first, what earlier pods of its worker have left."""
        lines = (text for _, text in self._kube.log(pod.name))
        held: list[str] = []  # Until it is known with which attempt this pod began.
        if first:
            began = None
            for text in lines:
                held.append(text)
                state = StateLine.parse(text)
                if state and state.attempt:
                    began = state.attempt
                    break
            if began != 1:
                self._earlier(pod.index, began)
        for text in itertools.chain(held, lines):
            self._show(pod.index, text)

    def _earlier(self, worker: int, attempt: int | None) -> None:
        """The logs of a worker's attempts before this one, or of all, from the output."""
        if self._past is None:
            if attempt is not None:
                self._view.say(f"worker {worker}'s pod began with attempt {attempt}; of earlier ones {self._kept}")
            return
        try:
            for _, line in self._past.logs(str(worker), before=attempt):
                self._show(worker, line)
        except LaunchError as error:
            self._view.say(f"{error}; it is gone on without the logs of worker {worker}'s earlier pods")

    def _show(self, worker: int, text: str) -> None:
        self._lines += 1
        self._view.log(worker, text)
