"""From the port to the wire: which message each device sends, when, and its exact bytes.

:class:`PortMessages` is a pure function of profile, seed, site, start and payload form; it does no I/O. Each device
counts ``seq`` over all its streams from 0. ``boot`` is drawn from the seed and the start, so that a second run with the
same seed is new traffic to whoever removes duplicates, while a run repeated with the same start is the same bytes.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from devices.codecs.native import Event, Instant, Scalar, Status, Telemetry, encode
from devices.columns import Floats
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import DeviceClass
from simulators import signals
from simulators.noise import Noise, noise_of
from simulators.port.gate import Gate
from simulators.port.layout import Projection
from simulators.port.quay import QuayCrane
from simulators.port.vehicles import Truck
from simulators.port.world import Port
from simulators.port.yard import YardCrane
from simulators.profiles import Profile
from simulators.readers import reported, take_due
from simulators.signals import Signals
from simulators.truth import Fact

NS: Final = 1_000_000_000
PAYLOADS: Final = ("msgpack", "json", "mixed")

QUAY_CRANE_HZ: Final = 5.0
SLOW_HZ: Final = 1.0
YARD_CRANE_HZ: Final = 2.0
TRUCK_HZ: Final = 1.0
GATE_HZ: Final = 1.0
SENSOR_HZ: Final = 0.2


class Message(NamedTuple):
    """One publish: when it is due (ns UTC, the time inside the payload), who sends it, and the bytes."""

    due_ns: int
    device: int
    seq: int
    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class Device:
    """A sender: its identity, what it says of itself, and its counters."""

    key: DeviceKey
    info: dict[str, Scalar]
    boot: int
    binary: bool
    seq: int = 0


class Source(NamedTuple):
    """A regular report: every ``period_ns`` device ``device`` sends what ``sample`` returns for the sample times."""

    device: int
    period_ns: int
    phase_ns: int
    sample: Callable[[Floats], Signals]


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
        self.devices: list[Device] = []
        self._site = site
        self._payload = payload
        self._seed, self._noise = seed, noise
        self._boots = np.random.default_rng([seed, start_ns & (2**32 - 1), start_ns >> 32])
        self._phases = np.random.default_rng([seed, 5])
        self._projection = Projection(profile.site)
        self._at_ns = start_ns
        self._gates: list[tuple[int, Gate]] = []
        self._sources = self._build(profile)

    def hello(self) -> Iterator[Message]:
        """Yield the retained status with which each device begins."""
        for index, device in enumerate(self.devices):
            yield self._status(index, online=True, info=device.info)

    def goodbye(self) -> Iterator[Message]:
        """Yield the retained status with which each device ends."""
        for index in range(len(self.devices)):
            yield self._status(index, online=False, info={})

    def advance(self, duration_ns: int) -> list[Message]:
        """Return everything that is sent in the next ``duration_ns``, ordered by time, then device."""
        begin, end = self._at_ns, self._at_ns + duration_ns
        self.port.advance((end - self.origin_ns) / NS)
        # One telemetry payload per device and instant: signals of several rates that fall together travel together.
        instants: dict[tuple[int, int], dict[str, float]] = {}
        for source in self._sources:
            first = begin + (source.phase_ns - begin) % source.period_ns
            due = range(first, end, source.period_ns)
            if not due:
                continue
            times = (np.arange(first, end, source.period_ns) - self.origin_ns) / NS
            values = signals.rounded(source.sample(times))
            for at, row in zip(due, zip(*values.values(), strict=True), strict=True):
                # NaN, the one value that is not itself, is what the device does not know at that instant.
                known = ((name, value) for name, value in zip(values, row, strict=True) if value == value)  # noqa: PLR0124
                instants.setdefault((at, source.device), {}).update(known)
        ready: list[tuple[int, int, Stream, Instant]] = [
            (at, device, Stream.TELEMETRY, Telemetry(v=1, m=values)) for (at, device), values in instants.items()
        ]
        ready.extend(self._reads(end))
        ready.sort(key=lambda item: item[:2])
        self._at_ns = end
        self.port.forget((begin - self.origin_ns) / NS)
        return [self._message(*item) for item in ready]

    def truth(self) -> list[Fact]:
        """Remove and return what has really happened up to now, in the port's time."""
        return self.port.truth.take((self._at_ns - self.origin_ns) / NS)

    def _reads(self, end: int) -> Iterator[tuple[int, int, Stream, Instant]]:
        until_s = (end - self.origin_ns) / NS
        for lane, (_, gate) in enumerate(self._gates):
            due, noise = take_due(gate, until_s), self._noise_of(gate.lane.name)
            found = reported(due, lane, self._neighbours(lane), noise) if noise else ((lane, read) for read in due)
            for where, read in found:
                index, reader = self._gates[where]
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
        direction = self._gates[lane][1].lane.direction
        beside = [other for other in (lane - 1, lane + 1) if 0 <= other < len(self._gates)]
        return [other for other in beside if self._gates[other][1].lane.direction == direction]

    def _status(self, index: int, *, online: bool, info: dict[str, Scalar]) -> Message:
        return self._message(self._at_ns, index, Stream.STATUS, Status(v=1, online=online, info=info))

    def _message(self, at: int, index: int, stream: Stream, payload: Instant) -> Message:
        device = self.devices[index]
        payload.boot, payload.seq, payload.ts = device.boot, device.seq, at
        device.seq += 1
        topic = topic_of(device.key, stream)
        encoded = encode(payload, binary=device.binary)
        return Message(at, index, payload.seq, topic, encoded, stream is Stream.STATUS)

    def _add(self, device_class: DeviceClass, name: str, info: dict[str, Scalar]) -> int:
        key = DeviceKey(self._site, device_class, name)
        # "mixed": half of the devices, fixed by their name, speak JSON.
        binary = self._payload == "msgpack" or (self._payload == "mixed" and zlib.crc32(name.encode()) % 2 == 0)
        self.devices.append(Device(key, {"simulated": True, **info}, int(self._boots.integers(2**63)), binary))
        return len(self.devices) - 1

    def _source(
        self, device: int, hertz: float, sample: Callable[[Floats], Signals], phase_ns: int | None = None
    ) -> Source:
        """Devices do not tick together: each starts at its own phase, drawn from the seed, on a millisecond."""
        period = round(NS / hertz)
        if phase_ns is None:
            phase_ns = int(self._phases.integers(period // 1_000_000)) * 1_000_000
        return Source(device, period, phase_ns, sample)

    def _build(self, profile: Profile) -> list[Source]:
        port, sources = self.port, []
        for crane in port.quay_cranes:
            sources += self._quay_crane(crane)
        sources += [self._yard_crane(crane) for crane in port.yard_cranes]
        sources += [self._gate(gate) for gate in port.gates]
        for kind, trucks in (("yard-truck", port.yard_trucks), ("external-truck", port.external_trucks)):
            sources += [self._truck(kind, truck) for truck in trucks]
        for number in range(profile.park.sensors):
            index = self._add(DeviceClass.PARK_SENSOR, f"PS{number + 1:02d}", {"kind": "weather"})
            sources.append(self._source(index, SENSOR_HZ, _weather(port, number)))
        return sources

    def _quay_crane(self, crane: QuayCrane) -> list[Source]:
        limits = self.port.profile.quay
        info: dict[str, Scalar] = {
            "kind": "sts",
            "outreach_m": limits.outreach_m,
            "lift_above_quay_m": limits.lift_above_quay_m,
            "portal_lane_y_m": crane.lane_y,
        }
        index = self._add(DeviceClass.QUAY_CRANE, crane.name, info)
        weather, noise = self.port.weather, self._noise_of(crane.name)
        fast = self._source(index, QUAY_CRANE_HZ, lambda times: signals.quay_crane(crane, times, noise))
        meter = signals.Meter(1 / SLOW_HZ, float(self._phases.uniform(1e5, 9e5)), 45.0)
        slow = self._source(
            index,
            SLOW_HZ,
            lambda times: signals.quay_crane_slow(crane, weather, meter, times, noise),
            phase_ns=fast.phase_ns,
        )
        return [fast, slow]

    def _yard_crane(self, crane: YardCrane) -> Source:
        block = crane.block
        info: dict[str, Scalar] = {
            "kind": "rtg",
            "block": block.name,
            "x0_m": block.x0,
            "x1_m": block.x1,
            "lane_y_m": block.lane_y,
            "rows": block.rows,
        }
        index = self._add(DeviceClass.YARD_CRANE, crane.name, info)
        noise = self._noise_of(crane.name)
        return self._source(index, YARD_CRANE_HZ, lambda times: signals.yard_crane(crane, times, noise))

    def _gate(self, gate: Gate) -> Source:
        lane = gate.lane
        info: dict[str, Scalar] = {
            "kind": "gate-lane",
            "direction": lane.direction,
            "antennas": 2,
            "x_m": lane.x,
            "y_m": lane.y,
        }
        index = self._add(DeviceClass.RFID_GATE, lane.name, info)
        self._gates.append((index, gate))
        return self._source(index, GATE_HZ, lambda times: signals.gate_lane(gate, times))

    def _truck(self, kind: str, truck: Truck) -> Source:
        info: dict[str, Scalar] = {"kind": kind}
        if truck.plate:
            info |= {"plate": truck.plate, "tag": truck.tag}
        index = self._add(DeviceClass.VEHICLE, truck.name, info)
        noise = self._noise_of(truck.name)
        return self._source(index, TRUCK_HZ, lambda times: signals.truck(truck, self._projection, times, noise))

    def _noise_of(self, name: str) -> Noise | None:
        return noise_of(self._seed, name, self._noise)


def _weather(port: Port, number: int) -> Callable[[Floats], Signals]:
    return lambda times: signals.park_sensor(port.weather, number, times)
