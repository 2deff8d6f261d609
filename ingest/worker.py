"""The ingest worker: joins session, journal, pipeline and sink, recovers after a crash and shuts down cleanly."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from devices.codecs.readings import Request
from devices.times import format_rfc3339
from ingest.acknowledging import PERIOD_S, Acknowledger
from ingest.attention import Attention
from ingest.catching_up import CatchUp
from ingest.checkpoint import WorkerBlob, freeze, thaw, worker_of
from ingest.committing import Committer
from ingest.config import IngestConfig
from ingest.edges import Connection, Edges
from ingest.following import PERIOD_S as FOLLOW_PERIOD_S
from ingest.following import RegistryFollower
from ingest.gateway import Gateway, key_in
from ingest.intake import Marks
from ingest.ledger import Account
from ingest.packets import Message, MessageTable
from ingest.pipeline import Pipeline
from ingest.results import Results
from ingest.retention import Retention
from ingest.server_clock import ServerClock, passed
from ingest.session import SessionConfig, SessionError, SessionRefusedError
from ingest.sharing import Sharing, subscribed
from ingest.space import Space
from ingest.waiting import pause
from store.carriers import Carriers
from store.data_folder import DataFolder
from store.interface import Commit, Sink
from store.journal import (
    Damage,
    JournalConfig,
    JournalFullError,
    JournalWriter,
    first_frame,
    lay_out,
)
from store.packed_devices import PackedDevices
from store.shed_log import Shed, ShedLog

__all__ = ["IngestConfig", "Worker"]

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
SILENT_S: Final = 3.0
"""A broker that says nothing for so long, though it is asked every second, stands still."""
RATE_PERIOD_S: Final = 1.0
GIVE_BACK_S: Final = 20.0
"""How often memory is given back that only a large batch or commit has needed, s …"""
BEHIND_COMMIT_S: Final = 5.0
"""… and behind a commit, so that what it took and what others need beside it do not add up, if it is so long ago, s."""
FIRST_DELAY_S: Final = 0.2
"""How long to wait before connecting again the first time, s; it doubles with every failure in a row."""
STEADY_S: Final = 5.0
"""A connection that has lasted this long ends a row of failures, s."""


class Worker:
    """One ingest process. :meth:`run` is its whole life."""

    def __init__(
        self,
        config: IngestConfig,
        version: str,
        now: Callable[[], int] = time.time_ns,
        edges: Edges | None = None,
        elapsed: Callable[[], int] | None = None,
    ) -> None:
        """``now`` gives ns UTC; ``edges`` is the world, the real one by default.

        ``elapsed`` gives ns since any time, by a clock that nobody sets: of a ``now`` that is given, by default itself.
        """
        self._config = config
        self._edges = edges or Edges()
        self._version = version
        self._now = now
        self._clock = ServerClock(now, elapsed or (passed if now is time.time_ns else now))
        self._started = now()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._space = Space(lambda: self._edges.free_bytes(config.data), config.shed_below_bytes, self._disk)
        # Held while frames have been processed that the journal does not hold yet: no commit may contain them.
        self._undurable = asyncio.Lock()
        # Held from the place in the journal on to the last byte there: broker and gateway deliver beside each other.
        self._taking = asyncio.Lock()
        self._ahead = False
        self._changed = asyncio.Event()
        """Set where live values may have changed."""
        self._gateway: Gateway | None = None
        self._stop = asyncio.Event()
        self._pipeline = Pipeline(config.worker, 0, config.pipeline)
        self._broker = "connecting"
        self._sharing = Sharing.UNKNOWN
        self._held = Marks()
        self._attention = Attention()
        self._reading: Connection | None = None
        """The session on which messages are waited for."""
        self._committed_offset = self._committed_frames = 0
        self._balanced = True
        self._oldest_uncommitted: int | None = None
        self._refusals: list[Request] = []
        """Answers to commands that terminals cannot be given."""
        self._unanswered = self._unannounced = 0
        """How many of them nobody was told, and how many events the broker was not."""
        self._given_back = 0.0
        """When memory was given back last, s of the loop's clock."""
        self._bytes = 0
        self._rates = (0.0, 0.0, 0.0)

    async def run(self, stop: asyncio.Event) -> None:
        """Recover, then ingest until ``stop``; everything acknowledged is durable when this returns or raises.

        Raises DataFolderError, GatewayError, JournalError or StoreUnreachableError where the worker cannot go on.
        """
        config, self._stop = self._config, stop
        with DataFolder.open(config.data) as folder:
            self._session_config = _with_identity(config.session, folder.identity, config.worker)
            self._journal_config = JournalConfig(
                config.data / "journal",
                config.journal_segment_bytes,
                keep_bytes=config.journal_keep_bytes,
                keep_s=config.journal_keep_s,
                ballast_bytes=config.journal_ballast_bytes,
            )
            self._journal = JournalWriter(self._journal_config, self._clock.received, replayed=True)
            self._shed_log = ShedLog(config.data / "shed")
            self._compressor = self._edges.compressor(self._journal_config.folder, self._journal.replacing)
            self._sink = self._edges.open_sink(config.windows_url, config.records_url, config.data)
            self._committer = Committer(self._sink, self._storing)
            self._retention = Retention(config, self._journal, self._sink, self._clock.steady, self._storing)
            self._follower = (
                None
                if config.registration is None
                else RegistryFollower(config.records_url, config.data, config.registration)
            )
            try:
                self._edges.tune()
                self._recover(self._sink)
                if config.gateway is not None:
                    self._gateway = Gateway(
                        config.gateway, key_in(config.data), self._take, self._now, self._pipeline.directory.admission
                    )
                    await self._gateway.listen()
                if config.journal_compress:
                    self._compressor.start()
                await self._ingest(stop)
            finally:
                if self._gateway is not None:
                    self._gateway.close()
                if self._follower is not None:
                    self._follower.close()
                self._disk.shutdown()
                self._storing.shutdown()
                self._compressor.close()
                self._sink.close()
                self._journal.close()

    @property
    def connected(self) -> bool:
        """Whether a session with the broker stands and its subscriptions are granted."""
        return self._broker == "connected"

    @property
    def received(self) -> int:
        """Frames taken so far, over all lives."""
        return self._pipeline.ledger.received

    def status(self) -> dict[str, Any]:
        """Return what the worker says of itself, as published, stored and shown by readiness and metrics."""
        now, pipeline, blob = self._now(), self._pipeline, self._blob
        waiting = self._oldest_uncommitted
        frames_rate, bytes_rate, samples_rate = self._rates
        _, failing_s = self._sink.trouble()
        return {
            "worker": self._config.worker,
            "version": self._version,
            "started_ns": self._started,
            "updated": format_rfc3339(now),
            "updated_ns": now,
            "broker": self._broker,
            "broker_url": f"mqtt{'s' if self._session_config.tls else ''}://{self._session_config.host}:{self._session_config.port}",
            "subscription": self._sharing,
            "held_messages": self._held.messages,
            "held_messages_most": self._held.most_messages,
            "held_messages_bound": self._session_config.max_batch_messages,
            "held_bytes": self._held.bytes,
            "held_bytes_most": self._held.most_bytes,
            "held_bytes_bound": self._session_config.max_batch_bytes,
            "reading_stops": self._held.stops,
            "journal": self._space.journal_state,
            "journal_offset": self._journal.end,
            "journal_frames": self._journal.frames,
            "journal_corrupt": self._corrupt,
            "journal_disk_bytes": self._journal.disk_bytes,
            "journal_compressed_bytes": self._compressor.bytes_before,
            "journal_ballast": self._journal.ballast.state,
            "committed_offset": self._committed_offset,
            "committed_frames": self._committed_frames,
            "frames_per_second": round(frames_rate, 3),
            "bytes_per_second": round(bytes_rate, 3),
            "samples_per_second": round(samples_rate, 3),
            "frames": pipeline.ledger.received,
            "samples": pipeline.samples,
            "quarantined": pipeline.ledger.total(Account.QUARANTINED),
            "data_age_s": None if pipeline.age_ns is None else round(pipeline.age_ns / 1e9, 3),
            "store_lag_s": round((now - waiting) / 1e9, 3) if waiting is not None else 0.0,
            "sink_backlog": self._sink.backlog(),
            "sink_failing_s": round(failing_s, 3),
            "commit_seconds": round(self._committer.seconds, 4),
            "devices": len(pipeline.directory.devices) - 1,
            "series": len(pipeline.directory.keys),
            "balanced": self._balanced,
            "clocks_off": pipeline.clocks_off(),
            "clock_stepped": self._clock.doubted(),
            "clock_steps": self._clock.steps,
            "shed": pipeline.ledger.total(Account.SHED),
            "shedding": self._space.is_short,
            "late_for_detectors": pipeline.detection.late_for_detectors,
            "runs_again": pipeline.detection.runs_again,
            "waiting_to_run_again": pipeline.detection.waiting_to_run_again,
            "quarantine_dropped": pipeline.quarantine_dropped,
            "answers_dropped": self._unanswered,
            "events_dropped": self._unannounced,
            "session_losses": blob.session_losses,
            "reconnects": blob.reconnects,
            "epoch": blob.epoch,
        } | (self._gateway.status() if self._gateway is not None else {})

    def _recover(self, sink: Sink) -> None:
        """Load the checkpoint and process what the journal holds beyond it."""
        began = time.perf_counter()
        config = self._config
        checkpoint = sink.load(config.worker)
        self._blob = worker_of(checkpoint.state) if checkpoint else WorkerBlob()
        self._blob.life += 1
        self._corrupt = 0
        self._pipeline = Pipeline(config.worker, self._blob.life, config.pipeline)
        if self._follower is not None:
            self._pipeline.admit(self._follower.first())
        if checkpoint:
            thaw(self._pipeline, checkpoint.state)
        else:
            self._blob.unseen = first_frame(self._journal_config.folder)
        offset = checkpoint.offset if checkpoint else 0
        self._committed_offset, self._committed_frames = offset, self._pipeline.ledger.received

        def damaged(damage: Damage) -> None:
            self._corrupt += 1
            log.error("journal: %d damaged bytes skipped at offset %d of %s", damage.length, damage.offset, damage.path)

        recovered = 0
        for batch in self._journal.replay(offset, damaged):
            self._pipeline.process(batch)
            # Between two batches ingest may have been away, so silence tells nothing.
            self._pipeline.tick(batch[-1].recv_ts, batch[-1].recv_ts)
            self._blob.epoch = max(self._blob.epoch, batch[-1].epoch)
            recovered += len(batch)
            self._oldest_uncommitted = self._oldest_uncommitted or batch[0].recv_ts
        self._journal.skip_to(offset)
        for shed in self._shed_log.since(self._blob.sheds):
            self._pipeline.shed(list(Counter(shed.topics).elements()), shed.ts)
        self._shed_log.skip_to(self._blob.sheds)
        if recovered:
            log.info("recovered %d frames from the journal in %.2f s", recovered, time.perf_counter() - began)

    async def _ingest(self, stop: asyncio.Event) -> None:
        """Run the parts until ``stop`` or until one fails."""
        results = self._edges.results(
            self._session_config,
            self._config.worker,
            live=self._pipeline.take_live,
            status=self.status,
            now=self._now,
            carriers=lambda: Carriers() if self._follower is None else self._follower.carriers,
            host=f"quayflow-{self._config.worker}" if self._pipeline.foreign.feeds.is_sparkplug_host else "",
        )
        self._changed = results.changed
        self._edges.tune()
        quiet = asyncio.Event()
        catch_up = CatchUp(
            self._pipeline, self._config.worker, self._journal_config.folder, self._sink, lambda: not self._ahead
        )
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(self._tick(quiet), name="tick"),
                    group.create_task(self._commit_regularly(results, quiet), name="commit"),
                    group.create_task(self._tell_devices(results, quiet), name="acknowledge"),
                    group.create_task(self._give_memory_back(quiet), name="memory"),
                    group.create_task(self._follow_registry(quiet), name="registry"),
                    group.create_task(results.run(quiet), name="results"),
                    group.create_task(catch_up.run(quiet, self._undurable, lambda: self._journal.end), name="catch-up"),
                ]
                consuming = [group.create_task(self._consume(stop), name="consume")]
                if self._gateway is not None:
                    consuming.append(group.create_task(self._gateway.run(stop), name="gateway"))
                try:
                    await asyncio.wait(consuming)
                finally:
                    # Also where a part has failed and the others are cancelled: before Python 3.12 asyncio.wait_for
                    # loses a cancellation that comes together with what it waits for, and a part that lost it would
                    # go on for ever. So each also ends by being told to.
                    stop.set()
                    quiet.set()
                await asyncio.wait(beside)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        finally:
            catch_up.close()
        await self._commit(results, last=True)
        if not await asyncio.to_thread(self._sink.drain, 5.0):
            log.warning("%d commits wait in the outbox for the remote store", self._sink.backlog())

    async def _consume(self, stop: asyncio.Event) -> None:
        """Keep a session with the broker and take what it delivers."""
        delay, known, clock = FIRST_DELAY_S, self._blob.epoch > 0, asyncio.get_running_loop().time
        while not stop.is_set():
            try:
                session = await self._connect()
            except SessionError as error:
                level = logging.ERROR if isinstance(error, SessionRefusedError) else logging.WARNING
                log.log(level, "%s; trying again in %.1f s", error, delay)
                await pause(stop, delay * self._edges.jitter.uniform(0.5, 1.5))
                delay = min(delay * 2, 10.0)
                continue
            self._welcome(session, known=known)
            known, began = True, clock()
            try:
                while not stop.is_set():
                    self._attention.turn_to(self._clock.steady())
                    self._reading = session
                    messages = await session.read(stop)
                    self._reading = None
                    self._attention.leave(self._clock.steady())
                    kept = await self._shed(messages)
                    if messages and (not kept or await self._take(kept)):
                        session.acknowledge(messages)
                await session.close()
            except SessionError as error:
                # A broker that throws us out at once, such as for a packet that it sends again, is not worn down.
                if clock() - began > STEADY_S:
                    delay = FIRST_DELAY_S
                log.warning("%s; connecting again in %.1f s", error, delay)
                self._attention.leave(self._clock.steady())
                self._broker = "connecting"
                await pause(stop, delay * self._edges.jitter.uniform(0.5, 1.5))
                delay = min(delay * 2, 10.0)
            finally:
                self._reading = None
                session.abort()
                self._broker = "connecting"

    async def _connect(self) -> Connection:
        """Open a session whose filters deliver; the first time, a canary finds out whether shared ones do."""
        if self._sharing in {Sharing.UNKNOWN, Sharing.UNPROVEN, Sharing.DEALT}:
            self._sharing = await self._edges.probe(self._session_config)
            if self._sharing is Sharing.UNPROVEN:
                log.warning(
                    "it cannot be told whether the broker serves shared subscriptions: the canary heard nothing"
                )
            if self._sharing is Sharing.FALLBACK:
                log.warning(
                    "the broker does not deliver to shared subscriptions: subscribing without groups. Every worker on "
                    "these filters gets everything: run one, or give each filters of its own"
                )
        config = subscribed(self._session_config, self._sharing)
        former = tuple(pattern for pattern in self._blob.filters if pattern not in config.filters)
        session = await self._edges.connect(replace(config, former_filters=former), self._held)
        self._blob.filters = list(config.filters)
        return session

    def _welcome(self, session: Connection, *, known: bool) -> None:
        """Note a new connection, which is a new epoch of packet ids."""
        self._blob.epoch += 1
        self._blob.reconnects += int(known)
        self._broker = "connected"
        config = self._session_config
        log.info("connected to %s:%d, epoch %d", config.host, config.port, self._blob.epoch)
        if known and not session.session_present:
            self._blob.session_losses += 1
            log.error("the broker has lost our session: what it held for us is gone; sequence gaps tell how much")

    async def _take(self, messages: Sequence[Message]) -> bool:
        """Journal and process a batch; return when it is durable, or False if told to end before there is space for it.

        Before anything of it is processed, commits go on, so that an end in order remains possible on a full disk.
        """
        async with self._taking:
            return await self._take_in_turn(MessageTable.of(messages))

    async def _take_in_turn(self, messages: MessageTable) -> bool:
        # Handing work to another thread and back costs as much as a dozen messages: only where the disk is touched.
        try:
            start = (
                self._journal.end
                if self._journal.is_ready
                else await self._space.wait_for(self._journal.begin, self._stop)
            )
        except JournalFullError:
            return False
        async with self._undurable:
            received = self._clock.received()
            topics, payloads, flags = messages.topics, messages.payloads, messages.flags
            records = lay_out(start, received, self._blob.epoch, topics, payloads, flags)

            def append() -> None:
                self._journal.append(records.blob, len(messages))

            # The disk works in its own thread while the batch is decoded in this one.
            writing = asyncio.get_running_loop().run_in_executor(self._disk, append)
            self._ahead = True
            self._pipeline.process(records.frames)
            try:
                await writing
            except JournalFullError as error:
                await self._space.there_is_none(error, self._stop)
                await self._space.wait_for(append, self._stop)
            self._ahead = False
            self._changed.set()
            if self._gateway is not None:
                self._refusals += self._gateway.refusals(topics, payloads)
            self._bytes += len(records.blob)
            if self._oldest_uncommitted is None:
                self._oldest_uncommitted = received
        return True

    async def _shed(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return what is to be journalled: where space is short, nothing sent at QoS 0, which is counted instead."""
        if not self._space.is_short:
            return messages
        table = MessageTable.of(messages)
        acknowledged = table.packet_ids > 0
        if not acknowledged.all():
            topics, now = table.take(~acknowledged).topics, self._clock.received()
            # The number is taken with the count: a commit between here and the disk contains both or neither.
            number, shed = self._shed_log.number, Shed(now, dict(Counter(topics)))
            self._pipeline.shed(topics, now)
            try:
                await asyncio.get_running_loop().run_in_executor(self._disk, self._shed_log.append, number, shed)
            except OSError as error:
                log.error("%s: what was shed since the last commit is in no account if ingest is killed", error)  # noqa: TRY400
        return table.take(acknowledged)

    async def _tick(self, stop: asyncio.Event) -> None:
        """Let time pass in the pipeline, and measure rates."""
        clock = asyncio.get_running_loop().time
        self._space.look()
        before, at = (self._pipeline.ledger.received, self._bytes, self._pipeline.samples), clock()
        while not stop.is_set():
            now = self._clock.steady()
            if self._reading is not None:
                # A broker that stands still is as if nobody listened.
                stands_still = self._reading.silent_s > SILENT_S
                (self._attention.leave if stands_still else self._attention.turn_to)(now)
            self._pipeline.tick(now, self._attention.since(now))
            self._changed.set()
            if (elapsed := clock() - at) >= RATE_PERIOD_S:
                self._space.look()
                totals = (self._pipeline.ledger.received, self._bytes, self._pipeline.samples)
                rates = [(total - last) / elapsed for total, last in zip(totals, before, strict=True)]
                self._rates = (rates[0], rates[1], rates[2])
                before, at = totals, clock()
            await pause(stop, TICK_S)

    async def _follow_registry(self, stop: asyncio.Event) -> None:
        """Act on a changed registry within about a second."""
        while self._follower is not None and not stop.is_set():
            await pause(stop, FOLLOW_PERIOD_S)
            found = await asyncio.to_thread(self._follower.poll)
            if found is not None:
                log.info("the registry has revision %d", found.revision)
                self._pipeline.admit(found)
                if self._gateway is not None:
                    self._gateway.admit(found)

    async def _tell_devices(self, results: Results, stop: asyncio.Event) -> None:
        """Tell devices that keep their messages which of them rest in the journal."""
        acknowledger = Acknowledger()
        while not stop.is_set():
            async with self._undurable:
                # Not where the journal has failed under a batch that the trackers have seen.
                told = [] if self._ahead else acknowledger.collect(self._pipeline.directory.devices)
            results.acknowledge(told)
            refusals, self._refusals = self._refusals, []
            results.request(self._pipeline.foreign.feeds.wants(self._now()))
            results.answer(refusals)
            self._unanswered, self._unannounced = results.answers_dropped, results.events_dropped
            await pause(stop, PERIOD_S)

    async def _commit_regularly(self, results: Results, stop: asyncio.Event) -> None:
        """Commit every interval, less often where commits are large."""
        while not stop.is_set():
            config, now = self._config, self._clock.steady()
            await pause(stop, self._committer.pause_s(config.commit_interval_s, config.commit_share, now))
            if not stop.is_set():
                await self._commit(results)
                await self._give_back(BEHIND_COMMIT_S)

    async def _give_memory_back(self, stop: asyncio.Event) -> None:
        """Let no moment, however much it took, decide what the process has resident from then on."""
        while not stop.is_set():
            await pause(stop, GIVE_BACK_S)
            if not stop.is_set():
                await self._give_back(GIVE_BACK_S)

    async def _give_back(self, apart_s: float) -> None:
        """Give memory back, unless that was done less than so many seconds ago."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._given_back >= apart_s:
            self._given_back = loop.time()
            await loop.run_in_executor(self._storing, self._edges.give_back)

    async def _commit(self, results: Results, *, last: bool = False) -> None:
        """Snapshot what changed and make it durable in the store; announce the events that it contains.

        ``last``: of an orderly end, with the rows of windows that are not over, which a store may otherwise be spared,
        and readable for an older release.
        """
        async with self._undurable:
            if self._ahead:
                # The journal has failed under a batch, and the process is about to end for it.
                return
            commit = self._snapshot(last=last)
            frames, sheds = self._pipeline.ledger.received, self._blob.sheds
            self._oldest_uncommitted = None
        events = await self._committer.commit(commit, self._stop)
        self._committed_offset, self._committed_frames = commit.offset, frames
        results.announce(events)
        await self._retention.expire()
        await self._retention.trim_journal(commit.offset, self._disk)
        await self._retention.forget_shed(self._shed_log, sheds, self._disk)

    def _judge(self, journalled: int) -> None:
        """Hold the ledger to its identity, and to the frames that the journal has; raise the alarm once."""
        ledger, devices = self._pipeline.ledger, self._pipeline.directory.devices
        wrong = [devices[index].uid or "frames of no device" for index in ledger.unbalanced()]
        balanced = not wrong and journalled == self._journal.frames and not self._corrupt
        if self._balanced and not balanced:
            log.error(
                "THE LEDGER DOES NOT BALANCE: %d frames accounted for, %d in the journal, %d stretches damaged: %s",
                *(journalled, self._journal.frames, self._corrupt, ", ".join(wrong[:5]) or "no device by itself"),
            )
        self._balanced = balanced

    def _snapshot(self, *, last: bool) -> Commit:
        """Take from the pipeline what changed since the last commit."""
        pipeline, blob = self._pipeline, self._blob
        blob.commits += 1
        blob.sheds = self._shed_log.cut()
        accounted = blob.unseen + pipeline.ledger.received
        self._judge(accounted - pipeline.ledger.total(Account.SHED))
        touched = pipeline.touched()
        rows = pipeline.take_packed(blob.commits, complete=last or not self._sink.folds)
        devices = PackedDevices()
        frozen = freeze(pipeline, blob, touched, last=last, records=devices)
        return Commit(
            worker=self._config.worker,
            offset=self._journal.end,
            rows=rows,
            devices=devices,
            events=pipeline.take_events(),
            quarantine=pipeline.take_quarantine(),
            ledger=pipeline.take_ledger(touched),
            state=frozen.state,
            status=self.status(),
            retracted=pipeline.detection.take_retracted(),
            history=frozen.history,
        )


def _with_identity(session: SessionConfig, identity: str, worker: str) -> SessionConfig:
    """Complete the client id, so that two installations on one broker do not throw each other out."""
    return replace(session, client_id=f"{session.client_id}-{worker}-{identity[:12]}")
