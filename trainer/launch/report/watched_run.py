"""How a run ended and why, from everything that was seen of it on the cluster. Pure."""

import dataclasses
import enum

from trainer.core.result_figures import metrics, sound
from trainer.launch.cluster.objects import Seen
from trainer.launch.codes import LaunchCode
from trainer.launch.report.failed_run import failed_verdict
from trainer.launch.report.pending import none_ran, reasons, unstarted
from trainer.launch.report.snapshot import name_workers, reason_lines
from trainer.launch.report.time_spent import TimeSpent
from trainer.launch.report.verdict import (
    Verdict,
    ending_lines,
    kept_facts,
    kept_lines,
    replaced_lines,
    result_line,
    success_headline,
    time_line,
)


class End(enum.Enum):
    """What ended the watching."""

    JOB = enum.auto()  # The Job is complete or has failed.
    DELETED = enum.auto()  # Somebody deleted the Job.
    TIMEOUT = enum.auto()
    PENDING = enum.auto()  # --pending_timeout.
    INTERRUPTED = enum.auto()


def watched_verdict(seen: Seen, end: End, spent: TimeSpent, *, limit: float = 0.0, step: str = "") -> Verdict:
    """Says how a run ended.

    Args:
      seen: the Job, its pods, the warnings.
      end: what ended the watching.
      spent: where the time went.
      limit: seconds, of --timeout or --pending_timeout.
      step: how far training was, such as "120/2340"; "" if it made no step.
    """
    verdict = _verdict(seen, end, spent, limit, step)
    return dataclasses.replace(verdict, facts={**kept_facts(seen.job), **verdict.facts})


def _verdict(seen: Seen, end: End, spent: TimeSpent, limit: float, step: str) -> Verdict:
    name = seen.job.release or seen.job.name
    # If the chief's pod is gone, nobody knows any more whether there was a step.
    chief_known = 0 in seen.current() or none_ran(seen)
    where = f" at step {step}" if step else " before its first step" if chief_known else ""
    match end:
        case End.INTERRUPTED:
            headline = f"{name} goes on{where}; only the watching has ended"
            return Verdict(code=LaunchCode.INTERRUPTED, headline=headline, goes_on=True)
        case End.TIMEOUT:
            headline = f"timed out: {name} has not ended within --timeout={limit:g} s, it goes on{where}"
            lines = (*reason_lines(reasons(seen)), time_line(spent))
            return Verdict(code=LaunchCode.TIMEOUT, headline=headline, lines=lines, goes_on=True)
        case End.PENDING:
            return _never_started(seen, name, limit)
        case End.DELETED if seen.done is None:
            headline = f"deleted: somebody removed the job {seen.job.name}{where}"
            return Verdict(code=LaunchCode.FAILED, headline=headline, lines=(*replaced_lines(seen), time_line(spent)))
    if end is End.JOB and seen.job.ended != "complete":
        return failed_verdict(seen, spent, where)
    return _succeeded(seen, spent)


def verdict_without_news(job: str, end: End, limit: float) -> Verdict:
    """The verdict on a run of which the cluster has said nothing before the watching ended."""
    code, why = LaunchCode.INTERRUPTED, "interrupted"
    if end is End.TIMEOUT:
        code, why = LaunchCode.TIMEOUT, f"timed out after --timeout={limit:g} s"
    headline = f"{why}: the cluster has said nothing of the job {job} yet"
    return Verdict(code=code, headline=headline, facts={"job": job}, goes_on=True)


def _never_started(seen: Seen, name: str, limit: float) -> Verdict:
    idle = f"no worker of {name} ran" if none_ran(seen) else f"{name_workers(unstarted(seen))} of {name} did not run"
    waits = reason_lines(reasons(seen)) or ["Kubernetes gives no reason"]
    headline = f"never started: {idle} within --pending_timeout={limit:g} s"
    return Verdict(code=LaunchCode.NOT_STARTED, headline=headline, lines=tuple(waits))


def _succeeded(seen: Seen, spent: TimeSpent) -> Verdict:
    messages = [sound(pod.facts) for pod in seen.pods if pod.index == 0 and pod.exit_code == 0]
    # A chief whose result did not fit leaves another message.
    result = next((facts for facts in messages if metrics(facts) or "mode" in facts), {})
    missing = "left none in its termination message" if 0 in seen.current() else "is gone"
    first = result_line(result) if result else f"its result could not be read: the chief's pod {missing}"
    return Verdict(
        code=LaunchCode.DONE,
        headline=success_headline(seen.job.release or seen.job.name, result, spent.total),
        lines=(first, *ending_lines(result), *replaced_lines(seen), *kept_lines(seen.job, result), time_line(spent)),
        facts={"result": dict(result)},
    )
