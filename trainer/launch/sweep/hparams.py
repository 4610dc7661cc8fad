"""What TensorBoard's HParams tab reads of a trial: an event file in its run directory, written without TensorFlow.

The tab takes a folder with a session's start for one trial, and all metrics in the folders below it for that trial's
(tensorboard/plugins/hparams/plugin_data.proto, hparams/metadata.py).
"""

import math
import time
from collections.abc import Mapping

from trainer.core import protobuf
from trainer.core.run_dir import EVENT_FILE
from trainer.core.safe_text import redacted
from trainer.core.tfrecord import record

MARK = ".sweep."  # In the names of these files alone.

_SUCCESS, _FAILURE = 1, 2  # Status of api.proto.
_NO_NUMBERS = protobuf.whole(1, 1) + protobuf.block(2, protobuf.block(2, b""))  # A tensor of float32 and of length 0.


def start_file(now: float) -> str:
    """The name of the event file that says with which flags a trial was started."""
    return f"events.out.{EVENT_FILE}.{int(now):010d}{MARK}0"


def end_file(now: float) -> str:
    """The name of the event file that says how a trial ended; TensorBoard reads it after the other."""
    return f"events.out.{EVENT_FILE}.{int(now):010d}{MARK}1"


def start(flags: Mapping[str, str], group: str, now: float | None = None) -> bytes:
    """The content of the event file of a trial that starts.

    Args:
      flags: those that vary in the sweep.
      group: the trial's name, which its runs share.
      now: Unix time.
    """
    now = time.time() if now is None else now
    entries = [protobuf.block(1, protobuf.block(1, name) + protobuf.block(2, _value(redacted(text))))
               for name, text in flags.items()]  # fmt: skip
    session = b"".join(entries) + protobuf.block(4, group) + protobuf.double(5, now)
    return _event_file("session_start_info", protobuf.block(3, session), now)


def end(*, succeeded: bool, now: float | None = None) -> bytes:
    """The content of the event file of a trial that has ended."""
    now = time.time() if now is None else now
    session = protobuf.whole(1, _SUCCESS if succeeded else _FAILURE) + protobuf.double(2, now)
    return _event_file("session_end_info", protobuf.block(4, session), now)


def _event_file(tag: str, data: bytes, now: float) -> bytes:
    """An event file with the one summary that the plugin looks for by its tag."""
    plugin = protobuf.block(1, "hparams") + protobuf.block(2, data)
    value = (
        protobuf.block(1, f"_hparams_/{tag}")
        + protobuf.block(8, _NO_NUMBERS)
        + protobuf.block(9, protobuf.block(1, plugin))
    )
    first = protobuf.double(1, now) + protobuf.block(3, "brain.Event:2")
    return record(first) + record(protobuf.double(1, now) + protobuf.block(5, protobuf.block(1, value)))


def _value(text: str) -> bytes:
    """A flag's value as google.protobuf.Value: a number, a truth, or else a text."""
    if text in ("true", "false"):
        return protobuf.whole(4, text == "true")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return protobuf.double(2, number) if math.isfinite(number) else protobuf.block(3, text)
