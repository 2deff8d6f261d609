"""The product broken on purpose: a simulation that does not find these proves nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from analytics.dedup import SequenceTracker, Verdict
from faults.simulation.broker import Connection
from faults.simulation.disk import Disk
from faults.simulation.store import SimulatedSink
from ingest.intake import SessionError
from ingest.packets import Message
from ingest.results import Results
from ingest.worker import Worker

Undo = Callable[[], None]


def _put(owner: type, name: str, value: object) -> Undo:
    """Replace a method; return what puts it back."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, before)


def _early_ack() -> list[Undo]:
    """Acknowledge what is read before the journal has it."""
    read, acknowledge = Connection.read, Connection.acknowledge

    async def early(connection: Connection, until: asyncio.Event) -> list[Message]:
        messages = await read(connection, until)
        with contextlib.suppress(SessionError):
            acknowledge(connection, messages)
        return messages

    return [_put(Connection, "read", early), _put(Connection, "acknowledge", lambda *_: None)]


def _no_epoch() -> list[Undo]:
    """Acknowledge on the next connection what the last one delivered."""
    acknowledge = Connection.acknowledge
    left: list[Message] = []

    def carrying(connection: Connection, messages: Sequence[Message]) -> None:
        if connection.broken:
            left.extend(messages)
        else:
            acknowledge(connection, [*left, *messages])
            left.clear()

    return [_put(Connection, "acknowledge", carrying)]


def _no_dedup() -> list[Undo]:
    """Take every frame as new."""
    see = SequenceTracker.see

    def new(tracker: SequenceTracker, boot: int, seq: int) -> Verdict:
        see(tracker, boot, seq)
        return Verdict.NEW

    return [_put(SequenceTracker, "see", new)]


def _no_sync() -> list[Undo]:
    """Acknowledge what the kernel has and the disk may not."""
    return [_put(Disk, name, lambda *_: None) for name in ("_fdatasync", "_fsync")]


def _no_store_sync() -> list[Undo]:
    """Delete of the journal what the store's disk may not have."""
    return [_put(SimulatedSink, "sync", lambda *_: None)]


def _commit_ahead() -> list[Undo]:
    """Commit frames that the journal does not hold yet."""
    commit = Worker._commit  # noqa: SLF001 - it is the product that is broken here

    async def unguarded(worker: Worker, results: Results) -> None:
        lock, worker._undurable = worker._undurable, asyncio.Lock()  # noqa: SLF001 - as above
        worker._ahead = False  # noqa: SLF001 - as above
        try:
            await commit(worker, results)
        finally:
            worker._undurable = lock  # noqa: SLF001 - as above

    return [_put(Worker, "_commit", unguarded)]


MUTATIONS: Final[dict[str, Callable[[], list[Undo]]]] = {
    "early-ack": _early_ack,
    "no-epoch": _no_epoch,
    "no-dedup": _no_dedup,
    "no-sync": _no_sync,
    "no-store-sync": _no_store_sync,
    "commit-ahead": _commit_ahead,
}


@contextlib.contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Break the product in one way, or in none, inside the block."""
    undo = MUTATIONS[name]() if name else []
    try:
        yield
    finally:
        for put_back in undo:
            put_back()
