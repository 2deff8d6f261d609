"""The audit trail: what was refused for its identity and who changed what, in rows that are only ever added.

Each row carries the SHA-256 of itself and of the row before: a row that was changed or taken out breaks the chain.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select

from store.record_counters import counter, set_counter, storable
from store.tables import AUDIT

GENESIS: Final = ""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did or tried; ``ts_ns`` is ns UTC."""

    ts_ns: int
    actor: str
    """Who: ``ingest:<worker>``, ``cli:<user>``, ``broker:<kind>``."""
    action: str
    """What: ``refused``, ``denied``, ``registry.add`` (``change``, ``remove``), ``credential.issue`` (``remove``)."""
    subject: str
    """On what: a topic, an entry's kind and key, a user name."""
    detail: str
    cursor: int = 0
    digest: str = ""


def append(connection: Connection, rows: Sequence[AuditRow]) -> None:
    """Add rows in the caller's transaction."""
    if not rows:
        return
    cursor = counter(connection, "audit")
    before = connection.scalars(select(AUDIT.c.digest).where(AUDIT.c.cursor == cursor)).one_or_none() or GENESIS
    values = []
    for row in rows:
        cursor += 1
        texts = {name: storable(getattr(row, name)) for name in ("actor", "action", "subject", "detail")}
        kept = msgspec.structs.replace(row, cursor=cursor, **texts)
        before = digest_of(kept, before)
        values.append({**msgspec.structs.asdict(kept), "digest": before})
    connection.execute(insert(AUDIT), values)
    set_counter(connection, "audit", cursor)


def digest_of(row: AuditRow, before: str) -> str:
    """Return the digest of a row that follows one with the digest ``before``."""
    content = msgspec.json.encode([before, row.cursor, row.ts_ns, row.actor, row.action, row.subject, row.detail])
    return hashlib.sha256(content).hexdigest()


def first_broken(rows: Sequence[AuditRow], before: str = GENESIS) -> int | None:
    """Return the cursor of the first of ``rows`` (oldest first, none left out) that breaks the chain, None if none."""
    cursor = rows[0].cursor - 1 if rows else 0
    for row in rows:
        before = digest_of(row, before)
        cursor += 1
        if row.digest != before or row.cursor != cursor:
            return row.cursor
    return None
