"""Native telemetry and packed blocks many payloads at a time: those that differ from each other in nothing but numbers.

A device repeats itself. Its messages have the same names in the same order and numbers of the same widths, so in
msgpack they have the same length, and every byte is either the same in all of them or belongs to a number at a known
place. A layout is made from one payload that the ordinary decoder has accepted. Payloads that have it are compared with
it byte for byte, and their numbers are read as columns; whatever differs in anything else is left to the ordinary
decoder, so that both come to the same. The values of a block are numbers whatever their bytes are; its ``dt`` is part
of the layout.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices.codecs.native import VERSION, decode_block, decode_telemetry
from devices.columns import Bools, Floats, Ints
from devices.rejects import RejectError

FIXED: Final = 0xFF
"""Bits that have to be the same: all of a byte …"""
SMALL: Final = 0x80
"""… those that say that a byte is a number below 128 by itself …"""
TRUTH: Final = 0xFE
"""… or those that say that it is a truth value."""
NUMBERS: Final = {"boot": "boot", "seq": "seq", "ts": "ts", "t0": "ts"}
"""Field → what it is as a column."""
LONGEST: Final = 4_096
"""Payloads have no layout with more bytes than this besides the values of a block."""

_UNSIGNED: Final[Mapping[int, str]] = {0xCC: ">u1", 0xCD: ">u2", 0xCE: ">u4", 0xCF: ">u8"}
_FLOATS: Final[Mapping[int, str]] = {0xCA: ">f4", 0xCB: ">f8"}
_MAP: Final = 0x80, 0xDE
_ARRAY: Final = 0x90, 0xDC
"""First bytes of msgpack's maps and arrays: up to 15 in the byte itself, and up to 65,535."""
_TRUTHS: Final = frozenset({0xC2, 0xC3})
_BINARY: Final[Mapping[int, int]] = {0xC4: 1, 0xC5: 2, 0xC6: 4}
"""How many bytes say how many are to come."""

Octets = NDArray[np.uint8]
Float32s = NDArray[np.float32]


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
    values: Floats | Float32s
    """Shape (n, names), of blocks (n * rows, names)."""


class _OtherLayoutError(Exception):
    """A payload that is no msgpack telemetry with everything that a layout needs."""


class Layout:
    """How payloads of one length are laid out."""

    names: tuple[str, ...]

    def __init__(self, payload: bytes) -> None:
        """Raise :class:`RejectError` or ValueError where a payload has no layout that could be repeated."""
        self.size = len(payload)
        self.rows = 0
        """Instants of a block, 0 for telemetry."""
        self.dt = 0
        """Time between them, ns."""
        self._packed = self.size, self.size
        """Where the values of a block begin and end."""
        self._numbers: dict[str, Number] = {}
        self._values: list[Number] = []
        self._mask = np.full(self.size, FIXED, np.uint8)
        try:
            self._walk(payload)
        except (_OtherLayoutError, IndexError):
            raise ValueError("no telemetry or block in msgpack with boot, sequence and time as numbers") from None
        begin, end = self._packed
        if self.size - (end - begin) > LONGEST:
            raise ValueError("more to compare than is worth it")
        if end > begin:
            block = decode_block(payload)
            self.rows, self.dt = block.rows, block.dt
            found = block.names
        else:
            found = tuple(decode_telemetry(payload).m)
        if found != self.names or not self.names:
            raise ValueError("a name that is there twice, or none")
        # Of the values of a block there is nothing to compare.
        octets = np.frombuffer(payload, np.uint8) & self._mask
        self._compared = [
            (each, self._mask[each].copy(), octets[each].copy()) for each in (slice(0, begin), slice(end, self.size))
        ]
        del self._mask

    def fits(self, payloads: bytes) -> Bools:
        """Return which of the n payloads, one behind the other, have this layout; shape (n,)."""
        octets = np.frombuffer(payloads, np.uint8).reshape(-1, self.size)
        same: Bools = np.ones(len(octets), np.bool_)
        for where, mask, expected in self._compared:
            same &= _equal(octets[:, where], mask, expected)
        return same

    def read(self, payloads: bytes) -> Alike:
        """Return what n payloads say, those that do not fit nonsense."""
        boot, seq, ts = (self._column(payloads, self._numbers[name]).astype(np.int64) for name in ("boot", "seq", "ts"))
        if self.rows:
            return Alike(boot, seq, ts, self._block_values(payloads))
        values = np.empty((len(payloads) // self.size, len(self._values)))
        for nth, number in enumerate(self._values):
            values[:, nth] = self._column(payloads, number)
        return Alike(boot, seq, ts, values)

    def _block_values(self, payloads: bytes) -> Float32s:
        """Return the values of n blocks one behind another; shape (n * rows, names)."""
        begin, end = self._packed
        # Each block is copied as one item.
        item = np.dtype((np.void, end - begin))
        packed = np.ndarray((len(payloads) // self.size,), item, payloads, begin, (self.size,)).copy()
        return packed.view("<f4").reshape(-1, len(self.names))

    def _column(self, payloads: bytes, number: Number) -> NDArray[np.generic]:
        count = len(payloads) // self.size
        column = np.ndarray((count,), np.dtype(number.dtype), payloads, number.at, (self.size,))
        return column & 1 if number.is_truth else column

    def _walk(self, payload: bytes) -> None:
        """Find the numbers, and of every byte which bits have to be the same."""
        self.names = ()
        fields, at = _size(payload, 0, *_MAP)
        for _ in range(fields):
            name, at = _text(payload, at)
            if name in NUMBERS:
                self._numbers[NUMBERS[name]], at = self._unsigned(payload, at)
            elif name == "v" and payload[at] == VERSION:
                at += 1
            elif name == "m":
                at = self._walk_values(payload, at)
            elif name == "dt":
                begin, (_, at) = at, self._unsigned(payload, at)
                self._mask[begin:at] = FIXED
            elif name == "names":
                at = self._walk_names(payload, at)
            elif name == "f32":
                begin, size = _binary(payload, at)
                self._packed = begin, (at := begin + size)
            else:
                raise _OtherLayoutError
        if at != self.size or len(self._numbers) != len(set(NUMBERS.values())):
            raise _OtherLayoutError

    def _walk_values(self, payload: bytes, at: int) -> int:
        count, at = _size(payload, at, *_MAP)
        names = []
        for _ in range(count):
            metric, at = _text(payload, at)
            names.append(metric)
            value, at = self._value(payload, at)
            self._values.append(value)
        self.names = tuple(names)
        return at

    def _walk_names(self, payload: bytes, at: int) -> int:
        count, at = _size(payload, at, *_ARRAY)
        names = []
        for _ in range(count):
            name, at = _text(payload, at)
            names.append(name)
        self.names = tuple(names)
        return at

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


def _equal(octets: Octets, mask: Octets, expected: Octets) -> Bools:
    """Return in which of n rows the bits of ``mask`` are as ``expected``; shape (n,)."""
    count = len(octets)
    masked = octets.ravel() & np.frombuffer(mask.tobytes() * count, np.uint8)
    # Mostly in all of them, and comparing two runs of bytes takes a tenth of comparing row by row.
    if masked.tobytes() == expected.tobytes() * count:
        return np.ones(count, np.bool_)
    same: Bools = (masked.reshape(count, -1) == expected).all(axis=1)
    return same


def layout_of(payload: bytes) -> Layout | None:
    """Return the layout of a payload that may be repeated, None where it has none."""
    try:
        return Layout(payload)
    except (ValueError, RejectError):
        return None


def _size(payload: bytes, at: int, few: int, many: int) -> tuple[int, int]:
    """Return how many pairs or items begin at ``at``, and where the first does.

    ``few`` has their number in its lower four bits, ``many`` in two bytes after it; _OtherLayoutError for all else.
    """
    if payload[at] & 0xF0 == few:
        return payload[at] & 0x0F, at + 1
    if payload[at] == many:
        return int.from_bytes(payload[at + 1 : at + 3]), at + 3
    raise _OtherLayoutError


def _binary(payload: bytes, at: int) -> tuple[int, int]:
    """Return where the bytes of a binary that begins at ``at`` are, and how many."""
    width = _BINARY.get(payload[at])
    if width is None:
        raise _OtherLayoutError
    begin = at + 1 + width
    return begin, int.from_bytes(payload[at + 1 : begin])


def _text(payload: bytes, at: int) -> tuple[str, int]:
    """Return a short text that begins at ``at``, and where it ends."""
    if payload[at] & 0xE0 == 0xA0:  # noqa: PLR2004 - msgpack's fixstr
        begin, size = at + 1, payload[at] & 0x1F
    elif payload[at] == 0xD9:  # noqa: PLR2004 - its str 8
        begin, size = at + 2, payload[at + 1]
    else:
        raise _OtherLayoutError
    return payload[begin : begin + size].decode(errors="replace"), begin + size
