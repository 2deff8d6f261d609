"""A broker that does what a good one never does: each connection follows a script written for one fault."""

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import mqtt5

CONNACK: Final = mqtt5.ConnAckPacket().write()
CONNACK_PRESENT: Final = mqtt5.ConnAckPacket(session_present=True).write()
CHUNK: Final = 65_536
SO_ATTACH_FILTER: Final = 26
BPF_RETURN: Final = 0x06
"""The instruction that ends a socket's filter with how many bytes of a packet are let in; none are, and it is lost."""


class Wire:
    """The broker's end of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """``number`` counts the connections from 1."""
        self.number = number
        self._reader = reader
        self._writer = writer
        self._unread = bytearray()

    async def packet(self) -> mqtt5.Packet:
        """Return the next packet of the client; ConnectionError when it has gone."""
        while True:
            with contextlib.suppress(IndexError):
                packet, length = mqtt5.read(memoryview(bytes(self._unread)))
                del self._unread[:length]
                return packet
            more = await self._reader.read(CHUNK)
            if not more:
                raise ConnectionError("the client closed the connection")
            self._unread += more

    async def accept(self, *, session_present: bool = False) -> None:
        """Take CONNECT and SUBSCRIBE and grant both."""
        await self.connected(session_present=session_present)
        await self.subscribed()

    async def connected(self, *, session_present: bool = False) -> mqtt5.ConnectPacket:
        """Take CONNECT and grant it."""
        packet = await self.packet()
        assert isinstance(packet, mqtt5.ConnectPacket), packet  # noqa: S101 - a script ends here, as it should
        self.send(CONNACK_PRESENT if session_present else CONNACK)
        return packet

    async def subscribed(self) -> None:
        """Take SUBSCRIBE and grant it."""
        packet = await self.packet()
        assert isinstance(packet, mqtt5.SubscribePacket), packet  # noqa: S101 - as above
        codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE for _ in packet.topic_filters]
        self.send(mqtt5.SubAckPacket(packet.packet_id, codes).write())

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the kernel has taken what was sent."""
        await self._writer.drain()

    def vanish(self) -> None:
        """Be gone as a machine without power is: from now on the client's system gets no answer to what it sends."""
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))
        program = struct.pack("HP", 1, ctypes.addressof(drop_all))
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def reset(self) -> None:
        """Cut the connection as a crash does."""
        self._writer.transport.abort()


Script = Callable[[Wire], Awaitable[None]]


def publish(topic: str, payload: bytes, packet_id: int, *, duplicate: bool = False) -> bytes:
    """Return a PUBLISH of QoS 1."""
    packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, duplicate=duplicate)
    return packet.write()


async def take_results(wire: Wire) -> None:
    """Serve the connection on which ingest publishes what it found."""
    while True:
        packet = await wire.packet()
        if isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
            wire.send(mqtt5.PubAckPacket(packet.packet_id).write())
        elif isinstance(packet, mqtt5.PingReqPacket):
            wire.send(mqtt5.PingRespPacket().write())


class ScriptedBroker:
    """Where the broker listens, and how often it was called."""

    def __init__(self) -> None:
        """Use :func:`scripted_broker`."""
        self.port = 0
        self.connections = 0


@asynccontextmanager
async def scripted_broker(script: Script, port: int = 0) -> AsyncIterator[ScriptedBroker]:
    """Listen on loopback and play ``script`` on every connection; what it raises is raised at the end of the block.

    A connection stays open after its script until the client closes it.
    """
    broker = ScriptedBroker()
    failures: list[Exception] = []
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a connection's callback is one
        running.add(task)
        broker.connections += 1
        try:
            await script(Wire(broker.connections, reader, writer))
            while await reader.read(CHUNK):
                pass
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - handed to whoever opened the broker
            failures.append(error)
        finally:
            running.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        if running:
            await asyncio.wait(tuple(running))
    for failure in failures:
        raise failure
