"""Playing a recording: its entries become messages, moved in time, under one identity or several."""

import hashlib
import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from devices.codecs.native import Telemetry, encode
from devices.topics import Stream
from simulators.moving import clone_of, moved
from simulators.recording import Entry, Recording
from simulators.replay_config import ReplayConfig
from simulators.tracks import Point

STATUS: Final = f"/{Stream.STATUS}"


class Timed(NamedTuple):
    """A message ready to be sent."""

    due_ns: int
    """Since the beginning of the pass, ns."""
    device: int
    seq: int
    topic: str
    payload: bytes
    retain: bool
    verbatim: bool = False
    """Whether it should have been moved in time and could not be."""


class Play:
    """How a recording becomes messages: one device of the replay for each identity of each voice."""

    def __init__(self, config: ReplayConfig, recording: Recording) -> None:
        """Give every identity its number; a recording is played as often as :meth:`messages` is asked."""
        self.recording = recording
        self._config = config
        self._first: list[int] = []
        """Voice → number of its first device."""
        self.names: list[str] = []
        self.boots: list[int] = []
        self.per_pass = 0
        for voice in recording.voices:
            identities = config.scale_devices if voice.can_be_cloned else 1
            self._first.append(len(self.names))
            self.names.append(voice.name)
            for number in range(1, identities):
                topic, _ = clone_of(voice.topic, number) or (voice.topic, "")
                self.names.append(topic.rpartition("/")[0].removeprefix("port/"))
            self.per_pass += voice.messages * identities
        self.boots = [0] * len(self.names)
        self._first.append(len(self.names))

    def shift_ns(self, now_ns: int) -> int:
        """Return what is added to recorded times so that the last message is sent when its own time has come."""
        if self._config.shift == "none":
            return 0
        span = self.recording.last_ns - self.recording.first_ns
        return now_ns - span + round(span / self._config.speed) - self.recording.first_ns

    def topics(self) -> list[tuple[str, int]]:
        """Return each topic of the recording and how many messages a pass has on it."""
        return sorted(self.recording.topics.items())

    def messages(self, shift_ns: int) -> Iterator[Timed]:
        """Yield the messages of a pass in the order of time."""
        for device, name in enumerate(self.names):
            # An unshifted replay of the same recording is the same traffic, a shifted one is new traffic.
            salt = hashlib.blake2b(f"{name}|{shift_ns}".encode(), digest_size=8).digest()
            self.boots[device] = int.from_bytes(salt, "big") >> 1
        first_ns, speed = self.recording.first_ns, self._config.speed
        for entry in self.recording.entries():
            due = round((entry.ts - first_ns) / speed) if math.isfinite(speed) else 0
            first = self._first[entry.sender]
            for device in range(first, self._first[entry.sender + 1]):
                topic, payload, verbatim = self._message(entry, device, device - first, shift_ns)
                yield Timed(due, device, entry.seq, topic, payload, topic.endswith(STATUS), verbatim)

    def _message(self, entry: Entry, device: int, clone: int, shift_ns: int) -> tuple[str, bytes, bool]:
        topic, boot = entry.topic, self.boots[device]
        identity = None
        if clone:
            topic, identity = clone_of(topic, clone) or (topic, None)
        if isinstance(entry.content, Point):
            offset = self.recording.voices[entry.sender].offset
            values = dict(entry.content.values)
            values["x_m"] += offset[0]
            values["y_m"] += offset[1]
            telemetry = Telemetry(v=1, m=dict(values), boot=boot, seq=entry.seq, ts=entry.ts + shift_ns)
            return topic, encode(telemetry, binary=self._config.payload == "msgpack"), False
        content = entry.content
        payload = msgspec.json.encode(content) if isinstance(content, dict) else content
        if not shift_ns and not clone:
            return topic, payload, False
        found = moved(entry.topic, payload, shift_ns, boot if shift_ns else 0, identity)
        return topic, payload if found is None else found, found is None
