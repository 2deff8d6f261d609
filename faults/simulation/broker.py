"""A broker that keeps a session and delivers at least once: again after every lost connection, in the order it had.

Between devices it delivers in any order; packet ids are few and soon come again, as in real brokers, so that an
acknowledgement meant for another connection hits somebody else's message.
"""

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from ingest.intake import Marks, SessionError
from ingest.packets import Message
from ingest.session import SessionConfig
from store.journal import DUPLICATE

PACKET_IDS: Final = 48
POLL_S: Final = 0.05
QOS_1: Final = 1


class Publication(NamedTuple):
    """A message of a device; no two have the same payload."""

    device: str
    topic: str
    payload: bytes
    seq: int
    """Its sequence number, -1 for a device that has none."""
    boot: int


class Broker:
    """One broker with one subscriber."""

    def __init__(self, dice: random.Random) -> None:
        """Begin without any session."""
        self._dice = dice
        self._waiting: dict[str, deque[Publication]] = {}
        self._under_way: OrderedDict[int, Publication] = OrderedDict()
        self._next_id = 0
        self._connection: Connection | None = None
        self._session = False
        self.up = True
        self.acknowledged: set[bytes] = set()
        """Payloads that ingest has acknowledged."""
        self.lost: set[bytes] = set()
        """Payloads that the broker had taken and forgot, or took for nobody."""
        self.violations: list[str] = []
        self.connections = 0

    @property
    def idle(self) -> bool:
        """Whether everything is acknowledged."""
        return not self._under_way and not any(self._waiting.values())

    @property
    def subscribed(self) -> bool:
        """Whether it keeps messages for somebody."""
        return self._session

    def publish(self, publication: Publication) -> None:
        """Take a message of a device."""
        if self._session:
            self._waiting.setdefault(publication.device, deque()).append(publication)
        elif publication.payload not in self.acknowledged:
            self.lost.add(publication.payload)

    async def connect(self, config: SessionConfig, marks: Marks) -> "Connection":
        """Open a connection; SessionError while the broker is down."""
        del config, marks
        await asyncio.sleep(self._dice.uniform(0.001, 0.02))
        if not self.up:
            raise SessionError("nobody listens")
        self.cut()
        self._connection = Connection(self, self._dice, session_present=self._session)
        self._session = True
        self.connections += 1
        return self._connection

    def cut(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.broken = True
            self._connection = None

    def forget(self) -> None:
        """Lose the session and everything that it held."""
        self.cut()
        held = [*self._under_way.values(), *(each for queue in self._waiting.values() for each in queue)]
        self.lost |= {each.payload for each in held} - self.acknowledged
        self._under_way.clear()
        self._waiting.clear()
        self._next_id = 0
        self._session = False

    def again(self) -> list[Message]:
        """Return what was delivered on earlier connections and is not acknowledged, in its order."""
        flags = QOS_1 | DUPLICATE
        return [Message(each.topic, each.payload, flags, number) for number, each in self._under_way.items()]

    def more(self, most: int) -> list[Message]:
        """Deliver up to ``most`` messages more: each device's in their order, the devices' in any."""
        messages: list[Message] = []
        while len(messages) < most and len(self._under_way) < PACKET_IDS:
            speaking = sorted(device for device, queue in self._waiting.items() if queue)
            if not speaking:
                break
            publication = self._waiting[self._dice.choice(speaking)].popleft()
            number = self._free_id()
            self._under_way[number] = publication
            messages.append(Message(publication.topic, publication.payload, QOS_1, number))
        return messages

    def take(self, number: int) -> None:
        """Take an acknowledgement."""
        publication = self._under_way.pop(number, None)
        if publication is None:
            self.violations.append(f"packet {number} was acknowledged and is not under way")
        else:
            self.acknowledged.add(publication.payload)

    def _free_id(self) -> int:
        while True:
            self._next_id = self._next_id % PACKET_IDS + 1
            if self._next_id not in self._under_way:
                return self._next_id


class Connection:
    """The broker's side of :class:`ingest.edges.Connection`."""

    def __init__(self, broker: Broker, dice: random.Random, *, session_present: bool) -> None:
        """Deliver again what is under way, then go on."""
        self._broker = broker
        self._dice = dice
        self._loop = asyncio.get_running_loop()
        self._again = broker.again()
        self._expected: deque[int] = deque()
        self._arrived = 0.0
        """When the last acknowledgement arrives."""
        self._mute = False
        self.silent_s = 0.0
        self.session_present = session_present
        self.broken = False

    async def read(self, until: asyncio.Event) -> list[Message]:
        """Return what the broker delivers; SessionError once the connection is cut."""
        await asyncio.sleep(self._dice.uniform(0.002, 0.02))
        while True:
            if self.broken:
                raise SessionError("the broker is gone")
            most = self._dice.randint(1, 30)
            messages, self._again = self._again[:most], self._again[most:]
            messages = messages or self._broker.more(most)
            if messages or until.is_set():
                self._expected += [message.packet_id for message in messages if message.packet_id is not None]
                return messages
            await asyncio.sleep(POLL_S)

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Send acknowledgements; they arrive a moment later, or not at all."""
        numbers = [message.packet_id for message in messages if message.packet_id is not None]
        if self.broken and self._dice.random() < 0.5:  # noqa: PLR2004 - or the kernel takes them for nobody
            raise SessionError("the broker is gone")
        # A connection that breaks in between delivers some of them.
        arriving = numbers if self._dice.random() < 0.9 else numbers[: self._dice.randint(0, len(numbers))]  # noqa: PLR2004 - mostly
        if not self._mute:
            # A connection keeps the order of what is sent over it.
            self._arrived = max(self._arrived + 1e-6, self._loop.time() + self._dice.uniform(0, 0.003))
            self._loop.call_at(self._arrived, self._arrive, arriving)
        if len(arriving) < len(numbers):
            # It breaks here: nothing of what is sent later arrives either.
            self._loop.call_later(0.004, self._broker.cut)
            self._mute = True

    async def close(self) -> None:
        """End in order: what was sent arrives."""
        await asyncio.sleep(0.005)
        self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        self.broken = True

    def _arrive(self, numbers: list[int]) -> None:
        for number in [] if self.broken else numbers:
            expected = self._expected.popleft() if self._expected else None
            if number != expected:
                self._broker.violations.append(f"packet {number} was acknowledged where {expected} was next")
            self._broker.take(number)
