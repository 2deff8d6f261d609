"""Scanning: the frames of one segment, each verified, and the stretches that hold none."""

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Final, cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from devices.columns import Ints
from devices.octets import cut
from store.journal.compressed import CompressedSegment
from store.journal.frames import Frame, FrameTable
from store.journal.plain import PlainSegment
from store.journal.records import CRC, CRC_BYTES, HEAD, LOW, RECORD, Damage
from store.journal.resync import next_record
from store.journal.segments import COMPRESSED, HEADER, HeaderError, Segment, parse_header
from store.journal.selection import EVERYTHING, Selection
from store.journal.tails import is_damaged_record

LOT: Final = 1 << 20
"""About how many bytes of records are read at once: enough that what is done once for them does not count."""
PIECE: Final = 2 << 20
"""Bytes of a plain segment that are in memory at a time, if no record is larger: of a whole one they would be 32 MB."""


class SegmentScan:
    """Reads one segment, plain or compressed, verifying every record."""

    def __init__(self, segment: Segment) -> None:
        """Open the file; records appended later are not seen.

        Raises FileNotFoundError where it has been deleted since it was listed.
        """
        # It may have been compressed since it was listed.
        self._segment = segment = _as_it_is(segment)
        self._compressed = CompressedSegment(segment) if segment.version == COMPRESSED else None
        self._plain = PlainSegment(segment.path) if self._compressed is None else None
        self.count = 0
        """Valid records met so far, wanted or not."""
        self.damage: list[Damage] = []
        """Stretches of damaged bytes skipped so far, each holding at least one record."""
        self.valid_bytes = HEADER.size
        """Length of the plain segment up to the end of the last record that is valid or was whole once."""
        self.size = self._plain.size if self._plain is not None else 0
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

    def lots(self, start: int, selection: Selection = EVERYTHING) -> Iterator[FrameTable]:
        """Yield what :meth:`frames` does, in tables."""
        self.valid_bytes = max(start - self._segment.base, HEADER.size)
        if self._plain is not None:
            yield from self._pieces(self._plain, selection)
            tail = self._plain.read(self.valid_bytes, self.size - self.valid_bytes)
            if is_damaged_record(tail, self._segment.base + self.valid_bytes):
                self._account_to(self.size)
        elif self._compressed is not None:
            yield from self._chunks(self._compressed, start, selection)

    def _pieces(self, plain: PlainSegment, selection: Selection) -> Iterator[FrameTable]:
        """Yield the frames of a plain segment; no more of it is in memory than what holds a record or is damaged."""
        length = PIECE
        while self.valid_bytes < self.size:
            begin = self.valid_bytes
            data = plain.read(begin, length)
            if len(data) < length:
                # The end; or it has been cut, as what could not be written whole is.
                self.size = begin + len(data)
            yield from self._stretch(data, self._segment.base + begin, 0, selection)
            if begin + len(data) == self.size:
                return
            # Larger where one record, or the way to the next, is.
            length = max(PIECE, 2 * (begin + len(data) - self.valid_bytes))

    def _chunks(self, compressed: CompressedSegment, start: int, selection: Selection) -> Iterator[FrameTable]:
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

    def _stretch(self, data: bytes, base: int, position: int, selection: Selection) -> Iterator[FrameTable]:
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
            if self._goes_on(data, before, position):
                return
            position = next_record(data, base, position + 1)
            if position < 0:
                return
            self._damaged(base + end, position - end)

    def _goes_on(self, data: bytes, before: int, position: int) -> bool:
        """Tell whether what lies at ``position`` may be a record of which this piece has only the beginning."""
        (body,) = CRC.unpack_from(data, position + CRC_BYTES)
        end = before + position + RECORD.size + body
        return self._plain is not None and before + len(data) < end <= self.size


class _Reader:
    """Reads records that lie one after another, as columns."""

    def __init__(self, data: bytes, base: int, selection: Selection) -> None:
        """``data`` begins at offset ``base``."""
        self._data, self._base, self._selection = data, base, selection
        # At every place what would be the head of a record there: numpy picks out many at once.
        self._heads = np.ndarray((max(len(data) - RECORD.size + 1, 0),), HEAD, data, 0, (1,))
        self._topics: dict[bytes, str | None] = {}
        """A topic's bytes → itself, None where it is not wanted."""
        self.count = 0
        """How many records the last lot had, wanted or not."""

    def lot(self, position: int, last: int) -> tuple[FrameTable, int]:
        """Return the wanted frames of the records that begin from ``position`` on, and where they end.

        The last one begins at ``last`` or before; earlier where the next record is not intact.
        """
        bounds = np.array(self._bounds(position, last), np.int64)
        begin, end = bounds[:-1], bounds[1:]
        heads = self._heads[begin]
        checksums = map(google_crc32c.value, cut(self._data, begin + CRC_BYTES, end))
        crc = np.fromiter(checksums, np.int64, len(begin)) ^ (self._base + begin & LOW)
        intact = (crc == heads["crc"]) & (heads["name_bytes"] <= heads["body"])
        if not intact.all():
            count = int(np.argmin(intact))
            bounds, heads = bounds[: count + 1], heads[:count]
            begin, end = bounds[:-1], bounds[1:]
        self.count = len(begin)
        return self._frames(begin, end, heads), int(bounds[-1])

    def _bounds(self, position: int, last: int) -> list[int]:
        """Return where records begin, and where the last one ends, by what they say of their lengths.

        This is all that runs for each record by itself.
        """
        data, size, header, body_of = self._data, len(self._data), RECORD.size, CRC.unpack_from
        bounds = [position]
        while position <= last:
            position += header + body_of(data, position + CRC_BYTES)[0]
            if position > size:
                break
            bounds.append(position)
        return bounds

    def _frames(self, begin: Ints, end: Ints, heads: NDArray[np.void]) -> FrameTable:
        """Return the wanted frames of intact records."""
        at = begin + RECORD.size
        payload_at = at + heads["name_bytes"]
        names = cut(self._data, at, payload_at)
        topics = list(map(self._topics.get, names, repeat("")))
        if "" in topics:
            topics = [self._topic(name) if topic == "" else topic for name, topic in zip(names, topics, strict=True)]
        received = heads["recv_ts"]
        wanted = (received >= self._selection.from_ns) & (received < self._selection.to_ns)
        if None in topics:
            wanted &= np.array([topic is not None for topic in topics], np.bool_)
        known = [topic or "" for topic in topics] if None in topics else cast("list[str]", topics)
        recv_ts, epoch, flags = (heads[name].astype(np.int64) for name in ("recv_ts", "epoch", "flags"))
        payloads = cut(self._data, payload_at, end)
        frames = FrameTable(self._base + begin, recv_ts, epoch, flags, known, payloads)
        return frames if wanted.all() else frames.take(wanted)

    def _topic(self, key: bytes) -> str | None:
        """Note a topic met for the first time."""
        if key not in self._topics:
            text = key.decode(errors="replace")
            self._topics[key] = text if self._selection.wants(text) else None
        return self._topics[key]


def _as_it_is(segment: Segment) -> Segment:
    """Return a segment as its file is now; one with a damaged header as it was found."""
    try:
        return parse_header(segment.path)
    except HeaderError:
        return segment
