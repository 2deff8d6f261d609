"""Whether ingest grows: its memory in the course of ten minutes at four fifths of what it takes.

What is resident in one minute swings by some megabytes with what else the machine does, for batches are larger where
ingest had to wait. So stretches of three minutes are compared.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import expect_ready, receive, running_broker, start
from faults.ingest_process import IngestProcess
from faults.resident import now_mb
from faults.verifier import until_received

MINUTES: Final = 10
STRETCH: Final = 3
"""How long a stretch is, minutes; the first begins when ingest is warm, so long after the load."""
WARM: Final = 2
LOAD: Final = 0.8
"""Share of the highest rate."""
EVERY: Final = 1 / 60
"""How often memory is looked at, minutes."""
GOAL: Final = 1.05


@group(
    Row(
        "rss_flat",
        "MB",
        f"minutes {WARM} to {WARM + STRETCH}",
        f"quayflow: memory in the last {STRETCH} of {MINUTES} minutes at 80 % load",
        GOAL,
        less_is_better=True,
    ),
    long=True,
)
def flat(scale: Scale) -> Iterator[Round]:
    """Publish at a steady rate, and compare what ingest has resident at the end with what it had once it was warm."""
    minute_s = scale.of(60_000, 600) / 1_000
    with running_broker() as port:
        most = receive(port, "full_ingest", scale.of(200_000, 5_000), 1)["rate"]
        for boot in count(2):
            with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as name:
                folder = Path(name) / "data"
                with IngestProcess(folder, port) as ingest:
                    ingest.start()
                    seen, said = _watched(ingest.pid, port, LOAD * most, minute_s, boot)
                    until_received(folder, said["messages"])
                    ingest.terminate()
            early = [mb for minute, mb in seen if WARM <= minute < WARM + STRETCH]
            late = [mb for minute, mb in seen if minute >= seen[-1][0] - STRETCH]
            # Where the machine could not keep the rate, it took longer.
            rate = said["messages"] / said["seconds"]
            details = {"rate": rate, "highest_rate": most, "peak_mb": max(mb for _, mb in seen)}
            details |= {"least_mb_early": min(early), "least_mb_late": min(late)}
            yield {"rss_flat": Pair(statistics.median(late), statistics.median(early), details)}


def _watched(
    pid: int, port: int, rate: float, minute_s: float, boot: int
) -> tuple[list[tuple[float, float]], dict[str, Any]]:
    """Publish for so many minutes; return what a process had resident, as (minute, MB), and what the publisher says."""
    pacer = start("bench.pacer", str(port), str(rate), str(minute_s * MINUTES), str(boot))
    try:
        expect_ready(pacer, "pacer")
        assert pacer.stdin is not None
        pacer.stdin.write("go\n")
        pacer.stdin.flush()
        seen, began = list[tuple[float, float]](), time.monotonic()
        while pacer.poll() is None:
            seen.append(((time.monotonic() - began) / minute_s, now_mb(pid)))
            time.sleep(EVERY * minute_s)
        said: dict[str, Any] = json.loads(pacer.communicate()[0].splitlines()[-1])
    finally:
        if pacer.poll() is None:
            pacer.kill()
            pacer.wait()
    return seen, said
