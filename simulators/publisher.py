"""Publishing without losing or reordering: a few MQTT connections, many devices, one message in flight per device.

A message stays with its device until the broker has acknowledged it (QoS 1), through lost connections and restarts of
the broker; only then comes the device's next. A message whose acknowledgement was lost with the connection is sent
again, so a broker may see it twice, never out of order and never not at all.
"""

import asyncio
import logging
import math
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Self

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import DisconnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from simulators.accounts import Account, Lag, Outgoing
from simulators.broker import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, REFUSED_AGAIN_S, Attempts, Broker
from simulators.ending import end

log = logging.getLogger(__name__)


class Listening(NamedTuple):
    """What a publisher subscribes to, by its first connection, and who is told of what comes."""

    filters: Sequence[str]
    heard: Callable[[str, bytes, bool], object]
    """Called with topic, payload, and whether the broker had kept the message."""


DEAF: Final = Listening((), lambda _topic, _payload, _retained: None)


class Publisher:
    """Sends the messages of many devices over a few connections; device d uses connection d modulo their number."""

    def __init__(
        self,
        broker: Broker,
        devices: int,
        connections: int,
        clock: Callable[[], int],
        name: str,
        listening: Listening = DEAF,
    ) -> None:
        """``clock`` returns ns UTC and is only used to measure lags; ``name`` begins the client identifiers."""
        self.accounts = [Account() for _ in range(devices)]
        self.lag = Lag()
        self.resent = 0
        """Sends of a message after the first, because its acknowledgement did not come."""
        self._clock = clock
        self._queues: list[asyncio.Queue[Outgoing]] = [asyncio.Queue() for _ in range(devices)]
        self._outstanding = 0
        self._room: list[tuple[int, asyncio.Future[None]]] = []
        number = min(connections, max(1, devices))
        self.attempts = Attempts(broker, number)
        self._connections = [
            _Connection(broker, f"{name}-{nth}", self.attempts, DEAF if nth else listening) for nth in range(number)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to connect; messages wait until there is a connection."""
        for connection in self._connections:
            self._tasks.append(asyncio.create_task(connection.run()))
        for device in range(len(self.accounts)):
            self._tasks.append(asyncio.create_task(self._send_all(device)))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect; what has not been acknowledged stays so in the accounts."""
        await end(self._tasks)

    @property
    def outstanding(self) -> int:
        """How many offered messages have not been acknowledged."""
        return self._outstanding

    @property
    def acked(self) -> int:
        """How many messages have been acknowledged."""
        return sum(account.acked for account in self.accounts)

    @property
    def sent(self) -> int:
        """How many messages have been sent at least once."""
        return sum(account.sent for account in self.accounts)

    @property
    def reconnects(self) -> int:
        """How often a connection was lost and made again."""
        return sum(max(0, connection.connects - 1) for connection in self._connections)

    @property
    def refused(self) -> int:
        """How often the broker answered a message with a failure; it is then offered again."""
        return sum(connection.refused for connection in self._connections)

    @property
    def connected(self) -> int:
        """How many connections stand."""
        return sum(connection.up.is_set() for connection in self._connections)

    def offer(self, message: Outgoing) -> None:
        """Take a message for sending; the caller bounds :attr:`outstanding` by :meth:`wait_below`."""
        self._outstanding += 1
        self._queues[message.device].put_nowait(message)

    async def wait_below(self, limit: int) -> None:
        """Wait until fewer than ``limit`` messages are outstanding."""
        while self._outstanding >= limit:
            room = asyncio.get_running_loop().create_future()
            self._room.append((limit, room))
            await room

    async def _send_all(self, device: int) -> None:
        queue, account = self._queues[device], self.accounts[device]
        connection = self._connections[device % len(self._connections)]
        while True:
            message = await queue.get()
            sends = await connection.publish(message, lambda m=message: self._leaving(m, account))  # type: ignore[misc]
            self.resent += sends - 1
            account.acked += 1
            account.last_seq = message.seq
            if account.first_seq < 0:
                account.first_seq = message.seq
            self._outstanding -= 1
            if self._room:
                self._make_room()

    def _make_room(self) -> None:
        for limit, room in self._room:
            if self._outstanding < limit and not room.done():
                room.set_result(None)
        self._room = [(limit, room) for limit, room in self._room if not room.done()]

    def _leaving(self, message: Outgoing, account: Account) -> None:
        account.sent += 1
        self.lag.add(self._clock() - message.due_ns)


class _Client(aiomqtt.Client):
    """aiomqtt takes a PUBACK that refuses the message for an acknowledgement; this client tells them apart."""

    on_refused: Callable[[str], None] | None = None

    def _on_publish(
        self, client: PahoClient, userdata: object, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        if reason_code.is_failure and self.on_refused is not None:
            self.on_refused(str(reason_code))
        else:
            super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: object,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        # Where connecting was given up, nobody waits to hear of it, and asking how it went would raise.
        if not self._connected.cancelled():
            super()._on_disconnect(client, userdata, flags, reason_code, properties)


class _Connection:
    """One MQTT connection that is made again whenever it is lost."""

    def __init__(self, broker: Broker, name: str, attempts: Attempts, listening: Listening = DEAF) -> None:
        self.up = asyncio.Event()
        self.connects = 0
        self.refused = 0
        self._broker = broker
        self._listening = listening
        self._name = f"{name}-{secrets.token_hex(3)}"
        self._client: _Client | None = None
        self._scopes: set[asyncio.Timeout] = set()
        self._attempts = 0
        self._told = attempts

    async def run(self) -> None:
        """Connect, stay connected, connect again with growing, jittered pauses; until cancelled."""
        while True:
            try:
                await self._connect_once()
            except (aiomqtt.MqttError, OSError) as error:
                self._told.failed(error)
            finally:
                self.up.clear()
                self._interrupt()
            pause = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._attempts, 10))
            self._attempts += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _connect_once(self) -> None:
        broker = self._broker
        # A will belongs to a connection and names one topic, but a connection here carries many devices: a will could
        # report one of them only. So a simulator that is killed leaves its devices "online", to be found out by their
        # silence, exactly as with a gateway that dies. Real devices have their own connection and their own will.
        #
        # A new client each time: a used one would send its own unacknowledged messages again, next to ours.
        client = _Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=self._name,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            keepalive=20,
            tls_context=broker.tls_context(),
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
        )
        client.pending_calls_threshold = 1_000_000  # every device of the connection may have one
        client.on_refused = self._refused
        async with client:
            for each in self._listening.filters:
                codes = await client.subscribe(each, qos=1)
                if any(code.is_failure for code in codes if isinstance(code, ReasonCode)):
                    log.error("broker %s:%d: may not subscribe to %s", broker.host, broker.port, each)
            self._client = client
            self._attempts = 0
            self._told.succeeded()
            self.connects += 1
            self.up.set()
            # This only ends, with an error, when the connection is lost.
            async for message in client.messages:
                if isinstance(message.payload, bytes):
                    self._listening.heard(str(message.topic), message.payload, message.retain)

    async def publish(self, message: Outgoing, leaving: Callable[[], None]) -> int:
        """Send until acknowledged; calls ``leaving`` just before the first send and returns how many were needed."""
        sends = 0
        while True:
            await self.up.wait()
            client = self._client
            if client is None:  # pragma: no cover - up is set after the client
                continue
            if not sends:
                leaving()
            sends += 1
            try:
                await self._in_scope(
                    client.publish(message.topic, message.payload, qos=1, retain=message.retain, timeout=math.inf)
                )
            except (aiomqtt.MqttError, TimeoutError):
                # The connection notices its own loss a moment later; until then there is no use in trying.
                await asyncio.sleep(0.05)
            else:
                return sends

    async def _in_scope(self, waiting: Awaitable[None]) -> None:
        async with asyncio.timeout(None) as scope:
            self._scopes.add(scope)
            try:
                await waiting
            finally:
                self._scopes.discard(scope)

    def _refused(self, reason: str) -> None:
        self.refused += 1
        log.error("broker %s:%d refuses a message: %s", self._broker.host, self._broker.port, reason)
        asyncio.get_running_loop().call_later(REFUSED_AGAIN_S, self._interrupt)

    def _interrupt(self) -> None:
        """End the wait for every acknowledgement that will not come, so that the messages are sent again."""
        now = asyncio.get_running_loop().time()
        for scope in tuple(self._scopes):
            scope.reschedule(now)


async def drain(publisher: Publisher, patience_s: float) -> bool:
    """Wait for all acknowledgements, ``patience_s`` at most; returns whether all came."""
    try:
        async with asyncio.timeout(patience_s):
            await publisher.wait_below(1)
    except TimeoutError:
        return False
    return True
