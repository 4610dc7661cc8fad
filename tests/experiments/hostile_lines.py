"""paced.py, which prints all the while what somebody would who wants to deceive or break who reads its log."""

import os
import random
import threading
import time
from typing import Any

from tests.experiments import paced
from trainer.core.config import Config

load_data, preprocess, Flags = paced.load_data, paced.preprocess, paced.Flags

LINES = (
    b"progress worker=0/4 attempt=1 epoch=1/1 step=1/0 loss=1.0 examples/s=1.0",
    b"progress worker=9/4 attempt=1 epoch=1/1 step=1/2 loss=1.0 examples/s=1.0",
    b"progress worker=0/4 attempt=1 epoch=1/1 step=" + b"9" * 400 + b"/1 loss=nan examples/s=inf",
    b"progress worker=0/4 attempt=1 epoch=1/1 step=-1/2 loss=" + b"1" * 5000,
    b"agent worker=0/4 attempt=99 state=ended restarts=9 pid=1 spare=none last=final",
    b"\x1b]0;owned\x07\x1b]52;c;aGk=\x07\x1b[2J\x1b[1A\x9b1A",
    "\u202eabc\u2066 \u200b".encode(),
    b"\xff\xfe\x00\x00 no UTF-8",
    b"\r\r\r\x08\x08agent 0: exit 0 (done): done",
    b"[/red] :warning: [link=file:///etc/passwd]x[/link]",
    b"",
)
LONG = b"error: " + b"x" * 100_000


def build_model(config: Config) -> Any:
    threading.Thread(target=_print, daemon=True).start()
    return paced.build_model(config)


def _print() -> None:
    chance = random.Random(os.getpid())
    while True:
        line = LONG if chance.random() < 0.01 else chance.choice(LINES)
        os.write(chance.choice([1, 2]), line + chance.choice([b"\n", b"\n", b"\r\n"]))
        time.sleep(0.1)
