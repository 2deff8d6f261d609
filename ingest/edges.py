"""What a worker touches of the world: broker, store, the announcing of results, chance.

The worker's own logic, when to read, write, acknowledge and commit, knows the world only through these; the seeded
simulation (``faults.simulation``) puts a made world here and drives the same logic in virtual time. The disk is not
among them: the journal's calls of ``os`` are replaced there.
"""

import asyncio
import ctypes
import gc
import os
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from ingest.intake import Marks
from ingest.packets import Message
from ingest.results import Results
from ingest.session import Session, SessionConfig
from ingest.sharing import Sharing, probe
from store.interface import Sink
from store.journal import Compressor
from store.open import open_sink


class Connection(Protocol):
    """One connection to a broker, as :class:`ingest.session.Session` is."""

    session_present: bool

    @property
    def silent_s(self) -> float:
        """For how long the broker has said nothing at all, s; it is asked every second whether it is there."""

    async def read(self, until: asyncio.Event) -> Sequence[Message]:
        """Return the messages that have arrived, at least one; none once ``until`` is set."""

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge the QoS 1 messages of a batch, in the order received."""

    async def close(self) -> None:
        """End in order."""

    def abort(self) -> None:
        """Cut it; idempotent."""


def free_bytes(folder: Path) -> int:
    """Return the bytes that are free, to this user, where ``folder`` lies."""
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


_trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)
_set_option = getattr(ctypes.CDLL(None), "mallopt", lambda _, __: 0)
_ARENA_MAX: Final = -8
"""Option of glibc: how many heaps threads share."""


def tune() -> None:
    """Prepare the process for a long life.

    Long-lived objects are put out of the garbage collector's way: what is short-lived is freed by its references. And
    threads that begin from now on share one heap, if the C library is glibc: each would have its own, and keep what a
    commit has freed where no other thread can use it.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    _set_option(_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Give the system back what has been freed, if the C library is glibc; takes some milliseconds.

    Left alone, glibc keeps whatever lies below something still in use, and :mod:`analytics.scattered` has it keep more:
    a process would hold for ever what its largest batch, commit or pass over the journal has taken.
    """
    _trim(0)


@dataclass(frozen=True, slots=True)
class Edges:
    """The world of one worker."""

    probe: Callable[[SessionConfig], Awaitable[Sharing]] = probe
    """Finds out how filters are to be subscribed to."""
    connect: Callable[[SessionConfig, Marks], Awaitable[Connection]] = Session.open
    """Opens a connection; SessionError if there is none to be had."""
    open_sink: Callable[[str, str, Path], Sink] = open_sink
    """Opens the sink: where window rows go, where records go, the data folder."""
    results: type[Results] = Results
    """Announces live values and events."""
    jitter: random.Random = field(default_factory=random.Random)
    """Spreads attempts to connect."""
    free_bytes: Callable[[Path], int] = free_bytes
    """Returns the space that is free where a folder lies."""
    compressor: Callable[[Path, threading.Lock], Compressor] = Compressor
    """Compresses sealed segments of the journal in a folder, beside the worker; see there."""
    tune: Callable[[], None] = tune
    """Prepares the process for a long life."""
    give_back: Callable[[], None] = give_back_memory
    """Gives memory back that was needed for a while; called now and then, in the thread that commits."""
