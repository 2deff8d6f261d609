"""The memory of ingest: its peak with a hundred thousand series behind a broker, journal and store included."""

from collections.abc import Iterator
from itertools import count
from typing import Final

from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import receive, running_broker

LIMIT_MB: Final = 350.0
ROUNDS: Final = 6
"""How often each series is heard: every 10 s, so that windows end and rows of every tier are written."""
SIGNALS: Final = 10
"""Series of one device."""


@group(Row("rss_100k_series", "MB", "stated limit", "quayflow: peak memory, 100,000 series", 1.0, less_is_better=True))
def memory(scale: Scale) -> Iterator[Round]:
    """Let a new ingest meet the series and take their rows through several commits."""
    series = scale.of(100_000, 1_000)
    with running_broker() as port:
        for boot in count(1):
            figures = receive(port, "full_ingest", series // SIGNALS * ROUNDS, boot, series=series)
            details = {"cpu_us_per_message": figures["cpu_us"], "series": float(series)}
            yield {"rss_100k_series": Pair(figures["rss_mb"], LIMIT_MB, details)}
