"""Commands that arrive at a device: each is done once, however often it is delivered, and always answered."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from devices.client.config import Scalar
from devices.commands import VERSION, Command, CommandAnswer, decode_command, encode

log = logging.getLogger(__name__)

REMEMBERED: Final = 256
"""Answers kept for commands that are delivered again."""
OnCommand = Callable[[Command], Mapping[str, Scalar] | None]
"""Does a command and returns facts for the answer; an exception says that it was not done, and why."""


class CommandDesk:
    """Takes the payloads of ``cmd`` and returns those of ``cmd-ack``."""

    def __init__(self, on_command: OnCommand | None) -> None:
        """Without ``on_command`` every command is answered as not done."""
        self._on_command = on_command
        self._answers: OrderedDict[str, bytes] = OrderedDict()

    def handle(self, payload: bytes) -> bytes | None:
        """Return the answer to a command; None where the payload is none, so that there is nothing to answer."""
        try:
            command = decode_command(payload)
        except ValueError as error:
            log.warning("ignored: %s", error)
            return None
        answer = self._answers.get(command.id)
        if answer is None:
            answer = self._answers[command.id] = encode(self._do(command))
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
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
