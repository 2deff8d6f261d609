"""Simulated devices that speak foreign formats: what they say is read by the codecs and taken through ingest."""

from collections import Counter
from typing import Any

import pytest

from devices.codecs.readings import Reading
from devices.codecs.registry import make_codec
from devices.codecs.sparkplug import REBIRTH
from devices.codecs.sparkplug_payloads import BOOLEAN, Metric, write
from devices.times import NS
from quayflow.verifying import VerifyConfig, verify
from simulators import profiles, scenarios
from simulators.messages import Message, PortMessages
from simulators.scenarios import changed

START = 1_764_000_000 * NS


def sent(noise: str = "none", **wire: Any) -> list[Message]:
    profile = changed(profiles.load("small"), {"wire": wire})
    source = PortMessages(profile, 7, "CNNGB-DEMO", START, noise=noise)
    return [message for _ in range(3) for message in source.advance(20 * NS)]


def foreign(messages: list[Message], codec: str) -> list[Message]:
    found = [message for message in messages if message.topic.endswith(f"/{codec}")]
    assert found
    return found


def natively(message: Message) -> Reading:
    (reading,) = make_codec("native").decode(message.payload, message.topic)
    return reading


@pytest.mark.parametrize("codec", ["tic40", "tic40-flat"])
def test_cranes_that_speak_tic40_say_what_they_would_say_natively(codec: str) -> None:
    native = {(one.due_ns, one.device): one for one in sent()}
    for message in foreign(sent(quay_crane=codec, yard_crane=codec, truck=codec), codec):
        (reading,) = make_codec(codec).decode(message.payload, message.topic)
        said = natively(native[message.due_ns, message.device])
        assert reading.ts == message.due_ns
        assert reading.values
        assert not reading.unknown
        for name, value in reading.values.items():
            assert value == pytest.approx(said.values[name]), name
        if "quay-crane" in message.topic:
            assert {"hoist_height_m", "load_t", "spreader_locked", "trolley_position_m"} <= reading.values.keys()


@pytest.mark.parametrize(("codec", "exact_ns"), [("impinj", 1), ("zebra", 1_000_000)])
def test_readers_report_the_same_reads_in_their_makers_words(codec: str, exact_ns: int) -> None:
    def reads(messages: list[Message]) -> list[tuple[int, str, float, int]]:
        result = []
        decoder = make_codec(codec)
        for message in messages:
            (reading,) = decoder.decode(message.payload, message.topic)
            (happening,) = reading.happenings
            data: Any = happening.data
            if codec == "impinj":
                assert data["direction"] == ("in" if "-IN-" in message.topic else "out")
            assert reading.ts is not None
            assert "gap" not in reading.flags
            result.append((reading.ts // exact_ns, data["tag"], data["rssi_dbm"], data["antenna"]))
        return result

    native = []
    for message in sent():
        if message.topic.endswith("/event"):
            (reading,) = make_codec("native").decode(message.payload, message.topic)
            data: Any = reading.happenings[0].data
            assert reading.ts is not None
            native.append((reading.ts // exact_ns, data["tag"], data["rssi_dbm"], data["antenna"]))
    assert reads(foreign(sent(gate=codec), codec)) == native


def test_terminals_report_where_the_truck_is_and_number_their_frames() -> None:
    messages = sent(external="jt808")
    native = {(one.due_ns, one.device): one for one in sent()}
    serials: dict[int, list[int]] = {}
    for message in foreign(messages, "jt808"):
        (reading,) = make_codec("jt808").decode(message.payload, message.topic)
        said = natively(native[message.due_ns, message.device])
        assert reading.device == message.topic.split("/")[3]
        assert reading.ts == message.due_ns // NS * NS
        assert reading.flags == ()
        for name, within in {"latitude_deg": 1e-6, "longitude_deg": 1e-6, "speed_mps": 0.03, "odometer_m": 100}.items():
            assert reading.values[name] == pytest.approx(said.values[name], abs=within), name
        assert reading.values["laden"] == said.values["laden"]
        serials.setdefault(message.device, []).append(reading.seq or 0)
    assert len(serials) == 40
    assert all(numbers == list(range(len(numbers))) for numbers in serials.values())


def test_nodes_are_born_and_say_what_they_would_say_natively() -> None:
    native = {(one.due_ns, one.device): one for one in sent()}
    codec = make_codec("sparkplug")
    told = [one for one in sent(quay_crane="sparkplug", yard_crane="sparkplug") if one.topic.startswith("spBv1.0/")]
    kinds = Counter(one.topic.split("/")[2] for one in told)
    # Ten cranes; the slow signals of the four at the quay come after the fast ones, and are born then.
    assert kinds["NBIRTH"] == 10
    assert 10 <= kinds["DBIRTH"] <= 14
    assert kinds["DBIRTH"] + kinds["DDATA"] == 60 * (4 * 5 + 6 * 2)
    for message in told:
        readings = codec.decode(message.payload, message.topic)
        said = natively(native[message.due_ns, message.device])
        for reading in readings:
            assert reading.ts == message.due_ns
            assert not reading.unknown
            assert set(reading.flags) <= {"null"}
            if reading.values:
                assert reading.values == said.values


def test_a_node_that_is_asked_is_born_again_and_says_at_the_end_that_it_dies() -> None:
    profile = changed(profiles.load("small"), {"wire": {"quay_crane": "sparkplug"}})
    source = PortMessages(profile, 7, "CNNGB-DEMO", START)
    assert source.command_filters() == ["spBv1.0/CNNGB-DEMO-quay-crane/NCMD/+"]
    source.advance(5 * NS)
    asked = write(1, None, [Metric(REBIRTH, datatype=BOOLEAN, value=True)])
    assert source.command("spBv1.0/CNNGB-DEMO-quay-crane/NCMD/QC02", asked)
    assert not source.command("spBv1.0/CNNGB-DEMO-quay-crane/NCMD/QC99", asked)
    births = [one.topic for one in source.advance(5 * NS) if "/NBIRTH/" in one.topic]
    assert births == ["spBv1.0/CNNGB-DEMO-quay-crane/NBIRTH/QC02"]
    ends = [one.topic for one in source.goodbye() if one.topic.startswith("spBv1.0/")]
    assert ends == [f"spBv1.0/CNNGB-DEMO-quay-crane/NDEATH/QC0{number}" for number in (1, 2, 3, 4)]


def test_sparkplug_cranes_give_the_moves_of_native_ones() -> None:
    reports = []
    for codec in ("native", "sparkplug"):
        wire = {"quay_crane": codec, "yard_crane": codec, "truck_hz": 0.1, "external_hz": 0.1}
        declared = {"title": "Nodes", "what": "Moves", "hours": 0.07, "expect": ["lost == 0"], "change": {"wire": wire}}
        reports.append(verify(VerifyConfig.of(scenarios.parse("nodes", declared))))
    native, nodes = reports
    assert native["moves"]["truth"] > 0
    for what in ("moves", "yard_moves", "passages", "alarms", "kpis"):
        assert nodes[what] == native[what], what
    assert nodes["moves"]["recall"] == nodes["yard_moves"]["precision"] == 1.0
    for report in reports:
        assert report["ledger_balanced"]
        assert report["accounts"].get("quarantined", 0) == report["accounts"].get("lost_before_journal", 0) == 0


def test_a_terminal_without_a_fix_reports_its_last_place() -> None:
    for message in foreign(sent(noise="heavy", external="jt808"), "jt808"):
        (reading,) = make_codec("jt808").decode(message.payload, message.topic)
        assert {"latitude_deg", "longitude_deg"} <= reading.values.keys()


def test_native_sequences_have_no_holes_beside_foreign_frames() -> None:
    messages = sent(gate="impinj", quay_crane="tic40")
    numbers: dict[int, list[int]] = {}
    for message in messages:
        if message.topic.endswith(("/telemetry", "/event", "/status")):
            numbers.setdefault(message.device, []).append(message.seq)
    assert all(found == list(range(len(found))) for found in numbers.values())


def test_a_port_of_many_makers_is_understood_as_well_as_a_native_one() -> None:
    wire = {
        "quay_crane": "tic40",
        "yard_crane": "tic40-flat",
        "gate": "impinj",
        "truck": "tic40",
        "external": "jt808",
        "truck_hz": 0.2,
        "external_hz": 0.1,
    }
    declared = {"title": "Makers", "what": "Many", "hours": 0.1, "expect": ["lost == 0"], "change": {"wire": wire}}
    report = verify(VerifyConfig.of(scenarios.parse("makers", declared)))
    for what in ("moves", "yard_moves", "passages"):
        assert report[what]["truth"] > 0
        assert (report[what]["recall"], report[what]["precision"]) == (1.0, 1.0), what
    assert report["ledger_balanced"]
    assert report["accounts"].get("quarantined", 0) == 0
