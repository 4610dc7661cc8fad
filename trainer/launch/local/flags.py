"""The flags of a fleet on this machine, and those of its agents that follow from them."""

import dataclasses

from trainer.agent.flags import AgentConfig, Survival
from trainer.core import settings
from trainer.core.exit_codes import UsageError
from trainer.core.settings import setting

_MOST_WORKERS = 1000  # Far more than a machine has cores for.


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalFlags(Survival):
    """The flags of `--local`: those of the agents that say how failures are met, and the fleet's own."""

    local: bool = setting(True, "run the workers as processes on this machine")
    code: str = setting("", "a folder with the experiment's code, a copy of which is run; without what git ignores")
    workers: int = setting(4, "how many", minimum=1, below=_MOST_WORKERS + 1)
    timeout: float = setting(0.0, "seconds after which the run is ended with exit code 124; 0: none", minimum=0.0)
    json: bool = setting(False, "one JSON object a line, for programs")


def check(flags: LocalFlags) -> None:
    """Checks what no flag says alone.

    Raises:
      UsageError: more workers are required than there are.
    """
    if flags.min_workers > flags.workers:
        raise UsageError(f"--min_workers={flags.min_workers} is more than --workers={flags.workers}")


def agent_arguments(flags: LocalFlags, *, port: int, chief_agent: str) -> list[str]:
    """The command line of an agent that listens on `port`; that of the chief is at the address `chief_agent`."""
    shared = settings.values(flags, Survival)
    return settings.arguments(AgentConfig(port=port, chief_agent=chief_agent, **shared))
