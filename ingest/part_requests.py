"""Asking a JT/T 808 terminal for the parts of a message that have not come. No I/O; the time is handed in.

part ─► all there?  ──► of an upload: 0x8800 with its id
             └ no ──► the last one came, or nothing for a while: 0x8003, of an upload 0x8800, with what is missing;
                      after some times no longer, and what has come is given up
"""

from typing import Final, NamedTuple

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808_frames import ASK_FOR_PARTS, MULTIMEDIA, MULTIMEDIA_REPLY, Message
from devices.codecs.jt808_parts import Joiner, Waiting
from devices.rejects import RejectError
from devices.times import NS

ASK_AFTER: Final = 10 * NS
"""How long nothing may come before the missing parts are asked for, ns."""
MAX_ASKED: Final = 3
"""How often they are asked for."""
MEDIA_ID: Final = 4
"""Bytes of an upload's id, with which its first part begins."""


class Asked(NamedTuple):
    """How often the missing parts of a message were asked for, and when last."""

    times: int
    at: int


NEVER: Final = Asked(0, 0)


class PartRequests:
    """The messages in parts of one connection."""

    def __init__(self) -> None:
        """No part has come."""
        self._parts = Joiner()
        self._asked: dict[int, Asked] = {}
        """Serial of the first part of a message → what was asked."""
        self.of_2019 = False
        """Whether the last part was of the edition of 2019, in which the terminal is to be answered."""

    @property
    def open(self) -> bool:
        """Whether parts are waited for."""
        return any(not waiting.parts.whole for waiting in self._parts)

    def take(self, message: Message, now: int) -> tuple[tuple[int, bytes] | None, int]:
        """Take a part; return what is to be said beyond its reply, kind and body, and how many messages it ends."""
        self.of_2019 = message.of_2019
        try:
            waiting, body, again = self._parts.take(message, now)
        except RejectError:
            # It goes to quarantine, which says why.
            return None, 0
        given_up = self._parts.overdue(message.phone, 0)
        self._forget()
        if message.kind != MULTIMEDIA or again:
            return None, len(given_up)
        if body is not None:
            number = body[:MEDIA_ID]
            return (MULTIMEDIA_REPLY, bodies.multimedia_reply(int.from_bytes(number))), len(given_up)
        return self._request(waiting, now) if message.part == (waiting.total, waiting.total) else None, len(given_up)

    def due(self, now: int) -> tuple[list[tuple[int, bytes]], int]:
        """Return the requests for what has not come for a while, and how many messages are given up."""
        said, given_up = [], 0
        for waiting in [each for each in self._parts if not each.parts.whole]:
            asked = self._asked.get(waiting.parts.first, NEVER)
            if now - max(waiting.parts.at, asked.at) < ASK_AFTER:
                continue
            if asked.times < MAX_ASKED:
                said.append(self._request(waiting, now))
            else:
                self._parts.drop(waiting)
                given_up += 1
        self._forget()
        return said, given_up

    def _request(self, waiting: Waiting, now: int) -> tuple[int, bytes]:
        """Return a request for the missing parts: of an upload whose id has come, the reply to it."""
        first, missing = waiting.parts.first, waiting.missing
        self._asked[first] = Asked(self._asked.get(first, NEVER).times + 1, now)
        head = waiting.parts.bodies.get(1, b"")
        if waiting.kind == MULTIMEDIA and len(head) >= MEDIA_ID:
            return MULTIMEDIA_REPLY, bodies.multimedia_reply(int.from_bytes(head[:MEDIA_ID]), missing)
        return ASK_FOR_PARTS, bodies.parts_request(first, missing, of_2019=self.of_2019)

    def _forget(self) -> None:
        """Forget what was asked for of messages that are whole or given up."""
        waited_for = {each.parts.first for each in self._parts if not each.parts.whole}
        self._asked = {first: asked for first, asked in self._asked.items() if first in waited_for}
