"""Packed rows: what goes in comes out, narrow in between."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_rows import BEGIN, any_rows, as_set, key, rows_of

from analytics.packing import LOT, PackedRows, whole
from analytics.rows import TIERS_S, WindowRows
from devices.times import NS

KEYS = [key(), key("QC02"), key(metric="wind_speed_mps")]


@given(st.sampled_from(TIERS_S).flatmap(lambda tier_s: any_rows(KEYS, tier_s)), st.integers(1, 5))
def test_packing_loses_nothing(drawn: list[dict[str, int]], parts: int) -> None:
    rows = rows_of(KEYS, drawn)
    packed = PackedRows(KEYS, "w1")
    for nth in range(parts):
        part = rows.take(np.arange(nth, len(rows), parts))
        for tier_s in np.unique(part.tier_s).tolist():
            packed.add(tier_s, part.take(part.tier_s == tier_s))
            assert packed.narrow(tier_s, "count").sum() > 0  # read in between
    assert len(packed) == len(rows)
    assert as_set(packed.whole()) == as_set(rows)
    assert all(getattr(packed.whole(), name).dtype == np.int64 for name in WindowRows.columns())


@given(any_rows(KEYS, 60))
def test_rows_are_taken_by_their_places(drawn: list[dict[str, int]]) -> None:
    rows = rows_of(KEYS, drawn)
    packed = PackedRows.of(rows)
    backwards = np.arange(len(rows))[::-1]
    if len(rows):
        assert as_set(packed.take(60, backwards[:3])) == as_set(rows.take(backwards[:3]))
    assert as_set(whole(packed)) == as_set(whole(rows))


def test_small_numbers_rest_in_few_bytes() -> None:
    n = 2 * LOT
    rows = rows_of(KEYS, [{}] * n).at_epoch(2)
    packed = PackedRows.of(rows)
    held = sum(packed.narrow(10, name).nbytes for name in WindowRows.columns() if name != "tier_s")
    assert held < 45 * n
    assert packed.narrow(10, "window").tolist() == [BEGIN // (10 * NS)] * n
