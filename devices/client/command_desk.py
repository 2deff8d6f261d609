"""Commands that arrive at a device: each is done once, however often it is delivered, and always answered."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from devices.client.command_log import CommandLog
from devices.client.ring import RingError
from devices.commands import VERSION, Command, CommandAnswer, decode_command, encode
from devices.scalars import Scalar
from devices.times import format_rfc3339

log = logging.getLogger(__name__)

OnCommand = Callable[[Command], Mapping[str, Scalar] | None]
"""Does a command and returns facts for the answer; an exception says that it was not done, and why."""


class CommandDesk:
    """Takes the payloads of ``cmd`` and returns those of ``cmd-ack``."""

    def __init__(
        self,
        on_command: OnCommand | None,
        folder: Path | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """Without ``on_command`` every command is answered as not done. ``now`` gives ns UTC.

        ``folder``: where is kept which commands were begun; without it that ends with the process. Raises RingError.
        """
        self._on_command = on_command
        self._log = CommandLog(folder)
        self._now = now

    def handle(self, payload: bytes, *, retained: bool = False) -> bytes | None:
        """Return the answer to a command; None where the payload is none, so that there is nothing to answer.

        ``retained``: it was lying at the broker before anybody listened, so nobody can say how old it is.
        """
        try:
            command = decode_command(payload)
        except ValueError as error:
            log.warning("ignored: %s", error)
            return None
        if retained:
            return _refused(command, "a retained command, which may be of any age, is not done")
        try:
            begun = self._log.find(command.id)
            if begun is None:
                return self._first(command)
        except RingError as error:
            log.error("command %s is not done: %s", command.name, error)  # noqa: TRY400 - expected of a full disk
            return _refused(command, f"it cannot be noted that it was begun, so it was not: {error}")
        if begun.asked != command.asked:
            return _refused(command, "this id was that of another command; nothing was done")
        return begun.answer or _refused(command, "it was begun before a restart; whether it was done is not known")

    def close(self) -> None:
        """Close the log; idempotent."""
        self._log.close()

    def _first(self, command: Command) -> bytes:
        expires, now = command.expires_ns, self._now()
        if expires is not None and now >= expires:
            said = f"it expired at {command.expires}; the time here is {format_rfc3339(now)}; nothing was done"
            return _refused(command, said)
        self._log.begin(command.id, command.asked, expires, now)
        answer = encode(self._do(command))
        try:
            self._log.end(command.id, answer)
        except RingError as error:
            # It is done all the same; asked again, the answer will be that nobody knows.
            log.error("the answer to command %s is not kept: %s", command.name, error)  # noqa: TRY400 - as above
        return answer

    def _do(self, command: Command) -> CommandAnswer:
        if self._on_command is None:
            return CommandAnswer(VERSION, command.id, ok=False, detail="this device takes no commands")
        try:
            data = self._on_command(command)
        except Exception as error:
            log.exception("command %s failed", command.name)
            return CommandAnswer(VERSION, command.id, ok=False, detail=f"{type(error).__name__}: {error}"[:200])
        return CommandAnswer(VERSION, command.id, ok=True, data=dict(data or {}))


def _refused(command: Command, why: str) -> bytes:
    return encode(CommandAnswer(VERSION, command.id, ok=False, detail=why))
