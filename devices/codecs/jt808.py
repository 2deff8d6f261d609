"""JT/T 808 of 2011, 2013 and 2019: what vehicle terminals report, as readings.

Times on the wire are GMT+8 without saying so. A location (0x0200) is alarm u32, status u32, latitude and longitude u32
in 1e-6 degree, altitude u16 m, speed u16 in 0.1 km/h, course u16, time BCD[6], then items (id u8, length u8, value). A
batch (0x0704) holds locations, those of type 1 kept while there was no network: late by design. Terminals in the field
break the rules now and then; what can be read all the same is read and flagged. Layouts after the three editions.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from devices.codecs.jt808_frames import (
    ACKNOWLEDGE,
    AUTHENTICATE,
    BATCH,
    DRIVER_CARD,
    FROM_PLATFORM,
    HEARTBEAT,
    LOCATION,
    LOCATION_COMMANDED,
    LOCATION_QUERIED,
    LOGOUT,
    MULTIMEDIA,
    QUERY_TIME,
    REGISTER,
    SYNC_TIME,
    Message,
    open_frame,
)
from devices.codecs.jt808_parts import Joiner, Waiting
from devices.codecs.jt808_terminals import authentication, driver_card, is_of_before, registration
from devices.codecs.jt808_times import time_of
from devices.codecs.readings import Counter, Happening, Reading
from devices.rejects import Reason, Reject, RejectError
from devices.scalars import Scalar
from devices.times import NS
from devices.vocabulary import DeviceClass

LAYOUT: Final = struct.Struct(">IIIIHHH6s")
BELOW_SEA: Final = 0x10000 - 500
"""From here on an altitude is one below the level of the sea, for which the editions have no sign."""
SOUTH: Final = 1 << 2
WEST: Final = 1 << 3
FIXED: Final = 1 << 1
BACKFILL: Final = 1
PATIENCE: Final = 120 * NS
"""How long the next part of a message is waited for, longer than a gateway asks for it. What the terminal sends after
that ends it, unless it is a location."""
JOINED: Final = frozenset({LOCATION, LOCATION_QUERIED, LOCATION_COMMANDED, BATCH, DRIVER_CARD, REGISTER, AUTHENTICATE})
"""Messages that are read to the last byte."""
MULTIMEDIA_HEAD: Final = struct.Struct(">IBBBB")
MEDIA: Final = ("picture", "sound", "video")
ITEMS: Final[dict[int, tuple[str, str]]] = {
    0x03: (">H", "recorder_speed"),
    0x04: (">H", "alarm_event"),
    0x06: (">h", "carriage_temperature"),
    0x25: (">I", "vehicle_signals"),
    0x2A: (">H", "io"),
    0x2B: (">I", "analog"),
    0x30: (">B", "rssi"),
    0x31: (">B", "satellites"),
}
"""Item → layout and name, of the items that are told as a raw number."""
READERS: Final[dict[int, tuple[int, Callable[[bytes], tuple[int, ...]], str]]] = {
    item: (struct.calcsize(layout), struct.Struct(layout).unpack, name) for item, (layout, name) in ITEMS.items()
}
ODOMETER, FUEL = 0x01, 0x02
SERIAL: Final = Counter(0, wraps_at=1 << 16)
FIRST: Final = Counter(0, wraps_at=1 << 16, anew=True)
"""Of a message with which a connection begins."""
DAMAGED: Final = Counter(0, wraps_at=1 << 16, doubtful=True)
DOUBTFUL: Final = frozenset({"checksum", "escape"})
"""Flags of a frame of which every number may be wrong."""
BROKEN: Final = {
    "overrun": "an item reaches beyond the message",
    "count": "a batch holds another number of locations than it says",
    "bare_code": "a code without the length, IMEI and software of 2019",
    "bare_items": "a batch without the lengths of its locations",
    "edition": "a registration of 2019 laid out as in an edition before",
}
"""Flag of a message that is not written after the rules → what is wrong with it; those of frames are not here."""
READ: Final = frozenset({ACKNOWLEDGE, HEARTBEAT, QUERY_TIME, REGISTER, AUTHENTICATE, SYNC_TIME})
"""Messages that are a sign of life and of which nothing else is missing."""


class Jt808:
    """Decodes one frame. Remembers the parts of messages that come in several."""

    name: Final = "jt808"

    def __init__(self, *, strict: bool = False) -> None:
        """``strict``: what breaks the rules and could be read all the same is refused instead of flagged."""
        self._strict = strict
        self._parts = Joiner(JOINED)
        self.learned = False
        self.received = 0

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return the readings of a frame: one per location, one without values for every other message."""
        del topic
        message = open_frame(payload, strict=self._strict)
        if message.kind == LOCATION and message.part is None:
            reading = Reading(
                device=message.phone,
                device_class=DeviceClass.VEHICLE,
                seq=message.serial,
                counter=_counter_of(message) if message.flags else SERIAL,
                flags=message.flags,
            )
            _take_location(message.body, reading)
            readings = [reading]
        else:
            readings = self._part(message) if message.part is not None else list(_readings(message))
        if self._strict:
            _check(readings)
        if self._parts and message.kind != LOCATION:
            # Only now, that nothing of this message can be refused any more.
            over = self._parts.overdue(message.phone, self.received - PATIENCE)
            self.learned = self.learned or bool(over)
            readings += map(_given_up, over)
        return readings

    def number_of(self, payload: bytes) -> tuple[Counter | None, int]:
        """Return the counter and the serial of a frame that was refused."""
        try:
            message = open_frame(payload)
        except RejectError:
            return DAMAGED, 0
        return _counter_of(message), message.serial

    def take_state(self) -> bytes:
        """Return the parts that wait, and note that they are kept."""
        self.learned = False
        return msgspec.msgpack.encode(list(self._parts))

    def restore(self, state: bytes, *, earlier: bool = False) -> None:
        """Put back what :meth:`take_state` gave; ``earlier``: the frames to come are from before, and so of no part."""
        if not earlier:
            self._parts.restore(msgspec.msgpack.decode(state, type=list[Waiting]))

    def _part(self, message: Message) -> list[Reading]:
        """Return the readings of the message that a part makes whole; before, a sign of life."""
        joined = self._parts.take(message, self.received)
        self.learned = True
        if joined.body is None:
            number, total = message.part or (1, 1)
            reading = _bare(message)
            reading.online, reading.info = True, {"part": f"{number}/{total}"}
            return [reading]
        return list(_readings(message._replace(body=joined.body)))


def _given_up(waiting: Waiting) -> Reading:
    """Return what is told of a message of which parts never came."""
    missing = waiting.missing
    some = ", ".join(map(str, missing[:16])) + (", …" if len(missing) > 16 else "")  # noqa: PLR2004 - for people
    detail = f"message 0x{waiting.kind:04X}: of {waiting.total} parts there never came {len(missing)} ({some})"
    return Reading(
        device=waiting.phone,
        device_class=DeviceClass.VEHICLE,
        refused=(Reject(Reason.PARTS_MISSING, "/parts", detail),),
        payload=waiting.body,
        flags=("parts_lost",),
    )


def _bare(message: Message) -> Reading:
    return Reading(
        device=message.phone,
        device_class=DeviceClass.VEHICLE,
        seq=message.serial,
        counter=_counter_of(message),
        flags=message.flags,
    )


def _counter_of(message: Message) -> Counter | None:
    """Return what the serial of a message counts: with a damaged one, only that there was one more."""
    if message.kind & FROM_PLATFORM:
        return None
    if not DOUBTFUL.isdisjoint(message.flags):
        return DAMAGED
    return FIRST if message.kind in {REGISTER, AUTHENTICATE} else SERIAL


def _flagged(reading: Reading, *flags: str) -> Reading:
    reading.flags += flags
    return reading


def _readings(message: Message) -> Iterator[Reading]:
    """Yield the readings of a whole message, at least one."""
    kind, body, reading = message.kind, message.body, _bare(message)
    if kind == BATCH:
        yield from _batch(message)
        return
    if kind == LOCATION:
        _take_location(body, reading)
    elif kind in {LOCATION_QUERIED, LOCATION_COMMANDED}:
        # The answer to a query or a command: its serial, then a location.
        _take_location(body[2:], reading)
    elif kind == LOGOUT:
        reading.online = False
    elif kind == DRIVER_CARD:
        _take_card(message, reading)
    elif kind == MULTIMEDIA and len(body) > MULTIMEDIA_HEAD.size:
        _take_multimedia(message, reading)
    elif kind & FROM_PLATFORM:
        reading.happenings = (Happening("cmd", {"message": f"0x{kind:04X}", "body": body.hex()}),)
    else:
        reading.online = True
        _take_facts(message, reading)
    yield reading


def _take_facts(message: Message, reading: Reading) -> None:
    """Read what a terminal says of itself; of a message that is not read, only which it is."""
    if message.kind == REGISTER:
        reading.info = registration(message.body, of_2019=message.of_2019)
        if is_of_before(reading.info, of_2019=message.of_2019):
            _flagged(reading, "edition")
    elif message.kind == AUTHENTICATE:
        said = authentication(message.body, of_2019=message.of_2019)
        reading.info = said.facts
        _flagged(reading, *said.flags)
    elif message.kind not in READ:
        reading.info = {"message": f"0x{message.kind:04X}"}
        _flagged(reading, "not_read")


def _check(readings: Sequence[Reading]) -> None:
    """Refuse a message that breaks the rules."""
    for reading in readings:
        for flag in reading.flags:
            if flag in BROKEN:
                raise RejectError(Reason.UNDECODABLE, f"/{flag}", BROKEN[flag])


def _take_card(message: Message, reading: Reading) -> None:
    card = driver_card(message.body, of_2019=message.of_2019)
    reading.ts = card.ts
    reading.happenings = (Happening("driver_card", card.data),)


def _take_multimedia(message: Message, reading: Reading) -> None:
    """Read what stands before the data of an upload; the data stays in the journal, as it came."""
    number, media, layout, event, channel = MULTIMEDIA_HEAD.unpack_from(message.body)
    medium = MEDIA[media] if media < len(MEDIA) else media
    data: dict[str, Scalar] = {"id": number, "medium": medium, "format": layout, "event": event, "channel": channel}
    if message.part is not None:
        data["parts"] = message.part[1]
    # The edition of 2011 has no location there.
    where = LAYOUT.unpack_from(message.body.ljust(MULTIMEDIA_HEAD.size + LAYOUT.size, b"\xff"), MULTIMEDIA_HEAD.size)
    if ts := time_of(where[-1]):
        reading.ts = ts
        placed = Reading()
        _take_location(message.body[MULTIMEDIA_HEAD.size :][: LAYOUT.size], placed)
        data |= {name: placed.values[name] for name in ("latitude_deg", "longitude_deg") if name in placed.values}
    reading.online = True
    reading.happenings = (Happening("multimedia", data),)


def _batch(message: Message) -> Iterator[Reading]:
    """Yield the locations of a batch, each flagged if it was kept for later."""
    body = message.body
    if len(body) < 3:  # noqa: PLR2004 - count and type
        raise RejectError(Reason.UNDECODABLE, "/items", f"{len(body)} bytes: a batch begins with a count and a type")
    count, late = body[0] << 8 | body[1], ("historical",) if body[2] == BACKFILL else ()
    items = list(_items_of_batch(body))
    if not items:
        raise RejectError(Reason.NO_SAMPLES, "/items", "a batch without locations")
    odd = () if count == len(items) else ("count",)
    if odd and len(body) == 3 + count * LAYOUT.size:
        # Some terminals leave the lengths out, of locations without items.
        items, odd = [body[at : at + LAYOUT.size] for at in range(3, len(body), LAYOUT.size)], ("bare_items",)
    for nth, item in enumerate(items):
        reading = _bare(message)
        reading.flags += late + odd
        if nth:
            # The serial is that of the message.
            reading.counter = None
        try:
            _take_location(item, reading)
        except RejectError as error:
            reject = error.reject
            reading.refused = (Reject(reject.reason, f"/items/{nth}{reject.pointer}", reject.detail),)
        yield reading
        odd = ()


def _items_of_batch(body: bytes) -> Iterator[bytes]:
    """Yield the items of a batch; one that is cut off ends early."""
    position = 3
    while position < len(body):
        length = int.from_bytes(body[position : position + 2])
        yield body[position + 2 : position + 2 + length]
        position += 2 + length


def _take_location(body: bytes, reading: Reading) -> None:
    """Read a location with its items into ``reading``."""
    if len(body) < LAYOUT.size:
        detail = f"{len(body)} bytes: a location has at least {LAYOUT.size}"
        raise RejectError(Reason.UNDECODABLE, "", detail)
    alarm, status, latitude, longitude, altitude, speed, course, clock = LAYOUT.unpack_from(body)
    reading.ts = time_of(clock)
    values: dict[str, float | bool] = {
        "latitude_deg": (-latitude if status & SOUTH else latitude) / 1e6,
        "longitude_deg": (-longitude if status & WEST else longitude) / 1e6,
        "altitude_m": altitude if altitude < BELOW_SEA else altitude - 0x10000,
        # 0.1 km/h
        "speed_mps": speed / 36,
        "heading_deg": course,
        "ignition_on": bool(status & 1),
        # 00 empty, 01 half, 11 full
        "laden": bool(status & 0x300),
    }
    reading.values = values
    # Also that there is no alarm any more: what is told once stands until it is told anew.
    info: dict[str, Scalar] = {"status": status, "alarm": alarm}
    reading.info = info
    if not status & FIXED:
        reading.flags += ("no_fix",)
        if not latitude and not longitude:
            del values["latitude_deg"], values["longitude_deg"]
    if len(body) > LAYOUT.size:
        _take_items(body, reading, values, info)


def _take_items(body: bytes, reading: Reading, values: dict[str, float | bool], info: dict[str, Scalar]) -> None:
    """Read what follows a location; vendors' items and those of a length of their own stay raw, in hex."""
    position, end = LAYOUT.size, len(body)
    while position + 2 <= end:
        item, length = body[position], body[position + 1]
        position += 2
        value = body[position : position + length]
        position += length
        if item == ODOMETER and length == 4:  # noqa: PLR2004 - 0.1 km, u32
            values["odometer_m"] = int.from_bytes(value) * 100
        elif item == FUEL and length == 2:  # noqa: PLR2004 - 0.1 L, u16
            values["fuel_l"] = int.from_bytes(value) / 10
        elif (reader := READERS.get(item)) is not None and reader[0] == length == len(value):
            info[reader[2]] = reader[1](value)[0]
        elif length:
            info[f"item_{item:02X}"] = value.hex()
    if position != end:
        # An item that reaches beyond the message, or a byte too many.
        reading.flags += ("overrun",)
