"""Whether a cluster would take the trials of a sweep: the checks of one, and quotas for all that run at a time."""

from collections.abc import Callable, Sequence

from trainer.launch.checks import preflight, quota
from trainer.launch.checks.capacity import Amounts
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import SubmitFlags
from trainer.launch.submission import submission
from trainer.launch.sweep.flags import SweepFlags


def check_admission(
    flags: SweepFlags, trial: SubmitFlags, training: Sequence[str], at_a_time: int, say: Callable[[str], None]
) -> None:
    """Makes the checks of `submit` for a trial, and says whether as many as are to run at a time would be admitted.

    Args:
      flags: the sweep's.
      trial: those of a trial that is not submitted yet.
      training: the training program's flags of that trial.
      at_a_time: how many such trials will be submitted before one has ended.
      say: takes a line for a person.

    Raises:
      UsageError: values that the chart refuses.
      LaunchError: a check failed, or the cluster cannot be asked.
    """
    failed: list[CheckResult] = []

    def report(result: CheckResult) -> None:
        failed.extend([result] if result.failed else [])
        say(str(result))

    submission.validate(trial, training)
    report(preflight.check_helm(trial.helm))
    kube = Kube(trial.context, trial.namespace)
    prepared = submission.prepare(trial, kube, training, report)
    if not failed:
        _check_quotas(kube, quota.needed(prepared.objects), at_a_time, report)
    if failed and not flags.force:
        first = failed[0]
        more = f", and {len(failed) - 1} more check(s) failed" if len(failed) > 1 else ""
        text = f"no trial was submitted: {first.what}: {first.text}; {first.fix}{more} (--force submits anyway)"
        raise LaunchError(text, LaunchCode.NOT_STARTED)


def _check_quotas(kube: Kube, needs: Amounts, at_a_time: int, report: Callable[[CheckResult], None]) -> None:
    try:
        quotas = quota.unscoped(kube)
    except KubeError as error:
        if error.status != 403:
            raise
        return  # The check of one trial has said so.

    def admitted(count: int) -> bool:
        return not quota.exceeds(quotas, {name: count * amount for name, amount in needs.items()}, {})

    if not quotas or at_a_time < 2:
        return
    fit = max((count for count in range(at_a_time + 1) if admitted(count)), default=0)
    if fit < at_a_time:
        text = f"leaves room for {fit} trial(s) at a time, {at_a_time} are asked for"
        report(CheckResult(Mark.FAIL, "quota", text, f"--parallel={max(fit, 1)}, or a larger quota"))
    else:
        report(CheckResult(Mark.OK, "quota", f"leaves enough for {at_a_time} trials at a time"))
