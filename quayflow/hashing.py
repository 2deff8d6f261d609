"""The store hash: one number for all that a store answers, whatever way it came about.

It covers every folded window row and every event but two kinds: ``device_online`` and ``device_offline`` tell what
ingest noticed in the order of receipt, ``event_retracted`` tells how events changed. Of a row it leaves out how it came
about: worker, epoch, and how much of it was late. Two stores that were given the same messages have the same hash, also
where an earlier release has made the float 5.0 of the 5 that a device told.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
import typer

from analytics.rows import TIERS_S, WindowRows, fold
from devices.columns import Ints
from devices.scalars import as_floats
from ingest.detection import NOTICES
from quayflow.progress import count_progress
from quayflow.settings import Settings
from store.interface import EventRecord, StoreUnreachableError, WindowStore
from store.open import open_records, open_windows
from store.records import SqlRecords

HASHED: Final = tuple(name for name in WindowRows.columns() if name not in {"series", "epoch", "late"})
OURS: Final = frozenset({"crane_move", "yard_move", "gate_passage"})
"""What detectors find: whether a number of theirs is whole or not, no release has changed."""
FOREVER_NS: Final = 2**62
AT_ONCE: Final = 64
"""Series whose rows are held in memory together."""
EVENTS_AT_ONCE: Final = 5_000


class StoreHash:
    """Sums up a store, series by series and event by event, in any order."""

    def __init__(self) -> None:
        """Begin with an empty store."""
        self._sum = 0
        self.rows = self.events = 0

    def add_rows(self, rows: WindowRows) -> None:
        """Take all rows of some series in one tier, not folded."""
        folded = fold(rows)
        if not len(folded):
            return
        order = np.lexsort((folded.window, folded.series))
        folded = folded.take(order)
        starts = np.append(np.flatnonzero(np.diff(folded.series, prepend=-1)), len(folded))
        for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            name = "\t".join(folded.keys[int(folded.series[begin])])
            digest = blake2b(f"{folded.tier_s[begin]}\t{name}\n".encode(), digest_size=16)
            for column in HASHED:
                digest.update(_bytes_of(getattr(folded, column)[begin:end]))
            histograms = [] if folded.bins is None else folded.bins[begin:end].tolist()
            # Rows of metrics without percentiles have the same hash whatever stands beside them.
            if any(histograms):
                digest.update(msgspec.msgpack.encode(histograms))
            self._take(digest.digest())
        self.rows += len(folded)

    def add_events(self, events: Iterable[EventRecord]) -> None:
        """Take events; no id may come twice."""
        for event in events:
            if event.type in NOTICES:
                continue
            data = event.data if event.type in OURS else as_floats(event.data)
            said = msgspec.structs.replace(event, data=dict(sorted(data.items())), cursor=0)
            self._take(blake2b(msgspec.json.encode(said), digest_size=16).digest())
            self.events += 1

    def hexdigest(self) -> str:
        """Return the hash so far: 32 hexadecimal digits."""
        return f"{self._sum:032x}"

    def _take(self, digest: bytes) -> None:
        # A sum, so that it does not matter which store lists its series and events in which order.
        self._sum = (self._sum + int.from_bytes(digest)) % 2**128


def _bytes_of(column: Ints) -> bytes:
    """Return what tells a column apart; sums may be Python's integers, of any size."""
    return repr(column.tolist()).encode() if column.dtype == np.object_ else column.tobytes()


def hash_of(windows: WindowStore, records: SqlRecords) -> StoreHash:
    """Read a whole store, with progress, and return its hash."""
    result = StoreHash()
    series = windows.find()
    with count_progress("series", len(series)) as advance:
        for first in range(0, len(series), AT_ONCE):
            some = series[first : first + AT_ONCE]
            for tier_s in TIERS_S:
                result.add_rows(windows.read(tier_s, 0, FOREVER_NS, some))
            advance(len(some))
    result.add_events(every_event(records))
    return result


def every_event(records: SqlRecords) -> Iterator[EventRecord]:
    """Yield every event of a store, by cursor."""
    after = 0
    while page := records.events(after=after, limit=EVENTS_AT_ONCE):
        yield from page
        after = page[-1].cursor


async def show_hash(settings: Settings, *, as_json: bool) -> int:
    """Print the hash of a data folder's store, with progress on a terminal; return the exit status.

    Raises StoreUnreachableError where there is none.
    """
    windows_url, records_url = settings.store_urls
    database = settings.data / "quayflow.db"
    if settings.windows_url is None and not database.exists():
        raise StoreUnreachableError(f"no store in {settings.data}: name the data folder with --data")
    with (
        contextlib.closing(open_windows(windows_url, read_only=True)) as windows,
        contextlib.closing(open_records(records_url)) as records,
    ):
        found = hash_of(windows, records)
        statuses = records.workers().values()
    report = {
        "store_hash": found.hexdigest(),
        "rows": found.rows,
        "events": found.events,
        "waiting_to_run_again": sum(int(status.get("waiting_to_run_again") or 0) for status in statuses),
    }
    typer.echo(json.dumps(report) if as_json else "\n".join(f"{name:<21} {value}" for name, value in report.items()))
    return 0
