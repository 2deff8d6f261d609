"""Key figures: what each one is, and how it is computed from window rows.

A figure is published with its definition's id and version; a change of meaning is a new version. `docs/kpis.md` says
the same in words. All times are ns UTC, all ranges half-open and aligned to the finest window.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from analytics.rows import TIERS_S, WindowSums
from devices.columns import Floats, Ints
from devices.times import NS

HOUR_NS: Final = 3_600 * NS
COVERAGE_WINDOWS: Final = 1_440
"""Most windows per device that coverage looks at; longer ranges are judged in wider windows."""


@dataclass(frozen=True, slots=True)
class KpiDefinition:
    """What a figure is."""

    id: str
    version: str
    name: str
    numerator: str
    denominator: str
    description: str


MOVES_PER_HOUR: Final = KpiDefinition(
    id="moves_per_hour",
    version="1",
    name="Moves per elapsed hour",
    numerator="container moves completed by quay cranes (lock to unlock of the spreader with a load)",
    denominator="hours of the range, or of a bucket, that are complete: from its start to complete_through",
    description=(
        "Container moves per elapsed hour. Only moves inside the complete part count towards the rate, so the newest "
        "data do not pull it down. No delay and no idle time is subtracted. Discharge and load moves count alike, a "
        "shift that does not cross the quay edge is an event but no move; a twin lift is one move, its containers "
        "show in teu. Null where no part of the range is complete."
    ),
)
PASSAGES_PER_HOUR: Final = KpiDefinition(
    id="passages_per_hour",
    version="1",
    name="Gate passages per elapsed hour",
    numerator="gate passages in and out (tag reads of one vehicle joined into one passage)",
    denominator="hours of the range, or of a bucket, that are complete: from its start to complete_through",
    description=(
        "Vehicle passages through a gate lane per elapsed hour, both directions together. Only passages inside the "
        "complete part count towards the rate. Null where no part of the range is complete."
    ),
)
TELEMETRY: Final = KpiDefinition(
    id="telemetry",
    version="1",
    name="Aggregated telemetry",
    numerator="samples accepted from the device",
    denominator="buckets of the step, aligned to 1970-01-01T00:00:00Z",
    description=(
        "Exact count, sum, minimum and maximum of the samples in each bucket, their mean (sum / count), and the first "
        "and last by event time, then sequence number. Every sample weighs the same, however long it held. Buckets "
        "without samples are absent."
    ),
)
COVERAGE: Final = KpiDefinition(
    id="coverage",
    version="1",
    name="Coverage",
    numerator="pairs of device and closed window in which at least one sample of the device was kept",
    denominator="all pairs of a device concerned and a closed window of the range",
    description=(
        "Share of the closed windows of the range in which the devices concerned were heard at all, in per cent. A "
        "window is closed when it lies wholly before complete_through; it is 10 s wide, or the next tier's width where "
        "the range holds more than 1440 of them. Null where no window is closed or no device is concerned."
    ),
)
DEFINITIONS: Final = {kpi.id: kpi for kpi in (MOVES_PER_HOUR, PASSAGES_PER_HOUR, TELEMETRY, COVERAGE)}


def bucket_starts(start_ns: int, end_ns: int, step_ns: int) -> Ints:
    """Return the starts of the epoch-aligned buckets that overlap [start, end); the first may begin before it."""
    return np.arange(start_ns - start_ns % step_ns, end_ns, step_ns, dtype=np.int64)


def tally(rows: WindowSums, line_of_series: Ints, lines: int, buckets: Ints, step_ns: int) -> Ints:
    """Add up the scaled sums of ``rows`` by line and bucket.

    ``line_of_series`` (series,) says to which line of the result a series belongs. Every row must lie in a bucket.
    Returns (lines, buckets), scaled as the metrics are.
    """
    result = np.zeros((lines, len(buckets)), np.int64)
    if len(rows):
        column = (rows.window - buckets[0]) // step_ns
        np.add.at(result, (line_of_series[rows.series], column), rows.sum)
    return result


def complete_hours(buckets: Ints, step_ns: int, start_ns: int, complete_ns: int) -> Floats:
    """Return the hours of each bucket that lie in [start, complete); shape (buckets,)."""
    inside = np.minimum(buckets + step_ns, complete_ns) - np.maximum(buckets, start_ns)
    return np.asarray(np.maximum(inside, 0) / HOUR_NS, dtype=np.float64)


def per_hour(counts: Ints, hours: Floats) -> Floats:
    """Return ``counts / hours``, NaN where there are no hours; the shapes broadcast."""
    rate = np.full(np.broadcast_shapes(counts.shape, hours.shape), np.nan)
    np.divide(counts, hours, out=rate, where=np.broadcast_to(hours > 0, rate.shape))
    return rate


def coverage_tier_s(start_ns: int, end_ns: int) -> int:
    """Return the width in seconds of the windows in which the coverage of a range is judged."""
    fitting = (tier for tier in TIERS_S if end_ns - start_ns <= COVERAGE_WINDOWS * tier * NS)
    return next(fitting, TIERS_S[-1])


def closed_windows(start_ns: int, complete_ns: int, width_ns: int) -> tuple[int, int]:
    """Return the start of the first and the end of the last window lying wholly in [start, complete); equal if none."""
    first = -(-start_ns // width_ns) * width_ns
    return first, max(first, complete_ns // width_ns * width_ns)


def coverage_percent(heard_windows: int, expected_windows: int) -> float | None:
    """Return the share in per cent, None where nothing was expected."""
    return 100 * heard_windows / expected_windows if expected_windows else None
