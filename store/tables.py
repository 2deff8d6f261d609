"""Every table of the relational stores: window rows, records, and what a sink keeps of a worker.

One SQLite file may hold all of them (the embedded store); PostgreSQL holds the records alone. ``SCHEMA_VERSION`` covers
them together and is kept in ``PRAGMA user_version`` on SQLite, in the table ``quayflow_schema`` on PostgreSQL.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql

from analytics.rows import WindowRows

SCHEMA_VERSION: Final = 1
"""Version of the tables below; a store with a greater one was written by a newer quayflow and is refused."""

WINDOWS_PER_PERIOD: Final = 8
"""Windows of one series that lie side by side on disk (dimensionless).

The key leads with the period so that a commit writes near the end of the tree and retention deletes its beginning.
With the series alone in front every row of a commit falls on another page: measured, 40,000 series, 99 k rows/s against
218 k rows/s with 8. More windows per period lose that again, fewer cost a seek per window when a range is read.
"""

_KEY = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text compared byte by byte everywhere, so that keyset pages follow one order on every engine."""

_ROWID = BigInteger().with_variant(Integer, "sqlite")
"""64 bits; on SQLite the name INTEGER makes it the row's own id."""

# --- window rows (SQLite only) ---------------------------------------------------------------------------------------

WINDOWS: Final = MetaData()

SERIES: Final = Table(
    "series",
    WINDOWS,
    Column("id", _ROWID, primary_key=True),
    Column("site", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("metric", Text, nullable=False),
    UniqueConstraint("site", "class", "device", "metric"),
)

WRITERS: Final = Table(
    "writers",
    WINDOWS,
    Column("id", _ROWID, primary_key=True),
    Column("worker", Text, nullable=False, unique=True),
)

_ROW_KEY: Final = ("tier_s", "period", "series", "window", "worker", "epoch")
_ROW_VALUES: Final = tuple(name for name in WindowRows.columns() if name not in _ROW_KEY)

WINDOW_ROWS: Final = Table(
    "window_rows",
    WINDOWS,
    *(Column(name, Integer, primary_key=True, autoincrement=False) for name in _ROW_KEY),
    *(Column(name, Integer, nullable=False) for name in _ROW_VALUES),
    Column("bins", LargeBinary),
    sqlite_with_rowid=False,
)

UNFOLDED: Final = Table(
    "unfolded",
    WINDOWS,
    Column("worker", Integer, primary_key=True, autoincrement=False),
    Column("tier_s", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("since", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Windows from ``since`` on (ns UTC) whose rows of a worker, tier and epoch follow from those of the tier below."""

# --- records (SQLite and PostgreSQL) ---------------------------------------------------------------------------------

RECORDS: Final = MetaData()

DEVICES: Final = Table(
    "devices",
    RECORDS,
    Column("uid", _KEY, primary_key=True),
    Column("site", Text, nullable=False),
    Column("device_class", Text, nullable=False),
    Column("device", Text, nullable=False, index=True),
    Column("first_seen_ns", BigInteger, nullable=False),
    Column("last_seen_ns", BigInteger, nullable=False),
    Column("last_event_ns", BigInteger, nullable=False),
    Column("watermark_ns", BigInteger, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("latest", Text, nullable=False),
    Column("info", Text, nullable=False),
    Column("clock_offset_s", Float),
    Column("rate_hz", Float),
)

EVENTS: Final = Table(
    "events",
    RECORDS,
    Column("cursor", _ROWID, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("device_class", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("ts_ns", BigInteger, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    Index("events_by_type", "type", "cursor"),
    Index("events_by_device", "device", "cursor"),
    Index("events_by_time", "ts_ns"),
)

QUARANTINE: Final = Table(
    "quarantine",
    RECORDS,
    Column("cursor", _ROWID, primary_key=True, autoincrement=False),
    Column("worker", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("pointer", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("recv_ns", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("payload_bytes", BigInteger, nullable=False),
    Column("payload_sha256", Text, nullable=False),
    Column("kept_bytes", BigInteger, nullable=False),
    UniqueConstraint("worker", "id"),
    Index("quarantine_by_reason", "reason", "cursor"),
    Index("quarantine_by_uid", "uid", "cursor"),
)

LEDGER: Final = Table(
    "ledger",
    RECORDS,
    Column("uid", _KEY, primary_key=True),
    Column("account", _KEY, primary_key=True),
    Column("reason", _KEY, primary_key=True),
    Column("worker", _KEY, primary_key=True),
    Column("frames", BigInteger, nullable=False),
    Column("samples", BigInteger, nullable=False),
)

REFUSED_ROWS: Final = Table(
    "refused_rows",
    RECORDS,
    Column("worker", _KEY, primary_key=True),
    Column("uid", _KEY, primary_key=True),
    Column("metric", _KEY, primary_key=True),
    Column("tier_s", Integer, primary_key=True, autoincrement=False),
    Column("window_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("samples", BigInteger, nullable=False),
    Column("late", BigInteger, nullable=False),
    Column("noted_ns", BigInteger),
)
"""Window rows of the narrowest tier that the window store has refused and not taken since.

``samples`` and ``late``: received ones in it. ``noted_ns``: when it was refused, ns UTC; NULL where an older release
has noted it. A row without a metric is the sum of those that are settled, see ``store.settling``.
"""

HEARD_BY: Final = Table(
    "heard_by",
    RECORDS,
    Column("uid", _KEY, primary_key=True),
    Column("worker", _KEY, primary_key=True),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
)
"""From when to when a worker has heard a device, by times of receipt; only where the records know several workers."""

HEARD_ALONE: Final = Table(
    "heard_alone",
    RECORDS,
    Column("uid", _KEY, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("begun_ns", BigInteger, nullable=False),
    Column("begun_frames", BigInteger, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
)
"""Devices that several workers have heard: which one alone since ``begun_ns``, when it had ``begun_frames`` of it.

``since_ns``: when the device was cleared last, 0 for never; ``frames`` and ``lost``: the accounts until then.
"""

WORKERS: Final = Table(
    "workers",
    RECORDS,
    Column("worker", Text, primary_key=True),
    Column("status", Text, nullable=False),
)

COUNTERS: Final = Table(
    "counters",
    RECORDS,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""``events`` and ``quarantine``: the last cursor given; ``quarantine_bytes``: kept; ``quarantine_dropped``: records
removed to stay within the bound; ``refused_rows_settled``: refused rows no longer kept one by one. Whoever gives
cursors holds the row, so they become visible in their order."""

REGISTRY: Final = Table(
    "registry",
    RECORDS,
    Column("kind", _KEY, primary_key=True),
    Column("key", _KEY, primary_key=True),
    Column("site", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("registry_by_site", "kind", "site", "key"),
)
"""Entries of ``store.registry_entries``, ``body`` as JSON. Each change adds 1 to the counter ``registry``."""

CREDENTIALS: Final = Table(
    "credentials",
    RECORDS,
    Column("username", _KEY, primary_key=True),
    Column("uid", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("argon2", Text, nullable=False),
    Column("broker_hash", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("issued_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
)

REVOKED: Final = Table(
    "revoked_certificates",
    RECORDS,
    Column("serial", _KEY, primary_key=True),
    Column("revoked_ns", BigInteger, nullable=False),
)

AUDIT: Final = Table(
    "audit",
    RECORDS,
    Column("cursor", _ROWID, primary_key=True, autoincrement=False),
    Column("ts_ns", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("digest", Text, nullable=False),
)
"""Only ever added to. ``digest`` covers the row and the digest before it, so a changed or missing row shows."""

SCHEMA: Final = Table("quayflow_schema", MetaData(), Column("version", Integer, primary_key=True, autoincrement=False))
"""PostgreSQL's place for :data:`SCHEMA_VERSION`."""

# --- what a sink keeps of its worker (SQLite only) -------------------------------------------------------------------

PROGRESS: Final = MetaData()

CHECKPOINTS: Final = Table(
    "checkpoints",
    PROGRESS,
    Column("worker", Text, primary_key=True),
    Column("journal_offset", BigInteger, nullable=False),
)

STATE: Final = Table(
    "state",
    PROGRESS,
    Column("worker", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

HISTORY: Final = Table(
    "history",
    PROGRESS,
    Column("worker", Text, primary_key=True),
    Column("uid", Text, primary_key=True),
    Column("start_ns", BigInteger, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Index("history_by_start", "start_ns"),
    sqlite_with_rowid=False,
)
"""Hours of findings that are over: read only where a device runs again."""

# --- the outbox (SQLite only) ----------------------------------------------------------------------------------------

OUTBOX: Final = MetaData()

ENTRIES: Final = Table(
    "outbox",
    OUTBOX,
    Column("id", Integer, primary_key=True),
    Column("entry", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

EVENT_CURSORS: Final = Table(
    "event_cursors",
    OUTBOX,
    Column("id", Text, primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Every event that this worker ever stored, so that an event made again keeps its cursor: about 60 bytes each."""

OUTBOX_COUNTERS: Final = COUNTERS.to_metadata(OUTBOX)
