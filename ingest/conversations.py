"""What the gateway and a terminal say to each other: bytes in, frames to journal and replies to send out. No I/O.

A reply is handed out together with the frames that it answers for, and is sent once these are durable. A frame that is
refused is answered as failed, or not at all, so that the terminal keeps it: nothing that was answered well is lost.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808_frames import (
    ACKNOWLEDGE,
    ASK_FOR_PARTS,
    AUTHENTICATE,
    FLAG,
    FROM_PLATFORM,
    MAX_FRAME,
    MULTIMEDIA,
    MULTIMEDIA_REPLY,
    QUERY_TIME,
    REGISTER,
    REGISTER_REPLY,
    REPLY,
    SYNC_TIME,
    SYNC_TIME_REPLY,
    TIME_REPLY,
    Message,
    frame_of,
    open_frame,
)
from devices.codecs.jt808_terminals import authentication, is_of_before, registration
from devices.codecs.teltonika import IMEI_DIGITS, LAYOUTS, is_sound
from devices.rejects import RejectError
from ingest.part_requests import MEDIA_ID, PartRequests

MAX_BAD: Final = 16
"""Refusals in a row after which a connection is closed."""
CODE_DIGITS: Final = 16
MAX_REGISTRATIONS: Final = 4
"""Registrations of a terminal that has not authenticated yet that are kept, the last ones."""
NOT_REGISTERED: Final = "not_registered"
"""Refusal of a terminal that the registry does not let speak."""


class Said(NamedTuple):
    """What one frame of a terminal leads to."""

    frames: tuple[bytes, ...] = ()
    """To be journalled."""
    reply: bytes = b""
    """To be sent when they are durable."""
    refused: str = ""
    """Why the frame was not taken, "" if it was."""
    asked: int = 0
    """How often missing parts are asked for in the reply."""
    given_up: int = 0
    """How many messages will not be whole."""


class Conversation(Protocol):
    """One connection of a terminal, as far as its format goes."""

    device: str
    """Who speaks, "" until that is known and believed."""
    over: str
    """Why the terminal is not worth listening to any more, in a word; "" while it is."""
    garbage: int
    """Bytes that belonged to no frame."""
    in_parts: bool
    """Whether :meth:`due` is to be asked now and then, because a message has come in part."""

    @property
    def waiting(self) -> int:
        """Bytes of a frame that has not come whole."""

    def receive(self, data: bytes) -> list[Said]:
        """Take what has come and return what it leads to."""

    def due(self) -> list[Said]:
        """Return what is to be said by now though nothing has come."""


def everybody(device: str) -> bool:
    """Admit every terminal, as without a registry."""
    del device
    return True


def code_of(key: bytes, phone: str) -> str:
    """Return the authentication code of a terminal: made of its number, so that none needs to be kept."""
    return hmac.new(key, phone.encode(), hashlib.sha256).hexdigest()[:CODE_DIGITS]


class Jt808Conversation:
    """JT/T 808: a terminal registers, authenticates with the code that it was given, and reports."""

    __slots__ = (
        *(
            "_admits",
            "_anyone",
            "_bad",
            "_buffer",
            "_key",
            "_now",
            "_parts",
            "_registrations",
            "_serial",
            "_strict",
            "_synchronised",
        ),
        *("device", "garbage", "in_parts", "over"),
    )

    def __init__(
        self,
        key: bytes,
        now: Callable[[], int],
        admits: Callable[[str], bool] = everybody,
        *,
        anyone: bool = False,
        strict: bool = False,
    ) -> None:
        """``key`` makes the codes; ``now`` gives ns UTC. ``admits`` tells of a phone number whether it may speak here.

        ``anyone``: terminals are believed without a code. ``strict``: damaged frames, which go to quarantine then, are
        answered so, and a code is to be written as the edition has it.
        """
        self.device = self.over = ""
        self.garbage = 0
        self.in_parts = False
        self._parts: PartRequests | None = None
        """Once a message has come in parts."""
        self._key = key
        self._now = now
        self._admits = admits
        self._anyone = anyone
        self._strict = strict
        self._buffer = bytearray()
        self._synchronised = False
        self._registrations: dict[str, tuple[bytes, ...]] = {}
        """Phone number → what was registered under it: it counts once the terminal is believed."""
        self._serial = 0
        self._bad = 0

    @property
    def waiting(self) -> int:
        """Bytes of a frame that has not come whole."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Said]:
        """Take what has come: everything between two flags is a frame, and what comes before the first is garbage."""
        if not self._buffer and len(data) > 2 and data.startswith(FLAG) and data.find(FLAG, 1) == len(data) - 1:  # noqa: PLR2004 - nothing between two flags
            # One whole frame, as nearly always.
            self._synchronised = True
            return [] if self.over else [self._judged(data)]
        self._buffer += data
        said = []
        while not self.over and (end := self._buffer.find(FLAG)) >= 0:
            between = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if not self._synchronised:
                self._synchronised = True
                self.garbage += end
            elif between:
                said.append(self._judged(FLAG + between + FLAG))
        if len(self._buffer) > MAX_FRAME or not self._synchronised:
            self.garbage += len(self._buffer)
            self._buffer.clear()
            self._synchronised = False
        return said

    def due(self) -> list[Said]:
        """Ask for the parts that have not come for some time; after some times, no longer."""
        if self._parts is None:
            return []
        requests, given_up = self._parts.due(self._now())
        self.in_parts = self._parts.open
        said = [Said(reply=self._spoken(*request), asked=1) for request in requests]
        return [*said, Said(given_up=given_up)] if given_up else said

    def _judged(self, frame: bytes) -> Said:
        said = self._heard(frame)
        self._bad = self._bad + 1 if said.refused else 0
        if self._bad >= MAX_BAD:
            self.over = said.refused
        return said

    def _heard(self, frame: bytes) -> Said:
        try:
            message = open_frame(frame)
        except RejectError:
            # Whoever is known has it in quarantine, under its name.
            return Said((frame,)) if self.device else Said(refused="undecodable")
        if not self.device:
            return self._introduced(message, frame)
        if message.phone != self.device:
            if "checksum" in message.flags:
                return Said((frame,))
            return Said(reply=self._general(message, bodies.FAILED), refused="other_phone")
        return self._said((frame,), message)

    def _said(self, frames: tuple[bytes, ...], message: Message) -> Said:
        """Return frames to be journalled with the reply to the last one; of a part, also what its message leads to."""
        reply = self._reply(message)
        if message.part is None or (message.flags and self._strict):
            return Said(frames, reply)
        if self._parts is None:
            self._parts = PartRequests()
        more, given_up = self._parts.take(message, self._now())
        self.in_parts = self._parts.open
        if more is None:
            return Said(frames, reply, given_up=given_up)
        asked = more[0] == ASK_FOR_PARTS or len(more[1]) > MEDIA_ID
        return Said(frames, reply + self._spoken(*more), asked=int(asked), given_up=given_up)

    def _introduced(self, message: Message, frame: bytes) -> Said:
        """Answer a terminal that is not believed yet."""
        if message.flags:
            # A name that may be damaged is nobody's.
            return Said(refused="damaged")
        if not self._admits(message.phone):
            return Said(reply=self._refusal(message), refused=NOT_REGISTERED)
        if message.kind == REGISTER:
            return self._registered(message, frame)
        if not self._anyone and (message.kind != AUTHENTICATE or not self._knows_code(message)):
            refused = "wrong_code" if message.kind == AUTHENTICATE else "not_authenticated"
            return Said(reply=self._general(message, bodies.FAILED), refused=refused)
        self.device = message.phone
        registered, self._registrations = self._registrations.get(self.device, ()), {}
        return self._said((*registered, frame), message)

    def _registered(self, message: Message, frame: bytes) -> Said:
        """Hand out the code; the message is kept until the terminal has shown that it is the one it names."""
        try:
            facts = registration(message.body, of_2019=message.of_2019)
        except RejectError:
            return Said(reply=self._general(message, bodies.FAILED), refused="undecodable")
        if self._strict and is_of_before(facts, of_2019=message.of_2019):
            return Said(reply=self._general(message, bodies.FAILED), refused="undecodable")
        known = self._registrations.get(message.phone, ())
        self._registrations = {message.phone: known if frame in known else (*known, frame)[-MAX_REGISTRATIONS:]}
        return Said(reply=self._reply(message))

    def _knows_code(self, message: Message) -> bool:
        try:
            code, _, flags = authentication(message.body, of_2019=message.of_2019)
        except RejectError:
            return False
        if flags and self._strict:
            return False
        return hmac.compare_digest(code.encode(), code_of(self._key, message.phone).encode())

    def _reply(self, message: Message) -> bytes:
        """Return what the platform answers to a message that it takes."""
        if message.kind == ACKNOWLEDGE or message.kind & FROM_PLATFORM:
            return b""
        if message.flags and self._strict:
            return self._general(message, bodies.DAMAGED)
        answer = self._answer(message)
        return self._general(message, bodies.ACCEPTED) if answer is None else self._framed(message, *answer)

    def _answer(self, message: Message) -> tuple[int, bytes] | None:
        """Return kind and body of the reply to a message that has one of its own."""
        if message.kind == REGISTER:
            return REGISTER_REPLY, bodies.registration_reply(message.serial, code_of(self._key, message.phone))
        if message.kind == QUERY_TIME:
            return TIME_REPLY, bodies.time_reply(self._now())
        if message.kind == SYNC_TIME:
            return SYNC_TIME_REPLY, bodies.time_sync_reply(self._now())
        if message.kind == MULTIMEDIA and message.part is None and len(message.body) >= MEDIA_ID:
            return MULTIMEDIA_REPLY, bodies.multimedia_reply(int.from_bytes(message.body[:MEDIA_ID]))
        return None

    def _refusal(self, message: Message) -> bytes:
        if message.kind == REGISTER:
            return self._framed(message, REGISTER_REPLY, bodies.registration_refusal(message.serial))
        return self._general(message, bodies.FAILED)

    def _general(self, message: Message, result: int) -> bytes:
        return self._framed(message, REPLY, bodies.general_reply(message.serial, message.kind, result))

    def _framed(self, message: Message, kind: int, body: bytes) -> bytes:
        serial, self._serial = self._serial, (self._serial + 1) & 0xFFFF
        return frame_of(kind, message.phone, serial, body, of_2019=message.of_2019)

    def _spoken(self, kind: int, body: bytes) -> bytes:
        """Return a frame of the platform's own accord, in the edition of the terminal's last part."""
        serial, self._serial = self._serial, (self._serial + 1) & 0xFFFF
        of_2019 = self._parts is not None and self._parts.of_2019
        return frame_of(kind, self.device, serial, body, of_2019=of_2019)


TELTONIKA_HEAD: Final = 8
MAX_PACKET: Final = 16_384
"""Longest packet taken from a Teltonika terminal, bytes; its makers' own bound is 1,280 for most models."""
PING: Final = 0xFF


class TeltonikaConversation:
    """Teltonika: a terminal says its IMEI and then sends packets, each acknowledged with its number of records."""

    __slots__ = ("_admits", "_bad", "_buffer", "device", "garbage", "in_parts", "over")

    def __init__(self, admits: Callable[[str], bool] = everybody) -> None:
        """Start at the introduction; ``admits`` tells of an IMEI whether it may speak here."""
        self._admits = admits
        self.device = self.over = ""
        self.garbage = 0
        self.in_parts = False
        self._buffer = bytearray()
        self._bad = 0

    @property
    def waiting(self) -> int:
        """Bytes of a packet that has not come whole."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Said]:
        """Take what has come; it is over with the first byte that can belong to no packet."""
        self._buffer += data
        said: list[Said] = []
        while not self.over and (found := self._packet() if self.device else self._introduction()) is not None:
            said.append(found)
            self._bad = self._bad + 1 if found.refused else 0
            if self._bad >= MAX_BAD:
                self.over = found.refused
        return said

    def due(self) -> list[Said]:
        """Return nothing: a packet comes whole."""
        return []

    def _introduction(self) -> Said | None:
        buffer = self._buffer
        if len(buffer) < 2:  # noqa: PLR2004 - the length
            return None
        length = int.from_bytes(buffer[:2])
        if length not in IMEI_DIGITS:
            return self._rubbish()
        if len(buffer) < 2 + length:
            return None
        imei = bytes(buffer[2 : 2 + length])
        if not imei.isdigit():
            return self._rubbish()
        del buffer[: 2 + length]
        if not self._admits(imei.decode()):
            return Said(reply=b"\x00", refused=NOT_REGISTERED)
        self.device = imei.decode()
        return Said(reply=b"\x01")

    def _packet(self) -> Said | None:
        buffer = self._buffer
        while buffer and buffer[0] == PING:
            del buffer[0]
        if any(buffer[:4]):
            return self._rubbish()
        if len(buffer) < TELTONIKA_HEAD:
            return None
        length = int.from_bytes(buffer[4:8])
        if not 3 <= length <= MAX_PACKET:  # noqa: PLR2004 - codec and two counts
            return self._rubbish()
        whole = TELTONIKA_HEAD + length + 4
        if len(buffer) < whole:
            return None
        packet = bytes(buffer[:whole])
        del buffer[:whole]
        if not is_sound(packet):
            # Without an acknowledgement it is sent again.
            return Said(reply=bytes(4), refused="damaged")
        # Commands' answers are not counted in records, and not acknowledged.
        reply = packet[9].to_bytes(4) if packet[8] in LAYOUTS else b""
        return Said((packet,), reply)

    def _rubbish(self) -> Said:
        """Give up: where the next packet begins cannot be told."""
        self.garbage += len(self._buffer)
        self._buffer.clear()
        self.over = "undecodable"
        return Said(refused="undecodable")
