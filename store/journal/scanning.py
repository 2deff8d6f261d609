"""Scanning: the frames of one segment, each verified, and the stretches that hold none."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Final

import google_crc32c

from store.journal.records import CRC_BYTES, LOW, RECORD, Damage, Frame
from store.journal.resync import next_record
from store.journal.segments import HEADER, Segment

FOREVER: Final = 2**64


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames are wanted."""

    topics: Container[str] | None = None
    """Their topics, exactly: a set, or anything else that can tell whether a topic is in it; None wants all."""
    from_ns: int = 0
    """Received at or after this, ns UTC."""
    to_ns: int = FOREVER
    """Received before this, ns UTC."""

    def wants(self, topic: str) -> bool:
        """Tell whether frames of a topic are wanted."""
        return self.topics is None or topic in self.topics


EVERYTHING: Final = Selection()


class SegmentScan:
    """Reads one segment, verifying every record."""

    def __init__(self, segment: Segment) -> None:
        """Read the file; records appended later are not seen."""
        self._segment = segment
        self._data = segment.path.read_bytes()
        self.size = len(self._data)
        """Length of the segment, bytes."""
        self.count = 0
        """Valid records met so far, wanted or not."""
        self.damage: list[Damage] = []
        """Stretches of damaged bytes skipped so far, each holding at least one record."""
        self.valid_bytes = HEADER.size
        """Length of the segment up to the end of the last valid record."""

    def frames(self, start: int, selection: Selection = EVERYTHING) -> Iterator[Frame]:
        """Yield the valid frames from offset ``start`` on that are wanted; damage in between is skipped and counted."""
        data, base = self._data, self._segment.base
        size, last = len(data), len(data) - RECORD.size
        from_ns, to_ns = selection.from_ns, selection.to_ns
        unpack, crc, new = RECORD.unpack_from, google_crc32c.value, tuple.__new__
        wanted: dict[bytes, str | None] = {}
        position = max(start - base, HEADER.size)
        self.valid_bytes = position
        while position <= last:
            checksum, body, recv_ts, epoch, name, flags, _ = unpack(data, position)
            at = position + RECORD.size
            end = at + body
            place = (base + position) & LOW
            if end > size or name > body or crc(data[position + CRC_BYTES : end]) ^ place != checksum:
                valid = next_record(data, base, position + 1)
                if valid < 0:
                    return
                self.damage.append(Damage(self._segment.path, base + position, valid - position))
                position = valid
                continue
            key = data[at : at + name]
            try:
                topic = wanted[key]
            except KeyError:
                text = key.decode(errors="replace")
                topic = wanted[key] = text if selection.wants(text) else None
            self.count += 1
            self.valid_bytes = end
            if topic is not None and from_ns <= recv_ts < to_ns:
                yield new(Frame, (base + position, recv_ts, epoch, flags, topic, data[at + name : end]))
            position = end
