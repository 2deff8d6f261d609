"""Replay: recorded tracks and messages, published with their own timing or as fast as the broker takes them.

    recording ─► entries ─► moved in time, cloned ─► due ─► sender ─► broker ─► ingest ─► store
                                                                └► watcher          read back ◄─┘

Messages leave when they are due, whatever became of the ones before, and how late they left is measured. A message
counts as lost when the broker has not acknowledged it by the end, whether it was sent or not: a replay never passes by
sending less than was asked for.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from devices.times import format_rfc3339
from simulators.accounts import devices_of
from simulators.outcome import Moment, ReplayResult
from simulators.playing import Play, Timed
from simulators.readback import Expected, ReadBack, Reader
from simulators.recording import open_recording
from simulators.replay_config import ReplayConfig
from simulators.schedule import NS, punctual, read_ahead, stopped_by_signal, wait_until
from simulators.sender import Sender
from simulators.watching import Watcher, topics_to_watch

__all__ = ["ReplayConfig", "ReplayProgress", "ReplayResult", "run"]

MAX_OUTSTANDING: Final = 5_000
PROGRESS_S: Final = 0.2
CONNECTED_S: Final = 5.0
"""The schedule begins when every connection stands, or after so long, s."""
MOST_MOMENTS: Final = 600
"""An even number: when there are so many, two become one."""
TURN_NS: Final = 2_000_000
"""The event loop gets its turn after so long at the latest, ns."""


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How far a replay is."""

    messages: int
    """How many there are to send."""
    sent: int
    acked: int
    behind_s: float
    """How late the latest message left, s; 0 at unlimited speed."""
    connected: int
    """Connections that stand."""
    rate: float
    """Acknowledged messages per second since the last report."""
    acked_ms: dict[str, float]
    """From when messages were due until they were acknowledged: p50, p95, p99, max, ms."""
    e2e_ms: dict[str, float]
    """The same until a subscriber had them."""


async def run(
    config: ReplayConfig,
    progress: Callable[[ReplayProgress], None] | None = None,
    clock: Callable[[], int] = time.time_ns,
    stop: asyncio.Event | None = None,
) -> ReplayResult:
    """Replay until everything is acknowledged, ``stop`` is set (or, without it, SIGTERM or SIGINT), or patience ends.

    ``progress`` is called a few times a second.

    Raises:
        simulators.tracks.RecordingError: the recording cannot be used at all.
        simulators.readback.ReadBackError: the API cannot be asked.
        simulators.broker.BrokerRefusesError: the broker has never let anybody in with these credentials.
    """
    recording = await asyncio.to_thread(open_recording, config.path, config.choice, config.site, config.offset_m)
    with stopped_by_signal(stop) as ending, punctual():
        return await _Run(config, Play(config, recording), clock, progress, ending).run()


class _Run:
    """One run of a replay."""

    def __init__(
        self,
        config: ReplayConfig,
        play: Play,
        clock: Callable[[], int],
        progress: Callable[[ReplayProgress], None] | None,
        ending: asyncio.Event,
    ) -> None:
        self._config = config
        self._play = play
        self._clock = clock
        self._progress = progress
        self._ending = ending
        self._passes = 0
        self._offered = 0
        self._shift = 0
        self._over = False
        self._verbatim = 0
        self._timeline: list[Moment] = []
        self._moment_s = PROGRESS_S
        self._paced = math.isfinite(config.speed)

    async def run(self) -> ReplayResult:
        """Play, wait for what is under way, read back, and say what came of it."""
        config, play = self._config, self._play
        self._shift = play.shift_ns(self._clock())
        watcher = Watcher(config.broker, topics_to_watch(play.topics()), self._clock)
        name = f"quayflow-replay-{os.getpid()}"
        async with _reading_back(config, play, self._shift) as reading, watcher:
            sender = Sender(config.broker, len(play.names), config.clients, self._clock, name, qos=config.qos)
            async with sender:
                sender.attempts.on_refusal = self._ending.set
                await _either(sender.wait_connected(min(CONNECTED_S, config.patience_s)), self._ending)
                sender.attempts.check()
                started = self._clock()
                watch = asyncio.create_task(self._watch(sender, watcher, started))
                await self._send_all(sender, watcher, started)
                await _either(sender.wait_below(1), self._ending)
                sender.attempts.check()
                elapsed = (self._clock() - started) / NS
                self._note(sender, elapsed)
                await watcher.settle()
                watch.cancel()
                self._report(sender, watcher, 0.0)
                back = await reading() if reading is not None else None
            return self._result(sender, watcher, elapsed, back)

    async def _send_all(self, sender: Sender, watcher: Watcher, started: int) -> None:
        config = self._config
        end_ns = started + round(config.duration_s * NS) if config.duration_s is not None else None
        while not self._ending.is_set() and not self._over and (not config.loops or self._passes < config.loops):
            if self._passes:
                self._shift = self._play.shift_ns(self._clock())
            self._passes += 1
            begin = -1
            async with contextlib.aclosing(read_ahead(self._play.messages(self._shift))) as batches:
                async for messages in batches:
                    # The time of a pass begins when its first messages are at hand.
                    begin = self._clock() if begin < 0 else begin
                    if not await self._send(messages, sender, watcher, begin, end_ns):
                        break

    async def _send(
        self, messages: list[Timed], sender: Sender, watcher: Watcher, begin: int, end_ns: int | None
    ) -> bool:
        """Send messages when they are due; return whether there is time for more."""
        clock, ending = self._clock, self._ending
        turn = clock()
        for message in messages:
            due = begin + message.due_ns
            if end_ns is not None and (due >= end_ns or clock() >= end_ns):
                self._over = True
                return False
            if self._paced and not await wait_until(due, clock, ending):
                return False
            if sender.outstanding >= MAX_OUTSTANDING:
                await _either(sender.wait_below(MAX_OUTSTANDING), ending)
            now = clock()
            if now - turn > TURN_NS:
                await asyncio.sleep(0)
                turn = clock()
            if ending.is_set():
                return False
            offered = Timed(due if self._paced else now, *message[1:])
            watcher.expect(message.topic, message.payload, offered.due_ns)
            sender.offer(offered)
            self._offered += 1
            self._verbatim += message.verbatim
        return True

    @property
    def _messages(self) -> int:
        """How many are to be sent: all of them, or those due within the time given."""
        loops = self._config.loops
        return self._offered if self._over or not loops else self._play.per_pass * loops

    async def _watch(self, sender: Sender, watcher: Watcher, started: int) -> None:
        """Report progress, and set ``ending`` when messages wait but none has been acknowledged for too long."""
        loop = asyncio.get_running_loop()
        acked, since = -1, loop.time()
        last, noted = (0, loop.time()), -math.inf
        while True:
            now = loop.time()
            if sender.acked != acked or not sender.outstanding:
                acked, since = sender.acked, now
            elif now - since > self._config.patience_s:
                self._ending.set()
            rate = (sender.acked - last[0]) / max(now - last[1], 1e-9)
            last = sender.acked, now
            self._report(sender, watcher, rate)
            if now - noted >= self._moment_s:
                noted = now
                self._note(sender, (self._clock() - started) / NS)
            await asyncio.sleep(PROGRESS_S)

    def _behind(self, sender: Sender) -> float:
        return sender.lag.latest_ns / NS if self._paced else 0.0

    def _note(self, sender: Sender, at_s: float) -> None:
        """Note how far the run is; a long one less often."""
        worst = sender.lag.worst_ns / NS if self._paced else 0.0
        sender.lag.worst_ns = 0
        if len(self._timeline) == MOST_MOMENTS:
            self._moment_s *= 2
            pairs = zip(self._timeline[::2], self._timeline[1::2], strict=True)
            self._timeline = [two._replace(behind_s=max(one.behind_s, two.behind_s)) for one, two in pairs]
        self._timeline.append(Moment(round(at_s, 3), sender.sent, sender.acked, worst))

    def _report(self, sender: Sender, watcher: Watcher, rate: float) -> None:
        if self._progress is None:
            return
        self._progress(
            ReplayProgress(
                messages=self._messages,
                sent=sender.sent,
                acked=sender.acked,
                behind_s=self._behind(sender),
                connected=sender.connected,
                rate=rate,
                acked_ms=sender.answered.summary(),
                e2e_ms=watcher.delivered.summary(),
            )
        )

    def _result(self, sender: Sender, watcher: Watcher, elapsed_s: float, back: ReadBack | None) -> ReplayResult:
        recording = self._play.recording
        behind = sender.lag.summary()
        if not self._paced:
            behind = dict.fromkeys(behind, 0.0)
        answered, delivered = sender.answered.summary(), watcher.delivered.summary()
        rate = sender.acked / elapsed_s if elapsed_s > 0 else 0.0
        messages = self._messages
        lost = messages - sender.acked
        stored = None
        if back is not None:
            # What is no device's cannot be told from other traffic in the ledger, so it counts by acknowledgement.
            stored = min(messages, back.stored + max(0, messages - back.messages))
            lost = max(lost, messages - stored)
        counts = {
            "messages": messages,
            "sent": sender.sent,
            "acked": sender.acked,
            "lost": lost,
            "bad_rows": recording.bad.count,
            "resent": sender.resent,
            "refused": sender.refused,
            "reconnects": sender.reconnects,
            "oversize": sender.oversize,
            "undelivered": watcher.undelivered,
        }
        figures: dict[str, float] = {
            **counts,
            "stored": math.nan if stored is None else stored,
            "mismatches": math.nan if back is None else back.mismatches,
            "quarantined": math.nan if back is None else back.quarantined,
            "elapsed_s": elapsed_s,
            "rate": rate,
        }
        seen = (
            ("behind", behind, 1),
            ("acked", answered, sender.answered.count),
            ("e2e", delivered, watcher.delivered.count),
        )
        for name, summary, count in seen:
            figures |= {f"{name}_{tail}": value / 1e3 if count else math.nan for tail, value in summary.items()}
        return ReplayResult(
            **counts,
            stored=stored,
            read_back=back,
            bad_row_notes=tuple(recording.bad.notes),
            verbatim=self._verbatim,
            elapsed_s=round(elapsed_s, 3),
            rate=round(rate, 1),
            behind_ms=behind,
            acked_ms=answered,
            e2e_ms=delivered,
            watched=watcher.delivered.count + watcher.undelivered,
            shift_ns=self._shift,
            passes=self._passes,
            first_time=format_rfc3339(recording.first_ns + self._shift),
            last_time=format_rfc3339(recording.last_ns + self._shift),
            devices=self._devices(sender),
            timeline=tuple(self._timeline),
            thresholds=tuple(
                {"threshold": one.text, "value": figures[one.figure], "ok": one.holds(figures)}
                for one in self._config.conditions
            ),
        )

    def _devices(self, sender: Sender) -> dict[str, dict[str, float]]:
        ledger = devices_of(sender, self._play.names, self._play.boots)
        devices: dict[str, dict[str, float]] = {uid: dict(account) for uid, account in ledger.items()}
        for voice in self._play.recording.voices:
            if voice.key is not None:
                devices[voice.name] |= {"offset_x_m": voice.offset[0], "offset_y_m": voice.offset[1]}
        return devices


@contextlib.asynccontextmanager
async def _reading_back(config: ReplayConfig, play: Play, shift_ns: int) -> AsyncIterator[Callable[[], Any] | None]:
    """Yield what reads back in the end, after noting what is stored already of the series that will be sent."""
    if config.verify_url is None:
        yield None
        return
    expected = Expected()

    def prepare() -> None:
        for message in play.messages(shift_ns):
            expected.add(message.topic, message.payload)

    await asyncio.to_thread(prepare)
    with contextlib.closing(Reader(config.verify_url)) as reader:
        await reader.before(expected)
        yield lambda: reader.after(expected, config.patience_s)


async def _either(waiting: Any, ending: asyncio.Event) -> None:  # noqa: ANN401 - any coroutine
    """Wait for a coroutine or for the end, whichever is first."""
    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(ending.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
