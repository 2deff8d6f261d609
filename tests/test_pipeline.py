"""The pipeline: every frame and sample is booked once, figures do not depend on batches, refusals name the field."""

import itertools
import json
import math
import random
import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import (
    SITE,
    T0,
    Shelf,
    accounts,
    any_frames,
    assert_every_frame_is_booked,
    cut,
    frame,
    numbered,
    pipeline_of,
    read_of,
    seeds,
    topic,
    values,
)

from devices.rejects import Reason
from devices.times import NS
from ingest.pipeline import PAYLOAD_HEAD, Pipeline
from store.interface import EventRecord, QuarantineRecord
from store.journal import DUPLICATE, RETAINED, Frame

CRANE, GATE = topic("quay-crane", "QC01"), topic("rfid-gate", "G1", "event")
LONG_AFTER = T0 + 7 * 86_400 * NS

cuts = st.lists(st.integers(0, 60), max_size=10)


def run(frames: list[Frame], at: list[int], *, settle: bool = True) -> Pipeline:
    pipeline = pipeline_of()
    for batch in cut(frames, at):
        pipeline.process(batch)
    if settle:
        pipeline.tick(LONG_AFTER)
    return pipeline


def folded(pipeline: Pipeline, *, with_late: bool = True) -> dict[Any, Any]:
    shelf = Shelf()
    shelf.write(pipeline.take_rows(1))
    return shelf.folded(with_late=with_late)


def quarantine_of(*frames: Frame, **config: Any) -> list[QuarantineRecord]:
    pipeline = pipeline_of(**config)
    pipeline.process(numbered(frames))
    assert_every_frame_is_booked(pipeline, len(frames))
    return pipeline.take_quarantine()


@settings(max_examples=300)
@given(any_frames, cuts)
def test_ledger_balances_after_every_batch(frames: list[Frame], at: list[int]) -> None:
    pipeline, fed = pipeline_of(), 0
    for batch in cut(frames, at):
        pipeline.process(batch)
        fed += len(batch)
        assert_every_frame_is_booked(pipeline, fed)
    pipeline.tick(LONG_AFTER)
    assert_every_frame_is_booked(pipeline, len(frames))
    # What is quarantined is listed, frame by frame and sample by sample.
    refused = pipeline.take_quarantine()
    assert len({record.id for record in refused}) == len(refused)
    booked = {key: count for key, count in accounts(pipeline).items() if key[1] == "quarantined"}
    assert {(record.uid, "quarantined", record.reason) for record in refused} == set(booked)
    assert sum("#" not in record.id for record in refused) <= sum(of_frames for of_frames, _ in booked.values())


@settings(max_examples=150)
@given(any_frames, cuts)
def test_nothing_depends_on_how_frames_are_cut_into_batches(frames: list[Frame], at: list[int]) -> None:
    one, other = run(frames, []), run(frames, at)
    assert accounts(one) == accounts(other)
    assert folded(one) == folded(other)
    assert sorted(one.take_quarantine(), key=str) == sorted(other.take_quarantine(), key=str)
    assert sorted(one.take_events(), key=str) == sorted(other.take_events(), key=str)
    assert [next(one.records_of([device])) for device in one.directory.devices[1:]] == [
        next(other.records_of([device])) for device in other.directory.devices[1:]
    ]
    assert one.samples == other.samples


@settings(max_examples=150)
@given(any_frames, seeds)
def test_the_same_frames_in_any_order_and_any_number_give_the_same_figures(
    frames: list[Frame], chance: random.Random
) -> None:
    # Without counter and time a frame sent twice on purpose counts twice.
    repeatable = [each for each in frames if not each.topic.endswith("cmd")]
    again = [*frames, *chance.choices(repeatable, k=10)] if repeatable else list(frames)
    chance.shuffle(again)
    one, other = run(frames, [], settle=False), run(numbered(again), [7, 20], settle=False)
    assert folded(one, with_late=False) == folded(other, with_late=False)


def total(pipeline: Pipeline, account: str) -> tuple[int, int]:
    rows = [counts for (_, name, _), counts in accounts(pipeline).items() if name == account]
    return sum(frames for frames, _ in rows), sum(samples for _, samples in rows)


@given(any_frames)
def test_samples_windowed_are_the_samples_of_the_rows(frames: list[Frame]) -> None:
    pipeline = run(frames, [], settle=False)
    windowed, late = total(pipeline, "windowed"), total(pipeline, "merged_late")
    rows = folded(pipeline)
    finest = [row for (tier, _, _), row in rows.items() if tier == 10]
    assert sum(row[0] for row in finest) == windowed[1] + late[1] == pipeline.samples
    assert sum(row[-1] for row in finest) == late[1]


def port_day(chance: random.Random) -> list[Frame]:
    """Lifts of two cranes and vehicles through a gate, each device's frames out of order by less than is waited for."""
    sent: list[tuple[int, Frame]] = []

    def send(second: float, where: str, body: dict[str, Any]) -> None:
        ts = T0 + round(second * NS)
        received = ts + chance.randrange(0, 1_900) * 1_000_000
        sent.append((received, frame(where, {**body, "ts": ts}, recv_ts=received)))

    sequence = itertools.count()
    for device, lift in itertools.product(("QC01", "QC02"), range(4)):
        begin, pick = lift * 60 + chance.random() * 5, chance.choice([30.0, -15.0])
        for step in range(50):
            locked = 10 <= step < 40
            where = pick if step < 25 else -pick
            body = {"spreader_locked": locked, "load_t": 25.0 * locked, "trolley_position_m": where}
            if chance.random() < 0.5:
                body = dict(reversed(body.items()))
            send(begin + step, topic("quay-crane", device), {**values(next(sequence), 0), "m": body})
    for nth in range(6):
        for _ in range(chance.randrange(1, 9)):
            body = read_of(next(sequence), 0, f"E2{nth}", rssi=-chance.randrange(50, 70), antenna=nth)
            send(nth * 35 + chance.random() * 8, GATE, body)
    return numbered(each for _, each in sorted(sent, key=lambda item: item[0]))


def found_by_detectors(pipeline: Pipeline) -> list[EventRecord]:
    made = {"crane_move", "gate_passage", "yard_move"}
    return sorted((event for event in pipeline.take_events() if event.type in made), key=str)


@settings(max_examples=15)
@given(seeds)
def test_detected_events_depend_neither_on_batches_nor_on_ticks(chance: random.Random) -> None:
    frames = port_day(chance)
    reference = run(frames, [])
    events, rows = found_by_detectors(reference), folded(reference)
    assert sum(event.type == "crane_move" for event in events) == 8
    for cadence in (1, 60):
        pipeline = pipeline_of()
        for batch in cut(frames, [chance.randrange(len(frames)) for _ in range(300 // cadence)]):
            pipeline.process(batch)
            if chance.random() < 1 / cadence:
                pipeline.tick(batch[-1].recv_ts)
        pipeline.tick(LONG_AFTER)
        assert pipeline.detection.late_for_detectors == 0
        assert found_by_detectors(pipeline) == events
        assert folded(pipeline) == rows


@settings(max_examples=25)
@given(seeds)
def test_detected_events_do_not_depend_on_order(chance: random.Random) -> None:
    frames = port_day(chance)
    again = [*frames, *chance.choices(frames, k=50)]
    chance.shuffle(again)
    one, other = run(frames, [10]), run(numbered(again), [100, 300])
    assert found_by_detectors(one) == found_by_detectors(other)
    assert folded(one, with_late=False) == folded(other, with_late=False)


REFUSED: list[tuple[str, Any, Reason, str]] = [
    ("nowhere", {"v": 1}, Reason.UNKNOWN_TOPIC, ""),
    (f"port/{SITE}/rocket/R1/telemetry", {"v": 1}, Reason.UNKNOWN_TOPIC, ""),
    (CRANE, b"", Reason.UNDECODABLE, ""),
    (CRANE, {"v": 1, "m": {"load_t": "abc"}}, Reason.WRONG_TYPE, "/m/load_t"),
    (CRANE, {"v": 7, "m": {"load_t": 1}}, Reason.UNSUPPORTED_VERSION, "/v"),
    (CRANE, {"v": 1, "m": {}}, Reason.NO_SAMPLES, "/m"),
    (CRANE, {"v": 1, "m": {"load_t": 500.01}}, Reason.OUT_OF_RANGE, "/m/load_t"),
    (CRANE, {"v": 1, "m": {"load_t": -20.01}}, Reason.OUT_OF_RANGE, "/m/load_t"),
    (CRANE, {"v": 1, "m": {"load_t": 1e308}}, Reason.OUT_OF_RANGE, "/m/load_t"),
    (CRANE, {"v": 1, "m": {"speed_mps": 1}}, Reason.UNKNOWN_METRIC, "/m/speed_mps"),
    (CRANE, {"v": 1, "m": {"moves": 1}}, Reason.UNKNOWN_METRIC, "/m/moves"),
    (CRANE, {"v": 1, "m": {"a/b": 1}}, Reason.UNKNOWN_METRIC, "/m/a~1b"),
    (CRANE, {"v": 1, "m": {"load_t": 1}, "ts": "yesterday"}, Reason.WRONG_TYPE, "/ts"),
    (CRANE, {"v": 1, "m": {"load_t": 1}, "ts": T0 + 300 * NS + 1}, Reason.CLOCK_FUTURE, "/ts"),
    (CRANE, {"v": 1, "m": {"load_t": 1}, "ts": 2**64 - 1}, Reason.CLOCK_FUTURE, "/ts"),
    (CRANE, b'{"v":1,"m":{"load_t":1},"ts":1%s}' % (b"0" * 4_000), Reason.CLOCK_FUTURE, "/ts"),
    (CRANE, {"v": 1, "m": {"load_t": 1}, "ts": "9999-12-31T23:59:59Z"}, Reason.CLOCK_FUTURE, "/ts"),
    (CRANE, b'{"v":1,"m":{"load_t":1},"boot":18446744073709551616,"seq":1}', Reason.WRONG_TYPE, "/boot"),
    (CRANE, {"v": 1, "m": {"load_t": 1}, "device": "QC02"}, Reason.IDENTITY_MISMATCH, "/device"),
    (topic("quay-crane", "QC01", "event"), {"v": 1, "type": "x", "site": "X"}, Reason.IDENTITY_MISMATCH, "/site"),
    (topic("quay-crane", "QC01", "status"), {"v": 1, "online": 1}, Reason.WRONG_TYPE, "/online"),
    (GATE, {"v": 1, "type": "tag_read"}, Reason.MISSING_FIELD, "/data/tag"),
    (GATE, {"v": 1, "type": "tag_read", "data": {"tag": 1}}, Reason.WRONG_TYPE, "/data/tag"),
    (GATE, {"v": 1, "type": "tag_read", "data": {"tag": "E" * 129}}, Reason.WRONG_TYPE, "/data/tag"),
    (GATE, {"v": 1, "type": "tag_read", "data": {"tag": "E2", "antenna": 1}}, Reason.MISSING_FIELD, "/data/rssi_dbm"),
]


@pytest.mark.parametrize(("where", "body", "reason", "pointer"), REFUSED)
def test_a_refusal_names_topic_reason_and_field(where: str, body: Any, reason: Reason, pointer: str) -> None:
    sent = frame(where, body)
    (record,) = quarantine_of(sent)
    assert (record.topic, record.reason, record.pointer) == (where, reason, pointer)
    assert record.payload == sent.payload[:PAYLOAD_HEAD]
    assert (record.recv_ns, record.payload_bytes) == (T0, len(sent.payload))
    assert 0 < len(record.detail) < 300
    assert record.uid == ("" if reason is Reason.UNKNOWN_TOPIC else "/".join(where.split("/")[1:4]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"antenna": "1"}, Reason.WRONG_TYPE),
        ({"antenna": True}, Reason.WRONG_TYPE),
        ({"antenna": None}, Reason.WRONG_TYPE),
        ({"antenna": math.nan}, Reason.NOT_FINITE),
        ({"antenna": math.inf}, Reason.NOT_FINITE),
        ({"antenna": 1e300}, Reason.OUT_OF_RANGE),
        ({"antenna": -1}, Reason.OUT_OF_RANGE),
        ({"rssi_dbm": math.nan}, Reason.NOT_FINITE),
        ({"rssi_dbm": 21}, Reason.OUT_OF_RANGE),
        ({"direction": "up"}, Reason.WRONG_TYPE),
        ({"direction": None}, Reason.WRONG_TYPE),
    ],
)
def test_a_tag_read_that_cannot_be_one_is_refused_whole(data: dict[str, Any], reason: Reason) -> None:
    body = read_of(1, T0, "E2")
    body["data"] |= data
    pipeline = pipeline_of()
    pipeline.process([frame(GATE, body, binary=True)])
    (record,) = pipeline.take_quarantine()
    assert (record.reason, record.pointer) == (reason, f"/data/{next(iter(data))}")
    assert pipeline.detection.reads == []
    assert pipeline.samples == 0
    assert_every_frame_is_booked(pipeline, 1)


def test_the_edges_of_what_is_allowed_are_accepted() -> None:
    bodies = [
        {"v": 1, "m": {"load_t": 500}, "ts": 946_684_800 * NS},
        {"v": 1, "m": {"load_t": -20}, "ts": T0 + 300 * NS},
        {"v": 1, "m": {"load_t": True}, "boot": 2**64 - 1, "seq": 2**63 - 1, "ts": "2026-11-23T16:00:00+08:00"},
    ]
    assert quarantine_of(*(frame(CRANE, body) for body in bodies)) == []


def test_a_float_spelt_like_the_mark_of_a_block_is_a_float() -> None:
    (value,) = struct.unpack(">d", b"\x40\x40f32\x00\x00\x00")
    body = {"v": 1, "boot": 5, "seq": 1, "ts": T0, "m": {"trolley_position_m": value}}
    sent = frame(CRANE, body, binary=True)
    assert b"f32" in sent.payload
    named = {"v": 1, "ts": T0, "device": "f32", "m": {"trolley_position_m": 1}}
    assert quarantine_of(sent, frame(CRANE.replace("QC01", "f32"), named)) == []


def test_what_merely_mentions_a_block_is_refused_for_what_it_is() -> None:
    cases = [
        (b"f32", Reason.UNDECODABLE, ""),
        (b'{"v":1,"ts":1,"m":{"f32":"x"}}', Reason.WRONG_TYPE, "/m/f32"),
        (b'{"v":1,"ts":1,"why":"f32","m":{}}', Reason.UNKNOWN_FIELD, "/why"),
        (b'{"v":1,"ts":1,"f32":"AAAA","dt":1,"t0":1,"names":["load_t"]}', Reason.UNKNOWN_FIELD, "/ts"),
        (b'{"v":1,"f32":"AAAA","dt":0,"t0":1,"names":["load_t"]}', Reason.WRONG_TYPE, "/dt"),
    ]
    for payload, reason, pointer in cases:
        (record,) = quarantine_of(frame(CRANE, payload))
        assert (record.reason, record.pointer) == (reason, pointer)


def test_a_column_bad_in_two_windows_is_listed_twice_and_booked_once_each() -> None:
    values_t = np.full(200, 3.0, "<f4")
    values_t[[10, 11, 150]] = [np.nan, 600, 900]
    body = {"v": 1, "boot": 5, "seq": 1, "t0": T0, "dt": NS // 10, "names": ["load_t"], "f32": values_t.tobytes()}
    pipeline = pipeline_of()
    pipeline.process([frame(CRANE, body, binary=True)])
    refused = pipeline.take_quarantine()
    assert [record.reason for record in refused] == [Reason.NOT_FINITE, Reason.OUT_OF_RANGE]
    assert len({record.id for record in refused}) == 2
    assert total(pipeline, "quarantined") == (0, 3)
    assert total(pipeline, "windowed") == (1, 197)
    assert_every_frame_is_booked(pipeline, 1)


def test_a_block_that_covers_more_than_an_hour_is_refused_before_it_is_cut() -> None:
    rows, dt = 500_000, 200 * NS
    body = {"v": 1, "t0": T0 - rows * dt, "dt": dt, "names": ["load_t"], "f32": bytes(4 * rows)}
    (record,) = quarantine_of(frame(CRANE, body, binary=True))
    assert (record.reason, record.pointer) == (Reason.OUT_OF_RANGE, "/dt")


def test_one_bad_value_leaves_the_others_of_its_frame() -> None:
    body = values(1, T0, load_t=600, hoist_height_m=4.0, moves=1, trolley_position_m=3.0, wind_speed_mps=-1)
    pipeline = pipeline_of()
    pipeline.process(numbered([frame(CRANE, body), frame(CRANE, body)]))
    refused = pipeline.take_quarantine()
    assert Counter(record.pointer for record in refused) == {"/m/load_t": 1, "/m/moves": 1, "/m/wind_speed_mps": 1}
    assert len({record.id for record in refused}) == 3
    uid = f"{SITE}/quay-crane/QC01"
    assert accounts(pipeline) == {
        (uid, "received", ""): (2, 10),
        (uid, "windowed", ""): (1, 2),
        (uid, "duplicate", ""): (1, 5),
        (uid, "quarantined", "out_of_range"): (0, 2),
        (uid, "quarantined", "unknown_metric"): (0, 1),
    }


def test_a_frame_of_which_nothing_is_left_is_quarantined_once() -> None:
    pipeline = pipeline_of()
    pipeline.process([frame(CRANE, values(1, T0, load_t=600, wind_speed_mps=-1, moves=1))])
    assert total(pipeline, "quarantined") == (1, 3)
    assert_every_frame_is_booked(pipeline, 1)


def test_somebody_elses_frame_does_not_use_up_a_devices_sequence() -> None:
    pipeline = pipeline_of()
    spoofed = {**values(1, T0, load_t=9), "device": "QC02"}
    pipeline.process([frame(CRANE, spoofed), frame(CRANE, values(1, T0, load_t=8)), frame(CRANE, spoofed)])
    assert [record.reason for record in pipeline.take_quarantine()] == [Reason.IDENTITY_MISMATCH] * 2
    assert total(pipeline, "windowed") == (1, 1)
    assert total(pipeline, "duplicate") == (0, 0)


def test_gaps_in_the_sequence_are_counted_as_lost() -> None:
    pipeline = pipeline_of()
    pipeline.process([frame(CRANE, values(seq, T0 + seq, load_t=1)) for seq in (3, 7, 4, 7, 10)])
    assert total(pipeline, "lost_before_journal") == (4, 0)
    assert total(pipeline, "duplicate") == (1, 1)


def test_a_number_of_a_gap_that_is_not_remembered_any_more_is_refused_as_too_old() -> None:
    where = topic("vehicle", "T1")
    every_other = [frame(where, values(2 * nth, T0 + nth, speed_mps=1)) for nth in range(4_200)]
    frames = numbered([*every_other, frame(where, values(1, T0 + 5_000, speed_mps=2))])
    (refused,) = quarantine_of(*frames)
    assert (refused.reason, refused.pointer) == (Reason.SEQUENCE_TOO_OLD, "/seq")


def test_a_frame_without_counter_is_recognised_by_its_content_and_time() -> None:
    body = {"v": 1, "ts": T0, "m": {"load_t": 1}}
    pipeline = pipeline_of()
    pipeline.process([frame(CRANE, body), frame(CRANE, body), frame(CRANE, {**body, "ts": T0 + 1})])
    assert total(pipeline, "duplicate") == (1, 1)
    assert total(pipeline, "windowed") == (2, 2)


@pytest.mark.parametrize(("flags", "duplicates"), [(1, 0), (1 | DUPLICATE, 1), (1 | RETAINED, 1)])
def test_without_time_only_the_brokers_word_makes_a_frame_a_repetition(flags: int, duplicates: int) -> None:
    body = {"v": 1, "m": {"load_t": 1}}
    pipeline = pipeline_of()
    pipeline.process([frame(CRANE, body), frame(CRANE, body, flags=flags, recv_ts=T0 + NS)])
    assert total(pipeline, "duplicate")[0] == duplicates
    assert total(pipeline, "windowed")[0] == 2 - duplicates


def test_different_events_of_one_instant_are_different_records() -> None:
    where = topic("quay-crane", "QC01", "event")
    fault: dict[str, Any] = {"v": 1, "type": "fault", "ts": T0}
    counted = [{**fault, "boot": 5, "seq": seq} for seq in (1, 2)]
    bodies = [{**fault, "data": {"code": code}} for code in (1, 2)] + counted
    timeless = {"v": 1, "type": "fault"}
    pipeline = pipeline_of()
    # The broker's repetitions are none; the same text twice without a time is two events.
    frames = numbered(frame(where, body) for body in (*bodies, *bodies, timeless, timeless))
    pipeline.process(frames)
    events = pipeline.take_events()
    assert len(events) == len({event.id for event in events}) == 6
    again = pipeline_of()
    again.process(frames)
    assert {event.id for event in again.take_events()} == {event.id for event in events}


def test_status_reports_coming_and_going_once() -> None:
    where, pipeline = topic("quay-crane", "QC01", "status"), pipeline_of()
    will = frame(where, {"v": 1, "online": False}, recv_ts=T0 + NS)
    pipeline.process([frame(where, {"v": 1, "online": True, "info": {"maker": "ZPMC"}}), will])
    pipeline.process([will._replace(recv_ts=T0 + 2 * NS)])
    assert [event.type for event in pipeline.take_events()] == ["device_online", "device_offline"]
    device = pipeline.directory.devices[1]
    assert next(pipeline.records_of([device])).info == {"maker": "ZPMC"}
    assert not next(pipeline.records_of([device])).online


def test_devices_beyond_the_cap_are_refused_and_the_known_go_on() -> None:
    pipeline = pipeline_of(max_devices=3)
    frames = [frame(topic("vehicle", f"T{nth % 5}"), values(nth, T0, x_m=1)) for nth in range(20)]
    frames += [frame(topic("vehicle", f"T{nth % 5}", "status"), {"v": 1, "online": True}) for nth in range(5)]
    pipeline.process(numbered(frames))
    refused = pipeline.take_quarantine()
    assert {record.reason for record in refused} == {Reason.CARDINALITY}
    assert {record.uid for record in refused} == {""}
    assert len(refused) == 10
    assert len(pipeline.directory.devices) - 1 == 3
    assert_every_frame_is_booked(pipeline, 25)


def test_series_beyond_the_cap_are_refused_sample_by_sample() -> None:
    pipeline = pipeline_of(max_series=2)
    pipeline.process(
        numbered(frame(topic("vehicle", "T1"), values(nth, T0, x_m=1, y_m=2, fuel_l=3)) for nth in range(4))
    )
    refused = pipeline.take_quarantine()
    assert {(record.reason, record.pointer) for record in refused} == {(Reason.CARDINALITY, "/m/fuel_l")}
    assert total(pipeline, "windowed") == (4, 8)
    assert total(pipeline, "quarantined") == (0, 4)
    pipeline.process([frame(topic("vehicle", "T1", "cmd"), b"go")])
    assert total(pipeline, "quarantined") == (1, 5)
    assert_every_frame_is_booked(pipeline, 5)


def test_the_cap_on_series_does_not_stop_the_detectors() -> None:
    frames = port_day(random.Random(1))
    series = len({(each.topic, name) for each in frames for name in json.loads(each.payload).get("m", {})})
    pipeline = pipeline_of(max_series=series + 3)
    pipeline.process(frames)
    pipeline.tick(LONG_AFTER)
    assert len(found_by_detectors(pipeline)) >= 8
    moves = {
        key.device: row[1] for (tier, _, key), row in folded(pipeline).items() if key.metric == "moves" and tier == 3600
    }
    assert sum(moves.values()) == 8


def test_refusals_beyond_the_bound_are_counted_without_their_payload() -> None:
    pipeline = pipeline_of(max_quarantine_per_commit=5)
    pipeline.process(numbered(frame(CRANE, b"poison") for _ in range(12)))
    assert len(pipeline.take_quarantine()) == 5
    assert pipeline.quarantine_dropped == 7
    assert total(pipeline, "quarantined") == (12, 0)
    pipeline.process([frame(CRANE, b"poison")])
    assert len(pipeline.take_quarantine()) == 1


def test_a_large_payload_is_kept_by_its_head_and_hash() -> None:
    poison = bytes(range(256)) * 400
    (record,) = quarantine_of(frame(CRANE, poison))
    assert record.payload == poison[:PAYLOAD_HEAD]
    assert record.payload_bytes == len(poison)
    assert len(record.payload_sha256) == 64


def test_a_wrong_clock_does_not_touch_a_neighbour() -> None:
    def neighbour(second: int) -> Frame:
        return frame(topic("quay-crane", "QC02"), values(second, T0 + second * NS, load_t=1), recv_ts=T0 + second * NS)

    chance = random.Random(3)
    wrong = [
        frame(CRANE, values(nth, chance.choice([0, T0 - 3_600 * NS, T0 + 299 * NS, T0 + 86_400 * NS]), load_t=2),
              recv_ts=T0 + nth * NS)
        for nth in range(60)
    ]  # fmt: skip
    alone, together = pipeline_of(), pipeline_of()
    for nth in range(60):
        alone.process([neighbour(nth)])
        together.process([wrong[nth], neighbour(nth)])
        for pipeline in (alone, together):
            pipeline.tick(T0 + nth * NS)
    uid = f"{SITE}/quay-crane/QC02"
    for pipeline in (alone, together):
        assert {key: count for key, count in accounts(pipeline).items() if key[0] == uid} == {
            (uid, "received", ""): (60, 60),
            (uid, "windowed", ""): (60, 60),
        }
    rows = [
        {place: row for place, row in folded(pipeline).items() if place[2].device == "QC02"}
        for pipeline in (alone, together)
    ]
    assert rows[0] == rows[1]


def test_live_values_are_the_newest_by_event_time_and_told_once() -> None:
    pipeline = pipeline_of()
    seconds = [0, 5, 3, 4]
    pipeline.process([frame(CRANE, values(second, T0 + second * NS, load_t=second)) for second in seconds])
    assert pipeline.take_live() == {(SITE, "quay-crane"): {"QC01": {"load_t": 5.0}}}
    assert pipeline.take_live() == {}
    pipeline.process([frame(CRANE, values(9, T0, load_t=1))])
    assert pipeline.take_live() == {}
    (device,) = pipeline.touched()
    assert next(pipeline.records_of([device])).latest == {"load_t": (T0 + 5 * NS, 5.0)}


def test_a_device_may_change_its_names_at_any_time() -> None:
    bodies: list[dict[str, float | bool]] = [
        {"load_t": 1.0, "hoist_height_m": 2.0},
        {"hoist_height_m": 3.0, "load_t": 4.0},
        {"load_t": 5.0},
        {"load_t": 6.0, "no_such_metric": 7.0, "hoist_height_m": 8.0},
        {},
        {"load_t": 9.0, "hoist_height_m": 10.0},
    ]
    frames = [frame(CRANE, {**values(seq, T0 + seq * NS), "m": body}) for seq, body in enumerate(bodies)]
    pipeline = pipeline_of()
    pipeline.process(numbered(frames))
    assert_every_frame_is_booked(pipeline, len(frames))
    rows = {key.metric: row for (tier, _, key), row in folded(pipeline).items() if tier == 60}
    assert rows["load_t"][:2] == (5, 25_000)
    assert rows["hoist_height_m"][:2] == (4, 23_000)
    reasons = [(record.reason, record.pointer) for record in pipeline.take_quarantine()]
    assert reasons == [(Reason.UNKNOWN_METRIC, "/m/no_such_metric"), (Reason.NO_SAMPLES, "/m")]


def test_a_first_frame_without_values_is_refused() -> None:
    (refused,) = quarantine_of(frame(CRANE, {**values(0, T0), "m": {}}))
    assert (refused.reason, refused.pointer) == (Reason.NO_SAMPLES, "/m")
