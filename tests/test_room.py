"""No window row holds more samples than its sum has room for, whatever way they come."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_port import NOW, MadePort, client_of, device

import ingest.room
from analytics.partials import Partials
from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold
from devices.codecs.native import Block, Telemetry, encode
from devices.rejects import Reason
from devices.times import NS, format_rfc3339
from devices.vocabulary import MAX_SCALED
from ingest.ledger import Account
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.recomputing import fold_newest
from store.journal import Frame

TOPIC = "port/CNNGB-DEMO/vehicle/T1/telemetry"
START = 1_767_225_600 * NS
NAMES = ("odometer_m", "speed_mps")
HOUR = TIERS_S[-1]

sent = st.lists(
    st.tuples(
        st.sampled_from(["single", "block", "bad", "commit"]),
        st.integers(0, 12_000),
        st.integers(1, 30),
    ),
    max_size=30,
)


def frame(payload: bytes, number: int) -> Frame:
    return Frame(number * 1_000, START + 12_300 * NS, 1, 1, TOPIC, payload)


def block(second: int, rows: int, seq: int, *, bad: bool = False) -> bytes:
    values = np.full((rows, len(NAMES)), 1.0, "<f4")
    values[0, 0] = np.nan if bad else 1.0
    made = Block(v=1, t0=START + second * NS, dt=NS // 10, names=NAMES, f32=values.tobytes(), boot=1, seq=seq)
    return encode(made)


def telemetry(second: int, seq: int) -> bytes:
    return encode(Telemetry(v=1, m=dict.fromkeys(NAMES, 1.0), boot=1, seq=seq, ts=START + second * NS))


@settings(max_examples=80)
@given(sent, st.integers(1, 60))
def test_no_row_holds_more_samples_than_its_sum_has_room_for(sent: list[tuple[str, int, int]], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.room, "MOST", most)
        pipeline, rows, given_by_hour = Pipeline("w", 1, PipelineConfig()), [], Counter[int]()
        batch: list[Frame] = []
        for seq, (kind, second, many) in enumerate([*sent, ("commit", 0, 0)]):
            if kind == "commit":
                pipeline.process(batch)
                batch = []
                rows.append(pipeline.take_rows(seq))
            elif kind == "single":
                batch.append(frame(telemetry(second, seq), seq))
                given_by_hour[second // HOUR] += 1
            else:
                batch.append(frame(block(second, many, seq, bad=kind == "bad"), seq))
                given_by_hour.update((second * 10 + nth) // (10 * HOUR) for nth in range(many))
    refused = pipeline.take_quarantine()
    written = WindowRows.concatenate(rows)
    of_input = written.take(np.array([written.keys[at].metric in NAMES for at in written.series.tolist()], np.bool_))
    assert int(of_input.count.max(initial=0)) <= most
    assert pipeline.ledger.balanced()
    folded = fold_newest(of_input)
    kept = int(folded.count[folded.tier_s == TIERS_S[0]].sum())
    nothing_full = {each.reason for each in refused} <= {Reason.NOT_FINITE}
    accounts = pipeline.ledger_rows(pipeline.directory.devices)
    quarantined = sum(row.samples for row in accounts if row.account == "quarantined")
    assert kept + quarantined == len(NAMES) * given_by_hour.total()
    if max(given_by_hour.values(), default=0) <= most:
        assert nothing_full
    if len(rows) == 1 and max(given_by_hour.values(), default=0) > most:
        assert not nothing_full


def test_a_refused_column_says_that_its_window_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.room, "MOST", 50)
    pipeline = Pipeline("w", 1, PipelineConfig())
    pipeline.process([frame(block(0, 40, 0), 0), frame(block(0, 40, 1), 1), frame(telemetry(0, 2), 2)])
    found = [(each.reason, each.pointer) for each in pipeline.take_quarantine()]
    assert found == [(Reason.WINDOW_FULL, f"/f32/{name}/0") for name in NAMES]
    assert pipeline.ledger.balanced()
    assert pipeline.ledger.total(Account.QUARANTINED) == 1


def test_sums_over_any_range_are_exact_beyond_64_bits() -> None:
    most, hours = 2**27 - 1, 400 * 24
    ones = np.ones(hours, np.int64)
    columns = dict.fromkeys(WindowRows.columns(), ones) | {
        "tier_s": ones * HOUR,
        "window": START + np.arange(hours) * HOUR * NS,
        "series": ones * 0,
        "count": ones * most,
        "sum": ones * most * -MAX_SCALED,
    }
    rows = WindowRows([SeriesKey("S", "vehicle", "T", "odometer_m")], "w", *(columns[n] for n in WindowRows.columns()))
    total = fold(rows, 2**14 * HOUR * NS)
    assert total.count.sum() == most * hours
    assert total.sum.tolist() == [count * -MAX_SCALED for count in total.count.tolist()]
    assert min(total.sum.tolist()) < -(2**70)
    assert fold(rows).sum.dtype == np.int64


def test_an_answer_over_many_hours_sums_beyond_64_bits(tmp_path: Path) -> None:
    port, uid, most = MadePort(tmp_path), "CNNGB-DEMO/vehicle/T1", 2**27 - 1
    port.keys.append(SeriesKey("CNNGB-DEMO", "vehicle", "T1", "odometer_m"))
    first, hours, value = NOW // (HOUR * NS) * HOUR * NS - 5 * HOUR * NS, 3, 50_000_000_000
    for hour in range(hours):
        at = first + hour * HOUR * NS
        aggregates = (most, most * value, value, value, at, 0, value, at, 0, value, 0)
        ints = [np.array([each], np.int64) for each in (0, at, *aggregates)]
        port.windows.add_partials(Partials(ints[0], ints[1], ints[2:]))
    port.commit(devices=[device(uid)])
    asked = {"metric": "odometer_m", "start": format_rfc3339(first), "end": format_rfc3339(first + hours * HOUR * NS)}
    with client_of(port) as client:
        one, hourly = (client.json("/v1/devices/T1/telemetry", **asked, step=step) for step in ("3h", "1h"))
    port.sink.close()
    total = hours * most * value / 10
    assert [point["sum"] for point in one["points"]] == [total]
    assert [point["sum"] for point in hourly["points"]] == [most * value / 10] * hours
    for summary in (one["summary"], hourly["summary"], *one["points"]):
        assert (summary["count"], summary["sum"], summary["mean"]) == (hours * most, total, value / 10)
