"""What a training process beats to its agent."""

import os
import re
import subprocess
import sys

from tests.support.paths import ROOT
from trainer.core import agent_link

PROGRAM = """
import time
from trainer.core import agent_link

agent_link.BEAT_SECONDS = 0.05
agent_link.start_beating()
time.sleep(0.3)
with agent_link.busy(0.5):
    time.sleep(1.0)
with agent_link.busy():
    time.sleep(0.3)
time.sleep(0.3)
"""


def test_a_compilation_is_said_but_not_for_ever() -> None:
    beats, end = os.pipe()
    environ = os.environ | {agent_link.BEAT_FD: str(end)}
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environ, pass_fds=[end], check=True)
    os.close(end)
    with os.fdopen(beats, "rb") as file:
        said = file.read().decode()
    alive, busy = re.escape(agent_link.ALIVE.decode()), agent_link.BUSY.decode()
    assert re.fullmatch(f"{alive}+{busy}+{alive}+{busy}+{alive}+", said), said
