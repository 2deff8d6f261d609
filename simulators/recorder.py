"""Recording: whatever an MQTT broker delivers, in journal segments that a replay reads.

Messages are acknowledged when they are on the disk, and the broker keeps the session while the connection is lost: with
QoS 1 publishers nothing is missing in a recording.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import mqtt5

from devices.filters import fault_of
from simulators.broker import COMPLAIN_EVERY, FIRST_BACKOFF_S, LONGEST_BACKOFF_S, Broker, BrokerRefusesError
from simulators.ending import end
from simulators.packets import CONNECT_S, PING_S, Packets
from simulators.recording import begun
from simulators.schedule import stopped_by_signal
from simulators.tracks import RecordingError
from store.journal import Compressor, JournalWriter, encode, list_segments

log = logging.getLogger(__name__)

TURN_S: Final = 0.005
"""Messages are written in batches of what has come in so long, s."""
PROGRESS_S: Final = 0.2
RECEIVE_MAX: Final = 2_000
SESSION_S: Final = 600
FILLED_BYTES: Final = 16 << 20
"""Reading stops while so many bytes have not been written."""
REFUSED: Final = (
    mqtt5.SubAckReasonCode.UNSPECIFIED_ERROR,
    mqtt5.SubAckReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
    mqtt5.SubAckReasonCode.NOT_AUTHORIZED,
    mqtt5.SubAckReasonCode.TOPIC_FILTER_INVALID,
    mqtt5.SubAckReasonCode.QUOTA_EXCEEDED,
    mqtt5.SubAckReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    mqtt5.SubAckReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
)


@dataclass(frozen=True, slots=True)
class RecordConfig:
    """What to record, from where and where to."""

    out: Path
    """Folder for the segments; a recording that is there already is continued."""
    broker: Broker = field(default_factory=Broker)
    """Where to listen."""
    topics: tuple[str, ...] = ("port/#",)
    """Topic filters to subscribe to, at least one."""
    duration_s: float | None = None
    """Stop after this, s > 0, or None to record until told to stop."""
    limit: int | None = None
    """Stop after so many messages, ≥ 1, or None."""

    def __post_init__(self) -> None:
        """Check every value."""
        if not self.topics:
            raise ValueError("topics = (): allowed is at least one topic filter")
        for pattern in self.topics:
            if fault := fault_of(pattern):
                raise ValueError(f"topics = {fault}")
        if self.duration_s is not None and not self.duration_s > 0:
            raise ValueError(f"duration_s = {self.duration_s}: allowed is above 0")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit = {self.limit}: allowed is 1 or more")
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out = {str(self.out)!r}: allowed is a folder")


@dataclass(slots=True)
class Recorded:
    """How much has been recorded."""

    messages: int = 0
    bytes: int = 0
    """Topics and payloads."""
    topics: int = 0
    retained: int = 0
    """Messages among them that are the state of their topic, be it from before."""
    resent: int = 0
    """Messages that the broker marked as sent before: they may be in the recording twice."""
    connects: int = 0
    session_losses: int = 0
    """How often the broker had forgotten what it held for the recording: messages may be missing."""
    seconds: float = 0.0
    segments: int = 0
    disk_bytes: int = 0
    """What the recording takes up."""

    def as_dict(self) -> dict[str, Any]:
        """Return the account as plain values, ready for JSON."""
        return asdict(self)


async def run(
    config: RecordConfig,
    progress: Callable[[Recorded], None] | None = None,
    clock: Callable[[], int] = time.time_ns,
    stop: asyncio.Event | None = None,
) -> Recorded:
    """Record until the time is over, the limit is reached or ``stop`` is set (without it: SIGTERM or SIGINT).

    Raises:
        simulators.tracks.RecordingError: the folder holds something else, or the broker refuses a topic filter.
        store.journal.JournalError: the disk takes no more.
    """
    if config.out.exists() and any(config.out.iterdir()) and not any(config.out.glob("*.qfj")):
        raise RecordingError(f"{config.out}: holds something else than a recording; choose a new folder")
    with (
        stopped_by_signal(stop) as ending,
        contextlib.closing(begun(config.out, clock)) as journal,
    ):
        recorder = _Recorder(config, journal, clock)
        done = await recorder.run(ending, progress)
    await asyncio.to_thread(Compressor(config.out, threading.Lock()).work)
    segments = list_segments(config.out)
    done.segments = len(segments)
    done.disk_bytes = sum(segment.path.stat().st_size for segment in segments)
    return done


class _Recorder(Packets):
    """A connection that is made again whenever it is lost, and the writing of what comes over it."""

    def __init__(self, config: RecordConfig, journal: JournalWriter, clock: Callable[[], int]) -> None:
        super().__init__(config.broker)
        self._config = config
        self._journal = journal
        self._clock = clock
        self._done = Recorded()
        self._topics: set[str] = set()
        self._name = f"quayflow-record-{secrets.token_hex(4)}"
        self._waiting: list[tuple[int, mqtt5.PublishPacket]] = []
        self._waiting_bytes = 0
        self._lost = asyncio.Event()
        self._fault = ""
        self._where = f"broker {config.broker.host}:{config.broker.port}"

    async def run(self, ending: asyncio.Event, progress: Callable[[Recorded], None] | None) -> Recorded:
        """Record until the end."""
        began, shown = time.monotonic(), 0.0
        connection = asyncio.create_task(self._stay_connected())
        try:
            while not ending.is_set() and not self._is_over(time.monotonic() - began):
                if self._fault:
                    raise BrokerRefusesError(self._fault)
                await self._write_waiting()
                self._done.seconds = round(time.monotonic() - began, 3)
                if progress is not None and time.monotonic() - shown >= PROGRESS_S:
                    shown = time.monotonic()
                    progress(self._done)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), TURN_S)
            await self._write_waiting()
        finally:
            await end([connection])
        if progress is not None:
            progress(self._done)
        return self._done

    def _is_over(self, elapsed_s: float) -> bool:
        config = self._config
        over = config.duration_s is not None and elapsed_s >= config.duration_s
        return over or (config.limit is not None and self._done.messages >= config.limit)

    async def _write_waiting(self) -> None:
        """Write what has come, make it durable, then acknowledge it."""
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._config.limit is not None:
            batch = batch[: self._config.limit - self._done.messages]
        if not batch:
            return
        frames = ((packet.topic, packet.payload, _flags(packet)) for _, packet in batch)
        blob = encode(self._journal.begin(), self._clock(), batch[0][0], frames).blob
        transport = self.transport
        await asyncio.to_thread(self._journal.append, blob, len(batch))
        done = self._done
        done.messages += len(batch)
        done.bytes += sum(len(packet.topic.encode()) + len(packet.payload) for _, packet in batch)
        done.retained += sum(packet.retain for _, packet in batch)
        done.resent += sum(packet.duplicate for _, packet in batch)
        self._topics.update(packet.topic for _, packet in batch)
        done.topics = len(self._topics)
        if transport is not None and transport is self.transport:
            # Packet ids mean something on their own connection only.
            current = [packet for epoch, packet in batch if epoch == done.connects and packet.packet_id is not None]
            transport.write(b"".join(mqtt5.PubAckPacket(packet.packet_id or 0).write() for packet in current))
            transport.resume_reading()

    async def _stay_connected(self) -> None:
        attempts = 0
        try:
            while True:
                connects = self._done.connects
                try:
                    await self._connect_once()
                except (OSError, TimeoutError) as error:
                    if attempts % COMPLAIN_EVERY == 0 and not self._fault:
                        broker = self._config.broker
                        log.warning("broker %s:%d: %s; trying again", broker.host, broker.port, error)
                attempts = 0 if self._done.connects > connects else attempts + 1
                pause = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempts, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        finally:
            if self.transport is not None:
                # With no session left behind: the broker would go on filling it.
                self.transport.write(mqtt5.DisconnectPacket(session_expiry_interval=0).write())
                self.transport.close()

    async def _connect_once(self) -> None:
        """Hold a connection until it is lost."""
        self._lost.clear()
        async with asyncio.timeout(CONNECT_S):
            # The name is new, so there is nothing to clean, and Mosquitto saves no session that was begun clean.
            transport = await self.dial(
                self._name, clean_start=False, session_expiry_interval=SESSION_S, receive_max=RECEIVE_MAX
            )
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), PING_S)
            if not self._lost.is_set():
                transport.write(mqtt5.PingReqPacket().write())
        raise ConnectionError("the connection is lost")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        del exc
        self.transport = None
        self._lost.set()

    def take(self, packet: mqtt5.Packet) -> None:
        """Keep a message until it is written."""
        if not isinstance(packet, mqtt5.PublishPacket):
            self._control(packet)
            return
        self._waiting.append((self._done.connects, packet))
        self._waiting_bytes += len(packet.topic) + len(packet.payload)
        if self._waiting_bytes > FILLED_BYTES and self.transport is not None:
            self.transport.pause_reading()

    def _control(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                self._fault = f"{self._where} refuses the connection: {_reason(packet)}"
            elif self.transport is not None:
                if self._done.connects and not packet.session_present:
                    self._done.session_losses += 1
                    log.error("the broker has lost our session: what it held for the recording is gone")
                self._done.connects += 1
                filters = [
                    mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for pattern in self._config.topics
                ]
                self.transport.write(mqtt5.SubscribePacket(1, filters).write())
        elif isinstance(packet, mqtt5.SubAckPacket):
            refused = [
                f"{pattern}: {code.name}"
                for pattern, code in zip(self._config.topics, packet.reason_codes, strict=False)
                if code in REFUSED
            ]
            if refused:
                self._fault = f"{self._where} refuses to deliver {', '.join(refused)}"


def _reason(packet: mqtt5.ConnAckPacket) -> str:
    return f"{packet.reason_code.name} {packet.reason_str or ''}".strip()


def _flags(packet: mqtt5.PublishPacket) -> int:
    return (packet.packet_id is not None) | packet.duplicate << 2 | packet.retain << 3
