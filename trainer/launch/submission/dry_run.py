"""`--dry_run`: the manifests that would be made, with nothing asked of a cluster but its nodes."""

import queue
import threading
from collections.abc import Callable, Sequence

import yaml

from trainer.core.safe_text import one_line, redacted
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.code_check import check_module
from trainer.launch.checks.nodes import Nodes, check_nodes
from trainer.launch.cluster.objects import output_of
from trainer.launch.cluster.watches import Kube
from trainer.launch.code_folder import Code
from trainer.launch.codes import LaunchError
from trainer.launch.flags import SubmitFlags
from trainer.launch.helm import rendered
from trainer.launch.submission.plan import (
    GPUS_KEY,
    check_name,
    code_of,
    experiment,
    gpus_found,
    gpus_of,
    release_of,
    say_contradictions,
    with_gpus,
)
from trainer.output.stores.store import join

_ASK_SECONDS = 5.0  # So long it waits for a cluster.


def manifests(flags: SubmitFlags, trainer_argv: Sequence[str], report: Callable[[CheckResult], None]) -> str:
    """The manifests that would be made.

    Args:
      flags: the launcher's, which `validate` has taken.
      trainer_argv: the training program's flags.
      report: hears where the number of GPUs comes from, where the user has not given it.

    Raises:
      UsageError: values that the chart refuses.
      LaunchError: helm cannot be used.
    """
    code = code_of(flags)
    release = release_of(flags, None, trainer_argv, "", code)
    say_contradictions(release, report)
    made = release.render()
    check_name(rendered.parse(made))
    made = _with_code(made, code, flags.name)
    if code:
        report(CheckResult(Mark.OK, "code", str(code)))
    if code and code.goes_through_output:
        output = output_of(rendered.job_in(rendered.parse(made)))
        report(
            CheckResult(Mark.NOTE, "code", f"submit would write it to {redacted(join(output.rstrip('/'), code.key))}")
        )
    if release.gives(*GPUS_KEY):
        return made
    job = rendered.job_in(rendered.parse(made))
    as_charted = f"{gpus_of(job)} for each worker, as the chart has it"
    try:
        nodes = _ask_for_nodes(flags)
    except LaunchError as error:
        report(CheckResult(Mark.NOTE, "GPUs", f"{as_charted}: {error}"))
        return made
    if nodes is None:
        report(CheckResult(Mark.NOTE, "GPUs", f"{as_charted}: this user may not list nodes and pods"))
    elif gpus := nodes.gpus(job):
        report(gpus_found(gpus))
        return _with_code(with_gpus(release, gpus).render(), code, flags.name)
    else:
        why = next(result.text for result in check_nodes(nodes, job) if result.failed)
        report(CheckResult(Mark.NOTE, "GPUs", f"{as_charted}: {why}, so submit would refuse"))
    return made


def _with_code(manifests: str, code: Code | None, name: str) -> str:
    """The manifests with the ConfigMap of the code, if there is any; refuses code without the experiment."""
    if code is None:
        return manifests
    check_module(code, experiment(rendered.parse(manifests)))
    maps = [yaml.safe_dump(value, sort_keys=False, width=float("inf")) for value in code.objects(name)]
    return "---\n".join([manifests, *maps])


def _ask_for_nodes(flags: SubmitFlags) -> Nodes | None:
    """The nodes of the cluster; None: this user may not see them.

    Raises:
      LaunchError: no cluster answers soon.
    """
    answers: queue.SimpleQueue[Nodes | LaunchError | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(Nodes.of(Kube(flags.context, flags.namespace), flags.name))
        except LaunchError as error:
            answers.put(error)
        except Exception as error:  # Unsaid, it would look like a cluster that says nothing.
            answers.put(LaunchError(f"{type(error).__name__}: {one_line(str(error), 200)}"))

    threading.Thread(target=ask, name="nodes", daemon=True).start()  # It may wait longer than anybody waits for it.
    try:
        answer = answers.get(timeout=_ASK_SECONDS)
    except queue.Empty:
        raise LaunchError(f"no cluster answered within {_ASK_SECONDS:g} s") from None
    if isinstance(answer, LaunchError):
        raise LaunchError(f"no cluster answered ({answer})")
    return answer
