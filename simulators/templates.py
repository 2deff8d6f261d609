"""Packets of a load run, encoded beforehand: only sequence number, time and packet id are put in when they leave.

What devices say is taken from a simulated port: its telemetry of a few seconds, class by class, so that sizes and the
mix are those of the profile. Messages of one form have the same length; many at once are made by a few numpy calls.
"""

import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import mqtt5
import numpy as np
from numpy.typing import NDArray

from devices.codecs.native import Block, Telemetry, encode
from devices.columns import Ints
from devices.topics import DeviceKey, Stream, topic_of
from simulators.messages import PortMessages
from simulators.moving import decoded
from simulators.profiles import Profile
from simulators.schedule import NS

SAMPLED_NS: Final = 3 * NS
MOST_FORMS: Final = 12
"""The commonest forms of messages are used; a profile has a few more that are rare."""
FIRST_SEQ: Final = 1 << 33
"""Sequence numbers begin here: from there on they take nine bytes in msgpack, as times do."""
SEQ_MARK: Final = 0x7A5E_0D15_EA5E_0001
TS_MARK: Final = 0x7A5E_0D15_EA5E_0002
ID_MARK: Final = 0xA5C3

Octets = NDArray[np.uint8]


class Form(NamedTuple):
    """One kind of message that a profile's devices send."""

    device_class: str
    message: Telemetry | Block
    share: float
    """Of all messages of the profile."""


class Places(NamedTuple):
    """Where in a packet its changing numbers stand."""

    seq: int
    ts: int
    packet_id: int
    """-1 at QoS 0."""


def forms_of(profile: Profile, seed: int, site: str) -> list[Form]:
    """Return the forms of a profile's messages, the commonest first; shares add up to 1."""
    port = PortMessages(profile, seed, site, 1_767_225_600 * NS)
    counts: Counter[tuple[str, str, tuple[str, ...], int]] = Counter()
    examples: dict[tuple[str, str, tuple[str, ...], int], Telemetry | Block] = {}
    for message in port.advance(SAMPLED_NS):
        native = decoded(message.topic, message.payload)
        if native is None:
            continue
        key, _, found = native
        if isinstance(found, Telemetry):
            kind = (key.device_class, "telemetry", tuple(found.m), 0)
        elif isinstance(found, Block):
            kind = (key.device_class, "block", found.names, len(found.f32))
        else:
            continue
        counts[kind] += 1
        examples[kind] = found
    chosen = counts.most_common(MOST_FORMS)
    total = sum(count for _, count in chosen)
    return [Form(kind[0], examples[kind], count / total) for kind, count in chosen]


@dataclass(slots=True)
class Lane:
    """The devices of one form on one connection."""

    rows: Octets
    """Packets (devices, bytes)."""
    places: Places
    share: float
    """Of the connection's messages."""
    seq: Ints
    """Next sequence number of each device."""
    at: int = 0
    """Device that is next."""
    owed: float = 0.0
    """Messages due but not given yet, a fraction."""

    def take(self, ts: Ints, first_id: int) -> bytes:
        """Return packets of the next devices in turn, one for each time in ``ts`` (ns UTC), and move on.

        Packet ids count up from ``first_id`` within 1 to 65,535.
        """
        parts = []
        done = 0
        while done < len(ts):
            count = min(len(ts) - done, len(self.rows) - self.at)
            devices = slice(self.at, self.at + count)
            packets = self.rows[devices].copy()
            _put(packets, self.places.seq, self.seq[devices].astype(">u8"))
            _put(packets, self.places.ts, ts[done : done + count].astype(">u8"))
            if self.places.packet_id >= 0:
                ids = (first_id - 1 + done + np.arange(count)) % 65_535 + 1
                _put(packets, self.places.packet_id, ids.astype(">u2"))
            self.seq[devices] += 1
            self.at = (self.at + count) % len(self.rows)
            parts.append(packets.tobytes())
            done += count
        return b"".join(parts)


def lanes_of(forms: Iterable[Form], devices: int, connections: int, site: str, boot: int, qos: int) -> list[list[Lane]]:
    """Return the lanes of each connection; every form has at least one device, spread evenly over the connections."""
    result: list[list[Lane]] = [[] for _ in range(connections)]
    number = 0
    for form in forms:
        count = max(1, round(form.share * devices))
        rows: list[list[Octets]] = [[] for _ in range(connections)]
        places = Places(0, 0, 0)
        for _ in range(count):
            key = DeviceKey(site, form.device_class, f"L{number:06d}")
            packet, places = _packet(form.message, key, boot + number, qos)
            rows[number % connections].append(np.frombuffer(packet, np.uint8))
            number += 1
        for lanes, own in zip(result, rows, strict=True):
            if own:
                seq = np.full(len(own), FIRST_SEQ, np.int64)
                lanes.append(Lane(np.stack(own), places, form.share * len(own) / count, seq))
    for lanes in result:
        total = sum(lane.share for lane in lanes)
        for lane in lanes:
            lane.share /= total
    return [lanes for lanes in result if lanes]


def _packet(message: Telemetry | Block, key: DeviceKey, boot: int, qos: int) -> tuple[bytes, Places]:
    """Return a packet with marks in the places of its changing numbers, and these places."""
    if isinstance(message, Telemetry):
        payload = encode(Telemetry(v=1, m=message.m, boot=boot, seq=SEQ_MARK, ts=TS_MARK))
    else:
        payload = encode(
            Block(v=1, t0=TS_MARK, dt=message.dt, names=message.names, f32=message.f32, boot=boot, seq=SEQ_MARK)
        )
    topic = topic_of(key, Stream.TELEMETRY)
    if qos:
        packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=ID_MARK).write()
        packet_id = packet.index(topic.encode()) + len(topic.encode())
    else:
        packet, packet_id = mqtt5.PublishPacket(topic, payload).write(), -1
    seq, ts = (packet.rindex(struct.pack(">Q", mark)) for mark in (SEQ_MARK, TS_MARK))
    return packet, Places(seq, ts, packet_id)


def _put(packets: Octets, at: int, numbers: NDArray[np.unsignedinteger]) -> None:
    """Write a big-endian number into each packet."""
    size = numbers.dtype.itemsize
    packets[:, at : at + size] = numbers.view(np.uint8).reshape(-1, size)
