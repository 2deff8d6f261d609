"""Scanning: the frames of one segment, each verified, and the stretches that hold none."""

from collections.abc import Iterator

import google_crc32c

from store.journal.compressed import CompressedSegment
from store.journal.records import CRC_BYTES, LOW, RECORD, Damage, Frame
from store.journal.resync import next_record
from store.journal.segments import COMPRESSED, HEADER, HeaderError, Segment, parse_header
from store.journal.selection import EVERYTHING, Selection


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
        """Length of the plain segment up to the end of the last valid record."""
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
        base = self._segment.base
        position = max(start - base, HEADER.size)
        self.valid_bytes = position
        if self._compressed is None:
            yield from self._stretch(self.data, base, position, selection)
        else:
            yield from self._chunks(self._compressed, start, selection)

    def _chunks(self, compressed: CompressedSegment, start: int, selection: Selection) -> Iterator[Frame]:
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

    def _stretch(self, data: bytes, base: int, position: int, selection: Selection) -> Iterator[Frame]:
        """Yield the frames in ``data``, whose first byte lies at offset ``base``, from ``position`` in it on."""
        size, last = len(data), len(data) - RECORD.size
        from_ns, to_ns = selection.from_ns, selection.to_ns
        unpack, crc, new = RECORD.unpack_from, google_crc32c.value, tuple.__new__
        wanted: dict[bytes, str | None] = {}
        before = base - self._segment.base
        while position <= last:
            checksum, body, recv_ts, epoch, name, flags, _ = unpack(data, position)
            at = position + RECORD.size
            end = at + body
            place = (base + position) & LOW
            if end > size or name > body or crc(data[position + CRC_BYTES : end]) ^ place != checksum:
                valid = next_record(data, base, position + 1)
                if valid < 0:
                    return
                self._damaged(base + position, valid - position)
                position = valid
                continue
            key = data[at : at + name]
            try:
                topic = wanted[key]
            except KeyError:
                text = key.decode(errors="replace")
                topic = wanted[key] = text if selection.wants(text) else None
            self.count += 1
            self.valid_bytes = before + end
            if topic is not None and from_ns <= recv_ts < to_ns:
                yield new(Frame, (base + position, recv_ts, epoch, flags, topic, data[at + name : end]))
            position = end


def _as_it_is(segment: Segment) -> Segment:
    """Return a segment as its file is now; one with a damaged header as it was found."""
    try:
        return parse_header(segment.path)
    except HeaderError:
        return segment
