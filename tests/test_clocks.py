"""Clocks of devices: their offsets are estimated, and none of them moves a neighbour's time."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.clocks import LOOKS, PERIOD_NS, UNKNOWN, ClockOffsets
from analytics.rows import WindowRows
from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808_frames import frame_of
from devices.codecs.native import Block, Telemetry, encode
from devices.rejects import Reason, RejectError
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import DeviceClass
from ingest.checks import YEAR_2000, checked_time
from ingest.ledger import Account
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.sources import Source
from store.interface import DeviceRecord
from store.journal import DUPLICATE, Frame

NS = 1_000_000_000
NOW = 1_795_000_000 * NS
GOOD = DeviceKey("CNNGB-DEMO", DeviceClass.VEHICLE, "GOOD")
BAD = DeviceKey("CNNGB-DEMO", DeviceClass.VEHICLE, "BAD")


def heard(offsets_ns: list[int], period_ns: int = PERIOD_NS) -> ClockOffsets:
    clocks = ClockOffsets()
    clocks.grow(1)
    for nth, offset in enumerate(offsets_ns):
        received = NOW + nth * period_ns
        clocks.hear(np.array([0]), np.array([received - offset]), np.array([received]))
    return clocks


def test_the_offset_is_the_median_of_what_was_seen() -> None:
    assert heard([]).offset[0] == UNKNOWN
    assert heard([7]).offset[0] == 7
    assert heard([1, 9, 5]).offset[0] == 5
    assert heard([-3_000, 10, -2_900]).offset[0] == -2_900


def test_a_frame_that_was_held_up_changes_nothing_and_a_clock_that_jumps_is_believed_in_time() -> None:
    steady = [100] * LOOKS
    assert heard([*steady, 3_600 * NS]).offset[0] == 100
    assert heard([*steady, *[5_000] * (LOOKS // 2)]).offset[0] == 100
    assert heard([*steady, *[5_000] * (LOOKS // 2 + 1)]).offset[0] == 5_000


def test_many_frames_within_a_period_are_one_look() -> None:
    assert heard([100, *[9_000] * 1_000], period_ns=PERIOD_NS // 2_000).offset[0] == 100


@pytest.mark.parametrize("looks", [1, 5, LOOKS, 3 * LOOKS + 4])
def test_going_on_from_a_checkpoint_is_never_having_stopped(looks: int) -> None:
    offsets = [(nth * 7_919) % 1_000 for nth in range(looks)]
    clocks, again = heard(offsets), ClockOffsets()
    again.grow(1)
    state = clocks.state(0)
    assert state is not None
    again.restore(0, state)
    assert again.state(0) == state
    now = NOW + looks * PERIOD_NS
    for one in (clocks, again):
        one.hear(np.array([0]), np.array([now - 3]), np.array([now]))
    assert clocks.offset[0] == again.offset[0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-(10**12), 10**12)), max_size=120))
def test_frames_together_are_frames_one_by_one(frames: list[tuple[int, int]]) -> None:
    device = np.array([device for device, _ in frames], np.int64)
    received = NOW + np.arange(len(frames)) * (PERIOD_NS // 3)
    ts = received - np.array([offset for _, offset in frames], np.int64)
    single = ClockOffsets()
    single.grow(5)
    for at in range(len(frames)):
        single.hear(device[at : at + 1], ts[at : at + 1], received[at : at + 1])
    seen: dict[int, list[int]] = {}
    last: dict[int, int] = {}
    for (number, offset), now in zip(frames, received.tolist(), strict=True):
        if now - last.get(number, -PERIOD_NS) >= PERIOD_NS:
            last[number] = now
            seen.setdefault(number, []).append(offset)
    for number, offsets in seen.items():
        kept = sorted(offsets[-LOOKS:])
        assert single.offset[number] == kept[(len(kept) - 1) // 2]


def frame(key: DeviceKey, seq: int, ts: int, received: int) -> Frame:
    payload = encode(Telemetry(v=1, boot=1, seq=seq, ts=ts, m={"odometer_m": float(seq % 100)}))
    return Frame(seq * 1_000 + len(key.device), received, 1, 1, topic_of(key, Stream.TELEMETRY), payload)


CLOCKS: dict[str, Callable[[int], int]] = {
    "good": lambda nth: 0,
    "a year ahead": lambda nth: 365 * 86_400 * NS,
    "unset": lambda nth: -NOW,
    "four minutes ahead": lambda nth: 240 * NS,
    "an hour behind": lambda nth: -3_600 * NS,
    "jumping": lambda nth: (-1) ** nth * 200 * NS,
    "drifting": lambda nth: nth * NS // 10,
}


@pytest.mark.parametrize("name", CLOCKS)
def test_no_clock_moves_a_neighbours_watermark_or_windows(name: str) -> None:
    outcomes = []
    for bad in (False, True):
        pipeline = Pipeline("w", 1, PipelineConfig())
        for nth in range(200):
            now = NOW + nth * NS
            frames = [frame(GOOD, nth, now - NS // 10, now)]
            if bad:
                frames.insert(nth % 2, frame(BAD, nth, now + CLOCKS[name](nth), now))
            pipeline.process(frames)
            pipeline.tick(now)
        good = pipeline.directory.device(GOOD)
        rows = pipeline.take_rows(1)
        own = rows.take(np.array([rows.keys[at].device == "GOOD" for at in rows.series.tolist()]))
        values = {column: getattr(own, column).tolist() for column in own.columns() if column != "series"}
        record = next(pipeline.records_of([good]))
        outcomes.append((values, record.watermark_ns, record.last_event_ns, record.clock_offset_s))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][3] == 0.1


def test_a_device_record_tells_how_far_its_clock_is_off() -> None:
    pipeline = Pipeline("w", 1, PipelineConfig())
    for nth in range(60):
        now = NOW + nth * NS
        pipeline.process([frame(BAD, nth, now + 240 * NS, now), frame(GOOD, nth, now, now)])
    assert next(pipeline.records_of([pipeline.directory.device(BAD)])).clock_offset_s == -240.0
    assert next(pipeline.records_of([pipeline.directory.device(GOOD)])).clock_offset_s == 0.0
    assert pipeline.clocks_off() == 1


# --- clocks that were never set -------------------------------------------------------------------------------------


def counted(rows: WindowRows, metric: str = "odometer_m") -> dict[int, tuple[int, int]]:
    """Window of 10 s → count and sum of a metric."""
    which = [rows.keys[at].metric == metric for at in rows.series.tolist()]
    some = rows.take((rows.tier_s == 10) & np.array(which, np.bool_))
    return dict(zip(some.window.tolist(), zip(some.count.tolist(), some.sum.tolist(), strict=True), strict=True))


def record_of(pipeline: Pipeline) -> DeviceRecord:
    return next(pipeline.records_of([pipeline.directory.device(BAD)]))


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("said", [0, 5 * NS, YEAR_2000 - 200 * NS, -(2**63) + 200 * NS])
def test_a_device_without_a_clock_counts_when_it_is_heard_and_is_flagged(size: int, said: int) -> None:
    outcomes = []
    for clock in (said, NOW):
        pipeline = Pipeline("w", 1, PipelineConfig())
        frames = [frame(BAD, nth, clock + nth * NS, NOW + nth * NS) for nth in range(100)]
        for begin in range(0, 100, size):
            pipeline.process(frames[begin : begin + size])
        # What comes again changes nothing, whenever that is.
        pipeline.process([each._replace(recv_ts=NOW + 300 * NS) for each in frames])
        assert pipeline.ledger.balanced()
        assert not pipeline.take_quarantine()
        rows = {(row.account, row.reason): row.frames for row in pipeline.ledger_rows(pipeline.directory.devices[1:])}
        assert rows.get(("flagged", "clock_unset"), 0) == (100 if clock == said else 0)
        assert (rows["windowed", ""], rows["duplicate", ""]) == (100, 100)
        outcomes.append((counted(pipeline.take_rows(1)), record_of(pipeline).watermark_ns))
        if clock == said:
            assert record_of(pipeline).clock_offset_s == pytest.approx((NOW - max(said, 0)) / NS, abs=100)
    assert outcomes[0] == outcomes[1]


def test_a_clock_that_is_set_in_the_end_goes_on_where_receipt_left_off() -> None:
    pipeline = Pipeline("w", 1, PipelineConfig())
    for nth in range(200):
        clock = NOW if nth >= 100 else 0
        pipeline.process([frame(BAD, nth, clock + nth * NS, NOW + nth * NS)])
    assert sum(count for count, _ in counted(pipeline.take_rows(1)).values()) == 200
    assert pipeline.ledger.total(Account.WINDOWED) == 200
    # By the median of a minute.
    assert record_of(pipeline).clock_offset_s == 0


def test_the_same_frame_without_a_clock_and_a_sequence_is_a_repetition_only_by_the_brokers_word() -> None:
    payload = encode(Telemetry(v=1, ts=5, m={"odometer_m": 1.0}))
    where = topic_of(BAD, Stream.TELEMETRY)
    pipeline = Pipeline("w", 1, PipelineConfig())
    for nth, flags in enumerate((1, 1, 1 | DUPLICATE)):
        pipeline.process([Frame(nth * 1_000, NOW + nth * NS, 1, flags, where, payload)])
    assert (pipeline.ledger.total(Account.WINDOWED), pipeline.ledger.total(Account.DUPLICATE)) == (2, 1)


def test_a_block_without_a_clock_ends_when_it_is_received() -> None:
    found = []
    for t0 in (7 * NS, NOW - 9 * NS):
        values = np.arange(10, dtype="<f4").tobytes()
        block = encode(Block(v=1, boot=1, seq=0, t0=t0, dt=NS, names=("odometer_m",), f32=values))
        pipeline = Pipeline("w", 1, PipelineConfig())
        pipeline.process([Frame(0, NOW, 1, 1, topic_of(BAD, Stream.TELEMETRY), block)])
        found.append(counted(pipeline.take_rows(1)))
    assert found[0] == found[1]
    assert sum(count for count, _ in found[0].values()) == 10


def test_statuses_and_events_without_a_clock_happen_when_they_are_received() -> None:
    pipeline = Pipeline("w", 1, PipelineConfig())
    bodies = {Stream.STATUS: {"v": 1, "online": True, "ts": 5}, Stream.EVENT: {"v": 1, "type": "door", "ts": 9}}
    for nth, (stream, body) in enumerate(bodies.items()):
        payload = msgspec.json.encode(body)
        pipeline.process([Frame(nth * 1_000, NOW + nth, 1, 1, topic_of(BAD, stream), payload)])
    assert {(event.type, event.ts_ns) for event in pipeline.take_events()} == {
        ("device_online", NOW),
        ("door", NOW + 1),
    }
    assert not pipeline.take_quarantine()


def test_what_a_device_without_a_clock_had_kept_for_later_is_refused() -> None:
    assert checked_time(5, NOW) == NOW
    with pytest.raises(RejectError) as refused:
        checked_time(5, NOW, kept=True)
    assert refused.value.reject.reason is Reason.CLOCK_UNSET


@pytest.mark.parametrize("late", [False, True])
def test_a_batch_of_a_terminal_without_a_clock_is_kept_if_it_is_of_now(late: bool) -> None:
    location = bodies.location(NOW, 29.9, 121.8)
    time_at = len(location) - 6
    unset = location[:time_at] + bytes(6)
    source = Source("jt808", "CNNGB-DEMO", DeviceClass.VEHICLE, ("jt/#",))
    pipeline = Pipeline("w", 1, PipelineConfig(sources=(source,)))
    message = frame_of(0x0704, "13912345678", 1, bodies.batch([unset, location], late=late))
    for nth in range(2):
        # A terminal that was not answered sends the same again.
        pipeline.process([Frame(nth * 1_000, NOW + nth * NS, 1, 1, "jt/808", message)])
    rows = {(row.account, row.reason): row.frames for row in pipeline.ledger_rows(pipeline.directory.devices[1:])}
    refused = [(each.reason, each.uid != "") for each in pipeline.take_quarantine()]
    assert pipeline.ledger.balanced()
    assert refused == ([("clock_unset", True)] if late else [])
    assert rows.get(("flagged", "clock_unset"), 0) == (0 if late else 1)
    rows_of_latitude = counted(pipeline.take_rows(1), "latitude_deg")
    assert sum(count for count, _ in rows_of_latitude.values()) == (1 if late else 2)
