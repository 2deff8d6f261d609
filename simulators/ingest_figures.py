"""How ingest and store keep up with a load run, as the API's metrics have it."""

import asyncio
import time
from typing import Final, NamedTuple

import urllib3

from simulators.readback import ReadBackError

AGE: Final = "quayflow_ingest_status_age_seconds"
FRAMES: Final = "quayflow_ingest_journal_frames_total"
LAG: Final = "quayflow_ingest_store_lag_seconds"
OK: Final = 200
TIMEOUT_S: Final = 5.0


class IngestFigures(NamedTuple):
    """Of all workers."""

    frames: int
    """Frames in their journals."""
    store_lag_s: float
    """Age of the oldest frame that is not in the store."""
    at_s: float
    """When ingest said so, on the monotonic clock, s: it says so about once a second."""


async def figures_from(url: str | None) -> IngestFigures | None:
    """Return what an API says; None without one. ReadBackError where it cannot be asked."""
    return await asyncio.to_thread(_ask, url) if url is not None else None


def _ask(url: str) -> IngestFigures:
    try:
        answer = urllib3.request("GET", f"{url.rstrip('/')}/metrics", timeout=TIMEOUT_S, retries=1)
    except urllib3.exceptions.HTTPError as error:
        raise ReadBackError(f"{url}: {getattr(error, 'reason', error)}") from None
    if answer.status != OK:
        raise ReadBackError(f"{url}/metrics: {answer.status}")
    return parse(answer.data.decode(), time.monotonic())


def parse(text: str, now_s: float) -> IngestFigures:
    """Read the figures out of Prometheus text that came at ``now_s``, on the monotonic clock."""
    frames, lag, age = 0.0, 0.0, 0.0
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith(f"{FRAMES}{{"):
            frames += float(value)
        elif name.startswith(f"{LAG}{{"):
            lag = max(lag, float(value))
        elif name.startswith(f"{AGE}{{"):
            age = max(age, float(value))
    return IngestFigures(int(frames), lag, now_s - age)
