"""Commands to a device and its answers: the payloads of the streams ``cmd`` and ``cmd-ack``."""

from typing import Annotated, Final

import msgspec

from devices.scalars import FiniteScalar, as_floats
from devices.times import parse_rfc3339

VERSION: Final = 1
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Facts = Annotated[dict[str, FiniteScalar], msgspec.Meta(max_length=64)]


class Command(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a device is asked to do; the same ``id`` again is the same command sent again."""

    v: int
    id: Id
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    args: Facts = {}
    expires: str = ""
    """From when on it is not to be begun any more, RFC 3339; "" is never."""

    @property
    def expires_ns(self) -> int | None:
        """Return ``expires`` in ns UTC, None where it never does."""
        return parse_rfc3339(self.expires) if self.expires else None

    @property
    def asked(self) -> bytes:
        """Return what is asked for, whichever message asks: the same id with other content is another's.

        The same number asks for the same, and this is how devices have kept it since before there were whole ones.
        """
        return _encode([self.name, as_floats(self.args)])


class CommandAnswer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What became of a command."""

    v: int
    id: Id
    ok: bool
    detail: str = ""
    """Why it was not done, for people."""
    data: Facts = {}


_encode = msgspec.json.Encoder().encode
_decode_command = msgspec.json.Decoder(Command).decode
_decode_answer = msgspec.json.Decoder(CommandAnswer).decode


def encode(message: Command | CommandAnswer) -> bytes:
    """Return the payload of a command or of an answer, JSON."""
    return _encode(message)


def decode_command(payload: bytes) -> Command:
    """Return the command in a payload; ValueError says what is wrong with it."""
    try:
        found = _decode_command(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"not a command: {error}"
        raise ValueError(msg) from None
    if found.v != VERSION:
        msg = f"a command of version {found.v}: this build reads {VERSION}"
        raise ValueError(msg)
    try:
        found.expires_ns  # noqa: B018 - looked at, so that it can be relied on
    except ValueError as error:
        msg = f"not a command: expires: {error}"
        raise ValueError(msg) from None
    return found


def decode_answer(payload: bytes) -> CommandAnswer:
    """Return the answer in a payload; ValueError says what is wrong with it."""
    try:
        found = _decode_answer(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"not an answer to a command: {error}"
        raise ValueError(msg) from None
    if found.v != VERSION:
        msg = f"an answer of version {found.v}: this build reads {VERSION}"
        raise ValueError(msg)
    return found
