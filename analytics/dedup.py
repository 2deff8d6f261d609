"""Effect once: which (boot, sequence) of a device has been seen, without bound on how late a frame may come.

A device counts its frames from 0 after each start. Seen are all numbers from the lowest to the highest but for the
*missing* intervals between them. While a device's frames arrive in order this is two integers; a gap costs one more
interval, and a frame that fills it later takes it away again. That is exact at any distance, where a sliding bitmap
would have to guess about everything older than its width.

Of a boot that is forgotten, its number stays: what still comes of it is too old, which is said, and never new again.
"""

from bisect import bisect_right
from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

from analytics.hashes import HASH_BYTES, NEVER, Kept, RecentHashes, place_of

MAX_INTERVALS: Final = 4_096
"""Missing intervals remembered per boot; beyond, the oldest are given up and what lay in them is "too old"."""
MAX_BOOTS: Final = 64
"""Boots whose numbers are remembered per device, the least recently heard forgotten first."""
MAX_FORGOTTEN: Final = 4_096
"""Boots forgotten of which the device's own number is remembered still: whatever comes of them is "too old"."""
BOOT_BYTES: Final = 8
COUNTED: Final = 0x51C0 << 48
"""Boots of what is counted here begin with this, go on with the number of the count, and end with the stream."""
OF_COUNT: Final = 0xFFFF << 48 | 0xFF
NEXT_COUNT: Final = 0x100
MAX_BEHIND: Final = 1_000
"""A number further behind the last one begins another count."""
MAX_AHEAD: Final = 1_000_000
"""So does one further ahead than this: nothing sends so much while it is not heard."""
MAX_SKIPPED: Final = 1_000
"""The same of a counter that wraps: further ahead is as far from the last number as any other would be."""
FIRST_NUMBERS: Final = (0, 1)
"""With these a device begins that has begun anew."""


class Verdict(Enum):
    """What the tracker says of a frame."""

    NEW = "new"
    DUPLICATE = "duplicate"
    TOO_OLD = "too_old"


class BootState(msgspec.Struct, array_like=True):
    """What has been seen of one boot: everything in [low, high] except the intervals [starts[i], ends[i])."""

    low: int
    high: int
    starts: list[int] = []
    ends: list[int] = []
    forgotten: int = 0
    """Numbers below this are not told apart any more: they are too old."""
    given_up: int = 0
    """How many numbers were missing in the intervals given up."""


class DeviceState(msgspec.Struct, array_like=True):
    """The tracker's memory of one device, as it rests in a checkpoint."""

    boots: dict[int, BootState]
    hashes: list[bytes]
    """One entry: the hashes that are in no block, the oldest first. Before, an entry of 12 bytes for each."""
    lost_before: int = 0
    """Numbers missing in the boots that are forgotten."""
    forgotten: bytes = b""
    """The boots forgotten, behind each other, the oldest first."""
    first_hash: int = 0
    hashes_in_blocks: int = 0
    newest_hashed: int = NEVER
    newest_since: int = 0
    """As in :class:`analytics.hashes.Kept`."""


class SequenceTracker:
    """Recognises repeated frames of one device. Order-free: the same set of frames is new exactly once each."""

    __slots__ = ("_boot", "_boots", "_current", "_forgotten", "_hashes", "_lost_before")

    def __init__(self, state: DeviceState | None = None, blocks: Mapping[int, bytes] | None = None) -> None:
        """Start empty, or from what :meth:`take_state` gave: the last block of each slot."""
        self._boots: dict[int, BootState] = dict(state.boots if state else {})
        """Those heard last at the end."""
        self._hashes: RecentHashes | None = None
        """Of a device that sends frames without a sequence."""
        if state and (state.hashes or state.hashes_in_blocks):
            tail = b"".join(map(_hashes_of, state.hashes))
            kept = Kept(tail, state.first_hash, state.hashes_in_blocks, state.newest_hashed, state.newest_since)
            self._hashes = RecentHashes(kept, blocks)
        self._forgotten = bytearray(state.forgotten if state else b"")
        self._lost_before = state.lost_before if state else 0
        self._boot = -1
        self._current = BootState(0, -1)

    def see(self, boot: int, seq: int) -> Verdict:
        """Note a frame of ``boot`` with ``seq`` (both ≥ 0) and say whether it is new."""
        if boot != self._boot and (verdict := self._turn_to(boot, seq)) is not None:
            return verdict
        state = self._current
        if seq == state.high + 1:
            state.high = seq
            return Verdict.NEW
        if seq > state.high:
            state.starts.append(state.high + 1)
            state.ends.append(seq)
            state.high = seq
            self._bound(state)
            return Verdict.NEW
        if seq < state.low:
            return self._before_low(state, seq)
        return self._fill(state, seq)

    def goes_on(self, boot: int, first: int) -> bool:
        """Tell whether a frame of ``boot`` with number ``first`` is the one behind the last frame heard."""
        return boot == self._boot and first == self._current.high + 1

    def see_up_to(self, last: int) -> None:
        """Note the frames that go on behind the last one heard, up to number ``last`` of the same boot."""
        self._current.high = last

    def see_hash(self, digest: bytes, at: int | None = None) -> Verdict:
        """Note a frame without a sequence by the hash of its identity, and say whether it is new.

        ``at``: the device's time, ns UTC, where that is part of its identity.
        """
        if self._hashes is None:
            self._hashes = RecentHashes()
        return Verdict.DUPLICATE if self._hashes.see(digest, at) else Verdict.NEW

    def count(self, stream: int, number: int) -> None:
        """Note a number that tells what is missing and not what is repeated: its device counts anew as it pleases.

        ``stream`` tells the counters of one device apart, 0 to 255. A number far from the last one is the first of
        another count. For counters that wrap there is :meth:`count_round`.
        """
        boot = next((each for each in reversed(self._boots) if each & OF_COUNT == COUNTED | stream), None)
        if boot is None:
            self.see(COUNTED | stream, number)
            return
        low, high = self._boots[boot].low, self._boots[boot].high
        if not -MAX_BEHIND <= number - high <= MAX_AHEAD:
            self.see(boot + NEXT_COUNT, number)
        elif number >= low:
            # What lies before the first one heard may be late or another count: of neither is anything missing.
            self.see(boot, number)

    def count_round(
        self, stream: int, number: int | None, wraps_at: int, *, anew: bool = False, known: bool = False
    ) -> int:
        """Note a number of a counter that goes round at ``wraps_at``; return it as if the counter never did.

        None stands for one that cannot be read: that after the last one. With ``anew`` the device may have begun to
        count anew, which then is told by any step back; else only by a step too far for what is late or lost. What is
        ``known`` to be a repetition begins no count. Numbers of two counts are never the same.
        """
        boot = COUNTED | stream
        if boot != self._boot and (
            (number is None and boot not in self._boots) or self._turn_to(boot, number or 0) is not None
        ):
            return number or 0
        state = self._current
        high = state.high
        ahead = 1 if number is None else (number - high) % wraps_at
        if ahead == 1:
            state.high = high + 1
            return high + 1
        if 1 < ahead <= min(MAX_SKIPPED, wraps_at // 2) and not (anew and number in FIRST_NUMBERS):
            return self._noted(boot, high + ahead)
        behind = -ahead % wraps_at
        if behind == 0 or (behind <= MAX_BEHIND and not anew):
            return self._noted(boot, high - behind)
        if not known:
            self._lost_before += _missing(state)
            fresh = (high // wraps_at + 2) * wraps_at + (number or 0)
            self._boots[boot] = self._current = BootState(fresh, fresh)
            return fresh
        return high - behind

    def _noted(self, boot: int, number: int) -> int:
        # What lies before the first one heard may be late or another count: of neither is anything missing.
        if number >= self._current.low:
            self.see(boot, number)
        return number

    @property
    def lost(self) -> int:
        """How many frames between the lowest and the highest seen of each boot never arrived."""
        # Mostly nothing is missing, and every device is asked at each commit.
        gaps = [_missing(state) for state in self._boots.values() if state.starts or state.given_up]
        return self._lost_before + (sum(gaps) if gaps else 0)

    def recent(self, limit: int) -> list[tuple[int, BootState]]:
        """Return up to ``limit`` boots heard last, the newest at the end; their states are not to be changed."""
        return list(self._boots.items())[-limit:]

    def state(self) -> DeviceState:
        """Return all that is remembered, to be looked at: of hashes the bytes that :mod:`analytics.hashes` keeps."""
        hashes = [bytes(self._hashes)] if self._hashes is not None else []
        return DeviceState(dict(self._boots), hashes, self._lost_before, bytes(self._forgotten))

    def take_state(self) -> tuple[DeviceState, dict[int, bytes]]:
        """Return what a checkpoint has to keep, and what :meth:`RecentHashes.take` gives of blocks."""
        kept, blocks = (Kept(b"", 0, 0), {}) if self._hashes is None else self._hashes.take()
        hashes = [kept.tail] if kept.tail else []
        boots, forgotten = dict(self._boots), bytes(self._forgotten)
        rest = kept.first, kept.in_blocks, kept.newest, kept.since
        return DeviceState(boots, hashes, self._lost_before, forgotten, *rest), blocks

    def _turn_to(self, boot: int, seq: int) -> Verdict | None:
        """Make ``boot`` current, and return None if it is known; else return what is to be said of ``seq``."""
        state = self._boots.pop(boot, None)
        known = state is not None
        if not known and place_of(boot.to_bytes(BOOT_BYTES, "little"), self._forgotten) >= 0:
            return Verdict.TOO_OLD
        self._boots[boot] = state = state or BootState(seq, seq)
        if len(self._boots) > MAX_BOOTS:
            self._forget(next(iter(self._boots)))
        self._boot, self._current = boot, state
        return None if known else Verdict.NEW

    def _forget(self, boot: int) -> None:
        """Keep of a boot only that it was there."""
        self._lost_before += _missing(self._boots.pop(boot))
        self._forgotten += boot.to_bytes(BOOT_BYTES, "little")
        if len(self._forgotten) > MAX_FORGOTTEN * BOOT_BYTES:
            del self._forgotten[:BOOT_BYTES]

    @staticmethod
    def _before_low(state: BootState, seq: int) -> Verdict:
        """A frame older than the first one heard: new, and the numbers between become missing."""
        if seq < state.forgotten:
            return Verdict.TOO_OLD
        if seq + 1 < state.low:
            state.starts.insert(0, seq + 1)
            state.ends.insert(0, state.low)
        state.low = seq
        SequenceTracker._bound(state)
        return Verdict.NEW

    @staticmethod
    def _fill(state: BootState, seq: int) -> Verdict:
        """A number within what is known: new if it was missing, whose interval then shrinks, splits or goes."""
        at = bisect_right(state.starts, seq) - 1
        if at < 0 or seq >= state.ends[at]:
            return Verdict.TOO_OLD if seq < state.forgotten else Verdict.DUPLICATE
        start, end = state.starts[at], state.ends[at]
        if seq == start and seq == end - 1:
            del state.starts[at], state.ends[at]
        elif seq == start:
            state.starts[at] = seq + 1
        elif seq == end - 1:
            state.ends[at] = seq
        else:
            state.ends[at] = seq
            state.starts.insert(at + 1, seq + 1)
            state.ends.insert(at + 1, end)
            SequenceTracker._bound(state)
        return Verdict.NEW

    @staticmethod
    def _bound(state: BootState) -> None:
        """Give up the oldest interval when there are too many."""
        if len(state.starts) > MAX_INTERVALS:
            state.given_up += state.ends[0] - state.starts[0]
            state.forgotten = state.ends[0]
            del state.starts[0], state.ends[0]


def _hashes_of(entry: bytes) -> bytes:
    """Return what is remembered of an entry of a checkpoint, of this form or the one before."""
    return entry[-HASH_BYTES:] if len(entry) % HASH_BYTES else entry


def _missing(state: BootState) -> int:
    return sum(state.ends) - sum(state.starts) + state.given_up
