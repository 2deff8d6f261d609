"""Which devices are told what of theirs rests on ingest's disk, and when: a bounded number of messages a second.

A port of 10,000 devices that all publish is told in turn, each every ten seconds; a small one every second.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from analytics.dedup import SequenceTracker
from devices.acks import ASKS, BootMark, ack_topic, encode, mark_of
from ingest.directory import NOBODY, Device

PERIOD_S: Final = 1.0
PER_PERIOD: Final = 1_000
"""Most devices told per period."""
BOOTS: Final = 4
"""Boots told per device: the current one, and those before it whose messages the device still sends again."""


class Told(NamedTuple):
    """A retained message to a device."""

    topic: str
    payload: bytes


class Acknowledger:
    """Remembers what each device was told, and finds those with news."""

    def __init__(self) -> None:
        """Nobody has been told anything: after a start of ingest each device that asks is told once."""
        self._frames: dict[int, int] = {}
        self._next = 0

    def collect(self, devices: Sequence[Device], limit: int = PER_PERIOD) -> list[Told]:
        """Return what to tell up to ``limit`` devices that asked for it and have been heard since they were told.

        To be called only while every frame that the trackers have seen is durable.
        """
        told: list[Told] = []
        start = self._next % max(len(devices), 1)
        for device in chain(islice(devices, start, None), islice(devices, start)):
            if len(told) >= limit:
                self._next = device.index
                return told
            if device.index == NOBODY or device.info.get(ASKS) is not True:
                continue
            if self._frames.get(device.index) == device.frames:
                continue
            self._frames[device.index] = device.frames
            marks = tuple(marks_of(device.tracker))
            if marks:
                told.append(Told(ack_topic(device.key), encode(marks)))
        return told


def marks_of(tracker: SequenceTracker) -> Iterator[BootMark]:
    """Yield what is durable of the boots heard last, the newest at the end.

    A number that the tracker has given up (more than 4,096 gaps in one boot) counts as told: the ledger has it as lost.
    """
    for boot, state in tracker.recent(BOOTS):
        yield mark_of(boot, state.low, state.high, list(zip(state.starts, state.ends, strict=True)))
