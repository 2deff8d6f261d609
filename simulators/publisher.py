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
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, Self

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

FIRST_BACKOFF_S: Final = 0.1
LONGEST_BACKOFF_S: Final = 5.0
REFUSED_AGAIN_S: Final = 1.0
"""A message that the broker refuses is offered again after this time, s."""
COMPLAIN_EVERY: Final = 8


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to publish."""

    host: str = "127.0.0.1"
    """Name or address of the broker."""
    port: int = 1883
    """TCP port, 1 to 65535."""
    username: str | None = None
    """User name, or None for an anonymous connection."""
    password: str | None = field(default=None, repr=False)
    """Password of ``username``."""
    tls: bool = False
    """Whether to connect by TLS."""
    tls_ca: str | None = None
    """File with the certificates to trust, or None for the system's."""

    def __post_init__(self) -> None:
        """Check what can be checked without a connection."""
        if not self.host:
            raise ValueError("host = '': allowed is a name or an address")
        if not 1 <= self.port <= 65_535:  # noqa: PLR2004 - TCP
            raise ValueError(f"port = {self.port}: allowed is 1 to 65535")


class Listening(NamedTuple):
    """What a publisher subscribes to, by its first connection, and who is told of what comes."""

    filters: Sequence[str]
    heard: Callable[[str, bytes], object]
    """Called with topic and payload."""


DEAF: Final = Listening((), lambda _topic, _payload: None)


class Outgoing(Protocol):
    """What a publisher needs to know of a message."""

    @property
    def due_ns(self) -> int:
        """When it was to be sent, ns UTC."""

    @property
    def device(self) -> int:
        """Number of its device, from 0."""

    @property
    def seq(self) -> int:
        """Its sequence number within the device."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def payload(self) -> bytes:
        """Its bytes."""

    @property
    def retain(self) -> bool:
        """Whether the broker keeps it as the topic's state."""


@dataclass(slots=True)
class Account:
    """What the broker has acknowledged of one device; sequence numbers are -1 before the first acknowledgement."""

    sent: int = 0
    acked: int = 0
    first_seq: int = -1
    last_seq: int = -1


@dataclass(slots=True)
class Lag:
    """How late messages left: a histogram of (send − due) with bins that grow by a quarter from 0.1 ms."""

    count: int = 0
    latest_ns: int = 0
    largest_ns: int = 0
    bins: dict[int, int] = field(default_factory=dict)

    def add(self, lag_ns: int, times: int = 1) -> None:
        """Count a lag so many times; early is on time."""
        lag_ns = max(0, lag_ns)
        self.count += times
        self.latest_ns = lag_ns
        self.largest_ns = max(self.largest_ns, lag_ns)
        which = max(0, math.ceil(math.log(max(1.0, lag_ns / 1e5), 1.25)))
        self.bins[which] = self.bins.get(which, 0) + times

    def merge(self, other: "Lag") -> None:
        """Count everything that ``other`` has counted."""
        self.count += other.count
        self.largest_ns = max(self.largest_ns, other.largest_ns)
        for which, count in other.bins.items():
            self.bins[which] = self.bins.get(which, 0) + count

    def quantile_ms(self, share: float) -> float:
        """Return the upper edge of the bin that holds the ``share`` quantile, ms."""
        wanted, seen = share * self.count, 0
        for which in sorted(self.bins):
            seen += self.bins[which]
            if seen >= wanted:
                return round(min(0.1 * 1.25**which, self.largest_ns / 1e6), 3)
        return 0.0

    def summary(self) -> dict[str, float]:
        """Return median, tails and maximum, ms."""
        tails = {f"p{round(share * 100)}": self.quantile_ms(share) for share in (0.5, 0.95, 0.99)}
        return {**tails, "max": round(self.largest_ns / 1e6, 3)}


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
        self._connections = [
            _Connection(broker, f"{name}-{number}", DEAF if number else listening)
            for number in range(min(connections, max(1, devices)))
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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


class _Connection:
    """One MQTT connection that is made again whenever it is lost."""

    def __init__(self, broker: Broker, name: str, listening: Listening = DEAF) -> None:
        self.up = asyncio.Event()
        self.connects = 0
        self.refused = 0
        self._broker = broker
        self._listening = listening
        self._name = f"{name}-{secrets.token_hex(3)}"
        self._client: _Client | None = None
        self._scopes: set[asyncio.Timeout] = set()
        self._attempts = 0

    async def run(self) -> None:
        """Connect, stay connected, connect again with growing, jittered pauses; until cancelled."""
        while True:
            try:
                await self._connect_once()
            except (aiomqtt.MqttError, OSError) as error:
                if self._attempts % COMPLAIN_EVERY == 0:
                    log.warning("broker %s:%d: %s; trying again", self._broker.host, self._broker.port, error)
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
            tls_context=ssl.create_default_context(cafile=broker.tls_ca) if broker.tls else None,
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
            self.connects += 1
            self.up.set()
            # This only ends, with an error, when the connection is lost.
            async for message in client.messages:
                if isinstance(message.payload, bytes):
                    self._listening.heard(str(message.topic), message.payload)

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


class HasAccounts(Protocol):
    """A publisher, or whatever else keeps an account for each device."""

    accounts: list[Account]


def devices_of(publisher: HasAccounts, uids: Sequence[str], boots: Sequence[int]) -> dict[str, dict[str, int]]:
    """Return the ledger: uid → boot, messages sent and acknowledged, first and last sequence number acknowledged."""
    return {
        uid: {
            "boot": boot,
            "sent": account.sent,
            "acked": account.acked,
            "first_seq": account.first_seq,
            "last_seq": account.last_seq,
        }
        for uid, boot, account in zip(uids, boots, publisher.accounts, strict=True)
    }
