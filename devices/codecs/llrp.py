"""LLRP, the protocol between RFID readers and their hosts: tag reports, keep-alives, reader events, capabilities.

Layouts from the LLRP standard 1.0.1 (EPCglobal), sections 16 and 17. A message is 3 bits reserved, 3 bits version, 10
bits type, 32 bits length and 32 bits number; its body is parameters, either with type and length (TLV) or, where the
first bit is set, of a length that the type fixes (TV). A payload holds one message or several one after another, or
parameters alone, as some gateways pass them on. Vendors' own parameters other than those named here are passed over.
"""

import math
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from devices.codecs.readings import Happening, Reading
from devices.codecs.tag_reads import US, reader_of, tag_read
from devices.rejects import Reason, Reject, RejectError
from devices.scalars import Scalar
from devices.vocabulary import DeviceClass

MAX_PAYLOAD: Final = 1_048_576
MESSAGE_HEADER: Final = 10
PARAMETER_HEADER: Final = 4
VERSIONS: Final = (1, 2)
"""1 is LLRP 1.0.1, 2 is LLRP 1.1."""

RO_ACCESS_REPORT: Final = 61
KEEPALIVE: Final = 62
READER_EVENT_NOTIFICATION: Final = 63

ANTENNA_ID: Final = 1
FIRST_SEEN_UTC: Final = 2
LAST_SEEN_UTC: Final = 4
PEAK_RSSI: Final = 6
CHANNEL_INDEX: Final = 7
TAG_SEEN_COUNT: Final = 8
EPC_96: Final = 13
TV_BYTES: Final = {
    1: 2, 2: 8, 3: 8, 4: 8, 5: 8, 6: 1, 7: 2, 8: 2, 9: 4, 10: 2, 11: 2, 12: 2, 13: 12, 14: 2, 15: 2, 16: 4, 17: 2,
    18: 4, 19: 2, 20: 2,
}  # fmt: skip
"""Type of a TV parameter → bytes of its value."""
UTC_TIMESTAMP: Final = 128
GENERAL_DEVICE_CAPABILITIES: Final = 137
IDENTIFICATION: Final = 218
ANTENNA_PROPERTIES: Final = 221
TAG_REPORT_DATA: Final = 240
EPC_DATA: Final = 241
READER_EVENT_NOTIFICATION_DATA: Final = 246
CONNECTION_ATTEMPT: Final = 256
CONNECTION_CLOSE: Final = 257
LLRP_STATUS: Final = 287
CUSTOM: Final = 1_023

IMPINJ: Final = 25_882
"""Impinj's number among the enterprises of IANA."""
IMPINJ_TID: Final = 55
IMPINJ_PHASE: Final = 56
IMPINJ_RSSI: Final = 57
PHASE_STEPS: Final = 4_096
CENTI: Final = 100

ANTENNA_EVENTS: Final = ("disconnected", "connected")
SPEC_EVENTS: Final = ("started", "ended", "preempted")
CONNECTIONS: Final = ("success", "reader-initiated connection exists", "client-initiated connection exists", "failed",
                      "another connection attempted")  # fmt: skip


class Parameter(NamedTuple):
    """A parameter: its type, its value, and where its first byte stands in the payload."""

    type: int
    value: memoryview
    at: int


def _fields(layout: str, *names: str) -> Callable[[memoryview], dict[str, Scalar]]:
    size = struct.calcsize(layout)

    def read(value: memoryview) -> dict[str, Scalar]:
        if len(value) < size:
            raise ValueError(f"{len(value)} bytes: expected {size}")
        return dict(zip(names, struct.unpack_from(layout, value), strict=True))

    return read


EVENTS: Final[dict[int, tuple[str, Callable[[memoryview], dict[str, Scalar]]]]] = {
    247: ("hopping", _fields(">HH", "hop_table", "next_channel")),
    248: ("gpi", _fields(">HB", "port", "state")),
    249: ("rospec", _fields(">BII", "event", "rospec", "preempting")),
    250: ("report_buffer_level", _fields(">B", "percent")),
    251: ("report_buffer_overflow", _fields("")),
    252: ("exception", lambda value: {"message": _text(value, 0)}),
    253: ("rf_survey", _fields(">BIH", "event", "rospec", "spec_index")),
    254: ("aispec", _fields(">BIH", "event", "rospec", "spec_index")),
    255: ("antenna", _fields(">BH", "event", "antenna")),
    CONNECTION_ATTEMPT: ("connection_attempt", _fields(">H", "status")),
    CONNECTION_CLOSE: ("connection_close", _fields("")),
    365: ("spec_loop", _fields(">II", "rospec", "loops")),
}
"""Type of a parameter of an event notification → name of the event and its fields."""
WORDS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("antenna", "event"): ANTENNA_EVENTS,
    ("rospec", "event"): SPEC_EVENTS,
    ("connection_attempt", "status"): CONNECTIONS,
}


class Llrp:
    """Decodes what a reader sends to its host."""

    name: Final = "llrp"

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per tag report, event or other message.

        One that is broken is refused alone, unless nobody can say where it ends: then so is what follows.
        """
        if len(payload) > MAX_PAYLOAD:
            raise RejectError(Reason.TOO_LARGE, "", f"{len(payload)} bytes: at most {MAX_PAYLOAD}")
        readings: list[Reading] = []
        faults: list[str] = []
        try:
            for kind, body, at in _messages(memoryview(payload)):
                _read(kind, body, at, readings, faults)
        except ValueError as error:
            faults.append(str(error))
        rejects = tuple(Reject(Reason.UNDECODABLE, "", fault) for fault in faults)
        if not readings:
            raise RejectError(*rejects[0])
        readings[0].refused = rejects
        for reading in readings:
            reading.device = reader_of(reading.device, topic)
        return readings


def _messages(payload: memoryview) -> Iterator[tuple[int, memoryview, int]]:
    """Yield type, body and place of each message; type 0 stands for parameters without a message around them."""
    if not payload:
        raise ValueError("no bytes")
    if not payload[0] >> 2:
        yield 0, payload, 0
        return
    at = 0
    while at < len(payload):
        if len(payload) - at < MESSAGE_HEADER:
            raise ValueError(f"byte {at}: {len(payload) - at} bytes left, a message has at least {MESSAGE_HEADER}")
        head, length = struct.unpack_from(">HI", payload, at)
        version = head >> 10 & 0b111
        if head >> 13 or version not in VERSIONS:
            raise ValueError(f"byte {at}: {head >> 10} is no version of LLRP: expected 1 or 2")
        if not MESSAGE_HEADER <= length <= len(payload) - at:
            raise ValueError(f"byte {at + 2}: a length of {length} bytes, {len(payload) - at} are there")
        yield head & 0x3FF, payload[at + MESSAGE_HEADER : at + length], at + MESSAGE_HEADER
        at += length


def _parameters(body: memoryview, start: int) -> Iterator[Parameter]:
    at = 0
    while at < len(body):
        first = body[at]
        if first & 0x80:
            kind = first & 0x7F
            size = TV_BYTES.get(kind)
            if size is None:
                raise ValueError(f"byte {start + at}: parameter type {kind} is unknown, and with it its length")
            head, end = 1, at + 1 + size
        else:
            if len(body) - at < PARAMETER_HEADER:
                raise ValueError(f"byte {start + at}: {len(body) - at} bytes left, a parameter has at least 4")
            kind, length = struct.unpack_from(">HH", body, at)
            kind &= 0x3FF
            if length < PARAMETER_HEADER:
                raise ValueError(f"byte {start + at + 2}: a length of {length} bytes, a parameter has at least 4")
            head, end = PARAMETER_HEADER, at + length
        if end > len(body):
            raise ValueError(
                f"byte {start + at}: parameter type {kind} ends {end - len(body)} bytes after what holds it"
            )
        yield Parameter(kind, body[at + head : end], start + at + head)
        at = end


def _read(kind: int, body: memoryview, at: int, readings: list[Reading], faults: list[str]) -> None:
    """Add the readings of a message, and what is wrong with those of its parts that are refused alone."""
    if kind == KEEPALIVE:
        readings.append(Reading(device_class=DeviceClass.RFID_GATE, online=True))
        return
    before = len(readings) + len(faults)
    other = Reading(device_class=DeviceClass.RFID_GATE, info={"message": kind} if kind else {})
    for parameter in _parameters(body, at):
        if (read := PARTS.get(parameter.type)) is None:
            _describe(parameter, other)
            continue
        try:
            readings.append(read(parameter))
        except ValueError as error:
            faults.append(str(error))
    nothing = len(readings) + len(faults) == before
    if kind == READER_EVENT_NOTIFICATION and nothing:
        raise ValueError(f"byte {at}: a notification without an event")
    if kind == RO_ACCESS_REPORT and nothing:
        # A reader that is asked for what it has read, and has read nothing.
        readings.append(Reading(device_class=DeviceClass.RFID_GATE, online=True))
    elif kind not in {RO_ACCESS_REPORT, READER_EVENT_NOTIFICATION} and (kind or nothing):
        readings.append(other)


def _tag_report(report: Parameter) -> Reading:
    found: dict[int, memoryview] = {}
    impinj: dict[int, memoryview] = {}
    tag = ""
    for kind, value, at in _parameters(report.value, report.at):
        found[kind] = value
        if kind == EPC_DATA:
            bits = _unsigned(_part(value, at, 0, 2))
            tag = _part(value, at, 2, (bits + 7) // 8).hex()
        elif kind == CUSTOM:
            vendor, subtype = struct.unpack(">II", _part(value, at, 0, 8))
            if vendor == IMPINJ:
                impinj[subtype] = value[8:]
    if EPC_96 in found:
        tag = found[EPC_96].hex()
    if not tag:
        raise ValueError(f"byte {report.at}: a tag report without a code")
    seen = found.get(LAST_SEEN_UTC, found.get(FIRST_SEEN_UTC))
    antenna = found.get(ANTENNA_ID)
    tid = impinj.get(IMPINJ_TID, memoryview(b""))
    reading = Reading(
        device_class=DeviceClass.RFID_GATE,
        ts=None if seen is None else _unsigned(seen) * US,
        happenings=(
            tag_read(tag.upper(), None if antenna is None else _unsigned(antenna), _rssi(found, impinj), tid[2:].hex()),
        ),
    )
    if IMPINJ_PHASE in impinj:
        reading.values["phase_rad"] = _unsigned(impinj[IMPINJ_PHASE][:2]) * math.tau / PHASE_STEPS
    for kind, name in ((CHANNEL_INDEX, "channel"), (TAG_SEEN_COUNT, "reads")):
        if kind in found:
            reading.info[name] = _unsigned(found[kind])
    return reading


def _rssi(found: dict[int, memoryview], impinj: dict[int, memoryview]) -> float | None:
    """Return the signal strength in dBm: the vendor's finer figure if there is one, else the standard's whole dBm."""
    if IMPINJ_RSSI in impinj:
        return int.from_bytes(impinj[IMPINJ_RSSI][:2], "big", signed=True) / CENTI
    whole = found.get(PEAK_RSSI)
    return None if whole is None else float(int.from_bytes(whole, "big", signed=True))


def _notification(data: Parameter) -> Reading:
    reading = Reading(device_class=DeviceClass.RFID_GATE)
    happenings: list[Happening] = []
    for kind, value, at in _parameters(data.value, data.at):
        if kind == UTC_TIMESTAMP:
            reading.ts = _unsigned(value) * US
        elif kind in EVENTS:
            name, read = EVENTS[kind]
            try:
                said = read(value)
            except ValueError as error:
                raise ValueError(f"byte {at}: {name}: {error}") from None
            happenings.append(Happening(f"reader_{name}", {key: _word(name, key, said[key]) for key in said}))
            if kind == CONNECTION_CLOSE:
                reading.online = False
            elif kind == CONNECTION_ATTEMPT:
                reading.online = said["status"] == 0
    reading.happenings = tuple(happenings)
    return reading


PARTS: Final = {TAG_REPORT_DATA: _tag_report, READER_EVENT_NOTIFICATION_DATA: _notification}
"""Type of a parameter that is a reading of its own → its reader."""


def _describe(parameter: Parameter, reading: Reading) -> None:
    """Take over what an answer of the reader says about the reader."""
    kind, value, at = parameter
    if kind == LLRP_STATUS:
        reading.info["status"] = _unsigned(_part(value, at, 0, 2))
        reading.info["error"] = _text(value, 2)
    elif kind == GENERAL_DEVICE_CAPABILITIES:
        antennas, flags, maker, model = struct.unpack(">HHII", _part(value, at, 0, 12))
        reading.info |= {"max_antennas": antennas, "utc_clock": bool(flags & 0x4000), "maker": maker, "model": model}
        reading.info["firmware"] = _text(value, 12)
    elif kind == IDENTIFICATION:
        length = _unsigned(_part(value, at, 1, 2))
        reading.info["id_type"] = ("MAC", "EPC")[value[0] & 1]
        reading.info["reader_id"] = _part(value, at, 3, length).hex().upper()
        reading.device = str(reading.info["reader_id"])
    elif kind == ANTENNA_PROPERTIES:
        connected, number, gain = struct.unpack(">BHh", _part(value, at, 0, 5))
        reading.info[f"antenna_{number}_connected"] = bool(connected & 0x80)
        reading.info[f"antenna_{number}_gain_dbi"] = gain / CENTI


def _part(value: memoryview, at: int, start: int, length: int) -> memoryview:
    if start + length > len(value):
        raise ValueError(f"byte {at + start}: {len(value) - start} bytes left, {length} expected")
    return value[start : start + length]


def _text(value: memoryview, start: int) -> str:
    """Return a text in UTF-8 after its length in 16 bits."""
    length = _unsigned(_part(value, 0, start, 2))
    return bytes(_part(value, 0, start + 2, length)).decode("utf-8", "replace")


def _unsigned(value: memoryview) -> int:
    return int.from_bytes(value, "big")


def _word(event: str, field: str, said: Scalar) -> Scalar:
    words = WORDS.get((event, field), ())
    return words[said] if isinstance(said, int) and said < len(words) else said
