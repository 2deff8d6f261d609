"""Splitting: the bytes of a connection into its messages, as columns.

Nearly all that a broker sends are PUBLISH packets without properties on topics that have come before. Of these only
the lengths are read one by one; the rest of their headers is read as columns. Whatever is anything else, or on a topic
met for the first time, is for the codec, packet by packet, which also says what is malformed:

    bytes ─► where packets begin and end ─► plain ─► MessageTable
                                        └─► the codec ─► the same, or ``control``
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Final, NamedTuple

import mqtt5
import numpy as np
from numpy.typing import NDArray

from devices.columns import Bools, Ints
from devices.octets import cut
from devices.tables import Table

PUBLISH: Final = 3
"""The packet's type (MQTT 5, 2.1.2)."""
MORE: Final = 0x80
"""A byte of a length from here on is followed by another (MQTT 5, 1.5.5)."""
APART: Final = 64
"""So many packets are gone through one by one before it is looked whether those behind them are alike."""
MAX_TOPICS: Final = 100_000
"""Topics that are remembered; with more, all are forgotten."""


class Message(NamedTuple):
    """A PUBLISH as received."""

    topic: str
    payload: bytes
    flags: int
    """As in ``store.journal``: bits 0–1 QoS, 2 duplicate, 3 retained."""
    packet_id: int | None


class MessageTable(Table[Message]):
    """Messages as columns, each n long; one is made a :class:`Message` where it is looked at by itself."""

    def __init__(self, topics: list[str], payloads: list[bytes], flags: Ints, packet_ids: Ints) -> None:
        """Take the columns as they are; a packet id of 0 is that of a message of QoS 0."""
        self.topics = topics
        self.payloads = payloads
        self.flags = flags
        self.packet_ids = packet_ids

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "MessageTable":
        """Return messages as a table, which they may be already."""
        if isinstance(messages, MessageTable):
            return messages
        topics, payloads = [message.topic for message in messages], [message.payload for message in messages]
        flags, ids = [message.flags for message in messages], [message.packet_id or 0 for message in messages]
        return cls(topics, payloads, np.array(flags, np.int64), np.array(ids, np.int64))

    def __len__(self) -> int:
        """Return n."""
        return len(self.topics)

    def item(self, nth: int) -> Message:
        """Return a message."""
        return Message(self.topics[nth], self.payloads[nth], int(self.flags[nth]), int(self.packet_ids[nth]) or None)

    def take(self, which: Bools) -> "MessageTable":
        """Return those selected by a mask."""
        places = np.flatnonzero(which).tolist()
        topics, payloads = [self.topics[nth] for nth in places], [self.payloads[nth] for nth in places]
        return MessageTable(topics, payloads, self.flags[which], self.packet_ids[which])


class Splitter:
    """Splits what one connection has received; remembers the topics that it has met."""

    def __init__(self) -> None:
        """Nothing has been met."""
        self._topics: dict[bytes, str] = {}

    def split(self, data: bytes, most: int, control: Callable[[mqtt5.Packet], None]) -> tuple[MessageTable, int]:
        """Return the messages of the whole packets in ``data``, up to ``most`` packets, and where these end.

        Everything else is handed to ``control``. ValueError, or the codec's panic, on a malformed packet.
        """
        begin, end = _packets(data, most)
        if not len(end):
            return MessageTable.of(()), 0
        octets = np.frombuffer(data, np.uint8)
        first = octets[np.append(0, end[:-1])].astype(np.int64)
        # Fixed header (MQTT 5, 3.3.1): type 3, then duplicate, two bits of QoS, retain. Where a packet is too short for
        # what is read, that is of the next one, and it is not plain.
        qos, duplicate, retain = first >> 1 & 3, first >> 3 & 1, first & 1
        name_end = begin + 2 + _pairs(octets, begin)
        properties = name_end + 2 * (qos == 1)
        packet_id = np.where(qos == 1, _pairs(octets, name_end), 0)
        plain = (first >> 4 == PUBLISH) & (properties < end) & (octets.take(properties, mode="clip") == 0)
        plain &= np.where(qos == 1, packet_id > 0, (qos | duplicate) == 0)
        names = cut(data, begin + 2, np.minimum(name_end, end))
        topics = list(map(self._topics.get, names, repeat("")))
        payloads = cut(data, np.minimum(properties + 1, end), end)
        table = MessageTable(topics, payloads, qos | duplicate << 2 | retain << 3, packet_id)
        if "" in topics or not plain.all():
            known = np.array(list(map(bool, topics)))
            table = self._decode(data, np.append(0, end), np.flatnonzero(~(plain & known)), table, control)
        return table, int(end[-1])

    def _decode(
        self,
        data: bytes,
        bounds: Ints,
        odd: Ints,
        table: MessageTable,
        control: Callable[[mqtt5.Packet], None],
    ) -> MessageTable:
        """Have the codec read the ``odd`` packets between ``bounds``; return the table with the messages of them."""
        kept = np.ones(len(table), np.bool_)
        for nth in odd.tolist():
            packet, _ = mqtt5.read(memoryview(data)[bounds[nth] : bounds[nth + 1]])
            if type(packet) is not mqtt5.PublishPacket:
                kept[nth] = False
                control(packet)
                continue
            if packet.packet_id == 0:
                raise ValueError("a message at QoS 1 with packet id 0")
            table.topics[nth], table.payloads[nth] = packet.topic, packet.payload
            table.packet_ids[nth] = packet.packet_id or 0
            table.flags[nth] = (packet.packet_id is not None) | packet.duplicate << 2 | packet.retain << 3
            if len(self._topics) >= MAX_TOPICS:
                self._topics.clear()
            if packet.topic:
                self._topics[packet.topic.encode()] = packet.topic
        return table if kept.all() else table.take(kept)


def _pairs(octets: NDArray[np.uint8], at: Ints) -> Ints:
    """Return the two-byte numbers at some places, of which those beyond the end are nonsense."""
    high = octets.take(at, mode="clip").astype(np.int64)
    return high << 8 | octets.take(at + 1, mode="clip")


def _packets(data: bytes, most: int) -> tuple[Ints, Ints]:
    """Return where the bodies of up to ``most`` packets begin, behind type and length, and where they end; both (n,).

    Only whole packets count. Many in a row mostly have one type and length: where one begins and ends tells it of the
    others.
    """
    begins, ends = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    at, left, apart = 0, most, APART
    while left > 0:
        begin, end = _some_packets(data, at, min(left, apart))
        if not end:
            break
        begins.append(np.array(begin, np.int64))
        ends.append(np.array(end, np.int64))
        last, at = end[-2] if len(end) > 1 else at, end[-1]
        left -= len(end)
        alike = _alike(data, last, begin[-1], at, left)
        # Where lengths differ it is looked less and less often.
        apart = APART if alike >= APART else 2 * apart
        if alike:
            behind = (at - last) * np.arange(1, alike + 1)
            begins.append(begin[-1] + behind)
            ends.append(at + behind)
            at, left = at + (at - last) * alike, left - alike
    return np.concatenate(begins), np.concatenate(ends)


def _alike(data: bytes, first: int, begin: int, end: int, most: int) -> int:
    """Return how many packets follow one another that have type and length of that from ``first`` to ``end``."""
    step, width = end - first, begin - first
    count = min(most, (len(data) - end) // step)
    if count < 1:
        return 0
    heads = np.ndarray((count, width), np.uint8, data, end, (step, 1))
    same = heads[:, 0] == data[first]
    for nth in range(1, width):
        same &= heads[:, nth] == data[first + nth]
    return count if same.all() else int(same.argmin())


def _some_packets(data: bytes, at: int, most: int) -> tuple[list[int], list[int]]:
    """Return the same as :func:`_packets` of those from ``at`` on, one by one."""
    begins: list[int] = []
    ends: list[int] = []
    add_begin, add_end, size = begins.append, ends.append, len(data)
    try:
        while len(ends) < most:
            low = data[at + 1]
            if low < MORE:
                begin = at + 2
                end = begin + low
            elif 0 < (high := data[at + 2]) < MORE:
                begin = at + 3
                end = begin + low - MORE + (high << 7)
            else:
                begin, end = _long_packet(data, at)
            if end > size:
                break
            add_begin(begin)
            add_end(end)
            at = end
    except IndexError:
        pass  # the last header has not arrived whole
    return begins, ends


def _long_packet(data: bytes, at: int) -> tuple[int, int]:
    """Return where the body of a packet of 16 KiB or more begins and ends (MQTT 5, 2.1.4)."""
    length = 0
    for nth in range(4):
        byte = data[at + 1 + nth]
        length |= byte % MORE << 7 * nth
        if byte == 0:
            break
        if byte < MORE:
            begin = at + 2 + nth
            return begin, begin + length
    raise ValueError("a length that has no end, or more bytes than it needs")
