"""Zebra fixed and handheld readers (IoT Connector): reads, heartbeats and other events, alone or in arrays.

Layouts as observed in messages of such readers: ``{"type", "timestamp", "data": {"idHex", "antenna", "peakRssi",
"eventNum", …}}``; a handheld puts reads into ``data.tagData``. Times have ``+0000`` as their zone or are milliseconds
since 1970. The reader numbers what it sends and says itself that it does not send every read; how many numbers were
left out is told with the read that comes after them.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from devices.codecs.json_frames import JsonFrames, objects_of, reject_of
from devices.codecs.readings import Counter, Happening, Reading
from devices.codecs.tag_reads import hex_tag, in_band, radians, read_time, reader_of, tag_read
from devices.rejects import Reason, Reject, RejectError
from devices.scalars import Scalar
from devices.vocabulary import DeviceClass

FAST_ID: Final = "fastid"
TID_DIGITS: Final = 24
"""A reader that reads code and TID at once writes the TID's 96 bits after the code."""
MAX_SOURCES: Final = 1_024
MAX_BACKWARD: Final = 1_000
"""A number so far behind the last one or less is late; one further behind means that the reader has started again."""
READS: Final = frozenset({"tag_read", "barcode_read"})
"""Events whose members are named here; of the others the members stay as they are."""
MAX_DATA: Final = 64
HEARTBEATS: Final = frozenset({"heartbeat", "heartbeatevt"})
COUNTERS: Final = (Counter(0), Counter(1))
"""Of heartbeats and other events, and of reads."""


Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Read(msgspec.Struct, gc=False, rename="camel"):
    id_hex: str | None = None
    event_num: Number | None = None
    antenna: Number | None = None
    peak_rssi: float | None = None
    phase: float | None = None
    channel: float | None = None
    reads: int | None = None
    format: str = ""
    mac: str = msgspec.field(default="", name="MAC")
    tid: str = msgspec.field(default="", name="TID")


class _Data(_Read, rename="camel"):
    tag_data: list[_Read] | None = None
    barcode_data: list[dict[str, Scalar]] | None = None


class _Message(msgspec.Struct, rename="camel"):
    type: str
    timestamp: str | int | float | None = None
    data: _Data | None = None
    event_num: Number | None = None
    component: str = ""


def _with_data(happening: Happening, written: bytes | msgspec.Raw) -> Happening:
    """Return an event, such as that of an input pin, with what the message says in its data."""
    try:
        found = msgspec.json.decode(written, type=dict[str, Any]).get("data")
    except Exception as error:  # noqa: BLE001 - decoders raise RecursionError, UnicodeDecodeError and more on bad input
        raise reject_of(error) from None
    scalars = [(name, value) for name, value in found.items() if isinstance(value, str | int | float)] if found else []
    return Happening(happening.type, {**happening.data, **dict(scalars[:MAX_DATA])})


class Zebra:
    """Decodes what Zebra readers publish, and remembers the last number of each reader to tell how many are missing."""

    name: Final = "zebra"
    message: Final = _Message
    """What of one object is read."""

    def __init__(self) -> None:
        """Begin without a number."""
        self._frames = JsonFrames(_Message)
        self._last: dict[tuple[str, str, bool], int] = {}

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per read, heartbeat or event; of several objects, each that is wrong is refused alone."""
        found = self._frames.decode(payload)
        readings: list[Reading] = []
        rejects = list(found.refused)
        # As they are written: only events are looked into once more, and only few frames hold any.
        written: Sequence[bytes | msgspec.Raw] | None = None
        for nth, message in enumerate(found.messages):
            try:
                made = self._readings(message, rejects, topic)
                said = made[0].happenings if made and message.data is not None else ()
                if said and said[0].type not in READS:
                    written = written or objects_of(payload) or (payload,)
                    made[0].happenings = (_with_data(said[0], written[found.places[nth]]),)
                readings += made
            except RejectError as error:
                reason, pointer, detail = error.reject
                rejects.append(Reject(reason, found.pointer(nth) + pointer, detail))
        if not readings:
            raise RejectError(*rejects[0])
        if rejects:
            readings[0].refused = tuple(rejects)
        return readings

    def _readings(self, message: _Message, rejects: list[Reject], topic: str) -> list[Reading]:
        data = message.data
        ts = read_time(message.timestamp, "/timestamp")
        if data is not None and data.id_hex is not None:
            return [self._read(data, ts, topic, "/data")]
        if data is not None and (data.tag_data or data.barcode_data):
            return self._batch(data, ts, topic, rejects)
        kind = message.type.lower()
        seq = message.event_num if message.event_num is not None else data.event_num if data is not None else None
        reader = reader_of(data.mac if data is not None else "", topic)
        reading = Reading(device=reader, device_class=DeviceClass.RFID_GATE, ts=ts)
        if kind in HEARTBEATS:
            reading.online = True
        else:
            said: dict[str, Scalar] = {"component": message.component} if message.component else {}
            reading.happenings = (Happening(kind[:64] or "event", said),)
        self._number(reading, seq, topic, is_read=False)
        return [reading]

    def _batch(self, data: _Data, ts: int | None, topic: str, rejects: list[Reject]) -> list[Reading]:
        """Return the reads of a handheld; what it scanned as barcodes are events."""
        readings = []
        for nth, read in enumerate(data.tag_data or ()):
            try:
                readings.append(self._read(read, ts, topic, f"/data/tagData/{nth}"))
            except RejectError as error:
                rejects.append(error.reject)
        for scan in data.barcode_data or ():
            happening = Happening("barcode_read", dict(scan))
            readings.append(
                Reading(device=data.mac, device_class=DeviceClass.RFID_GATE, ts=ts, happenings=(happening,))
            )
        return readings

    def _read(self, read: _Read, ts: int | None, topic: str, where: str) -> Reading:
        if read.id_hex is None:
            raise RejectError(Reason.MISSING_FIELD, f"{where}/idHex", "field 'idHex' is required")
        tag, tid = hex_tag(read.id_hex, f"{where}/idHex"), read.tid
        if read.format.lower() == FAST_ID and len(tag) > TID_DIGITS:
            tag, tid = tag[:-TID_DIGITS], tag[-TID_DIGITS:]
        values: dict[str, float | bool] = {}
        info: dict[str, Scalar] = {}
        if read.phase is not None:
            values["phase_rad"] = radians(read.phase)
        if read.channel is not None:
            # Fixed readers say the frequency in MHz, handhelds the number of the channel.
            if in_band(read.channel):
                values["frequency_mhz"] = read.channel
            else:
                info["channel"] = read.channel
        if read.reads is not None and read.reads > 1:
            info["reads"] = read.reads
        reading = Reading(
            device=reader_of(read.mac, topic),
            device_class=DeviceClass.RFID_GATE,
            ts=ts,
            values=values,
            happenings=(tag_read(tag, read.antenna, read.peak_rssi, tid),),
            info=info,
        )
        self._number(reading, read.event_num, topic, is_read=True)
        return reading

    def _number(self, reading: Reading, seq: int | None, topic: str, *, is_read: bool) -> None:
        """Note the number of a reading; heartbeats are numbered apart from reads."""
        if seq is None or seq < 0:
            return
        reading.seq, reading.counter = seq, COUNTERS[is_read]
        key = (topic, reading.device, is_read)
        last = self._last.get(key)
        if last is None and len(self._last) >= MAX_SOURCES:
            self._last.pop(next(iter(self._last)))
        if last is not None and last - MAX_BACKWARD <= seq <= last:
            return
        self._last[key] = seq
        if last is not None and seq > last + 1:
            reading.flags = ("gap",)
            reading.info = reading.info | {"missing": seq - last - 1}
