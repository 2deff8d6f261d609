"""Which rows to read for a question, and reading them.

A range is covered by the widest windows that lie in it and in one bucket of the step each; its ragged ends by narrower
ones. Every tier is complete as of the same commit, so the parts fit together:

    step 1 h, 08:05 … 10:20     ┌1 min┐┌15 min×3┐┌───── 1 h ─────┐┌15 min┐┌1 min×5┐
                                08:05  08:15     09:00            10:00   10:15    10:20
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from analytics.kpis import closed_windows, coverage_tier_s
from analytics.rows import TIERS_S, SeriesKey, WindowRows, WindowSums
from devices.columns import Bools, Ints
from devices.times import NS
from store.interface import WindowStore

WITNESSES: Final = (
    "hoist_height_m",
    "trolley_position_m",
    "x_m",
    "longitude_deg",
    "queue_length",
    "temperature_celsius",
)
"""Metrics that a healthy device of some class sends all the time: one of them mostly tells whether it was heard."""
APART: Final = 16
"""Gaps with fewer windows between them are looked into with one question to the store."""


class Segment(NamedTuple):
    """A part of a range, read from one tier."""

    tier_s: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Span:
    """A range on the grid of the finest windows, and the step of the answer."""

    start_ns: int
    end_ns: int
    step_s: int

    @property
    def step_ns(self) -> int:
        """The step in ns."""
        return self.step_s * NS


class Coverage(NamedTuple):
    """How many (device, window) pairs were heard, of how many."""

    heard: int
    expected: int
    window_s: int


def plan(start_ns: int, end_ns: int, step_s: int) -> list[Segment]:
    """Cover [start, end), both on the 10 s grid, in order; no row of the plan lies in two buckets of ``step_s``."""
    tiers = [tier for tier in reversed(TIERS_S) if step_s % tier == 0]
    return list(_cover(start_ns, end_ns, tiers))


def _cover(start_ns: int, end_ns: int, tiers: Sequence[int]) -> list[Segment]:
    if start_ns >= end_ns:
        return []
    tier, *narrower = tiers
    width = tier * NS
    first, last = -(-start_ns // width) * width, end_ns // width * width
    if not narrower:
        return [Segment(tier, start_ns, end_ns)]
    if last <= first:
        return _cover(start_ns, end_ns, narrower)
    return [*_cover(start_ns, first, narrower), Segment(tier, first, last), *_cover(last, end_ns, narrower)]


def default_step(start_ns: int, end_ns: int, points: int) -> int:
    """Return the narrowest tier, or multiple of the widest, that gives at most ``points`` buckets (±1), seconds."""
    seconds = (end_ns - start_ns) // NS
    widest = TIERS_S[-1]
    fitting = (tier for tier in TIERS_S if seconds <= points * tier)
    return next(fitting, -(-seconds // (points * widest)) * widest)


def read(windows: WindowStore, keys: Sequence[SeriesKey], segments: Sequence[Segment]) -> WindowRows:
    """Read the rows of a plan, not folded. Blocking."""
    return WindowRows.concatenate([windows.read(*segment, keys) for segment in segments])


def read_sums(windows: WindowStore, keys: Sequence[SeriesKey], segments: Sequence[Segment]) -> WindowSums:
    """Read what adds up of the rows of a plan, not folded. Blocking."""
    return WindowSums.concatenate([windows.read_sums(*segment, keys) for segment in segments])


def read_coverage(
    windows: WindowStore, series: Sequence[Sequence[SeriesKey]], span: Span, complete_ns: int
) -> list[Coverage]:
    """Return for each device, given its series, how much of the closed part of the span it was heard in. Blocking.

    Mostly one series of a device answers for all of them: the others are read only around its gaps.
    """
    tier_s = coverage_tier_s(span.start_ns, span.end_ns)
    grid = range(*closed_windows(span.start_ns, min(complete_ns, span.end_ns), tier_s * NS), tier_s * NS)
    result = np.zeros((len(series), len(grid)), np.bool_)
    ordered = [sorted(keys, key=_witness_order) for keys in series]
    if grid:
        _look(windows, tier_s, grid, [(index, keys[0]) for index, keys in enumerate(ordered) if keys], result)
        for within in _stretches(np.flatnonzero(~result.all(axis=0))):
            silent = np.flatnonzero(~result[:, within].all(axis=1)).tolist()
            rest = [(index, key) for index in silent for key in ordered[index][1:]]
            _look(windows, tier_s, grid[within], rest, result[:, within])
    return [Coverage(int(line.sum()), len(grid), tier_s) for line in result]


def _look(
    windows: WindowStore, tier_s: int, grid: range, series: Sequence[tuple[int, SeriesKey]], found: Bools
) -> None:
    """Mark in ``found`` (devices, windows) in which windows series, given with their device's number, have samples."""
    if series:
        heard = windows.heard(tier_s, grid, [key for _, key in series])
        np.logical_or.at(found, [index for index, _ in series], heard)


def _stretches(at: Ints) -> list[slice]:
    """Return slices that hold all the positions (n,), which ascend, and few others."""
    if not len(at):
        return []
    cut = np.flatnonzero(np.diff(at) > APART) + 1
    return [slice(int(some[0]), int(some[-1]) + 1) for some in np.split(at, cut)]


def _witness_order(key: SeriesKey) -> tuple[int, str]:
    return (WITNESSES.index(key.metric) if key.metric in WITNESSES else len(WITNESSES), key.metric)
