"""The run's token: every request to a coordinator carries it, and who does not know it has no say in the run.

The pods of a Job know its UID, which no pod of another namespace can read. Elsewhere TRAINER_TOKEN holds a secret that
all workers of a run, and nobody else, are given; it wins. The token travels in the environment, never in a flag: flags
are in the list of processes, in the Job and in the log.
"""

import secrets
from collections.abc import Mapping

from trainer.core.exit_codes import UsageError

TOKEN = "TRAINER_TOKEN"  # noqa: S105  The variable's name.
_JOB_UID = "JOB_UID"


def read(environ: Mapping[str, str]) -> str:
    """The token that the environment names; "" when it names none.

    Raises:
      UsageError: no header of HTTP can carry it.
    """
    name = TOKEN if environ.get(TOKEN) else _JOB_UID
    token = environ.get(name, "")
    if not all("!" <= character <= "~" for character in token):
        raise UsageError(
            f"{name} in the environment has a blank, a line break or another character that is no visible ASCII "
            "character (a secret made with `echo` ends in a line break: use `echo -n`, or `openssl rand -hex 16`)"
        )
    return token


def new() -> str:
    """A token that nobody can guess."""
    return secrets.token_hex(16)
