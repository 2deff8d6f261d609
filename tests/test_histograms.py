"""Histograms against sorted data: within 1 %, whatever the order, the grouping, the lateness and the store."""

import math
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import T0
from made_rows import BEGIN, key, rows_of

from analytics.findings import Samples, Span
from analytics.findings import rows_of as rows_of_findings
from analytics.histograms import (
    BINS,
    Histograms,
    bins_of,
    folded,
    objects,
    percentile,
    representatives,
    unpacked,
)
from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold
from analytics.windows import Windows
from devices.codecs.native import Block
from devices.times import NS
from devices.vocabulary import MAX_SCALED, PERCENTILED
from ingest.pipeline import Pipeline, PipelineConfig
from quayflow.hashing import StoreHash
from store.journal import Frame
from store.windows_sqlite import SqliteWindowStore

VALUES = st.one_of(st.integers(-MAX_SCALED, MAX_SCALED), st.integers(-200, 200), st.integers(-600_000, 600_000))
KEYS = [
    SeriesKey("CNNGB-DEMO", "vehicle", "T1", "speed_mps"),
    SeriesKey("CNNGB-DEMO", "vehicle", "T1", "heading_deg"),
    SeriesKey("CNNGB-DEMO", "quay-crane", "QC1", "load_t"),
]


def histogram_of(values: list[int]) -> bytes:
    array = np.array(values, np.int64)
    packed: bytes = Histograms.of(array * 0, bins_of(array), np.ones_like(array)).packed(np.zeros(1, np.int64))[0]
    return packed


@given(VALUES)
def test_a_bins_representative_is_within_one_per_cent_of_every_value_in_it(value: int) -> None:
    found = float(representatives(bins_of(np.array([value])))[0])
    assert abs(found - value) <= abs(value) / 100 * (1 + 1e-12)
    assert abs(value) > 50 or found == value


@given(VALUES, VALUES)
def test_bins_keep_the_order_of_values_mirror_the_sign_and_are_bounded(one: int, other: int) -> None:
    first, second, mirrored = bins_of(np.array([one, other, -one])).tolist()
    assert first <= second if one <= other else first >= second
    assert mirrored == -first
    assert abs(first) <= BINS < 2**11
    assert (first == 0) == (one == 0)


def test_every_edge_is_in_its_bin() -> None:
    ends, low = list[tuple[int, int]](), 1
    while low <= MAX_SCALED:
        ends.append((low, low * 101 // 99))
        low = ends[-1][1] + 1
    assert len(ends) == BINS
    for nth in (0, 1):
        assert bins_of(np.array([end[nth] for end in ends])).tolist() == list(range(1, BINS + 1))


@given(st.lists(VALUES, min_size=1, max_size=300), st.integers(1, 100))
def test_a_percentile_is_within_one_per_cent_of_the_sample_of_its_rank(values: list[int], percent: int) -> None:
    found = float(percentile(objects([histogram_of(values)]), np.array([len(values)]), percent)[0])
    exact = sorted(values)[-(-len(values) * percent // 100) - 1]
    assert abs(found - exact) <= abs(exact) / 100 * (1 + 1e-12)


@given(st.lists(st.lists(VALUES, max_size=40), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_merging_in_any_order_and_grouping_gives_the_same_bytes(parts: list[list[int]], chance: random.Random) -> None:
    whole = histogram_of([value for part in parts for value in part])
    chance.shuffle(parts)
    group = np.array([chance.randrange(3) for _ in parts])
    some = folded(objects([histogram_of(part) if part else b"" for part in parts]), group, 3)
    assert folded(some, np.zeros(3, np.int64), 1).tolist() == [whole]


def test_a_histogram_that_lacks_samples_has_no_percentiles() -> None:
    packed = objects([histogram_of([1, 2, 3]), histogram_of([1, 2, 3]), b"", b""])
    assert percentile(packed, np.array([3, 4, 2, 0]), 50).tolist()[0] == 2
    assert [math.isnan(each) for each in percentile(packed, np.array([3, 4, 2, 0]), 50)] == [False, True, True, True]


def test_counts_beyond_four_bytes_are_kept() -> None:
    several = Histograms.of(np.array([5, 5, 7]), np.array([-3, -3, BINS]), np.array([2**40, 2**40, 1]))
    place, of_bin, count = unpacked(several.packed(np.array([5, 6, 7])))
    assert (place.tolist(), of_bin.tolist(), count.tolist()) == ([0, 2], [-3, BINS], [2**41, 1])


Sample = tuple[int, int, int]
"""Series, second, scaled value."""
SAMPLES = st.tuples(st.integers(0, 2), st.integers(-4_000, 9_000), st.integers(-20_000, 100_000))


def expected(samples: list[Sample], tier_s: int) -> dict[tuple[int, int], bytes]:
    groups: dict[tuple[int, int], list[int]] = {}
    for series, second, value in samples:
        ts = T0 + second * NS
        groups.setdefault((series, ts - ts % (tier_s * NS)), []).append(value)
    return {
        place: histogram_of(values) if KEYS[place[0]].metric in PERCENTILED else b"" for place, values in groups.items()
    }


def last_of_each_key(parts: list[WindowRows]) -> WindowRows:
    rows = WindowRows.concatenate(parts)
    places = list(zip(*(getattr(rows, name).tolist() for name in ("tier_s", "window", "series", "epoch")), strict=True))
    return rows.take(np.array(sorted({place: at for at, place in enumerate(places)}.values()), np.int64))


@settings(max_examples=60)
@given(st.lists(SAMPLES, min_size=1, max_size=80), st.randoms(use_true_random=False))
def test_every_tier_holds_the_histogram_of_its_samples_late_or_not(
    samples: list[Sample], chance: random.Random
) -> None:
    parts, life, windows = list[WindowRows](), 1, Windows("w", 1, KEYS)
    if chance.random() < 0.5:
        samples = sorted(samples, key=lambda sample: sample[1])
    for nth, (series, second, value) in enumerate(samples):
        ts = np.array([T0 + second * NS])
        windows.add(np.array([series]), ts, np.array([nth]), np.array([value]), np.array([False]))
        if chance.random() < 0.3:
            windows.settle()
        if chance.random() < 0.3:
            parts.append(windows.take_rows(nth))
            if chance.random() < 0.2:
                life += 1
                windows = Windows("w", life, KEYS)
    parts.append(windows.take_rows(len(samples)))
    stored = last_of_each_key([part for part in parts if len(part)])
    for tier_s in TIERS_S:
        rows = fold(stored.take(stored.tier_s == tier_s))
        places = zip(rows.series.tolist(), rows.window.tolist(), strict=True)
        assert dict(zip(places, rows.packed.tolist(), strict=True)) == expected(samples, tier_s)


def test_histograms_of_windows_that_are_over_take_no_memory() -> None:
    windows = Windows("w", 1, KEYS)
    for nth in range(200):
        ts = np.array([T0 + nth * 60 * NS])
        windows.add(np.array([0]), ts, np.array([nth]), np.array([nth * 1_000]), np.array([False]))
        windows.take_rows(nth)
    held = [len(table.key) for table in windows._histograms._open]  # noqa: SLF001 - memory cannot be seen elsewhere
    assert held[0] <= 4
    assert held[1] <= 2
    assert sum(held) < 200


def test_series_without_percentiles_have_no_histograms() -> None:
    windows = Windows("w", 1, KEYS)
    windows.add(np.array([1]), np.array([T0]), np.array([0]), np.array([5]), np.array([False]))
    assert windows.take_rows(0).bins is None


@settings(max_examples=40)
@given(st.lists(st.floats(-20, 60, width=32), min_size=1, max_size=200), st.sampled_from([NS // 10, NS, 7 * NS]))
def test_a_block_has_the_histogram_of_its_values(values: list[float], dt: int) -> None:
    rows = np.column_stack([np.array(values, "<f4"), np.zeros(len(values), "<f4")])
    made = Block(v=1, t0=T0, dt=dt, names=("load_t", "hoist_height_m"), f32=rows.tobytes(), boot=1, seq=0)
    payload = msgspec.msgpack.encode(msgspec.to_builtins(made, builtin_types=(bytes,)))
    pipeline = Pipeline("w", 1, PipelineConfig())
    pipeline.process([Frame(0, T0 + 2_000 * NS, 1, 1, "port/CNNGB-DEMO/quay-crane/QC01/telemetry", payload)])
    found = pipeline.take_rows(1)
    hours = fold(found.take(found.tier_s == 3_600))
    scaled = np.rint(np.array(values, "<f4").astype(float) * 1_000).astype(int).tolist()
    metrics = [hours.keys[series].metric for series in hours.series.tolist()]
    whole = dict(zip(metrics, hours.packed.tolist(), strict=True))
    assert whole == {"load_t": histogram_of(scaled), "hoist_height_m": b""}


def test_figures_of_events_have_histograms_in_every_tier() -> None:
    keys = [key("QC01", "cycle_s"), key("QC01", "moves")]
    samples = [(0, T0 + nth * 40 * NS, nth, 60_000 + nth * 1_000) for nth in range(50)]
    samples += [(1, ts, seq, 1) for _, ts, seq, _ in samples]
    spans = [Span(series, ts, ts + 1) for series, ts, _, _ in samples]
    rows = rows_of_findings(Samples(np.array(samples), np.empty((0, 3), np.int64)), spans, keys, "w")
    hour = rows.take((rows.tier_s == 3_600) & (rows.series == 0))
    assert hour.packed.tolist() == [histogram_of([value for series, _, _, value in samples if series == 0])]
    assert rows.take(rows.series == 1).packed.tolist() == [b""] * int((rows.series == 1).sum())
    assert set(rows.tier_s.tolist()) == set(TIERS_S)


def test_the_hash_tells_histograms_and_only_of_metrics_that_have_them() -> None:
    def hash_of(*histograms: bytes) -> str:
        rows = rows_of([key(), key(metric="moves")], [{"series": nth} for nth in range(len(histograms))])
        bins = None if not any(histograms) else objects(histograms)
        result = StoreHash()
        result.add_rows(WindowRows(rows.keys, "", *(getattr(rows, name) for name in rows.columns()), bins=bins))
        return result.hexdigest()

    one, other = histogram_of([100, 200, 300]), histogram_of([100, 300, 300])
    assert len({hash_of(b""), hash_of(one), hash_of(other)}) == 3

    def lone(*histograms: bytes) -> int:
        return (int(hash_of(*histograms), 16) - int(hash_of(histograms[0]), 16)) % 2**128

    assert lone(one, b"") == lone(b"", b"")


def test_a_file_from_before_histograms_is_read_and_gets_them_from_its_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "quayflow.db"
    rows = rows_of([key()], [{}])
    first = SqliteWindowStore(path)
    first.write(rows)
    first.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE window_rows DROP COLUMN bins")
    reader = SqliteWindowStore(path, read_only=True)
    assert reader.read(10, 0, 2**62, [key()]).bins is None
    packed = objects([histogram_of([100, 200, 300])])
    writer = SqliteWindowStore(path)
    assert writer.read(10, 0, 2**62, [key()]).packed.tolist() == [b""]
    writer.write(WindowRows(rows.keys, "w1", *(getattr(rows, name) for name in rows.columns()), bins=packed))
    assert reader.read(10, BEGIN, BEGIN + NS, [key()]).packed.tolist() == packed.tolist()
    writer.close()
    reader.close()
