"""Protocol Buffers' wire format, as much of it as Sparkplug B needs: reading fields, and writing them.

    field = key varint (number << 3 | type) | value
    type 0: varint, 1: 8 bytes, 2: length varint and bytes, 5: 4 bytes

Layout after the Protocol Buffers encoding guide.
"""

from collections.abc import Iterator
from typing import Final

from devices.rejects import Reason, RejectError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MASK: Final = 2**64 - 1


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (number, type, value) of a message's fields: varints as int, everything else as its bytes.

    RejectError where the message ends within a field or has a type that is none.
    """
    position = start
    while position < end:
        key, position = varint(data, position, end)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = varint(data, position, end)
            yield number, kind, value
            continue
        if kind == BYTES:
            length, position = varint(data, position, end)
        elif kind in {FIXED64, FIXED32}:
            length = 8 if kind == FIXED64 else 4
        else:
            raise RejectError(Reason.UNDECODABLE, "", f"wire type {kind} at byte {position}: there is none such")
        if position + length > end:
            raise RejectError(Reason.UNDECODABLE, "", f"field {number} reaches beyond its message")
        yield number, kind, data[position : position + length]
        position += length


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a varint of up to 64 bits and the position after it; RejectError where it has no end."""
    value = shift = 0
    while position < end and shift < 70:  # noqa: PLR2004 - ten groups of seven bits
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value & MASK, position
        shift += 7
    raise RejectError(Reason.UNDECODABLE, "", f"a number without an end at byte {position}")


def put_varint(number: int, value: int) -> bytes:
    """Return a field with a varint; a negative value is written as its two's complement of 64 bits."""
    return _varint(number << 3) + _varint(value & MASK)


def put_bytes(number: int, value: bytes) -> bytes:
    """Return a field with bytes, text in UTF-8 or an inner message."""
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def put_fixed(number: int, value: bytes) -> bytes:
    """Return a field with four or eight bytes."""
    return _varint(number << 3 | (FIXED64 if len(value) == 8 else FIXED32)) + value  # noqa: PLR2004 - of a double


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
