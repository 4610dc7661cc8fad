"""Points of TensorBoard's curves, written without TensorFlow."""

import struct

from trainer.core import protobuf
from trainer.core.tfrecord import record


def event(tag: str, step: int, value: float) -> bytes:
    """A framed event with a number."""
    point = protobuf.block(1, tag.encode(errors="replace")) + b"\x15" + struct.pack("<f", value)
    return record(protobuf.whole(2, step) + protobuf.block(5, protobuf.block(1, point)))
