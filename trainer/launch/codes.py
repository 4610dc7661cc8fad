"""How the launcher ends: its exit codes, and the error that carries one."""

import enum


class LaunchCode(enum.IntEnum):
    """The launcher's exit codes (124 and 125 are those of timeout and of container tools)."""

    DONE = 0
    FAILED = 1  # The launcher itself, or the cluster's API.
    USAGE = 2
    NOT_STARTED = 3  # Refused before anything was made, or no worker ever ran.
    TIMEOUT = 124
    TRAINING = 125
    INTERRUPTED = 130


class LaunchError(Exception):
    """An error that a person can act on: its text says what was given, what was expected, what to do."""

    def __init__(self, text: str, code: LaunchCode = LaunchCode.FAILED) -> None:
        """Says how the launcher ends."""
        super().__init__(text)
        self.code = code
