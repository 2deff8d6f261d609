"""The device client on asyncio, on aiomqtt."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

import aiomqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from devices.client.command_desk import CommandDesk, OnCommand
from devices.client.config import ClientConfig
from devices.client.outbox import Kept, Outbox
from devices.client.ring import Entry, RingError
from devices.scalars import Scalar

log = logging.getLogger(__name__)

BATCH: Final = 50
IDLE_S: Final = 0.2
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
GOODBYE_S: Final = 1.0


class AsyncClient(Kept):
    """Publishes for one device; use it as an asynchronous context manager.

    async with AsyncClient(ClientConfig(site=…, device_class=DeviceClass.VEHICLE, device="T-07", folder=…)) as truck:
        await truck.publish({"speed_mps": 4.2})
    """

    def __init__(
        self, config: ClientConfig, on_command: OnCommand | None = None, now: Callable[[], int] = time.time_ns
    ) -> None:
        """Open the ring. ``now`` gives ns UTC. Raises :class:`devices.client.RingError`."""
        self.config = config
        self.connects = 0
        """Connections made so far."""
        self._outbox = Outbox(config, now, time.monotonic)
        try:
            self._desk = CommandDesk(on_command, config.folder, now)
        except RingError:
            self._outbox.close()
            raise
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._closing = asyncio.Event()
        self._up = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to connect; messages wait in the ring until there is a connection."""
        self._task = asyncio.create_task(self._run(), name=f"device {self.config.device}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Say goodbye and close; what is not acknowledged stays in the ring for the next start."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        self._desk.close()
        self._outbox.close()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it stands."""
        return self._up

    async def publish(self, values: Mapping[str, float | bool], ts: int | None = None) -> int:
        """Publish values of one instant, metric → value in its unit; ``ts`` ns UTC, now if None.

        Returns the sequence number once the message rests in the ring. ValueError names what ingest would refuse.
        """
        return await self._kept(self._outbox.telemetry(values, ts))

    async def event(self, kind: str, data: Mapping[str, Scalar] | None = None, ts: int | None = None) -> int:
        """Publish something that happened once; as :meth:`publish`."""
        return await self._kept(self._outbox.event(kind, data or {}, ts))

    async def flush(self, timeout_s: float) -> bool:
        """Wait until ingest has acknowledged everything; False if time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.waiting:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            return not self.waiting
        return True

    async def _kept(self, seq: int) -> int:
        # The ring is written in some ten microseconds: handing that to a thread would cost more.
        self._wake.set()
        await asyncio.sleep(0)
        return seq

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._closing.is_set():
            try:
                async with self._client() as client:
                    self._up, pause = True, FIRST_PAUSE_S
                    self.connects += 1
                    await self._converse(client)
            except* (aiomqtt.MqttError, OSError, RingError) as failed:
                log.warning("broker %s:%d: %s", self.config.host, self.config.port, failed.exceptions[0])
            finally:
                self._up = False
            if not self._closing.is_set():
                await self._pause(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _client(self) -> aiomqtt.Client:
        config, outbox = self.config, self._outbox
        client = aiomqtt.Client(
            config.host,
            config.port,
            username=config.username,
            password=config.password,
            identifier=config.key.uid,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            keepalive=config.keep_alive_s,
            tls_context=config.tls_context(),
            will=aiomqtt.Will(outbox.status_topic, outbox.status(online=False), qos=1, retain=True),
        )
        client.pending_calls_threshold = BATCH + 10  # so many are meant to be under way
        return client

    async def _converse(self, client: aiomqtt.Client) -> None:
        """Send and listen until the connection is lost or the client is closed."""
        outbox = self._outbox
        outbox.connected()
        await client.subscribe(outbox.ack_topic, qos=1)
        commands = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        await client.subscribe(outbox.command_topic, options=commands)
        await client.publish(outbox.status_topic, outbox.status(online=True), qos=1, retain=True)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(client))
            await self._pump(client, listening)
            listening.cancel()
        # A will is published for who goes without a word only.
        goodbye = outbox.status(online=False)
        await client.publish(outbox.status_topic, goodbye, qos=1, retain=True, timeout=GOODBYE_S)

    async def _pump(self, client: aiomqtt.Client, listening: "asyncio.Task[None]") -> None:
        while not self._closing.is_set() and not listening.done():
            entries = self._outbox.take(BATCH)
            if entries:
                await asyncio.gather(*(self._send(client, entry) for entry in entries))
                continue
            self._wake.clear()
            await self._woken()

    async def _send(self, client: aiomqtt.Client, entry: Entry) -> None:
        await client.publish(entry.topic, entry.payload, qos=1, timeout=math.inf)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload
            if str(message.topic) == self._outbox.ack_topic:
                try:
                    self._outbox.acknowledge(payload)
                except (ValueError, RingError) as error:
                    log.warning("acknowledgement not used: %s", error)
                self._answered.set()
                self._wake.set()
                continue
            answer = self._desk.handle(payload, retained=message.retain)
            if answer is not None:
                await client.publish(self._outbox.answer_topic, answer, qos=1)
                # The wait for the broker's word may have lost the cancellation with which a close ends this.
                if self._closing.is_set():
                    return

    async def _woken(self) -> None:
        try:
            async with asyncio.timeout(IDLE_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
