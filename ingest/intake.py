"""The receiving half of a session: bytes off the socket in, whole messages out, never more than the bounds allow.

Reading stops above the high mark, which is whichever bound is reached first, messages or bytes, and goes on when what
was read has been acknowledged: the low mark is nothing held. Meanwhile the kernel's buffers fill and TCP pushes back
on the broker. A bound of our own is needed beside MQTT's receive maximum: Mosquitto 2.0.11 releases a whole further
window for every acknowledgement.
"""

import asyncio
import contextlib
import errno
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import mqtt5

from ingest.packets import MessageTable, Splitter
from store.system_words import of_address

READ_STEP: Final = 65_536
BUFFER: Final = 1 << 20
"""Bytes that a connection has room for as long as no more comes at once."""
LITTLE: Final = BUFFER - 2 * READ_STEP
"""So much is read at once whatever packets are thought to be like: there is room for it, and a begun packet."""
COUNT: Final = struct.Struct("i")


class SessionError(Exception):
    """The connection cannot be made or is lost; connect again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be off the socket and not yet acknowledged."""

    messages: int
    """Messages, ≥ 1."""
    bytes: int
    """About so many bytes beyond one packet, ≥ 1."""
    packet_bytes: int
    """Largest packet accepted, bytes."""


@dataclass(slots=True)
class Marks:
    """How much is held, over all connections of a worker: off the socket and not yet acknowledged."""

    messages: int = 0
    bytes: int = 0
    most_messages: int = 0
    most_bytes: int = 0
    stops: int = 0
    """How often reading stopped at a bound."""

    def hold(self, messages: int, held_bytes: int) -> None:
        """Note what is held now."""
        self.messages, self.bytes = messages, held_bytes
        self.most_messages = max(self.most_messages, messages)
        self.most_bytes = max(self.most_bytes, held_bytes)


class Intake:
    """What one connection's socket has delivered and nobody has taken yet."""

    def __init__(self, connection: socket.socket, bounds: Bounds, marks: Marks) -> None:
        """``connection`` does not block; ``marks`` is shared by the connections of a worker."""
        self._socket = connection
        self._bounds = bounds
        self._marks = marks
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(BUFFER)
        self._filled = 0
        self._splitter = Splitter()
        self._packet_bytes = bounds.bytes
        """What a packet of the last batch had on the average, bytes; until there was one, as much as there may be."""
        self._full = False
        """Whether reading stopped though there may be more."""
        self._whole = False
        """Whether the bound in messages was reached, and whole packets lie here still."""
        self._held = 0
        self.heard = self._loop.time()
        """When anything came last, on the loop's clock."""
        self.bytes_received = 0

    def receive(self) -> int:
        """Take what the socket holds, up to the bound; return how many bytes that was. SessionError at its end."""
        before = self._filled
        # What is left of the last batch counts, unless it is a packet that has only begun, however long that is.
        start, enough = 0 if self._whole else before, self._enough
        while self._filled - start < enough:
            if len(self._buffer) - self._filled < READ_STEP:
                self._buffer.extend(bytes(len(self._buffer)))
            try:
                with memoryview(self._buffer) as view:
                    count = self._socket.recv_into(view[self._filled :])
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except OSError as error:
                if self._filled > start:
                    break
                raise lost(error) from error
            if not count:
                # What came before the end, such as the reason for it, is read first.
                if self._filled > start:
                    break
                msg = "the broker closed the connection"
                raise SessionError(msg)
            self._filled += count
        self._full = self._filled - start >= enough
        received = self._filled - before
        if received:
            self.heard = self._loop.time()
            self.bytes_received += received
        return received

    @property
    def _enough(self) -> int:
        """How much to have here at once, bytes: about as many packets as may be taken.

        More would only wait here, in memory that grew for it, and not at the socket, where the broker feels it.
        """
        return min(self._bounds.bytes, max(LITTLE, self._bounds.messages * self._packet_bytes))

    def messages(self, control: Callable[[mqtt5.Packet], None]) -> MessageTable:
        """Take the complete packets, up to the bound; return the messages, hand everything else to ``control``."""
        filled, bound = self._filled, self._bounds.messages
        messages, position = MessageTable.of(()), 0
        with _decoding():
            messages, position = self._splitter.split(bytes(memoryview(self._buffer)[:filled]), bound, control)
        self._whole = len(messages) >= bound and position < filled
        self._marks.stops += self._whole or self._full
        if messages:
            self._packet_bytes = -(-position // len(messages))
            self._held += len(messages)
            self._marks.hold(self._held, filled)
        if position < filled:
            self._check_size(position)
        if position:
            self._drop(position)
        return messages

    def begins_with(self, data: bytes) -> bool:
        """Return whether what has arrived and is not taken yet begins so."""
        return self._buffer.startswith(data, 0, self._filled)

    def packet(self) -> mqtt5.Packet | None:
        """Take one packet if it is complete, while nothing else is expected."""
        found: list[tuple[mqtt5.Packet, int]] = []
        if self._filled:
            with memoryview(self._buffer) as view, view[: self._filled] as whole, _decoding():
                found.append(mqtt5.read(whole))
            for packet, length in found:
                self._drop(length)
                return packet
            self._check_size(0)
        return None

    @property
    def waiting_bytes(self) -> int:
        """How much has arrived at the socket and is not taken yet, of TLS as it comes."""
        (waiting,) = COUNT.unpack(fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, bytes(COUNT.size)))
        return int(waiting)

    def release(self) -> None:
        """Note that what was handed out has been acknowledged."""
        self._held = 0
        self._marks.hold(0, self._filled)

    def _check_size(self, position: int) -> None:
        """Refuse an unfinished packet that will be larger than allowed, before it fills the memory."""
        announced, allowed = _packet_bytes(self._buffer, position, self._filled), self._bounds.packet_bytes
        if announced > allowed:
            msg = f"the broker announced a packet of {announced} bytes, more than {allowed}"
            raise SessionError(msg)

    def _drop(self, length: int) -> None:
        rest = self._filled - length
        if self._filled <= BUFFER // 2 and len(self._buffer) > BUFFER:
            # What made it grow, a large packet or a while in which nobody read, is over.
            self._buffer = self._buffer[: self._filled].ljust(BUFFER, b"\0")
        self._buffer[:rest] = self._buffer[length : self._filled]
        self._filled = rest


def lost(error: OSError) -> SessionError:
    """Return the error of a connection that the system says is no more, in words."""
    why = "its machine does not answer" if error.errno == errno.ETIMEDOUT else of_address(error)
    return SessionError(f"connection to the broker lost: {why}")


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Leave the block where the last packet has not arrived whole; a malformed packet is a SessionError."""
    try:
        yield
    except IndexError:
        pass
    except BaseException as error:
        # A panic of the codec, as on a topic that is no UTF-8, is no Exception.
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        msg = f"the broker sent a malformed packet: {error}"
        raise SessionError(msg) from error


def _packet_bytes(buffer: bytearray, start: int, end: int) -> int:
    """Return how many bytes the packet at ``start`` says it has (MQTT 5, 2.1.4); 0 while that is not known."""
    length = 0
    for nth, byte in enumerate(buffer[start + 1 : min(end, start + 5)]):
        length |= (byte & 0x7F) << 7 * nth
        if byte < 0x80:  # noqa: PLR2004 - no further byte follows
            return 2 + nth + length
    return 0
