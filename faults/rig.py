"""What every fault is built from: a hardened broker, an ingest process, a publisher with its ledger, the verdict."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engines.mosquitto import Mosquitto, running_mosquitto
from faults.ingest_process import IngestProcess, seconds_since
from faults.publisher import Publisher
from faults.verifier import Findings, until_taken, verify

HARDENED: Final[dict[str, Any]] = {
    "persistence": True,
    "autosave_interval": 30,
    "max_inflight_messages": 0,
    "max_queued_messages": 10_000_000,
    "max_packet_size": 16_777_216,
}
"""As the product's own broker is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured under one fault."""

    acked: int
    stored: int
    lost: int
    duplicates_stored: int
    quarantined: int
    recovery_s: float
    """From the end of the fault until everything acknowledged is committed, s."""
    rss_mb: float
    """Peak resident memory of ingest, MB."""
    passed: bool
    measured: str = ""
    """What else was measured, in a few words."""
    stale: int = 0
    """Acknowledgements that went out on another connection than the one on which their messages had come."""


@dataclass(frozen=True, slots=True)
class Rig:
    """The ground on which one fault is played."""

    folder: Path
    """An empty folder."""
    quick: bool = False
    """Whether a slice of the fault is enough, as in the tests."""
    launcher: str = "quayflow"
    """Module that stands for the product; a mutation puts a broken one here."""
    patience_s: float = 30.0
    """How long to wait for messages that may never come, s."""
    alone: bool = False
    """Whether this fault was asked for by its name, so that it may take minutes."""

    def scaled(self, full: float, quick: float) -> float:
        """Return how much of something to do."""
        return quick if self.quick else full

    @contextmanager
    def broker(self, **options: object) -> Iterator[Mosquitto]:
        """Run a broker that keeps what it has acknowledged."""
        with running_mosquitto(**{**HARDENED, **options}) as running:
            yield running

    def ingest(self, port: int, name: str = "data", *, launcher: str = "", **settings: object) -> IngestProcess:
        """Return an ingest process that is not started yet."""
        return IngestProcess(self.folder / name, port, launcher=launcher or self.launcher, **settings)

    def verdict(self, ingest: IngestProcess, publisher: Publisher, *, since: float, measured: str = "") -> Outcome:
        """Stop the publisher, wait until everything is taken, stop ingest and compare.

        ``since`` is when the fault ended, on the monotonic clock.
        """
        publisher.stop()
        recovery_s, late = self.recovered(ingest, len(publisher.acked), since)
        ingest.terminate()
        found = verify(ingest.folder, publisher.acked)
        return outcome(found, recovery_s, ingest.peak_rss_mb, measured=measured, late=late)

    def recovered(self, ingest: IngestProcess, messages: int, since: float) -> tuple[float, str]:
        """Wait until so many messages are committed; return the seconds since the fault, and what is missing."""
        try:
            until_taken(ingest.folder, messages, self.patience_s)
        except TimeoutError as error:
            return seconds_since(since), str(error)
        return seconds_since(since), ""


def outcome(
    found: Findings,
    recovery_s: float,
    rss_mb: float,
    *,
    holds: bool = True,
    measured: str = "",
    quarantined: int | None = None,
    late: str = "",
) -> Outcome:
    """Return the row of findings; ``holds`` adds to what must always be true, ``late`` is what came too late."""
    refused = found.quarantined if quarantined is None else quarantined
    return Outcome(
        acked=found.acked,
        stored=found.stored,
        lost=found.lost,
        duplicates_stored=found.duplicates_stored,
        quarantined=refused,
        recovery_s=recovery_s,
        rss_mb=round(rss_mb, 1),
        passed=found.good and holds and not late,
        measured="; ".join(filter(None, (measured, late, *found.notes))),
    )


def now() -> float:
    """Return the monotonic clock, s."""
    return time.monotonic()
