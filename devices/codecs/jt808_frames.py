"""JT/T 808 frames of 2011, 2013 and 2019: flags, escapes, checksum, header; and what either side writes.

    frame   = 7E | escaped(header | body | checksum u8) | 7E        in it 7E is written 7D 02, and 7D is 7D 01
    header  = message u16 | attributes u16 | [2019: version u8] | phone BCD[6, 2019: 10] | serial u16
              | [in parts: parts u16, number u16 from 1]
    attributes: bits 0–9 body length, 10–12 encryption, 13 in parts, 14 of 2019

Big-endian; the checksum is the exclusive-or of header and body. Layouts after JT/T 808-2011, -2013 and -2019.
"""

import struct
from typing import Final, NamedTuple

from devices.rejects import Reason, RejectError

FLAG: Final = b"\x7e"
ESCAPE: Final = b"\x7d"
HEAD: Final = struct.Struct(">HH6sH")
HEAD_2019: Final = struct.Struct(">HHB10sH")
PARTS: Final = struct.Struct(">HH")
LENGTH: Final = 0x03FF
ENCRYPTED: Final = 0x1C00
IN_PARTS: Final = 0x2000
OF_2019: Final = 0x4000
# What terminals send
ACKNOWLEDGE: Final = 0x0001
HEARTBEAT: Final = 0x0002
LOGOUT: Final = 0x0003
QUERY_TIME: Final = 0x0004
REGISTER: Final = 0x0100
AUTHENTICATE: Final = 0x0102
SYNC_TIME: Final = 0x0109
LOCATION: Final = 0x0200
LOCATION_QUERIED: Final = 0x0201
LOCATION_COMMANDED: Final = 0x0500
DRIVER_CARD: Final = 0x0702
BATCH: Final = 0x0704
MULTIMEDIA: Final = 0x0801
# What the platform answers
REPLY: Final = 0x8001
ASK_FOR_PARTS: Final = 0x8003
TIME_REPLY: Final = 0x8004
REGISTER_REPLY: Final = 0x8100
SYNC_TIME_REPLY: Final = 0x8109
MULTIMEDIA_REPLY: Final = 0x8800
FROM_PLATFORM: Final = 0x8000
"""Bit of every message that the platform sends."""
SHORTEST: Final = HEAD.size + 1
MAX_FRAME: Final = 2 * (HEAD_2019.size + PARTS.size + LENGTH + 1) + 2
"""Longest frame, bytes: every byte may be escaped."""


class Message(NamedTuple):
    """One frame, taken apart."""

    kind: int
    """Message id, such as 0x0200."""
    phone: str
    """Number of the terminal without the zeros in front, which tell the editions apart and nothing else."""
    serial: int
    """Counts the terminal's messages, 0 to 65,535 and around."""
    body: bytes
    of_2019: bool
    part: tuple[int, int] | None
    """Number from 1, and of how many, where the message came in parts."""
    flags: tuple[str, ...]
    """What was wrong with the frame: ``checksum``, ``length``, ``escape``."""


def open_frame(frame: bytes, *, strict: bool = False) -> Message:
    """Take a frame apart, with or without the flags around it.

    ``strict``: a wrong checksum, length or escape is refused instead of flagged. RejectError where there is no header.
    """
    if len(frame) > MAX_FRAME:
        raise RejectError(Reason.TOO_LARGE, "", f"{len(frame)} bytes: at most {MAX_FRAME}")
    data, faults = unescaped(frame.strip(FLAG))
    if len(data) < SHORTEST:
        raise RejectError(Reason.UNDECODABLE, "", f"{len(data)} bytes: a frame has at least {SHORTEST}")
    attributes = data[2] << 8 | data[3]
    if attributes & OF_2019:
        start = HEAD_2019.size
        if len(data) <= start:
            raise RejectError(Reason.UNDECODABLE, "", f"{len(data)} bytes: a frame of 2019 has at least {start + 1}")
        kind, _, _, phone, serial = HEAD_2019.unpack_from(data)
    else:
        start = HEAD.size
        kind, _, phone, serial = HEAD.unpack_from(data)
    part = None
    if attributes & IN_PARTS:
        part, start = _part(data, start)
    if attributes & ENCRYPTED:
        raise RejectError(Reason.UNDECODABLE, "/attributes", "the body is encrypted: quayflow has no key")
    if checksum(data):
        faults += ("checksum",)
    if attributes & LENGTH != len(data) - start - 1:
        faults += ("length",)
    body = data[start:-1]
    if strict and faults:
        detail = f"{faults[0]} is wrong: {len(body)} bytes of body, {attributes & LENGTH} declared"
        raise RejectError(Reason.UNDECODABLE, f"/{faults[0]}", detail)
    return Message(kind, phone.hex().lstrip("0") or "0", serial, body, bool(attributes & OF_2019), part, faults)


def unescaped(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return what stands between the flags without its escapes, flagged where one of them is none."""
    if ESCAPE not in data:
        return data, ()
    sound = data.count(ESCAPE) == data.count(b"\x7d\x01") + data.count(b"\x7d\x02")
    return data.replace(b"\x7d\x02", FLAG).replace(b"\x7d\x01", ESCAPE), () if sound else ("escape",)


def _part(data: bytes, start: int) -> tuple[tuple[int, int], int]:
    """Return the number of a part and of how many, and where the body begins."""
    if len(data) <= start + PARTS.size:
        raise RejectError(Reason.UNDECODABLE, "/parts", "the frame ends within its part number")
    total, number = PARTS.unpack_from(data, start)
    return (number, total), start + PARTS.size


def checksum(data: bytes) -> int:
    """Return the exclusive-or of all bytes; 0 for a sound frame, which ends with its own."""
    # Folded in halves: seven steps on a large integer in C instead of a loop over bytes in Python. What a step leaves
    # above the half that counts is never looked at again.
    folded = int.from_bytes(data)
    shift = 4 << (len(data) - 1).bit_length() if len(data) > 64 else 256  # noqa: PLR2004 - bytes in 512 bits
    while shift > 256:  # noqa: PLR2004 - as above
        folded ^= folded >> shift
        shift >>= 1
    folded ^= folded >> 256
    folded ^= folded >> 128
    folded ^= folded >> 64
    folded ^= folded >> 32
    folded ^= folded >> 16
    folded ^= folded >> 8
    return folded & 0xFF


def frame_of(
    kind: int, phone: str, serial: int, body: bytes = b"", *, of_2019: bool = False, part: tuple[int, int] | None = None
) -> bytes:
    """Write a frame; ``phone`` in up to 12 (2019: 20) hex digits, ``part`` (number from 1, of how many).

    ValueError where the body, of which a frame holds 1,023 bytes, or the phone does not fit.
    """
    if len(body) > LENGTH:
        msg = f"body of {len(body)} bytes: at most {LENGTH}, longer ones go in parts"
        raise ValueError(msg)
    attributes = len(body) | (IN_PARTS if part else 0) | (OF_2019 if of_2019 else 0)
    digits = 20 if of_2019 else 12
    number = bytes.fromhex(phone.rjust(digits, "0"))
    if len(number) != digits // 2:
        msg = f"phone {phone[:40]!r}: at most {digits} digits"
        raise ValueError(msg)
    if of_2019:
        head = HEAD_2019.pack(kind, attributes, 1, number, serial)
    else:
        head = HEAD.pack(kind, attributes, number, serial)
    data = head + (PARTS.pack(part[1], part[0]) if part else b"") + body
    data += bytes([checksum(data)])
    return FLAG + data.replace(ESCAPE, b"\x7d\x01").replace(FLAG, b"\x7d\x02") + FLAG


def frames_of(kind: int, phone: str, serial: int, body: bytes, *, of_2019: bool = False) -> list[bytes]:
    """Write a body of any length: one frame, or several in parts with serials that follow each other."""
    pieces = [body[start : start + LENGTH] for start in range(0, len(body), LENGTH)]
    if len(pieces) <= 1:
        return [frame_of(kind, phone, serial, body, of_2019=of_2019)]
    return [
        frame_of(kind, phone, (serial + nth) & 0xFFFF, piece, of_2019=of_2019, part=(nth + 1, len(pieces)))
        for nth, piece in enumerate(pieces)
    ]
