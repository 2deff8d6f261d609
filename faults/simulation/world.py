"""One seed played: the worker lives, dies and lives again until all is published, taken and quiet."""

import asyncio
import contextlib
import logging
import random
import tempfile
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from analytics.detectors.gates import PassageRules
from analytics.detectors.states import HoldRules
from analytics.rows import TIERS_S, WindowRows
from analytics.watermarks import Lateness
from faults.simulation.broker import Broker, Connection
from faults.simulation.clock import NS, VirtualLoop
from faults.simulation.devices import DURATION_S
from faults.simulation.disk import Crash, Disk
from faults.simulation.plan import Kind, Plan, Strike
from faults.simulation.sinks import LoopCompressor, OutboxedSink, Remote, SqliteSink
from faults.simulation.store import Moods, SimulatedSink, Store
from ingest.edges import Edges
from ingest.intake import Marks
from ingest.pipeline import PipelineConfig
from ingest.results import Results
from ingest.session import SessionConfig
from ingest.sharing import Sharing
from ingest.worker import IngestConfig, Worker
from store.interface import EventRecord, LedgerRow, Sink, StoreUnreachableError
from store.journal import JournalError
from store.open import open_records
from store.records import SqlRecords
from store.sinks import EmbeddedSink
from store.windows_sqlite import SqliteWindowStore

PATIENCE_S: Final = 120.0
"""Virtual time in which everything must be taken once no fault strikes any more."""
RULES: Final = PipelineConfig(
    lateness=Lateness(2 * NS, 3 * NS), passages=PassageRules(gap_ns=4 * NS), holds=HoldRules(longest_ns=5 * NS)
)
"""As always, but that less time has to pass until everything that is going on has ended …"""
SETTLED_S: Final = 16.0
"""… which it has after this, virtual s."""
WORKER: Final = "simulated"
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it


class World:
    """Everything around one worker, and what it said in the end."""

    def __init__(self, plan: Plan, folder: Path, loop: VirtualLoop, dice: random.Random) -> None:
        """``folder`` is empty."""
        self.plan = plan
        self.data = folder / "data"
        self.data.mkdir()
        self.loop = loop
        self.broker = Broker(dice)
        self.disk = Disk(self.data, dice)
        self.store = Store()
        self.moods = Moods()
        self.remote = Remote(folder, self.moods, dice, self._die_here)
        self.unexpected: list[str] = []
        """What nobody should ever see: exceptions without a name, ledgers that did not balance."""
        self.lives = 0
        self.struck = 0
        self.spared = False
        """Whether a death at some call was planned that never came."""
        self._dice = dice
        self._slow_until = 0.0
        self._ends = asyncio.Event()
        self._power = False
        self._over = False
        self._stop = asyncio.Event()
        self._worker: Worker | None = None
        loop.slowness = self._slowness
        self.disk.on_death = self._die

    async def run(self) -> None:
        """Play the plan to its end."""
        beside = [asyncio.create_task(self._publish()), asyncio.create_task(self._strike())]
        ending = asyncio.create_task(self._end(beside))
        while not self._over:
            await self._live()
        await ending

    @property
    def rows(self) -> list[WindowRows]:
        """The window rows that the store has in the end."""
        if self.plan.store is Kind.MEMORY:
            return self.store.rows
        if self.plan.store is Kind.OUTBOX:
            return self.remote.parts
        with contextlib.closing(SqliteWindowStore(self.data / SqliteSink.FILE, read_only=True)) as windows:
            series = windows.find()
            return [windows.read(tier_s, 0, 2**62, series) for tier_s in TIERS_S]

    @property
    def events(self) -> list[EventRecord]:
        """The events that the records have in the end."""
        if self.plan.store is Kind.MEMORY:
            return self.store.events
        with contextlib.closing(self._records()) as records:
            return records.events(limit=1_000_000)

    @property
    def ledger(self) -> dict[tuple[str, str, str], LedgerRow]:
        """Device, account and reason → what the ledger of the records says in the end."""
        if self.plan.store is Kind.MEMORY:
            return self.store.ledger
        with contextlib.closing(self._records()) as records:
            return {(row.uid, row.account, row.reason): row for row in records.ledger()}

    def _records(self) -> SqlRecords:
        here = f"sqlite:///{self.data / SqliteSink.FILE}"
        return open_records(here if self.plan.store is Kind.SQLITE else self.remote.url)

    async def connect(self, config: SessionConfig, marks: Marks) -> Connection:
        """Open a connection to the broker."""
        return await self.broker.connect(config, marks)

    def open_sink(self, windows_url: str, records_url: str, data: Path) -> Sink:
        """Open the store; StoreUnreachableError while it is away."""
        del windows_url, records_url
        if self.plan.store is Kind.OUTBOX:
            outbox: Sink = OutboxedSink.open(data, self.remote, self.store, self.loop, self._dice)
            return outbox
        memory = SimulatedSink(self.store, self.moods, self._dice)
        if self.plan.store is Kind.MEMORY:
            return memory
        return SqliteSink(EmbeddedSink(data / SqliteSink.FILE), memory, data)

    async def _live(self) -> None:
        """Let one worker live until it ends or is ended."""
        self.lives += 1
        self.loop.life, self.loop.alive = self.lives, True
        self._stop, self._ends, self._power = asyncio.Event(), asyncio.Event(), False
        self.disk.dead = False
        compressor = partial(LoopCompressor, loop=self.loop, dice=self._dice)
        edges = Edges(
            _nothing_shared,
            self.connect,
            self.open_sink,
            Silent,
            self._dice,
            compressor=compressor,
            tune=lambda: None,
            give_back=lambda: None,
        )
        worker = self._worker = Worker(self._config(), "simulated", self.loop.now_ns, edges)
        living = asyncio.create_task(worker.run(self._stop))
        dying = asyncio.create_task(self._ends.wait())
        await asyncio.wait([living, dying], return_when=asyncio.FIRST_COMPLETED)
        self.disk.dead = self._ends.is_set()
        self.loop.alive = not self.disk.dead
        living.cancel()
        try:
            await living
        except (asyncio.CancelledError, Crash, JournalError, StoreUnreachableError):
            pass
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            if not self.disk.dead:
                self._note(f"the worker ended with {error!r}")
        dying.cancel()
        self.broker.cut()
        # A cut that was to come at some call, and never came, takes nothing from a worker that ended in order.
        if self._power and self.disk.dead:
            self.disk.lose_power()
            if self.plan.forgetful:
                self._forget()
        await asyncio.sleep(self._dice.uniform(0.05, 0.5))

    def _forget(self) -> None:
        """Have the store lack what was committed since it was last synced, or some of that."""
        if self.plan.store is Kind.MEMORY:
            self.store.forget(self._dice.randint(0, 12))
        elif self.plan.store is Kind.SQLITE and self._dice.random() < 0.5:  # noqa: PLR2004 - as likely as not
            self.store.forget(len(self.store.commits))
            SqliteSink.restore(self.data, self.disk.remove)

    def _config(self) -> IngestConfig:
        return IngestConfig(
            self.data,
            "",
            "",
            SessionConfig(),
            WORKER,
            RULES,
            commit_interval_s=self.plan.commit_interval_s,
            journal_keep_bytes=(4 << 30) if self.plan.keeps_journal else 0,
            journal_segment_bytes=self.plan.segment_bytes,
            journal_compress=self.plan.compress,
        )

    async def _publish(self) -> None:
        """Have the devices publish, once the broker keeps their messages for somebody."""
        while not self.broker.subscribed:  # noqa: ASYNC110 - the broker is no part of the product
            await asyncio.sleep(0.05)
        began = self.loop.time()
        for at, publication in self.plan.messages:
            await asyncio.sleep(max(0.0, began + at - self.loop.time()))
            self.broker.publish(publication)

    async def _strike(self) -> None:
        """Let the faults strike, each in its time."""
        for strike in self.plan.strikes:
            await asyncio.sleep(max(0.0, strike.at_s - self.loop.time()))
            self.struck += 1
            self._hit(strike)

    def _hit(self, strike: Strike) -> None:
        """Have one fault happen, and end by itself where it does."""
        match strike.what.partition("-"):
            case ["kill" | "power" as how, _, when]:
                self._power = self._power or how == "power"
                if when:
                    self.disk.dies_in = int(strike.much)
                else:
                    self._die()
            case ["restart", _, _]:
                self._stop.set()
            case ["cut", _, _]:
                self.broker.cut()
            case ["broker" | "session" as what, _, _]:
                self._lose_broker(strike.much, forgets=what == "session")
            case ["disk" | "sync" | "write", _, _]:
                self._hit_disk(strike)
            case ["store", _, _]:
                self._hit_store(strike)
            case ["delivery", _, _]:
                self.remote.dies_in = int(strike.much)

    def _lose_broker(self, seconds: float, *, forgets: bool) -> None:
        self.broker.up = False
        self.broker.cut()
        if forgets:
            self.broker.forget()
        self.loop.call_later(seconds, lambda: setattr(self.broker, "up", True))

    def _hit_disk(self, strike: Strike) -> None:
        match strike.what:
            case "disk-full":
                self.disk.full = True
                self.loop.call_later(strike.much, lambda: setattr(self.disk, "full", False))
            case "disk-slow":
                self._slow_until = max(self._slow_until, self.loop.time() + strike.much)
            case "sync-fails" | "write-fails":
                self.disk.failing.add("fdatasync" if strike.what == "sync-fails" else "write")

    def _hit_store(self, strike: Strike) -> None:
        match strike.what:
            case "store-away":
                self.moods.away = True
                self.loop.call_later(strike.much, lambda: setattr(self.moods, "away", False))
            case "store-slow":
                self._slow_until = max(self._slow_until, self.loop.time() + strike.much)
            case "store-lies":
                self.moods.lies = int(strike.much)

    def _note(self, words: str) -> None:
        if words not in self.unexpected:
            self.unexpected.append(words)

    def _die(self) -> None:
        self.disk.dead = True
        self._ends.set()

    def _die_here(self) -> NoReturn:
        self._die()
        raise Crash

    def _slowness(self) -> float:
        return self._dice.uniform(0.1, 0.8) if self.loop.time() < self._slow_until else 0.0

    async def _end(self, beside: list[asyncio.Task[None]]) -> None:
        """Wait until all is published and taken, then have the worker stop in order."""
        await asyncio.wait(beside)
        for task in beside:
            task.result()
        self.disk.failing.clear()
        deadline = max(self.loop.time(), DURATION_S) + PATIENCE_S
        while not self.broker.idle and self.loop.time() < deadline:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
        if not self.broker.idle:
            self._note(f"not everything was taken within {PATIENCE_S:.0f} s")
        await self._settle()
        # The last that came is committed in order, whatever the worker was doing.
        self.spared, self.disk.dies_in = bool(self.disk.dies_in), 0
        self._over = True
        self._stop.set()

    async def _settle(self) -> None:
        """Wait until one worker has lived long enough for all that was going on to end, and to be caught up with."""
        life, deadline = 0, self.loop.time() + PATIENCE_S
        while life != self.lives or not self._caught_up():
            life = self.lives
            await asyncio.sleep(SETTLED_S)
            if self.loop.time() > deadline:
                self._note(f"not everything was caught up with within {PATIENCE_S:.0f} s")
                return

    def _caught_up(self) -> bool:
        status = self._worker.status() if self._worker is not None else {}
        return not status["waiting_to_run_again"] and not status["sink_backlog"]


class Silent(Results):
    """Announces nothing."""

    async def run(self, stop: asyncio.Event) -> None:
        """Wait until it is over."""
        await stop.wait()


async def _nothing_shared(config: SessionConfig) -> Sharing:
    del config
    return Sharing.PLAIN


@contextlib.contextmanager
def played(plan: Plan) -> Iterator[World]:
    """Play a plan; the world is as it was left, with its folder, inside the block."""
    dice = random.Random(plan.seed ^ 0x5EED)
    parent = MEMORY if MEMORY.is_dir() else None
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="quayflow-seed-", dir=parent) as folder:
            loop = VirtualLoop(dice)
            try:
                world = _run(loop, _made(plan, Path(folder), loop, dice))
            finally:
                loop.close()
            yield world
    finally:
        logging.disable(logging.NOTSET)


async def _made(plan: Plan, folder: Path, loop: VirtualLoop, dice: random.Random) -> World:
    world = World(plan, folder, loop, dice)
    with world.disk.mounted():
        await world.run()
    return world


def _run(loop: VirtualLoop, work: Coroutine[Any, Any, World]) -> World:
    # What a killed worker leaves behind complains to nobody.
    loop.set_exception_handler(lambda _loop, _context: None)
    return loop.run_until_complete(work)
