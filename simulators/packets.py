"""MQTT packets out of a stream of bytes, and what every connection of ours says to open one."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final, cast

import mqtt5
import numpy as np

from simulators.broker import Broker

log = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 20
PING_S: Final = 10.0
CONNECT_S: Final = 10.0
TAKEN: Final = (mqtt5.PubAckReasonCode.SUCCESS, mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
"""What a broker says of messages that it has taken; everything else refuses one (MQTT 5, 3.4.2.1)."""
PUBACK: Final = 0x40
"""First byte of a PUBACK. Its length, the packet id (2), a reason and a length of properties follow, one byte each."""
LONGEST_ACK: Final = 6
REASON_AT: Final = 4
PROPERTIES_AT: Final = 5


class NotMqttError(ValueError):
    """What the broker sends is no MQTT packet."""


class PacketStream:
    """Cuts a stream of bytes into packets; what has not arrived whole waits for more."""

    def __init__(self) -> None:
        """Begin at the beginning of a connection."""
        self._bytes = memoryview(b"")

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if data:
            self._bytes = memoryview(b"".join((self._bytes, data)) if self._bytes else data)

    def __iter__(self) -> Iterator[mqtt5.Packet]:
        """Remove and yield the packets that have arrived whole. NotMqttError where there is none to be had."""
        while self._bytes:
            try:
                packet, length = mqtt5.read(self._bytes)
            except IndexError:
                return  # the rest has not arrived
            except ValueError as error:
                raise NotMqttError(str(error)) from error
            self._bytes = self._bytes[length:]
            yield packet

    def take_acks(self) -> int:
        """Remove the PUBACKs of messages taken with which the stream goes on; return how many, reading none by itself.

        It stops at one that refuses, tells why, or has another length than the first: the iterator reads these.
        """
        data = self._bytes
        if len(data) < REASON_AT or data[0] != PUBACK:
            return 0
        size = 2 + data[1]
        whole = len(data) // size
        if size not in range(REASON_AT, LONGEST_ACK + 1) or not whole:
            return 0
        rows = np.frombuffer(data, np.uint8, whole * size).reshape(whole, size)
        alike = (rows[:, 0] == PUBACK) & (rows[:, 1] == data[1])
        if size > REASON_AT:
            alike &= np.isin(rows[:, REASON_AT], TAKEN)
        if size > PROPERTIES_AT:
            alike &= rows[:, PROPERTIES_AT] == 0
        count = whole if alike.all() else int(alike.argmin())
        self._bytes = data[count * size :]
        return count


class Packets(asyncio.Protocol, ABC):
    """A connection as a sequence of packets: each that arrives whole is given to :meth:`take`.

    What is no MQTT ends the connection, as does whatever else a subclass finds wrong.
    """

    def __init__(self, broker: Broker) -> None:
        """Connect to nothing yet; :meth:`dial` does."""
        self.broker = broker
        self.transport: asyncio.Transport | None = None
        self.packets = PacketStream()

    async def dial(self, name: str, **more: Any) -> asyncio.Transport:  # noqa: ANN401 - fields of the packet
        """Open a connection and introduce ourselves; ``more`` are further fields of the CONNECT packet."""
        broker, loop = self.broker, asyncio.get_running_loop()
        context = broker.tls_context()
        self.packets = PacketStream()
        transport, _ = await loop.create_connection(lambda: self, broker.host, broker.port, ssl=context)
        password = broker.password.encode() if broker.password is not None else None
        said = {"username": broker.username, "password": password, "clean_start": True, "keep_alive": KEEP_ALIVE_S}
        transport.write(mqtt5.ConnectPacket(name, **(said | more)).write())
        return transport

    @abstractmethod
    def take(self, packet: mqtt5.Packet) -> None:
        """Take a packet that has arrived."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take the packets that have arrived whole."""
        self.packets.feed(data)
        try:
            for packet in self.packets:
                self.take(packet)
        except NotMqttError as error:
            log.error("broker %s:%d sends what is not MQTT: %s", self.broker.host, self.broker.port, error)  # noqa: TRY400
            if self.transport is not None:
                self.transport.abort()
