"""The TCP gateway: terminals that speak no MQTT connect here; their frames take the same way as every other.

    terminal ──► conversation ──► waiting ──► journal, pipeline ──► replies
                  (per connection)  (bounded: beyond, sockets are not read)

A reply is sent after the frames that it answers for are durable. Frames travel under the topic
``port/{site}/vehicle/{number or IMEI}/{codec}``.

Terminals are many and each says little. To wake up for every one of them costs more than what it says, so sockets are
looked at all together, some times a second, and what has come is made durable together.
"""

import asyncio
import logging
import os
import resource
import secrets
import selectors
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from devices.codecs.readings import Request
from devices.commands import VERSION, CommandAnswer, decode_command, encode
from devices.topics import ROOT, SITE, DeviceKey, Stream, parse, topic_of
from devices.vocabulary import DeviceClass
from ingest.conversations import NOT_REGISTERED, Conversation, Jt808Conversation, Said, TeltonikaConversation
from ingest.packets import Message, MessageTable
from store.admission import EVERYBODY, Admission
from store.system_words import of_address

log = logging.getLogger(__name__)

KEY_FILE: Final = "gateway.key"
KEY_BYTES: Final = 32
READ_BYTES: Final = 16_384
"""Bytes taken off a socket at once, into one buffer that all connections share."""
MAX_UNSENT: Final = 16_384
"""Bytes of replies that a terminal may leave unread, besides those that the system keeps."""
SYSTEM_UNSENT: Final = 16_384
"""Bytes of replies that the system may keep per connection: left to itself, megabytes for who does not read."""
AT_LEAST_ONCE: Final = 1
COMMAND_LEVEL: Final = f"/{Stream.COMMAND}"
SWEEP_S: Final = 1.0
BACKLOG: Final = 4_096
NO_ROOM_S: Final = 1.0
"""How long no connection is accepted where the system has no room for one more, s."""
_FRAMES: Final = attrgetter("frames")
OTHER_FILES: Final = 512
"""Files and sockets that the rest of the process may have open."""


class GatewayError(Exception):
    """The gateway cannot listen where it was told to; the message says why."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where the gateway listens, and its bounds."""

    site: str
    """Site of the terminals."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    jt808_port: int | None = None
    """TCP port for JT/T 808, 0 for a free one; None: not spoken."""
    teltonika_port: int | None = None
    """TCP port for Teltonika, 0 for a free one; None: not spoken."""
    anyone: bool = False
    """Whether JT/T 808 terminals are believed without the code that they were given."""
    strict: bool = False
    """Whether JT/T 808 messages that break the rules are answered so, and to be refused."""
    max_connections: int = 10_000
    """Connections beyond this many are closed at once."""
    introduction_s: float = 30.0
    """How long a terminal may take to say who it is, s."""
    frame_s: float = 30.0
    """How long a frame may take from its first byte to its last, s."""
    idle_s: float = 900.0
    """Silence after which a terminal is taken for gone, s."""
    gather_s: float = 0.2
    """How long what terminals say gathers before it is read and made durable together, s."""
    max_waiting: int = 20_000
    """Frames that wait for the journal, beyond which no socket is read."""
    max_waiting_bytes: int = 8 << 20
    """The same in bytes."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not SITE.fullmatch(self.site):
            msg = f"site {self.site!r}: expected a UN/LOCODE and a facility, such as CNNGB-BLCT"
            raise ValueError(msg)
        for name in ("introduction_s", "frame_s", "idle_s", "gather_s", "max_connections"):
            if getattr(self, name) <= 0:
                msg = f"{name} {getattr(self, name)}: must be above 0"
                raise ValueError(msg)


class Gateway:
    """Listens, and hands on what terminals say."""

    def __init__(
        self,
        config: GatewayConfig,
        key: bytes,
        take: Callable[[Sequence[Message]], Awaitable[bool]],
        now: Callable[[], int],
        admission: Admission = EVERYBODY,
    ) -> None:
        """``take`` makes messages durable and processes them; False if told to end before. ``now`` gives ns UTC.

        ``admission``: whom the registry lets speak, until :meth:`admit` says otherwise.
        """
        self.config = config
        self.take = take
        self.now = now
        self.key = key
        self._admission = admission
        self.connections: set[_Connection] = set()
        self.terminals: dict[tuple[str, str], _Connection] = {}
        """(codec, number or IMEI) → its connection, the newest one."""
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.waiting: list[tuple[_Connection, Said]] = []
        self.waiting_frames = self.waiting_bytes = 0
        self.paused = False
        """Whether no socket is read, because too much waits."""
        self.accepted = self.frames = self.frame_bytes = self.garbage = self.pauses = 0
        self.parts_asked = self.parts_given_up = 0
        self.in_parts: set[_Connection] = set()
        """Connections on which parts of messages are waited for."""
        self.refused: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.ports: dict[str, int] = {}
        """Codec → port, once listening."""
        self.selector = selectors.DefaultSelector()
        self._arrived = asyncio.Event()
        self._listening: dict[int, tuple[str, socket.socket]] = {}
        """Descriptor → codec and socket."""
        self._admits = {codec: partial(self.admits, codec) for codec in ("jt808", "teltonika")}
        self._accept_at = self._sweep_at = self._paused_at = self._stood_still = 0.0

    async def listen(self) -> None:
        """Listen on the ports wanted; GatewayError where that is not possible."""
        _allow_descriptors(self.config.max_connections)
        for codec, port in (("jt808", self.config.jt808_port), ("teltonika", self.config.teltonika_port)):
            if port is None:
                continue
            try:
                for address in await _addresses(self.config.host, port):
                    self._listen(codec, *address)
            except OSError as error:
                self.close()
                where = f"{self.config.host}, port {port}"
                msg = f"cannot listen for {codec} on {where}: {of_address(error)}; see {codec}_port"
                raise GatewayError(msg) from None
            log.info("listening for %s on %s, port %d", codec, self.config.host, self.ports[codec])

    def _listen(self, codec: str, family: int, address: tuple[Any, ...]) -> None:
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
        listener.settimeout(0)
        # What is accepted inherits it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SYSTEM_UNSENT)
        self._listening[listener.fileno()] = codec, listener
        self.selector.register(listener, selectors.EVENT_READ)
        self.ports.setdefault(codec, listener.getsockname()[1])

    async def run(self, stop: asyncio.Event) -> None:
        """Hand on what comes until ``stop``, then what has come until then; close every connection."""
        reading = asyncio.create_task(self._read(), name="gateway-read")
        stopping = asyncio.create_task(stop.wait(), name="gateway-stop")
        for task in (reading, stopping):
            # Whatever ends, there is something to do.
            task.add_done_callback(lambda _: self._arrived.set())
        try:
            while not stop.is_set():
                await self._arrived.wait()
                if reading.done():
                    await reading
                if not await self._deliver():
                    break
        finally:
            reading.cancel()
            stopping.cancel()
            self.close()

    def close(self) -> None:
        """Stop listening and close every connection; idempotent."""
        for _, listener in self._listening.values():
            listener.close()
        self._listening.clear()
        for connection in list(self.connections):
            connection.close("shutdown")
        self.selector.close()

    def clock(self) -> float:
        """Return the time, s, without that in which no socket was read: nobody is late for what was not looked at."""
        now = self._paused_at if self.paused else asyncio.get_running_loop().time()
        return now - self._stood_still

    def heard(self, connection: "_Connection", said: Sequence[Said]) -> None:
        """Take what a connection's bytes have led to."""
        for each in said:
            if each.refused:
                self.refused[each.refused] += 1
            self.parts_asked += each.asked
            self.parts_given_up += each.given_up
            self.waiting_frames += len(each.frames)
            self.waiting_bytes += sum(map(len, each.frames))
            self.waiting.append((connection, each))
        if said:
            self._arrived.set()
        if self.waiting_frames > self.config.max_waiting or self.waiting_bytes > self.config.max_waiting_bytes:
            self.pauses += not self.paused
            self._paused_at = self._paused_at if self.paused else asyncio.get_running_loop().time()
            self.paused = True

    def introduced(self, connection: "_Connection") -> None:
        """Note who speaks on a connection: the newest of those who say the same takes the place of the others."""
        key = connection.codec, connection.conversation.device
        before = self.terminals.get(key)
        self.terminals[key] = connection
        if before is not None and before is not connection:
            before.close("replaced")

    def admit(self, admission: Admission) -> None:
        """Take over what the registry says now, and close the connections of terminals that it no longer admits."""
        self._admission = admission
        for connection in list(self.connections):
            device = connection.conversation.device
            if device and not self.admits(connection.codec, device):
                connection.close(NOT_REGISTERED)

    def admits(self, codec: str, device: str) -> bool:
        """Tell whether the site lets a terminal speak that says it is ``device``: itself, or whom its alias names."""
        spoken = DeviceKey(self.config.site, DeviceClass.VEHICLE, device)
        return self._admission.refusal(self._admission.known_as(codec, spoken)) is None

    def refusals(self, topics: Sequence[str], payloads: Sequence[bytes]) -> list[Request]:
        """Return the answers to commands among messages that are for terminals on the gateway: none is passed on.

        Their formats have no words for it, and who waits for an answer is not to take silence for a lost message.
        """
        found: list[Request] = []
        # Payloads are cut out when they are looked at, and hardly any is a command.
        commands = [nth for nth, topic in enumerate(topics) if topic.endswith(COMMAND_LEVEL)] if self.terminals else []
        for nth in commands:
            try:
                key, command = parse(topics[nth]).key, decode_command(payloads[nth])
            except ValueError:
                continue
            codec = self._spoken_by(key)
            if codec:
                why = f"it speaks {codec} over the gateway, which passes no commands on; nothing was done"
                answer = encode(CommandAnswer(VERSION, command.id, ok=False, detail=why))
                found.append(Request(topic_of(key, Stream.COMMAND_ACK), answer))
        return found

    def _spoken_by(self, key: DeviceKey) -> str:
        """Return the format of the terminal that is a device, "" where none on the gateway is."""
        for codec, number in self.terminals:
            spoken = DeviceKey(self.config.site, DeviceClass.VEHICLE, number)
            if self._admission.known_as(codec, spoken) == key:
                return codec
        return ""

    def status(self) -> dict[str, int]:
        """Return the figures that the worker reports, of this life of the process."""
        figures = {
            "gateway_connections": len(self.connections),
            "gateway_terminals": len(self.terminals),
            "gateway_waiting": self.waiting_frames,
            "gateway_accepted": self.accepted,
            "gateway_frames": self.frames,
            "gateway_bytes": self.frame_bytes,
            "gateway_garbage_bytes": self.garbage,
            "gateway_pauses": self.pauses,
            "gateway_parts_asked": self.parts_asked,
            "gateway_parts_given_up": self.parts_given_up,
        }
        figures |= {f"gateway_refused_{reason}": count for reason, count in self.refused.items()}
        return figures | {f"gateway_closed_{reason}": count for reason, count in self.closed.items()}

    async def _deliver(self) -> bool:
        """Make durable what waits and send the replies; False if that was not possible before the end."""
        self._arrived.clear()
        batch, self.waiting = self.waiting, []
        if not batch:
            return True
        topics = [connection.topic for connection, said in batch for _ in said.frames]
        frames = [frame for _, said in batch for frame in said.frames]
        count = len(frames)
        flags, no_ids = np.full(count, AT_LEAST_ONCE), np.zeros(count, np.int64)
        if frames and not await self.take(MessageTable(topics, frames, flags, no_ids)):
            return False
        self.frames += count
        of_bytes = sum(map(len, frames))
        self.frame_bytes += of_bytes
        self.waiting_frames -= count
        self.waiting_bytes -= of_bytes
        replies: dict[_Connection, bytes] = {}
        for connection, said in batch:
            if said.reply:
                # One packet of many: what the system keeps of small ones is far more than their bytes.
                replies[connection] = replies[connection] + said.reply if connection in replies else said.reply
        for connection, reply in replies.items():
            connection.send(reply)
        if self.paused and self.waiting_frames <= self.config.max_waiting // 2:
            self._stood_still += asyncio.get_running_loop().time() - self._paused_at
            self.paused = False
        return True

    async def _read(self) -> None:
        """Look at the sockets again and again; at once where one had more than is taken off it at a time."""
        while True:
            more = not self.paused and self._look()
            await asyncio.sleep(0 if more else self.config.gather_s)

    def _look(self) -> bool:
        """Take what has come on every connection, and the connections that have; return whether there is more."""
        more, now = False, self.clock()
        for key, events in self.selector.select(0):
            connection: _Connection | None = key.data
            if connection is None:
                self._accept(key.fd, now)
                continue
            if events & selectors.EVENT_WRITE:
                connection.flush()
            if events & selectors.EVENT_READ and connection in self.connections:
                more |= connection.read(now)
            if self.paused:
                return False
        # Not before everything that has come is heard.
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            for connection in list(self.connections):
                if reason := connection.overdue(now):
                    connection.close(reason)
            for connection in list(self.in_parts):
                connection.ask()
        return more

    def _accept(self, listener: int, now: float) -> None:
        """Accept the connections that wait, as far as the system has room for them."""
        codec, listening = self._listening[listener]
        while now >= self._accept_at:
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                log.warning("a connection cannot be accepted: %s; trying again in %.0f s", error, NO_ROOM_S)
                self._accept_at = now + NO_ROOM_S
                return
            self.accepted += 1
            connection = _Connection(self, codec, self._conversation(codec), accepted, now)
            self.connections.add(connection)
            if len(self.connections) > self.config.max_connections:
                connection.close("too_many")

    def _conversation(self, codec: str) -> Conversation:
        if codec == "jt808":
            config = self.config
            return Jt808Conversation(
                self.key, self.now, self._admits[codec], anyone=config.anyone, strict=config.strict
            )
        return TeltonikaConversation(self._admits[codec])


class _Connection:
    """One connection: reads into the gateway's shared buffer, and keeps no more than a frame that is not whole."""

    __slots__ = (
        "_deadline",
        "_gateway",
        "_half_since",
        "_held_up",
        "_socket",
        "_unsent",
        "codec",
        "conversation",
        "topic",
    )

    def __init__(
        self, gateway: Gateway, codec: str, conversation: Conversation, accepted: socket.socket, now: float
    ) -> None:
        self.codec = codec
        self.conversation = conversation
        self.topic = ""
        self._gateway = gateway
        self._socket = accepted
        self._unsent = b""
        self._held_up = False
        """Whether the selector tells when the system takes more."""
        self._half_since = 0.0
        self._deadline = now + gateway.config.introduction_s
        accepted.settimeout(0)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gateway.selector.register(accepted, selectors.EVENT_READ, self)

    def read(self, now: float) -> bool:
        """Take what has come; return whether there may be more."""
        gateway = self._gateway
        try:
            size = self._socket.recv_into(gateway.buffer)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if not size:
            self.close("peer")
            return False
        self._hear(bytes(gateway.buffer[:size]), now)
        return size == READ_BYTES

    def _hear(self, data: bytes, now: float) -> None:
        gateway, talk = self._gateway, self.conversation
        known, garbage = talk.device, talk.garbage
        said = talk.receive(data)
        gateway.garbage += talk.garbage - garbage
        if talk.device and not known:
            self.topic = f"{ROOT}/{gateway.config.site}/{DeviceClass.VEHICLE}/{talk.device}/{self.codec}"
            gateway.introduced(self)
        if talk.device and any(map(_FRAMES, said)):
            self._deadline = now + gateway.config.idle_s
        if not talk.waiting:
            self._half_since = 0.0
        elif said or not self._half_since:
            self._half_since = now
        gateway.heard(self, said)
        if talk.in_parts:
            gateway.in_parts.add(self)
        if talk.over:
            self.close("refused")

    def ask(self) -> None:
        """Have the conversation ask for the parts of messages that have not come."""
        gateway, talk = self._gateway, self.conversation
        gateway.heard(self, talk.due())
        if not talk.in_parts:
            gateway.in_parts.discard(self)

    def overdue(self, now: float) -> str:
        """Return why the connection's time is over, "" if it is not."""
        if self._half_since and now - self._half_since > self._gateway.config.frame_s:
            return "half_frame"
        if now > self._deadline:
            return "silent" if self.conversation.device else "no_introduction"
        return ""

    def send(self, reply: bytes) -> None:
        """Send a reply, unless the terminal is gone or does not read its replies."""
        if self not in self._gateway.connections:
            return
        self._unsent += reply
        if len(self._unsent) == len(reply):
            self.flush()
        if len(self._unsent) > MAX_UNSENT:
            self.close("not_reading")

    def flush(self) -> None:
        """Send what has not been, as far as the system takes it."""
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close("peer")
            return
        if bool(self._unsent) != self._held_up:
            self._held_up = bool(self._unsent)
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._held_up else 0)
            self._gateway.selector.modify(self._socket, wanted, self)

    def close(self, reason: str) -> None:
        """Close it for a reason that is counted; idempotent."""
        gateway = self._gateway
        if self not in gateway.connections:
            return
        gateway.connections.discard(self)
        gateway.in_parts.discard(self)
        gateway.closed[reason] += 1
        gateway.selector.unregister(self._socket)
        self._socket.close()
        self._unsent = b""
        key = self.codec, self.conversation.device
        if gateway.terminals.get(key) is self:
            del gateway.terminals[key]


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Return family and address of everything that a host's name stands for."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _allow_descriptors(connections: int) -> None:
    """Raise the bound on open files, of which the usual 1,024 would keep out all terminals but the first thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES if hard == resource.RLIM_INFINITY else min(connections + OTHER_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < connections + OTHER_FILES:
        log.warning("only %d files may be open here: fewer than %d terminals can connect", wanted, connections)


def key_in(folder: Path) -> bytes:
    """Return the key of a data folder that makes terminals' codes, drawn at random the first time.

    It stays, so that a terminal's code stays. OSError where it can neither be read nor written.
    """
    path, unborn = folder / KEY_FILE, folder / f"{KEY_FILE}.new"
    if path.exists():
        return path.read_bytes()
    key = secrets.token_bytes(KEY_BYTES)
    unborn.unlink(missing_ok=True)
    with os.fdopen(os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    unborn.rename(path)
    return key
