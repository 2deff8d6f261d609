"""Follows the registry while ingest runs: reads it whenever its revision has changed, and remembers it on disk."""

import logging
from pathlib import Path
from typing import Final

from store.admission import Admission, from_bytes, read_admission, to_bytes
from store.carriers import Carriers, CarriersFollower
from store.interface import StoreUnreachableError
from store.open import open_registry
from store.registry_entries import Policy

log = logging.getLogger(__name__)

PERIOD_S: Final = 1.0
FILE: Final = "admission.json"


class RegistryFollower:
    """What the registry says, as far as it is known here. Blocking: for a thread of its own."""

    def __init__(self, records_url: str, data: Path, default: Policy) -> None:
        """``data`` is the worker's folder, ``default`` the policy of sites that the registry does not know."""
        self._registry = open_registry(records_url)
        self._kept = data / FILE
        self._default = default
        self._revision = -1
        self._tags = CarriersFollower(self._registry)
        self.carriers = Carriers()
        """What carries which tag, as of the last poll."""
        self._trouble = ""

    def first(self) -> Admission:
        """Return what the registry says, or said when it could last be asked: a start needs no store."""
        found = self.poll()
        if found is not None:
            return found
        try:
            return from_bytes(self._kept.read_bytes())
        except (OSError, ValueError):
            log.warning("the registry was never read: sites are %s", self._default)
            return Admission(default=self._default)

    def poll(self) -> Admission | None:
        """Return what the registry says if that has changed since the last call, else None."""
        try:
            if self._registry.revision() == self._revision:
                return None
            found = read_admission(self._registry, self._default)
            self.carriers = self._tags.now()
        except StoreUnreachableError as error:
            if not self._trouble:
                log.warning("the registry cannot be read, the last that was known holds: %s", error)
            self._trouble = str(error)
            return None
        self._trouble = ""
        self._revision = found.revision
        try:
            new = self._kept.with_suffix(".new")
            new.write_bytes(to_bytes(found))
            new.replace(self._kept)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._kept, error)
        return found

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._registry.close()
