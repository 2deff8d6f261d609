"""Sending many messages over a few MQTT connections, each when it is due, until the broker has acknowledged it.

    offered ─► queue of its connection ─► in flight (bounded by the broker's Receive Maximum) ─► acknowledged
                    ▲                          │ connection lost, message refused
                    └──────────────────────────┘

Whatever is due leaves in one write per connection and turn of the event loop; a message costs a few microseconds.
Messages of a device use one connection and leave in the order offered. What a lost connection had in flight is sent
again first. Only a message that the broker refuses may be overtaken by those behind it.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final, Self

import mqtt5

from simulators.accounts import Account, Lag, Outgoing
from simulators.broker import (
    FIRST_BACKOFF_S,
    LONGEST_BACKOFF_S,
    REFUSED_AGAIN_S,
    Attempts,
    Broker,
    NotLetInError,
)
from simulators.ending import end
from simulators.packets import CONNECT_S, PING_S, TAKEN, Packets

log = logging.getLogger(__name__)

IN_FLIGHT: Final = 2_000
"""Most unacknowledged messages of a connection, where the broker allows so many."""
WRITE_BYTES: Final = 256 << 10
"""A write is cut after about so many bytes."""
MAX_ID: Final = 65_535


class Sender:
    """Sends the messages of many devices; device d uses connection d modulo their number."""

    def __init__(
        self,
        broker: Broker,
        devices: int,
        connections: int,
        clock: Callable[[], int],
        name: str,
        *,
        qos: int = 1,
    ) -> None:
        """``clock`` returns ns UTC, for measuring only; ``name`` begins the client identifiers; ``qos`` is 0 or 1.

        At QoS 0 a message counts as acknowledged when it is handed to the system: nobody says more.
        """
        self.accounts = [Account() for _ in range(devices)]
        self.lag = Lag()
        """How late messages left."""
        self.answered = Lag()
        """From when a message was due until the broker acknowledged it."""
        self.sent = self.acked = self.resent = self.refused = self.oversize = self.outstanding = 0
        self.clock = clock
        self.qos = qos
        self._room: list[tuple[int, asyncio.Future[None]]] = []
        self._complete = asyncio.Event()
        number = min(connections, max(1, devices))
        self.attempts = Attempts(broker, number)
        self._links = [_Link(self, broker, f"{name}-{nth}") for nth in range(number)]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to connect; messages wait until there is a connection."""
        self._tasks = [asyncio.create_task(link.run()) for link in self._links]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect; what has not been acknowledged stays so in the accounts."""
        await end(self._tasks)

    @property
    def reconnects(self) -> int:
        """How often a connection was lost and made again."""
        return sum(max(0, link.connects - 1) for link in self._links)

    @property
    def connected(self) -> int:
        """How many connections stand."""
        return sum(link.up for link in self._links)

    async def wait_connected(self, patience_s: float) -> None:
        """Wait until every connection has stood together, ``patience_s`` at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._complete.wait(), patience_s)

    def note_connected(self) -> None:
        """Note that one more connection stands."""
        if self.connected == len(self._links):
            self._complete.set()

    def offer(self, message: Outgoing) -> None:
        """Take a message for sending; the caller bounds :attr:`outstanding` by :meth:`wait_below`."""
        self.outstanding += 1
        link = self._links[message.device % len(self._links)]
        link.queue.append(message)
        link.soon()

    async def wait_below(self, limit: int) -> None:
        """Wait until fewer than ``limit`` messages are outstanding."""
        while self.outstanding >= limit:
            room = asyncio.get_running_loop().create_future()
            self._room.append((limit, room))
            await room

    def settle(self, message: Outgoing) -> None:
        """Book an acknowledgement."""
        account = self.accounts[message.device]
        account.acked += 1
        account.last_seq = message.seq
        if account.first_seq < 0:
            account.first_seq = message.seq
        self.acked += 1
        self.forgo()

    def forgo(self) -> None:
        """Book that a message is no longer waited for."""
        self.outstanding -= 1
        if self._room:
            for limit, room in self._room:
                if self.outstanding < limit and not room.done():
                    room.set_result(None)
            self._room = [(limit, room) for limit, room in self._room if not room.done()]


class _Link(Packets):
    """One MQTT connection that is made again whenever it is lost."""

    def __init__(self, sender: Sender, broker: Broker, name: str) -> None:
        super().__init__(broker)
        self.queue: deque[Outgoing] = deque()
        self.up = False
        self.connects = 0
        self._sender = sender
        self._name = f"{name}-{secrets.token_hex(3)}"
        self._in_flight: dict[int, Outgoing] = {}
        self._again = 0
        """So many messages at the head of the queue have been sent before."""
        self._window = IN_FLIGHT
        self._largest: int | None = None
        self._next_id = 0
        self._room = True
        self._scheduled = False
        self._attempts = 0
        self._answer: asyncio.Future[mqtt5.ConnAckPacket] | None = None
        self._lost: asyncio.Future[str] | None = None

    async def run(self) -> None:
        """Connect, stay connected, connect again with growing, jittered pauses; until cancelled."""
        while True:
            try:
                await self._connect_once()
            except (OSError, TimeoutError) as error:
                self._sender.attempts.failed(error)
            finally:
                self._fall_back()
            pause = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._attempts, 10))
            self._attempts += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _connect_once(self) -> None:
        """Hold a connection until it is lost; raises OSError or TimeoutError with the reason."""
        loop = asyncio.get_running_loop()
        self._answer, self._lost, self._room = loop.create_future(), loop.create_future(), True
        async with asyncio.timeout(CONNECT_S):
            await self.dial(self._name)
            await asyncio.wait((self._answer, self._lost), return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            raise ConnectionError(self._lost.result())
        answer = self._answer.result()
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise NotLetInError(answer.reason_code.value, f"{answer.reason_code.name} {answer.reason_str or ''}")
        self._window = min(IN_FLIGHT, answer.receive_max)
        self._largest = answer.max_packet_size
        self._attempts = 0
        self._sender.attempts.succeeded()
        self.connects += 1
        self.up = True
        self._sender.note_connected()
        self.pump()
        while not self._lost.done():
            await asyncio.wait((self._lost,), timeout=PING_S)
            if not self._lost.done():
                self._write(mqtt5.PingReqPacket().write())
        raise ConnectionError(self._lost.result())

    def _fall_back(self) -> None:
        """Take back what was in flight, to be sent again first, in its order."""
        self.up = False
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self._write(mqtt5.DisconnectPacket().write())
            self.transport.close()
            self.transport = None
        self.queue.extendleft(reversed(self._in_flight.values()))
        self._again += len(self._in_flight)
        self._in_flight.clear()

    def soon(self) -> None:
        """Send at the end of this turn of the event loop."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Send what may be sent now."""
        self._scheduled = False
        if not self.up or not self._room or not self.queue:
            return
        sender, queue, in_flight = self._sender, self.queue, self._in_flight
        now, parts, size = sender.clock(), [], 0
        while queue and len(in_flight) < self._window and size < WRITE_BYTES:
            message = queue.popleft()
            again, packet = self._again > 0, self._packet(message)
            self._again -= again
            if self._largest is not None and len(packet) > self._largest:
                log.error("%s: %d bytes are more than the broker takes: never sent", message.topic, len(packet))
                in_flight.pop(self._next_id, None)
                sender.oversize += 1
                sender.forgo()
                continue
            if again:
                sender.resent += 1
            else:
                sender.sent += 1
                sender.accounts[message.device].sent += 1
                sender.lag.add(now - message.due_ns)
            parts.append(packet)
            size += len(packet)
            if not sender.qos:
                sender.settle(message)
        self._write(b"".join(parts))
        if queue and len(in_flight) < self._window:
            self.soon()

    def _packet(self, message: Outgoing) -> bytes:
        if not self._sender.qos:
            return mqtt5.PublishPacket(message.topic, message.payload, retain=message.retain).write()
        number = self._next_id
        while True:
            number = number % MAX_ID + 1
            if number not in self._in_flight:
                break
        self._next_id = number
        self._in_flight[number] = message
        return mqtt5.PublishPacket(
            message.topic, message.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=message.retain, packet_id=number
        ).write()

    def _write(self, data: bytes) -> None:
        if self.transport is not None and data:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived whole, then send what there is room for."""
        super().data_received(data)
        if self.queue:
            self.pump()

    def take(self, packet: mqtt5.Packet) -> None:
        """Book an acknowledgement, note an answer."""
        if isinstance(packet, mqtt5.PubAckPacket):
            message = self._in_flight.pop(packet.packet_id, None)
            if message is None:
                return
            if packet.reason_code not in TAKEN:
                self._refused(message, packet)
                return
            sender = self._sender
            sender.answered.add(sender.clock() - message.due_ns)
            sender.settle(message)
        elif isinstance(packet, mqtt5.ConnAckPacket) and self._answer is not None and not self._answer.done():
            self._answer.set_result(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            log.warning("broker %s:%d disconnects: %s", self.broker.host, self.broker.port, packet.reason_code.name)

    def _refused(self, message: Outgoing, packet: mqtt5.PubAckPacket) -> None:
        """Offer a refused message again a little later."""
        self._sender.refused += 1
        log.error("broker %s:%d refuses a message: %s", self.broker.host, self.broker.port, packet.reason_code.name)

        def offer_again() -> None:
            self.queue.appendleft(message)
            self._again += 1
            self.soon()

        asyncio.get_running_loop().call_later(REFUSED_AGAIN_S, offer_again)

    def pause_writing(self) -> None:
        """Hold back: the system takes no more for now."""
        self._room = False

    def resume_writing(self) -> None:
        """Go on."""
        self._room = True
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        self.up = False
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(str(exc) if exc else "the broker closed the connection")
