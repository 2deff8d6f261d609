"""Sparkplug B: golden bytes, births and aliases, sequence and deaths, and rebirths without storms."""

import json
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgpack
import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import SITE, accounts, frame, numbered, pipeline_of
from paho.mqtt.enums import CallbackAPIVersion

from bench.tracker_frames import SIGNALS, sparkplug_birth, sparkplug_data
from devices.codecs.readings import Reading
from devices.codecs.sparkplug import (
    FIRST_PATIENCE_NS,
    LONGEST_PATIENCE_NS,
    MOST_AT_ONCE,
    REORDER_NS,
    Sparkplug,
    metric_of,
)
from devices.codecs.sparkplug_payloads import BOOLEAN, DOUBLE, INT8, INT16, INT32, INT64, Metric, read, signed, write
from devices.rejects import RejectError
from devices.times import NS
from devices.vocabulary import DeviceClass
from engines.mosquitto import running_mosquitto
from faults.ingest_process import IngestProcess
from ingest.checkpoint import WorkerBlob, freeze, thaw
from ingest.pipeline import Pipeline
from ingest.sources import Source

MS = 1_795_421_730_000
T0 = MS * 10**6
NODE, DEVICE = "spBv1.0/quay/{}/edge1", "spBv1.0/quay/{}/edge1/QC01"
EDGE, CRANE = "quay:edge1", "quay:edge1:QC01"


def born(codec: Sparkplug | None = None, ts: int = MS, death: int = 3) -> Sparkplug:
    codec = codec or Sparkplug()
    codec.decode(birth(ts, death), NODE.format("NBIRTH"))
    return codec


def birth(ts: int = MS, death: int = 3, seq: int = 0) -> bytes:
    return write(ts, seq, [Metric("bdSeq", datatype=8, value=death), Metric("Crane/load_t", 1, ts, DOUBLE, 2.5)])


def data(seq: int | None, value: float = 1.0, ts: int = MS + 1_000, alias: int = 1) -> bytes:
    return write(ts, seq, [Metric("", alias, ts, DOUBLE, value)])


def told(codec: Sparkplug, seq: int | None, **more: Any) -> Reading:
    [reading] = codec.decode(data(seq, **more), NODE.format("NDATA"))
    return reading


def test_golden_bytes(recorded: Path) -> None:
    golden = json.loads((recorded / "sparkplug" / "golden_bytes.json").read_text())
    death, locked, rebirth, command = (bytes.fromhex(text) for text in golden.values())
    assert write(1_755_460_000_000, None, [Metric("bdSeq", datatype=4, value=3)]) == death
    found = read(locked)
    assert (found.seq, found.metrics) == (7, [Metric("", 1, 1_755_460_000_000, 12, "locked")])
    assert write(1_755_460_000_000, 7, found.metrics) == locked
    asked = [Metric("Node Control/Rebirth", datatype=BOOLEAN, value=True)]
    assert write(1_790_000_000_000, None, asked) == rebirth
    # A command that carries a number against the rule is one all the same.
    [reading] = Sparkplug().decode(command, DEVICE.format("DCMD"))
    assert [each.type for each in reading.happenings] == ["cmd"]


def test_published_payloads_in_the_order_of_a_nodes_life(recorded: Path) -> None:
    vectors = json.loads((recorded / "sparkplug" / "umh_test_vectors.json").read_text())
    for vector in vectors:
        assert len(read(bytes.fromhex(vector["hex"])).metrics) == vector["metric_count"]
    by_name = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in vectors}
    codec = Sparkplug()
    with pytest.raises(RejectError, match="no_birth"):
        codec.decode(by_name["NDATA_BEFORE_BIRTH"], NODE.format("NDATA"))
    [first] = codec.decode(by_name["NBIRTH_V1"], NODE.format("NBIRTH"))
    assert (first.seq, first.online, first.unknown) == (0, True, {"Temperature": 21.5})
    for name, seq, value in (("NDATA_V1", 1, 22.5), ("NDATA_GAP", 5, 27.0), ("NDATA_WRAPAROUND", 256, 30.0)):
        if name == "NDATA_WRAPAROUND":
            for number in range(6, 256):
                told(codec, number, alias=100)
        [reading] = codec.decode(by_name[name], NODE.format("NDATA"))
        assert (reading.boot, reading.seq, reading.unknown) == (first.boot, seq, {"Temperature": value})


@given(st.lists(st.integers(0, 8), min_size=50, max_size=700), st.integers(0, 255))
def test_sequence_is_unwrapped_whatever_the_order_within_half_a_round(delays: list[int], start: int) -> None:
    sent = sorted(range(1, len(delays) + 1), key=lambda number: number + delays[number - 1])
    codec = Sparkplug()
    codec.decode(birth(seq=start), NODE.format("NBIRTH"))
    assert [told(codec, (start + number) % 256).seq for number in sent] == [start + number for number in sent]
    assert codec.wants(T0) == []
    assert codec.wants(T0 + REORDER_NS) == []


def test_a_message_that_comes_again_has_its_number_again_also_over_a_restart() -> None:
    codec = born()
    numbers = [told(codec, number % 256).seq for number in range(1, 400)]
    assert numbers == list(range(1, 400))
    again = Sparkplug()
    again.restore(codec.take_state())
    assert not codec.learned
    assert told(again, 399 % 256).seq == 399
    assert told(again, 390 % 256).seq == 390
    assert told(again, 400 % 256).values == {"load_t": 1.0}


def test_a_device_is_born_tells_and_dies_under_its_nodes_counter() -> None:
    codec = born()
    signals = [Metric(name, 20 + nth, datatype=DOUBLE, value=1.0) for nth, name in enumerate(SIGNALS)]
    counter, crane = codec.decode(write(MS, 1, signals), DEVICE.format("DBIRTH"))
    assert (counter.device, counter.seq, counter.values) == (EDGE, 1, {})
    assert (crane.device, crane.online, crane.seq, len(crane.values)) == (CRANE, True, None, 10)
    counter, crane = codec.decode(sparkplug_data(2, MS), DEVICE.format("DDATA"))
    assert (counter.seq, crane.device, crane.values["load_t"]) == (2, CRANE, 2.5)
    assert crane.ts == T0 + 200 * 10**6
    counter, crane = codec.decode(write(MS, 3, []), DEVICE.format("DDEATH"))
    assert (counter.seq, crane.online) == (3, False)
    death = write(MS, None, [Metric("bdSeq", datatype=8, value=3)])
    gone = codec.decode(death, NODE.format("NDEATH"))
    assert [(reading.device, reading.online, reading.ts) for reading in gone] == [
        (EDGE, False, None),
        (CRANE, False, None),
    ]


def test_a_death_or_a_birth_of_a_life_that_is_over_changes_nothing() -> None:
    codec = born(born(), MS + 5_000, death=4)
    old = write(MS, None, [Metric("bdSeq", datatype=8, value=3)])
    [reading] = codec.decode(old, NODE.format("NDEATH"))
    assert (reading.online, reading.flags) == (None, ("old_death",))
    late = write(MS, 0, [Metric("bdSeq", datatype=8, value=3), Metric("Crane/x_m", 1, MS, DOUBLE, 2.5)])
    [reading] = codec.decode(late, NODE.format("NBIRTH"))
    assert reading.flags == ("old_birth",)
    assert told(codec, 1).values == {"load_t": 1.0}


def test_a_new_life_begins_its_numbers_anew_and_the_same_birth_again_does_not() -> None:
    codec = born()
    first = told(codec, 1)
    codec.decode(birth(), NODE.format("NBIRTH"))
    assert told(codec, 2).boot == first.boot
    born(codec, MS + 1, death=4)
    second = told(codec, 1)
    assert second.seq == first.seq
    assert second.boot != first.boot


YEARS = 4 * 366 * 86_400_000


def named(ts: int, death: int, *names: str) -> bytes:
    """A birth that gives names the aliases 1, 2 and so on."""
    metrics = [Metric(name, 1 + nth, datatype=DOUBLE, value=2.0) for nth, name in enumerate(names)]
    return write(ts, 0, [Metric("bdSeq", datatype=8, value=death), *metrics])


def certificate(death: int) -> bytes:
    return write(MS, None, [Metric("bdSeq", datatype=8, value=death)])


@pytest.mark.parametrize(("before", "after"), [((MS + YEARS, 3), (MS, 4)), ((MS, 255), (MS - 1, 0)), ((0, 0), (0, 0))])
def test_a_later_birth_counts_whatever_its_clock_says(before: tuple[int, int], after: tuple[int, int]) -> None:
    codec = Sparkplug()
    [first] = codec.decode(named(*before, "load_t", "x_m"), NODE.format("NBIRTH"))
    told(codec, 1)
    [second] = codec.decode(named(*after, "x_m", "load_t"), NODE.format("NBIRTH"))
    assert second.flags == ()
    data_after = told(codec, 1)
    assert data_after.values == {"x_m": 1.0}
    assert (data_after.boot, data_after.seq) == (second.boot, 1)
    assert second.boot != first.boot
    [gone] = codec.decode(certificate(after[1]), NODE.format("NDEATH"))
    assert (gone.online, gone.flags) == (False, ())


def test_a_clock_that_ran_ahead_costs_the_birth_alone() -> None:
    pipeline = through([
        (NODE.format("NBIRTH"), named(MS + YEARS, 3, "load_t", "x_m")),
        (NODE.format("NBIRTH"), named(MS, 4, "x_m", "load_t")),
        (NODE.format("NDATA"), data(1, 7.5)),
        (NODE.format("NDEATH"), certificate(4)),
    ])  # fmt: skip
    assert [record.reason for record in pipeline.take_quarantine()] == ["clock_future"]
    device = pipeline.directory.devices[1]
    assert next(iter(pipeline.records_of([device]))).latest["x_m"][1] == 7.5
    assert not device.online
    assert not [key for key in accounts(pipeline) if key[1] == "flagged"]


def test_the_same_birth_once_more_is_no_new_life() -> None:
    codec = born()
    told(codec, 1)
    [again] = codec.decode(birth(), NODE.format("NBIRTH"))
    assert (again.boot, again.seq) == (told(codec, 2).boot, 0)
    assert told(codec, 2).seq == 2


def test_a_node_that_has_lost_its_bdseq_is_believed_when_it_is_born_again_as_asked() -> None:
    codec = born(death=9)
    codec.decode(named(MS - 5_000, 0, "x_m"), NODE.format("NBIRTH"))
    assert told(codec, 1).values == {"load_t": 1.0}
    codec.wants(T0)
    [request] = codec.wants(T0 + REORDER_NS)
    assert request.topic == NODE.format("NCMD")
    [second] = codec.decode(named(MS - 1_000, 0, "x_m"), NODE.format("NBIRTH"))
    assert second.flags == ()
    assert told(codec, 1).values == {"x_m": 1.0}
    # With a clock that goes on it is believed at once.
    codec.decode(named(MS + 9_000, 130, "y_m"), NODE.format("NBIRTH"))
    assert told(codec, 1).values == {"y_m": 1.0}


def test_whoever_died_is_not_read_by_its_old_names_until_it_is_born_again() -> None:
    codec = born()
    codec.decode(certificate(3), NODE.format("NDEATH"))
    assert codec.wants(T0) == []
    for number in range(1, 5):
        with pytest.raises(RejectError, match="since its death"):
            told(codec, number)
    asked = [codec.wants(T0 + second * NS) for second in range(9)]
    assert sum(map(len, asked)) == 1
    again = Sparkplug()
    again.restore(codec.take_state())
    with pytest.raises(RejectError, match="since its death"):
        told(again, 5)
    again.decode(named(MS + 9_000, 4, "x_m"), NODE.format("NBIRTH"))
    assert told(again, 1).values == {"x_m": 1.0}


def test_a_device_is_not_read_before_its_birth_nor_after_its_death() -> None:
    codec, signals = born(), [Metric("load_t", 20, datatype=DOUBLE, value=1.0)]

    def said(seq: int) -> Reading:
        counter, crane = codec.decode(write(MS, seq, signals), DEVICE.format("DDATA"))
        assert (counter.device, counter.seq) == (EDGE, seq)
        return crane

    assert (said(1).values, [each.reason for each in said(2).refused]) == ({}, ["no_birth"])
    codec.wants(T0)
    assert len(codec.wants(T0 + REORDER_NS)) == 1
    born(codec, MS + 5_000)
    codec.decode(write(MS, 1, signals), DEVICE.format("DBIRTH"))
    assert said(2).values == {"load_t": 1.0}
    codec.decode(write(MS, 3, []), DEVICE.format("DDEATH"))
    assert (said(4).values, [each.reason for each in said(5).refused]) == ({}, ["no_birth"])
    codec.decode(write(MS, 6, signals), DEVICE.format("DBIRTH"))
    assert said(7).values == {"load_t": 1.0}


def test_a_node_whose_device_is_never_born_is_not_asked_without_end() -> None:
    codec, asked = born(), 0
    for second in range(3_600):
        requests = codec.wants(T0 + second * NS)
        asked += len(requests)
        if requests:
            born(codec, MS + second * 1_000)
        codec.decode(write(MS, 1, []), DEVICE.format("DDATA"))
    assert 8 <= asked <= 13


def test_frames_that_are_read_again_are_read_by_the_names_of_their_own_life() -> None:
    codec = Sparkplug()
    first, second = named(MS, 3, "load_t"), named(MS + 9_000, 4, "x_m")
    for each in (first, second):
        codec.decode(each, NODE.format("NBIRTH"))
    codec.decode(certificate(4), NODE.format("NDEATH"))
    again = Sparkplug()
    again.restore(codec.take_state(), earlier=True)
    assert told(again, 1).values == {"x_m": 1.0}
    again.decode(first, NODE.format("NBIRTH"))
    assert told(again, 1).values == {"load_t": 1.0}
    again.decode(second, NODE.format("NBIRTH"))
    assert told(again, 1).values == {"x_m": 1.0}


def test_metrics_of_other_times_and_kinds_stay_apart() -> None:
    metrics = [
        Metric("load_t", ts=MS, datatype=DOUBLE, value=5.0),
        Metric("load_t", ts=MS - 60_000, datatype=DOUBLE, value=4.0, historical=True),
        Metric("x_m", ts=MS - 10, datatype=INT16, value=2**16 - 7),
        Metric("spreader_locked", datatype=BOOLEAN, value=True),
        Metric("hoist_height_m", datatype=12, value="high"),
        Metric("y_m", datatype=DOUBLE),
        Metric("Colour", datatype=12, value="red"),
        Metric("Properties/Maker", datatype=12, value="ZPMC"),
    ]
    now, past, other = born().decode(write(MS, 1, metrics), NODE.format("NDATA"))
    assert now.values == {"load_t": 5.0, "spreader_locked": True}
    assert (now.unknown, now.info, now.flags) == ({"Colour": "red"}, {"Properties/Maker": "ZPMC"}, ("null",))
    assert [reject.pointer for reject in now.refused] == ["/metrics/hoist_height_m"]
    assert (past.values, past.flags, past.ts) == ({"load_t": 4.0}, ("historical",), T0 - 60 * NS)
    assert (other.values, other.ts) == ({"x_m": -7}, T0 - 10 * 10**6)


def test_datasets_and_templates_are_skipped_and_flagged() -> None:
    name = b"\x0a\x01x"
    values = (b"\x8a\x01\x01a", b"\x92\x01\x01a", b"\x82\x01\x01a")
    metrics = b"".join(bytes([0x12, len(name) + 4]) + name + value for value in values)
    [reading] = born().decode(metrics, NODE.format("NDATA"))
    assert reading.flags == ("dataset", "template", "bytes", "no_seq")


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        (0xFF, INT8, -1),
        (2**32 - 1, INT8, -1),
        (0x7F, INT8, 127),
        (2**16 - 2, INT16, -2),
        (2**31, INT32, -(2**31)),
        (2**64 - 5, INT64, -5),
        (2**64 - 5, 8, 2**64 - 5),
        (True, INT8, True),
        (1.5, INT8, 1.5),
    ],
)
def test_signed_integers(value: Any, datatype: int, expected: Any) -> None:
    assert signed(value, datatype) == expected


def test_a_name_is_that_of_a_metric_or_ends_with_it() -> None:
    assert metric_of("load_t") == metric_of("Crane/Hoist/load_t") == "load_t"
    assert metric_of("moves") == metric_of("load") == metric_of("load_t/raw") == ""


def test_a_rebirth_is_asked_for_after_a_while_less_and_less_often_and_of_few_at_once() -> None:
    codec = Sparkplug()
    for nth in range(12):
        with pytest.raises(RejectError, match="no_birth"):
            codec.decode(data(1), f"spBv1.0/quay/NDATA/edge{nth}")
    now = T0
    assert codec.wants(now) == []
    now += REORDER_NS
    asked = [codec.wants(now) for _ in range(4)]
    assert [len(requests) for requests in asked] == [MOST_AT_ONCE, MOST_AT_ONCE, 2, 0]
    request = asked[0][0]
    assert request.topic == "spBv1.0/quay/NCMD/edge0"
    assert read(request.payload).metrics == [Metric("Node Control/Rebirth", datatype=BOOLEAN, value=True)]
    patience, times = FIRST_PATIENCE_NS, 0
    for second in range(1, 3_600):
        times += sum(each.topic.endswith("/edge3") for each in codec.wants(now + second * NS))
    while patience < LONGEST_PATIENCE_NS:
        patience *= 2
    assert 8 <= times <= 13
    for nth in range(12):
        codec.decode(birth(), f"spBv1.0/quay/NBIRTH/edge{nth}")
    assert codec.wants(now + 10_000 * NS) == []


def test_a_gap_is_waited_for_and_then_asked_about() -> None:
    codec = born()
    told(codec, 1)
    told(codec, 3)
    assert codec.wants(T0) == []
    told(codec, 2)
    assert codec.wants(T0 + REORDER_NS) == []
    told(codec, 5)
    assert codec.wants(T0 + 10 * NS) == []
    assert len(codec.wants(T0 + 10 * NS + REORDER_NS)) == 1
    unnamed = born()
    assert told(unnamed, 1, alias=9).unknown == {"alias 9": 1.0}
    unnamed.wants(T0)
    assert len(unnamed.wants(T0 + REORDER_NS)) == 1


@pytest.mark.parametrize(
    "topic",
    ["spBv1.0/STATE/host", "spBv1.0/quay/NDATA", "spBv1.0/quay/DDATA/edge", "spBv1.0/quay/NDATA//", "a/b/NDATA/c"],
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(RejectError, match="unknown_topic"):
        Sparkplug().decode(data(1), topic)


@pytest.mark.parametrize(
    "payload", [b"\x08", b"\x12\x05ab", b"\x0b", b"\x09ab", b"\x08" + b"\xff" * 11, b"\x12\x02\x6b\x00"]
)
def test_what_is_no_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(RejectError, match="undecodable"):
        born().decode(payload, NODE.format("NDATA"))


values = st.one_of(st.floats(allow_nan=False), st.booleans(), st.text(max_size=9), st.integers(0, 2**64 - 1), st.none())
metrics = st.builds(
    lambda name, alias, ts, value, historical: Metric(
        name, alias, ts, DOUBLE if isinstance(value, float) else 8, value, historical, "null" if value is None else ""
    ),
    st.sampled_from(["", "x_m", "Crane/load_t"]), st.none() | st.integers(0, 2**40), st.none() | st.integers(0, 2**48),
    values, st.booleans(),
)  # fmt: skip


@given(st.none() | st.integers(0, 2**64 - 1), st.none() | st.integers(0, 255), st.lists(metrics, max_size=8))
def test_what_is_written_is_read(ts: int | None, seq: int | None, said: list[Metric]) -> None:
    found = read(write(ts, seq, said))
    assert (found.ts, found.seq, found.metrics) == (ts, seq, said)


def through(frames: list[tuple[str, bytes]], pipeline: Pipeline | None = None) -> Pipeline:
    pipeline = pipeline or pipeline_of(sources=(Source("sparkplug", SITE, DeviceClass.QUAY_CRANE),))
    pipeline.process(numbered([frame(topic, payload, recv_ts=T0 + 60 * NS) for topic, payload in frames]))
    return pipeline


def test_redelivered_messages_are_duplicates_also_after_a_restart() -> None:
    signals = [Metric("load_t", 20, datatype=DOUBLE, value=1.0)]
    life = [(NODE.format("NBIRTH"), birth()), (DEVICE.format("DBIRTH"), write(MS, 1, signals))]
    life += [
        (DEVICE.format("DDATA"), write(MS + nth, nth, [Metric("", 20, datatype=DOUBLE, value=2.0)]))
        for nth in (2, 3, 5)
    ]
    pipeline = through(life)
    state = freeze(pipeline, WorkerBlob(), pipeline.touched()).state
    assert msgpack.unpackb(state["codec:sparkplug:spBv1.0/+/+/+,spBv1.0/+/+/+/+"], strict_map_key=False)
    again = pipeline_of(life=2, sources=pipeline.config.sources)
    thaw(again, state)
    through(
        [*life[2:], (DEVICE.format("DDATA"), write(MS + 4, 4, [Metric("", 20, datatype=DOUBLE, value=2.0)]))], again
    )
    found: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    found |= {(uid.split("/")[2], name): counts for (uid, name, _), counts in accounts(again).items()}
    assert again.ledger.balanced()
    assert found[EDGE, "received"] == (9, found[EDGE, "received"][1])
    assert found[EDGE, "duplicate"][0] == 3
    assert found[EDGE, "lost_before_journal"] == (0, 0)
    assert found[CRANE, "windowed"] == (0, 6)
    assert found[CRANE, "duplicate"] == (0, 3)


@pytest.mark.slow
def test_ingest_is_a_host_that_is_known_to_nodes_and_asks_for_births(tmp_path: Path) -> None:
    heard: dict[str, list[Any]] = defaultdict(list)
    arrived = threading.Condition()

    def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        with arrived:
            heard[message.topic].append(message.payload)
            arrived.notify_all()

    def until_heard(topic: str, count: int) -> list[Any]:
        with arrived:
            assert arrived.wait_for(lambda: len(heard[topic]) >= count, 20), topic
        return heard[topic]

    settings = {"sources": json.dumps([{"codec": "sparkplug", "class": "quay-crane"}]), "site": SITE}
    with running_mosquitto() as broker, IngestProcess(tmp_path / "data", broker.port, **settings) as ingest:
        node = mqtt.Client(CallbackAPIVersion.VERSION2, "edge1")
        node.on_message = on_message
        node.connect(broker.host, broker.port)
        node.loop_start()
        node.subscribe([("spBv1.0/STATE/#", 1), (NODE.format("NCMD"), 1)])
        ingest.start()
        state = "spBv1.0/STATE/quayflow-ingest-1"
        online = json.loads(until_heard(state, 1)[0])
        assert online["online"] is True
        now = time.time_ns() // 10**6
        node.publish(NODE.format("NDATA"), data(1, ts=now)).wait_for_publish(10)
        [asked] = until_heard(NODE.format("NCMD"), 1)
        assert read(asked).metrics[0].name == "Node Control/Rebirth"
        node.publish(NODE.format("NBIRTH"), birth(now)).wait_for_publish(10)
        ingest.kill()
        # Its will says the same time as its birth, so that it is not taken for that of a later life.
        assert json.loads(until_heard(state, 2)[1]) == {"online": False, "timestamp": online["timestamp"]}
        ingest.start()
        node.publish(NODE.format("NDATA"), data(1, 7.5, ts=now + 1)).wait_for_publish(10)
        time.sleep(1)
        assert ingest.terminate() == 0
        assert json.loads(until_heard(state, 4)[3])["online"] is False
        node.loop_stop()
        node.disconnect()
        assert len(heard[NODE.format("NCMD")]) == 1


def test_the_birth_that_the_bench_makes_is_read_whole() -> None:
    codec = Sparkplug()
    [first] = codec.decode(sparkplug_birth(), NODE.format("NBIRTH"))
    [second] = codec.decode(sparkplug_data(), NODE.format("NDATA"))
    assert set(first.values) == set(second.values) == set(SIGNALS)


@pytest.mark.parametrize("name", ["Crane/load_t", "Colour"])
@pytest.mark.parametrize("aliased", [True, False])
def test_what_comes_twice_at_one_time_counts_once_and_is_refused_the_second_time(name: str, aliased: bool) -> None:
    codec = Sparkplug()
    first = Metric(name, 1, MS, DOUBLE, 2.5)
    codec.decode(write(MS, 0, [Metric("bdSeq", datatype=8, value=3), first]), NODE.format("NBIRTH"))
    twice = [Metric("" if aliased else name, 1 if aliased else None, MS + 1, DOUBLE, value) for value in (1.0, 2.0)]
    [reading] = codec.decode(write(MS + 1, 1, twice), NODE.format("NDATA"))
    assert [*reading.values.values(), *reading.unknown.values()] == [1.0]
    assert [reject.detail for reject in reading.refused] == ["twice at one time"]
