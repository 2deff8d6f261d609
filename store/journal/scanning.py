"""Scanning: the frames of one segment, each verified, and the stretches that hold none."""

from collections.abc import Iterator
from itertools import chain
from typing import Final

import google_crc32c

from store.journal.compressed import CompressedSegment
from store.journal.frames import Frame
from store.journal.records import CRC_BYTES, LOW, RECORD, Damage
from store.journal.resync import next_record
from store.journal.segments import COMPRESSED, HEADER, HeaderError, Segment, parse_header
from store.journal.selection import EVERYTHING, Selection
from store.journal.tails import is_damaged_record

LOT: Final = 1 << 20
"""About how many bytes of records are read at once: enough that what is done once for them does not count."""


class SegmentScan:
    """Reads one segment, plain or compressed, verifying every record."""

    def __init__(self, segment: Segment) -> None:
        """Open the file; records appended later are not seen.

        Raises FileNotFoundError where it has been deleted since it was listed.
        """
        # It may have been compressed since it was listed.
        self._segment = segment = _as_it_is(segment)
        self._compressed = CompressedSegment(segment) if segment.version == COMPRESSED else None
        self.data = b"" if self._compressed is not None else segment.path.read_bytes()
        """The bytes of a plain segment; empty for a compressed one."""
        self.count = 0
        """Valid records met so far, wanted or not."""
        self.damage: list[Damage] = []
        """Stretches of damaged bytes skipped so far, each holding at least one record."""
        self.valid_bytes = HEADER.size
        """Length of the plain segment up to the end of the last record that is valid or was whole once."""
        self.size = len(self.data)
        """Length of the plain segment, bytes; of a compressed one without its index, as far as it has been read."""
        if self._compressed is not None and self._compressed.index is not None:
            self.size = self._compressed.index.end - segment.base

    @property
    def repaired(self) -> list[Damage]:
        """Stretches read so far in which a bit was wrong and could be put right: nothing of them is lost."""
        chunks = self._compressed.repaired if self._compressed is not None else []
        return [Damage(self._segment.path, chunk.offset, chunk.length) for chunk in chunks]

    @property
    def without_index(self) -> bool:
        """Whether the segment is compressed and its index is damaged."""
        return self._compressed is not None and self._compressed.index is None

    def frames(self, start: int, selection: Selection = EVERYTHING) -> Iterator[Frame]:
        """Yield the valid frames from offset ``start`` on that are wanted; damage in between is skipped and counted."""
        return chain.from_iterable(self.lots(start, selection))

    def lots(self, start: int, selection: Selection = EVERYTHING) -> Iterator[list[Frame]]:
        """Yield what :meth:`frames` does, in lists."""
        base = self._segment.base
        position = max(start - base, HEADER.size)
        self.valid_bytes = position
        if self._compressed is None:
            yield from self._stretch(self.data, base, position, selection)
            if is_damaged_record(self.data[self.valid_bytes :], base + self.valid_bytes):
                self._account_to(self.size)
        else:
            yield from self._chunks(self._compressed, start, selection)

    def _chunks(self, compressed: CompressedSegment, start: int, selection: Selection) -> Iterator[list[Frame]]:
        """Yield the frames of the chunks that may hold wanted ones.

        Damage at the end of the segment is left to :attr:`valid_bytes`, as in a plain one.
        """
        base, index = self._segment.base, compressed.index
        read_to = self.valid_bytes
        for chunk in index.select(start, selection) if index is not None else compressed.chunks():
            begin = chunk.offset - base
            if chunk.offset + chunk.length <= start:
                continue
            # By the index, what lies between two chunks read was not wanted; without it, it is lost.
            self._account_to(read_to if index is not None else begin)
            self.valid_bytes = max(self.valid_bytes, begin)
            read_to = begin + chunk.length
            if (data := compressed.load(chunk)) is not None:
                yield from self._stretch(data, chunk.offset, max(start - chunk.offset, 0), selection)
        if index is None:
            self.size = read_to
        elif read_to < self.size:
            self._account_to(read_to)
            self.valid_bytes = self.size

    def _account_to(self, end: int) -> None:
        """Count as damage what lies between the last valid record and ``end``, a length of the plain segment."""
        if end > self.valid_bytes:
            self._damaged(self._segment.base + self.valid_bytes, end - self.valid_bytes)
            self.valid_bytes = end

    def _damaged(self, offset: int, length: int) -> None:
        self.damage.append(Damage(self._segment.path, offset, length))

    def _stretch(self, data: bytes, base: int, position: int, selection: Selection) -> Iterator[list[Frame]]:
        """Yield the frames in ``data``, whose first byte lies at offset ``base``, from ``position`` in it on."""
        last = len(data) - RECORD.size
        before = base - self._segment.base
        reader = _Reader(data, base, selection)
        while position <= last:
            lot, end = reader.lot(position, min(position + LOT, last))
            if end > position:
                self.count += reader.count
                self.valid_bytes = before + end
                yield lot
                position = end
                continue
            position = next_record(data, base, position + 1)
            if position < 0:
                return
            self._damaged(base + end, position - end)


class _Reader:
    """Reads records that lie one after another."""

    def __init__(self, data: bytes, base: int, selection: Selection) -> None:
        """``data`` begins at offset ``base``."""
        self._data, self._base, self._selection = data, base, selection
        self._topics: dict[bytes, str | None] = {}
        """A topic's bytes → itself, None where it is not wanted."""
        self.count = 0
        """How many records the last lot had, wanted or not."""

    def lot(self, position: int, last: int) -> tuple[list[Frame], int]:
        """Return the wanted frames of the records that begin from ``position`` on, and where they end.

        The last one begins at ``last`` or before; earlier where the next record is not intact.
        """
        data, base, size, topics = self._data, self._base, len(self._data), self._topics
        from_ns, to_ns = self._selection.from_ns, self._selection.to_ns
        unpack, crc, new = RECORD.unpack_from, google_crc32c.value, tuple.__new__
        header, covered, low = RECORD.size, CRC_BYTES, LOW
        frames: list[Frame] = []
        count = 0
        while position <= last:
            checksum, body, recv_ts, epoch, name, flags, _ = unpack(data, position)
            at = position + header
            end = at + body
            place = base + position
            if end > size or name > body or crc(data[position + covered : end]) ^ (place & low) != checksum:
                break
            payload_at = at + name
            key = data[at:payload_at]
            topic = topics[key] if key in topics else self._topic(key)
            if topic is not None and from_ns <= recv_ts < to_ns:
                frames.append(new(Frame, (place, recv_ts, epoch, flags, topic, data[payload_at:end])))
            count += 1
            position = end
        self.count = count
        return frames, position

    def _topic(self, key: bytes) -> str | None:
        """Note a topic met for the first time."""
        text = key.decode(errors="replace")
        topic = self._topics[key] = text if self._selection.wants(text) else None
        return topic


def _as_it_is(segment: Segment) -> Segment:
    """Return a segment as its file is now; one with a damaged header as it was found."""
    try:
        return parse_header(segment.path)
    except HeaderError:
        return segment
