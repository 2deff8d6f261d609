"""JT/T 808 messages in parts: which parts of which message have come, what is missing, and when it is given up.

The parts of a message have serials that follow each other, so the serial of its first part tells it from another of the
same kind; some terminals send something else in between. Both sides look at it: the gateway asks for what is missing,
the codec joins what has come. No I/O; the time is that of receipt.
"""

from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from devices.codecs.jt808_frames import Message
from devices.rejects import Reason, RejectError

MAX_EACH: Final = 8
"""Messages of one terminal of which parts are remembered, the oldest given up first."""
MAX_BYTES: Final = 8 << 20
"""Bytes of parts remembered of all terminals; beyond, parts are refused."""
MAX_PARTS: Final = 4_096
"""Parts of one message; more are refused."""
HEAD: Final = 64
"""Bytes kept of a part whose message is not joined."""
BETWEEN: Final = 8
"""How many other messages a terminal may send between two parts."""
PART_COST: Final = 128
"""Bytes that a part takes beyond its body, about."""
MARK: Final = 8
"""Bytes by which a part that comes again is known once its message is whole."""
SERIALS: Final = 1 << 16


class Parts(msgspec.Struct, array_like=True):
    """What has come of a message."""

    bodies: dict[int, bytes]
    """Number of a part → its body, or the begin of it."""
    first: int = -1
    """Serial of the first part, -1 of a message that was given up."""
    at: int = 0
    """When the last part came, ns UTC."""
    whole: bool = False
    """Whether all have come: it is remembered only so that a part sent again is no other message."""


class Waiting(msgspec.Struct, array_like=True):
    """A message in parts."""

    phone: str
    kind: int
    total: int
    parts: Parts

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that have not come."""
        return [nth for nth in range(1, self.total + 1) if nth not in self.parts.bodies]

    @property
    def body(self) -> bytes:
        """What is kept of the parts that have come, in their order."""
        return b"".join(body for _, body in sorted(self.parts.bodies.items()))


class Joined(NamedTuple):
    """What has become of a part."""

    waiting: Waiting
    body: bytes | None
    """What is kept of the whole message, with the last part that was missing."""
    again: bool
    """Whether the part had come before."""


class Joiner:
    """Remembers the parts of messages that come in several."""

    def __init__(self, kinds: Collection[int] = ()) -> None:
        """``kinds``: messages of which the parts are kept to the last byte."""
        self._kinds = kinds
        self._of: dict[str, list[Waiting]] = {}
        self._bytes = 0

    def __bool__(self) -> bool:
        """Whether there is anything to remember."""
        return bool(self._of)

    def __iter__(self) -> Iterator[Waiting]:
        """Iterate over all messages, those of a terminal in the order in which they began."""
        return (waiting for of_phone in self._of.values() for waiting in of_phone)

    def restore(self, waiting: Collection[Waiting]) -> None:
        """Remember these instead."""
        self._of, self._bytes = {}, 0
        for each in waiting:
            self._of.setdefault(each.phone, []).append(each)
            self._bytes += sum(map(_cost, each.parts.bodies.values()))

    def take(self, message: Message, at: int) -> Joined:
        """Take a part; RejectError where there can be no such part, or no room for it."""
        number, total = message.part or (1, 1)
        if not 1 <= number <= total:
            raise RejectError(Reason.WRONG_TYPE, "/parts", f"part {number} of {total}")
        if total > MAX_PARTS:
            raise RejectError(Reason.TOO_LARGE, "/parts", f"{total} parts: at most {MAX_PARTS}")
        body = message.body if message.kind in self._kinds else message.body[:HEAD]
        waiting = self._waiting(message, number, total)
        if waiting is not None and (known := waiting.parts.bodies.get(number)) is not None:
            if known == (_mark(body) if waiting.parts.whole else body):
                return Joined(waiting, None, again=True)
            # The same number with another content: the terminal has begun anew.
            self._give_up(waiting)
            waiting = None
        if self._bytes + _cost(body) > MAX_BYTES:
            detail = f"{MAX_BYTES} bytes of other parts wait for the rest of their messages"
            raise RejectError(Reason.PARTS_MISSING, "/parts", detail)
        if waiting is None:
            waiting = self._begun(message, number, total)
        waiting.parts.bodies[number] = body
        waiting.parts.at = at
        self._bytes += _cost(body)
        if len(waiting.parts.bodies) < total:
            return Joined(waiting, None, again=False)
        whole = waiting.body
        self._settle(waiting)
        return Joined(waiting, whole, again=False)

    def drop(self, waiting: Waiting) -> None:
        """Forget a message."""
        of_phone = self._of[waiting.phone]
        of_phone.remove(waiting)
        if not of_phone:
            del self._of[waiting.phone]
        self._bytes -= sum(map(_cost, waiting.parts.bodies.values()))

    def overdue(self, phone: str, before: int) -> list[Waiting]:
        """Forget the messages of a terminal whose last part came before a time; return those that are not whole."""
        over = [each for each in self._of.get(phone, ()) if each.parts.first < 0 or each.parts.at < before]
        for each in over:
            self.drop(each)
        return [each for each in over if not each.parts.whole]

    def _waiting(self, message: Message, number: int, total: int) -> Waiting | None:
        """Return the message of a part: where its serial is, or a little behind where it would be without others."""
        found = None
        for each in self._of.get(message.phone, ()):
            if each.kind != message.kind or each.total != total or each.parts.first < 0:
                continue
            behind = (message.serial - (number - 1) - each.parts.first) % SERIALS
            if not behind:
                return each
            if behind <= BETWEEN and number > 1 and number - 1 in each.parts.bodies and number not in each.parts.bodies:
                found = each
        return found

    def _begun(self, message: Message, number: int, total: int) -> Waiting:
        kept = [each for each in self._of.get(message.phone, ()) if each.parts.first >= 0]
        if len(kept) >= MAX_EACH:
            self._give_up(min(kept, key=lambda each: (not each.parts.whole, each.parts.at)))
        first = (message.serial - (number - 1)) % SERIALS
        waiting = Waiting(message.phone, message.kind, total, Parts({}, first))
        self._of.setdefault(message.phone, []).append(waiting)
        return waiting

    def _give_up(self, waiting: Waiting) -> None:
        """Wait no longer: it is told with the next that are overdue, unless nothing of it is missing."""
        waiting.parts.first = -1
        if waiting.parts.whole:
            self.drop(waiting)

    def _settle(self, waiting: Waiting) -> None:
        """Keep of a whole message only what tells its parts from others."""
        parts = waiting.parts
        before = sum(map(_cost, parts.bodies.values()))
        parts.bodies = {number: _mark(body) for number, body in parts.bodies.items()}
        parts.whole = True
        self._bytes += sum(map(_cost, parts.bodies.values())) - before


def _mark(body: bytes) -> bytes:
    return blake2b(body, digest_size=MARK).digest()


def _cost(body: bytes) -> int:
    return len(body) + PART_COST
