"""A publisher with a ledger: it knows of every message whether the broker has acknowledged it.

It speaks the least of MQTT 3.1.1, whose PUBACK is always four bytes, on a socket of its own, so that nothing it counts
depends on a library under test. When the connection is lost it connects again and sends again, marked as duplicate,
what is not acknowledged yet: a device that keeps its data until they are taken.
"""

import contextlib
import itertools
import json
import random
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple, Self

SITE: Final = "CNNGB-FAULT"
SLICE_S: Final = 0.02
WINDOW: Final = 20_000
"""Messages under way at most; beyond, the publisher waits for acknowledgements."""
DUPLICATE_FLAG: Final = 0x08
Key = tuple[str, int, int]
"""Device, boot, sequence."""


class Outgoing(NamedTuple):
    """A message to publish, and under which key the ledger keeps it (None: it does not)."""

    topic: str
    payload: bytes
    key: Key | None


def truck(number: int) -> str:
    """Return the id of the nth device."""
    return f"T-{number:03d}"


def telemetry_topic(device: str, site: str = SITE) -> str:
    """Return the topic on which a truck publishes."""
    return f"port/{site}/vehicle/{device}/telemetry"


def reading(device: str, boot: int, seq: int, ts: int | None = None) -> Outgoing:
    """Return one telemetry message; its odometer shows ``seq``, so that a sum over the store tells which arrived."""
    ts = time.time_ns() if ts is None else ts
    body = {"v": 1, "boot": boot, "seq": seq, "ts": ts, "m": {"odometer_m": seq, "speed_mps": 4.2}}
    return Outgoing(telemetry_topic(device), json.dumps(body).encode(), (device, boot, seq))


def readings(devices: int = 20, boot: int | None = None, count: int | None = None) -> Iterator[Outgoing]:
    """Yield telemetry of a fleet, device after device, ``count`` messages or without end."""
    boot = random.getrandbits(62) if boot is None else boot
    for number in itertools.count() if count is None else range(count):
        yield reading(truck(number % devices), boot, number // devices)


class Publisher:
    """Publishes at a steady rate from its own thread."""

    def __init__(
        self,
        port: int,
        messages: Iterator[Outgoing],
        rate: float | None = 2_000.0,
        *,
        name: str = "ledger",
        first_id: int = 1,
        duplicate: bool = False,
    ) -> None:
        """``rate`` is in messages per second, None as fast as the broker takes them.

        Packet ids go up from ``first_id``; with ``duplicate`` every message is marked as sent again.
        """
        self._port = port
        self._name = name
        self._messages = messages
        self._rate = rate
        self._stop = threading.Event()
        self._exhausted = threading.Event()
        self._under_way: OrderedDict[int, Outgoing] = OrderedDict()
        self._ids = itertools.chain(range(first_id, 65_536), itertools.cycle(range(1, 65_536)))
        self._flags = DUPLICATE_FLAG if duplicate else 0
        self._partial = b""
        self._out = bytearray()
        self._thread = threading.Thread(target=self._run, name=f"publisher-{name}", daemon=True)
        self.acked: set[Key] = set()
        """Keys that the broker has acknowledged."""
        self.acknowledged = 0
        """Messages that the broker has acknowledged, with a key or without."""
        self.sent = 0
        """Messages handed to the socket, repetitions not counted."""
        self.reconnects = -1
        """How often the connection had to be made again."""

    def start(self) -> Self:
        """Begin to publish."""
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 30.0) -> None:
        """Take no more messages and wait until everything sent is acknowledged; TimeoutError if it is not."""
        self._stop.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"{len(self._under_way)} messages were not acknowledged within {timeout_s:.0f} s")

    def finish(self, timeout_s: float = 60.0) -> None:
        """Wait until every message of a finite source is acknowledged."""
        if not self._exhausted.wait(timeout_s):
            raise TimeoutError(f"only {self.sent} messages were sent within {timeout_s:.0f} s")
        self.stop(timeout_s)

    def close(self) -> None:
        """Give up, acknowledged or not; idempotent."""
        self._stop.set()
        self._under_way.clear()
        self._thread.join(5)

    def __enter__(self) -> Self:
        """Begin to publish."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Give up on what is not acknowledged."""
        if self._thread.is_alive():
            self.close()

    def _run(self) -> None:
        while not self._done():
            try:
                with self._connection() as connection:
                    self.reconnects += 1
                    self._resend()
                    self._publish(connection)
            except OSError:
                time.sleep(0.05)

    def _done(self) -> bool:
        return (self._stop.is_set() or self._exhausted.is_set()) and not self._under_way

    def _publish(self, connection: socket.socket) -> None:
        due, at = 0.0, time.monotonic()
        while not self._done():
            now = time.monotonic()
            due = min(due + (now - at) * self._rate, self._rate) if self._rate else 500.0
            at = now
            if not self._stop.is_set() and len(self._out) < 1 << 20:
                wanted = min(int(due), WINDOW - len(self._under_way))
                taken = self._take(wanted) if wanted > 0 else 0
                due -= taken
            self._send(connection)
            if not self._receive(connection) or self._rate:
                time.sleep(SLICE_S if self._rate else 0.001)

    def _take(self, count: int) -> int:
        """Take messages from the source into the outgoing bytes; return how many."""
        taken = 0
        for message in itertools.islice(self._messages, count):
            packet_id = next(each for each in self._ids if each not in self._under_way)
            self._under_way[packet_id] = message
            self._out += _packet(message, packet_id, self._flags)
            taken += 1
        if taken < count:
            self._exhausted.set()
        self.sent += taken
        return taken

    def _resend(self) -> None:
        self._partial = b""
        self._out.clear()
        for packet_id, message in self._under_way.items():
            self._out += _packet(message, packet_id, DUPLICATE_FLAG)

    def _send(self, connection: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                del self._out[: connection.send(self._out[: 1 << 18])]

    def _receive(self, connection: socket.socket) -> int:
        """Take acknowledgements; return how many."""
        try:
            data = connection.recv(1 << 18)
        except BlockingIOError:
            return 0
        if not data:
            raise ConnectionError("the broker closed the connection")
        data = self._partial + data
        whole = len(data) - len(data) % 4
        self._partial = data[whole:]
        for kind, packet_id in struct.iter_unpack(">HH", data[:whole]):
            if kind != 0x4002:  # noqa: PLR2004 - PUBACK, two bytes follow (MQTT 3.1.1, 3.4)
                raise ConnectionError(f"expected PUBACK, got {kind:#06x}")
            message = self._under_way.pop(packet_id, None)
            if message is not None:
                self.acknowledged += 1
                if message.key is not None:
                    self.acked.add(message.key)
        return whole // 4

    @contextlib.contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            name = f"fault-{self._name}-{id(self):x}".encode()
            # Clean session, no keep-alive (MQTT 3.1.1, 3.1).
            body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack(">H", len(name)) + name
            connection.sendall(b"\x10" + _length(len(body)) + body)
            answer = connection.recv(4)
            if answer[:2] != b"\x20\x02" or answer[3]:
                raise ConnectionError(f"the broker refused the publisher: {answer.hex()}")
            connection.settimeout(0)
            yield connection


def _packet(message: Outgoing, packet_id: int, flags: int) -> bytes:
    name = message.topic.encode()
    body = struct.pack(">H", len(name)) + name + struct.pack(">H", packet_id) + message.payload
    return bytes([0x32 | flags]) + _length(len(body)) + body


def _length(count: int) -> bytes:
    """Return ``count`` as MQTT writes the remaining length (2.2.3)."""
    out = bytearray()
    while True:
        count, low = divmod(count, 128)
        out.append(low | (0x80 if count else 0))
        if not count:
            return bytes(out)
