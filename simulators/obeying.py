"""Commands to simulated devices: each is answered as the device client answers, and has an effect where it makes sense.

    cmd ─► CommandDesk of the device ─► status: it says again what it is
                 │                      set_rate: it reports more often, or more seldom
                 └─► cmd-ack            anything else: refused by name

Devices that speak JT/T 808 are left out: at their gateway ingest answers for them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from devices.client.command_desk import CommandDesk
from devices.commands import Command
from devices.scalars import Scalar
from devices.topics import ROOT, DeviceKey, Stream, TopicError, parse, topic_of
from simulators.messages import Message, PortMessages

COMMANDS: Final = ("status", "set_rate")
SLOWEST_HZ: Final = 0.01
FASTEST_HZ: Final = 10.0
TERMINAL: Final = "jt808"


class UnknownCommandError(ValueError):
    """A device does not know a command; the message names both it and those that it knows."""


class ArgumentError(ValueError):
    """An argument of a command is missing, unknown or not what it has to be; the message begins with its name."""


def command_filters(source: PortMessages, site: str) -> list[str]:
    """Return the topic filters of the commands to the devices of a site, and to its Sparkplug nodes."""
    return [f"{ROOT}/{site}/+/+/{Stream.COMMAND}", *source.command_filters()]


class Obeying:
    """The desks of the devices of a port, each made when its first command comes."""

    def __init__(self, source: PortMessages, clock: Callable[[], int], offer: Callable[[Message], object]) -> None:
        """``clock`` gives ns UTC; ``offer`` takes an answer for publishing."""
        self._source = source
        self._clock = clock
        self._offer = offer
        self._devices: dict[DeviceKey, int] = {
            device.key: index
            for index, device in enumerate(source.devices)
            if device.speaker is None or device.speaker.codec != TERMINAL
        }
        self._desks: dict[int, CommandDesk] = {}

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - as the broker says it
        """Take a message: have a device do what it says and answer, or a Sparkplug node look at it."""
        try:
            key, stream = parse(topic)
        except TopicError:
            self._source.command(topic, payload)
            return
        index = self._devices.get(key)
        if stream is not Stream.COMMAND or index is None:
            return
        desk = self._desks.get(index)
        if desk is None:
            # Nothing on a disk: what a simulated device has begun ends with the simulator, like the device itself.
            desk = self._desks[index] = CommandDesk(partial(self._obey, index), now=self._clock)
        answer = desk.handle(payload, retained=retained)
        if answer is not None:
            seq = max(0, self._source.devices[index].seq - 1)
            self._offer(Message(self._clock(), index, seq, topic_of(key, Stream.COMMAND_ACK), answer, retain=False))

    def close(self) -> None:
        """Close the desks."""
        for desk in self._desks.values():
            desk.close()

    def _obey(self, index: int, command: Command) -> Mapping[str, Scalar]:
        """Do a command and return the facts of its answer; UnknownCommandError and ArgumentError say why not."""
        match command.name:
            case "status":
                _check(command.args, ())
                self._source.ask_status(index)
                device = self._source.devices[index]
                return {"online": True, "seq": device.seq, "hz": self._source.rate_of(index)}
            case "set_rate":
                _check(command.args, ("hz",))
                return {"hz": self._set_rate(index, command.args["hz"])}
        known = ", ".join(COMMANDS)
        raise UnknownCommandError(f"{command.name!r}: this device knows {known}")

    def _set_rate(self, index: int, hertz: Scalar) -> float:
        if isinstance(hertz, bool) or not isinstance(hertz, int | float):
            raise ArgumentError(f"hz: expected a number, got {hertz!r:.40}")
        if not SLOWEST_HZ <= hertz <= FASTEST_HZ:
            raise ArgumentError(f"hz: {hertz:g} is outside {SLOWEST_HZ:g} to {FASTEST_HZ:g}")
        try:
            return self._source.set_rate(index, float(hertz))
        except ValueError as error:
            raise ArgumentError(f"hz: {error}") from None


def _check(args: Mapping[str, Scalar], wanted: tuple[str, ...]) -> None:
    """Raise ArgumentError where an argument is missing or not known."""
    for name in wanted:
        if name not in args:
            raise ArgumentError(f"{name}: missing")
    for name in args:
        if name not in wanted:
            raise ArgumentError(f"{name}: not known; expected {', '.join(wanted) or 'no argument'}")
