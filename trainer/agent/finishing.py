"""How an agent ends: everything is brought to the output, then Kubernetes and the other agents hear how it ended."""

import contextlib
import math
import pathlib
import time
from collections.abc import Mapping

from trainer.agent.coordination.coordinator import Coordinator
from trainer.agent.coordination.messages import Ended, Finish
from trainer.agent.events import Events, OutputFinished
from trainer.agent.processes.watchdog import LEAVE_SECONDS
from trainer.agent.records.agent_log import AgentLog
from trainer.agent.status import Status
from trainer.core import format_versions, termination_message, threads, typed_json
from trainer.core.causes import KILLED_BY_AGENT, Cause
from trainer.core.exit_codes import ExitCode, OutputError, TrainerError, meaning, rule
from trainer.core.process import signal_name
from trainer.core.run_dir import RESULT
from trainer.core.safe_text import one_line, redacted, redacted_in
from trainer.output.interface import Output

_ANSWER_SECONDS = 10.0  # For the other agents to hear how it ended.
_AFTER_GRACE_SECONDS = 4.0  # What a pod's grace period leaves after --grace, for the output.
_IMPATIENT_SECONDS = 4.0  # For an output that is away, where the run has not succeeded.
_MOST_ACCUSED = 100  # Workers that a termination message names.


def bring_to_output(finish: Finish, output: Output, events: Events, log: AgentLog, *, grace: float) -> Finish:
    """Brings everything to the output; a run that is not all there has not succeeded.

    Args:
      finish: how the worker ends, as far as it depends on training.
      output: where it is brought to.
      events: SIGTERM, before or meanwhile, leaves the grace period for it.
      log: takes sentences for a person.
      grace: seconds of --grace.

    Returns:
      How the worker ends.
    """
    succeeded = finish.code == ExitCode.DONE
    events.upon_sigterm = "the output gets what the grace period is long enough for"
    try:
        complete = _finish_output(output, events, grace, patient=succeeded)
    except OutputError as error:
        if succeeded:
            log.say(f"exit {error.exit_code} ({meaning(error.exit_code)}): {error}")
            return Finish(code=error.exit_code, reason=str(error))
        log.say(f"warning: {error}")
        return finish
    if complete:
        return finish
    missing = f"the output lacks {', '.join(output.missing())}, for which the grace period was too short"
    log.say(f"warning: {missing}")
    if succeeded:
        # The Job takes no notice of 143: another pod resumes from what the output has, and finishes the run.
        return Finish(code=ExitCode.TERMINATED, reason=f"SIGTERM: {missing}")
    return finish


def _finish_output(output: Output, events: Events, grace: float, *, patient: bool) -> bool:
    """Lets the output take everything, in a thread, as long as there is time.

    Args:
      output: the output.
      events: SIGTERM ends the patience.
      grace: seconds of --grace.
      patient: whether to wait, without a SIGTERM, for an output that is away as long as the flags say.

    Returns:
      Whether it has everything.

    Raises:
      OutputError: the output is away; names what is missing.
    """
    began = time.monotonic()

    def deadline() -> float:
        if events.terminated_at is None and patient:
            return math.inf
        grace_began = began if events.terminated_at is None else events.terminated_at
        return grace_began + grace + _AFTER_GRACE_SECONDS

    timeout: float | None = None  # As long as the flags say.
    if not patient:
        timeout = _IMPATIENT_SECONDS if events.terminated_at is None else deadline() - began - 1.0

    def finish() -> OutputFinished:
        try:
            output.finish(timeout=timeout)
        except BaseException as error:
            return OutputFinished(threads.as_exception(error))
        return OutputFinished(None)

    events.call(finish, name="output")
    while time.monotonic() < deadline():
        try:
            event = events.next()
        except TrainerError:
            continue  # An answer to what was asked before, which changes nothing any more.
        if isinstance(event, OutputFinished):
            if event.error is not None:
                raise event.error
            return True
    return False


def leave(
    finish: Finish,
    ended: Ended,
    status: Status,
    log: AgentLog,
    environ: Mapping[str, str],
    *,
    run_dir: pathlib.Path | None,
    output: str,
    coordinator: Coordinator | None,
) -> None:
    """Tells Kubernetes and the other agents how it ended.

    Args:
      finish: how the worker ends.
      ended: how its last attempt ended.
      status: what is known of its steps.
      log: takes sentences for a person.
      environ: the agent's environment.
      run_dir: the run directory; None: the flags name none that could be used.
      output: the output's address, or "".
      coordinator: the coordinator, on worker 0.
    """
    result = _result(run_dir) if run_dir and status.worker == 0 and finish.code == ExitCode.DONE else None
    fields = result or termination_fields(finish, ended, status, run=_name(run_dir), output=output)
    try:
        termination_message.write(fields, environ)
    except OSError as error:
        log.say(f"warning: the termination message could not be written: {error}")
    if coordinator:
        if rule(finish.code).ends_all:
            coordinator.conclude(finish)
        # One that does not hear of the result waits for this worker's successor. It asks when its process has left.
        leaving = LEAVE_SECONDS if finish.code == ExitCode.DONE else 0.0
        coordinator.wait_until_answered(leaving + _ANSWER_SECONDS)


def leave_early(code: int, text: str, environ: Mapping[str, str]) -> None:
    """Leaves the termination message of an agent that could not begin, or that ends by a fault of its own."""
    reason = one_line(redacted(text))
    fields = {
        "format": format_versions.TERMINATION_MESSAGE,
        "exit_code": code,
        "meaning": meaning(code),
        "reason": reason,
        "cause": None,
        "accused": [],
        "killed_by_agent": False,
        "run": "",
        "output": "",
        "errors": [reason],
    }
    with contextlib.suppress(OSError):  # A full disk there must not change the exit code, by which the Job decides.
        termination_message.write(fields, environ)


def termination_fields(finish: Finish, ended: Ended, status: Status, *, run: str, output: str) -> dict[str, object]:
    """The termination message of a worker that ends without a result; see `trainer.core.termination_message`."""
    accused = sorted(set(finish.accused) - {status.worker})
    return {
        "format": format_versions.TERMINATION_MESSAGE,
        "worker": status.worker,
        "attempt": ended.attempt,
        "exit_code": int(finish.code),
        "meaning": meaning(finish.code),
        "reason": one_line(redacted(finish.reason)),
        "cause": None if ended.cause is Cause.NEW else ended.cause.value,
        "accused": accused[:_MOST_ACCUSED],
        "killed_by_agent": ended.cause in KILLED_BY_AGENT,
        "signal": signal_name(ended.code),
        "step": status.step,
        "restarts": status.restarts,
        "run": run,
        "output": redacted(output),
        "errors": list(ended.errors),
    }


def _result(run_dir: pathlib.Path) -> dict[str, object] | None:
    """What the run ended with; None where it is not there or damaged, as one from a bucket may be."""
    try:
        result = typed_json.an_object(typed_json.loads((run_dir / RESULT).read_bytes(), lenient=True), RESULT)
        return {name: redacted_in(value) for name, value in result.items()}  # An experiment's flags are among them.
    except (OSError, ValueError, RecursionError):
        return None


def _name(run_dir: pathlib.Path | None) -> str:
    return run_dir.resolve().name if run_dir else ""
