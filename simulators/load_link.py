"""A connection of a load run: packets made beforehand go out in bulk, acknowledgements are counted as they come."""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from typing import Final

import mqtt5

from devices.columns import Ints
from simulators.accounts import Lag
from simulators.broker import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, Broker
from simulators.packets import CONNECT_S, PING_S, TAKEN, Packets
from simulators.sender import IN_FLIGHT
from simulators.templates import Lane

log = logging.getLogger(__name__)

BUFFERED: Final = 256 << 10
"""Bytes waiting for the system from which on the connection takes nothing more."""


class Link(Packets):
    """One MQTT connection with the devices that use it."""

    def __init__(self, broker: Broker, name: str, lanes: list[Lane], qos: int) -> None:
        """``lanes`` are the devices of this connection, by form of message."""
        super().__init__(broker)
        self.sent = self.acked = self.refused = self.reconnects = self.bytes = 0
        self.answered = Lag()
        """From when messages were due until the broker acknowledged them; may be changed for another."""
        self._name = name
        self._lanes = lanes
        self._qos = qos
        self._window = IN_FLIGHT
        self._next_id = 1
        self._due: deque[tuple[int, int]] = deque()
        """How many messages under way were due when, ns UTC, in the order sent."""
        self.unanswered = 0
        """Messages sent and not acknowledged, on this connection."""
        self._room = True
        self._open = False
        self._answer: asyncio.Future[mqtt5.ConnAckPacket] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def open(self) -> None:
        """Connect, and keep connecting whenever the connection is lost. OSError where the first time fails."""
        await self._connect()
        self._keeper = asyncio.create_task(self._keep())

    def close(self) -> None:
        """Disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self.transport is not None:
            self.transport.write(mqtt5.DisconnectPacket().write())
            self.transport.close()

    @property
    def held_back(self) -> bool:
        """Whether it can take nothing more: no connection, no room in the system, or too much unacknowledged."""
        return not self._open or not self._room or self._window <= self.unanswered

    def send(self, due: Ints) -> int:
        """Send one message for each time in ``due`` (ns UTC), as far as there is room; return how many."""
        if self.held_back or self.transport is None:
            return 0
        count = min(len(due), self._window - self.unanswered) if self._qos else len(due)
        at, parts = 0, []
        for lane, share in self._shares(count):
            parts.append(lane.take(due[at : at + share], self._next_id))
            self._next_id = (self._next_id - 1 + share) % 65_535 + 1
            at += share
        data = b"".join(parts)
        self.transport.write(data)
        self.bytes += len(data)
        self.sent += count
        if self._qos:
            self._due.append((count, int(due[count // 2])))
            self.unanswered += count
        else:
            self.acked += count
        return count

    def _shares(self, count: int) -> list[tuple[Lane, int]]:
        """Divide messages over the lanes by their shares; what is left over is remembered."""
        shares = []
        left = count
        for nth, lane in enumerate(self._lanes):
            lane.owed += count * lane.share
            own = left if nth == len(self._lanes) - 1 else min(left, int(lane.owed))
            lane.owed -= own
            left -= own
            if own:
                shares.append((lane, own))
        return shares

    async def _connect(self) -> None:
        self._answer, self._room = asyncio.get_running_loop().create_future(), True
        self._lost.clear()
        async with asyncio.timeout(CONNECT_S):
            transport = await self.dial(self._name)
            answer = await self._answer
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            transport.close()
            raise ConnectionRefusedError(f"the broker refuses the connection: {answer.reason_code.name}")
        # Packet ids are given in turn, so a full window must stay within one round of them.
        self._window = min(IN_FLIGHT, answer.receive_max)
        transport.set_write_buffer_limits(BUFFERED)
        self._open = True

    async def _keep(self) -> None:
        pause = FIRST_BACKOFF_S
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), PING_S)
            if not self._lost.is_set():
                if self.transport is not None:
                    self.transport.write(mqtt5.PingReqPacket().write())
                continue
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            try:
                await self._connect()
            except (OSError, TimeoutError) as error:
                log.warning("broker %s:%d: %s; trying again", self.broker.host, self.broker.port, error)
                self._lost.set()
                pause = min(pause * 2, LONGEST_BACKOFF_S)
            else:
                self.reconnects += 1
                pause = FIRST_BACKOFF_S

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was under way: whether the broker had it is not known, so it counts as lost."""
        self.transport, self._open = None, False
        self._due.clear()
        self.unanswered = 0
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(exc) if exc else "the broker closed the connection"))
        self._lost.set()

    def pause_writing(self) -> None:
        """Hold back: the broker takes no more for now."""
        self._room = False

    def resume_writing(self) -> None:
        """Go on."""
        self._room = True

    def data_received(self, data: bytes) -> None:
        """Count the acknowledgements that have arrived whole, many at once."""
        self.packets.feed(data)
        if count := self.packets.take_acks():
            self.acked += count
            self._note(count)
        super().data_received(b"")

    def take(self, packet: mqtt5.Packet) -> None:
        """Take what is no plain acknowledgement."""
        if isinstance(packet, mqtt5.PubAckPacket):
            self.refused += packet.reason_code not in TAKEN
            self.acked += packet.reason_code in TAKEN
            self._note(1)
        elif isinstance(packet, mqtt5.ConnAckPacket) and self._answer is not None and not self._answer.done():
            self._answer.set_result(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            log.warning("the broker disconnects: %s", packet.reason_code.name)

    def _note(self, count: int) -> None:
        """Book acknowledgements to the oldest messages under way: a broker answers in order."""
        now = time.time_ns()
        self.unanswered -= count
        while count and self._due:
            waiting, due = self._due.popleft()
            done = min(waiting, count)
            self.answered.add(now - due, done)
            if waiting > done:
                self._due.appendleft((waiting - done, due))
            count -= done
