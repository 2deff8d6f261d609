"""Identities that do not add up, wherever they enter: flagged, kept and counted, and no reason to lose a message."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import T0, accounts, frame, pipeline_of
from test_registry_command import run

from devices.codecs import jt808_bodies as bodies
from devices.codecs.iso6346 import check_digit
from devices.codecs.jt808_frames import REGISTER, frame_of
from devices.codecs.tic40 import encode
from devices.identities import kind_of, odd_identities, oddities
from devices.times import NS
from devices.vocabulary import DeviceClass
from ingest.pipeline import Pipeline
from simulators import profiles
from simulators.messages import PortMessages
from store.registry_entries import Site, Tag

SITE = "CNNGB-DEMO"
GATE, CRANE, TRUCK = f"{SITE}/rfid-gate/G1", f"{SITE}/quay-crane/QC01", f"{SITE}/vehicle/T-07"
SGTIN = "3074257BF7194E4000001A85"
TID = "E28011700000020F1A2B3C4D"
GOOD, WRONG = "CSQU3054383", "CSQU3054384"
LETTERS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3)


def flagged(pipeline: Pipeline, uid: str) -> dict[str, int]:
    rows = accounts(pipeline).items()
    return {why: frames for (of, account, why), (frames, _) in rows if (of, account) == (uid, "flagged")}


def windowed(pipeline: Pipeline, uid: str) -> int:
    return accounts(pipeline)[uid, "windowed", ""][0]


# --- what is judged ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "flags"),
    [
        (SGTIN, ()),
        (SGTIN.lower(), ()),
        (TID, ()),
        (SGTIN[:-4], ("epc",)),
        (f"{SGTIN[:2]}FC{SGTIN[4:]}", ("epc",)),
        ("00" * 12, ("epc_header",)),
        ("FF" * 12, ("epc_header",)),
        (TID[:-2], ("tag_length",)),
        ("00" * 11, ("tag_length", "epc_header")),
        ("TRUCK-7", ("tag_form",)),
        (TID[:-1], ("tag_form",)),
    ],
)
def test_a_tag_is_judged_by_its_form_its_length_and_its_header(tag: str, flags: tuple[str, ...]) -> None:
    assert oddities("tag", tag) == flags


@given(LETTERS, st.sampled_from("UJZ"), st.integers(0, 999_999), st.integers(0, 9))
def test_a_container_is_flagged_exactly_where_its_check_digit_is_wrong(
    owner: str, category: str, serial: int, digit: int
) -> None:
    ten = f"{owner}{category}{serial:06}"
    wrong = digit != check_digit(ten)
    assert odd_identities({"container": f"{ten}{digit}"}) == (("check_digit",) if wrong else ())


@given(
    st.dictionaries(st.text(max_size=40), st.none() | st.booleans() | st.floats() | st.text(max_size=140), max_size=8)
)
def test_whatever_the_facts_are_judging_them_does_not_fail(facts: dict[str, Any]) -> None:
    for named in (facts, {f"{name}.container.id": value for name, value in facts.items()}):
        assert len(odd_identities(named)) == len(set(odd_identities(named)))


@given(st.sampled_from(["tag", "container", "size_type", "plate", "locode"]), st.text(max_size=140))
def test_any_text_is_judged_and_the_same_text_the_same_way(kind: str, text: str) -> None:
    assert oddities(kind, text) == oddities.__wrapped__(kind, text)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tag", "tag"),
        ("epcHex", "tag"),
        ("container", "container"),
        ("che.spreader.container.id", "container"),
        ("cargo.containerNumber#12", "container"),
        ("container_ids", "container"),
        ("container.sizeType", "size_type"),
        ("iso_type", "size_type"),
        ("plate", "plate"),
        ("licence-plate", "plate"),
        ("locode", "locode"),
        ("plate_colour", ""),
        ("container_weight_t", ""),
        ("spreader_size_ft", ""),
        ("stage", ""),
        ("message", ""),
        ("", ""),
    ],
)
def test_what_a_fact_is_its_name_says(name: str, kind: str) -> None:
    assert kind_of(name) == kind


# --- where identities enter -------------------------------------------------------------------------------------------


def read(seq: int, tag: str) -> dict[str, Any]:
    data = {"tag": tag, "antenna": 1, "rssi_dbm": -60.0}
    return {"v": 1, "boot": 5, "seq": seq, "ts": T0 + seq, "type": "tag_read", "data": data}


def test_odd_tags_at_a_gate_are_read_joined_and_counted_once_each() -> None:
    pipeline = pipeline_of()
    tags = [SGTIN, TID, SGTIN[:-4], "00" * 12, "TRUCK-7"]
    frames = [frame(f"port/{GATE}/event", read(seq, tag)) for seq, tag in enumerate(tags)]
    pipeline.process(frames)
    pipeline.process(frames)
    assert flagged(pipeline, GATE) == {"epc": 1, "epc_header": 1, "tag_form": 1}
    assert windowed(pipeline, GATE) == 5
    assert pipeline.ledger.balanced()


def test_containers_in_events_of_a_crane_and_facts_of_a_status_are_judged() -> None:
    pipeline = pipeline_of()
    event = {"v": 1, "boot": 5, "ts": T0, "type": "container_lifted"}
    bodies_of = [
        {**event, "seq": seq, "data": {"container_id": number}} for seq, number in enumerate([GOOD, WRONG, "?"])
    ]
    pipeline.process([frame(f"port/{CRANE}/event", body) for body in bodies_of])
    assert flagged(pipeline, CRANE) == {"check_digit": 1, "container_number": 1}
    assert windowed(pipeline, CRANE) == 3
    for uid in (TRUCK, "ZZ111-X/vehicle/T-1"):
        status = {"v": 1, "boot": 5, "seq": 0, "ts": T0, "online": True, "info": {"plate": "浙B12345", "driver": "Li"}}
        pipeline.process([frame(f"port/{uid}/status", status)])
    assert flagged(pipeline, TRUCK) == {}
    assert flagged(pipeline, "ZZ111-X/vehicle/T-1") == {"locode": 1}


@pytest.mark.parametrize(
    ("plate", "colour", "flags"), [("浙B12345", 2, {}), ("浙B1", 2, {"plate": 1}), ("LSVAA49J132047371", 0, {})]
)
def test_the_plate_of_a_terminal_s_registration_is_judged(plate: str, colour: int, flags: dict[str, int]) -> None:
    pipeline = pipeline_of()
    body = bytearray(bodies.registration(plate))
    body[len(body) - len(plate.encode("gbk")) - 1] = colour
    topic = f"port/{SITE}/vehicle/13812345678/jt808"
    pipeline.process([frame(topic, frame_of(REGISTER, "13812345678", 1, bytes(body)))])
    device = f"{SITE}/vehicle/13812345678"
    assert (flagged(pipeline, device), windowed(pipeline, device)) == (flags, 1)


@pytest.mark.parametrize("where", ["container", "cargo", "spreader"])
def test_a_container_that_a_tic_message_names_is_judged_and_the_message_kept(where: str) -> None:
    for number, flags in ((GOOD, {}), (WRONG, {"check_digit": 1})):
        pipeline = pipeline_of()
        tree = json.loads(encode("QC01", DeviceClass.QUAY_CRANE, T0, {"hoist_height_m": 12.5}))
        tree["che"][0] |= (
            {where: {"id": number}} if where == "container" else {where: [{"container": [{"id": number}]}]}
        )
        pipeline.process([frame(f"port/{CRANE}/tic40", json.dumps(tree).encode())])
        assert (flagged(pipeline, CRANE), windowed(pipeline, CRANE)) == (flags, 1)
        assert pipeline.directory.devices[-1].info["container_id"] == number


def test_a_simulated_port_has_no_odd_identity() -> None:
    pipeline = pipeline_of()
    messages = PortMessages(profiles.load("small"), 7, SITE, T0)
    sent = [*messages.hello(), *messages.advance(600 * NS)]
    frames = [frame(each.topic, each.payload, recv_ts=T0 + 600 * NS) for each in sent]
    pipeline.process(frames)
    flags = {why for (_, account, why) in accounts(pipeline) if account == "flagged"}
    assert frames
    assert flags == set()


# --- the registry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "flags"),
    [
        (Tag(tag=SGTIN, carrier=GOOD), ()),
        (Tag(tag=SGTIN, carrier=WRONG), ("check_digit",)),
        (Tag(tag="00" * 12, carrier="C1"), ("epc_header", "container_number")),
        (Tag(tag=TID, carrier="浙B12345", type="truck"), ()),
        (Tag(tag=TID, carrier="浙B1", type="Truck"), ("plate",)),
        (Tag(tag=TID, carrier="anything", type="pallet"), ()),
        (Site(site="CNNGB-DEMO"), ()),
        (Site(site="ZZ111-X"), ("locode",)),
    ],
)
def test_an_entry_of_the_registry_is_kept_and_says_what_is_odd(entry: Tag | Site, flags: tuple[str, ...]) -> None:
    assert entry.oddities() == flags


def test_an_import_names_and_counts_what_is_odd_and_takes_it_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    rows = [f"{tag},{carrier},container" for tag, carrier in ((SGTIN, GOOD), (TID, WRONG), ("FF" * 12, WRONG))]
    path.write_text("\n".join(["tag,carrier,type", *rows]) + "\n")
    (tmp_path / "data").mkdir()
    told = json.loads(run(tmp_path / "data", "registry", "import", str(path), "--kind", "tag", "--json").stdout)
    assert (len(told["changes"]), told["flags"]) == (3, {"check_digit": 2, "epc_header": 1})
    assert [each["key"] for each in told["odd"]] == [TID, "FF" * 12]
