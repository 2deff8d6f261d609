"""UN/EDIFACT: what terminals report of containers, and what does not add up in it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.edifact import MAX_PAYLOAD, Edifact
from devices.codecs.readings import Reading
from devices.rejects import Reason, RejectError
from devices.times import NS, parse_rfc3339

HEAD = "UNH+7+CODECO:D:95B:UN'BGM+34+D1+9'"
BOX = "EQD+CN+CSQU3054383+22G1:102:5++2+5'DTM+7:202611230815:203'"


def decoded(*segments: str, tail: bool = True) -> list[Reading]:
    """Decode a message; with ``tail`` it is closed with the count that is right."""
    text = "".join(segments)
    if tail:
        count = text.count("'") - text.count("?'") + 1
        text += f"UNT+{count}+7'"
    return Edifact().decode(text.encode())


def one(*segments: str, tail: bool = True) -> Reading:
    [reading] = decoded(*segments, tail=tail)
    return reading


def data_of(reading: Reading) -> dict[str, Any]:
    [happening] = reading.happenings
    return happening.data


def recorded_messages(recorded: Path) -> list[str]:
    text = (recorded / "logistics" / "edifact" / "codeco_coarri.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


# --- published messages ----------------------------------------------------------------------------------------------


def test_published_gate_and_quay_reports_are_read(recorded: Path) -> None:
    readings = [reading for message in recorded_messages(recorded) for reading in Edifact().decode(message.encode())]
    assert [
        (
            reading.happenings[0].type, data_of(reading)["container"], data_of(reading)["full"], reading.ts,
            set(reading.flags) - {"no_zone"},
        )
        for reading in readings
    ] == [
        ("gate_in", "TESI1120274", True, parse_rfc3339("2023-08-11T14:47:00Z"), {"check_digit", "container_category"}),
        ("gate_in", "CCLU4214635", True, parse_rfc3339("2008-06-27T10:10:00Z"), set()),
        ("gate_out", "TRHU6875483", False, parse_rfc3339("2026-02-05T03:02:00Z"), {"segment_count"}),
        ("discharge", "MSKU0308961", False, parse_rfc3339("2010-10-12T17:08:00Z"), {"size_type", "locode"}),
    ]  # fmt: skip
    assert data_of(readings[2])["segments_declared"] == "12"
    assert data_of(readings[2])["segments"] == 13


def test_a_collection_of_messages_is_read_as_its_messages(recorded: Path) -> None:
    whole = Edifact().decode((recorded / "logistics" / "edifact" / "codeco_coarri.txt").read_bytes())
    single = [reading for message in recorded_messages(recorded) for reading in Edifact().decode(message.encode())]
    assert [(reading.ts, reading.flags) for reading in whole] == [(reading.ts, reading.flags) for reading in single]
    assert [data_of(reading)["container"] for reading in whole] == [data_of(reading)["container"] for reading in single]


def test_the_json_view_of_a_gate_in_says_the_same(recorded: Path) -> None:
    view = json.loads((recorded / "logistics" / "fiware_EdiCodeco_example.json").read_text())
    reading = Edifact().decode(view["messageRaw"].encode())[0]
    data = data_of(reading)
    assert reading.ts == parse_rfc3339(view["ata"])
    names = ("container", "booking", "voyage", "load_port", "discharge_port", "plate")
    assert {name: data[name] for name in names} == {
        "container": view["containerIdentification"], "booking": view["bookingCode"],
        "voyage": view["travelReference"], "load_port": view["loadingPort"], "discharge_port": view["dischargingPort"],
        "plate": view["truckLicenseCode"],
    }  # fmt: skip
    assert data["verified_mass_kg"] == view["containerWeight"]
    assert data["full"] is not view["isContainerEmpty"]
    assert data["trade"].capitalize() == view["containerClass"]
    assert (data["sender"], data["receiver"]) == (view["senderIdentification"], view["receiverIdentification"])
    assert int(data["vessel_id"]) == view["vesselImo"]


@pytest.mark.parametrize(
    ("name", "kinds", "wrong"),
    [
        ("D95BBAPLIE", ["BAPLIE"], False),
        ("example", ["PAORES"], False),
        ("exampleMulti", ["PAORES", "PAORES"], False),
        ("example_multiline", ["IFTMBC"], True),
        ("example_release_character", ["PAORES"], True),
        ("example_utf8", ["DESADV"], False),
        ("example_wrapped", ["PAORES"], False),
    ],
)
def test_other_published_messages_are_kept_by_name(recorded: Path, name: str, kinds: list[str], wrong: bool) -> None:
    path = recorded / "logistics" / "edifact" / f"{name}.edi"
    readings = Edifact().decode(path.read_bytes())
    assert [reading.happenings[0].type for reading in readings] == ["edifact_message"] * len(kinds)
    assert [data_of(reading)["message"] for reading in readings] == kinds
    # Counted by hand in the file: segments from UNH to UNT, against what UNT says.
    text = re.sub(r"\?.", "", path.read_text())
    counts = [
        (message.count("'"), int(said)) for message, said in re.findall(r"(UNH.*?UNT\+(\d+)\+\w+')", text, re.DOTALL)
    ]
    assert [found != said for found, said in counts] == [wrong] * len(kinds)
    assert ["segment_count" in reading.flags for reading in readings] == [wrong] * len(kinds)


# --- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "event"),
    [
        ("CODECO", "34", "gate_in"),
        ("CODECO", "36", "gate_out"),
        ("COARRI", "44", "discharge"),
        ("COARRI", "46", "load"),
        ("COARRI", "98", "container_report"),
        ("CODECO", "35", "container_report"),
    ],
)
def test_message_and_document_code_make_the_event(message: str, code: str, event: str) -> None:
    reading = one(f"UNH+7+{message}:D:95B:UN'BGM+{code}'", BOX)
    assert reading.happenings[0].type == event
    assert ("document_code" in reading.flags) == (event == "container_report")


def test_each_container_is_an_event_with_what_stands_after_it() -> None:
    second = "EQD+CN+MSKU0308961+45R1'DTM+203:20261123093000:204'LOC+147+0100284::5'SEL+S1'SEL+S2'"
    readings = decoded(HEAD, "RFF+BN:B1'", BOX, "MEA+AAE+G+TNE:27.5'FTX+DAR+++DENT?'S'", second, "CNT+16:2'")
    first, other = map(data_of, readings)
    assert [reading.ts for reading in readings] == [
        parse_rfc3339("2026-11-23T08:15:00Z"), parse_rfc3339("2026-11-23T09:30:00Z"),
    ]  # fmt: skip
    assert (first["booking"], other["booking"]) == ("B1", "B1")
    assert (first["weight_kg"], first["damage"], first["teu"], first["full"], first["trade"]) == (
        27_500.0, "DENT'S", 1.0, True, "export",
    )  # fmt: skip
    assert (other["stowage"], other["seal"], other["type"]) == ("0100284", "S1", "reefer")
    assert "stowage" not in first
    assert all(reading.flags == ("no_zone",) for reading in readings)


def test_local_time_is_taken_at_its_offset() -> None:
    payload = f"{HEAD}{BOX}UNT+5+7'".encode()
    [reading] = Edifact(offset_ns=8 * 3_600 * NS).decode(payload)
    assert (reading.ts, reading.flags) == (parse_rfc3339("2026-11-23T08:15:00+08:00"), ())


def test_the_sender_is_the_device_unless_the_topic_names_one() -> None:
    payload = f"UNB+UNOA:1+CNNGBBLCT+ABC+261123:0815+77'{HEAD}EQD+CN+CSQU3054383'UNT+4+7'UNZ+1+77'".encode()
    [reading] = Edifact().decode(payload)
    assert (reading.device, reading.ts) == ("CNNGBBLCT", parse_rfc3339("2026-11-23T08:15:00Z"))
    assert Edifact().decode(payload, "port/CNNGB-BLCT/rfid-gate/TOS/edifact")[0].device == ""


# --- what does not add up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segments", "flag"),
    [
        ((HEAD, BOX, "UNT+99+7'"), "segment_count"),
        ((HEAD, BOX, "UNT+x+7'"), "segment_count"),
        ((HEAD, BOX), "segment_count"),
        ((HEAD, BOX, "UNT+5+8'"), "message_reference"),
        ((HEAD, BOX, "CNT+16:2'UNT+6+7'"), "container_count"),
        ((HEAD, BOX, "UNT+5+7'UNZ+2+77'"), "interchange_count"),
        ((HEAD, BOX, "DTM+203:202613990815:203'UNT+6+7'"), "time"),
        ((HEAD, BOX, "LOC+165+XX999'UNT+6+7'"), "locode"),
        ((HEAD, BOX, "MEA+AAE+VGM+KGM:heavy'UNT+6+7'"), "weight"),
        ((HEAD, BOX, "TDT+1++3+++++?+?+:146'UNT+6+7'"), "plate"),
        ((HEAD, "EQD+CN+CSQU3054384+22G1'UNT+4+7'"), "check_digit"),
        ((HEAD, "EQD+CN+BOX 17+22G1'UNT+4+7'"), "container_number"),
        ((HEAD, "EQD+CN+CSQU3054383+0000'UNT+4+7'"), "size_type"),
    ],
)
def test_what_does_not_add_up_is_flagged_and_kept(segments: tuple[str, ...], flag: str) -> None:
    reading = one(*segments, tail=False)
    assert flag in reading.flags
    assert reading.happenings[0].type == "gate_in"
    assert data_of(reading)["container"]


def test_a_count_padded_with_zeros_is_right() -> None:
    assert "segment_count" not in one(HEAD, BOX, "UNT+000005+7'", tail=False).flags


def test_equipment_that_is_no_container_has_no_check_digit() -> None:
    reading = one(HEAD, "EQD+CH+CHASSIS 9'")
    assert reading.flags == ()
    assert (data_of(reading)["container"], data_of(reading)["equipment"]) == ("CHASSIS 9", "CH")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.UNDECODABLE),
        (b"UNA:+.? '", Reason.UNDECODABLE),
        (b"UNA:+", Reason.UNDECODABLE),
        (b"UNB+UNOA", Reason.UNDECODABLE),
        (b"UNB+UNOA:1'UNZ+0+1'", Reason.NO_SAMPLES),
        (b"hello", Reason.UNDECODABLE),
        (b"'" * (MAX_PAYLOAD + 1), Reason.TOO_LARGE),
    ],
)
def test_what_holds_no_message_is_refused(payload: bytes, reason: Reason) -> None:
    with pytest.raises(RejectError) as caught:
        Edifact().decode(payload)
    assert caught.value.reject.reason is reason


@given(st.text(max_size=40))
def test_any_text_in_a_container_number_is_kept(text: str) -> None:
    escaped = re.sub(r"([?:+'])", r"?\1", text).replace("?\n", " ")
    reading = one(HEAD, f"EQD+CN+{escaped}+22G1'", "UNT+4+7'", tail=False)
    assert reading.happenings[0].type == "gate_in"
    assert str(data_of(reading)["container"]).replace(" ", "").upper() == text.strip().replace(" ", "").upper()
