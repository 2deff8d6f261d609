"""Vehicle terminals on real connections: JT/T 808 over TCP to a gateway, one connection each.

A terminal registers, authenticates with the code it was given, and reports; each report waits for the gateway's reply.
What it could not tell while there was no connection it keeps, and tells afterwards in batches, marked as late. A reply
that does not come, or that refuses, ends the connection; what was not answered well is told again on the next.
"""

import asyncio
import contextlib
import logging
import random
import resource
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Self

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808_frames import (
    AUTHENTICATE,
    BATCH,
    FLAG,
    HEARTBEAT,
    LOCATION,
    REGISTER,
    REGISTER_REPLY,
    REPLY,
    Message,
    frame_of,
    open_frame,
)
from devices.rejects import RejectError
from simulators.accounts import Account, Lag, Outgoing
from simulators.ending import end

log = logging.getLogger(__name__)

REPLY_S: Final = 10.0
"""How long a reply is waited for."""
HEARTBEAT_S: Final = 60.0
"""Silence after which a terminal says that it is there."""
MOST_IN_BATCH: Final = 24
"""Locations of a batch: it fits into one frame."""
CONNECTING: Final = 100
"""Connections made at the same time."""
FIRST_BACKOFF_S: Final = 0.2
LONGEST_BACKOFF_S: Final = 5.0
OTHER_FILES: Final = 256
SERIALS: Final = 65_536


class RefusedError(Exception):
    """The gateway answered that it does not take what was said."""


class Vehicle(NamedTuple):
    """Whose terminal it is."""

    phone: str
    plate: str


class Terminals:
    """The terminals of a port; takes locations as frames, numbers and sends them."""

    def __init__(
        self,
        address: tuple[str, int],
        vehicles: Mapping[int, Vehicle],
        accounts: Sequence[Account],
        lag: Lag,
        clock: Callable[[], int],
    ) -> None:
        """``vehicles``: device number → vehicle. What is sent and answered is entered in ``accounts`` and ``lag``."""
        self.address = address
        self.accounts = accounts
        self.lag = lag
        self.clock = clock
        self.counts: Counter[str] = Counter()
        """What happened: ``connections``, ``registrations``, ``batches``, ``backfilled``, ``resent``, ``refused``, …"""
        self.connecting = asyncio.Semaphore(CONNECTING)
        self.connected = 0
        self._terminals = {device: _Terminal(self, device, vehicle) for device, vehicle in vehicles.items()}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to connect."""
        _allow_files(len(self._terminals))
        self._tasks = [asyncio.create_task(each.run()) for each in self._terminals.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        await end(self._tasks)

    @property
    def outstanding(self) -> int:
        """How many locations have not been answered."""
        return sum(len(each.kept) for each in self._terminals.values())

    def take(self, message: Outgoing) -> bool:
        """Whether a message goes to the gateway: a location of a terminal here."""
        return message.device in self._terminals and message.topic.endswith("/jt808")

    def offer(self, message: Outgoing) -> None:
        """Take a location for sending; the caller bounds :attr:`outstanding`."""
        self._terminals[message.device].keep(message)

    async def drain(self, patience_s: float) -> bool:
        """Wait until every location is answered, ``patience_s`` at most; return whether all are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                for each in self._terminals.values():
                    await each.idle.wait()
        return not self.outstanding

    def summary(self) -> dict[str, int]:
        """Return what happened, and how many are connected now."""
        return {"connected": self.connected, "outstanding": self.outstanding, **dict(sorted(self.counts.items()))}


class _Terminal:
    """One terminal: what it keeps, and its connection."""

    def __init__(self, all_of_them: Terminals, device: int, vehicle: Vehicle) -> None:
        self.kept: deque[Outgoing] = deque()
        self.idle = asyncio.Event()
        self.idle.set()
        self._fresh = asyncio.Event()
        self._all = all_of_them
        self._vehicle = vehicle
        self._account = all_of_them.accounts[device]
        self._tried = 0
        """How many of those kept have been sent before."""
        self._serial = 0
        self._code: str | None = None
        self._attempts = 0

    def keep(self, message: Outgoing) -> None:
        """Take a location."""
        self.kept.append(message)
        self._fresh.set()
        self.idle.clear()

    async def run(self) -> None:
        """Connect, report, connect again with growing, jittered pauses; until cancelled."""
        counts = self._all.counts
        while True:
            try:
                await self._connect_once()
            except RefusedError:
                counts["refused"] += 1
                self._code = None
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                if not self._attempts:
                    log.info("terminal %s: %r; trying again", self._vehicle.phone, error)
            pause = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._attempts, 10))
            self._attempts += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _connect_once(self) -> None:
        async with self._all.connecting, asyncio.timeout(REPLY_S):
            reader, writer = await asyncio.open_connection(*self._all.address)
        line = _Line(reader, writer, self._vehicle.phone)
        self._all.counts["connections"] += 1
        try:
            await self._introduce(line)
            self._attempts = 0
            self._all.connected += 1
            try:
                await self._report(line)
            finally:
                self._all.connected -= 1
        finally:
            writer.close()

    async def _introduce(self, line: "_Line") -> None:
        """Register, once, and authenticate."""
        if self._code is None:
            reply = await self._asked(line, REGISTER, bodies.registration(self._vehicle.plate))
            self._code = reply.body[3:].decode("gbk")
            self._all.counts["registrations"] += 1
        await self._asked(line, AUTHENTICATE, bodies.authentication(self._code))

    async def _report(self, line: "_Line") -> None:
        """Tell what was kept, then each location as it comes; until the connection ends."""
        while len(self.kept) > 1:
            await self._tell(line, min(len(self.kept), MOST_IN_BATCH), late=True)
        while True:
            if self.kept:
                await self._tell(line, 1, late=False)
                continue
            self._fresh.clear()
            self.idle.set()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await line.wait(self._fresh)
            except TimeoutError:
                await self._asked(line, HEARTBEAT, b"")

    async def _tell(self, line: "_Line", count: int, *, late: bool) -> None:
        """Tell the oldest locations, wait for the reply, and keep them no longer."""
        account, counts = self._account, self._all.counts
        messages = [self.kept[nth] for nth in range(count)]
        found = [_location_in(message.payload) for message in messages]
        for message in messages[self._tried :]:
            account.sent += 1
            self._all.lag.add(self._all.clock() - message.due_ns)
        counts["resent"] += min(self._tried, count)
        self._tried = max(self._tried, count)
        sound = [body for body in found if body is not None]
        if late and sound:
            await self._asked(line, BATCH, bodies.batch(sound, late=True))
            counts["batches"] += 1
            counts["backfilled"] += len(sound)
        for message, body in zip(messages, found, strict=True):
            if body is None:
                # A damaged frame leaves as it is. The gateway need not answer it, so there is nothing to wait for.
                line.write(message.payload)
                counts["damaged"] += 1
            elif not late:
                await self._asked(line, LOCATION, body)
        account.acked += len(sound)
        account.last_seq = messages[-1].seq
        if account.first_seq < 0:
            account.first_seq = messages[0].seq
        for _ in messages:
            self.kept.popleft()
        self._tried -= count

    async def _asked(self, line: "_Line", kind: int, body: bytes) -> Message:
        """Say something and wait for the reply; the serial of what gets none is that of what is said instead of it."""
        reply = await line.ask(kind, self._serial, body)
        self._serial = (self._serial + 1) % SERIALS
        return reply


class _Line:
    """A connection to the gateway, on which one message at a time waits for its reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, phone: str) -> None:
        self._reader, self._writer, self._phone = reader, writer, phone

    def write(self, frame: bytes) -> None:
        """Send a frame to which no reply is waited for."""
        self._writer.write(frame)

    async def ask(self, kind: int, serial: int, body: bytes) -> Message:
        """Send a message and return its reply; RefusedError where that is not that it was taken."""
        self._writer.write(frame_of(kind, self._phone, serial, body))
        async with asyncio.timeout(REPLY_S):
            while True:
                frame = await self._reader.readuntil(FLAG)
                try:
                    reply = open_frame(frame, strict=True)
                except RejectError:
                    continue  # the flag before a frame, or one that is damaged: the reply will be missed
                if reply.kind not in {REPLY, REGISTER_REPLY} or int.from_bytes(reply.body[:2]) != serial:
                    continue
                result = reply.body[4 if reply.kind == REPLY else 2]
                if result != bodies.ACCEPTED:
                    raise RefusedError
                return reply

    async def wait(self, event: asyncio.Event) -> None:
        """Wait for something to say; ConnectionResetError where the gateway hangs up meanwhile."""
        waiting = asyncio.create_task(event.wait())
        hanging_up = asyncio.create_task(self._reader.read(1))
        try:
            await asyncio.wait({waiting, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            if hanging_up.done() and not hanging_up.result():
                raise ConnectionResetError
        finally:
            waiting.cancel()
            hanging_up.cancel()
            await asyncio.gather(waiting, hanging_up, return_exceptions=True)


def _location_in(frame: bytes) -> bytes | None:
    """Return the location of a frame, None where it is damaged."""
    try:
        return open_frame(frame, strict=True).body
    except RejectError:
        return None


def _allow_files(connections: int) -> None:
    """Raise the bound on open files as far as it takes and is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("only %d files may be open here: fewer than %d terminals can connect", allowed, connections)
