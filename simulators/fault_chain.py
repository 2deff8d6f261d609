"""Faults at work, composed around any stream of messages; pure and seeded.

    messages ─► device faults (clock, reboot, stuck, drift) ─► way faults (silent, late, …, corrupt) ─► deliveries

A :class:`Chain` puts declared faults one behind the other; each draws from its own stream of random numbers, so that
adding one does not change what another does. Device faults rewrite native payloads and leave others as they are, which
is counted.
"""

import heapq
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import numpy as np

from devices.codecs.native import (
    BLOCK_MARK,
    Block,
    Payload,
    Telemetry,
    decode_block,
    decode_event,
    decode_status,
    decode_telemetry,
    encode,
)
from devices.rejects import RejectError
from devices.topics import Stream, TopicError, parse
from simulators.faults import (
    AnyFault,
    Backfill,
    Clock,
    Corrupt,
    Delay,
    Drift,
    Duplicate,
    Fault,
    Late,
    Lost,
    Reboot,
    Silent,
    Stuck,
)
from simulators.messages import Message

NS: Final = 1_000_000_000
FLIPPED: Final = (1, 8)
"""Fewest and most bits of a corrupt payload that are wrong."""


class Delivery(NamedTuple):
    """A message on its way: when it arrives (ns UTC), and whether it is a repetition."""

    arrival_ns: int
    message: Message
    repeated: bool = False


class Chain:
    """Declared faults one behind the other, and what is still under way."""

    def __init__(self, faults: Sequence[AnyFault], seed: int, start_ns: int) -> None:
        """``start_ns``: the moment from which the faults count, ns UTC."""
        self.counts: Counter[str] = Counter()
        """How often each kind of fault struck, and ``unchanged`` where a payload could not be rewritten."""
        order = {kind: place for place, kind in enumerate(_STAGES)}
        # What a device does comes before what happens on its way, whatever the order in which faults are declared.
        ordered = sorted(faults, key=lambda fault: order[type(fault)])
        self._stages = [
            _STAGES[type(fault)](fault, random.Random(f"{seed}/{nth}"), start_ns, self.counts)
            for nth, fault in enumerate(ordered)
        ]
        self._under_way: list[tuple[int, int, Delivery]] = []
        self._count = 0

    def send(self, messages: Iterable[Message]) -> None:
        """Take messages in the order in which they are sent."""
        for message in messages:
            self._pass(Delivery(message.due_ns, message), 0)

    def arrived(self, before_ns: int) -> Iterator[Delivery]:
        """Remove and yield what has arrived before ``before_ns``, in the order of arrival."""
        while self._under_way and self._under_way[0][0] < before_ns:
            yield heapq.heappop(self._under_way)[2]

    def __len__(self) -> int:
        """Return how many messages are under way."""
        return len(self._under_way)

    def _pass(self, delivery: Delivery, stage: int) -> None:
        if stage == len(self._stages):
            self._count += 1
            heapq.heappush(self._under_way, (delivery.arrival_ns, self._count, delivery))
            return
        for result in self._stages[stage].take(delivery):
            self._pass(result, stage + 1)


class _Stage(ABC):
    """One fault at work: whom it concerns, its dice, and what becomes of a delivery."""

    def __init__(self, fault: Any, dice: random.Random, start_ns: int, counts: Counter[str]) -> None:  # noqa: ANN401 - each stage has its own fault
        self._fault = fault
        self._dice = dice
        self._begin: int = start_ns + round(fault.from_s * NS)
        self._end: int = start_ns + round((fault.from_s + fault.lasts_s) * NS)
        self._counts = counts
        self._concerned: dict[int, bool] = {}

    @abstractmethod
    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        """Yield what becomes of a delivery."""

    def _concerns(self, message: Message) -> bool:
        """Whether the fault is for this device, at any time."""
        known = self._concerned.get(message.device)
        if known is None:
            known = fnmatchcase(_device_of(message.topic), self._fault.devices)
            self._concerned[message.device] = known
        return known

    def _holds(self, message: Message) -> bool:
        return self._begin <= message.due_ns < self._end and self._concerns(message)

    def _strikes(self, message: Message) -> bool:
        """Roll the dice for a fault that strikes a share of the messages."""
        return self._holds(message) and self._dice.random() < self._fault.share

    def _count(self) -> None:
        self._counts[type(self._fault).__struct_config__.tag] += 1

    def _delay_ns(self, span_s: Delay) -> int:
        return round(self._dice.uniform(*span_s) * NS)


class _LateStage(_Stage):
    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        if self._strikes(delivery.message):
            self._count()
            delivery = delivery._replace(arrival_ns=delivery.arrival_ns + self._delay_ns(self._fault.delay_s))
        yield delivery


class _DuplicateStage(_Stage):
    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        yield delivery
        if self._strikes(delivery.message):
            self._count()
            yield Delivery(delivery.arrival_ns + self._delay_ns(self._fault.after_s), delivery.message, repeated=True)


class _LostStage(_Stage):
    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        if self._strikes(delivery.message):
            self._count()
        else:
            yield delivery


class _CorruptStage(_Stage):
    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        message = delivery.message
        if message.payload and self._strikes(message):
            self._count()
            payload = bytearray(message.payload)
            for _ in range(self._dice.randint(*FLIPPED)):
                payload[self._dice.randrange(len(payload))] ^= 1 << self._dice.randrange(8)
            delivery = delivery._replace(message=message._replace(payload=bytes(payload)))
        yield delivery


class _SilentStage(_Stage):
    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        if self._holds(delivery.message):
            self._count()
        else:
            yield delivery


class _BackfillStage(_Stage):
    def __init__(self, fault: Backfill, dice: random.Random, start_ns: int, counts: Counter[str]) -> None:
        super().__init__(fault, dice, start_ns, counts)
        self._free_ns: dict[int, int] = {}
        """When each device has said what it kept."""

    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        message = delivery.message
        if not self._concerns(message) or message.due_ns < self._begin:
            yield delivery
            return
        free = self._free_ns.get(message.device, self._end)
        if message.due_ns >= max(free, self._end):
            yield delivery
            return
        # What is new while a device catches up waits its turn behind what is old.
        self._count()
        self._free_ns[message.device] = free + round(NS / self._fault.per_s)
        yield delivery._replace(arrival_ns=max(free, message.due_ns))


class _RewritingStage(_Stage):
    """A fault inside the device: it changes what the payload says."""

    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        message = delivery.message
        if not self._is_due(message):
            yield delivery
            return
        payload = _decoded(message)
        if payload is None:
            self._counts["unchanged"] += 1
        elif self._change(message, payload):
            self._count()
            binary = isinstance(payload, Block) or message.payload[:1] != b"{"
            message = message._replace(payload=encode(payload, binary=binary), seq=payload.seq or message.seq)
        yield delivery._replace(message=message)

    def _is_due(self, message: Message) -> bool:
        return self._holds(message)

    @abstractmethod
    def _change(self, message: Message, payload: Payload) -> bool:
        """Change the payload in place; returns whether there was something to change."""


class _ClockStage(_RewritingStage):
    def _change(self, message: Message, payload: Payload) -> bool:
        fault = self._fault
        off = round(fault.offset_s * NS) + round((message.due_ns - self._begin) * fault.ppm / 1e6)
        if isinstance(payload, Block):
            payload.t0 += off
        elif isinstance(payload.ts, int):
            payload.ts += off
        else:
            return False
        return True


class _RebootStage(_RewritingStage):
    def __init__(self, fault: Reboot, dice: random.Random, start_ns: int, counts: Counter[str]) -> None:
        super().__init__(fault, dice, start_ns, counts)
        self._first: dict[int, int] = {}
        """The first sequence number of each device after its restart."""

    def take(self, delivery: Delivery) -> Iterator[Delivery]:
        if self._holds(delivery.message):
            self._counts["lost_in_reboot"] += 1
            return
        yield from super().take(delivery)

    def _is_due(self, message: Message) -> bool:
        return message.due_ns >= self._end and self._concerns(message)

    def _change(self, message: Message, payload: Payload) -> bool:
        if payload.seq is None or payload.boot is None:
            return False
        payload.seq -= self._first.setdefault(message.device, payload.seq)
        payload.boot = (payload.boot + 1) % 2**63
        return True


class _SensorStage(_RewritingStage):
    """A fault of one sensor: of a packed block, it changes the rows that fall into its time."""

    def _is_due(self, message: Message) -> bool:
        # A block is due at its last row: one that ends after the fault may have begun within it.
        ends_later = message.due_ns >= self._end and BLOCK_MARK in message.payload
        return self._holds(message) or (ends_later and self._concerns(message))

    def _change(self, message: Message, payload: Payload) -> bool:
        metric = self._fault.metric
        if isinstance(payload, Telemetry) and metric in payload.m:
            payload.m[metric] = self._shows(message, payload.m[metric], message.due_ns)
            return True
        if not isinstance(payload, Block) or metric not in payload.names:
            return False
        column = payload.names.index(metric)
        table = np.frombuffer(payload.f32, "<f4").reshape(payload.rows, len(payload.names)).copy()
        changed = False
        for row in range(payload.rows):
            at = message.due_ns - (payload.rows - 1 - row) * payload.dt
            if self._begin <= at < self._end:
                table[row, column] = self._shows(message, float(table[row, column]), at)
                changed = True
        payload.f32 = table.tobytes()
        return changed

    @abstractmethod
    def _shows(self, message: Message, value: float, at: int) -> float:
        """Return what the sensor shows at ``at`` (ns UTC) where it should show ``value``."""


class _StuckStage(_SensorStage):
    def __init__(self, fault: Stuck, dice: random.Random, start_ns: int, counts: Counter[str]) -> None:
        super().__init__(fault, dice, start_ns, counts)
        self._shown: dict[int, float] = {}

    def _shows(self, message: Message, value: float, at: int) -> float:
        del at
        return self._shown.setdefault(message.device, value)


class _DriftStage(_SensorStage):
    def _shows(self, message: Message, value: float, at: int) -> float:
        del message
        per_hour: float = self._fault.per_hour
        return value + per_hour * (at - self._begin) / (3600 * NS)


_STAGES: Final[dict[type[Fault], type[_Stage]]] = {
    Stuck: _StuckStage,
    Drift: _DriftStage,
    Clock: _ClockStage,
    Reboot: _RebootStage,
    Silent: _SilentStage,
    Backfill: _BackfillStage,
    Lost: _LostStage,
    Duplicate: _DuplicateStage,
    Late: _LateStage,
    Corrupt: _CorruptStage,
}
"""In the order in which they are put one behind the other."""


def _device_of(topic: str) -> str:
    try:
        return parse(topic).key.device
    except TopicError:
        return topic


def _decoded(message: Message) -> Payload | None:
    """Return a native payload, None where it is something else."""
    try:
        match parse(message.topic).stream:
            case Stream.TELEMETRY if BLOCK_MARK in message.payload:
                return decode_block(message.payload)
            case Stream.TELEMETRY:
                return decode_telemetry(message.payload)
            case Stream.EVENT:
                return decode_event(message.payload)
            case Stream.STATUS:
                return decode_status(message.payload)
            case _:
                return None
    except (TopicError, RejectError):
        return None
