"""Devices that speak a foreign format: what they would say natively, written as other makers' machines do.

A speaker is asked for every payload of its device, in order of time. It returns the frame where its format has words
for it, and None where the device says it natively: the status of all, the line and the barrier of a gate lane, alarms.
"""

import math
from base64 import urlsafe_b64encode
from typing import Any, Final, Protocol

import msgspec

from devices.codecs import tic40, tic40_flat
from devices.codecs.jt808_bodies import item, location
from devices.codecs.jt808_frames import LOCATION, frame_of
from devices.codecs.native import Event, Payload, Telemetry
from devices.codecs.sparkplug_node import EdgeNode, Publication
from devices.times import format_rfc3339
from devices.topics import DeviceKey
from devices.vocabulary import BY_NAME, DeviceClass, Kind

ODOMETER: Final = 1
ODOMETER_M: Final = 100.0
SERIALS: Final = 65_536
PHONES: Final = 13_957_400_000
"""Road truck number n has the phone number PHONES + n; nobody is called there."""
MS: Final = 1_000_000
PLC: Final = "plc"
"""The one device of a Sparkplug node."""
ANTENNA_NAMES: Final = {"in": "entry", "out": "exit"}
"""Direction of a lane → name of its antennas."""


class Speaker(Protocol):
    """One device and its format."""

    codec: str
    """Name of the codec that reads the format, the last level of the topic."""

    def write(self, at: int, payload: Payload) -> bytes | None:
        """Return the frame for a payload of the instant ``at`` (ns UTC), None where it is said natively."""


class Tic40:
    """A machine that speaks TIC 4.0, as a tree of JSON or flat; what has no word there is left out."""

    def __init__(self, codec: str, device: str, device_class: DeviceClass) -> None:
        """``codec``: ``tic40`` or ``tic40-flat``."""
        self.codec = codec
        self._device = device
        self._class = device_class
        self._encode = tic40.encode if codec == "tic40" else tic40_flat.encode_flat

    def write(self, at: int, payload: Payload) -> bytes | None:
        """Return telemetry as a message of TIC 4.0."""
        if not isinstance(payload, Telemetry):
            return None
        values = {name: _status(name, value) for name, value in payload.m.items()}
        return self._encode(self._device, self._class, at, values)


class Impinj:
    """A reader that reports raw reads as events of an Impinj R700; its antennas are named by the lane's direction."""

    codec = "impinj"

    def __init__(self, host: str) -> None:
        """``host``: the name by which the reader calls itself."""
        self._host = host

    def write(self, at: int, payload: Payload) -> bytes | None:
        """Return a read as a tagInventory event."""
        if not isinstance(payload, Event) or payload.type != "tag_read":
            return None
        data = payload.data
        inventory: dict[str, Any] = {
            "epc": urlsafe_b64encode(bytes.fromhex(str(data["tag"]))).decode(),
            "antennaPort": data["antenna"],
            "antennaName": ANTENNA_NAMES[str(data["direction"])],
            "peakRssiCdbm": round(100 * _number(data["rssi_dbm"])),
            "frequency": 920_625,
            "transmitPowerCdbm": 3_000,
        }
        frame = {
            "timestamp": format_rfc3339(at),
            "hostname": self._host,
            "eventType": "tagInventory",
            "tagInventoryEvent": inventory,
        }
        return msgspec.json.encode(frame)


class Zebra:
    """A reader that reports and numbers raw reads as a Zebra FX does; its format has no direction."""

    codec = "zebra"

    def __init__(self, mac: str) -> None:
        """``mac``: the address by which the reader calls itself."""
        self._mac = mac
        self._number = 0

    def write(self, at: int, payload: Payload) -> bytes | None:
        """Return a read as a SIMPLE event; its time has no more than milliseconds."""
        if not isinstance(payload, Event) or payload.type != "tag_read":
            return None
        self._number += 1
        data = payload.data
        read: dict[str, Any] = {
            "format": "epc",
            "idHex": str(data["tag"]).lower(),
            "antenna": data["antenna"],
            "peakRssi": data["rssi_dbm"],
            "eventNum": self._number,
            "MAC": self._mac,
        }
        return msgspec.json.encode({"type": "SIMPLE", "timestamp": at // MS, "data": read})


class Jt808:
    """A vehicle terminal that reports its location as JT/T 808 of 2013 does, to the second and to 0.1 km/h."""

    codec = "jt808"

    def __init__(self, phone: str) -> None:
        """``phone``: its number, which is its identity."""
        self._phone = phone
        self._serial = 0
        self._place: tuple[float, float] | None = None

    def write(self, at: int, payload: Payload) -> bytes | None:
        """Return telemetry as a location; without a fix the last place is reported again."""
        if not isinstance(payload, Telemetry):
            return None
        values = payload.m
        if {"latitude_deg", "longitude_deg"} <= values.keys():
            self._place = float(values["latitude_deg"]), float(values["longitude_deg"])
        if self._place is None:
            return None
        body = location(
            at,
            *self._place,
            speed_mps=float(values["speed_mps"]),
            heading_deg=float(values["heading_deg"]),
            laden=bool(values["laden"]),
            items=item(ODOMETER, math.floor(values["odometer_m"] / ODOMETER_M).to_bytes(4)),
        )
        frame = frame_of(LOCATION, self._phone, self._serial, body)
        self._serial = (self._serial + 1) % SERIALS
        return frame


def speaker_of(form: str, device: str, device_class: DeviceClass) -> Speaker | None:
    """Return who writes for a device of the wire's ``form``, None where it speaks natively."""
    match form:
        case "tic40" | "tic40-flat":
            return Tic40(form, device, device_class)
        case "impinj":
            return Impinj(f"impinj-{device.lower()}")
        case "zebra":
            return Zebra(device)
        case "jt808":
            return Jt808(device)
        case _:
            return None


def node_of(key: DeviceKey) -> EdgeNode:
    """Return the Sparkplug node of a device; the nodes of a site and class are one group."""
    return EdgeNode(f"{key.site}-{key.device_class}", key.device, PLC)


def told_by(node: EdgeNode, at: int, payload: Payload) -> list[Publication]:
    """Return what a node publishes for a payload of the instant ``at`` (ns UTC), nothing where it is said natively."""
    if not isinstance(payload, Telemetry):
        return []
    return node.tell(at, {name: _status(name, value) for name, value in payload.m.items()})


def phone_of(number: int) -> str:
    """Return the phone number of road truck ``number`` (from 0)."""
    return str(PHONES + number)


def _status(name: str, value: float | bool) -> float | bool:  # noqa: FBT001 - a value, no switch
    """Return a state of no or yes as a boolean, as TIC 4.0 has it."""
    metric = BY_NAME[name]
    return bool(value) if metric.kind is Kind.STATE and metric.maximum == 1 else value


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
