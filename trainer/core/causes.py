"""Why a worker's part in an attempt ended."""

import enum


class Cause(enum.StrEnum):
    """Why a worker's part in an attempt ended."""

    NEW = "new"  # It took part in none yet.
    DONE = "done"
    FATAL = "final"  # An exit code that another attempt would only repeat. Files and messages of 0.1.0 have this value.
    CRASH = "crash"
    FROZEN = "frozen"  # No beat; killed by its agent.
    HUNG = "hung"  # No step for too long; killed by its agent.
    STARVED = "starved"  # No step for too long, for want of data; killed by its agent.
    PEER_LOST = "peer_lost"
    STOPPED = "stopped"  # Its agent stopped it, since the attempt was over.
    AGREED = "agreed"  # All stopped at a save, so that a missing worker can join.
    LEFT = "left"  # Its agent was told to go (SIGTERM).
    AGENT_LOST = "agent_lost"


KILLED_BY_AGENT = frozenset({Cause.FROZEN, Cause.HUNG, Cause.STARVED})
CRASHES = frozenset({Cause.CRASH, *KILLED_BY_AGENT})
CONSEQUENCES = frozenset({Cause.NEW, Cause.DONE, Cause.PEER_LOST, Cause.STOPPED})
"""Causes that follow from what happened to another worker."""
