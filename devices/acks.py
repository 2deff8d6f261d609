"""What ingest tells a device that it has got: the acknowledgement of the application, beyond that of the broker.

A broker acknowledges what it holds in memory, and may die with it. Ingest therefore publishes, for each device whose
status asks for it (``info.acks``), which sequence numbers of which boots rest on its disk, on
``quayflow/{site}/acks/{class}/{device}``. A device drops its copy of a message only then.
"""

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from devices.topics import RESULTS_ROOT, DeviceKey

VERSION: Final = 1
ASKS: Final = "acks"
"""Fact of a status by which a device asks to be told."""
MAX_MISSING: Final = 64
"""Missing stretches told per boot; what lies beyond the last of them is not told yet."""

Number = Annotated[int, msgspec.Meta(ge=0)]


class BootMark(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One boot: every sequence number from ``low`` to ``high`` is durable, but for the stretches ``missing``."""

    boot: Number
    low: Number
    high: Number
    missing: Annotated[tuple[tuple[int, int], ...], msgspec.Meta(max_length=MAX_MISSING)] = ()
    """Half-open [start, end), in order, within ``low`` and ``high``."""

    def durable(self) -> Iterator[tuple[int, int]]:
        """Yield the stretches that are durable, both ends inside."""
        begin = self.low
        for start, end in self.missing:
            if start > begin:
                yield begin, start - 1
            begin = end
        if begin <= self.high:
            yield begin, self.high


class Acknowledgement(msgspec.Struct, forbid_unknown_fields=True):
    """The boots of a device heard last, the newest at the end."""

    v: int
    boots: tuple[BootMark, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Acknowledgement).decode


def encode(marks: tuple[BootMark, ...]) -> bytes:
    """Return the payload that tells ``marks``."""
    return _encode(Acknowledgement(VERSION, marks))


def decode(payload: bytes) -> tuple[BootMark, ...]:
    """Return the marks of a payload; ValueError where it is none of this version."""
    try:
        found = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"not an acknowledgement: {error}"
        raise ValueError(msg) from None
    if found.v != VERSION:
        msg = f"an acknowledgement of version {found.v}: this build reads {VERSION}"
        raise ValueError(msg)
    return found.boots


def mark_of(boot: int, low: int, high: int, missing: list[tuple[int, int]]) -> BootMark:
    """Return the mark of a boot, cut before the first missing stretch that it cannot tell."""
    if len(missing) > MAX_MISSING:
        high = missing[MAX_MISSING][0] - 1
    return BootMark(boot, low, high, tuple(missing[:MAX_MISSING]))


def ack_topic(key: DeviceKey) -> str:
    """Return the retained topic on which ingest acknowledges a device's messages."""
    return f"{RESULTS_ROOT}/{key.site}/acks/{key.device_class}/{key.device}"
