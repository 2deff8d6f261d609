"""Native telemetry many payloads at a time: those that differ from each other in nothing but numbers.

A device repeats itself. Its messages have the same names in the same order and numbers of the same widths, so in
msgpack they have the same length, and every byte is either the same in all of them or belongs to a number at a known
place. A layout is made from one payload that the ordinary decoder has accepted. Payloads that have it are compared with
it byte for byte, and their numbers are read as columns; whatever differs in anything else is left to the ordinary
decoder, so that both come to the same.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices.codecs.native import VERSION, decode_telemetry
from devices.columns import Bools, Floats, Ints
from devices.rejects import RejectError

FIXED: Final = 0xFF
"""Bits that have to be the same: all of a byte …"""
SMALL: Final = 0x80
"""… those that say that a byte is a number below 128 by itself …"""
TRUTH: Final = 0xFE
"""… or those that say that it is a truth value."""
NUMBERS: Final = frozenset({"boot", "seq", "ts"})

_UNSIGNED: Final[Mapping[int, str]] = {0xCC: ">u1", 0xCD: ">u2", 0xCE: ">u4", 0xCF: ">u8"}
_FLOATS: Final[Mapping[int, str]] = {0xCA: ">f4", 0xCB: ">f8"}
_TRUTHS: Final = frozenset({0xC2, 0xC3})

Octets = NDArray[np.uint8]


class Number(NamedTuple):
    """Where in a payload a number lies, and how."""

    at: int
    dtype: str
    is_truth: bool = False


class Alike(NamedTuple):
    """What payloads of one layout say; arrays over the n payloads, boot and sequence as they are if below 2**63."""

    boot: Ints
    seq: Ints
    ts: Ints
    values: Floats
    """Shape (n, names)."""


class _OtherLayoutError(Exception):
    """A payload that is no msgpack telemetry with everything that a layout needs."""


class Layout:
    """How payloads of one length are laid out."""

    def __init__(self, payload: bytes) -> None:
        """Raise :class:`RejectError` or ValueError where a payload has no layout that could be repeated."""
        try:
            self._walk(payload)
        except (_OtherLayoutError, IndexError):
            raise ValueError("not telemetry in msgpack with boot, sequence and time as numbers") from None
        found = decode_telemetry(payload)
        if tuple(found.m) != self.names or not self.names:
            raise ValueError("a name that is there twice, or none")

    def fits(self, payloads: bytes) -> Bools:
        """Return which of the n payloads, one behind the other, have this layout; shape (n,)."""
        octets = np.frombuffer(payloads, np.uint8).reshape(-1, self.size)
        same: Bools = ((octets & self._mask) == self._expected).all(axis=1)
        return same

    def read(self, payloads: bytes) -> Alike:
        """Return what n payloads say, those that do not fit nonsense."""
        boot, seq, ts = (self._column(payloads, self._numbers[name]).astype(np.int64) for name in ("boot", "seq", "ts"))
        values = np.empty((len(payloads) // self.size, len(self._values)))
        for nth, number in enumerate(self._values):
            values[:, nth] = self._column(payloads, number)
        return Alike(boot, seq, ts, values)

    def _column(self, payloads: bytes, number: Number) -> NDArray[np.generic]:
        count = len(payloads) // self.size
        column = np.ndarray((count,), np.dtype(number.dtype), payloads, number.at, (self.size,))
        return column & 1 if number.is_truth else column

    def _walk(self, payload: bytes) -> None:
        """Find the numbers, and of every byte which bits have to be the same."""
        self.size = len(payload)
        self._mask = np.full(self.size, FIXED, np.uint8)
        self._numbers: dict[str, Number] = {}
        self._values: list[Number] = []
        names: list[str] = []
        fields, at = _map_size(payload, 0)
        for _ in range(fields):
            name, at = _text(payload, at)
            if name in NUMBERS:
                self._numbers[name], at = self._unsigned(payload, at)
            elif name == "v" and payload[at] == VERSION:
                at += 1
            elif name == "m":
                count, at = _map_size(payload, at)
                for _ in range(count):
                    metric, at = _text(payload, at)
                    names.append(metric)
                    value, at = self._value(payload, at)
                    self._values.append(value)
            else:
                raise _OtherLayoutError
        if at != self.size or len(self._numbers) != len(NUMBERS):
            raise _OtherLayoutError
        self.names = tuple(names)
        self._expected: Octets = np.frombuffer(payload, np.uint8) & self._mask

    def _unsigned(self, payload: bytes, at: int) -> tuple[Number, int]:
        if payload[at] < SMALL:
            self._mask[at] = SMALL
            return Number(at, ">u1"), at + 1
        return self._wide(_UNSIGNED.get(payload[at]), at)

    def _value(self, payload: bytes, at: int) -> tuple[Number, int]:
        if payload[at] in _TRUTHS:
            self._mask[at] = TRUTH
            return Number(at, ">u1", is_truth=True), at + 1
        return self._wide(_FLOATS.get(payload[at]), at)

    def _wide(self, dtype: str | None, at: int) -> tuple[Number, int]:
        """Take the number behind the byte at ``at`` that says what it is."""
        if dtype is None:
            raise _OtherLayoutError
        end = at + 1 + np.dtype(dtype).itemsize
        self._mask[at + 1 : end] = 0
        return Number(at + 1, dtype), end


def layout_of(payload: bytes) -> Layout | None:
    """Return the layout of a payload that may be repeated, None where it has none."""
    try:
        return Layout(payload)
    except (ValueError, RejectError):
        return None


def _map_size(payload: bytes, at: int) -> tuple[int, int]:
    """Return how many pairs a map has that begins at ``at``, and where they begin."""
    if payload[at] & 0xF0 == 0x80:  # noqa: PLR2004 - msgpack's fixmap
        return payload[at] & 0x0F, at + 1
    if payload[at] == 0xDE:  # noqa: PLR2004 - its map 16
        return int.from_bytes(payload[at + 1 : at + 3]), at + 3
    raise _OtherLayoutError


def _text(payload: bytes, at: int) -> tuple[str, int]:
    """Return a short text that begins at ``at``, and where it ends."""
    if payload[at] & 0xE0 == 0xA0:  # noqa: PLR2004 - msgpack's fixstr
        begin, size = at + 1, payload[at] & 0x1F
    elif payload[at] == 0xD9:  # noqa: PLR2004 - its str 8
        begin, size = at + 2, payload[at + 1]
    else:
        raise _OtherLayoutError
    return payload[begin : begin + size].decode(errors="replace"), begin + size
