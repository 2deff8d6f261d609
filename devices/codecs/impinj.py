"""Impinj readers: R700 events over MQTT, webhook (an array) or HTTP stream (lines), and SmartReader batches.

Layouts as observed in messages of such readers. An R700 reports the code as base64url (``epc``) or as hex digits
(``epcHex``), signal strength in hundredths of dBm, frequency in kHz and time to the nanosecond; a SmartReader reports
dBm, kHz and microseconds since 1970.
"""

from binascii import a2b_base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from devices.codecs.json_frames import Decoded, JsonFrames, objects_of, reject_of
from devices.codecs.readings import Happening, Reading
from devices.codecs.tag_reads import MAX_BYTES, hex_tag, in_band, radians, read_time, reader_of, tag_read
from devices.rejects import Reason, Reject, RejectError
from devices.scalars import Scalar
from devices.vocabulary import DeviceClass

KHZ: Final = 1_000
CENTI: Final = 100
URL_SAFE: Final = str.maketrans("-_", "+/")
PADDING: Final = ("", "===", "==", "=")
"""What a text in base64 lacks, by its length modulo 4; one character of four is none, and is refused so."""
MAX_DATA: Final = 64


class _TagInventory(msgspec.Struct, gc=False, rename="camel"):
    epc: str = ""
    epc_hex: str = ""
    tid: str = ""
    tid_hex: str = ""
    antenna_port: int | None = None
    antenna_name: str = ""
    peak_rssi_cdbm: float | None = None
    frequency: float | None = None
    phase_angle: float | None = None
    transmit_power_cdbm: float | None = None


class _SmartRead(msgspec.Struct, gc=False, rename="camel"):
    epc: str
    tid: str = ""
    first_seen_timestamp: int | str | None = None
    antenna_port: int | None = None
    antenna_zone: str = ""
    peak_rssi: float | None = None
    frequency: float | None = None
    rf_phase: float | None = None
    tx_power: float | None = None


class _Message(msgspec.Struct, rename="camel"):
    event_type: str = ""
    timestamp: str | int | float | None = None
    hostname: str = ""
    tag_inventory_event: _TagInventory | None = None
    reader_name: str = ""
    mac: str = ""
    site: str = ""
    tag_reads: list[_SmartRead] | None = msgspec.field(default=None, name="tag_reads")


class Impinj:
    """Decodes what Impinj readers publish."""

    name: Final = "impinj"
    message: Final = _Message
    """What of one object is read."""

    def __init__(self) -> None:
        """Make the decoders; nothing is remembered between frames."""
        self._frames = JsonFrames(_Message)

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per read or event; of several objects, each that is wrong is refused alone."""
        found = self._frames.decode(payload)
        if len(found.messages) == 1 and not found.refused:
            message = found.messages[0]
            if message.tag_inventory_event is not None:
                return [_inventory(message, message.tag_inventory_event, topic)]
        return _readings(found, payload, topic)


def _readings(found: Decoded[_Message], payload: bytes, topic: str) -> list[Reading]:
    readings: list[Reading] = []
    rejects = list(found.refused)
    # As they are written: only events are looked into once more, and only few frames hold any.
    written: Sequence[bytes | msgspec.Raw] | None = None
    for nth, message in enumerate(found.messages):
        try:
            if message.tag_inventory_event is not None:
                readings.append(_inventory(message, message.tag_inventory_event, topic))
            elif message.tag_reads is not None:
                readings += _smart_reads(message, message.tag_reads, rejects, topic)
            else:
                written = written or objects_of(payload) or (payload,)
                readings.append(_event(message, topic, written[found.places[nth]]))
        except RejectError as error:
            reason, pointer, detail = error.reject
            rejects.append(Reject(reason, found.pointer(nth) + pointer, detail))
    if not readings:
        raise RejectError(*(rejects or [Reject(Reason.NO_SAMPLES, "/tag_reads", "no reads")])[0])
    readings[0].refused = tuple(rejects)
    return readings


def _inventory(message: _Message, found: _TagInventory, topic: str) -> Reading:
    # The reader writes either as digits, or in base64, or as both.
    tid = found.tid_hex or (found.tid and _base64_tag(found.tid, "/tagInventoryEvent/tid"))
    if found.epc_hex:
        tag = hex_tag(found.epc_hex, "/tagInventoryEvent/epcHex")
    elif found.epc:
        tag = _base64_tag(found.epc, "/tagInventoryEvent/epc")
    elif tid:
        tag = hex_tag(tid, "/tagInventoryEvent/tidHex")
    else:
        raise RejectError(Reason.MISSING_FIELD, "/tagInventoryEvent/epc", "neither epc nor epcHex nor a TID")
    rssi_cdbm = found.peak_rssi_cdbm
    rssi_dbm = None if rssi_cdbm is None else rssi_cdbm / CENTI
    values: dict[str, float | bool] = {}
    if found.frequency is not None:
        values["frequency_mhz"] = found.frequency / KHZ
    if found.phase_angle is not None:
        values["phase_rad"] = radians(found.phase_angle)
    if found.transmit_power_cdbm is not None:
        values["transmit_power_dbm"] = found.transmit_power_cdbm / CENTI
    return Reading(
        device=reader_of(message.hostname, topic),
        device_class=DeviceClass.RFID_GATE,
        ts=read_time(message.timestamp, "/timestamp"),
        values=values,
        happenings=(tag_read(tag, found.antenna_port, rssi_dbm, tid, found.antenna_name),),
    )


def _smart_reads(message: _Message, reads: list[_SmartRead], rejects: list[Reject], topic: str) -> list[Reading]:
    readings = []
    for nth, read in enumerate(reads):
        where = f"/tag_reads/{nth}"
        try:
            tag = hex_tag(read.epc, f"{where}/epc")
            ts = read_time(read.first_seen_timestamp, f"{where}/firstSeenTimestamp")
        except RejectError as error:
            rejects.append(error.reject)
            continue
        values: dict[str, float | bool] = {}
        info: dict[str, Scalar] = {"reader": message.reader_name} if message.reader_name else {}
        if read.frequency is not None:
            # What lies in no band of RFID is something else, and kept as it came.
            if in_band(read.frequency / KHZ):
                values["frequency_mhz"] = read.frequency / KHZ
            else:
                info["frequency"] = read.frequency
        if read.rf_phase is not None:
            values["phase_rad"] = radians(read.rf_phase)
        if read.tx_power is not None:
            values["transmit_power_dbm"] = read.tx_power
        readings.append(
            Reading(
                device=reader_of(message.mac or message.reader_name, topic),
                device_class=DeviceClass.RFID_GATE,
                ts=ts,
                values=values,
                happenings=(tag_read(tag, read.antenna_port, read.peak_rssi, read.tid, read.antenna_zone),),
                info=info,
            )
        )
    return readings


def _event(message: _Message, topic: str, written: bytes | msgspec.Raw) -> Reading:
    """Return what is no read, such as a change of the inventory's state, as an event of its own type."""
    if not message.event_type:
        raise RejectError(Reason.MISSING_FIELD, "/eventType", "neither eventType nor tag_reads")
    try:
        tree = msgspec.json.decode(written, type=dict[str, object])
    except Exception as error:  # noqa: BLE001 - decoders raise RecursionError, UnicodeDecodeError and more on bad input
        raise reject_of(error) from None
    data: dict[str, Scalar] = {}
    inner = tree.get(f"{message.event_type}Event")
    if isinstance(inner, dict):
        scalars = ((name, value) for name, value in inner.items() if isinstance(value, str | int | float))
        data = dict(list(scalars)[:MAX_DATA])
    return Reading(
        device=reader_of(message.hostname, topic),
        device_class=DeviceClass.RFID_GATE,
        ts=read_time(message.timestamp, "/timestamp"),
        happenings=(Happening(message.event_type[:64], data),),
        online=True if message.event_type == "heartbeat" else None,
    )


@lru_cache(4_096)
def _base64_tag(text: str, where: str) -> str:
    """Return the digits of a code in base64, of either alphabet, with or without its padding.

    Remembered, because each tag of a passage is read dozens of times.
    """
    plain = text.rstrip("=").translate(URL_SAFE)
    try:
        code = a2b_base64(plain + PADDING[len(plain) % 4], strict_mode=True)
    except ValueError as error:
        raise RejectError(Reason.WRONG_TYPE, where, f"{text[:64]!r}: {error}") from None
    if not 0 < len(code) <= MAX_BYTES:
        detail = f"{len(code)} bytes: expected 1 to {MAX_BYTES}"
        raise RejectError(Reason.WRONG_TYPE, where, detail)
    return code.hex().upper()
