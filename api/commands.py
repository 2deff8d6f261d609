"""Commands to devices: published over the broker, answered by the device or by nobody, in the audit trail either way.

A command has an id and a time from which on it is not to be begun. The device does what has one id once, so publishing
it again after a lost connection does no harm; broker and device drop it once it has expired; it is never retained.
"""

import asyncio
import logging
import math
import secrets
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import aiomqtt
import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devices.codecs.native import decode_status
from devices.commands import VERSION, Command, CommandAnswer, decode_answer, decode_command, encode
from devices.rejects import RejectError
from devices.scalars import Scalar, is_beyond
from devices.times import NS, format_rfc3339
from devices.topics import DeviceKey, Stream, topic_of
from store.audit import AuditRow
from store.registry import SqlRegistry
from store.system_words import of_address

LONGEST_S: Final = 60.0
"""Longest wait for an answer, s."""
MOST: Final = 16
"""Commands that may wait for their answers at a time, each on a connection of its own."""
RETRY_S: Final = 0.25
REFUSALS: Final = frozenset({4, 5, 134, 135, 138, 140})
"""Codes of a CONNACK that no further try will change: bad credentials, not authorised, banned."""

log = logging.getLogger(__name__)


class CommandNotSentError(Exception):
    """A command that certainly nobody was given; the message says why."""

    def __init__(self, message: str, *, refused: bool) -> None:
        """``refused``: the broker answers, and does not let us."""
        super().__init__(message)
        self.refused = refused


class Outcome(StrEnum):
    """What became of a command, as far as anybody has said."""

    DONE = "done"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where commands are published, and as whom."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was published, and its answer."""

    uid: str
    id: str
    name: str
    args: Mapping[str, Scalar]
    sent: str
    expires: str
    outcome: Outcome
    answered: str | None
    """When the answer came, None without one."""
    detail: str
    data: Mapping[str, Scalar]


class _Client(aiomqtt.Client):
    """Knows whether the broker has refused a message, which aiomqtt takes for an acknowledgement."""

    refusal = ""

    def _on_publish(
        self,
        client: Any,  # noqa: ANN401 - as in aiomqtt
        userdata: Any,  # noqa: ANN401 - as in aiomqtt
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        if reason_code.is_failure:
            self.refusal = str(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)


class Commander:
    """Sends commands, and notes each in the audit trail before and after."""

    def __init__(self, broker: BrokerAddress, audit: SqlRegistry, clock: Callable[[], int]) -> None:
        """``audit`` is open for writing; ``clock`` gives now, ns UTC."""
        self._broker = broker
        self._audit = audit
        self._clock = clock
        self._under_way = 0

    async def send(
        self,
        key: DeviceKey,
        name: str,
        args: Mapping[str, Scalar],
        *,
        wait_s: float,
        actor: str,
        command_id: str | None = None,
    ) -> Sent:
        """Publish a command and wait for its answer, up to ``wait_s``, after which it is not begun any more.

        ValueError names a field that cannot be; CommandNotSentError, StoreUnreachableError: nobody was given it, nor
        with OverflowError, of which there are more than may be under way.
        """
        with self._one_more():
            sent = self._clock()
            expires = format_rfc3339(sent + round(wait_s * NS))
            given = command_id or f"c-{secrets.token_hex(8)}"
            if beyond := [name for name, value in args.items() if is_beyond(value)]:
                raise ValueError(f"args: {beyond[0]}: a whole number beyond 64 bits")
            command = decode_command(encode(Command(VERSION, given, name, dict(args), expires)))
            # Written first: what cannot be noted is not sent.
            await self._note(key, "command.send", actor, command, msgspec.json.encode(command.args).decode())
            try:
                heard = await ask(self._broker, key, command, wait_s)
            except CommandNotSentError as error:
                await self._note_end(key, actor, command, f"not sent: {error}")
                raise
            found = _sent(key, command, sent, heard, self._clock(), wait_s)
            await self._note_end(key, actor, command, f"{found.outcome} {found.detail}".strip())
            return found

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """Count a command while it is under way; OverflowError where there are as many as may be."""
        if self._under_way >= MOST:
            raise OverflowError(f"{MOST} commands wait for their answers")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _note(self, key: DeviceKey, action: str, actor: str, command: Command, detail: str) -> None:
        row = AuditRow(
            ts_ns=self._clock(),
            actor=actor,
            action=action,
            subject=key.uid,
            detail=f"{command.id} {command.name} {detail}",
        )
        await asyncio.to_thread(self._audit.note, [row])

    async def _note_end(self, key: DeviceKey, actor: str, command: Command, detail: str) -> None:
        try:
            await self._note(key, "command.end", actor, command, detail)
        except Exception:
            # What the device did is done, and the caller is to hear of it.
            log.exception("%s: how command %s ended is not in the audit trail: %s", key.uid, command.id, detail)


class _Heard(msgspec.Struct):
    """What was heard of a device while its answer was waited for."""

    answer: CommandAnswer | None = None
    offline: bool = False
    """Whether its newest status says that it is not there."""


async def ask(broker: BrokerAddress, key: DeviceKey, command: Command, wait_s: float) -> _Heard:
    """Publish a command and return what was heard in time; CommandNotSentError if it was not taken.

    It is published again where the first time may have been in vain: on a connection that was lost and is there again,
    and for a device that connects meanwhile. With the same id it is the same command.
    """
    clock = asyncio.get_running_loop().time
    deadline, perhaps_taken, heard = clock() + wait_s, False, _Heard()
    while True:
        client = _client_of(broker, max(0.1, deadline - clock()))
        try:
            async with client:
                # Neither answers nor news are kept for who comes late: who is to hear them listens first.
                for stream in (Stream.COMMAND_ACK, Stream.STATUS):
                    await client.subscribe(topic_of(key, stream), qos=1)
                perhaps_taken = True
                await _publish(client, key, command, deadline - clock())
                await _listen(client, key, command, deadline, heard)
                return heard
        except aiomqtt.MqttError as error:
            code = getattr(error, "rc", None)
            refused = getattr(code, "value", code) in REFUSALS
            if not perhaps_taken or refused:
                said = f"broker {broker.host}:{broker.port}: {of_address(error)}"
                raise CommandNotSentError(said, refused=refused) from None
        if clock() + RETRY_S >= deadline:
            return heard
        await asyncio.sleep(RETRY_S)


async def _publish(client: _Client, key: DeviceKey, command: Command, left_s: float) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    # The broker's own clock: it holds for a device whose clock is wrong, and for one that is away.
    properties.MessageExpiryInterval = max(1, math.ceil(left_s))
    await client.publish(topic_of(key, Stream.COMMAND), encode(command), qos=1, retain=False, properties=properties)
    if client.refusal:
        raise CommandNotSentError(f"the broker does not take the command: {client.refusal}", refused=True)


async def _listen(client: _Client, key: DeviceKey, command: Command, deadline: float, heard: _Heard) -> None:
    """Listen until there is an answer to a command, or no time left."""
    clock, messages = asyncio.get_running_loop().time, client.messages
    while heard.answer is None and clock() < deadline:
        try:
            async with asyncio.timeout_at(deadline):
                message = await anext(messages)
        except TimeoutError:
            return
        payload = bytes(message.payload)
        if str(message.topic) == topic_of(key, Stream.STATUS):
            heard.offline = not _says_online(payload)
            if not heard.offline and not message.retain:
                # It has connected just now, and may not have been there when the command was published.
                await _publish(client, key, command, deadline - clock())
            continue
        try:
            answer = decode_answer(payload)
        except ValueError as error:
            log.warning("%s: %s", message.topic, error)
            continue
        if answer.id == command.id:
            heard.answer = answer


def _says_online(payload: bytes) -> bool:
    try:
        return decode_status(payload).online
    except RejectError as error:
        log.warning("a status that says nothing: %s", error)
        return True


def _client_of(broker: BrokerAddress, timeout_s: float) -> _Client:
    return _Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        identifier=f"quayflow-command-{secrets.token_hex(6)}",
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=broker.tls,
        keepalive=15,
        timeout=timeout_s,
        logger=logging.getLogger(f"{__name__}.client"),
    )


def _sent(key: DeviceKey, command: Command, sent_ns: int, heard: _Heard, now_ns: int, wait_s: float) -> Sent:
    answer = heard.answer
    if answer is None:
        outcome = Outcome.UNANSWERED
        detail = (
            f"no answer within {wait_s:g} s{' from a device that says that it is not there' * heard.offline}, so it is "
            f"not known whether it was done; from {command.expires} on it is not begun any more. The same id again "
            "asks what became of it, and has it done where it was not"
        )
    else:
        outcome, detail = (Outcome.DONE if answer.ok else Outcome.REFUSED), answer.detail
    return Sent(
        uid=key.uid,
        id=command.id,
        name=command.name,
        args=command.args,
        sent=format_rfc3339(sent_ns),
        expires=command.expires,
        outcome=outcome,
        answered=None if answer is None else format_rfc3339(now_ns),
        detail=detail,
        data={} if answer is None else answer.data,
    )
