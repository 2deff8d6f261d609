"""The window kernel alone, on one core: scattered samples and packed blocks, from a thousand series to a million.

The figures are samples per second of CPU time, so that whatever else runs on the machine counts less. A 10 s window
ends in the midst of the samples: with a million series four times as often as it would in operation, where twenty
million samples a second are two hundred of a series in a window. Taking the rows out at a commit is not part of it.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Final

import numpy as np

from analytics.rows import SeriesKey
from analytics.windows import Windows
from bench.payloads import GAUGES
from bench.registry import Pair, Round, Row, Scale, group
from devices.columns import Ints
from devices.times import NS
from ingest.blocks import Block, Float32s, check, cut, extent_of, partials_of, stacked

START: Final = 1_763_856_000 * NS
"""2025-11-23T00:00:00Z, where a window begins."""
WIDTH: Final = 10 * NS
SERIES: Final = {"": 1_000, "_10k": 10_000, "_100k": 100_000, "_1m": 1_000_000}
"""End of the row's name → how many series."""
BATCH: Final = 1 << 16
"""Scattered samples handed over at once."""
BATCHES: Final = 256
EACH: Final = 50
"""Samples of each series at least, for which there are more batches where there are many series."""
STEP: Final = 50
"""Time between two scattered samples, ns: as if they came at twenty million a second."""
ROWS: Final = 150
"""Instants of a block."""
DT: Final = 10_000_000
"""Time between them, ns."""
TOGETHER: Final = 500
"""Blocks handed over at once."""
GOAL_SCATTERED: Final = 20e6
GOAL_BLOCKS: Final = 60e6


def _rows(name: str, reference: str, title: str, goal: float) -> Iterator[Row]:
    for end, series in SERIES.items():
        beside = "1,000 series" if end else reference
        yield Row(f"{name}{end}", "samples/s", beside, f"{title}, {series:,} series", goal_value=goal)


@group(*_rows("kernel_scattered", "one sum by add.at", "kernel: scattered samples", GOAL_SCATTERED))
def scattered(scale: Scale) -> Iterator[Round]:
    """Add samples of series drawn at random, with every aggregate; the reference makes one of the eleven."""
    batches, each = scale.of(BATCHES, 2), scale.of(EACH, 0)
    enough = {series: max(batches, series * each // BATCH) for series in SERIES.values()}
    with _apart() as core:
        while True:
            rates = {
                end: core.submit(_scattered_rate, series, enough[series]).result() for end, series in SERIES.items()
            }
            yield _round("kernel_scattered", rates, core.submit(_sum_rate, SERIES[""], batches).result())


@group(*_rows("kernel_blocks", "reading each value once", "kernel: blocks of 1,500 samples", GOAL_BLOCKS))
def blocks(scale: Scale) -> Iterator[Round]:
    """Check, scale, reduce and add packed blocks; the reference sums the same bytes without a look at them."""
    batches = scale.of(40, 1)
    with _apart() as core:
        while True:
            rates = {end: core.submit(_block_rate, series, batches).result() for end, series in SERIES.items()}
            yield _round("kernel_blocks", rates, core.submit(_read_rate, batches).result())


def _apart() -> Executor:
    """Return a process of its own to measure in, as a million series would make that of the other rows large."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _round(name: str, rates: dict[str, float], reference: float) -> Round:
    few = rates[""]
    return {f"{name}{end}": Pair(rate, few if end else reference) for end, rate in rates.items()}


def _scattered_rate(series: int, batches: int) -> float:
    windows, generator, seconds = _warm(series), np.random.default_rng(7), 0.0
    begin = START + WIDTH - batches * BATCH * STEP // 2
    for nth in range(batches):
        which, value = _drawn(generator, series)
        place = nth * BATCH + np.arange(BATCH)
        late = np.zeros(BATCH, np.bool_)
        seconds += _cpu(lambda: windows.add(which, begin + place * STEP, place, value, late))  # noqa: B023 - called here
    seconds += _cpu(windows.settle)
    return batches * BATCH / seconds


def _sum_rate(series: int, batches: int) -> float:
    generator, seconds, total = np.random.default_rng(7), 0.0, np.zeros(series, np.int64)
    for _ in range(batches):
        which, value = _drawn(generator, series)
        seconds += _cpu(lambda: np.add.at(total, which, value))  # noqa: B023 - called here
    return batches * BATCH / seconds


def _drawn(generator: np.random.Generator, series: int) -> tuple[Ints, Ints]:
    return generator.integers(0, series, BATCH), generator.integers(-(10**6), 10**6, BATCH)


def _block_rate(series: int, batches: int) -> float:
    windows, values, seconds = _warm(series), _values(), 0.0
    metric = np.tile(np.array(GAUGES, np.int64), series // len(GAUGES))
    columns = np.arange(series).reshape(-1, len(GAUGES))
    for nth in range(batches):
        first = nth * TOGETHER
        made = [
            Block(at, columns[(first + at) % len(columns)], _time_of(first + at, len(columns)), DT, values[at])
            for at in range(TOGETHER)
        ]
        seconds += _cpu(lambda: _reduce(windows, made, metric))  # noqa: B023 - called here
    return batches * TOGETHER * values[0].size / seconds


def _reduce(windows: Windows, made: list[Block], metric: Ints) -> None:
    for stack in (cut(each, WIDTH) for each in stacked(made)):
        index = metric[stack.series]
        extent = extent_of(stack, index)
        good, bad = check(stack, extent, index)
        assert not bad
        nothing = np.zeros(len(made), np.int64)[stack.frame]
        windows.add_partials(partials_of(stack, extent, index, good, stack.frame, nothing, WIDTH))


def _time_of(nth: int, devices: int) -> int:
    """Return when a block begins: each device's blocks follow each other."""
    return START + WIDTH + nth // devices * ROWS * DT


def _read_rate(batches: int) -> float:
    values = _values()
    seconds = sum(_cpu(lambda: [each.sum() for each in values]) for _ in range(batches))
    return batches * TOGETHER * values[0].size / seconds


def _values() -> list[Float32s]:
    made = np.random.default_rng(7).uniform(0, 20, (TOGETHER, ROWS, len(GAUGES)))
    return [np.frombuffer(each.astype("<f4").tobytes(), "<f4").reshape(each.shape) for each in made]


def _warm(series: int) -> Windows:
    """Return windows that have been in use for a while: every series has come to the window where the samples begin."""
    windows, every = Windows("bench", 1, [KEY] * series), np.arange(series)
    for nth in range(6):
        ts = np.full(series, START + (nth - 5) * WIDTH)
        windows.add(every, ts, every, every, np.zeros(series, np.bool_))
    windows.take_rows(0)
    return windows


KEY: Final = SeriesKey("CNNGB-BENCH", "quay-crane", "QC", "hoist_height_m")


def _cpu(work: Callable[[], object]) -> float:
    """Return the CPU time of this thread that ``work`` takes, s."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
