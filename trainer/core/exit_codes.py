"""The exit codes, what each means and what follows from it: the one table of how things end.

The README, the agent and the chart are all checked against `TABLE`.

    TrainerError          the base: carries the exit code its process ends with
     ├── UsageError       64  flags, configuration, TF_CONFIG, another model's checkpoint
     ├── DataError        65  data missing or damaged, no whole checkpoint, loss NaN
     ├── AcceleratorError 69  fewer accelerators than asked for
     ├── OutputError      74  what was written could not be brought to its output
     └── PeerLostError    75  another worker is gone
"""

import dataclasses
import enum


class ExitCode(enum.IntEnum):
    """How a training process or an agent ends (64 to 75 are those of sysexits.h)."""

    DONE = 0
    USAGE = 64
    DATA = 65
    ACCELERATOR = 69
    OUTPUT = 74
    PEER_LOST = 75
    TERMINATED = 143


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExitRule:
    """One row of the failure table: what an exit code says, and what follows from it."""

    cause: str  # What ends a training process or an agent with it, in full.
    meaning: str  # The same in a few words.
    code: ExitCode | None  # None: any code that no other row names.
    agent: str  # What the agents do, for a person.
    job: str  # What the Job does, for a person.
    restarts: bool  # Whether an agent that may stay itself starts a training process that ended with it again.
    ends_all: bool  # Whether the agents of all workers end with it when one does.
    job_fails: bool  # Whether the Job fails without a retry, by its podFailurePolicy.


TABLE = (
    ExitRule(
        cause="done",
        meaning="done",
        code=ExitCode.DONE,
        agent="brings everything to the output; all exit 0 together",
        job="complete",
        restarts=False,
        ends_all=True,
        job_fails=False,
    ),
    ExitRule(
        cause="flags, configuration, TF_CONFIG, another model's checkpoint",
        meaning="bad flags or configuration",
        code=ExitCode.USAGE,
        agent="exits 64 at once, as do the others'",
        job="fails, no retry",
        restarts=False,
        ends_all=True,
        job_fails=True,
    ),
    ExitRule(
        cause="data missing or damaged, no whole checkpoint left, loss NaN",
        meaning="bad data, checkpoint or loss",
        code=ExitCode.DATA,
        agent="exits 65 at once, as do the others'",
        job="fails, no retry",
        restarts=False,
        ends_all=True,
        job_fails=True,
    ),
    ExitRule(
        cause="requested accelerators are not there",
        meaning="missing accelerators",
        code=ExitCode.ACCELERATOR,
        agent="exits 69 at once, as do the others'",
        job="fails, no retry",
        restarts=False,
        ends_all=True,
        job_fails=True,
    ),
    ExitRule(
        cause="the output was away at the start, lacks something at the end, or another agent took it over (an agent's "
        "own end); no room on the disk for the result; the store of the data was away for minutes",
        meaning="output incomplete, or data out of reach",
        code=ExitCode.OUTPUT,
        agent="exits 74; a training process that found no room or no data is restarted, as after a crash",
        job="counts against backoffLimit",
        restarts=True,  # Room for the result may have been made meanwhile, the data may be there again.
        ends_all=False,
        job_fails=False,
    ),
    ExitRule(
        cause="a peer was lost",
        meaning="a peer was lost",
        code=ExitCode.PEER_LOST,
        agent="restarts in place; exits 75 itself when workers do not come in time, or only lose each other",
        job="notices nothing; of an agent it counts against backoffLimit",
        restarts=True,
        ends_all=False,
        job_fails=False,
    ),
    ExitRule(
        cause="a crash: signal, abort, exception",
        meaning="a crash",
        code=None,
        agent="restarts in place, at most --max_restarts times without a newer saved step, then exits with that code",
        job="counts against backoffLimit",
        restarts=True,
        ends_all=False,
        job_fails=False,
    ),
    ExitRule(
        cause="SIGTERM to this worker: preemption, drain, delete",
        meaning="SIGTERM",
        code=ExitCode.TERMINATED,
        agent="brings what it can to the output and exits 143; the others meet again and wait for the replacement",
        job="ignores it and replaces the pod",
        restarts=True,  # A training process that stopped because all did, while its agent may stay.
        ends_all=False,
        job_fails=False,
    ),
)
_RULES = {row.code: row for row in TABLE}


def rule(code: int) -> ExitRule:
    """The row of any code that a process can end with."""
    return _RULES[ExitCode(code)] if code in _RULES else _RULES[None]


def meaning(code: int) -> str:
    """What any exit code says, in the few words that stand in a sentence for a person."""
    if code not in _RULES and (code < 0 or 128 < code < 160):
        number = -code if code < 0 else code - 128
        names = {6: "SIGABRT", 7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
        return f"ended by {names.get(number, f'signal {number}')}"
    return rule(code).meaning


class TrainerError(Exception):
    """An error that a person can act on: its text says what was given, what was expected, what to do."""

    exit_code: ExitCode


class UsageError(TrainerError):
    """Flags, configuration or TF_CONFIG cannot be used, or a checkpoint belongs to another run."""

    exit_code = ExitCode.USAGE


class DataError(TrainerError):
    """Data or checkpoints are missing or damaged, or the loss is no longer a number."""

    exit_code = ExitCode.DATA


class AcceleratorError(TrainerError):
    """TensorFlow sees fewer accelerators than were asked for."""

    exit_code = ExitCode.ACCELERATOR


class OutputError(TrainerError):
    """What was written could not be brought to its output."""

    exit_code = ExitCode.OUTPUT


class PeerLostError(TrainerError):
    """Another worker is gone; this one can only start again."""

    exit_code = ExitCode.PEER_LOST
