"""Cranes, readers and reports in their own formats, through ingest: what they say becomes windows, passages, events."""

import json
from typing import Any

import pytest
from made_frames import SITE, T0, accounts, assert_every_frame_is_booked, frame, numbered, pipeline_of, topic
from typer.testing import CliRunner

from bench.frames import FRAMES, START_NS, impinj_read, zebra_read
from devices.codecs.impinj import Impinj
from devices.codecs.readings import Happening
from devices.codecs.registry import CODECS
from devices.codecs.tic40 import encode
from devices.codecs.tic40_flat import encode_flat
from devices.codecs.zebra import Zebra
from devices.rejects import Reason, RejectError
from devices.times import NS, format_rfc3339
from devices.vocabulary import DeviceClass
from ingest.pipeline import Pipeline
from ingest.sources import Source
from quayflow.main import app
from store.journal import DUPLICATE, Frame

CLASS_OF = {
    "tic40": "quay-crane", "tic40-flat": "quay-crane", "impinj": "rfid-gate", "zebra": "rfid-gate",
    "llrp": "rfid-gate", "epc": "rfid-gate", "iso6346": "rfid-gate", "edifact": "rfid-gate",
}  # fmt: skip


def run(*frames: Frame, **config: Any) -> Pipeline:
    pipeline = pipeline_of(**config)
    pipeline.process(numbered(frames))
    assert_every_frame_is_booked(pipeline, len(frames))
    return pipeline


def metrics_of(pipeline: Pipeline) -> set[str]:
    return {key.metric for key in pipeline.windows.take_rows(1).keys}


@pytest.mark.parametrize("name", CLASS_OF)
def test_every_made_message_is_booked_and_its_second_delivery_changes_nothing(name: str) -> None:
    device = {"tic40": "STS07", "tic40-flat": "STS07"}.get(name, "G1")
    frames = [frame(topic(CLASS_OF[name], device, name), payload, recv_ts=START_NS + NS) for payload in FRAMES[name]]
    pipeline = run(*frames)
    samples = pipeline.samples
    assert samples > 0
    pipeline.process([each._replace(offset=10_000 + nth, flags=1 | DUPLICATE) for nth, each in enumerate(frames)])
    assert pipeline.samples == samples
    assert pipeline.ledger.balanced()


def test_a_cranes_message_becomes_the_metrics_of_the_crane() -> None:
    values = {"hoist_height_m": 12.5, "load_t": 24.0, "spreader_locked": True, "gross_load_t": 36.0}
    where = topic("quay-crane", "STS07", "tic40")
    for payload in (
        encode("STS07", DeviceClass.QUAY_CRANE, T0, values),
        encode_flat("STS07", DeviceClass.QUAY_CRANE, T0, values),
    ):
        name = "tic40" if b'"che":' in payload else "tic40-flat"
        pipeline = run(frame(where.replace("tic40", name), payload))
        assert pipeline.take_quarantine() == []
        assert metrics_of(pipeline) == set(values)


def test_values_that_are_old_or_unknown_are_quarantined_by_name_and_the_others_count() -> None:
    [trapped, *_] = FRAMES["tic40"]
    pipeline = run(frame(topic("quay-crane", "STS07", "tic40"), trapped, recv_ts=START_NS + NS))
    records = pipeline.take_quarantine()
    assert sorted(record.reason for record in records) == [Reason.STALE] + [Reason.UNKNOWN_METRIC] * 3
    assert {record.pointer for record in records} >= {"/che.spreader.locking.totalcounter"}
    found = accounts(pipeline)
    uid = f"{SITE}/quay-crane/STS07"
    assert found[uid, "windowed", ""] == (1, 9)
    assert found[uid, "flagged", "no_zone"] == (1, 0)


def test_a_crane_that_speaks_of_another_is_refused() -> None:
    payload = encode("STS08", DeviceClass.QUAY_CRANE, T0, {"load_t": 24.0})
    [record] = run(frame(topic("quay-crane", "STS07", "tic40"), payload)).take_quarantine()
    assert record.reason == Reason.IDENTITY_MISMATCH


def test_one_source_brings_all_machines_of_a_gateway() -> None:
    source = Source("tic40", SITE, DeviceClass.QUAY_CRANE, ("terminal/#",))
    machines = [("STS07", DeviceClass.QUAY_CRANE), ("RTG12", DeviceClass.YARD_CRANE), ("TT101", DeviceClass.VEHICLE)]
    trees = [json.loads(encode(name, kind, T0, {"working": True}))["che"][0] for name, kind in machines]
    payload = {"msg": {"timestamp": format_rfc3339(T0)}, "che": trees}
    pipeline = run(frame("terminal/gateway-1", payload), sources=(source,))
    assert {device.uid for device in pipeline.directory.devices[1:]} == {
        f"{SITE}/{kind}/{name}" for name, kind in machines
    }
    assert pipeline.samples == 3


def test_a_terminal_that_writes_its_local_time_is_not_hours_ahead() -> None:
    tree = json.loads(encode("STS07", DeviceClass.QUAY_CRANE, T0, {"load_t": 24.0}))
    local = format_rfc3339(T0 + 8 * 3_600 * NS).removesuffix("Z")
    payload = json.dumps(tree).replace(format_rfc3339(T0), local).encode()
    told, untold = (
        run(
            frame("terminal/1", payload),
            sources=(Source("tic40", SITE, DeviceClass.QUAY_CRANE, ("terminal/#",), zone),),
        )
        for zone in ("+08:00", "")
    )
    assert (told.samples, told.take_quarantine()) == (1, [])
    assert [record.reason for record in untold.take_quarantine()] == [Reason.CLOCK_FUTURE]


def test_reads_of_a_reader_are_joined_to_a_passage() -> None:
    """A truck before an R700: eight reads in four seconds, and silence."""
    where = topic("rfid-gate", "G1", "impinj")
    reads = [json.loads(impinj_read(nth)) for nth in range(8)]
    frames = []
    for nth, read in enumerate(reads):
        ts = T0 + nth * NS // 2
        read["timestamp"] = format_rfc3339(ts)
        frames.append(frame(where, read, recv_ts=ts))
    pipeline = run(*frames)
    pipeline.tick(T0 + 600 * NS)
    events = [event for event in pipeline.take_events() if event.type == "gate_passage"]
    assert [(event.data["tag"], event.data["reads"]) for event in events] == [("E2801191A5030065F26CCBFF", 8)]
    assert metrics_of(pipeline) >= {
        "reads",
        "rssi_dbm",
        "antenna",
        "frequency_mhz",
        "transmit_power_dbm",
        "passages_in",
    }


def test_a_read_without_antenna_and_signal_strength_counts_as_a_read() -> None:
    message = {"type": "SIMPLE", "timestamp": format_rfc3339(T0), "data": {"idHex": "E28011"}}
    pipeline = run(frame(topic("rfid-gate", "G1", "zebra"), message))
    assert pipeline.take_quarantine() == []
    assert metrics_of(pipeline) == {"reads"}
    assert accounts(pipeline)[f"{SITE}/rfid-gate/G1", "windowed", ""] == (1, 1)


def test_a_frequency_in_no_band_is_kept_as_a_fact() -> None:
    reads = [{"epc": "E280116060000209", "firstSeenTimestamp": T0 // 1_000, "frequency": khz} for khz in (920_625, 7)]
    message = {"mac": "00:16:25:13:F9:0B", "readerName": "R1", "tag_reads": reads}
    good, odd = Impinj().decode(json.dumps(message).encode())
    assert (good.values, good.info) == ({"frequency_mhz": 920.625}, {"reader": "R1"})
    assert (odd.values, odd.info) == ({}, {"reader": "R1", "frequency": 7})


def test_a_tid_in_base64_is_read_as_one_in_digits_is() -> None:
    def tag(**written: str) -> dict[str, Any]:
        message = {"timestamp": format_rfc3339(T0), "eventType": "tagInventory", "tagInventoryEvent": written}
        (reading,) = Impinj().decode(json.dumps(message).encode())
        return dict(reading.happenings[0].data)

    both = {"tag": "E2801191A5030065F26CCBFF", "tid": "E280112000000000"}
    assert (
        tag(epc="4oARkaUDAGXybMv_", tid="4oARIAAAAAA=")
        == tag(epc="4oARkaUDAGXybMv_", tidHex="e280112000000000")
        == both
    )
    assert tag(tid="4oARIAAAAAA=")["tag"] == tag(tidHex="E280112000000000")["tag"] == "E280112000000000"
    with pytest.raises(RejectError) as caught:
        tag(epcHex="E280", tid="!")
    assert caught.value.reject.pointer == "/tagInventoryEvent/tid"


def test_an_event_of_a_zebra_reader_keeps_what_it_says() -> None:
    pin = {
        "type": "GPI",
        "component": "RC",
        "timestamp": format_rfc3339(T0),
        "data": {"pin": 1, "state": "HIGH", "x": [1]},
    }
    for payload in (json.dumps(pin), f"[{zebra_read(1).decode()},{json.dumps(pin)}]"):
        reading = Zebra().decode(payload.encode())[-1]
        assert reading.happenings == (Happening("gpi", {"component": "RC", "pin": 1, "state": "HIGH"}),)


@pytest.mark.parametrize("between", [b"\n", b","])
def test_events_keep_what_they_say_also_beside_other_objects(between: bytes) -> None:
    said = [
        {"timestamp": format_rfc3339(T0), "eventType": kind, f"{kind}Event": data}
        for kind, data in (("antennaConnected", {"antennaPort": 3}), ("inventoryStatus", {"status": "running"}))
    ]
    wrong = b'{"eventType":7}'
    objects = [wrong, *(json.dumps(each).encode() for each in said)]
    payload = between.join(objects) if between == b"\n" else b"[" + between.join(objects) + b"]"
    found = Impinj().decode(payload)
    assert [happening for reading in found for happening in reading.happenings] == [
        Happening("antennaConnected", {"antennaPort": 3}),
        Happening("inventoryStatus", {"status": "running"}),
    ]
    assert [each.pointer for each in found[0].refused] == ["/0/eventType"]


def test_of_several_objects_the_place_of_the_one_that_is_wrong_is_told() -> None:
    objects = [{"eventType": 7}, {"timestamp": format_rfc3339(T0)}, {"timestamp": format_rfc3339(T0), "eventType": "x"}]
    (reading,) = Impinj().decode(json.dumps(objects).encode())
    assert [each.pointer for each in reading.refused] == ["/0/eventType", "/1/eventType"]


def test_reads_that_a_reader_left_out_are_counted_per_device() -> None:
    frames = [
        frame(topic("rfid-gate", gate, "zebra"), zebra_read(nth), recv_ts=START_NS + NS)
        for gate, nth in (("G1", 1), ("G2", 40), ("G1", 2), ("G2", 41), ("G1", 9))
    ]
    found = accounts(run(*frames))
    assert found[f"{SITE}/rfid-gate/G1", "flagged", "gap"] == (1, 0)
    assert (f"{SITE}/rfid-gate/G2", "flagged", "gap") not in found


def test_a_gate_report_is_an_event_with_its_flags_counted() -> None:
    payload = FRAMES["edifact"][1].replace(b"COARRI", b"CODECO").replace(b"BGM+46", b"BGM+36")
    pipeline = run(frame(topic("rfid-gate", "TOS", "edifact"), payload, recv_ts=START_NS + NS))
    events = [event for event in pipeline.take_events() if event.type == "gate_out"]
    assert [event.data["container"] for event in events] == ["TESI1120274", "MSKU0308961"]
    assert accounts(pipeline)[f"{SITE}/rfid-gate/TOS", "flagged", "check_digit"] == (1, 0)


@pytest.mark.parametrize("name", CLASS_OF)
def test_the_verb_prints_what_every_codec_reads(name: str) -> None:
    assert name in CODECS
    for payload in FRAMES[name]:
        result = CliRunner().invoke(app, ["decode", "--codec", name, "-"], input=payload)
        assert result.exit_code == 0, result.output
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert lines
        assert all(line.keys() & {"values", "events", "online", "info", "unknown"} for line in lines)
