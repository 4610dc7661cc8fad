"""As much of protocol buffers' encoding as TensorBoard's events need, where TensorFlow is not at hand.

A message is a row of fields: a tag (the field's number and how its value is written), then the value. Strings, bytes
and messages have their length before them (protobuf.dev/programming-guides/encoding).
"""

import struct
from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number and value, which is a whole number or the bytes that stand there.

    Raises:
      ValueError: it is no message.
    """
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if kind == _LENGTH:
            size, at = _read_varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field is written in the way {kind}, which is none")
        if at + size > len(data):
            raise ValueError("a field is longer than its message")
        yield number, data[at : at + size]
        at += size


def whole(number: int, value: int) -> bytes:
    """A field with a whole number from 0."""
    return varint(number << 3 | _VARINT) + varint(value)


def double(number: int, value: float) -> bytes:
    """A field with a number of 8 bytes."""
    return varint(number << 3 | _EIGHT_BYTES) + struct.pack("<d", value)


def block(number: int, value: bytes | str) -> bytes:
    """A field with a text, bytes or a message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _LENGTH) + varint(len(data)) + data


def varint(number: int) -> bytes:
    """A whole number: seven bits a byte, the lowest first; all bytes but the last have the high bit set."""
    text = bytearray()
    while number > 127:
        text.append(number & 127 | 128)
        number >>= 7
    return bytes([*text, number])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and the byte behind it."""
    number = 0
    for place in range(_MOST_VARINT_BYTES):
        if at >= len(data):
            break
        byte, at = data[at], at + 1
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, at
    raise ValueError("a number does not end")
