"""Compares what the publisher saw acknowledged with what the journal and the store hold.

The embedded store is read as plain SQL, so that a fault in the product's reading side cannot hide one in its writing.
"""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from faults.publisher import SITE, Key
from store.journal import Damage, read

METRIC: Final = "odometer_m"
RESOLUTION: Final = 10
"""The odometer is kept in tenths of a metre."""
TIERS_S: Final = (10, 60, 900, 3600)
ENDS: Final = ("windowed", "merged_late", "duplicate", "quarantined", "shed")


@dataclass(slots=True)
class Findings:
    """What became of the messages that were acknowledged."""

    acked: int
    stored: int
    """Messages in the windows of the finest tier, of the devices that are in the publisher's ledger."""
    lost: int
    duplicates_stored: int
    quarantined: int
    received: int
    """Frames in the journal's account, repetitions included."""
    repeated: int
    """Frames recognised as seen before."""
    lost_before_journal: int
    balanced: bool
    notes: list[str] = field(default_factory=list)
    """What is wrong, in words."""

    @property
    def good(self) -> bool:
        """Whether nothing is lost, nothing counted twice and the ledger balances."""
        return not self.lost and not self.duplicates_stored and self.balanced and not self.notes

    def __add__(self, other: "Findings") -> "Findings":
        """Return the findings of two installations together."""
        return Findings(
            acked=self.acked + other.acked,
            stored=self.stored + other.stored,
            lost=self.lost + other.lost,
            duplicates_stored=self.duplicates_stored + other.duplicates_stored,
            quarantined=self.quarantined + other.quarantined,
            received=self.received + other.received,
            repeated=self.repeated + other.repeated,
            lost_before_journal=self.lost_before_journal + other.lost_before_journal,
            balanced=self.balanced and other.balanced,
            notes=[*self.notes, *other.notes],
        )


Stored = dict[str, tuple[int, int]]
"""Device → messages counted and scaled sum of the odometer."""


def verify(folder: Path, acked: set[Key], stored_in: Callable[[int], Stored] | None = None) -> Findings:
    """Compare a data folder with a publisher's ledger; ingest must have committed.

    ``stored_in`` reads a tier where the windows are not in the folder's own file.
    """
    expected = _by_device(acked)
    accounts = ledger(folder)
    totals: Counter[str] = Counter()
    for (_, account), frames in accounts.items():
        totals[account] += frames
    tiers = {tier: stored_in(tier) if stored_in else windows(folder, tier) for tier in TIERS_S}
    lost = duplicates = 0
    notes: list[str] = []
    for device, sequences in expected.items():
        count, total_m = tiers[10].get(device, (0, 0))
        lost += max(0, len(sequences) - count)
        duplicates += max(0, count - len(sequences))
        if count == len(sequences) and total_m != sum(sequences) * RESOLUTION:
            lost, duplicates = lost + 1, duplicates + 1
            notes.append(f"{device}: {count} messages, but not those that were acknowledged")
    for tier, stored in tiers.items():
        if stored != tiers[10]:
            notes.append(f"the tier of {tier} s holds other counts or sums than that of 10 s")
    return Findings(
        acked=len(acked),
        stored=sum(count for device, (count, _) in tiers[10].items() if device in expected),
        lost=lost,
        duplicates_stored=duplicates,
        quarantined=totals["quarantined"],
        received=totals["received"],
        repeated=totals["duplicate"],
        lost_before_journal=totals["lost_before_journal"],
        balanced=balanced(accounts) and _worker_says_balanced(folder),
        notes=notes,
    )


def windows(folder: Path, tier_s: int = 10, site: str = SITE) -> Stored:
    """Return device → count and scaled sum of the odometer over all windows of a tier.

    Where the rows of windows that are not over are missing, those of the next narrower tier that has them count.
    """
    query = """SELECT s.device, sum(w.count), sum(w.sum) FROM window_rows w JOIN series s ON s.id = w.series
               LEFT JOIN unfolded own ON own.worker = w.worker AND own.epoch = w.epoch AND own.tier_s = w.tier_s
               LEFT JOIN unfolded above ON above.worker = w.worker AND above.epoch = w.epoch
                    AND above.tier_s = CASE w.tier_s WHEN 10 THEN 60 WHEN 60 THEN 900 ELSE 3600 END
               WHERE (w.tier_s = ? OR w.tier_s < ? AND w.window >= above.since)
                 AND (own.since IS NULL OR w.window < own.since)
                 AND s.metric = ? AND s.site = ? GROUP BY s.device"""
    return {device: (count, total) for device, count, total in _ask(folder, query, (tier_s, tier_s, METRIC, site))}


def folded(folder: Path) -> list[tuple[Any, ...]]:
    """Return every window of every tier and series, folded over workers and epochs, but for who wrote it and when."""
    query = """SELECT s.device, s.metric, w.tier_s, w.window, sum(w.count), sum(w.sum), min(w.min), max(w.max)
               FROM window_rows w JOIN series s ON s.id = w.series
               GROUP BY s.device, s.metric, w.tier_s, w.window ORDER BY 1, 2, 3, 4"""
    ends = """SELECT s.device, s.metric, w.tier_s, w.window, w.{0}_ts, w.{0}_seq, w.{0}
              FROM window_rows w JOIN series s ON s.id = w.series ORDER BY 1, 2, 3, 4, 5, 6, 7"""
    first = {row[:4]: row[4:] for row in reversed(_ask(folder, ends.format("first")))}
    last = {row[:4]: row[4:] for row in _ask(folder, ends.format("last"))}
    return [(*row, *first[row[:4]], *last[row[:4]]) for row in _ask(folder, query)]


def ledger(folder: Path) -> Counter[tuple[str, str]]:
    """Return (uid, account) → frames; empty while nothing is committed."""
    found = _ask(folder, "SELECT uid, account, sum(frames) FROM ledger GROUP BY uid, account")
    return Counter({(uid, account): frames for uid, account, frames in found})


def total(folder: Path, account: str) -> int:
    """Return the frames of one account over all devices."""
    return sum(frames for (_, name), frames in ledger(folder).items() if name == account)


def until_received(folder: Path, frames: int, timeout_s: float = 30.0) -> None:
    """Wait until so many frames are committed, repetitions included; TimeoutError if they never are."""
    deadline = time.monotonic() + timeout_s
    while (received := total(folder, "received")) < frames:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{received} of {frames} frames were committed within {timeout_s:.0f} s")
        time.sleep(0.1)


def quarantined(folder: Path) -> Counter[str]:
    """Return reason → frames."""
    found = _ask(folder, "SELECT reason, sum(frames) FROM ledger WHERE account = 'quarantined' GROUP BY reason")
    return Counter(dict(found))


def balanced(accounts: Counter[tuple[str, str]]) -> bool:
    """Tell whether, for every device, what was received equals the sum of the accounts in which it ended."""
    uids = {uid for uid, _ in accounts}
    return all(accounts[uid, "received"] == sum(accounts[uid, end] for end in ENDS) for uid in uids)


def status(folder: Path) -> dict[str, object]:
    """Return what the worker last said of itself, {} before its first commit."""
    found = _ask(folder, "SELECT status FROM workers")
    return dict(json.loads(found[0][0])) if found else {}


def journalled(folder: Path) -> tuple[set[Key], list[Damage]]:
    """Return the keys of every frame in the journal, and the damage met."""
    keys: set[Key] = set()
    damage: list[Damage] = []
    for frame in read(folder / "journal", damaged=damage.append):
        body = json.loads(frame.payload)
        keys.add((frame.topic.split("/")[3], body["boot"], body["seq"]))
    return keys, damage


def until_taken(folder: Path, messages: int, timeout_s: float = 60.0) -> None:
    """Wait until the committed ledger holds at least ``messages`` distinct frames; TimeoutError if it never does."""
    deadline = time.monotonic() + timeout_s
    while (taken := distinct(folder)) < messages:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{taken} of {messages} messages were committed within {timeout_s:.0f} s")
        time.sleep(0.1)


def distinct(folder: Path) -> int:
    """Return how many frames have been committed, repetitions not counted."""
    accounts = ledger(folder)
    return sum(
        frames if account == "received" else -frames
        for (_, account), frames in accounts.items()
        if account in {"received", "duplicate"}
    )


def _worker_says_balanced(folder: Path) -> bool:
    return status(folder).get("balanced") is True


def _by_device(keys: Iterable[Key]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for device, _, seq in keys:
        found.setdefault(device, []).append(seq)
    return found


def _ask(folder: Path, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    path = folder / "quayflow.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            # Another process is about to create it.
            if "no such table" in str(error):
                return []
            raise
