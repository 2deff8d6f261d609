"""The product broken on purpose: a simulation that does not find these proves nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from analytics.dedup import SequenceTracker, Verdict
from faults.simulation.broker import Connection
from faults.simulation.disk import Disk
from faults.simulation.store import SimulatedSink
from ingest.detection import Detection
from ingest.intake import SessionError
from ingest.packets import Message
from ingest.results import Results
from ingest.worker import Worker
from store.delivery import Delivery
from store.interface import Commit, StoreUnreachableError
from store.journal.compressing import PART

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

    async def unguarded(worker: Worker, results: Results, *, last: bool = False) -> None:
        lock, worker._undurable = worker._undurable, asyncio.Lock()  # noqa: SLF001 - as above
        worker._ahead = False  # noqa: SLF001 - as above
        try:
            await commit(worker, results, last=last)
        finally:
            worker._undurable = lock  # noqa: SLF001 - as above

    return [_put(Worker, "_commit", unguarded)]


def _no_part_sync() -> list[Undo]:
    """Put a compressed segment in the place of a plain one before the disk has it."""
    sync = Disk._fdatasync  # noqa: SLF001 - it is the product that is broken here

    def forgetful(disk: Disk, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.suffix != PART or path.parent.name != "journal":
            sync(disk, descriptor)

    return [_put(Disk, name, forgetful) for name in ("_fdatasync", "_fsync")]


def _no_second_delivery() -> list[Undo]:
    """Take what a remote store could not be told out of the outbox all the same."""
    apply = Delivery._apply  # noqa: SLF001 - it is the product that is broken here

    def once(delivery: Delivery, commit: Commit) -> None:
        with contextlib.suppress(StoreUnreachableError):
            apply(delivery, commit)

    return [_put(Delivery, "_apply", once)]


def _no_second_run() -> list[Undo]:
    """Leave what came too late for the detectors out of what they find."""
    return [_put(Detection, "_note_late", lambda _, inputs: list(inputs))]


def _no_retraction() -> list[Undo]:
    """Leave events among the records that have turned out not to have happened."""
    return [_put(Detection, "take_retracted", lambda _: [])]


class Mutation(NamedTuple):
    """One way in which the product is broken, and how that shows."""

    begin: Callable[[], list[Undo]]
    shows: str
    """Words of the finding that fits it: another would say that something else is wrong."""


MUTATIONS: Final[dict[str, Mutation]] = {
    "early-ack": Mutation(_early_ack, "acknowledged messages are not in the journal"),
    "no-epoch": Mutation(_no_epoch, "was acknowledged where"),
    "no-dedup": Mutation(_no_dedup, "frames took effect"),
    "no-sync": Mutation(_no_sync, "acknowledged messages are not in the journal"),
    "no-store-sync": Mutation(_no_store_sync, "frames took effect"),
    "commit-ahead": Mutation(_commit_ahead, "the ledger does not balance"),
    "no-part-sync": Mutation(_no_part_sync, "acknowledged messages are not in the journal"),
    "no-second-delivery": Mutation(_no_second_delivery, "windows differ from a run without faults"),
    "no-second-run": Mutation(_no_second_run, "events differ from a run without faults"),
    "no-retraction": Mutation(_no_retraction, "events differ from a run without faults"),
}


@contextlib.contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Break the product in one way, or in none, inside the block."""
    undo = MUTATIONS[name].begin() if name else []
    try:
        yield
    finally:
        for put_back in undo:
            put_back()
