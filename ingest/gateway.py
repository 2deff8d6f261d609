"""The TCP gateway: terminals that speak no MQTT connect here; their frames take the same way as every other.

    terminal ──► conversation ──► waiting ──► journal, pipeline ──► replies
                  (per connection)  (bounded: beyond, sockets are not read)

A reply is sent after the frames that it answers for are durable. Frames travel under the topic
``port/{site}/vehicle/{number or IMEI}/{codec}``.
"""

import asyncio
import logging
import os
import resource
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

from devices.topics import ROOT, SITE, DeviceKey
from devices.vocabulary import DeviceClass
from ingest.conversations import NOT_REGISTERED, Conversation, Jt808Conversation, Said, TeltonikaConversation
from ingest.intake import Message
from store.admission import EVERYBODY, Admission

log = logging.getLogger(__name__)

KEY_FILE: Final = "gateway.key"
KEY_BYTES: Final = 32
READ_BYTES: Final = 16_384
"""Bytes taken off a socket at once, into one buffer that all connections share."""
MAX_UNSENT: Final = 16_384
"""Bytes of replies that a terminal may leave unread."""
AT_LEAST_ONCE: Final = 1
SWEEP_S: Final = 1.0
BACKLOG: Final = 1_024
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
    max_connections: int = 10_000
    """Connections beyond this many are closed at once."""
    introduction_s: float = 30.0
    """How long a terminal may take to say who it is, s."""
    frame_s: float = 30.0
    """How long a frame may take from its first byte to its last, s."""
    idle_s: float = 900.0
    """Silence after which a terminal is taken for gone, s."""
    gather_s: float = 0.05
    """How long frames gather before they are made durable together, s."""
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
        take: Callable[[list[Message]], Awaitable[bool]],
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
        self.paused: set[_Connection] = set()
        self.accepted = self.frames = self.frame_bytes = self.garbage = self.missed = self.pauses = 0
        self.refused: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.ports: dict[str, int] = {}
        """Codec → port, once listening."""
        self._arrived = asyncio.Event()
        self._servers: list[asyncio.Server] = []

    async def listen(self) -> None:
        """Listen on the ports wanted; GatewayError where that is not possible."""
        _allow_descriptors(self.config.max_connections)
        for codec, port in (("jt808", self.config.jt808_port), ("teltonika", self.config.teltonika_port)):
            if port is None:
                continue
            try:
                server = await asyncio.get_running_loop().create_server(
                    lambda codec=codec: _Connection(self, codec, self._conversation(codec)),  # type: ignore[misc]
                    self.config.host,
                    port,
                    backlog=BACKLOG,
                )
            except OSError as error:
                self.close()
                msg = f"cannot listen for {codec} on {self.config.host}, port {port}: {error.strerror or error}"
                raise GatewayError(msg) from None
            self._servers.append(server)
            self.ports[codec] = server.sockets[0].getsockname()[1]
            log.info("listening for %s on %s, port %d", codec, self.config.host, self.ports[codec])

    async def run(self, stop: asyncio.Event) -> None:
        """Hand on what comes until ``stop``, then what has come until then; close every connection."""
        sweeping = asyncio.create_task(self._sweep(), name="gateway-sweep")
        stopping = asyncio.create_task(stop.wait(), name="gateway-stop")
        try:
            while not stop.is_set():
                arriving = asyncio.create_task(self._arrived.wait())
                await asyncio.wait({arriving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                arriving.cancel()
                if not stop.is_set():
                    await asyncio.sleep(self.config.gather_s)
                if not await self._deliver():
                    break
        finally:
            sweeping.cancel()
            stopping.cancel()
            self.close()

    def close(self) -> None:
        """Stop listening and close every connection; idempotent."""
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.close("shutdown")

    def heard(self, connection: "_Connection", said: Sequence[Said]) -> None:
        """Take what a connection's bytes have led to."""
        for each in said:
            if each.refused:
                self.refused[each.refused] += 1
            self.waiting_frames += len(each.frames)
            self.waiting_bytes += sum(map(len, each.frames))
            self.waiting.append((connection, each))
        if said:
            self._arrived.set()
        if self.waiting_frames > self.config.max_waiting or self.waiting_bytes > self.config.max_waiting_bytes:
            self.pauses += connection not in self.paused
            self.paused.add(connection)
            connection.pause()

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
        alias = self._admission.aliases.get(f"{codec}:{device}")
        key = DeviceKey.from_uid(alias) if alias else DeviceKey(self.config.site, DeviceClass.VEHICLE, device)
        return self._admission.refusal(key) is None

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
            "gateway_missed": self.missed,
            "gateway_pauses": self.pauses,
        }
        figures |= {f"gateway_refused_{reason}": count for reason, count in self.refused.items()}
        return figures | {f"gateway_closed_{reason}": count for reason, count in self.closed.items()}

    async def _deliver(self) -> bool:
        """Make durable what waits and send the replies; False if that was not possible before the end."""
        self._arrived.clear()
        batch, self.waiting = self.waiting, []
        if not batch:
            return True
        messages = [
            Message(connection.topic, frame, AT_LEAST_ONCE, None) for connection, said in batch for frame in said.frames
        ]
        if messages and not await self.take(messages):
            return False
        self.frames += len(messages)
        of_bytes = sum(len(message.payload) for message in messages)
        self.frame_bytes += of_bytes
        self.waiting_frames -= len(messages)
        self.waiting_bytes -= of_bytes
        for connection, said in batch:
            if said.reply:
                connection.send(said.reply)
        if self.waiting_frames <= self.config.max_waiting // 2:
            paused, self.paused = self.paused, set()
            for connection in paused:
                connection.resume()
        return True

    async def _sweep(self) -> None:
        """Now and then, close the connections whose time is over."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = asyncio.get_running_loop().time()
            for connection in list(self.connections - self.paused):
                reason = connection.overdue(now)
                if reason:
                    connection.close(reason)

    def _conversation(self, codec: str) -> Conversation:
        if codec == "jt808":
            return Jt808Conversation(self.key, self.now, partial(self.admits, codec), anyone=self.config.anyone)
        return TeltonikaConversation(partial(self.admits, codec))


class _Connection(asyncio.BufferedProtocol):
    """One connection: reads into the gateway's shared buffer, and keeps no more than a frame that is not whole."""

    def __init__(self, gateway: Gateway, codec: str, conversation: Conversation) -> None:
        self.codec = codec
        self.conversation = conversation
        self.topic = ""
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._deadline = self._half_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        gateway, config = self._gateway, self._gateway.config
        self._transport = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().time() + config.introduction_s
        gateway.connections.add(self)
        gateway.accepted += 1
        if len(gateway.connections) > config.max_connections:
            self.close("too_many")

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._gateway.buffer

    def buffer_updated(self, nbytes: int) -> None:
        gateway, talk = self._gateway, self.conversation
        known, garbage, missed = talk.device, talk.garbage, talk.missed
        said = talk.receive(bytes(gateway.buffer[:nbytes]))
        gateway.garbage += talk.garbage - garbage
        gateway.missed += talk.missed - missed
        if talk.device and not known:
            self.topic = f"{ROOT}/{gateway.config.site}/{DeviceClass.VEHICLE}/{talk.device}/{self.codec}"
            gateway.introduced(self)
        now = asyncio.get_running_loop().time()
        if talk.device and any(each.frames for each in said):
            self._deadline = now + gateway.config.idle_s
        if not talk.waiting:
            self._half_since = 0.0
        elif said or not self._half_since:
            self._half_since = now
        gateway.heard(self, said)
        if talk.over:
            self.close("refused")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._forget("peer")

    def overdue(self, now: float) -> str:
        """Return why the connection's time is over, "" if it is not."""
        if self._half_since and now - self._half_since > self._gateway.config.frame_s:
            return "half_frame"
        if now > self._deadline:
            return "silent" if self.conversation.device else "no_introduction"
        return ""

    def send(self, reply: bytes) -> None:
        """Send a reply, unless the terminal is gone or does not read its replies."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(reply)
        if transport.get_write_buffer_size() > MAX_UNSENT:
            self.close("not_reading")

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._half_since = asyncio.get_running_loop().time() if self.conversation.waiting else 0.0
            self._transport.resume_reading()

    def close(self, reason: str) -> None:
        """Close it for a reason that is counted; idempotent."""
        self._forget(reason)
        if self._transport is not None:
            self._transport.close()

    def _forget(self, reason: str) -> None:
        gateway = self._gateway
        if self not in gateway.connections:
            return
        gateway.connections.discard(self)
        gateway.paused.discard(self)
        gateway.closed[reason] += 1
        key = self.codec, self.conversation.device
        if gateway.terminals.get(key) is self:
            del gateway.terminals[key]


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
