"""`python -m trainer.agent [agent flags] -- [trainer flags]`: a worker that survives what happens to the others."""

import os
import sys
import traceback
from collections.abc import Sequence

from trainer.agent import finishing
from trainer.agent.agent import Agent
from trainer.agent.flags import AgentConfig
from trainer.core import settings
from trainer.core.exit_codes import TrainerError
from trainer.core.process import raise_open_files

PROGRAM = "python -m trainer.agent"
TRAINER = (sys.executable, "-m", "trainer")


def main(argv: Sequence[str] | None = None, *, program: Sequence[str] = TRAINER) -> int:
    """Runs an agent; returns its exit code.

    Args:
      argv: the arguments without the program's name; None: this process's.
      program: the command that the training flags are given to.
    """
    raise_open_files()  # A worker is a connection to the coordinator, and anybody may open more.
    agent_argv, trainer_argv = settings.split(list(sys.argv[1:] if argv is None else argv))
    try:
        config = settings.parse(AgentConfig, agent_argv, program=PROGRAM)
        return Agent(config, trainer_argv, os.environ, program=program).run()
    except TrainerError as error:
        finishing.leave_early(error.tell(), str(error), os.environ)
        return error.exit_code
    except Exception as error:  # A fault of this program's own, in whichever thread: another pod may do better.
        traceback.print_exc()
        finishing.leave_early(os.EX_SOFTWARE, f"{type(error).__name__}: {error}", os.environ)
        return os.EX_SOFTWARE
