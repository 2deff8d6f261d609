"""OwnTracks and Traccar's forwards: published payloads field by field, refusals by member, nothing but rejects."""

import json
from pathlib import Path
from typing import Any

import pytest

from devices.codecs.owntracks import OwnTracks
from devices.codecs.readings import Reading
from devices.rejects import RejectError
from devices.times import NS, parse_rfc3339

TOPIC = "owntracks/driver/phone"
FORWARD = {
    "position": {
        "latitude": 29.93, "longitude": 121.85, "altitude": 4, "speed": 10, "course": 271, "valid": False,
        "fixTime": "2026-11-23T08:00:00.000+00:00",
        "attributes": {"ignition": True, "totalDistance": 1234.5, "batteryLevel": 71, "motion": True, "raw": [1]},
    },
    "device": {"uniqueId": "865284041968706", "name": "truck 7"},
}  # fmt: skip


def one(tree: Any, topic: str = "") -> Reading:
    [reading] = OwnTracks().decode(json.dumps(tree).encode(), topic)
    return reading


def payloads(recorded: Path) -> list[dict[str, Any]]:
    lines = (recorded / "trackers" / "owntracks_traccar.jsonl").read_text(encoding="utf-8").splitlines()
    forwarded = [json.loads(json.loads(line)["payload"].removeprefix("/")) for line in lines]
    public = json.loads((recorded / "trackers" / "owntracks.json").read_text(encoding="utf-8"))["payloads"]
    return [*forwarded, *public]


def test_published_payloads_are_read_field_by_field(recorded: Path) -> None:
    found = payloads(recorded)
    assert len(found) == 9
    for tree in found:
        reading = one(tree)
        expected = {"latitude_deg": tree["lat"], "longitude_deg": tree["lon"]}
        for name, member in (("heading_deg", "cog"), ("altitude_m", "alt"), ("battery_percent", "batt")):
            if member in tree:
                expected[name] = tree[member]
        if "vel" in tree:
            expected["speed_mps"] = tree["vel"] / 3.6
        assert reading.values == pytest.approx(expected)
        assert reading.ts == tree["tst"] * NS
        assert set(reading.info) == set(tree) - {"_type", "lat", "lon", "tst", "vel", "cog", "alt", "batt", "topic"}
        assert (reading.device != "") is ("topic" in tree)


def test_the_topic_names_the_device_and_before_it_nothing_else() -> None:
    body = {"_type": "location", "lat": 1, "lon": 2, "tst": 3, "topic": "owntracks/else/where"}
    assert one(body).device == "else:where"
    assert one(body, TOPIC).device == "driver:phone"
    assert one(body, "port/CNNGB-DEMO/vehicle/T1/owntracks").device == ""


def test_a_forward_of_traccar_is_in_knots_and_says_whether_it_had_a_fix() -> None:
    reading = one(FORWARD)
    assert reading.device == "865284041968706"
    assert reading.ts == parse_rfc3339("2026-11-23T08:00:00Z")
    assert reading.values == pytest.approx({
        "latitude_deg": 29.93, "longitude_deg": 121.85, "altitude_m": 4, "speed_mps": 5.14444, "heading_deg": 271,
        "odometer_m": 1234.5, "battery_percent": 71, "ignition_on": True,
    })  # fmt: skip
    assert reading.info == {"motion": True}
    assert reading.flags == ("no_fix",)


def test_messages_without_a_position_keep_their_meaning() -> None:
    assert one({"_type": "lwt", "tst": 5}).online is False
    assert one({"_type": "status"}).online is True
    entered = one({"_type": "transition", "event": "enter", "desc": "gate 3", "tst": 7, "rids": ["a"]})
    [happening] = entered.happenings
    assert (happening.type, happening.data) == ("transition", {"event": "enter", "desc": "gate 3", "tst": 7})


def test_a_phone_that_does_not_know_how_it_moves_says_minus_one() -> None:
    body = {"_type": "location", "lat": 1, "lon": 2, "tst": 3, "vel": -1, "cog": -1, "alt": -12}
    assert one(body).values == {"latitude_deg": 1, "longitude_deg": 2, "altitude_m": -12}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\xff", ("undecodable", "")),
        (b"[1]", ("undecodable", "")),
        (b"{}", ("missing_field", "/_type")),
        (b'{"_type":"location","lat":1,"lon":2}', ("missing_field", "/tst")),
        (b'{"_type":"location","lat":"1","lon":2,"tst":3}', ("wrong_type", "/lat")),
        (b'{"_type":"location","lat":true,"lon":2,"tst":3}', ("wrong_type", "/lat")),
        (b'{"_type":"location","lat":1,"tst":3}', ("missing_field", "/lon")),
        (b'{"_type":"location","lat":1,"lon":2,"tst":"soon"}', ("wrong_type", "/tst")),
        (b'{"_type":"encrypted","data":"x"}', ("undecodable", "/data")),
        (b'{"_type":"locatoin","lat":1}', ("wrong_type", "/_type")),
        (b'{"_type":["location"]}', ("wrong_type", "/_type")),
        (b'{"position":{"latitude":1,"longitude":2}}', ("missing_field", "/position/deviceTime")),
        (b'{"position":{"latitude":1,"longitude":2,"fixTime":"now"}}', ("wrong_type", "/position/fixTime")),
    ],
)
def test_refusals_name_the_member(payload: bytes, expected: tuple[str, str]) -> None:
    with pytest.raises(RejectError) as caught:
        OwnTracks().decode(payload)
    assert caught.value.reject[:2] == expected


@pytest.mark.parametrize("tst", [1e300, -5, 10**30, 2**63])
def test_any_time_is_one_that_ingest_can_judge(tst: float) -> None:
    ts = one({"_type": "location", "lat": 1, "lon": 2, "tst": tst}).ts
    assert ts is not None
    assert 0 <= ts < 2**63


def test_an_event_that_traccar_forwards_is_one_and_its_position_is_not_counted_again() -> None:
    event = {
        "id": 7, "type": "geofenceExit", "eventTime": "2026-11-23T08:00:01.000+00:00", "geofenceId": 3,
        "attributes": {"alarm": "sos", "raw": [1]},
    }  # fmt: skip
    reading = one({"event": event, **FORWARD})
    assert (reading.device, reading.ts) == ("865284041968706", parse_rfc3339("2026-11-23T08:00:01Z"))
    assert (reading.values, reading.online) == ({}, None)
    [happening] = reading.happenings
    assert happening.type == "geofenceExit"
    assert happening.data == {"alarm": "sos", "geofenceId": 3, "latitude": 29.93, "longitude": 121.85}


def test_a_device_that_traccar_says_is_gone_is_gone() -> None:
    for kind, online in (("deviceOnline", True), ("deviceOffline", False), ("deviceUnknown", None)):
        event = {"type": kind, "eventTime": 1_795_000_000_000}
        reading = one({"event": event, "position": None, "device": {"uniqueId": "7"}})
        assert (reading.device, reading.online, reading.ts) == ("7", online, 1_795_000_000 * NS)
    for broken, pointer in (({"eventTime": 1}, "/event/type"), ({"type": "alarm"}, "/event/serverTime")):
        with pytest.raises(RejectError) as caught:
            one({"event": broken})
        assert caught.value.reject.pointer == pointer
