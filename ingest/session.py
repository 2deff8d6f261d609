"""The bulk MQTT 5 session: whatever the socket holds in, a batch of acknowledgements out.

The codec does no I/O and the socket is read every 5 to 30 ms instead of on readiness: at full load that saves most of
the system calls, and of the work that is done once for each batch. A batch is handed over only after the previous one
was acknowledged, so that what is read but not yet durable is bounded, the kernel's buffers fill and TCP pushes back on
the broker.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import mqtt5
import numpy as np

from devices.filters import fault_of
from ingest.intake import Bounds, Intake, Marks, SessionError, lost
from ingest.packets import Message, MessageTable
from ingest.waiting import first_of
from store.system_words import of_address
from store.tls_files import tls_context

__all__ = ["Message", "Session", "SessionConfig", "SessionError", "SessionRefusedError"]

log = logging.getLogger(__name__)

CONNACK_TIMEOUT_S: Final = 10.0
PUBACK: Final = 0x4002
"""How an acknowledgement begins: its type, and that the two bytes of the packet id are all that follows, for a reason
code of 0 and no properties may be left out (MQTT 5, 3.4.2.1)."""
PLENTY: Final = 1 << 20
"""With so much at the socket it is read without a pause, bytes."""
GATHER: Final = 20.0
"""How much longer than the last batch took the next is let gather."""
FAREWELL_S: Final = 0.001
"""How often it is looked whether the broker has closed too, s: it mostly has within a millisecond."""
PING_S: Final = 1.0
"""Silence of the broker after which it is asked whether it is there, again and again, s."""
FIRST_ERROR_CODE: Final = 0x80
"""Reason codes from here on are failures (MQTT 5, 2.4)."""
PACKET_IDS: Final = range(65_535, 65_519, -1)
"""Packet ids to subscribe under, in turn. The broker's own messages go up from 1, and though their ids have nothing to
do with ours (MQTT 5, 2.2.1), there are brokers that refuse one of ours while a message of the same is under way."""
OLDER: Final = b"\x20\x02\x00\x01"
"""What a broker that knows MQTT 3.1.1 and nothing later answers to a CONNECT of MQTT 5 (MQTT 3.1.1, 3.2.2.3)."""
STALLED_S: Final = 0.25
"""Silence after which a broker that has sent messages may wait for their acknowledgements before it says more, s."""


class SessionRefusedError(SessionError):
    """The broker refuses us for a reason that will not go away by itself, such as a wrong password."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """How to reach the broker and what to ask of it."""

    host: str = "127.0.0.1"
    """Name or address of the broker."""
    port: int = 1883
    """TCP port of the broker."""
    client_id: str = "quayflow-ingest"
    """Must stay the same over restarts: the broker keeps the session under it."""
    username: str | None = None
    """User name, if the broker wants one."""
    password: str | None = None
    """Password of the user."""
    tls: bool = False
    """Whether to speak TLS 1.2 or later."""
    ca_file: str | None = None
    """Certificate authorities to trust instead of the system's, PEM."""
    cert_file: str | None = None
    """Own certificate for mutual TLS, PEM."""
    key_file: str | None = None
    """Key of the own certificate, PEM."""
    filters: tuple[str, ...] = ("port/#",)
    """Topic filters to subscribe to, plain or ``$share/{group}/{filter}``."""
    former_filters: tuple[str, ...] = ()
    """Topic filters of earlier connections that the broker's session may still hold and is to give up."""
    clean_start: bool = False
    """Whether to have the broker forget an earlier session."""
    session_expiry_s: int = 7 * 86_400
    """How long the broker keeps the session while we are away, s."""
    keep_alive_s: int = 30
    """Longest silence on the connection, s."""
    gone_s: float = 10.0
    """How long the broker's machine may leave unanswered what is sent to it before the connection counts as lost, s."""
    receive_max: int = 65_535
    """Messages that the broker may send before the first is acknowledged."""
    max_packet_bytes: int = 16 << 20
    """Largest packet accepted from the broker, bytes."""
    max_batch_bytes: int = 4 << 20
    """No more than about this is off the socket and not yet acknowledged, bytes beyond one packet."""
    max_batch_messages: int = 5_000
    """No more than this is off the socket and not yet acknowledged, messages."""
    tick_s: float = 0.005
    """Shortest pause between reads while messages keep coming, s."""
    period_s: float = 0.03
    """How far apart reads may come under load, s; longer makes larger batches."""
    gather_s: float = 0.01
    """How long to gather after a silence, s: a quiet port then costs few syncs of the disk."""

    def __post_init__(self) -> None:
        """Refuse what no broker would accept."""
        if not 0 < self.port < 65_536:  # noqa: PLR2004 - TCP
            msg = f"port {self.port}: must be 1 to 65535"
            raise ValueError(msg)
        if not 1 <= self.receive_max <= 65_535:  # noqa: PLR2004 - MQTT 5, 3.1.2.11.3
            msg = f"receive_max {self.receive_max}: must be 1 to 65535"
            raise ValueError(msg)
        if not self.filters:
            msg = "filters: at least one topic filter is needed"
            raise ValueError(msg)
        for fault in filter(None, map(fault_of, self.filters)):
            msg = f"filters: {fault}"
            raise ValueError(msg)
        for name in ("max_batch_bytes", "max_batch_messages"):
            if getattr(self, name) < 1:
                msg = f"{name} {getattr(self, name)}: must be at least 1"
                raise ValueError(msg)


class Session:
    """One connection to the broker, from CONNECT to its end. Make a new one to reconnect."""

    def __init__(self, config: SessionConfig, connection: socket.socket, marks: Marks) -> None:
        """Use :meth:`open`."""
        self._config = config
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        bounds = Bounds(config.max_batch_messages, config.max_batch_bytes, config.max_packet_bytes)
        self._intake = Intake(connection, bounds, marks)
        self._out = bytearray()
        self._spoke = self._began = self._loop.time()
        self._early: list[Message] = []
        self._subscribed = False
        self._ids = iter(PACKET_IDS)
        self.session_present = False
        """Whether the broker still had the session of an earlier connection."""
        self.shares = True
        """Whether the broker says that it knows shared subscriptions."""

    @classmethod
    async def open(cls, config: SessionConfig, marks: Marks | None = None) -> Self:
        """Connect and subscribe; SessionError if the broker cannot be reached or refuses.

        ``marks`` is told how much is held back from the broker.
        """
        loop = asyncio.get_running_loop()
        try:
            connection = await loop.run_in_executor(None, _connect, config)
        except (OSError, ssl.SSLError) as error:
            msg = f"broker {config.host}:{config.port} cannot be reached: {of_address(error)}"
            raise SessionError(msg) from error
        session = cls(config, connection, marks or Marks())
        try:
            await asyncio.wait_for(session._shake_hands(), CONNACK_TIMEOUT_S)
        except TimeoutError:
            session.abort()
            msg = f"broker {config.host}:{config.port} did not answer within {CONNACK_TIMEOUT_S:.0f} s"
            raise SessionError(msg) from None
        except BaseException:
            session.abort()
            raise
        return session

    @property
    def bytes_received(self) -> int:
        """How many bytes have been taken off the socket."""
        return self._intake.bytes_received

    @property
    def silent_s(self) -> float:
        """For how long the broker has said nothing at all, not even that it is there, s."""
        return self._loop.time() - self._intake.heard

    async def read(self, until: asyncio.Event) -> Sequence[Message]:
        """Return the messages that have arrived, at least one; none once ``until`` is set.

        Raises SessionError when the connection is lost.
        """
        if self._early:
            early, self._early = self._early, []
            return early
        await self._gather()
        while True:
            self._flush()
            received = self._intake.receive()
            self._began = self._loop.time()
            messages = self._intake.messages(self._control)
            if messages or until.is_set():
                return messages
            self._keep_alive()
            if received:
                await asyncio.sleep(self._config.tick_s)
            else:
                await self._wait_readable(until)

    async def _gather(self) -> None:
        """Let messages gather.

        What is done once for a batch costs as much as hundreds of messages. So the more work the last one was, the more
        is let gather, until reads are as far apart as they may be; whoever has no time to spare does not pause for it.
        Nor is there a pause where much has come already: large messages are enough of a batch before they are many, and
        the broker must not find the socket full. And where nothing more comes, a broker may have sent all that it lets
        be under way, and wait for acknowledgements.
        """
        config, work = self._config, self._loop.time() - self._began
        if self._intake.waiting_bytes >= PLENTY:
            await asyncio.sleep(0)
            return
        await asyncio.sleep(config.tick_s / 2)
        waiting = self._intake.waiting_bytes
        await asyncio.sleep(config.tick_s / 2)
        if self._intake.waiting_bytes > waiting:
            await asyncio.sleep(max(0.0, min(GATHER * work, config.period_s - work) - config.tick_s))

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Send PUBACK for the QoS 1 messages of a batch, in the order received."""
        ids = MessageTable.of(messages).packet_ids
        ids = ids[ids > 0]
        self._intake.release()
        acks = np.empty((len(ids), 2), ">u2")
        acks[:, 0], acks[:, 1] = PUBACK, ids
        self._send(acks.tobytes())

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0."""
        self._send(mqtt5.PublishPacket(topic, payload).write())

    async def close(self) -> None:
        """Send what is outstanding, say goodbye but keep the session, and close."""
        deadline = self._loop.time() + 2
        with contextlib.suppress(SessionError, OSError):
            self._send(mqtt5.DisconnectPacket().write())
            while self._out and self._loop.time() < deadline:
                await asyncio.sleep(0.01)
                self._flush()
            await self._hear_out(deadline)
        self.abort()

    async def _hear_out(self, deadline: float) -> None:
        """Let the broker take what was sent, until it closes too.

        Closing a socket that holds something unread resets the connection, and a broker that is busy may then never
        look at our last acknowledgements: it would send again what we have journalled.
        """
        self._socket.shutdown(socket.SHUT_WR)
        while self._loop.time() < deadline:
            try:
                if not self._socket.recv(1 << 18):
                    return
            except (BlockingIOError, ssl.SSLWantReadError):
                await asyncio.sleep(FAREWELL_S)
            else:
                await asyncio.sleep(0)

    def abort(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    async def _shake_hands(self) -> None:
        config = self._config
        connect = mqtt5.ConnectPacket(
            config.client_id,
            username=config.username,
            password=config.password.encode() if config.password is not None else None,
            clean_start=config.clean_start,
            keep_alive=config.keep_alive_s,
            session_expiry_interval=config.session_expiry_s,
            receive_max=config.receive_max,
            max_packet_size=config.max_packet_bytes,
        )
        self._send(connect.write())
        answer = await self._answer()
        if not isinstance(answer, mqtt5.ConnAckPacket):
            msg = f"expected CONNACK, got {type(answer).__name__}"
            raise SessionError(msg)
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            msg = f"broker refused the connection: {answer.reason_code.name} {answer.reason_str or ''}".strip()
            raise SessionRefusedError(msg)
        self.session_present = answer.session_present
        self.shares = answer.shared_subscription_available
        self._subscribe()
        if self.session_present and config.former_filters:
            self._send(mqtt5.UnsubscribePacket(next(self._ids), list(config.former_filters)).write())
        # Until SUBACK nothing published is sure to reach us. What the session held may come before it, and may be more
        # than may be held, or than the broker lets be under way: then SUBACK is met behind it, after what has come is
        # acknowledged.
        while not self._subscribed and not self._has_its_fill:
            self._flush()
            self._intake.receive()
            self._early += self._intake.messages(self._control)
            await asyncio.sleep(config.tick_s)

    @property
    def _has_its_fill(self) -> bool:
        """Whether what came before SUBACK is all that will come before some of it is acknowledged."""
        return bool(self._early) and (
            len(self._early) >= self._config.max_batch_messages
            or self._intake.bytes_received >= self._config.max_batch_bytes
            or self.silent_s > STALLED_S
        )

    def _subscribe(self) -> None:
        filters = [
            mqtt5.TopicFilter(
                pattern,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_as_published=False,
                retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for pattern in self._config.filters
        ]
        self._send(mqtt5.SubscribePacket(next(self._ids), filters).write())

    async def _answer(self) -> mqtt5.Packet:
        """Wait for the answer to CONNECT, while nothing else is expected."""
        while True:
            self._flush()
            try:
                self._intake.receive()
            except SessionError as error:
                msg = f"{error}, in place of an answer to CONNECT; does it speak MQTT 5?"
                raise SessionError(msg) from error
            if self._intake.begins_with(OLDER):
                raise SessionRefusedError("the broker speaks MQTT 3.1.1 and not MQTT 5, which is needed")
            packet = self._intake.packet()
            if packet is not None:
                return packet
            await asyncio.sleep(self._config.tick_s)

    def _control(self, packet: mqtt5.Packet) -> None:
        """Act on what is not a message."""
        if isinstance(packet, mqtt5.DisconnectPacket):
            msg = f"the broker disconnected us: {packet.reason_code.name}"
            raise SessionError(msg)
        if isinstance(packet, mqtt5.SubAckPacket):
            in_use = mqtt5.SubAckReasonCode.PACKET_ID_IN_USE
            if in_use in packet.reason_codes and packet.packet_id > PACKET_IDS[-1]:
                self._subscribe()
                return
            for pattern, code in zip(self._config.filters, packet.reason_codes, strict=False):
                if int(code) >= FIRST_ERROR_CODE:
                    msg = f"the broker refused the subscription to {pattern!r}: {code.name}"
                    raise SessionRefusedError(msg)
            self._subscribed = True

    def _send(self, data: bytes) -> None:
        self._out += data
        self._flush()

    def _flush(self) -> None:
        """Send as much as the socket takes; the rest goes with the next call."""
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except (BlockingIOError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise lost(error) from error
            del self._out[:sent]
            self._spoke = self._loop.time()

    def _keep_alive(self) -> None:
        now, interval = self._loop.time(), self._config.keep_alive_s
        if now - self._intake.heard > 1.5 * interval:
            msg = f"the broker has been silent for {now - self._intake.heard:.0f} s"
            raise SessionError(msg)
        # The answer tells a broker that has nothing to say from one that stands still.
        asking = now - self._spoke > PING_S and self.silent_s > PING_S
        if asking or now - self._spoke > interval / 2:
            self._send(mqtt5.PingReqPacket().write())

    async def _wait_readable(self, until: asyncio.Event) -> None:
        """Sleep until the socket has something, ``until`` is set, or it is time to look at the keep-alive."""
        readable = asyncio.Event()
        descriptor = self._socket.fileno()
        self._loop.add_reader(descriptor, readable.set)
        try:
            await first_of((readable, until), 0.5)
        finally:
            self._loop.remove_reader(descriptor)
        if readable.is_set():
            await asyncio.sleep(self._config.gather_s)


def _connect(config: SessionConfig) -> socket.socket:
    """Open the TCP, and TLS, connection; blocking."""
    context = _tls_context(config) if config.tls else None
    connection = socket.create_connection((config.host, config.port), timeout=CONNACK_TIMEOUT_S)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _give_up_after(connection, config.gone_s)
        if context is not None:
            connection = context.wrap_socket(connection, server_hostname=config.host)
        connection.settimeout(0)
    except BaseException:
        connection.close()
        raise
    return connection


def _give_up_after(connection: socket.socket, seconds: float) -> None:
    """Have the system end a connection whose other machine is gone without a word.

    It is the other system that answers, however busy the broker is or where it stands still, so that nobody is given up
    who is there. While nothing is sent, as where ingest waits for its own disk, the system asks by itself. Where it is
    not Linux, the keep-alive of MQTT must do.
    """
    options = {
        "TCP_USER_TIMEOUT": round(seconds * 1000),
        "TCP_KEEPIDLE": max(1, round(seconds / 2)),
        "TCP_KEEPINTVL": max(1, round(seconds / 5)),
    }
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _tls_context(config: SessionConfig) -> ssl.SSLContext:
    """Read the certificates; SessionRefusedError names those that cannot be used."""
    try:
        return tls_context(config.ca_file, config.cert_file, config.key_file)
    except OSError as error:
        raise SessionRefusedError(str(error)) from error
