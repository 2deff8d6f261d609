"""From the port to the wire: which message each device sends, when, and its exact bytes.

:class:`PortMessages` is a pure function of profile, seed, site, start, payload form and noise; it does no I/O. Each
device counts ``seq`` over all its streams from 0. ``boot`` is drawn from the seed and the start, so that a second run
with the same seed is new traffic to whoever removes duplicates, while a run repeated with the same start is the same
bytes.
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np

from devices.codecs.native import Block, Event, Payload, Status, Telemetry, encode
from devices.codecs.sparkplug import NAMESPACE
from devices.columns import Bools, Ints
from devices.scalars import Scalar
from devices.topics import ROOT, DeviceKey, Stream, topic_of
from simulators import signals
from simulators.port.world import Port
from simulators.profiles import Profile
from simulators.readers import reported
from simulators.sources import PortDevices, Source, speaks_binary
from simulators.speakers import told_by
from simulators.truth import Fact

NS: Final = 1_000_000_000
PAYLOADS: Final = ("msgpack", "json", "mixed")
FIXED_START_NS: Final = 1_767_225_600 * NS
"""2026-01-01T00:00:00Z: where no clock tells the time, so that a seed means the same bytes in every run."""
KEPT_S: Final = 2.0
"""How long motions are kept after they were sampled, s: a packed block reaches back by less."""
MOVES_FROM_MPS: Final = 0.05

BY_TIME: Final = itemgetter(0, 1)
Ready = tuple[int, int, Stream, Payload]
"""When (ns UTC), which device, on which stream, what."""


class Message(NamedTuple):
    """One publish: when it is due (ns UTC, the latest time inside the payload), who sends it, and the bytes."""

    due_ns: int
    device: int
    seq: int
    topic: str
    payload: bytes
    retain: bool


class PortMessages:
    """The traffic of a whole port in the order of time."""

    def __init__(
        self, profile: Profile, seed: int, site: str, start_ns: int, payload: str = "msgpack", noise: str = "none"
    ) -> None:
        """Open the port so that its opening moment is ``start_ns`` (ns UTC); ``noise`` is one of ``noise.LEVELS``."""
        if payload not in PAYLOADS:
            raise ValueError(f"payload {payload!r}: allowed are {', '.join(PAYLOADS)}")
        self.port = Port(profile, seed)
        self.opening_s = self.port.open()
        self.origin_ns = start_ns - round(self.opening_s * NS)
        """Second 0 of the port's time, ns UTC."""
        self._built = PortDevices(self.port, site, seed, start_ns, noise)
        self.devices = self._built.devices
        for device in self.devices:
            device.binary = speaks_binary(payload, device.key.device)
        self._topics = [{stream: topic_of(device.key, stream) for stream in Stream} for device in self.devices]
        self._nodes = {device.node.command_topic: device.node for device in self.devices if device.node is not None}
        self._at_ns = start_ns
        self._asked: set[int] = set()
        self._has_gaps = noise != "none"
        self._noises = [self._built.noise_of(gate.lane.name) for _, gate in self._built.gates]

    def hello(self) -> Iterator[Message]:
        """Yield the retained status with which each device begins."""
        for index, device in enumerate(self.devices):
            yield self._status(index, Status(v=1, online=True, info=device.info))

    def goodbye(self) -> Iterator[Message]:
        """Yield the retained status with which each device ends."""
        for index, device in enumerate(self.devices):
            if device.node is not None:
                topic, certificate = device.node.death(self._at_ns)
                yield Message(self._at_ns, index, max(0, device.seq - 1), topic, certificate, retain=False)
            yield self._status(index, Status(v=1, online=False, info={}))

    def command_filters(self) -> list[str]:
        """Return the topic filters of the commands to Sparkplug nodes."""
        groups = sorted({device.node.group for device in self.devices if device.node is not None})
        return [f"{NAMESPACE}/{group}/NCMD/+" for group in groups]

    def command(self, topic: str, payload: bytes) -> bool:
        """Take a command to a Sparkplug node; return whether it asks for a rebirth: the next report is one."""
        node = self._nodes.get(topic)
        return node is not None and node.command(payload)

    def ask_status(self, device: int) -> None:
        """Have a device say again, with the next that is sent, that it is there and what it is."""
        self._asked.add(device)

    def rate_of(self, device: int) -> float:
        """Return how often a device samples for the first of its reports, which is its fastest at first, Hz."""
        source = self._built.sources[self._first_source(device)]
        return source.rows * NS / source.period_ns

    def set_rate(self, device: int, hertz: float) -> float:
        """Have a device report so often from the next that is sent on, Hz > 0; return how often it will.

        ValueError for a device that packs its signals into blocks: their length is part of the wire's profile. What a
        device reports beside stays as often as it is.
        """
        sources, at = self._built.sources, self._first_source(device)
        if sources[at].rows > 1:
            raise ValueError("this device packs its signals into blocks of one second; their rate is fixed")
        sources[at] = sources[at]._replace(period_ns=round(NS / hertz))
        return self.rate_of(device)

    def _asked_for(self, at: int) -> Iterator[Ready]:
        """Yield the statuses that were asked for."""
        for device in sorted(self._asked):
            yield at, device, Stream.STATUS, Status(v=1, online=True, info=self.devices[device].info)
        self._asked.clear()

    def _first_source(self, device: int) -> int:
        return next(nth for nth, source in enumerate(self._built.sources) if source.device == device)

    def advance(self, duration_ns: int) -> list[Message]:
        """Return everything that is sent in the next ``duration_ns``, ordered by time, then device."""
        begin, end = self._at_ns, self._at_ns + duration_ns
        self.port.advance((end - self.origin_ns) / NS)
        ready: list[Ready] = []
        # One telemetry payload per device and instant: signals of several rates that fall together travel together.
        together: dict[tuple[int, int], dict[str, float]] = {}
        for source in self._built.sources:
            if source.rows > 1:
                ready.extend(self._blocks(source, begin, end))
                continue
            for at, values in self._sample(source, begin, end):
                if source.alone:
                    ready.append((at, source.device, Stream.TELEMETRY, Telemetry(v=1, m=values)))
                else:
                    together.setdefault((at, source.device), {}).update(values)
        ready.extend((at, device, Stream.TELEMETRY, Telemetry(v=1, m=m)) for (at, device), m in together.items())
        ready.extend(self._asked_for(begin))
        ready.extend(self._reads(end))
        ready.extend(self._alarms(end))
        ready.sort(key=BY_TIME)
        self._at_ns = end
        self.port.forget((begin - self.origin_ns) / NS - KEPT_S)
        return [message for item in ready for message in self._messages(*item)]

    def truth(self) -> list[Fact]:
        """Remove and return what has really happened up to now, in the port's time."""
        return self.port.truth.take((self._at_ns - self.origin_ns) / NS)

    def _sample(self, source: Source, begin: int, end: int) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the instants at which a source samples in [begin, end), and what it then shows."""
        first = begin + (source.phase_ns - begin) % source.period_ns
        if first >= end:
            return
        due: Ints = np.arange(first, end, source.period_ns)
        if source.rests is not None and source.rests(self._port_s(first), self._port_s(end)):
            due = due[_reports_at_rest(source, due)]
            if not len(due):
                return
        sampled = source.sample((due - self.origin_ns) / NS)
        table = signals.rounded(sampled)
        if source.rests is not None:
            heard = (np.asarray(sampled["speed_mps"]) > MOVES_FROM_MPS) | _reports_at_rest(source, due)
            due, table = due[heard], table[heard]
        for at, row in zip(due.tolist(), table.tolist(), strict=True):
            named = zip(sampled, row, strict=True)
            # NaN, the one value that is not itself, is what the device does not know at that instant.
            yield at, {name: value for name, value in named if value == value} if self._has_gaps else dict(named)  # noqa: PLR0124

    def _port_s(self, at_ns: int) -> float:
        return (at_ns - self.origin_ns) / NS

    def _blocks(self, source: Source, begin: int, end: int) -> Iterator[Ready]:
        """Yield the packed blocks of a source whose last instant lies in [begin, end)."""
        step = source.period_ns // source.rows
        span = step * (source.rows - 1)
        first = begin + (source.phase_ns + span - begin) % source.period_ns - span
        starts = np.arange(first, end - span, source.period_ns)
        if not len(starts):
            return
        times: Ints = (starts[:, None] + step * np.arange(source.rows)).ravel()
        sampled = source.sample((times - self.origin_ns) / NS)
        names = tuple(sampled)
        table = signals.rounded(sampled).astype("<f4").reshape(len(starts), source.rows, len(names))
        for start, rows in zip(starts.tolist(), table, strict=True):
            yield start + span, source.device, Stream.TELEMETRY, Block(1, start, step, names, rows.tobytes())

    def _reads(self, end: int) -> Iterator[Ready]:
        until_s = (end - self.origin_ns) / NS
        gates = self._built.gates
        for lane, (_, gate) in enumerate(gates):
            due, noise = gate.take_reads(until_s), self._noises[lane]
            found = reported(due, lane, self._neighbours(lane), noise) if noise else ((lane, read) for read in due)
            for where, read in found:
                index, reader = gates[where]
                data: dict[str, Scalar] = {
                    "tag": read.tag,
                    "antenna": read.antenna,
                    "rssi_dbm": read.rssi_dbm,
                    "direction": reader.lane.direction,
                }
                at = self.origin_ns + round(read.time * NS)
                yield at, index, Stream.EVENT, Event(v=1, type="tag_read", data=data)

    def _neighbours(self, lane: int) -> list[int]:
        """Return the lanes beside a lane that lead the same way."""
        gates = self._built.gates
        direction = gates[lane][1].lane.direction
        beside = [other for other in (lane - 1, lane + 1) if 0 <= other < len(gates)]
        return [other for other in beside if gates[other][1].lane.direction == direction]

    def _alarms(self, end: int) -> Iterator[Ready]:
        """Yield the alarms that cranes raise and clear before ``end``."""
        until_s = (end - self.origin_ns) / NS
        for index, crane in self._built.cranes:
            while crane.alarms and crane.alarms[0].time < until_s:
                time, code, active = crane.alarms.popleft()
                data: dict[str, Scalar] = {"code": code, "active": active}
                at = self.origin_ns + round(time * NS)
                yield max(at, self._at_ns), index, Stream.EVENT, Event(v=1, type="alarm", data=data)

    def _status(self, index: int, status: Status) -> Message:
        return self._message(self._at_ns, index, Stream.STATUS, status)

    def _messages(self, at: int, index: int, stream: Stream, payload: Payload) -> list[Message]:
        device = self.devices[index]
        if device.node is not None and (told := told_by(device.node, at, payload)):
            seq = max(0, device.seq - 1)
            return [Message(at, index, seq, topic, frame, retain=False) for topic, frame in told]
        return [self._message(at, index, stream, payload)]

    def _message(self, at: int, index: int, stream: Stream, payload: Payload) -> Message:
        device = self.devices[index]
        if device.speaker is not None and (frame := device.speaker.write(at, payload)) is not None:
            # Foreign formats have counters of their own, if any: the device's own goes on without a hole.
            topic = foreign_topic(device.key, device.speaker.codec)
            return Message(at, index, max(0, device.seq - 1), topic, frame, retain=False)
        payload.boot, payload.seq = device.boot, device.seq
        if not isinstance(payload, Block):
            payload.ts = at
        device.seq += 1
        # A block holds bytes, for which JSON has no place.
        encoded = encode(payload, binary=device.binary or isinstance(payload, Block))
        return Message(at, index, payload.seq, self._topics[index][stream], encoded, stream is Stream.STATUS)


def foreign_topic(key: DeviceKey, codec: str) -> str:
    """Return the topic on which a device speaks a foreign format."""
    return f"{ROOT}/{key.site}/{key.device_class}/{key.device}/{codec}"


def _reports_at_rest(source: Source, due: Ints) -> Bools:
    """Return which of the instants ``due`` (n,) a device does not leave out while it stands."""
    return np.asarray(due // source.period_ns % max(1, source.rests_ns // source.period_ns) == 0)
