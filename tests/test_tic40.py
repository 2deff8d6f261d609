"""TIC 4.0, JSON and FLAT: what is written is read, what senders get wrong is understood or refused alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.frames import QUAY_CRANE, START_NS, TRUCK, tic40_trapped
from devices.codecs.readings import Reading
from devices.codecs.registry import make_codec
from devices.codecs.texts import JOB_STEPS
from devices.codecs.tic40 import MAX_PAYLOAD, Tic40, encode
from devices.codecs.tic40_flat import Tic40Flat, encode_flat, parse_path
from devices.codecs.tic40_gathering import DAY_NS, MAX_OBSERVATIONS
from devices.codecs.tic40_words import ALIASES, ANY_TARGETS, CLASSES, SUBJECTS, TARGETS, Target, value_of
from devices.codecs.units import FACTORS, factor_of
from devices.rejects import Reason, RejectError
from devices.times import NS, parse_rfc3339
from devices.vocabulary import BY_NAME, METRICS, DeviceClass, Kind, accepted_from

STAMP = "2026-11-23T08:15:30.25Z"
MACHINES = (DeviceClass.QUAY_CRANE, DeviceClass.YARD_CRANE, DeviceClass.VEHICLE)


def words_of(device_class: DeviceClass) -> list[str]:
    """The metrics of a class for which TIC 4.0 has a word."""
    return [name for name in accepted_from(device_class) if BY_NAME[name].tic]


@st.composite
def said(draw: st.DrawFn) -> tuple[DeviceClass, dict[str, float | bool]]:
    """What a machine may say of one instant."""
    device_class = draw(st.sampled_from(MACHINES))
    values: dict[str, float | bool] = {}
    for name in draw(st.sets(st.sampled_from(words_of(device_class)), min_size=1)):
        metric = BY_NAME[name]
        if metric.kind is Kind.STATE and metric.unit == "1" and metric.maximum == 1:
            values[name] = draw(st.booleans())
        else:
            values[name] = draw(st.floats(metric.minimum, metric.maximum))
    if ("latitude_deg" in values) != ("longitude_deg" in values):
        values |= {"latitude_deg": 29.9, "longitude_deg": 121.8}
    return device_class, values


def message(*machines: dict[str, Any], **header: Any) -> bytes:
    return json.dumps({"msg": {"timestamp": STAMP, **header}, "che": list(machines)}).encode()


def observed(value: Any, unit: str = "", **more: Any) -> list[dict[str, Any]]:
    return [{"pom": "output", "pomt": "actual", "unit": unit, "value": value, **more}]


def crane(**parts: Any) -> dict[str, Any]:
    return {"id": "STS07", "type": "STS", **parts}


def height(value: Any, unit: str = "meters", **more: Any) -> dict[str, Any]:
    return crane(hoist=[{"hoisting": {"height": observed(value, unit, **more)}}])


def one(payload: bytes, topic: str = "") -> Reading:
    [reading] = Tic40().decode(payload, topic)
    return reading


# --- both ways -------------------------------------------------------------------------------------------------------


@given(said(), st.integers(946_684_800, 4_000_000_000))
def test_what_is_written_is_read_in_either_form(said: tuple[DeviceClass, dict[str, float | bool]], second: int) -> None:
    device_class, values = said
    for decode, payload in (
        (Tic40().decode, encode("M-1", device_class, second * NS, values)),
        (Tic40Flat().decode, encode_flat("M-1", device_class, second * NS, values)),
        (Tic40Flat().decode, encode_flat("M-1", device_class, second * NS, values, separator=".")),
    ):
        [reading] = decode(payload)
        assert (reading.device, reading.device_class, reading.ts) == ("M-1", device_class, second * NS)
        assert reading.values == values
        assert (reading.unknown, reading.refused, reading.flags) == ({}, (), ())


@given(
    said(), st.sampled_from(["meters", "cm", "feet", "furlong", "ton", "", 7, None]), st.randoms(use_true_random=False)
)
def test_the_short_way_for_usual_values_says_what_the_long_way_says(
    said: tuple[DeviceClass, dict[str, float | bool]], unit: Any, chance: Any
) -> None:
    """Points in capitals take every value the long way."""
    tree = json.loads(encode("M-1", said[0], START_NS, said[1]))
    items = [item for item in walked(tree["che"][0]) if "pom" in item]
    for item in items:
        if chance.random() < 0.3:
            item.update(
                chance.choice([{"unit": unit}, {"value": "1"}, {"value": 1}, {"value": True}, {"value": 1e300}])
            )
    outcomes = []
    for pom in ("output", "OUTPUT"):
        for item in items:
            item["pom"] = pom
        try:
            outcomes.append(repr(Tic40().decode(json.dumps(tree).encode())))
        except RejectError as error:
            outcomes.append(repr(error.reject))
    assert outcomes[0] == outcomes[1]


def walked(node: Any) -> list[dict[str, Any]]:
    """Every object below a node."""
    if isinstance(node, list):
        return [found for child in node for found in walked(child)]
    return [node, *(found for child in node.values() for found in walked(child))] if isinstance(node, dict) else []


def test_the_form_is_that_of_the_model() -> None:
    tree = json.loads(encode("STS07", DeviceClass.QUAY_CRANE, START_NS, QUAY_CRANE))
    assert set(tree) == {"msg", "che"}
    [machine] = tree["che"]
    assert machine["type"] == "STS"
    [item] = machine["spreader"][0]["locked"]["status"]
    assert item == {
        "pom": "output",
        "pomt": "actual",
        "unit": "",
        "timestamp": "2026-11-23T08:15:30.250Z",
        "value": True,
    }
    flat = json.loads(encode_flat("STS07", DeviceClass.QUAY_CRANE, START_NS, QUAY_CRANE, separator="."))
    assert flat["che.@STS07.spreader.@.locked.status.output.actual.value"] is True
    bars = json.loads(encode_flat("TT101", DeviceClass.VEHICLE, START_NS, TRUCK))
    assert bars["che|@TT101|drive|@|speed|output|actual|#unit#meters/second|value"] == TRUCK["speed_mps"]


def test_values_without_a_word_are_left_out() -> None:
    assert one(encode("TT1", DeviceClass.VEHICLE, START_NS, {"speed_mps": 3.0, "laden": True})).values == {
        "speed_mps": 3.0
    }


def test_every_word_leads_to_a_metric_of_the_class_and_back() -> None:
    for device_class, targets in TARGETS.items():
        for path, target in targets.items():
            assert device_class in target.metric.classes
            assert path.startswith("che.")
    for metric in METRICS:
        if metric.tic and metric.tic != "che.location.coordinate":
            assert ANY_TARGETS[metric.tic].metric.tic == metric.tic
    assert set(ALIASES) <= set(BY_NAME)
    # What stands in the place of a subject in any path is known to be one.
    assert {path.split(".")[1] for path in ANY_TARGETS if path.count(".") == 3 and "height" in path} <= SUBJECTS


# --- what senders get wrong ------------------------------------------------------------------------------------------


def test_the_trapped_message_is_understood() -> None:
    reading = one(tic40_trapped())
    assert (reading.device, reading.device_class, reading.ts) == ("STS07", DeviceClass.QUAY_CRANE, START_NS)
    assert reading.values == {
        "control_on": True, "on_time_s": 8_123.5 * 3_600, "hoist_height_m": -3.62, "gross_load_t": 6.014,
        "load_t": 0.512, "trolley_position_m": 103.57, "spreader_locked": False, "spreader_landed": False,
        "spreader_size_ft": 40.0,
    }  # fmt: skip
    assert reading.unknown == {
        "che.spreader.locked.status.input.actual": "True",
        "che.spreader.locking.totalcounter": 12_345,
        "che.spreader.locked.status[1]": "True",
    }
    assert [(reject.reason, reject.pointer) for reject in reading.refused] == [
        (Reason.STALE, "/che/0/spreader/0/twin/status/0")
    ]
    assert reading.info == {"tic_version": "2022.005", "sender": "PLC", "empty_values": 2}
    assert reading.flags == ("no_zone",)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (12.5, "meters", 12.5),
        (12, "m", 12.0),
        ("12.5", "Meters", 12.5),
        (" 12.5 ", "", 12.5),
        (1250, "cm", 12.5),
        (10, "feet", 3.048),
    ],
)
def test_a_number_is_read_in_the_unit_that_it_names(value: Any, unit: str, expected: float) -> None:
    assert one(message(height(value, unit))).values["hoist_height_m"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("True", True), ("false", False), ("ON", True), ("0", False), (1, True), (False, False)],
)
def test_a_state_is_read_from_text_too(value: Any, expected: bool) -> None:
    found = one(message(crane(spreader=[{"locked": {"status": observed(value)}}]))).values["spreader_locked"]
    assert bool(found) is expected


def test_a_state_of_several_values_is_a_number() -> None:
    reading = one(message(crane(spreader=[{"size": {"status": observed(value=True)}}], on={"status": "True"})))
    assert reading.values == {"control_on": True}
    assert [reject.detail for reject in reading.refused] == ["True: expected a number"]


@pytest.mark.parametrize(
    ("value", "unit", "detail"),
    [
        ("high", "meters", "'high': expected a number or a boolean"),
        (True, "meters", "True: expected a number"),
        ([1], "meters", "[1]: expected a number or a boolean"),
        (5, "furlong", "unit 'furlong': expected one of m, meter"),
        ("nan", "", "'nan' is not a finite number"),
        (10**400, "", "is not a finite number"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused_alone(value: Any, unit: str, detail: str) -> None:
    reading = one(message(height(value, unit) | {"on": {"status": observed(value=True)}}))
    assert reading.values == {"control_on": True}
    [reject] = reading.refused
    assert reject[:2] == (Reason.WRONG_TYPE, "/che/0/hoist/0/hoisting/height/0")
    assert detail in reject.detail


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_value_is_no_value(empty: Any) -> None:
    reading = one(message(height(empty) | {"on": {"status": observed(value=True)}}))
    assert (reading.values, reading.refused) == ({"control_on": True}, ())
    assert reading.info["empty_values"] == 1


@pytest.mark.parametrize(("word", "number"), [(word, number) for number, word in enumerate(JOB_STEPS)])
def test_a_step_of_a_job_is_its_number(word: str, number: int) -> None:
    for spelling in (word, word.upper(), word.replace(" ", "_"), str(number)):
        assert value_of(spelling, "", Target(BY_NAME["job_step"], {})) == number


def test_old_values_are_refused_by_their_age_and_young_ones_have_their_own_time() -> None:
    def at(second: str) -> dict[str, Any]:
        return {"timestamp": f"2026-11-{second}Z"}

    parts = {
        "on": {"status": observed(value=True, **at("23T08:15:30.25"))},
        "working": {"status": observed(value=True, **at("22T08:15:31"))},
        "idle": {"status": observed(value=False, **at("22T08:15:29"))},
        "available": {"status": observed(value=True, **at("23T08:15:20"))},
    }
    readings = Tic40().decode(message(crane(**parts)))
    assert [list(reading.values) for reading in readings] == [["working"], ["available"], ["control_on"]]
    [reject] = readings[0].refused
    assert (reject.reason, reject.pointer) == (Reason.STALE, "/che/0/idle/status/0")
    assert reject.detail == "observed 86,401 s before the message; at most 86,400 s"
    assert len(Tic40(max_age_ns=2 * DAY_NS).decode(message(crane(**parts)))) == 4


def test_a_time_without_a_zone_is_in_the_one_that_the_source_says() -> None:
    parts = {
        "on": {"status": observed(value=True)},
        "working": {"status": observed(value=True, timestamp="2026-11-23T16:15:00")},
        "idle": {"status": observed(value=True, timestamp="2026-11-23T08:15:10Z")},
    }
    payload = message(crane(**parts), timestamp="2026-11-23T16:15:30.25")
    readings = make_codec("tic40", "+08:00").decode(payload)
    assert [(reading.ts, list(reading.values), reading.flags) for reading in readings] == [
        (parse_rfc3339("2026-11-23T08:15:00Z"), ["working"], ()),
        (parse_rfc3339("2026-11-23T08:15:10Z"), ["idle"], ()),
        (START_NS, ["control_on"], ()),
    ]
    flat = {"msg.timestamp": "2026-11-23T16:15:30.25", "che.@STS07.on.status.value": True}
    [reading] = make_codec("tic40-flat", "+08:00").decode(json.dumps(flat).encode())
    assert (reading.ts, reading.flags) == (START_NS, ())


@pytest.mark.parametrize(
    ("name", "zone", "said"),
    [
        ("impinj", "+08:00", "times with a zone"),
        ("tic40", "Asia/Shanghai", r"such as \+08:00"),
        ("tic40", "+25:00", "zone"),
    ],
)
def test_a_zone_that_cannot_be_is_refused(name: str, zone: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_codec(name, zone)


def test_a_message_of_nothing_but_old_values_is_refused_as_such() -> None:
    with pytest.raises(RejectError) as caught:
        Tic40().decode(message(height(1.0, timestamp="2018-11-05T00:16:08")))
    assert caught.value.reject[:2] == (Reason.STALE, "/che/0/hoist/0/hoisting/height/0")


def test_what_a_machine_was_told_and_what_is_planned_are_no_measurements() -> None:
    items = observed(1.0) + [item | {"pom": "input"} for item in observed(2.0)]
    items += [item | {"pomt": "planning"} for item in observed(3.0)]
    reading = one(message(crane(hoist=[{"hoisting": {"height": items}}])))
    assert reading.values == {"hoist_height_m": 1.0}
    assert reading.unknown == {
        "che.hoist.hoisting.height.input.actual": 2.0, "che.hoist.hoisting.height.output.planning": 3.0,
    }  # fmt: skip


def test_a_second_value_of_one_instant_does_not_displace_the_first() -> None:
    reach = observed(103.57, "meters", reference="backreach") + observed(40.0, "meters", reference="waterside")
    reading = one(message(crane(trolley=[{"trolleying": {"reach": reach}}])))
    assert reading.values == {"trolley_position_m": 103.57}
    assert list(reading.unknown.values()) == [40.0]


def test_a_machine_may_be_in_an_envelope_and_say_its_name_as_a_property() -> None:
    machine = crane(on={"status": observed(value=True)}) | {
        "id": "",
        "name": [{"value": "STS 7"}],
        "type": {"value": "STS"},
    }
    expected = one(message(machine))
    assert expected.device.startswith("STS-7-")
    assert (expected.device_class, expected.unknown) == (DeviceClass.QUAY_CRANE, {})
    assert one(json.dumps({"msg": {"timestamp": STAMP, "che": [machine]}}).encode()) == expected
    assert one(json.dumps({"msg": {"timestamp": STAMP}, "data": {"che": machine}}).encode()) == expected
    flat = {"msg.timestamp": STAMP, "msg.che.@STS7.on.status.output.actual.value": "True"}
    [reading] = Tic40Flat().decode(json.dumps(flat).encode())
    assert (reading.device, reading.values) == ("STS7", {"control_on": True})


def test_several_machines_are_read_apart() -> None:
    readings = Tic40().decode(
        message(
            height(1.0), {"id": "RTG 5", "type": "RTG", **height(2.0)} | {"id": "RTG 5", "type": "RTG"}, {"name": "TT9"}
        )
    )
    assert [(reading.device_class, reading.values) for reading in readings] == [
        (DeviceClass.QUAY_CRANE, {"hoist_height_m": 1.0}),
        (DeviceClass.YARD_CRANE, {"hoist_height_m": 2.0}),
    ]
    # What cannot be an id becomes one.
    assert readings[0].device == "STS07"
    assert readings[1].device.startswith("RTG-5-")


@pytest.mark.parametrize(("kind", "device_class"), CLASSES.items())
def test_the_type_of_a_machine_tells_its_class(kind: str, device_class: DeviceClass) -> None:
    assert one(message({"id": "X1", "type": kind.lower(), "working": {"status": True}})).device_class is device_class


def test_the_topic_tells_the_class_of_a_machine_without_a_type() -> None:
    payload = message({"id": "X1", "drive": [{"speed": observed(5.0, "km/h")}], "on": {"status": True}})
    told = one(payload, "port/CNNGB-BLCT/vehicle/X1/tic40")
    assert told.values == {"speed_mps": pytest.approx(5 / 3.6), "ignition_on": True}
    untold = one(payload)
    assert (untold.device_class, untold.values["control_on"]) == (None, True)


def test_a_coordinate_is_latitude_first() -> None:
    place = {"coordinate": [{"qualifier": "WGS84", "value": [29.9377, 121.8712], "timestamp": STAMP}]}
    reading = one(message({"id": "TT1", "type": "TT", "location": place}))
    assert reading.values == {"latitude_deg": 29.9377, "longitude_deg": 121.8712}
    place["coordinate"][0]["value"] = [29.9]
    with pytest.raises(RejectError, match="expected latitude and longitude"):
        Tic40().decode(message({"id": "TT1", "type": "TT", "location": place}))


def test_the_place_in_the_yard_is_a_fact_and_no_measurement() -> None:
    place = {"logical": [{"qualifier": "yard", "block": "B07", "row": "3", "bay": 12, "tier": ""}]}
    reading = one(message({"id": "RTG5", "type": "RTG", "location": place, "working": {"status": True}}))
    assert (reading.values, reading.unknown) == ({"working": True}, {})
    assert reading.info == {
        "logical_qualifier": "yard", "logical_block": "B07", "logical_row": "3", "logical_bay": 12,
    }  # fmt: skip


# --- FLAT ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "words", "ids", "unit", "pom"),
    [
        ("che.@.spreader.@.locked.status.output.actual.value", "che.spreader.locked.status", ("", ""), "", "output"),
        ("che|@STS01|on|totaltimer|#unit#hour|value", "che.on.totaltimer", ("STS01",), "hour", ""),
        ("CHE|@|Spreader|@2|lenght|iinput|value", "che.spreader.length", ("", "2"), "", "iinput"),
    ],
)
def test_a_path_is_taken_apart(key: str, words: str, ids: tuple[str, ...], unit: str, pom: str) -> None:
    path = parse_path(key)
    assert (path.words, path.ids, path.unit, path.pom, path.member) == (words, ids, unit, pom, "value")


def test_a_flat_message_of_several_machines_and_parts_is_read_apart() -> None:
    tree = {
        "msg.timestamp": "2026-11-23T08:15:30.25", "msg.version": "2022.005",
        "che.@1.id": "STS07", "che.@1.type": "STS", "che.@2.name": "STS08", "che.@2.type": "STS",
        "che.@1.spreader.@1.locked.status.output.actual.value": "True",
        "che.@1.spreader.@2.locked.status.output.actual.value": "False",
        "che.@2.hoist.@1.hoisting.height.output.actual.value": "1250",
        "che.@2.hoist.@1.hoisting.height.output.actual.unit": "cm",
        "che.@2.hoist.@1.hoisting.height.output.actual.timestamp": "2026-11-23T08:15:30",
        "che.@2.on.status.input.actual.value": True,
    }  # fmt: skip
    first, second = Tic40Flat().decode(json.dumps(tree).encode())
    assert (first.device, first.values) == ("STS07", {"spreader_locked": True})
    assert first.unknown == {"che.spreader.locked.status[2]": "False"}
    assert (second.device, second.values) == ("STS08", {"hoist_height_m": 12.5})
    assert second.unknown == {"che.on.status.input.actual": True}
    assert {first.ts, second.ts} == {START_NS}
    assert first.flags == second.flags == ("no_zone",)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason", "pointer"),
    [
        (b"{", Reason.UNDECODABLE, ""),
        (b"[]", Reason.WRONG_TYPE, ""),
        (b"{}", Reason.MISSING_FIELD, "/che"),
        (b'{"che":[]}', Reason.MISSING_FIELD, "/che"),
        (b'{"che":[{"id":"STS07"}]}', Reason.NO_SAMPLES, ""),
        (message(height(1.0), timestamp="yesterday"), Reason.WRONG_TYPE, "/msg/timestamp"),
        (message(height(1.0, timestamp="later")), Reason.WRONG_TYPE, "/che/0/hoist/0/hoisting/height/0/timestamp"),
        (b'{"che":' + b'{"a":' * 100 + b"1" + b"}" * 101, Reason.WRONG_TYPE, "/che/0" + "/a" * 23),
        (b"[" * 50_000, Reason.UNDECODABLE, ""),
        (b" " * (MAX_PAYLOAD + 1), Reason.TOO_LARGE, ""),
        (message({"x": {"y": [1] * (MAX_OBSERVATIONS + 1)}}), Reason.TOO_LARGE, ""),
    ],
)
def test_a_message_is_refused_with_the_field_at_fault(payload: bytes, reason: Reason, pointer: str) -> None:
    with pytest.raises(RejectError) as caught:
        Tic40().decode(payload)
    assert caught.value.reject[:2] == (reason, pointer)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", Reason.UNDECODABLE),
        (b"[]", Reason.WRONG_TYPE),
        (b"{}", Reason.MISSING_FIELD),
        (b'{"che.@.on.status.value":""}', Reason.NO_SAMPLES),
        (b'{"che' + b".a" * 50 + b'":1}', Reason.WRONG_TYPE),
        (b" " * (MAX_PAYLOAD + 1), Reason.TOO_LARGE),
    ],
)
def test_a_flat_message_is_refused_with_its_reason(payload: bytes, reason: Reason) -> None:
    with pytest.raises(RejectError) as caught:
        Tic40Flat().decode(payload)
    assert caught.value.reject.reason is reason


def test_units_of_a_quantity_convert_into_its_own() -> None:
    for unit, words in FACTORS.items():
        assert factor_of("", unit) == factor_of(unit, unit) == 1
        assert all(factor > 0 for factor in words.values())
    assert factor_of("boxes", "1") == 1
    assert factor_of("km/h", "m/s") == pytest.approx(1 / 3.6)
    with pytest.raises(ValueError, match=r"unit 'ton': expected one of m, "):
        factor_of("ton", "m")
