"""The two forms of TIC 4.0: the same message gives the same samples, facts, refusals and flags in JSON and in FLAT."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import T0, accounts, frame, pipeline_of, topic

from devices.codecs.readings import Reading
from devices.codecs.tic40 import Tic40, encode
from devices.codecs.tic40_flat import Tic40Flat
from devices.codecs.tic40_words import SUBJECTS
from devices.rejects import Reason, RejectError
from devices.times import format_rfc3339
from devices.vocabulary import BY_NAME, DeviceClass, Kind, accepted_from

GOOD, WRONG = "CSQU3054383", "CSQU3054384"
STAMP = format_rfc3339(T0)
Tree = dict[str, Any]


# --- one message in either form --------------------------------------------------------------------------------------


def flat_of(message: Tree, separator: str) -> Tree:
    """The message as paths: array ids are places in the arrays, units stand in the path where it has bars."""
    paths: Tree = {f"msg{separator}{name}": said for name, said in message["msg"].items()}
    for nth, machine in enumerate(message["che"]):
        _flatten(machine, ["che", f"@{nth}"], separator, paths)
    return paths


def _flatten(node: Any, levels: list[str], separator: str, paths: Tree) -> None:
    if isinstance(node, dict) and "value" in node:
        _property(node, levels, separator, paths)
    elif isinstance(node, dict):
        for name, child in node.items():
            _flatten(child, [*levels, name], separator, paths)
    elif isinstance(node, list):
        for nth, item in enumerate(node):
            counted = "value" not in item or levels[-1] == "coordinate"
            _flatten(item, [*levels, f"@{nth}"] if counted else levels, separator, paths)
    else:
        paths[separator.join(levels)] = node


def _property(item: Tree, levels: list[str], separator: str, paths: Tree) -> None:
    levels = [*levels, *(item[name] for name in ("pom", "pomt") if item.get(name))]
    unit, qualifier = item.get("unit"), item.get("qualifier")
    if qualifier:
        paths[separator.join((*levels, "qualifier"))] = qualifier
    if unit and separator == "|":
        levels.append(f"#unit#{unit}")
    elif unit:
        paths[separator.join((*levels, "unit"))] = unit
    paths[separator.join((*levels, "value"))] = item["value"]


def observed(value: Any, unit: str = "", pom: str = "output", pomt: str = "actual") -> list[Tree]:
    return [{"pom": pom, "pomt": pomt, "unit": unit, "value": value}]


# --- messages of all kinds -------------------------------------------------------------------------------------------

numbers = st.sampled_from([GOOD, WRONG, "?", "cccu 123456 7", "TESI1120274", "", "QC X"])
values = st.sampled_from([True, "False", 12.5, "12.5", "", None, "many", 1e300])
units = st.sampled_from(["", "meters", "cm", "ton", "furlong"])
points = st.sampled_from(["", "output", "ioutput", "input"])
types = st.sampled_from(["", "actual", "performed", "planning"])


@st.composite
def properties(draw: st.DrawFn) -> list[Tree]:
    """An observed property, with a value at one or two points."""
    first = observed(draw(values), draw(units), draw(points), draw(types))
    return first + observed(draw(values), pom="iinput", pomt="estimated") if draw(st.booleans()) else first


@st.composite
def containers(draw: st.DrawFn) -> Tree:
    found: Tree = {"id": draw(numbers | numbers.map(observed))}
    if draw(st.booleans()):
        found["sizetype"] = draw(st.sampled_from(["22G1", "45R1", "0000", "4EG1", "40EM"]))
    if draw(st.booleans()):
        found["weight"] = {"gross": draw(properties())}
    return found


@st.composite
def measured(draw: st.DrawFn, device_class: DeviceClass) -> dict[str, float | bool]:
    found: dict[str, float | bool] = {}
    for name in draw(st.sets(st.sampled_from([each for each in accepted_from(device_class) if BY_NAME[each].tic]))):
        metric = BY_NAME[name]
        is_flag = metric.kind is Kind.STATE and metric.unit == "1" and metric.maximum == 1
        found[name] = draw(st.booleans() if is_flag else st.floats(metric.minimum, metric.maximum))
    return found


@st.composite
def machines(draw: st.DrawFn, nth: int) -> Tree:
    """A machine, some of what it measures, and much that has no metric."""
    device_class = draw(st.sampled_from([DeviceClass.QUAY_CRANE, DeviceClass.YARD_CRANE, DeviceClass.VEHICLE]))
    text = encode(f"M-{nth}", device_class, T0, draw(measured(device_class))).decode()
    # A FLAT message has one time.
    [machine] = json.loads(text.replace(f'"timestamp":"{STAMP}"', '"timestamp":""'))["che"]
    place = machine.pop("location", None)
    spreader = machine.setdefault("spreader", [{}])
    if not spreader[0]:
        # In FLAT the first part that says something is the first.
        spreader[0]["idle"] = {"status": observed(value=True)}
    spreader += [{"locked": {"status": draw(properties())}} for _ in range(draw(st.integers(0, 2)))]
    optional: Tree = {
        "model": st.just("X 1"),
        "plate": st.sampled_from(["浙B12345", "浙B1"]),
        "serialnumber": st.sampled_from(["12", 12, ""]),
        "container": st.lists(containers(), min_size=1, max_size=3),
        "whatever": st.fixed_dictionaries({"Status": properties(), "reference": st.just("x"), "level": values}),
        "hoist": st.lists(st.fixed_dictionaries({"hoisting": st.fixed_dictionaries({"lenght": properties()})})),
    }
    for name, given_as in optional.items():
        if name not in machine and draw(st.booleans()):
            machine[name] = draw(given_as)
    if draw(st.booleans()):
        spreader[0]["container"] = draw(st.lists(containers(), min_size=1, max_size=2))
    if draw(st.booleans()):
        place = place or {}
        pair = st.sampled_from([[29.9, 121.8], [29.9], [], "?", None])
        place.setdefault("coordinate", []).append(
            {"qualifier": draw(st.sampled_from(["WGS84", "UTM", ""])), "value": draw(pair)}
        )
    if draw(st.booleans()):
        rows = st.fixed_dictionaries({"qualifier": st.just("yard"), "block": st.sampled_from(["B07", "B08"])})
        bays = st.fixed_dictionaries({"bay": st.sampled_from([12, "12", ""]) | st.just(observed(12))})
        place = (place or {}) | {"logical": draw(st.lists(rows | bays, min_size=1, max_size=2))}
    return {**machine, "location": place} if place else {**machine}


@st.composite
def messages(draw: st.DrawFn) -> Tree:
    count = draw(st.integers(1, 2))
    header = {
        "timestamp": draw(st.sampled_from([STAMP, STAMP.removesuffix("Z")])),
        "version": "2024.010",
        "sender": "P",
    }
    return {"msg": header, "che": [draw(machines(nth)) for nth in range(count)]}


def judged(readings: list[Reading]) -> list[tuple[object, ...]]:
    """All that is said, but for the JSON Pointers into the message."""
    return [
        (
            *(each.device, each.device_class, each.ts, list(each.values.items()), each.unknown, each.info, each.flags),
            *(each.happenings, each.online, [(reject.reason, reject.detail) for reject in each.refused]),
        )
        for each in readings
    ]


def outcome(codec: Tic40 | Tic40Flat, message: Tree) -> object:
    try:
        return judged(codec.decode(json.dumps(message).encode()))
    except RejectError as error:
        return error.reject.reason, error.reject.detail


@given(messages())
def test_the_same_message_says_the_same_in_either_form(message: Tree) -> None:
    expected = outcome(Tic40(), message)
    assert outcome(Tic40Flat(), flat_of(message, "|")) == expected
    assert outcome(Tic40Flat(), flat_of(message, ".")) == expected


@given(st.lists(messages(), min_size=1, max_size=4))
def test_the_same_messages_are_booked_alike_in_either_form(sent: list[Tree]) -> None:
    books = []
    for codec, forms in (("tic40", sent), ("tic40-flat", [flat_of(each, "|") for each in sent])):
        pipeline = pipeline_of()
        where = topic("quay-crane", "M-0", codec)
        frames = [frame(where, json.dumps(each).encode(), offset=100 * nth) for nth, each in enumerate(forms)]
        pipeline.process(frames)
        info = {device.uid: device.info for device in pipeline.directory.devices}
        books.append((accounts(pipeline), info))
        assert pipeline.ledger.balanced()
    assert books[0] == books[1]


# --- what was judged otherwise, or not at all ------------------------------------------------------------------------


def flat(**paths: Any) -> Reading:
    [reading] = Tic40Flat().decode(json.dumps({"msg|timestamp": STAMP, "che|@QC01|type": "STS", **paths}).encode())
    return reading


@pytest.mark.parametrize("path", ["container|@|id", "container|@|id|value", "spreader|@|container|@2|id|output|value"])
def test_a_container_in_a_path_is_a_fact_and_no_value_without_a_metric(path: str) -> None:
    reading = flat(**{"che|@QC01|hoist|@|hoisting|height|value": 12.5, f"che|@QC01|{path}": WRONG})
    assert (reading.values, reading.unknown, reading.info) == ({"hoist_height_m": 12.5}, {}, {"container_id": WRONG})


def test_the_number_of_a_container_may_be_the_id_of_its_array() -> None:
    reading = flat(**{f"che|@QC01|container|@{WRONG}|weight|gross|value": 24.5})
    assert reading.info == {"container_id": WRONG}
    assert reading.unknown == {"che.container.weight.gross": 24.5}


@pytest.mark.parametrize("codec", ["tic40", "tic40-flat"])
@pytest.mark.parametrize(
    ("numbers", "sizes", "flags"),
    [
        ((GOOD, WRONG), ("22G1", "22G1"), {"check_digit"}),
        ((GOOD, GOOD), ("22G1", "0000"), {"size_type"}),
        ((WRONG, "?", GOOD), ("4EG1", "22G1", "45R1"), {"check_digit", "container_number"}),
    ],
)
def test_each_container_of_a_lift_is_judged(
    codec: str, numbers: tuple[str, ...], sizes: tuple[str, ...], flags: set[str]
) -> None:
    tree = json.loads(encode("QC01", DeviceClass.QUAY_CRANE, T0, {"hoist_height_m": 12.5}))
    lifted = [{"id": number, "sizetype": size} for number, size in zip(numbers, sizes, strict=True)]
    tree["che"][0]["spreader"] = [{"container": lifted}]
    pipeline = pipeline_of()
    message = tree if codec == "tic40" else flat_of(tree, ".")
    pipeline.process([frame(topic("quay-crane", "QC01", codec), json.dumps(message).encode())])
    assert {why for (_, account, why) in accounts(pipeline) if account == "flagged"} == flags
    info = pipeline.directory.devices[-1].info
    assert [info[name] for name in info if name.startswith("container_id")] == list(dict.fromkeys(numbers))


def test_a_unit_beside_a_path_without_points_is_that_of_its_value() -> None:
    height = "che.@QC01.hoist.@.hoisting.height"
    assert flat(**{f"{height}.value": 1250, f"{height}.unit": "cm"}).values == {"hoist_height_m": 12.5}
    assert flat(**{f"{height}.value": 12, f"{height}.pom": "Input"}).unknown == {"che.hoist.hoisting.height.input.": 12}


def test_the_parts_of_one_machine_are_not_counted_on_in_another() -> None:
    paths = {f"che|@QC0{nth}|spreader|@S{nth}|locked|status|value": True for nth in (1, 2)}
    readings = Tic40Flat().decode(json.dumps({"timestamp": STAMP, **paths}).encode())
    assert [reading.values for reading in readings] == [{"spreader_locked": True}] * 2


def test_a_coordinate_of_another_grid_is_no_latitude() -> None:
    place = "che|@QC01|location|coordinate"
    grid = {f"{place}|@1|qualifier": "UTM", f"{place}|@1|value": [350_000.0, 3_312_000.0]}
    reading = flat(**{f"{place}|@0|value": [29.9, 121.8]}, **grid)
    assert reading.values == {"latitude_deg": 29.9, "longitude_deg": 121.8}
    assert list(reading.unknown) == ["che.location.coordinate.UTM"]


def test_an_empty_id_is_none_in_a_path_too() -> None:
    for empty in (None, "", "  ", True):
        paths = {"che|@|id": empty, "che|@|name": "QC 9", "che|@|on|status|value": True}
        [reading] = Tic40Flat().decode(json.dumps({"timestamp": STAMP, **paths}).encode())
        assert reading.device.startswith("QC-9-")


def test_two_values_under_one_unknown_name_are_both_kept() -> None:
    tree = {"msg": {"timestamp": STAMP}, "che": [{"id": "QC01", "slack": {"length": observed(1.0) + observed(2.0)}}]}
    [reading] = Tic40().decode(json.dumps(tree).encode())
    assert list(reading.unknown.values()) == [1.0, 2.0]


def test_a_bare_value_of_a_machine_is_refused_by_its_name_and_not_dropped() -> None:
    tree = {"msg": {"timestamp": STAMP}, "che": [{"id": "QC01", "serialnumber": 12, "model": "X"}]}
    [reading] = Tic40().decode(json.dumps(tree).encode())
    assert (reading.unknown, reading.info) == ({"che.serialnumber": 12}, {})


def test_a_machine_without_a_value_is_no_missing_machine() -> None:
    with pytest.raises(RejectError) as caught:
        Tic40Flat().decode(b'{"che.@.id":"QC01"}')
    assert caught.value.reject.reason is Reason.NO_SAMPLES
    assert "spreader" in SUBJECTS
