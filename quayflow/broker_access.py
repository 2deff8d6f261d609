"""Mosquitto with access control: its password file, access list and certificates, made from the registry."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quayflow.certificates import Authority, write_private
from store.access import API, INGEST, PARTS, SIMULATOR, access_list, password_file
from store.passwords import argon2_hash, mosquitto_hash, new_password
from store.registry import Credential, SqlRegistry
from store.registry_entries import Alias

ACTOR: Final = "quayflow"
SECRETS: Final = "secrets.json"
USERS: Final = {"ingest": INGEST, "api": API, "simulate": SIMULATOR}
"""Part of quayflow → its user name at the broker."""


@dataclass(frozen=True, slots=True)
class AccessFiles:
    """What the broker reads; ``crl`` is None without client certificates."""

    passwords: Path
    rules: Path
    crl: Path | None


class BrokerAccess:
    """Keeps the broker's files as the registry says."""

    def __init__(
        self, registry: SqlRegistry, folder: Path, authority: Authority | None, now: Callable[[], int] = time.time_ns
    ) -> None:
        """``folder`` gets the files; ``authority`` signs the list of revoked certificates."""
        self._registry = registry
        self._folder = folder
        self._authority = authority
        self._now = now
        self._revision = -1
        crl = folder / "crl.pem" if authority is not None else None
        self.files = AccessFiles(folder / "passwords", folder / "access.acl", crl)

    def refresh(self) -> bool:
        """Write the files anew if the registry has changed; tell whether it had. StoreUnreachableError."""
        revision = self._registry.revision()
        if revision == self._revision:
            return False
        credentials = self._registry.credentials()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_private(self.files.passwords, password_file(credentials).encode())
        write_private(self.files.rules, access_list(credentials, self._aliases()).encode())
        if self.files.crl is not None and self._authority is not None:
            revoked = self._registry.revoked()
            self.files.crl.write_bytes(self._authority.revocations(revoked, self._now()))
        self._revision = revision
        return True

    def _aliases(self) -> dict[str, list[Alias]]:
        found: dict[str, list[Alias]] = {}
        for entry in self._registry.every(Alias.kind):
            if isinstance(entry, Alias):
                found.setdefault(entry.device, []).append(entry)
        return found


def part_passwords(registry: SqlRegistry, folder: Path, now_ns: int) -> dict[str, str]:
    """Return user name → password of quayflow's own parts, drawn once and kept in ``folder`` for its owner alone."""
    path = folder / SECRETS
    try:
        known: dict[str, str] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        known = {}
    there = {each.username for each in registry.credentials()}
    for username in PARTS:
        if username in known and username in there:
            continue
        known[username] = new_password()
        registry.issue(password_credential(username, "", known[username], now_ns), actor=ACTOR)
    folder.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps(known).encode())
    return known


def password_credential(username: str, uid: str, password: str, now_ns: int) -> Credential:
    """Return what the registry keeps of a password."""
    return Credential(
        username=username,
        uid=uid,
        kind="password",
        argon2=argon2_hash(password),
        broker_hash=mosquitto_hash(password),
        issued_ns=now_ns,
    )
