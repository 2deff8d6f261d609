"""A subscriber that times how long messages take from when they were due until the broker delivers them.

It follows some topics only, so that watching does not cost what is being measured; at QoS 0, so that it never holds the
broker up. A delivery is recognised by topic and payload.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Self

import mqtt5

from simulators.accounts import Lag
from simulators.broker import Broker
from simulators.packets import CONNECT_S, PING_S, Packets

log = logging.getLogger(__name__)

SHARE: Final = 0.05
"""About this share of the messages is watched."""
MOST_TOPICS: Final = 200


def topics_to_watch(messages_of: Sequence[tuple[str, int]]) -> list[str]:
    """Return which topics to watch, given each with how many messages it will have; at least one.

    They are those in which marks lie that are spread evenly over all messages: a topic of few messages is seldom met.
    """
    total = sum(count for _, count in messages_of)
    marks = max(1, min(MOST_TOPICS, round(SHARE * len(messages_of))))
    chosen: list[str] = []
    watched = passed = 0
    for topic, count in messages_of:
        met = (passed + count) * marks // total > passed * marks // total
        passed += count
        if met and (not chosen or watched + count <= 2 * SHARE * total):
            chosen.append(topic)
            watched += count
    return chosen


class Watcher(Packets):
    """Subscribes to topics and times the messages on them."""

    def __init__(self, broker: Broker, topics: Sequence[str], clock: Callable[[], int]) -> None:
        """``clock`` returns ns UTC."""
        super().__init__(broker)
        self.topics = frozenset(topics)
        self.delivered = Lag()
        """From when a message was due until it was delivered."""
        self.up = False
        self._clock = clock
        self._waiting: dict[tuple[str, int], deque[int]] = {}
        self._ready: asyncio.Future[None] | None = None
        self._pinging: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect and subscribe; where that fails, nothing is watched, and it is said."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.dial(f"quayflow-watch-{secrets.token_hex(4)}")
                await self._ready
            self.up = True
            self._pinging = loop.create_task(self._ping())
        except (OSError, TimeoutError) as error:
            log.warning("deliveries cannot be timed: %s", str(error) or type(error).__name__)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.gather(self._pinging, return_exceptions=True)
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self.transport.write(mqtt5.DisconnectPacket().write())
            self.transport.close()

    def expect(self, topic: str, payload: bytes, due_ns: int) -> None:
        """Note a message that is about to be sent, if its topic is watched."""
        if self.up and topic in self.topics:
            self._waiting.setdefault((topic, hash(payload)), deque()).append(due_ns)

    @property
    def undelivered(self) -> int:
        """How many of the watched messages have not been seen."""
        return sum(map(len, self._waiting.values()))

    async def settle(self, patience_s: float = 2.0) -> None:
        """Wait a moment for what is still under way."""
        for _ in range(round(patience_s / 0.05)):
            if not self.up or not self._waiting:
                return
            await asyncio.sleep(0.05)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        self._fail(str(exc) if exc else "the broker closed the connection")

    def take(self, packet: mqtt5.Packet) -> None:
        """Time a message, or go on with the subscription."""
        if not isinstance(packet, mqtt5.PublishPacket):
            self._control(packet)
            return
        key = packet.topic, hash(packet.payload)
        dues = self._waiting.get(key)
        if dues is None:
            return
        self.delivered.add(self._clock() - dues.popleft())
        if not dues:
            del self._waiting[key]

    def _control(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                self._fail(f"the broker refuses the connection: {packet.reason_code.name}")
            elif self.transport is not None:
                filters = [mqtt5.TopicFilter(topic, max_qos=mqtt5.QoS.AT_MOST_ONCE) for topic in sorted(self.topics)]
                self.transport.write(mqtt5.SubscribePacket(1, filters).write())
        elif isinstance(packet, mqtt5.SubAckPacket) and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def _fail(self, why: str) -> None:
        self.up = False
        self._waiting.clear()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ConnectionError(why))

    async def _ping(self) -> None:
        while self.transport is not None:
            await asyncio.sleep(PING_S)
            self.transport.write(mqtt5.PingReqPacket().write())
