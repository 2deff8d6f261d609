"""The devices of a port: who they are, what they sample and how often."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator

from devices.codecs.sparkplug_node import EdgeNode
from devices.columns import Floats
from devices.scalars import Scalar
from devices.topics import DeviceKey
from devices.vocabulary import DeviceClass
from simulators import signals
from simulators.noise import Noise, noise_of
from simulators.port.cranes import Crane
from simulators.port.gate import Gate
from simulators.port.layout import Projection
from simulators.port.park import DockDoor, Reefer
from simulators.port.quay import QuayCrane
from simulators.port.vehicles import Truck
from simulators.port.world import Port
from simulators.port.yard import YardCrane
from simulators.signals import Signals
from simulators.speakers import Speaker, node_of, phone_of, speaker_of

NS: Final = 1_000_000_000
SLOW_HZ: Final = 1.0
GATE_HZ: Final = 1.0
SENSOR_HZ: Final = 0.2
REEFER_HZ: Final = 1 / 60
WIRE_KEYS: Final[dict[Scalar, str]] = {
    "sts": "quay_crane",
    "rtg": "yard_crane",
    "gate-lane": "gate",
    "yard-truck": "truck",
    "external-truck": "external",
}
"""Kind of a device → the key of the profile's wire that says what it speaks."""
BLOCK_NS: Final = NS
"""How long a packed block is."""

Sampler = Callable[[Floats], Signals]


@dataclass(slots=True)
class Device:
    """A sender: its identity, what it says of itself, and its counters."""

    key: DeviceKey
    info: dict[str, Scalar]
    boot: int
    binary: bool
    seq: int = 0
    speaker: Speaker | None = None
    """Who writes what the device says in a foreign format."""
    node: EdgeNode | None = None
    """The Sparkplug node that tells what the device measures."""


class Source(NamedTuple):
    """A regular report: every ``period_ns`` device ``device`` sends what ``sample`` returns for the sample times.

    With ``rows`` above 1 they are packed: each report holds so many instants, ``period_ns / rows`` apart, and is due at
    the last. A device that stands reports every ``rests_ns`` only, if that is not 0.
    """

    device: int
    period_ns: int
    phase_ns: int
    sample: Sampler
    rows: int = 1
    rests_ns: int = 0
    rests: Callable[[float, float], bool] | None = None
    """Whether the device stands from one moment to another (s), where that makes it report more seldom."""
    alone: bool = True
    """Whether no other source of the device reports at the same instants."""


class PortDevices:
    """Every device of a port with its sources; devices are numbered in the order of this list."""

    def __init__(self, port: Port, site: str, seed: int, start_ns: int, noise: str) -> None:
        """Draw boots from seed and start, phases from the seed."""
        self.devices: list[Device] = []
        self.sources: list[Source] = []
        self.gates: list[tuple[int, Gate]] = []
        self.cranes: list[tuple[int, Crane]] = []
        self._port = port
        self._wire = port.profile.wire
        self._site = site
        self._seed, self._level = seed, noise
        self._boots = np.random.default_rng([seed, start_ns & (2**32 - 1), start_ns >> 32])
        self._phases = np.random.default_rng([seed, 5])
        self._projection = Projection(port.profile.site)
        self._build()

    def noise_of(self, name: str) -> Noise | None:
        """Return the noise of a device's instruments, None where they are perfect."""
        return noise_of(self._seed, name, self._level)

    def _build(self) -> None:
        port, wire = self._port, self._wire
        for crane in port.quay_cranes:
            self._quay_crane(crane)
        for yard_crane in port.yard_cranes:
            self._yard_crane(yard_crane)
        for gate in port.gates:
            self._gate(gate)
        for truck in port.yard_trucks:
            self._truck(truck, truck.name, "yard-truck", wire.truck_hz, 0.0)
        for number, truck in enumerate(port.external_trucks):
            # A terminal of JT/T 808 is known by its phone number.
            name = phone_of(number) if wire.external == "jt808" else truck.name
            self._truck(truck, name, "external-truck", wire.external_hz, wire.external_parked_s)
        for number in range(port.profile.park.sensors):
            index = self._add(DeviceClass.PARK_SENSOR, f"PS{number + 1:02d}", {"kind": "weather"})
            self._source(index, SENSOR_HZ, _weather(port, number))
        for door in port.doors:
            index = self._add(DeviceClass.PARK_SENSOR, door.name, {"kind": "dock-door"})
            self._source(index, SENSOR_HZ, _door(door))
        for reefer in port.reefers:
            index = self._add(DeviceClass.PARK_SENSOR, reefer.name, {"kind": "reefer"})
            self._source(index, REEFER_HZ, _reefer(reefer))

    def _quay_crane(self, crane: QuayCrane) -> None:
        limits, wire = self._port.profile.quay, self._wire
        info: dict[str, Scalar] = {
            "kind": "sts",
            "outreach_m": limits.outreach_m,
            "lift_above_quay_m": limits.lift_above_quay_m,
            "portal_lane_y_m": crane.lane_y,
        }
        index = self._add(DeviceClass.QUAY_CRANE, crane.name, info)
        self.cranes.append((index, crane))
        weather, noise = self._port.weather, self.noise_of(crane.name)
        meter = signals.Meter(1 / SLOW_HZ, float(self._phases.uniform(1e5, 9e5)), 45.0)
        fast = self._fast(
            index, wire.quay_crane, wire.quay_crane_hz, lambda times: signals.quay_crane(crane, times, noise)
        )
        self._source(
            index,
            SLOW_HZ,
            lambda times: signals.quay_crane_slow(crane, weather, meter, times, noise),
            phase_ns=fast.phase_ns,
            alone=fast.rows > 1,
        )

    def _yard_crane(self, crane: YardCrane) -> None:
        block, wire = crane.block, self._wire
        info: dict[str, Scalar] = {
            "kind": "rtg",
            "block": block.name,
            "x0_m": block.x0,
            "x1_m": block.x1,
            "lane_y_m": block.lane_y,
            "rows": block.rows,
        }
        index = self._add(DeviceClass.YARD_CRANE, crane.name, info)
        self.cranes.append((index, crane))
        noise = self.noise_of(crane.name)
        self._fast(index, wire.yard_crane, wire.yard_crane_hz, lambda times: signals.yard_crane(crane, times, noise))

    def _gate(self, gate: Gate) -> None:
        lane = gate.lane
        info: dict[str, Scalar] = {
            "kind": "gate-lane",
            "direction": lane.direction,
            "antennas": 2,
            "x_m": lane.x,
            "y_m": lane.y,
        }
        index = self._add(DeviceClass.RFID_GATE, lane.name, info)
        self.gates.append((index, gate))
        self._source(index, GATE_HZ, lambda times: signals.gate_lane(gate, times))

    def _truck(self, truck: Truck, name: str, kind: str, hertz: float, rests_s: float) -> None:
        info: dict[str, Scalar] = {"kind": kind}
        if truck.plate:
            info |= {"plate": truck.plate, "tag": truck.tag}
        if name != truck.name:
            info["name"] = truck.name
        index = self._add(DeviceClass.VEHICLE, name, info)
        noise = self.noise_of(truck.name)
        source = self._source(index, hertz, lambda times: signals.truck(truck, self._projection, times, noise))
        if rests_s:
            self.sources[-1] = source._replace(rests_ns=round(rests_s * NS), rests=truck.track.driven.rests)

    def _add(self, device_class: DeviceClass, name: str, info: dict[str, Scalar]) -> int:
        key = DeviceKey(self._site, device_class, name)
        boot = int(self._boots.integers(2**63))
        form = str(getattr(self._wire, WIRE_KEYS.get(info["kind"], ""), "native"))
        speaker = speaker_of(form, name, device_class)
        node = node_of(key) if form == "sparkplug" else None
        self.devices.append(Device(key, {"simulated": True, **info}, boot, binary=True, speaker=speaker, node=node))
        return len(self.devices) - 1

    def _source(
        self, device: int, hertz: float, sample: Sampler, phase_ns: int | None = None, *, alone: bool = True
    ) -> Source:
        """Devices do not tick together: each starts at its own phase, drawn from the seed, on a millisecond."""
        period = round(NS / hertz)
        phase = _phase(self._phases, period) if phase_ns is None else phase_ns
        self.sources.append(Source(device, period, phase, sample, alone=alone))
        return self.sources[-1]

    def _fast(self, device: int, form: str, hertz: float, sample: Sampler) -> Source:
        """Add a source of fast signals, packed where the profile says so and a block holds more than one row."""
        rows = round(hertz * BLOCK_NS / NS)
        if form != "packed" or rows <= 1:
            return self._source(device, hertz, sample, alone=False)
        self.sources.append(Source(device, BLOCK_NS, _phase(self._phases, BLOCK_NS), sample, rows))
        return self.sources[-1]


def speaks_binary(payload: str, name: str) -> bool:
    """Whether a device speaks msgpack; in a ``mixed`` port half of them do, fixed by their name."""
    return payload == "msgpack" or (payload == "mixed" and zlib.crc32(name.encode()) % 2 == 0)


def _phase(phases: Generator, period_ns: int) -> int:
    return int(phases.integers(max(1, period_ns // 1_000_000))) * 1_000_000


def _weather(port: Port, number: int) -> Sampler:
    return lambda times: signals.park_sensor(port.weather, number, times)


def _door(door: DockDoor) -> Sampler:
    return lambda times: {"door_open": door.open.sample(times)}


def _reefer(reefer: Reefer) -> Sampler:
    return reefer.sample
