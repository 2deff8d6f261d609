"""What routes are given: the configuration, the stores, the hub, the instruments and the clock."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from api.commands import Commander
from api.completeness import complete_through_ns
from api.config import ApiConfig
from api.instruments import Instruments
from api.live import LiveHub
from api.shapes import time_json
from api.stores import Stores
from store.gatekeeper import Gatekeeper
from store.interface import DeviceRecord
from store.registry import SqlRegistry

STATE_KEY: Final = "wiring"


@dataclass(frozen=True, slots=True)
class Wiring:
    """One of each for the life of the application."""

    config: ApiConfig
    stores: Stores
    hub: LiveHub
    instruments: Instruments
    clock: Callable[[], int]
    """Returns now, ns UTC."""
    version: str
    gatekeeper: Gatekeeper | None = None
    """Answers brokers that ask who may do what; None where none may ask."""
    changes: SqlRegistry | None = None
    """The registry open for changes; None where nobody may change anything."""
    commander: Commander | None = None
    """Sends commands to devices; None where nobody may change anything."""

    async def complete_through_ns(self, devices: Iterable[DeviceRecord]) -> int | None:
        """Return up to when answers about ``devices`` are complete, ns UTC; None if no worker ever reported."""
        return complete_through_ns(devices, await self.stores.workers())

    async def complete_through(self, devices: Iterable[DeviceRecord]) -> str | None:
        """Return :meth:`complete_through_ns` in RFC 3339."""
        ns = await self.complete_through_ns(devices)
        return None if ns is None else time_json(ns)


def _wiring(request: Request) -> Wiring:
    found: Wiring = getattr(request.app.state, STATE_KEY)
    return found


Given = Annotated[Wiring, Depends(_wiring)]
