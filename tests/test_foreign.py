"""Foreign frames: whatever a codec reads, each frame is booked once and each sample to the device it speaks of."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import (
    SITE,
    T0,
    Shelf,
    accounts,
    assert_every_frame_is_booked,
    cut,
    frame,
    numbered,
    pipeline_of,
    read_of,
    topic,
)

from analytics.detectors.gates import TagRead
from devices.codecs.native import Event
from devices.codecs.readings import Happening, Reading
from devices.codecs.registry import CODECS
from devices.filters import matches
from devices.rejects import Reason, Reject, RejectError
from devices.times import NS
from devices.topics import DEVICE, device_id
from devices.vocabulary import DeviceClass
from ingest.checkpoint import CODEC, WorkerBlob, freeze, thaw
from ingest.checks import tag_read
from ingest.pipeline import Pipeline
from ingest.sources import Source
from ingest.unforeseen import FAILED
from store.journal import DUPLICATE, Frame


class Spelled:
    """A format for tests, whose payload spells out its readings; it remembers how many frames it has read."""

    name = "spelled"

    def __init__(self) -> None:
        self.read = 0
        self.learned = False

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        if payload == b"crash":
            raise ZeroDivisionError(topic)
        try:
            readings = msgspec.json.decode(payload, type=list[Reading])
        except msgspec.DecodeError as error:
            raise RejectError(Reason.UNDECODABLE, "", str(error)) from None
        self.read, self.learned = self.read + 1, True
        return readings

    def take_state(self) -> bytes:
        self.learned = False
        return str(self.read).encode()

    def restore(self, state: bytes, *, earlier: bool = False) -> None:
        del earlier
        self.read = int(state)


@pytest.fixture(autouse=True, scope="module")
def spelled() -> Iterator[None]:
    CODECS["spelled"] = Spelled
    yield
    del CODECS["spelled"]


GATE, TRUCK = topic("rfid-gate", "G1", "spelled"), topic("vehicle", "T1", "spelled")


def sources() -> tuple[Source, ...]:
    return (Source("spelled", SITE, DeviceClass.VEHICLE, ("yard/#",)),)


def spelt(where: str, *readings: Reading, **more: Any) -> Frame:
    return frame(where, msgspec.json.encode(readings), **more)


def run(frames: list[Frame], at: list[int] | None = None, **config: Any) -> Pipeline:
    pipeline = pipeline_of(**({"sources": sources()} | config))
    for batch in cut(frames, at or []):
        pipeline.process(batch)
        assert pipeline.ledger.balanced()
    return pipeline


def folded(pipeline: Pipeline) -> dict[Any, Any]:
    shelf = Shelf()
    shelf.write(pipeline.windows.take_rows(1))
    return shelf.folded(with_late=False)


READ = Happening("tag_read", {"tag": "E280", "antenna": 2, "rssi_dbm": -61.5})
happenings = st.sampled_from(
    [READ, Happening("tag_read", {"tag": 7}), Happening("fault", {"code": 3}), Happening("cmd")]
)
some_readings = st.builds(
    Reading,
    device=st.sampled_from(["T1", "T2", "T3", "not an id", ""]),
    device_class=st.sampled_from([None, DeviceClass.RFID_GATE, DeviceClass.VEHICLE]),
    ts=st.sampled_from([None, *(T0 + second * NS for second in (-9_000, -40, -3, 0, 1, 301)), 5]),
    boot=st.sampled_from([None, 1, 2**64 - 1]),
    seq=st.sampled_from([None, *range(4)]),
    values=st.dictionaries(st.sampled_from(["speed_mps", "x_m", "antenna", "what"]), st.sampled_from([1.5, 9e9, True])),
    happenings=st.lists(happenings, max_size=2).map(tuple),
    online=st.sampled_from([None, True, False]),
    unknown=st.dictionaries(st.sampled_from(["a", "b/c"]), st.sampled_from(["text", 1.0, None]), max_size=2),
    refused=st.sampled_from([(), (Reject(Reason.WRONG_TYPE, "/x", "no number"),)]),
    flags=st.sampled_from([(), ("historical",), ("checksum", "historical")]),
)
frames_of_readings = st.builds(
    lambda where, readings, flags: spelt(where, *readings, flags=flags),
    st.sampled_from(["yard/north", GATE, TRUCK]),
    st.lists(some_readings, max_size=4),
    st.sampled_from([1, 1 | DUPLICATE]),
)
other_frames = st.sampled_from(
    [
        frame("yard/1", b"crash"),
        frame(TRUCK, b"no list"),
        frame("shipyard", b"[]"),
        frame(topic("vehicle", "T1", "x"), b""),
    ]
)
any_frames = st.lists(frames_of_readings | other_frames, max_size=25).map(numbered)


@settings(max_examples=250)
@given(any_frames, st.lists(st.integers(0, 25), max_size=5))
def test_ledger_balances_for_every_device_and_nothing_depends_on_batches(frames: list[Frame], at: list[int]) -> None:
    one, other = run(frames), run(frames, at)
    assert_every_frame_is_booked(one, len(frames))
    assert accounts(one) == accounts(other)
    assert folded(one) == folded(other)
    refused = one.take_quarantine()
    assert len({record.id for record in refused}) == len(refused)
    assert sorted(refused, key=str) == sorted(other.take_quarantine(), key=str)
    assert one.samples == sum(
        counts[1] for (_, account, _), counts in accounts(one).items() if account in {"windowed", "merged_late"}
    )


@settings(max_examples=150)
@given(any_frames, st.randoms(use_true_random=False))
def test_foreign_frames_delivered_again_change_no_figure(frames: list[Frame], chance: Any) -> None:
    # What has neither a counter nor a time is told from its repetition by the broker's word alone.
    timed = [each for each in frames if b'"ts":null' not in each.payload]
    again = [each._replace(flags=1 | DUPLICATE) for each in chance.choices(timed, k=9)] if timed else []
    assert folded(run(numbered([*timed, *again]))) == folded(run(numbered(timed)))


def test_a_frame_of_several_devices_is_one_frame_and_each_sample_is_its_own_devices() -> None:
    pipeline = run(
        numbered([
            spelt(
                "yard/1",
                Reading(device="T1", ts=T0, boot=1, seq=0, values={"speed_mps": 3.0, "x_m": 1.0}),
                Reading(device="T2", ts=T0, values={"speed_mps": 4.0, "speed": 9.0}),
                Reading(device="G1", device_class=DeviceClass.RFID_GATE, ts=T0, happenings=(READ,)),
            )
        ])
    )  # fmt: skip
    assert accounts(pipeline) == {
        (f"{SITE}/vehicle/T1", "received", ""): (1, 2),
        (f"{SITE}/vehicle/T1", "windowed", ""): (1, 2),
        (f"{SITE}/vehicle/T2", "received", ""): (0, 2),
        (f"{SITE}/vehicle/T2", "windowed", ""): (0, 1),
        (f"{SITE}/vehicle/T2", "quarantined", "unknown_metric"): (0, 1),
        (f"{SITE}/rfid-gate/G1", "received", ""): (0, 3),
        (f"{SITE}/rfid-gate/G1", "windowed", ""): (0, 3),
    }
    assert {device.uid for device in pipeline.touched()} >= {uid for uid, _, _ in accounts(pipeline)}


def test_a_counter_speaks_for_the_readings_after_it() -> None:
    whole = [Reading(device="T1", boot=1, seq=5), Reading(device="T2", ts=T0, values={"x_m": 1.0})]
    other = [Reading(device="T1", boot=1, seq=7), Reading(device="T2", ts=T0, values={"x_m": 1.0})]
    pipeline = run(numbered([spelt("yard/1", *each) for each in (whole, whole, other)]))
    found = accounts(pipeline)
    assert found[f"{SITE}/vehicle/T1", "duplicate", ""] == (1, 0)
    assert found[f"{SITE}/vehicle/T2", "windowed", ""] == (0, 2)
    assert found[f"{SITE}/vehicle/T1", "lost_before_journal", ""] == (1, 0)


def test_a_payload_may_not_speak_for_another_device_than_its_topic() -> None:
    pipeline = run(numbered([spelt(TRUCK, Reading(device="T9", ts=T0, values={"x_m": 1.0}))]))
    [record] = pipeline.take_quarantine()
    assert (record.reason, record.pointer, record.uid) == ("identity_mismatch", "/device", f"{SITE}/vehicle/T1")
    assert accounts(pipeline)[f"{SITE}/vehicle/T1", "quarantined", "identity_mismatch"] == (1, 1)
    assert len(pipeline.directory.devices) == 2


def test_a_frame_without_samples_is_a_sign_of_life() -> None:
    pipeline = run(numbered([spelt(TRUCK, Reading(info={"plate": "浙B12345"}, flags=("checksum",)))]))
    device = pipeline.directory.devices[1]
    assert device.online
    assert device.info == {"plate": "浙B12345"}
    assert accounts(pipeline) == {
        (device.uid, "received", ""): (1, 1),
        (device.uid, "windowed", ""): (1, 1),
        (device.uid, "flagged", "checksum"): (1, 0),
    }
    assert [event.type for event in pipeline.take_events()] == ["device_online"]


def test_what_was_kept_for_later_does_not_say_how_the_device_is_now() -> None:
    pipeline = run(
        numbered([
            spelt(TRUCK, Reading(ts=T0, values={"x_m": 1.0}, info={"alarm": 0})),
            spelt(TRUCK, Reading(ts=T0 - 60 * NS, online=False, info={"alarm": 1}, flags=("historical",))),
        ])
    )  # fmt: skip
    device = pipeline.directory.devices[1]
    assert device.online
    assert device.info == {"alarm": 0}


def test_a_codec_that_fails_ends_in_quarantine_not_in_an_end_of_ingest(caplog: pytest.LogCaptureFixture) -> None:
    [record] = run(numbered([frame(TRUCK, b"crash")])).take_quarantine()
    assert record.reason == "undecodable"
    assert "ZeroDivisionError" in record.detail
    assert "the codec spelled failed" in caplog.text


HUGE, ENDLESS = b"1" + b"0" * 30, b"1" + b"0" * 400
TRAPS = {
    "impinj antenna": (
        "impinj",
        b'{"eventType":"tagInventory","tagInventoryEvent":{"epcHex":"E280","antennaPort":%b}}' % HUGE,
    ),
    "impinj event": ("impinj", b'{"eventType":"custom","customEvent":{"n":%b}}' % ENDLESS),
    "owntracks transition": ("owntracks", b'{"_type":"transition","tst":1795420800,"n":%b}' % HUGE),
    "owntracks fact": (
        "owntracks",
        b'{"_type":"location","lat":1,"lon":2,"tst":1795420800,"n":%b,"o":%b}' % (HUGE, ENDLESS),
    ),
    "traccar time": ("owntracks", b'{"position":{"latitude":1,"longitude":2,"fixTime":"0026-11-23T08:00:00Z"}}'),
    "zebra barcode": ("zebra", b'{"type":"x","data":{"barcodeData":[{"n":-%b}]}}' % HUGE),
    "zebra reads": ("zebra", b'{"type":"x","data":{"idHex":"E280","reads":%b}}' % ENDLESS),
    "tic40 path": ("tic40-flat", b'{"msg.timestamp":"2026-11-23T08:00:00Z","sts.@Q1.what.ever.value":%b}' % HUGE),
    "llrp time": (
        "llrp",
        bytes.fromhex("043d0000002b00000001 00f00021 8d000000000000000000000001 84ffffffffffffffff 820000000000000001"),
    ),
}


@pytest.mark.parametrize("name", TRAPS)
def test_no_number_is_too_big_to_be_booked_and_kept(name: str) -> None:
    codec, payload = TRAPS[name]
    where = topic(
        "quay-crane" if codec == "tic40-flat" else "rfid-gate" if codec != "owntracks" else "vehicle", "D1", codec
    )
    pipeline = run(numbered([frame(where, payload)]))
    assert_every_frame_is_booked(pipeline, 1)
    touched = pipeline.touched()
    msgspec.json.encode([pipeline.take_events(), list(pipeline.records_of(touched))])
    state = freeze(pipeline, WorkerBlob(), touched).state
    other = pipeline_of(sources=sources())
    thaw(other, state)
    assert accounts(other) == accounts(pipeline)
    assert not [record for record in pipeline.take_quarantine() if FAILED in record.detail]


def test_a_number_beyond_a_value_is_refused_and_beyond_a_fact_is_kept_as_the_nearest() -> None:
    refused = run(numbered([frame(topic("rfid-gate", "G1", "impinj"), TRAPS["impinj antenna"][1])])).take_quarantine()
    assert [(record.reason, record.pointer) for record in refused] == [("out_of_range", "/data/antenna")]
    device = run(numbered([frame(topic("vehicle", "T1", "owntracks"), TRAPS["owntracks fact"][1])])).directory.devices[
        1
    ]
    assert device.info == {"n": 1e30, "o": math.inf}


def failing_every_second_time() -> Callable[..., TagRead]:
    times = itertools.count(1)

    def failing(device: int, ts: int, event: Event, *, partial: bool = False) -> TagRead:
        if next(times) % 2 == 0:
            raise ZeroDivisionError
        return tag_read(device, ts, event, partial=partial)

    return failing


def test_a_reading_that_nobody_foresaw_is_refused_alone_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ingest.foreign.tag_read", failing_every_second_time())
    readings = [Reading(ts=T0 + at, values={"rssi_dbm": -60.0}, happenings=(READ,)) for at in range(4)]
    pipeline = run(numbered([spelt(GATE, *readings[:3]), spelt(GATE, readings[3])]))
    assert_every_frame_is_booked(pipeline, 2)
    assert accounts(pipeline)[f"{SITE}/rfid-gate/G1", "quarantined", "undecodable"] == (1, 8)
    assert all(FAILED in record.detail for record in pipeline.take_quarantine())
    assert len(caplog.records) == 1


def test_a_native_frame_that_nobody_foresaw_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.decoding.tag_read", failing_every_second_time())
    reads = [frame(topic("rfid-gate", "G1", "event"), read_of(seq, T0 + seq, "E2")) for seq in range(4)]
    pipeline = run(numbered(reads))
    assert_every_frame_is_booked(pipeline, 4)
    assert accounts(pipeline)[f"{SITE}/rfid-gate/G1", "quarantined", "undecodable"] == (2, 6)


def test_what_a_reader_s_numbers_leave_out_is_booked_as_lost_also_over_a_restart() -> None:
    gate = topic("rfid-gate", "G1", "zebra")

    def heard(pipeline: Pipeline, reads: list[int], after: int = 0) -> None:
        said = b'{"type":"SIMPLE","timestamp":%d,"data":{"idHex":"E280","eventNum":%d}}'
        pipeline.process(numbered(frame(gate, said % (T0 // 10**6 + after + nth, nth)) for nth in reads))

    def booked(pipeline: Pipeline, account: str) -> int:
        return accounts(pipeline).get((f"{SITE}/rfid-gate/G1", account, ""), (0, 0))[0]

    pipeline = run([])
    heard(pipeline, [7, 8, 10])
    assert booked(pipeline, "lost_before_journal") == 1
    frozen = freeze(pipeline, WorkerBlob(), pipeline.touched())
    later = pipeline_of(life=2, sources=sources())
    thaw(later, frozen.state)
    heard(later, [10, 13])
    assert booked(later, "lost_before_journal") == 3
    # What was late comes, and the reader begins anew: nothing of it is a duplicate.
    heard(later, [9])
    heard(later, [0, 1], after=5_000)
    assert booked(later, "lost_before_journal") == 2
    assert booked(later, "duplicate") == 1


def test_devices_beyond_the_cap_are_refused_with_their_samples() -> None:
    readings = [Reading(device=f"T{n}", ts=T0, values={"x_m": 1.0}) for n in range(3)]
    pipeline = run(numbered([spelt("yard/1", *readings), spelt("yard/1", readings[2])]), max_devices=2)
    found = accounts(pipeline)
    assert found[f"{SITE}/vehicle/T0", "quarantined", "cardinality"] == (0, 1)
    assert found["", "quarantined", "cardinality"] == (1, 1)


def test_the_memory_of_codecs_survives_in_the_checkpoint() -> None:
    pipeline = run(numbered([spelt("yard/1", Reading(device="T1")), spelt(TRUCK, Reading()), spelt(TRUCK, Reading())]))
    state = freeze(pipeline, WorkerBlob(), pipeline.touched()).state
    assert {name: blob for name, blob in state.items() if name.startswith(CODEC)} == {
        "codec:spelled:yard/#": b"1",
        "codec:spelled": b"2",
    }
    later = pipeline_of(life=2, sources=sources())
    thaw(later, state)
    later.process(numbered([spelt(TRUCK, Reading())]))
    assert later.foreign.feeds.take_states() == {"spelled": b"3"}
    assert later.ledger.balanced()
    rows = {(row.uid, row.account): row.frames for row in later.ledger_rows(later.directory.devices)}
    assert rows[f"{SITE}/vehicle/T1", "received"] == 4


def test_native_topics_stay_native_whatever_a_source_takes_in() -> None:
    everything = (Source("spelled", SITE, DeviceClass.VEHICLE, ("#",)),)
    body = {"v": 1, "boot": 1, "seq": 1, "ts": T0, "m": {"x_m": 1.0}}
    pipeline = run(numbered([frame(topic("vehicle", "T1"), body)]), sources=everything)
    assert accounts(pipeline)[f"{SITE}/vehicle/T1", "windowed", ""] == (1, 1)


def test_owntracks_phones_need_one_source_and_no_registration() -> None:
    source = Source("owntracks", SITE, DeviceClass.VEHICLE)
    body = {"_type": "location", "lat": 29.93, "lon": 121.85, "tst": T0 // NS, "vel": 36, "tid": "JJ"}
    where = "owntracks/driver7/phone"
    pipeline = run(
        numbered([frame(where, body), frame(where, body), frame(where, {"_type": "lwt", "tst": 5})]), sources=(source,)
    )
    device = pipeline.directory.devices[1]
    assert device.uid == f"{SITE}/vehicle/driver7:phone"
    found = {key[1:]: counts for key, counts in accounts(pipeline).items()}
    assert found == {
        ("received", ""): (3, 7),
        ("windowed", ""): (2, 4),
        ("duplicate", ""): (1, 3),
        ("flagged", "clock_unset"): (1, 0),
    }
    assert json.loads(json.dumps(device.info)) == {"tid": "JJ"}


@pytest.mark.parametrize(
    ("pattern", "where", "expected"),
    [
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/b", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("#", "a/b", True),
        ("a/+/c", "a//c", True),
        ("$share/g/a/#", "a/b", True),
    ],
)
def test_a_filter_takes_in_what_mqtt_says(pattern: str, where: str, *, expected: bool) -> None:
    assert matches(pattern, where) is expected


@given(st.lists(st.text(max_size=40), min_size=1, max_size=3), st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_foreign_names_become_ids_that_stay_apart(one: list[str], other: list[str]) -> None:
    assert DEVICE.fullmatch(device_id(*one))
    if one != other and not any(DEVICE.fullmatch(":".join(names)) for names in (one, other)):
        assert device_id(*one) != device_id(*other)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("native", SITE, DeviceClass.VEHICLE, ("a",)), "codec 'native'"),
        (("morse", SITE, DeviceClass.VEHICLE, ("a",)), "codec 'morse'"),
        (("owntracks", "Ningbo", DeviceClass.VEHICLE), "site 'Ningbo'"),
        (("spelled", SITE, DeviceClass.VEHICLE), "filter"),
        (("spelled", SITE, DeviceClass.VEHICLE, ("a/#/b",)), "whole last level"),
    ],
)
def test_a_source_that_could_not_deliver_is_refused_by_name(arguments: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Source(*arguments)
