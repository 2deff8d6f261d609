"""What a device client sends next: numbers messages, keeps them in the ring, and decides when to send them again."""

import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Final

from devices.acks import ASKS, ack_topic, decode
from devices.client.config import ClientConfig
from devices.client.ring import Entry, Ring
from devices.codecs.native import VERSION, Event, Status, Telemetry, decode_event, decode_telemetry, encode, pointer
from devices.rejects import RejectError
from devices.scalars import Scalar, is_beyond
from devices.topics import Stream, topic_of

LONGEST_RESEND: Final = 8
"""The wait before everything is sent again grows up to so many times ``resend_s``."""
BOOT_BITS: Final = 63


class Outbox:
    """The messages of one start of one device. Its boot id is drawn at random, sequence numbers begin at 0."""

    def __init__(self, config: ClientConfig, now: Callable[[], int], elapsed: Callable[[], float]) -> None:
        """``now`` gives ns UTC, ``elapsed`` seconds of a clock that is never set. Raises RingError."""
        self.config = config
        self.boot = secrets.randbits(BOOT_BITS)
        self.resent = 0
        """Messages sent again because no acknowledgement came, on a connection that stood."""
        self.ring = Ring(config.folder, config.max_bytes, power_safe=config.power_safe)
        key = config.key
        self.ack_topic, self.command_topic = ack_topic(key), topic_of(key, Stream.COMMAND)
        self.answer_topic, self.status_topic = topic_of(key, Stream.COMMAND_ACK), topic_of(key, Stream.STATUS)
        self._telemetry_topic, self._event_topic = topic_of(key, Stream.TELEMETRY), topic_of(key, Stream.EVENT)
        self._now = now
        self._elapsed = elapsed
        self._numbering = threading.Lock()
        self._seq = 0
        self._sent_to = 0
        self._oldest: int | None = None
        self._since = elapsed()
        self._patience = config.resend_s

    def telemetry(self, values: Mapping[str, float | bool], ts: int | None) -> int:
        """Keep values of one instant (``ts`` ns UTC, None is now); return the sequence number.

        ValueError names what ingest would refuse the whole message for; RingError where the disk cannot take it.
        """
        if not values:
            raise ValueError("values: at least one is needed")

        def payload(seq: int) -> bytes:
            message = Telemetry(VERSION, dict(values), self.boot, seq, self._now() if ts is None else ts)
            return _checked(encode(message), decode_telemetry)

        return self._keep(self._telemetry_topic, payload)

    def event(self, kind: str, data: Mapping[str, Scalar], ts: int | None) -> int:
        """Keep an event; as :meth:`telemetry`."""
        for name, value in data.items():
            if is_beyond(value):
                # Not sent as the nearest float, which ingest would take: here is who can put it right.
                raise ValueError(f"{pointer('data', name)}: a whole number beyond 64 bits")

        def payload(seq: int) -> bytes:
            message = Event(VERSION, kind, dict(data), self.boot, seq, self._now() if ts is None else ts)
            return _checked(encode(message), decode_event)

        return self._keep(self._event_topic, payload)

    def status(self, *, online: bool) -> bytes:
        """Return the payload of the retained status; without a number, as a last will cannot have one."""
        info = dict(self.config.info) | {ASKS: True} if online else {}
        return encode(Status(VERSION, online, info, ts=self._now() if online else None), binary=False)

    def connected(self) -> None:
        """Begin anew on a new connection: what the old one took may be lost."""
        self._sent_to = 0
        self._since = self._elapsed()

    def take(self, limit: int) -> list[Entry]:
        """Return what to send now, oldest first, within the window of what may be outstanding."""
        oldest, now = self.ring.oldest(), self._elapsed()
        if oldest != self._oldest or oldest is None or oldest > self._sent_to:
            self._oldest, self._since = oldest, now
        elif now - self._since > self._patience:
            # Acknowledged by the broker and then lost with it, or while ingest was away without a session.
            self.resent += self.ring.waiting(self._sent_to)
            self._sent_to, self._since = 0, now
            self._patience = min(2 * self._patience, LONGEST_RESEND * self.config.resend_s)
        room = self.config.window - self.ring.waiting(self._sent_to)
        entries = self.ring.after(self._sent_to, min(limit, room)) if room > 0 else []
        if entries:
            self._sent_to = entries[-1].id
        return entries

    def acknowledge(self, payload: bytes) -> int:
        """Drop what ingest says that it has; return how many messages. ValueError where it says nothing that is known.

        RingError where the disk fails; the messages are then sent again.
        """
        gone = self.ring.acknowledge(decode(payload))
        if gone:
            self._patience = self.config.resend_s
        return gone

    def close(self) -> None:
        """Close the ring; what waits in it is sent by the next client in the same folder."""
        self.ring.close()

    def _keep(self, topic: str, payload: Callable[[int], bytes]) -> int:
        with self._numbering:
            seq = self._seq
            self.ring.append(self.boot, seq, topic, payload(seq))
            self._seq += 1
            return seq


def _checked(payload: bytes, decode_as: Callable[[bytes], object]) -> bytes:
    """Return a payload that ingest can decode; ValueError names the field at fault."""
    try:
        decode_as(payload)
    except RejectError as error:
        raise ValueError(str(error)) from None
    return payload


class Kept:
    """What either client tells of its outbox."""

    _outbox: Outbox

    @property
    def boot(self) -> int:
        """The number drawn for this start, part of every message."""
        return self._outbox.boot

    @property
    def waiting(self) -> int:
        """How many messages ingest has not acknowledged yet."""
        return len(self._outbox.ring)

    @property
    def dropped(self) -> int:
        """Messages that the ring had no room for, over all starts."""
        return self._outbox.ring.dropped

    @property
    def resent(self) -> int:
        """Messages sent again because no acknowledgement came, on a connection that stood."""
        return self._outbox.resent
