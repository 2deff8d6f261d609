"""Times that states were held, packed: what a dictionary by metric and start would hold, and how they rest."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import T0, frame, pipeline_of, topic, values

from analytics.findings import DetectorState, Finding, Hour
from analytics.held_times import HeldTime, HeldTimes
from devices.times import NS
from devices.vocabulary import INDEX
from ingest import kept_hours
from ingest.checkpoint import HOURS, WorkerBlob, freeze, thaw
from ingest.kept_hours import decode_hour, decode_open, encode_hour, encode_open
from ingest.pipeline import Pipeline

LADEN, UNLADEN = INDEX["laden_1_s"], INDEX["laden_0_s"]
# Of numbers whose bytes are alike, so that one is also found where another is packed.
NUMBERS = st.sampled_from([0, 1, 256, 257, 65_535]) | st.integers(0, 2**16 - 1)
TIMES = st.sampled_from([0, 1, 256, 257, 2**16, 2**56, 2**48 + 1]) | st.integers(0, 2**62)


@given(st.lists(st.tuples(NUMBERS, TIMES, TIMES), max_size=30), st.tuples(NUMBERS, TIMES))
def test_held_times_are_a_dictionary_by_metric_and_start(noted: list[HeldTime], asked: tuple[int, int]) -> None:
    held, model = HeldTimes(), dict[tuple[int, int], int]()
    for metric, start, until in noted:
        held.note(metric, start, until)
        model[metric, start] = until
    expected = [HeldTime(*key, until) for key, until in model.items()]
    assert list(held) == expected
    assert len(held) == len(model)
    assert held.metrics() == {metric for metric, _ in model}
    for key in (asked, *model):
        assert held.until(*key) == model.get(key, -1)
    assert HeldTimes(bytes(held)) == held == HeldTimes.of(reversed(expected))
    assert not model or held != HeldTimes.of(expected[1:])


def hour() -> Hour:
    held = HeldTimes.of([HeldTime(UNLADEN, T0, T0 + 7), HeldTime(LADEN, T0 + 7, T0 + 90 * NS)])
    move = Finding("crane_move", T0, 3, T0 + 5, {"moves": 1}, b"12345678")
    return Hour(T0 - 1, DetectorState(), {"a": move}, held)


def test_an_hour_comes_back_from_either_form_as_it_was() -> None:
    assert sorted(hour().every()) == ["a", f"laden_0_s@{T0}", f"laden_1_s@{T0 + 7}"]
    assert hour().every()[f"laden_0_s@{T0}"] == Finding("state_held", T0, 0, T0 + 6, {"laden_0_s": 0}, b"", T0 + 7)
    assert decode_hour(encode_hour(hour())) == hour()
    for plain in (False, True):
        assert decode_open(encode_open({T0: hour()}, plain=plain)) == {T0: hour()}


def test_what_is_packed_is_counted_under_its_metrics_where_these_are_numbered_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blob = encode_open({T0: hour()})
    renamed = {"laden_0_s": LADEN, "laden_1_s": UNLADEN}
    monkeypatch.setattr(kept_hours, "INDEX", INDEX | renamed)
    ((_, found),) = decode_open(blob).items()
    assert list(found.held) == [HeldTime(LADEN, T0, T0 + 7), HeldTime(UNLADEN, T0 + 7, T0 + 90 * NS)]


class OldHour(msgspec.Struct, array_like=True):
    """As releases read it that did not pack these times."""

    since: int
    state: Any
    findings: dict[str, Finding]


def taken(*, last: bool, before: Pipeline | None = None) -> tuple[Pipeline, dict[str, bytes]]:
    """A pipeline with a vehicle, driven for three minutes, and its blobs; none is of a device that has not changed."""
    pipeline = before or pipeline_of()
    if before is None:
        for second in range(0, 180, 5):
            body = values(second, T0 + second * NS, laden=second > 70)
            pipeline.process([frame(topic("vehicle", "T-1"), body, recv_ts=T0 + second * NS)])
        pipeline.tick(T0 + 180 * NS)
    return pipeline, dict(freeze(pipeline, WorkerBlob(), pipeline.touched(), last=last).state)


def test_an_older_release_reads_the_hours_of_an_end_in_order_and_no_others() -> None:
    decode = msgspec.msgpack.Decoder(dict[int, OldHour]).decode
    pipeline, packed = taken(last=False)
    (name,) = (name for name in packed if name.startswith(HOURS))
    with pytest.raises(msgspec.ValidationError):
        decode(packed[name])
    _, nothing = taken(last=False, before=pipeline)
    assert name not in nothing
    # All that are open, for those that have not changed rest packed.
    _, plain = taken(last=True, before=pipeline)
    ((start, old),) = decode(plain[name]).items()
    assert start == T0
    assert {key: found.until - found.ts for key, found in old.findings.items()} == {
        f"laden_0_s@{T0}": 75 * NS,
        f"laden_1_s@{T0 + 75 * NS}": 45 * NS,
    }
    for state in (packed, packed | plain):
        again = pipeline_of(life=2)
        thaw(again, state)
        ((_, hours),) = again.detection.hours.items()
        assert list(hours.values()) == list(next(iter(pipeline.detection.hours.values())).values())
