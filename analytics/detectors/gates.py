"""Gate passages from tag reads.

A passing vehicle is read 20 to 200 times at one or more antennas of a lane. Reads of one tag at one lane belong to one
passage until none has come for the gap; the passage is complete at its last read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from analytics.events import PortEvent
from devices.scalars import Scalar
from devices.times import NS


class TagRead(NamedTuple):
    """One read of one tag: ``device`` index, ``ts`` ns UTC, RSSI in dBm."""

    device: int
    ts: int
    seq: int
    tag: str
    antenna: int
    rssi_dbm: float
    direction: str


@dataclass(frozen=True, slots=True)
class PassageRules:
    """What makes reads a passage."""

    gap_ns: int = 10 * NS
    """Silence of a tag, in event time, that ends its passage, ns > 0."""
    least_reads: int = 2
    """Fewer reads than this are a stray read of a neighbouring lane, not a passage."""


class Passage(msgspec.Struct, array_like=True):
    """A passage under way; times ns UTC."""

    start: int
    last: int
    seq: int
    reads: int
    antenna: int
    rssi_dbm: float
    direction: str


class GatePassages:
    """Joins the reads of each lane into passages."""

    def __init__(self, rules: PassageRules) -> None:
        """Start without passages under way."""
        self._rules = rules
        self.open: dict[int, dict[str, Passage]] = {}
        self.stray_reads = 0
        """Reads that belonged to no passage, since the start of the process."""

    def push(self, reads: Iterable[TagRead]) -> Iterator[PortEvent]:
        """Take released reads, per device in (ts, seq) order, and yield the passages that they show to be over.

        No read may lie before one of an earlier call.
        """
        for read in reads:
            under_way = self.open.setdefault(read.device, {})
            passage = under_way.get(read.tag)
            if passage is not None and read.ts - passage.last > self._rules.gap_ns:
                yield from self._close(read.device, read.tag, passage)
                passage = None
            if passage is None:
                under_way[read.tag] = Passage(
                    read.ts, read.ts, read.seq, 1, read.antenna, read.rssi_dbm, read.direction
                )
                continue
            passage.last, passage.seq, passage.reads = read.ts, read.seq, passage.reads + 1
            if read.rssi_dbm > passage.rssi_dbm:
                passage.rssi_dbm, passage.antenna = read.rssi_dbm, read.antenna

    def holds(self, device: int, instant: int) -> bool:
        """Tell whether a passage of a lane is under way beyond an instant, ns UTC, if nothing more is read."""
        return any(passage.last + self._rules.gap_ns >= instant for passage in self.open.get(device, {}).values())

    def release(self, device: int, watermark: int) -> Iterator[PortEvent]:
        """Yield the passages of a lane that ended before ``watermark`` (ns UTC) minus the gap."""
        under_way = self.open.get(device, {})
        over = [(tag, passage) for tag, passage in under_way.items() if watermark - passage.last > self._rules.gap_ns]
        for tag, passage in sorted(over, key=lambda item: (item[1].last, item[0])):
            yield from self._close(device, tag, passage)
            del under_way[tag]

    def _close(self, device: int, tag: str, passage: Passage) -> Iterator[PortEvent]:
        if passage.reads < self._rules.least_reads:
            self.stray_reads += passage.reads
            return
        data: dict[str, Scalar] = {
            "tag": tag,
            "direction": passage.direction,
            "reads": passage.reads,
            "antenna": passage.antenna,
            "rssi_dbm": passage.rssi_dbm,
        }
        metric = "passages_out" if passage.direction == "out" else "passages_in"
        yield PortEvent("gate_passage", device, passage.last, passage.start, passage.seq, data, {metric: 1}, tag)
