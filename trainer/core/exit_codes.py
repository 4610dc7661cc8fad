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


FINAL = frozenset({ExitCode.USAGE, ExitCode.DATA, ExitCode.ACCELERATOR})
"""Codes that another attempt would only repeat: no agent and no Job retries them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """One row of the failure table."""

    cause: str
    code: ExitCode | None  # None: any code that no other row names.
    agent: str
    job: str


TABLE = (
    Outcome(cause="done", code=ExitCode.DONE, agent="flushes the mirror; all exit 0 together", job="complete"),
    Outcome(
        cause="flags, configuration, TF_CONFIG, another model's checkpoint",
        code=ExitCode.USAGE,
        agent="exits 64 at once, as do the others'",
        job="fails, no retry",
    ),
    Outcome(
        cause="data missing or damaged, no whole checkpoint left, loss NaN",
        code=ExitCode.DATA,
        agent="exits 65 at once, as do the others'",
        job="fails, no retry",
    ),
    Outcome(
        cause="requested accelerators are not there",
        code=ExitCode.ACCELERATOR,
        agent="exits 69 at once, as do the others'",
        job="fails, no retry",
    ),
    Outcome(
        cause="the mirror could not be flushed at the end",
        code=ExitCode.OUTPUT,
        agent="exits 74",
        job="counts against backoffLimit",
    ),
    Outcome(
        cause="a peer was lost",
        code=ExitCode.PEER_LOST,
        agent="restarts in place; exits 75 only when the rendezvous times out",
        job="notices nothing",
    ),
    Outcome(
        cause="a crash: signal, abort, exception",
        code=None,
        agent="restarts in place, at most --max_restarts times without a newer saved step, then exits with that code",
        job="counts against backoffLimit",
    ),
    Outcome(
        cause="SIGTERM to this worker: preemption, drain, delete",
        code=ExitCode.TERMINATED,
        agent="flushes the mirror and exits 143; the others meet again and wait for the replacement",
        job="ignores it and replaces the pod",
    ),
)


def meaning(code: int) -> str:
    """What an exit code says, in words, for a person (`code` may be any code a process can end with)."""
    for outcome in TABLE:
        if outcome.code == code:
            return outcome.cause
    if code < 0 or 128 < code < 160:
        number = -code if code < 0 else code - 128
        names = {6: "SIGABRT", 7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
        return f"ended by {names.get(number, f'signal {number}')}"
    return "a crash"


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
