"""A store that is away, slow, or says no after having said yes; and what it holds in the end, folded."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analytics.packing import whole
from analytics.rows import SeriesKey, WindowRows, fold
from store.interface import Checkpoint, Commit, EventRecord, LedgerRow, StoreUnreachableError

Folded = dict[tuple[int, SeriesKey, int], tuple[int, ...]]
"""Tier, series and window → the columns of the folded row that say something of the data."""


class Store:
    """Keeps commits as they came; what it holds is what they leave."""

    def __init__(self) -> None:
        """Begin empty."""
        self.commits: list[Commit] = []
        self.synced = 0
        """How many of the commits outlive a power cut."""

    def forget(self, commits: int) -> None:
        """Lose the last commits but for the synced, as an embedded store does that is not synced at every commit."""
        del self.commits[max(self.synced, len(self.commits) - commits) :]

    @property
    def rows(self) -> list[WindowRows]:
        """Return the rows of all commits, in order."""
        return [whole(commit.rows) for commit in self.commits if len(commit.rows)]

    @property
    def ledger(self) -> dict[tuple[str, str, str], LedgerRow]:
        """Return device, account and reason → ledger row."""
        return {(row.uid, row.account, row.reason): row for commit in self.commits for row in commit.ledger}

    @property
    def events(self) -> list[EventRecord]:
        """Return the events that stand: what a commit retracts goes before what it brings comes."""
        standing: dict[str, EventRecord] = {}
        for commit in self.commits:
            for id_ in commit.retracted:
                standing.pop(id_, None)
            standing |= {event.id: event for event in commit.events}
        return list(standing.values())

    @property
    def state(self) -> dict[str, bytes]:
        """Return the state blobs."""
        return {key: blob for commit in self.commits for key, blob in commit.state.items()}


@dataclass(slots=True)
class Moods:
    """How the store behaves at the moment."""

    away: bool = False
    """Whether it cannot be reached."""
    lies: int = 0
    """How many commits it takes and then denies having taken."""


class SimulatedSink:
    """A :class:`store.interface.Sink` before a :class:`Store`, one for each life of a worker."""

    folds = False

    def __init__(self, store: Store, moods: Moods, dice: random.Random) -> None:
        """The store outlives the sink."""
        self._store = store
        self._moods = moods
        self._dice = dice

    def load(self, worker: str) -> Checkpoint | None:
        """Return the last checkpoint and the state, None if there is none."""
        del worker
        if self._moods.away:
            raise StoreUnreachableError("away")
        if not self._store.commits:
            return None
        return Checkpoint(offset=self._store.commits[-1].offset, state=self._store.state)

    def commit(self, commit: Commit) -> list[EventRecord]:
        """Take a commit, or say that it could not be taken, which need not be true."""
        if self._moods.away:
            raise StoreUnreachableError("away")
        self._store.commits.append(commit)
        if self._moods.lies:
            self._moods.lies -= 1
            raise StoreUnreachableError("the answer was lost")
        return list(commit.events)

    def sync(self) -> None:
        """Let no power cut take what was committed so far."""
        self._store.synced = len(self._store.commits)

    def history(self, worker: str, uid: str) -> dict[int, bytes]:
        """Return the hours of a device's findings: start in ns UTC → blob."""
        del worker
        return {
            hour.start_ns: hour.blob for commit in self._store.commits for hour in commit.history if hour.uid == uid
        }

    def forget_history(self, worker: str, before_ns: int) -> int:
        """Keep everything."""
        del worker, before_ns
        return 0

    def expire(self, before_ns: Mapping[int, int]) -> int:
        """Keep everything."""
        del before_ns
        return 0

    def backlog(self) -> int:
        """Return 0."""
        return 0

    def trouble(self) -> tuple[str, float]:
        """Return "" and 0."""
        return "", 0.0

    def drain(self, timeout_s: float) -> bool:
        """Return True."""
        del timeout_s
        return True

    def close(self) -> None:
        """Do nothing."""


def folded(parts: Sequence[WindowRows]) -> Folded:
    """Return what readers see of rows that were written one part after another, keys replacing keys."""
    if not parts:
        return {}
    keys = sorted({key for part in parts for key in part.keys})
    place = {key: at for at, key in enumerate(keys)}
    shared = [
        replace(part, keys=keys, worker="", series=np.array([place[key] for key in part.keys], np.int64)[part.series])
        for part in parts
    ]
    everything = WindowRows.concatenate(shared)
    order = np.lexsort((everything.epoch, everything.window, everything.series, everything.tier_s))
    ordered = everything.take(order)
    last = np.ones(len(ordered), np.bool_)
    columns = (ordered.tier_s, ordered.series, ordered.window, ordered.epoch)
    last[:-1] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    newest = ordered.take(last)
    result: Folded = {}
    for tier in np.unique(newest.tier_s).tolist():
        result |= _as_table(fold(newest.take(newest.tier_s == tier)), keys)
    return result


def _as_table(rows: WindowRows, keys: Sequence[SeriesKey]) -> Folded:
    # How a row came about (epoch, lateness) is not what it says.
    names = [name for name in rows.columns() if name not in {"tier_s", "window", "series", "epoch", "late"}]
    columns: list[list[Any]] = [*(getattr(rows, name).tolist() for name in names), rows.packed.tolist()]
    places = zip(rows.tier_s.tolist(), rows.series.tolist(), rows.window.tolist(), strict=True)
    return {
        (tier, keys[series], window): tuple(map(_plain, values))
        for (tier, series, window), *values in zip(places, *columns, strict=True)
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - a number, or a list of them
    return tuple(value) if isinstance(value, list) else value
