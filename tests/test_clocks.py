"""Clocks of devices: their offsets are estimated, and none of them moves a neighbour's time."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.clocks import LOOKS, PERIOD_NS, UNKNOWN, ClockOffsets
from devices.codecs.native import Telemetry, encode
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import DeviceClass
from ingest.pipeline import Pipeline, PipelineConfig
from store.journal import Frame

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
