"""OwnTracks JSON, as phones and Traccar publish it on ``owntracks/{user}/{device}``, and forwards of Traccar itself.

A location is ``{"_type":"location","lat","lon","tst","vel","cog","acc","alt","batt","tid","t",…}``: degrees, seconds
since 1970, km/h, degrees, m, m, per cent. Only ``_type``, ``lat``, ``lon`` and ``tst`` are sure to be there, in any
order. Traccar's position forward is ``{"position":{…},"device":{…}}`` in knots. Facts from the booklet of OwnTracks
(JSON) and the sources of Traccar, whose event forward is ``{"event":{…},"position"?,"device":{…}}``; ``t`` is the
trigger (``u`` by the user, ``p`` ping, ``t`` timer, …).
"""

from typing import Any, Final

import msgspec

from devices.codecs.readings import Happening, Reading
from devices.rejects import Reason, RejectError
from devices.times import NS, parse_rfc3339
from devices.topics import device_id
from devices.vocabulary import DeviceClass

KMH: Final = 1 / 3.6
KNOT: Final = 1852 / 3600
LAST_S: Final = 9e9
"""Later times than this, s since 1970, do not fit into int64 ns."""
TOPIC_LEVELS: Final = 3
KNOWN: Final = frozenset({"_type", "_id", "lat", "lon", "tst", "vel", "cog", "alt", "batt", "topic"})
"""Members of a location that are read; the others are facts about it."""
MEASURED: Final = (
    ("speed_mps", "vel", KMH),
    ("heading_deg", "cog", 1.0),
    ("altitude_m", "alt", 1.0),
    ("battery_percent", "batt", 1.0),
)
"""Metric, member of a location and factor, of what may be missing."""
FORWARDED: Final = (("altitude_m", "altitude", 1.0), ("speed_mps", "speed", KNOT), ("heading_deg", "course", 1.0))
"""The same of a position that Traccar forwards."""
EVENTS: Final = frozenset({"transition", "waypoint"})
ONLINE: Final = {"deviceOnline": True, "deviceOffline": False}
"""Type of an event that Traccar forwards → whether the device came or went."""
MAX_DATA: Final = 64
SILENT: Final = frozenset({"beacon", "card", "configuration", "dump", "steps", "request", "status", "waypoints"})
"""Types of message without a position, kept as a sign of life."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class OwnTracks:
    """Decodes one JSON object."""

    name: Final = "owntracks"

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading; RejectError names the member that is missing or wrong."""
        try:
            tree = _decode(payload)
        except Exception as error:  # noqa: BLE001 - besides DecodeError also RecursionError and UnicodeDecodeError
            raise RejectError(Reason.UNDECODABLE, "", str(error)[:200] or "no JSON object") from None
        if isinstance(tree.get("event"), dict):
            return [_announced(tree["event"], tree.get("position"), tree.get("device"))]
        if isinstance(tree.get("position"), dict):
            return [_forwarded(tree["position"], tree.get("device"))]
        return [_reading_of(tree, topic)]


def _reading_of(tree: dict[str, Any], topic: str) -> Reading:
    kind = tree.get("_type")
    if not isinstance(kind, str):
        reason = Reason.MISSING_FIELD if kind is None else Reason.WRONG_TYPE
        raise RejectError(reason, "/_type", 'field "_type" is required and is text')
    reading = Reading(device=_device(tree, topic), device_class=DeviceClass.VEHICLE)
    if tree.get("tst") is not None:
        reading.ts = _nanoseconds(_number(tree, "tst", ""))
    if kind == "location":
        _take_location(tree, reading)
    elif kind == "lwt":
        reading.online = False
    elif kind in EVENTS:
        data = {name: value for name, value in tree.items() if name != "_type" and _is_scalar(value)}
        reading.happenings = (Happening(kind, data),)
    elif kind in SILENT:
        reading.online, reading.info = True, {"message": kind}
    elif kind == "encrypted":
        raise RejectError(Reason.UNDECODABLE, "/data", "encrypted: quayflow has no key")
    else:
        known = ", ".join(sorted({"location", "lwt"} | EVENTS | SILENT))
        raise RejectError(Reason.WRONG_TYPE, "/_type", f"{kind!r:.64}: expected one of {known}")
    return reading


def _take_location(tree: dict[str, Any], reading: Reading) -> None:
    if reading.ts is None:
        raise RejectError(Reason.MISSING_FIELD, "/tst", 'field "tst" is required')
    values: dict[str, float | bool] = {
        "latitude_deg": _number(tree, "lat", ""),
        "longitude_deg": _number(tree, "lon", ""),
    }
    for name, member, factor in MEASURED:
        if tree.get(member) is not None:
            values[name] = _number(tree, member, "") * factor
    # A phone that does not know how it moves says -1.
    for name in ("speed_mps", "heading_deg"):
        if values.get(name, 0) < 0:
            del values[name]
    reading.values = values
    reading.info = {name: value for name, value in tree.items() if name not in KNOWN and _is_scalar(value)}


def _forwarded(position: dict[str, Any], device: object) -> Reading:
    """Return the reading of a position that Traccar forwards."""
    where = "/position"
    values: dict[str, float | bool] = {
        "latitude_deg": _number(position, "latitude", where),
        "longitude_deg": _number(position, "longitude", where),
    }
    for name, member, factor in FORWARDED:
        if position.get(member) is not None:
            values[name] = _number(position, member, where) * factor
    attributes = position.get("attributes")
    facts: dict[str, Any] = dict(attributes) if isinstance(attributes, dict) else {}
    for name, member in (("odometer_m", "totalDistance"), ("battery_percent", "batteryLevel"), ("fuel_l", "fuel")):
        if facts.get(member) is not None:
            values[name] = _number(facts, member, f"{where}/attributes")
            del facts[member]
    if isinstance(facts.get("ignition"), bool):
        values["ignition_on"] = facts.pop("ignition")
    return Reading(
        device=_forwarded_device(device),
        device_class=DeviceClass.VEHICLE,
        ts=_time(position, where, ("fixTime", "deviceTime")),
        values=values,
        info={name: value for name, value in facts.items() if _is_scalar(value)},
        flags=() if position.get("valid", True) else ("no_fix",),
    )


def _announced(event: dict[str, Any], position: object, device: object) -> Reading:
    """Return the reading of an event that Traccar forwards. The position with it is forwarded by itself as well."""
    kind = event.get("type")
    if not isinstance(kind, str) or not kind:
        raise RejectError(Reason.MISSING_FIELD, "/event/type", 'field "type" is required and is text')
    attributes = event.get("attributes")
    found = [*(attributes.items() if isinstance(attributes, dict) else ()), ("geofenceId", event.get("geofenceId"))]
    if isinstance(position, dict):
        found += [(name, position.get(name)) for name in ("latitude", "longitude")]
    data = {name: value for name, value in found[-MAX_DATA:] if value is not None and _is_scalar(value)}
    return Reading(
        device=_forwarded_device(device),
        device_class=DeviceClass.VEHICLE,
        ts=_time(event, "/event", ("eventTime", "serverTime")),
        happenings=(Happening(kind[:64], data),),
        online=ONLINE.get(kind),
    )


def _forwarded_device(device: object) -> str:
    unique = device.get("uniqueId") if isinstance(device, dict) else None
    return device_id(str(unique)) if unique is not None else ""


def _time(tree: dict[str, Any], where: str, names: tuple[str, str]) -> int:
    """Return the time under the first of two names, else the second: RFC 3339, or ms since 1970."""
    name = names[0] if tree.get(names[0]) is not None else names[1]
    if not isinstance(tree.get(name), str):
        return _nanoseconds(_number(tree, name, where) / 1e3)
    try:
        return parse_rfc3339(tree[name])
    except ValueError as error:
        raise RejectError(Reason.WRONG_TYPE, f"{where}/{name}", str(error)) from None


def _nanoseconds(seconds: float) -> int:
    """Return a time within what int64 holds: one that is not is refused for its clock."""
    whole, rest = divmod(min(max(seconds, 0.0), LAST_S), 1.0)
    return int(whole) * NS + round(rest * NS)


def _device(tree: dict[str, Any], topic: str) -> str:
    """Return the device that the topic names, without one the payload, which repeats it over HTTP; else ""."""
    text = topic or tree.get("topic")
    levels = text.split("/") if isinstance(text, str) else []
    return device_id(levels[1], levels[2]) if len(levels) >= TOPIC_LEVELS and levels[0] == "owntracks" else ""


def _number(tree: dict[str, Any], name: str, where: str) -> float:
    value = tree.get(name)
    if value is None:
        raise RejectError(Reason.MISSING_FIELD, f"{where}/{name}", f'field "{name}" is required')
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RejectError(Reason.WRONG_TYPE, f"{where}/{name}", f"expected a number, got {value!r:.40}")
    try:
        return float(value)
    except OverflowError:
        raise RejectError(Reason.NOT_FINITE, f"{where}/{name}", "not a number of 64 bits") from None


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
