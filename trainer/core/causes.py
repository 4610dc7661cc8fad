"""Why a worker's part in an attempt ended."""

import enum


class Cause(enum.StrEnum):
    """Why a worker's part in an attempt ended."""

    NEW = "new"  # It took part in none yet.
    DONE = "done"
    FINAL = "final"  # An exit code that another attempt would only repeat.
    CRASH = "crash"
    FROZEN = "frozen"  # No beat; killed by its agent.
    HUNG = "hung"  # No step for too long; killed by its agent.
    PEER_LOST = "peer_lost"
    STOPPED = "stopped"  # By its agent, since the attempt was over.
    AGREED = "agreed"  # All stopped at a save, so that a missing worker can join.
    LEFT = "left"  # Its agent was told to go (SIGTERM).
    AGENT_LOST = "agent_lost"


CRASHES = frozenset({Cause.CRASH, Cause.FROZEN, Cause.HUNG})
FOLLOWS = frozenset({Cause.NEW, Cause.DONE, Cause.PEER_LOST, Cause.STOPPED})  # From what happened to another worker.
