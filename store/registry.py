"""The registry, the devices' credentials and the audit trail, with the records on SQLite or PostgreSQL."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from store.audit import GENESIS, AuditRow, append, first_broken
from store.record_counters import counter, set_counter
from store.registry_entries import KINDS, Adoption, Alias, Entry, Mounting, document_of, entry_of, refuse_overlaps
from store.sql_store import SqlStore
from store.sqlite_files import reaching
from store.tables import AUDIT, COUNTERS, CREDENTIALS, REGISTRY, REVOKED

PAGE: Final = 1_000


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """With what a device, or a part of quayflow, proves who it is; times are ns UTC."""

    username: str
    """Its name at the broker."""
    uid: str
    """The device, "" for a part of quayflow."""
    kind: Literal["password", "certificate"]
    argon2: str = ""
    """Hash of the password, argon2id in its own notation."""
    broker_hash: str = ""
    """Hash of the same password as Mosquitto's password file has it."""
    serial: str = ""
    """Serial number of the certificate, hexadecimal."""
    issued_ns: int
    expires_ns: int = 0
    """0: never."""


class Change(NamedTuple):
    """One difference between what is there and what is wanted."""

    action: Literal["add", "change", "remove"]
    kind: str
    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class SqlRegistry(SqlStore):
    """Reads and changes the registry. Every change leaves an audit row and adds 1 to the revision."""

    # --- reading ----------------------------------------------------------------------------------------------------

    def revision(self) -> int:
        """Return how often the registry or its credentials have been changed; 0 where there is no store yet."""
        rows = self._rows(select(COUNTERS.c.value).where(COUNTERS.c.name == "registry"))
        return int(rows[0]["value"]) if rows else 0

    def entries(self, kind: str, *, site: str | None = None, after: str = "", limit: int = PAGE) -> list[Entry]:
        """Return entries of a kind with key > ``after``, by key."""
        query = select(REGISTRY).where(REGISTRY.c.kind == kind, REGISTRY.c.key > after)
        if site is not None:
            query = query.where(REGISTRY.c.site == site)
        rows = self._rows(query.order_by(REGISTRY.c.key).limit(limit))
        return [entry_of(kind, msgspec.json.decode(row["body"])) for row in rows]

    def every(self, kind: str, *, site: str | None = None) -> list[Entry]:
        """Return all entries of a kind, by key."""
        found: list[Entry] = []
        while page := self.entries(kind, site=site, after=found[-1].key if found else ""):
            found += page
        return found

    def aliases_of(self, uid: str) -> list[Alias]:
        """Return the foreign ids under which a device is known."""
        found = self.every(Alias.kind, site=uid.partition("/")[0])
        return [entry for entry in found if isinstance(entry, Alias) and entry.device == uid]

    def adoptions_of(self, uid: str) -> list[Adoption]:
        """Return the names of its own that are adopted of a device, by name."""
        found = self.every(Adoption.kind, site=uid.partition("/")[0])
        return [entry for entry in found if isinstance(entry, Adoption) and entry.device == uid]

    def entry(self, kind: str, key: str) -> Entry | None:
        """Return one entry."""
        rows = self._rows(select(REGISTRY).where(REGISTRY.c.kind == kind, REGISTRY.c.key == key))
        return entry_of(kind, msgspec.json.decode(rows[0]["body"])) if rows else None

    def credentials(self) -> list[Credential]:
        """Return every credential, by user name."""
        rows = self._rows(select(CREDENTIALS).order_by(CREDENTIALS.c.username))
        return [Credential(**row) for row in rows]

    def credential(self, username: str) -> Credential | None:
        """Return one credential."""
        rows = self._rows(select(CREDENTIALS).where(CREDENTIALS.c.username == username))
        return Credential(**rows[0]) if rows else None

    def revoked(self) -> dict[str, int]:
        """Return serial number → when it was revoked, ns UTC."""
        return {row["serial"]: row["revoked_ns"] for row in self._rows(select(REVOKED))}

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditRow]:
        """Return audit rows, newest first, with cursor < ``before``."""
        query = select(AUDIT).order_by(AUDIT.c.cursor.desc()).limit(limit)
        if before is not None:
            query = query.where(AUDIT.c.cursor < before)
        return [AuditRow(**row) for row in self._rows(query)]

    def changes_since(self, since_ns: int, kinds: Iterable[str]) -> int:
        """Return how often entries of some kinds have been changed since a time, ns UTC."""
        of_kinds = or_(*(AUDIT.c.subject.startswith(f"{kind} ") for kind in kinds))
        since = AUDIT.c.ts_ns >= since_ns, AUDIT.c.action.startswith("registry."), of_kinds
        return sum(row["number"] for row in self._rows(select(func.count().label("number")).where(*since)))

    def audit_break(self) -> int | None:
        """Return the cursor of the first audit row that breaks the chain of digests, None if none does."""
        cursor, digest = 0, GENESIS
        while True:
            query = select(AUDIT).where(AUDIT.c.cursor > cursor).order_by(AUDIT.c.cursor).limit(PAGE)
            rows = [AuditRow(**row) for row in self._rows(query)]
            if not rows:
                return None
            broken = rows[0].cursor if rows[0].cursor != cursor + 1 else first_broken(rows, digest)
            if broken is not None:
                return broken
            cursor, digest = rows[-1].cursor, rows[-1].digest

    def changes(self, wanted: Iterable[Entry], *, remove_others: bool = False) -> list[Change]:
        """Return what :meth:`apply` would have to do so that every entry of ``wanted`` is there as it is.

        ``remove_others``: entries of the kinds in ``wanted`` that are not in it go. EntryError where mountings of a
        device would overlap.
        """
        there: dict[str, dict[str, Entry]] = {}
        named: dict[str, set[str]] = {}
        found = []
        for entry in wanted:
            if entry.kind not in there:
                there[entry.kind] = {each.key: each for each in self.every(entry.kind)}
            known = there[entry.kind]
            named.setdefault(entry.kind, set()).add(entry.key)
            before = known.get(entry.key)
            if before is None:
                found.append(Change("add", entry.kind, entry.key, None, document_of(entry)))
            elif before != entry:
                found.append(Change("change", entry.kind, entry.key, document_of(before), document_of(entry)))
        if remove_others:
            found += [
                Change("remove", kind, key, document_of(entry), None)
                for kind, known in there.items()
                for key, entry in known.items()
                if key not in named[kind]
            ]
        _refuse_overlaps(there.get(Mounting.kind, {}), found)
        return sorted(found, key=lambda change: (list(KINDS).index(change.kind), change.key))

    # --- changing ---------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change], *, actor: str, now_ns: int) -> None:
        """Make changes in one transaction; EntryError, and none of them, where mountings would overlap."""

        def work(connection: Connection) -> list[AuditRow]:
            for change in changes:
                _write(connection, change)
            # Once more where nobody else can write: another may have mounted the device since the changes were found.
            refuse_overlaps(_mountings(connection, changes))
            return [
                AuditRow(
                    ts_ns=now_ns,
                    actor=actor,
                    action=f"registry.{change.action}",
                    subject=f"{change.kind} {change.key}",
                    detail=msgspec.json.encode(change.after or {}).decode(),
                )
                for change in changes
            ]

        if changes:
            self._change(work)

    def put(self, entry: Entry, *, actor: str, now_ns: int) -> None:
        """Add an entry or replace it."""
        self.apply(self.changes([entry]), actor=actor, now_ns=now_ns)

    def remove(self, kind: str, key: str, *, actor: str, now_ns: int) -> bool:
        """Remove an entry; return whether it was there."""
        entry = self.entry(kind, key)
        if entry is None:
            return False
        self.apply([Change("remove", kind, key, document_of(entry), None)], actor=actor, now_ns=now_ns)
        return True

    def issue(self, credential: Credential, *, actor: str) -> None:
        """Keep a credential in place of the user's earlier one, whose certificate is revoked."""

        def work(connection: Connection) -> list[AuditRow]:
            _forget(connection, credential.username, credential.issued_ns)
            connection.execute(CREDENTIALS.insert(), msgspec.structs.asdict(credential))
            return [_of_credential(credential, "issue", actor, credential.issued_ns)]

        self._change(work)

    def withdraw(self, username: str, *, actor: str, now_ns: int) -> bool:
        """Remove a credential and revoke its certificate; return whether it was there."""
        credential = self.credential(username)
        if credential is None:
            return False

        def work(connection: Connection) -> list[AuditRow]:
            _forget(connection, username, now_ns)
            return [_of_credential(credential, "remove", actor, now_ns)]

        self._change(work)
        return True

    def note(self, rows: Sequence[AuditRow]) -> None:
        """Add rows to the audit trail that are no change of the registry."""
        if rows:
            with reaching(self._name):
                self._prepare()
                with self._engine.begin() as connection:
                    append(connection, rows)

    def _change(self, work: Callable[[Connection], list[AuditRow]]) -> None:
        with reaching(self._name):
            self._prepare()
            with self._engine.begin() as connection:
                revision = counter(connection, "registry")
                append(connection, work(connection))
                set_counter(connection, "registry", revision + 1)


def _write(connection: Connection, change: Change) -> None:
    where = (REGISTRY.c.kind == change.kind, REGISTRY.c.key == change.key)
    if change.after is None:
        connection.execute(delete(REGISTRY).where(*where))
        return
    entry = entry_of(change.kind, change.after)
    body = msgspec.json.encode(entry).decode()
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(REGISTRY)
    row = {"kind": change.kind, "key": change.key, "site": entry.place, "body": body}
    replaced = {"site": insert.excluded.site, "body": insert.excluded.body}
    connection.execute(insert.on_conflict_do_update(index_elements=["kind", "key"], set_=replaced), row)


def _refuse_overlaps(there: Mapping[str, Entry], changes: Sequence[Change]) -> None:
    """Raise EntryError where ``changes`` would mount a device twice at a time; other devices are left alone."""
    after = dict(there)
    touched = set()
    for change in changes:
        if change.kind != Mounting.kind:
            continue
        if change.after is None:
            del after[change.key]
        else:
            after[change.key] = entry_of(change.kind, change.after)
            touched.add(change.after["device"])
    refuse_overlaps(each for each in after.values() if isinstance(each, Mounting) and each.device in touched)


def _mountings(connection: Connection, changes: Sequence[Change]) -> list[Mounting]:
    """Return the mountings of the devices that ``changes`` mount, as they are in the transaction."""
    added = [change.after["device"] for change in changes if change.kind == Mounting.kind and change.after is not None]
    found: list[Mounting] = []
    for device in sorted(set(added)):
        where = (REGISTRY.c.kind == Mounting.kind, REGISTRY.c.key.startswith(f"{device}@", autoescape=True))
        bodies = connection.scalars(select(REGISTRY.c.body).where(*where))
        found += [msgspec.json.decode(body, type=Mounting) for body in bodies]
    return found


def _forget(connection: Connection, username: str, now_ns: int) -> None:
    """Remove a credential; a certificate that goes is revoked."""
    where = CREDENTIALS.c.username == username
    serial = connection.scalars(select(CREDENTIALS.c.serial).where(where)).one_or_none()
    connection.execute(delete(CREDENTIALS).where(where))
    if serial:
        connection.execute(REVOKED.insert(), {"serial": serial, "revoked_ns": now_ns})


def _of_credential(credential: Credential, action: str, actor: str, now_ns: int) -> AuditRow:
    detail = f"{credential.kind} {credential.serial}".strip()
    return AuditRow(
        ts_ns=now_ns, actor=actor, action=f"credential.{action}", subject=credential.username, detail=detail
    )
