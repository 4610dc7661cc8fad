"""Watching a run to its end: from the cluster's news come the snapshots that are shown and, at the end, the verdict."""

import collections
import dataclasses
import queue
import time
from collections.abc import Sequence

from trainer.core.exit_codes import ExitCode
from trainer.core.json_types import Json
from trainer.core.log_lines import Progress, StateLine
from trainer.launch.cluster.labels import JOB_NAME
from trainer.launch.cluster.objects import Job, Pod, Seen, Warned, concerns, in_order, seconds
from trainer.launch.cluster.watches import Changed, Connection, Gone, Kube, Listed, LogEnd, LogLine, News
from trainer.launch.codes import LaunchError
from trainer.launch.report.end_of_worker import EndOfWorker
from trainer.launch.report.log_follower import LogFollower
from trainer.launch.report.pending import never_began
from trainer.launch.report.snapshot import Snapshot
from trainer.launch.report.time_spent import Timeline
from trainer.launch.report.verdict import Verdict, worker_of
from trainer.launch.report.view import View
from trainer.launch.report.watched_run import End, verdict_without_news, watched_verdict
from trainer.launch.report.worker_activity import WorkerActivity

_REDRAW_SECONDS = 0.2
_SETTLE_SECONDS = 5.0  # After the Job's end, for its pods' ends and last log lines to arrive.
_MANY_TIMES = 3  # A worker is told to go, without a newer checkpoint, before a person is told what bounds it.
_MOST_ALIKE = 3  # Lost workers of which the same words are said, each in its own line.


class Watch:
    """Watches one run. All of it happens in the thread that calls `run`; other threads only bring news."""

    def __init__(self, kube: Kube, job: str, view: View, *, logs: str) -> None:
        """Makes a watch, which asks the cluster nothing before `run`.

        Args:
          kube: the cluster.
          job: the Job's name.
          view: shows the run.
          logs: the workers whose log lines the view gets: chief, all, none or an index.
        """
        self._kube, self._name, self._view = kube, job, view
        self._logs_of = logs
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._job: Job | None = None
        self._pods: dict[str, Pod] = {}  # By UID.
        self._pods_known = False
        self._warnings: dict[str, Warned] = {}  # By the event's UID.
        self._timeline = Timeline()
        self._activity = WorkerActivity()
        self._logs = LogFollower(kube, self._news.put)
        self._disconnected = False
        self._losses_said: collections.Counter[str] = collections.Counter()
        self._told_to_go: collections.Counter[int] = collections.Counter()  # Since the newest checkpoint.
        self._most_saved = 0
        self._deleted = False

    def run(self, *, timeout: float = 0.0, pending_timeout: float = 0.0) -> Verdict:
        """Watches until the Job has ended, or a time is over (seconds; 0: none).

        Raises:
          LaunchError: there is no such Job, or the cluster refuses to tell.
        """
        began = time.monotonic()
        until = began + (timeout or float("inf"))
        pending_until = began + (pending_timeout or float("inf"))
        try:
            self._begin()
            while True:
                self._next(min(until, pending_until) if self._never_began() else until)
                if self._ended():  # Asked first: a Job that has ended may then be deleted, as by its time to live.
                    self._settle()
                    return self._verdict(End.JOB)
                if self._deleted:
                    return self._verdict(End.DELETED)
                if time.monotonic() >= until:
                    return self._verdict(End.TIMEOUT, timeout)
                if time.monotonic() >= pending_until and self._never_began():
                    return self._verdict(End.PENDING, pending_timeout)
        except KeyboardInterrupt:
            return self._verdict(End.JOB if self._ended() else End.INTERRUPTED)
        finally:
            self._kube.close()

    def _begin(self) -> None:
        namespaced = "/namespaces/{namespace}"
        tell = self._news.put
        self._kube.watch("job", f"/apis/batch/v1{namespaced}/jobs", tell, fieldSelector=f"metadata.name={self._name}")
        self._kube.watch("pod", f"/api/v1{namespaced}/pods", tell, labelSelector=f"{JOB_NAME}={self._name}")
        self._kube.watch("event", f"/api/v1{namespaced}/events", tell, fieldSelector="type=Warning")

    def _next(self, until: float) -> None:
        """Waits for news and takes all that follow at once; then shows how the run looks."""
        try:
            self._take(self._news.get(timeout=max(0.0, min(until - time.monotonic(), 3600.0))))
            soon = time.monotonic() + _REDRAW_SECONDS
            while (left := soon - time.monotonic()) > 0:
                self._take(self._news.get(timeout=left))
        except queue.Empty:
            pass
        if self._job and self._pods_known and not self._deleted:
            self._view.show(self._snapshot())

    def _take(self, news: News) -> None:
        match news:
            case LaunchError():
                raise news
            case Connection(error=error):
                self._connection(error)
            case LogLine(pod=uid):
                self._line(self._pods[uid], news)
            case LogEnd(pod=uid):
                self._log_ended(self._pods[uid])
            case Listed(kind="pod", items=items):
                self._pods_known = True
                listed = {item["metadata"]["uid"] for item in items}
                for pod in [pod for uid, pod in self._pods.items() if uid not in listed and not pod.gone]:
                    self._pod(dataclasses.replace(pod, gone=True))
                for item in items:
                    self._pod(Pod.from_json(item))
            case Listed(kind="job", items=items):
                self._listed_job(items)
            case Listed(kind="event", items=items):
                for item in items:
                    self._warned(item)
            case Changed(kind="pod", item=item):
                self._pod(Pod.from_json(item))
            case Gone(kind="pod", item=item):
                self._pod(dataclasses.replace(Pod.from_json(item), gone=True))
            case Changed(kind="job", item=item):
                self._job = Job.from_json(item)
            case Gone(kind="job", item=item):
                self._job, self._deleted = Job.from_json(item), True
            case Changed(kind="event", item=item):
                self._warned(item)
            case Changed(kind="stop", item=item):
                self._view.say(f"Kueue has stopped the job: {item['message']}")

    def _listed_job(self, items: Sequence[Json]) -> None:
        if items:
            job = Job.from_json(items[0])
            if self._job is None and job.queue:
                only = f"involvedObject.kind=Job,involvedObject.name={self._name},reason=Stopped"
                self._kube.watch("stop", "/api/v1/namespaces/{namespace}/events", self._news.put, fieldSelector=only)
            self._job = job
        elif self._job is None:
            raise LaunchError(f"there is no job {self._name} in namespace {self._kube.namespace}")
        else:
            self._deleted = True

    def _pod(self, pod: Pod) -> None:
        before = self._pods.get(pod.uid)
        if before is not None and before.finished and not pod.finished:  # A deletion may tell an older state.
            pod = dataclasses.replace(before, gone=pod.gone)
        self._pods[pod.uid] = pod
        if (pod.failed or pod.gone) and not (before and (before.failed or before.gone)):
            self._say_lost(pod)
        wanted = pod.index == 0 or pod.index < self._view.rows or self._shown(pod.index)
        if wanted and pod.started is not None and not pod.gone:
            self._logs.add(pod)
        if pod.gone:  # The log of a pod on a lost node may never end by itself.
            self._log_ended(pod)

    def _say_lost(self, pod: Pod) -> None:
        if (self._job and self._job.ended) or pod.exit_code == 0:
            return
        end = EndOfWorker.of_pod(pod).text
        self._losses_said[end] += 1
        if self._losses_said[end] <= _MOST_ALIKE:
            self._view.say(f"{worker_of(pod)} {end}")
        elif self._losses_said[end] == _MOST_ALIKE + 1:
            self._view.say("and more workers in the same way")
        if pod.disruption or pod.exit_code == ExitCode.TERMINATED:  # Of these the Job takes no notice.
            self._count_told_to_go(pod)

    def _count_told_to_go(self, pod: Pod) -> None:
        saved = (self._timeline.progress and self._timeline.progress.saved) or 0
        if saved > self._most_saved:
            self._most_saved = saved
            self._told_to_go.clear()
        self._told_to_go[pod.index] += 1
        if self._told_to_go[pod.index] == _MANY_TIMES:
            self._view.say(
                f"warning: worker {pod.index} was told to go {_MANY_TIMES} times, and no newer checkpoint was saved "
                "meanwhile: such pods are replaced without a bound but job.activeDeadlineSeconds; the events of its "
                "pods say why they went"
            )

    def _line(self, pod: Pod, line: LogLine) -> None:
        state, progress = StateLine.parse(line.text), Progress.parse(line.text)
        if state or progress:
            self._activity.read(pod, state, progress)
            if pod.index == 0:
                self._timeline.take(seconds(line.time) or 0.0, state, progress)
        if self._shown(pod.index):
            self._view.log(pod.index, line.text)

    def _log_ended(self, pod: Pod) -> None:
        if self._logs.end(pod) and pod.index == 0:
            self._timeline.pod_lost(pod.finished or time.time())

    def _warned(self, item: Json) -> None:
        if concerns(item, self._name):
            self._warnings[item["metadata"]["uid"]] = Warned.from_json(item)

    def _connection(self, error: str | None) -> None:
        if (error is not None) != self._disconnected:
            self._disconnected = error is not None
            self._view.say(f"{error}; the job goes on, still trying" if error else "the API server answers again")

    def _shown(self, worker: int) -> bool:
        """Whether the view gets a worker's log lines."""
        return self._logs_of in ("all", str(worker)) or (self._logs_of == "chief" and worker == 0)

    def _settle(self) -> None:
        """Waits a little for the pods' ends and log lines that are still on their way when the Job has ended."""
        until = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < until and (self._logs.busy or not self._ends_known()):
            self._next(until)

    def _ends_known(self) -> bool:
        current = self._seen().current()
        chief = current.get(0)
        if self._job and self._job.ended == "complete":
            return chief is not None and chief.exit_code is not None
        return all(pod.failed or pod.gone or pod.exit_code is not None for pod in current.values())

    def _ended(self) -> bool:
        return self._job is not None and bool(self._job.ended)

    def _never_began(self) -> bool:
        """Whether training has not begun because workers do not run, as far as the cluster has told."""
        return self._job is not None and self._pods_known and never_began(self._seen(), waits=self._timeline.waits)

    def _seen(self) -> Seen:
        if self._job is None:
            raise RuntimeError("the cluster has said nothing of the job yet")
        return Seen(
            job=self._job,
            pods=in_order(self._pods.values()),
            warnings=tuple(sorted(self._warnings.values(), key=lambda warned: warned.time)),
        )

    def _snapshot(self) -> Snapshot:
        past = self._timeline
        return Snapshot.of(self._seen(), past.attempt, past.progress, self._activity, past.step_seconds)

    def _verdict(self, end: End, limit: float = 0.0) -> Verdict:
        if self._job is None:
            return verdict_without_news(self._name, end, limit)
        seen = self._seen()
        spent = self._timeline.spent(seen, seen.ended or time.time())
        return watched_verdict(seen, end, spent, limit=limit, step=self._timeline.step)
