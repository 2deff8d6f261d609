"""What rests, and the two interfaces behind which it rests: window rows and records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from analytics.packing import PackedRows
from analytics.rows import SeriesKey, WindowRows, WindowSums
from devices.columns import Bools
from devices.scalars import Scalar
from devices.times import NS, format_rfc3339

EARLIEST_NS: Final = -(2**63) + 366 * 86_400 * NS
"""Before every window that a store can hold; InfluxDB's own bound, less a year to round in."""

SEVERAL_WORKERS: Final = "several_workers"
"""Flag in the ledger of a device that several workers hear: how much of it was lost cannot be told."""

SEVERAL_WORKERS_BEFORE: Final = "several_workers_before"
"""Flag in the ledger of what was received of a device until one worker heard it alone again."""


class StoreUnreachableError(Exception):
    """A store that cannot be reached or opened; the message names it and says what to do."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Keep how long the store asked to be left alone, in seconds, where it said so."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreRefusedError(StoreUnreachableError):
    """A store that answers, but not to whoever is set up as we are: a wrong token, a bucket that is not there.

    It is tried again like one that is away, for someone may put it right over there; the message names the setting.
    """


class PointsRejectedError(Exception):
    """A store that was reached and refused what it was given: sending the same again will not help."""


class DeviceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A device as last seen; times are ns UTC."""

    uid: str
    """``site/class/device``, the key."""
    site: str
    device_class: str
    device: str
    first_seen_ns: int
    """Receive time of its first frame."""
    last_seen_ns: int
    """Receive time of its newest frame."""
    last_event_ns: int
    """Greatest event time accepted from it."""
    watermark_ns: int
    """Event time up to which nothing more is expected from it."""
    online: bool
    frames: int
    """Frames received from it."""
    latest: Mapping[str, tuple[int, float]]
    """metric → (event time ns, value in the metric's unit)."""
    info: Mapping[str, Scalar]
    """What its retained status said of it."""
    clock_offset_s: float | None = None
    """Median of receive time minus event time over the last minute, s; None where it is not known."""
    rate_hz: float | None = None
    """Frames a second over half a minute to a minute and a half before its newest; None where it is not known."""


class EventRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A port event (move, passage) or a device's own event.

    ``id`` is derived from its content: the same event again is the same record.
    """

    id: str
    type: str
    site: str
    device_class: str
    device: str
    ts_ns: int
    start_ns: int
    data: Mapping[str, Scalar]
    cursor: int = 0
    """Position in the order of storing, given by the store; 0 before."""

    def document(self) -> dict[str, object]:
        """Return the event as it is published over MQTT, streamed and listed."""
        return {
            "id": self.id,
            "cursor": self.cursor,
            "type": self.type,
            "site": self.site,
            "class": self.device_class,
            "device": self.device,
            "time": format_rfc3339(self.ts_ns),
            "start": format_rfc3339(self.start_ns),
            "data": dict(self.data),
        }


class QuarantineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A frame or a sample that was refused, with the reason and the payload's head."""

    id: str
    """``journal offset`` of the frame, and ``#n`` for the n-th refused sample of it."""
    reason: str
    pointer: str
    detail: str
    topic: str
    uid: str
    """The device it claims to come from, "" where the topic does not tell."""
    recv_ns: int
    payload: bytes
    """First 4 KiB."""
    payload_bytes: int
    payload_sha256: str
    cursor: int = 0


class QuarantineFigures(NamedTuple):
    """How full the quarantine is."""

    records: int
    kept_bytes: int
    dropped: int
    """Records removed to stay within the bound."""
    settled: int
    """Rows refused by the window store that no longer wait to be taken, see ``store.settling``."""


class UnknownName(msgspec.Struct, frozen=True, kw_only=True):
    """A name that is no metric of its device's class, as the quarantine has it; times of receipt, ns UTC."""

    name: str
    value: str
    """What was sent under it last, as JSON, cut; "" where that is not known."""
    refused: int
    """How many refusals of it are kept."""
    first_ns: int
    last_ns: int


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """How many frames and samples of a device ended in an account."""

    uid: str
    account: str
    """``received, windowed, merged_late, duplicate, quarantined, shed, lost_before_journal, flagged``."""
    reason: str
    """For ``quarantined``, ``shed`` and ``flagged``, else ""."""
    frames: int
    samples: int


class Overlap(NamedTuple):
    """A device that two workers hear."""

    uid: str
    one: str
    other: str
    until_ns: int
    """Time of receipt up to which both have heard it, ns UTC."""


class HistoryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An hour of a device's findings, which its worker reads again when data of that hour come late."""

    uid: str
    start_ns: int
    """Start of the hour, ns UTC."""
    blob: bytes


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """All that changes together at one checkpoint of one worker."""

    worker: str
    offset: int
    """Journal offset up to which everything is contained in this and earlier commits."""
    rows: WindowRows | PackedRows
    devices: Sequence[DeviceRecord]
    events: Sequence[EventRecord]
    quarantine: Sequence[QuarantineRecord]
    ledger: Sequence[LedgerRow]
    """Absolute counts of the accounts that changed."""
    state: Mapping[str, bytes]
    """State blobs that changed, by key (``device:<uid>``, ``hashes:<slot>:<uid>``, ``hours:<uid>``, ``worker``)."""
    status: Mapping[str, Scalar]
    """What the worker says of itself, for readiness and metrics."""
    retracted: Sequence[str] = ()
    """Ids of events that are no more. One that is among ``events`` too comes again, as a new event."""
    history: Sequence[HistoryRecord] = ()
    """Hours of findings to be kept with the checkpoint; one that is there is replaced."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker left off."""

    offset: int
    state: Mapping[str, bytes]


class WindowStore(Protocol):
    """Keeps window rows. Both drivers pass ``tests/test_window_stores.py``."""

    def write(self, rows: WindowRows) -> None:
        """Write rows; a key that exists is replaced. Writing the same rows again is safe.

        Raises :class:`StoreUnreachableError`, or :class:`PointsRejectedError` where the store refuses some of them; the
        others may then be stored or not.
        """

    def remove(self, rows: WindowRows) -> None:
        """Let the rows of these keys answer nothing any more; their values are not looked at.

        They are deleted or, where the store cannot, overwritten by rows with a count of 0. Errors as :meth:`write`.
        """

    def check(self) -> None:
        """Ask whether the store would do what it was opened for; nothing is written.

        Raises :class:`StoreUnreachableError`, or :class:`StoreRefusedError` where what is set up is wrong.
        """

    def kept_from(self, now_ns: int) -> int:
        """Return the time before which the store refuses points for its retention, ns UTC; far in the past if none."""

    def read(
        self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey], worker: str | None = None
    ) -> WindowRows:
        """Return every row of ``series`` in one tier with ``start_ns`` ≤ window < ``end_ns``, not folded, in any order.

        ``keys`` of the answer is ``series``, ``worker`` is empty. ``worker``: only rows that this worker has written.
        """

    def read_sums(self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey]) -> WindowSums:
        """Return what adds up of the rows that :meth:`read` returns: some five times as fast, over a month or more."""

    def heard(self, tier_s: int, windows: range, series: Sequence[SeriesKey]) -> Bools:
        """Return in which windows there are samples of a series; shape (series, windows).

        ``windows``: the starts of adjacent windows of one tier, ns UTC.
        """

    def find(
        self,
        *,
        site: str | None = None,
        device_class: str | None = None,
        device: str | None = None,
        metrics: Iterable[str] | None = None,
    ) -> list[SeriesKey]:
        """Return the series known, filtered, sorted."""

    def expire(self, before_ns: Mapping[int, int]) -> int:
        """Delete rows that have outlived their tier's retention; return how many went.

        ``before_ns``: width of the tier in seconds → windows that started before this, ns UTC, may go. A store that
        expires by itself, as InfluxDB does by its retention policies, returns 0.
        """

    def close(self) -> None:
        """Release what is held; idempotent."""


class Records(Protocol):
    """Keeps devices, events, quarantine, ledger and worker status; SQLite or PostgreSQL."""

    def devices(
        self, *, site: str | None = None, device_class: str | None = None, after: str = "", limit: int = 100
    ) -> list[DeviceRecord]:
        """Return devices with uid > ``after``, by uid."""

    def device(self, uid: str) -> DeviceRecord | None:
        """Return one device."""

    def devices_named(self, device: str) -> list[DeviceRecord]:
        """Return the devices of any site and class whose own id is ``device``."""

    def events(  # noqa: PLR0913 - one filter each
        self,
        *,
        after: int = 0,
        before: int | None = None,
        types: Iterable[str] | None = None,
        site: str | None = None,
        device: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest_first: bool = False,
        limit: int = 100,
    ) -> list[EventRecord]:
        """Return events with ``after`` < cursor (< ``before``), by cursor, filtered; times are half-open."""

    def quarantine(
        self,
        *,
        before: int | None = None,
        reason: str | None = None,
        uid: str | None = None,
        limit: int = 100,
    ) -> list[QuarantineRecord]:
        """Return refusals, newest first, with cursor < ``before``."""

    def quarantine_figures(self) -> QuarantineFigures:
        """Return how full the quarantine is and what was removed to keep it within its bounds."""

    def unknown_names(self, uid: str) -> list[UnknownName]:
        """Return the names that were refused of a device among its newest refusals of this kind, the newest first."""

    def ledger(self, *, uids: Iterable[str] | None = None) -> list[LedgerRow]:
        """Return the ledger rows of the devices, or of all."""

    def overlaps(self) -> list[Overlap]:
        """Return the devices that two workers hear, by uid; once for each two."""

    def workers(self) -> dict[str, Mapping[str, Scalar]]:
        """Return worker → its last status; ``updated_ns`` is in it."""

    def close(self) -> None:
        """Release what is held; idempotent."""


class Sink(Protocol):
    """Takes a worker's commits: state, rows and records, all or nothing."""

    folds: bool
    """Whether it answers for rows that a commit says to be unfolded; else rows have to come complete."""

    def load(self, worker: str) -> Checkpoint | None:
        """Return the last committed checkpoint and state of a worker, None if it never committed."""

    def commit(self, commit: Commit) -> list[EventRecord]:
        """Make a commit durable and return its **new** events with their cursors. Blocking: call it off the loop."""

    def sync(self) -> None:
        """Make every commit so far outlive a power cut, which need not be so before. Blocking: call it off the loop.

        Raises :class:`StoreUnreachableError` where the disk fails; then it must not be believed a second time.
        """

    def history(self, worker: str, uid: str) -> dict[int, bytes]:
        """Return the hours of a device's findings that are kept: start in ns UTC → blob."""

    def forget_history(self, worker: str, before_ns: int) -> int:
        """Delete the hours of findings that began before a time, ns UTC; return how many went."""

    def expire(self, before_ns: Mapping[int, int]) -> int:
        """Delete window rows that have outlived their tier's retention, as :meth:`WindowStore.expire` does."""

    def backlog(self) -> int:
        """Return how many commits are durable here but not yet in the remote stores (0 where there are none)."""

    def trouble(self) -> tuple[str, float]:
        """Return why the remote stores do not take commits and for how long they have not, s; "" and 0 if they do."""

    def drain(self, timeout_s: float) -> bool:
        """Wait until the backlog is empty; False if time ran out."""

    def close(self) -> None:
        """Release what is held; idempotent."""
