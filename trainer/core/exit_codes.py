"""The exit codes, what each means and what follows from it: the one table of how things end.

The agents and the launcher look up here what follows; the README and the chart are checked against `TABLE`. A new code
is a member of `ExitCode` and a row of `TABLE`; how it is met follows from the row's `cause`: FATAL ends all workers,
CRASH is a restart of those that --max_restarts allows, PEER_LOST and AGREED are restarts that it does not count.

    TrainerError          the base: carries the exit code its process ends with
     ├── UsageError       64  flags, configuration, TF_CONFIG, another model's checkpoint
     ├── DataError        65  data missing or damaged, no whole checkpoint, loss NaN
     ├── AcceleratorError 69  fewer accelerators than asked for
     ├── OutputError      74  what was written could not be brought to its output
     └── PeerLostError    75  another worker is gone
"""

import dataclasses
import enum
import sys

from trainer.core.causes import Cause
from trainer.core.safe_text import printable


class ExitCode(enum.IntEnum):
    """How a training process or an agent ends (64 to 75 are those of sysexits.h)."""

    DONE = 0
    USAGE = 64
    DATA = 65
    ACCELERATOR = 69
    OUTPUT = 74
    PEER_LOST = 75
    TERMINATED = 143


class PodEnd(enum.Enum):
    """What the Job makes of a pod that ended with an exit code."""

    COMPLETES = "completes"
    FAILS = "fails"  # No retry: a rule of its podFailurePolicy says so.
    IGNORED = "ignored"  # Another pod takes its place, and nothing is counted; a rule says so.
    COUNTED = "counted"  # Another pod takes its place, as long as backoffLimit allows.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExitRule:
    """One row of the failure table: what an exit code says, and what follows from it."""

    description: str  # What ends a training process or an agent with it, in full.
    meaning: str  # The same in a few words.
    code: ExitCode | None  # None: any code that no other row names.
    cause: Cause  # What the agents take it for where a training process ends so by itself.
    pod_end: PodEnd
    agent: str  # What the agents do, for a person.
    job: str  # What the Job does, for a person.

    @property
    def ends_all(self) -> bool:
        """Whether the agents of all workers end with it when one does; after any other, training is started again."""
        return self.cause in (Cause.DONE, Cause.FATAL)


TABLE = (
    ExitRule(
        description="done",
        meaning="done",
        code=ExitCode.DONE,
        cause=Cause.DONE,
        pod_end=PodEnd.COMPLETES,
        agent="brings everything to the output; all exit 0 together",
        job="complete",
    ),
    ExitRule(
        description="flags, configuration, TF_CONFIG, another model's checkpoint",
        meaning="bad flags or configuration",
        code=ExitCode.USAGE,
        cause=Cause.FATAL,
        pod_end=PodEnd.FAILS,
        agent="exits 64 at once, as do the others'",
        job="fails, no retry",
    ),
    ExitRule(
        description="data missing or damaged, no whole checkpoint left, loss NaN",
        meaning="bad data, checkpoint or loss",
        code=ExitCode.DATA,
        cause=Cause.FATAL,
        pod_end=PodEnd.FAILS,
        agent="exits 65 at once, as do the others'",
        job="fails, no retry",
    ),
    ExitRule(
        description="requested accelerators are not there",
        meaning="missing accelerators",
        code=ExitCode.ACCELERATOR,
        cause=Cause.FATAL,
        pod_end=PodEnd.FAILS,
        agent="exits 69 at once, as do the others'",
        job="fails, no retry",
    ),
    ExitRule(
        description="the output was away at the start, lacks something at the end, or another agent took it over (an "
        "agent's own end); no room on the disk for the result; the store of the data was away for minutes",
        meaning="output incomplete, or data out of reach",
        code=ExitCode.OUTPUT,
        cause=Cause.CRASH,  # Room for the result may have been made meanwhile, or the data be there again.
        pod_end=PodEnd.COUNTED,
        agent="exits 74; a training process that found no room or no data is restarted, as after a crash",
        job="counts against backoffLimit",
    ),
    ExitRule(
        description="a peer was lost",
        meaning="a peer was lost",
        code=ExitCode.PEER_LOST,
        cause=Cause.PEER_LOST,
        pod_end=PodEnd.COUNTED,
        agent="restarts in place; exits 75 itself when workers do not come in time, or only lose each other",
        job="notices nothing; of an agent it counts against backoffLimit",
    ),
    ExitRule(
        description="a crash: signal, abort, exception",
        meaning="a crash",
        code=None,
        cause=Cause.CRASH,
        pod_end=PodEnd.COUNTED,
        agent="restarts in place, at most --max_restarts times without a newer saved step, then exits with that code",
        job="counts against backoffLimit",
    ),
    ExitRule(
        description="SIGTERM to this worker: preemption, drain, delete",
        meaning="SIGTERM",
        code=ExitCode.TERMINATED,
        cause=Cause.AGREED,  # It stopped because all did; its agent was not told to go.
        pod_end=PodEnd.IGNORED,
        agent="brings what it can to the output and exits 143; the others meet again and wait for the replacement",
        job="ignores it and replaces the pod",
    ),
)
_RULES: dict[int | None, ExitRule] = {row.code: row for row in TABLE}


def rule(code: int) -> ExitRule:
    """The row of any code that a process can end with."""
    return _RULES.get(code, _RULES[None])


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

    def tell(self) -> ExitCode:
        """Prints it, as the last that a program says; returns the exit code. Its text may be from a bucket."""
        print(f"error: {printable(str(self))}", file=sys.stderr, flush=True)
        return self.exit_code


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
