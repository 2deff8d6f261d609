"""`quayflow journal rebuild`: compute hours of the store again from the journal, and put right what differs.

Whatever a store has forgotten, made up or left in pieces, the journal knows what it was given. Rows are compared with
what they should be, one per window; those that differ, or lie there in several pieces, are replaced. Events likewise.
Nothing outside the hours is touched, nor what other workers wrote, nor the checkpoint.
"""

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Final

import msgspec
import numpy as np
import typer

from analytics.findings import PERIOD, period_of
from analytics.rows import FULL, TIERS_S, SeriesKey, WindowRows, fold
from devices.columns import Bools, Ints
from devices.scalars import as_floats
from devices.times import NS, format_rfc3339, parse_rfc3339
from devices.vocabulary import METRICS
from ingest.catching_up import held_from
from ingest.checkpoint import CODEC, thaw
from ingest.checks import MAX_AHEAD
from ingest.detection import NOTICES
from ingest.directory import NOBODY
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.recomputing import Known, Should, Stretch, event_times, plan_of, recompute
from ingest.rerunning import from_first_seen
from quayflow.failures import INTERRUPTED
from quayflow.hashing import HASHED
from quayflow.progress import count_progress
from quayflow.settings import Settings
from store.data_folder import DataFolder
from store.interface import Checkpoint, Commit, EventRecord, Sink, StoreUnreachableError, WindowStore
from store.journal import Frame, JournalError, read
from store.open import open_records, open_registry, open_sink, open_windows
from store.records import SqlRecords
from store.refusals import store_rows
from store.registry_entries import Adoption, Alias, RegisteredDevice, Site

ROWS_AT_ONCE: Final = 2_000_000
"""Rows held in memory together; hours are taken so many at a time that no more come."""
ROWS_PER_HOUR: Final = sum(PERIOD // (tier_s * NS) for tier_s in TIERS_S)
SERIES_AT_ONCE: Final = 500
JUDGING_KINDS: Final = tuple(each.kind for each in (Site, RegisteredDevice, Alias, Adoption))
"""Kinds of entries of the registry that decide what is taken of a frame."""
DRAIN_S: Final = 60.0
EVENTS_AT_ONCE: Final = 5_000


@dataclass(slots=True)
class Account:
    """What a rebuild has changed; rows of all tiers."""

    start: str = ""
    end: str = ""
    rows: int = 0
    """Rows that the hours should have, one per window."""
    rows_missing: int = 0
    """Windows of which the store held nothing."""
    rows_differing: int = 0
    """Windows of which it said something else."""
    rows_in_pieces: int = 0
    """Windows of which it said the right thing in several rows."""
    rows_superfluous: int = 0
    """Windows of which it should have said nothing."""
    rows_written: int = 0
    rows_removed: int = 0
    rows_refused: int = 0
    """Rows that the store refuses, such as InfluxDB beyond its retention; they are in quarantine."""
    events_added: int = 0
    events_changed: int = 0
    events_removed: int = 0
    devices_left_alone: int = 0
    """Devices whose events could not be found again, for want of a state to begin with."""
    registry_changes: int = 0
    """How often the registry has been changed since ``start`` in what frames are judged by: they are by what it says
    now."""
    stopped_at: str = ""
    """Where Ctrl-C ended it: the hours before are right, those from there on are as they were. Empty otherwise."""


class Rebuild:
    """One run over the store of a data folder that no ingest holds."""

    def __init__(
        self, settings: Settings, config: PipelineConfig, sink: Sink, windows: WindowStore, records: SqlRecords
    ) -> None:
        """``sink`` is the worker's own; what it still had to deliver must have been delivered."""
        checkpoint = sink.load(settings.worker)
        if checkpoint is None:
            raise StoreUnreachableError(
                f"{settings.data}: no checkpoint of worker {settings.worker}: name it with --worker, or start ingest, "
                "which reads the whole journal where there is none"
            )
        self._worker = settings.worker
        self._journal = settings.data / "journal"
        self._config = config
        self._checkpoint: Checkpoint = checkpoint
        self._sink, self._windows, self._records = sink, windows, records
        self._pipeline = Pipeline(self._worker, 0, config)
        thaw(self._pipeline, checkpoint.state)
        known = [each for each in self._pipeline.directory.devices if each.index != NOBODY]
        # What they said while they might is right as it stands, and nothing can be computed again without them.
        self._refused = {each.uid for each in known if config.admission.refusal(each.key) is not None}
        self._devices = [each for each in known if each.uid not in self._refused]
        self._uids = {each.uid for each in self._devices}
        self._first_seen = {each.uid: each.first_seen for each in known}
        codecs = {name.removeprefix(CODEC): blob for name, blob in checkpoint.state.items() if name.startswith(CODEC)}
        self._known = Known(self._pipeline.directory, codecs)
        self.account = Account()

    def run(self, start: int | None, end: int | None, is_stopped: Callable[[], bool] = lambda: False) -> Account:
        """Rebuild the hours that overlap [start, end), ns UTC; None is as far as the journal reaches.

        ``is_stopped`` is asked between stretches of hours, where what was begun is whole. Raises JournalError where the
        journal does not reach back to ``start``.
        """
        whole = self._stretch(start, end)
        self.account.start, self.account.end = format_rfc3339(whole.start), format_rfc3339(whole.end)
        histories = {device.uid: self._sink.history(self._worker, device.uid) for device in self._devices}
        each = max(1, ROWS_AT_ONCE // (ROWS_PER_HOUR * max(1, len(self._pipeline.directory.keys)))) * PERIOD
        with count_progress("hours", (whole.end - whole.start) // PERIOD) as advance:
            for first in range(whole.start, whole.end, each):
                if is_stopped():
                    self.account.stopped_at = format_rfc3339(first)
                    break
                stretch = Stretch(first, min(first + each, whole.end))
                plans = [
                    plan_of(self._pipeline, device.index, stretch)
                    for device in self._devices
                    if device.index in self._pipeline.detection.hours
                ]
                should = recompute(self._frames, stretch, self._config, self._worker, plans, histories, self._known)
                left_alone = len(should.unknown | self._refused)
                self.account.devices_left_alone = max(self.account.devices_left_alone, left_alone)
                self._put_rows_right(stretch, should)
                self._put_events_right(stretch, should)
                advance((stretch.end - stretch.start) // PERIOD)
        if not self._sink.drain(DRAIN_S):
            raise StoreUnreachableError("the events wait in the outbox: the records did not take them in a minute")
        return self.account

    def _stretch(self, start: int | None, end: int | None) -> Stretch:
        held = held_from(self._journal)
        least = -(-(held + MAX_AHEAD) // PERIOD) * PERIOD if held else 0
        if start is None or end is None:
            all_of_it = event_times(self._frames, self._config, self._worker, self._known) or Stretch(least, least)
            start = max(least, all_of_it.start) if start is None else start
            end = all_of_it.end if end is None else end
        first, last = period_of(start), -(-end // PERIOD) * PERIOD
        if first < least:
            raise JournalError(
                f"--from {format_rfc3339(start)}: the journal holds everything only from {format_rfc3339(least)} on"
            )
        return Stretch(first, max(first, last))

    def _frames(self, since: int) -> Iterator[Frame]:
        """Return the frames that the store has been given, from those on that can concern event time ``since``."""
        frames = read(self._journal, from_ns=max(0, since - MAX_AHEAD))
        given = takewhile(lambda frame: frame.offset < self._checkpoint.offset, frames)
        return from_first_seen(given, self._first_seen)

    def _put_rows_right(self, stretch: Stretch, should: Should) -> None:
        rows = should.rows
        keys = sorted({*self._windows.find(), *rows.keys})
        place = {key: index for index, key in enumerate(keys)}
        moved = np.array([place[key] for key in rows.keys], np.int64)
        series = moved[rows.series] if len(rows) else rows.series
        for tier_s in TIERS_S:
            for first in range(0, len(keys), SERIES_AT_ONCE):
                some = keys[first : first + SERIES_AT_ONCE]
                mine = (rows.tier_s == tier_s) & (series >= first) & (series < first + len(some))
                wanted = _relabelled(rows.take(mine), some, series[mine] - first, self._worker)
                there = self._windows.read(tier_s, stretch.start, stretch.end, some, self._worker)
                there = _relabelled(there, some, there.series, self._worker)
                known = there.count > 0
                if self._refused:
                    admitted = np.array([key.device_key.uid not in self._refused for key in some], np.bool_)
                    known &= admitted[there.series]
                if should.unknown:
                    found = [key.metric in DERIVED and key.device_key.uid in should.unknown for key in some]
                    known &= ~np.array(found, np.bool_)[there.series]
                self._put_tier_right(wanted, there.take(known))

    def _put_tier_right(self, wanted: WindowRows, there: WindowRows) -> None:
        account = self.account
        account.rows += len(wanted)
        said = fold(there)
        at_said, at_wanted = _place(said), _place(wanted)
        order = np.argsort(at_said)
        position = np.searchsorted(at_said[order], at_wanted)
        known = np.isin(at_wanted, at_said)
        same = known.copy()
        late = np.zeros(len(wanted), np.int64)
        of_known = order[position[known]]
        for name in HASHED:
            same[known] &= getattr(wanted, name)[known] == getattr(said, name)[of_known]
        same[known] &= (wanted.packed[known] == said.packed[of_known]).astype(np.bool_)
        late[known] = np.minimum(said.late[of_known], wanted.count[known])
        pieces, number = np.unique(_place(there), return_counts=True)
        alone = np.isin(at_wanted, pieces[number == 1])
        superfluous = ~np.isin(at_said, at_wanted)
        # What the journal gives in several commits may be more than one row has room for; then it stays in pieces.
        fits = np.array([abs(each) < FULL for each in wanted.sum.tolist()], np.bool_)
        write = (~same | ~alone) & fits
        account.rows_missing += int((~known).sum())
        account.rows_differing += int((known & ~same).sum())
        account.rows_in_pieces += int((same & ~alone).sum())
        account.rows_superfluous += int(superfluous.sum())
        written = _with_late(wanted, late).take(write)
        replaced = np.isin(_place(there), at_wanted[write]) & ~_same_key(there, written)
        gone = there.take(replaced | np.isin(_place(there), at_said[superfluous]))
        now = time.time_ns()
        refused = list(store_rows(self._windows, written, now)) if len(written) else []
        self._windows.remove(gone)
        if len(written):
            self._records.note_rebuilt(self._worker, written, refused, now)
        account.rows_written += len(written) - len(refused)
        account.rows_refused += len(refused) + int((~fits).sum())
        account.rows_removed += len(gone)

    def _put_events_right(self, stretch: Stretch, should: Should) -> None:
        there: dict[str, EventRecord] = {}
        after = 0
        while page := self._records.events(
            after=after, start_ns=stretch.start, end_ns=stretch.end, limit=EVENTS_AT_ONCE
        ):
            there |= {event.id: event for event in page}
            after = page[-1].cursor
        concerned = {id_: event for id_, event in there.items() if self._is_mine(event, should.unknown)}
        wanted = {id_: event for id_, event in should.events.items() if self._is_mine(event, should.unknown)}
        gone = concerned.keys() - wanted.keys()
        changed = [id_ for id_ in wanted.keys() & concerned.keys() if not _alike(wanted[id_], concerned[id_])]
        new = wanted.keys() - concerned.keys()
        account = self.account
        account.events_added += len(new)
        account.events_changed += len(changed)
        account.events_removed += len(gone)
        brought = sorted((wanted[id_] for id_ in (*new, *changed)), key=lambda event: (event.ts_ns, event.id))
        if brought or gone:
            self._sink.commit(_commit(self._worker, self._checkpoint.offset, brought, sorted({*gone, *changed})))

    def _is_mine(self, event: EventRecord, unknown: Iterable[str]) -> bool:
        uid = f"{event.site}/{event.device_class}/{event.device}"
        found = event.type in FOUND and uid in unknown
        return uid in self._uids and event.type not in NOTICES and not found


FOUND: Final = frozenset({"crane_move", "yard_move", "gate_passage"})
DERIVED: Final = frozenset({"moves", "teu", "cycle_s", "yard_moves", "passages_in", "passages_out"}) | {
    metric.name for metric in METRICS if metric.derived and metric.name.endswith("_s")
}
_BITS: Final = 31
"""Bits of a window's number, as in the rows of findings."""


def _place(rows: WindowRows) -> Ints:
    """Return one number per (series, window) of rows of one tier."""
    return (rows.series << _BITS) | (rows.window // (rows.tier_s * NS))


def _same_key(rows: WindowRows, written: WindowRows) -> Bools:
    """Return which rows have the key of one that is written, and so are replaced by it."""
    epochs = dict(zip(_place(written).tolist(), written.epoch.tolist(), strict=True))
    pairs = zip(_place(rows).tolist(), rows.epoch.tolist(), strict=True)
    return np.array([epochs.get(place) == epoch for place, epoch in pairs], np.bool_)


def _relabelled(rows: WindowRows, keys: list[SeriesKey], series: Ints, worker: str) -> WindowRows:
    return replace(rows, keys=keys, worker=worker, series=series)


def _with_late(rows: WindowRows, late: Ints) -> WindowRows:
    """Return rows that say how much of them was late as the store has said it: only it was there."""
    return replace(rows, late=late)


def _alike(one: EventRecord, other: EventRecord) -> bool:
    return _said(one) == _said(other)


def _said(event: EventRecord) -> tuple[str, int, int, bytes]:
    """Return what an event says; the same numbers are the same, whole or not, and a boolean is no number."""
    data = msgspec.json.encode(sorted(as_floats(event.data).items()))
    return event.type, event.ts_ns, event.start_ns, data


def _commit(worker: str, offset: int, events: list[EventRecord], retracted: list[str]) -> Commit:
    return Commit(
        worker=worker,
        offset=offset,
        rows=WindowRows.empty(),
        devices=(),
        events=events,
        quarantine=(),
        ledger=(),
        state={},
        status={},
        retracted=retracted,
    )


async def rebuild(
    settings: Settings, config: PipelineConfig, start: int | None, end: int | None, *, as_json: bool
) -> int:
    """Rebuild, print the account and return the exit status: 0, or 130 where Ctrl-C ended it between two hours.

    Raises DataFolderError while ingest runs, JournalError or StoreUnreachableError.
    """
    windows_url, records_url = settings.store_urls
    if not (settings.data / "journal").is_dir():
        raise StoreUnreachableError(f"no journal in {settings.data}: name the data folder with --data")
    with (
        DataFolder.open(settings.data),
        contextlib.closing(open_sink(windows_url, records_url, settings.data)) as sink,
    ):
        if not sink.drain(DRAIN_S):
            raise StoreUnreachableError(f"{sink.backlog()} commits wait in the outbox for a store that is not there")
        with (
            contextlib.closing(open_windows(windows_url, read_only=False)) as windows,
            contextlib.closing(open_records(records_url, read_only=False)) as records,
        ):
            try:
                with _stopping() as is_stopped:
                    account = Rebuild(settings, config, sink, windows, records).run(start, end, is_stopped)
            except KeyboardInterrupt:
                again = " ".join(["quayflow journal rebuild", *_flags(settings, start, end)])
                typer.echo(
                    f"quayflow: cut short: what was being put right may lie there twice; again: {again}", err=True
                )
                return INTERRUPTED
    with contextlib.closing(open_registry(records_url)) as registry:
        account.registry_changes = registry.changes_since(parse_rfc3339(account.start), JUDGING_KINDS)
    shown = asdict(account)
    typer.echo(json.dumps(shown) if as_json else "\n".join(f"{name:<20} {value}" for name, value in shown.items()))
    if account.registry_changes:
        typer.echo(
            f"quayflow: the registry has been changed {account.registry_changes} times since {account.start} in who "
            "may speak and what names mean: frames were judged by what it says now, see docs/journal.md",
            err=True,
        )
    if account.stopped_at:
        rest = " ".join(["quayflow journal rebuild", *_flags(settings, parse_rfc3339(account.stopped_at), end)])
        typer.echo(f"quayflow: stopped: the hours before {account.stopped_at} are right; go on with: {rest}", err=True)
        return INTERRUPTED
    return 0


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether Ctrl-C was pressed; the second time it ends everything at once, KeyboardInterrupt."""
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        # Not echo: whoever is interrupted may be in the middle of writing to the same stream.
        os.write(2, b"quayflow: ending after the hours at hand; Ctrl-C again ends at once\n")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _flags(settings: Settings, start: int | None, end: int | None) -> Iterator[str]:
    """Yield the flags of a rebuild of [start, end) of the same folder by the same worker."""
    for name, ns in (("--from", start), ("--to", end)):
        if ns is not None:
            yield f"{name} {format_rfc3339(ns)}"
    for flag in ("data", "worker"):
        value = str(getattr(settings, flag))
        if value != str(Settings.model_fields[flag].default):
            yield f"--{flag} {shlex.quote(value)}"
