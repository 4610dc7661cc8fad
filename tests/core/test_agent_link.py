"""What a training process beats to its agent."""

import os
import re
import subprocess
import sys

from tests.support.paths import ROOT
from trainer.core import agent_link

BEGIN = """
import time
from trainer.core import agent_link

agent_link.BEAT_SECONDS = 0.05
agent_link.start_beating()
time.sleep(0.3)
"""
COMPILES = """
with agent_link.busy(0.5):
    time.sleep(1.0)
with agent_link.busy():
    time.sleep(0.3)
time.sleep(0.3)
"""


WAITS = """
with agent_link.waiting_for_data():
    time.sleep(0.3)
    for _ in range(6):
        agent_link.moved()
        time.sleep(0.05)
    time.sleep(0.4)
"""
ALIVE, BUSY, HUNGRY = (re.escape(beat.decode()) for beat in (agent_link.ALIVE, agent_link.BUSY, agent_link.HUNGRY))


def beats_of(program: str) -> str:
    beats, end = os.pipe()
    environ = os.environ | {agent_link.BEAT_FD: str(end)}
    subprocess.run([sys.executable, "-c", BEGIN + program], cwd=ROOT, env=environ, pass_fds=[end], check=True)
    os.close(end)
    with os.fdopen(beats, "rb") as file:
        return file.read().decode()


def test_a_compilation_is_said_but_not_for_ever() -> None:
    said = beats_of(COMPILES)
    assert re.fullmatch(f"{ALIVE}+{BUSY}+{ALIVE}+{BUSY}+{ALIVE}+", said), said


def test_what_waits_for_data_and_gets_some_goes_on() -> None:
    said = beats_of(WAITS)
    assert re.fullmatch(f"{ALIVE}+{HUNGRY}+{BUSY}+{HUNGRY}+", said), said
