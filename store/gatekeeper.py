"""Answers a broker that asks: is this user who it says, and may it publish or subscribe there?

Denied is whatever is not allowed. Denials go to the audit trail, which nobody can fill: a minute has so many rows.
"""

import hashlib
import hmac
import logging
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from devices.times import NS
from store.access import Action, may
from store.audit import AuditRow
from store.interface import StoreUnreachableError
from store.passwords import argon2_hash, fits, new_password
from store.registry import Credential, SqlRegistry

AUDIT_ROWS: Final = 60
"""Denials of a minute that have a row of their own; the rest of it is one row with their number."""
AUDIT_PERIOD_NS: Final = 60 * NS
PROVEN: Final = 20_000
"""Users whose password need not be hashed slowly again."""
LONGEST: Final = 1_024
"""Longest password that is looked at, characters."""
SHOWN: Final = 200

log = logging.getLogger(__name__)


class Gatekeeper:
    """Decides by the registry and its one table of rights. Methods block, and may be called by several threads."""

    def __init__(self, registry: SqlRegistry, audit: SqlRegistry, clock: Callable[[], int]) -> None:
        """``registry`` answers; ``audit`` is the same open for writing, and takes rows. ``clock`` gives now, ns UTC."""
        self.unkept = 0
        """Denials that have no row of their own, and those that the audit trail could not take."""
        self._registry = registry
        self._audit = audit
        self._clock = clock
        # A user who is not there takes as long as one whose password is wrong.
        self._nobody = argon2_hash(new_password())
        # Passwords have 192 random bits: a fast keyed hash of one that argon2 has accepted gives nothing away.
        self._key = secrets.token_bytes(32)
        self._proven: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._period = 0
        self._rows = 0
        self._untold: Counter[str] = Counter()

    def admits(self, username: str, password: str, asker: str) -> bool:
        """Tell whether a password is the user's; StoreUnreachableError. ``asker``: which broker, for the audit trail.

        Certificates are the broker's own matter: their users have no password and are denied here.
        """
        credential = self._valid(username)
        known = credential is not None and bool(credential.argon2)
        argon2 = credential.argon2 if credential is not None and known else self._nobody
        allowed = len(password) <= LONGEST and self._fits(argon2, password) and known
        if not allowed:
            why = "wrong password" if known else "no such user with a password"
            self._denied(asker, username, f"connect: {why}")
        return allowed

    def permits(self, username: str, action: Action, topics: Sequence[str], asker: str) -> list[bool]:
        """Tell which topics a user may publish to, or filters it may subscribe to; StoreUnreachableError."""
        credential = self._valid(username)
        aliases = [] if credential is None or not credential.uid else self._registry.aliases_of(credential.uid)
        found = [credential is not None and may(username, credential.uid, action, topic, aliases) for topic in topics]
        verb = "publish to" if action == "write" else "subscribe to"
        for topic, allowed in zip(topics, found, strict=True):
            if not allowed:
                self._denied(asker, username, f"{verb} {topic[:SHOWN]}")
        return found

    def _valid(self, username: str) -> Credential | None:
        """Return the credential of a user, None where there is none or its time is over."""
        credential = self._registry.credential(username)
        if credential is not None and credential.expires_ns and credential.expires_ns <= self._clock():
            return None
        return credential

    def _fits(self, argon2: str, password: str) -> bool:
        digest = hashlib.blake2b(password.encode(), key=self._key).digest()
        with self._lock:
            proven = self._proven.get(argon2)
        if proven is not None and hmac.compare_digest(proven, digest):
            return True
        if not fits(argon2, password):
            return False
        with self._lock:
            self._proven[argon2] = digest
            while len(self._proven) > PROVEN:
                self._proven.popitem(last=False)
        return True

    def _denied(self, asker: str, username: str, detail: str) -> None:
        """Leave a row in the audit trail, or count it where the minute has had its rows already."""
        now = self._clock()
        rows = []
        with self._lock:
            if now // AUDIT_PERIOD_NS != self._period:
                self._period, self._rows = now // AUDIT_PERIOD_NS, 0
                rows = [_row(now, each, "", f"{count} further denials") for each, count in self._untold.items()]
                self._untold.clear()
            self._rows += 1
            if self._rows <= AUDIT_ROWS:
                rows.append(_row(now, asker, username[:SHOWN], detail))
            else:
                self._untold[asker] += 1
                self.unkept += 1
        try:
            self._audit.note(rows)
        except StoreUnreachableError as error:
            # Denied it is all the same.
            self.unkept += len(rows)
            log.warning("%d denials could not be written to the audit trail: %s", len(rows), error)


def _row(now_ns: int, asker: str, username: str, detail: str) -> AuditRow:
    return AuditRow(ts_ns=now_ns, actor=f"broker:{asker}", action="denied", subject=username, detail=detail)
