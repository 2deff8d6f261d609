"""What the devices of a made world say, and when: vehicles one by one, cranes in blocks too, gates read by read.

A crane's or a gate's own time may run many times as fast as the world's and end with it, as of a device that sends what
it has kept: a world of half a minute then holds hours of lifts and passages, and what comes late comes hours late.
"""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np

from faults.simulation.broker import Publication
from faults.simulation.clock import NS, START_NS

SITE: Final = "CNNGB-SEEDS"
DURATION_S: Final = 18.0
"""How long devices publish, virtual s."""
Published = Iterator[tuple[float, Publication]]
"""When each is published, virtual s; a message may come more than once."""


class Pace(NamedTuple):
    """A device's own time: how many times as fast as the world's, and how far behind at the end, s."""

    times: float
    behind_s: float

    def at(self, at_s: float) -> int:
        """Return the device's time at a time of the world, ns UTC: never ahead of it."""
        return START_NS + round((at_s - (DURATION_S - at_s) * (self.times - 1) - self.behind_s) * NS)


def vehicles(dice: random.Random) -> Published:
    """Yield the messages of a few vehicles, some sent again, some with bad values, some of a device without numbers."""
    for number in range(dice.randint(2, 5)):
        device = f"T-{number:02d}"
        topic = f"port/{SITE}/vehicle/{device}/telemetry"
        numbered = dice.random() < 0.8  # noqa: PLR2004 - most are
        boot, seq, at = dice.getrandbits(32), 0, dice.uniform(0, 1)
        while at < DURATION_S:
            # A device that reboots begins again.
            if dice.random() < 0.01:  # noqa: PLR2004 - now and then
                boot, seq = dice.getrandbits(32), 0
            payload = _reading(dice, at, boot if numbered else None, seq)
            publication = Publication(device, topic, payload, seq if numbered else -1, boot)
            yield at, publication
            yield from _again(dice, at, publication)
            # A device may be off for longer than a window.
            at += dice.expovariate(2.0) + (dice.uniform(5, 15) if dice.random() < 0.01 else 0)  # noqa: PLR2004 - rarely
            seq += 1


def machines(dice: random.Random) -> Published:
    """Yield the messages of up to two cranes and a gate, from which events are found."""
    for number in range(dice.randint(0, 2)):
        speaker = _Crane(dice, f"C-{number}", dice.choice(["quay-crane", "quay-crane", "yard-crane"]))
        yield from _spoken(dice, speaker, 2.5)
    if dice.random() < 0.5:  # noqa: PLR2004 - as likely as not
        yield from _spoken(dice, _Gate(dice, "G-0", "rfid-gate"), 3.0)


class _Speaker(ABC):
    """A device with numbers, in its own time."""

    def __init__(self, dice: random.Random, device: str, device_class: str) -> None:
        self._dice = dice
        self._device = device
        self._class = device_class
        self._boot, self._seq = dice.getrandbits(63), 0
        self.pace = Pace(dice.choice([1.0, 1.0, 20.0, 400.0]), dice.choice([0.0, 9.0]))

    def speak(self, at: float, until: float) -> Publication:
        """Return what it says at a time, and of the time until it speaks next; both virtual s."""
        if self._dice.random() < 0.01:  # noqa: PLR2004 - it reboots now and then
            self._boot, self._seq = self._dice.getrandbits(63), 0
        begin, end = self.pace.at(at), self.pace.at(until)
        stream, body = self._say(begin, end - begin)
        whole = {"v": 1, "boot": self._boot, "seq": self._seq} | body
        topic = f"port/{SITE}/{self._class}/{self._device}/{stream}"
        said = Publication(self._device, topic, msgspec.msgpack.encode(whole), self._seq, self._boot)
        self._seq += 1
        return said

    @abstractmethod
    def _say(self, ts: int, length: int) -> tuple[str, dict[str, object]]:
        """Return the stream and the body of what it says at ``ts`` of so long, both ns, of its own time."""


class _Crane(_Speaker):
    """Picks up and sets down; reports one by one, in blocks, and faults of its own."""

    def __init__(self, dice: random.Random, device: str, device_class: str) -> None:
        super().__init__(dice, device, device_class)
        self._locked = False

    def _say(self, ts: int, length: int) -> tuple[str, dict[str, object]]:
        chance = self._dice.random()
        if chance < 0.05:  # noqa: PLR2004 - rarely
            return "event", {"ts": ts, "type": "fault", "data": {"code": self._dice.randint(1, 9)}}
        if chance < 0.4:  # noqa: PLR2004 - of the others every third
            return "telemetry", {"ts": ts, "m": self._some(self._instant())}
        rows = self._dice.randint(1, 12)
        instants = [self._instant() for _ in range(rows)]
        names = list(self._some(instants[0]))
        values = np.array([[instant[name] for name in names] for instant in instants], "<f4")
        if self._dice.random() < 0.1:  # noqa: PLR2004 - a sensor fails now and then
            values[self._dice.randrange(rows), self._dice.randrange(len(names))] = self._dice.choice([np.nan, 1e9])
        dt = max(1_000_000, length // rows)
        return "telemetry", {"t0": ts, "dt": dt, "names": names, "f32": values.tobytes()}

    def _instant(self) -> dict[str, float]:
        if self._dice.random() < 0.2:  # noqa: PLR2004 - now and then
            self._locked = not self._locked
        return {
            "spreader_locked": float(self._locked),
            "load_t": self._dice.uniform(8, 40) if self._locked else 0.3,
            "trolley_position_m": self._dice.uniform(-30, 40),
            "hoist_height_m": self._dice.uniform(0, 30),
        }

    def _some(self, instant: dict[str, float]) -> dict[str, float]:
        """Return some of its values, in any order: at least one."""
        names = list(instant)
        self._dice.shuffle(names)
        return {name: instant[name] for name in names[: self._dice.randint(1, len(names))]}


class _Gate(_Speaker):
    """Reads the tag of whoever passes, a few times each."""

    def __init__(self, dice: random.Random, device: str, device_class: str) -> None:
        super().__init__(dice, device, device_class)
        self._tag = 0

    def _say(self, ts: int, length: int) -> tuple[str, dict[str, object]]:
        del length
        if self._dice.random() < 0.3:  # noqa: PLR2004 - the next one comes
            self._tag += 1
        data = {"tag": f"E2{self._tag:04d}", "antenna": 1, "rssi_dbm": -self._dice.randint(40, 70)}
        return "event", {"ts": ts, "type": "tag_read", "data": data}


def _spoken(dice: random.Random, speaker: _Speaker, rate_hz: float) -> Published:
    """Yield what a device says, some of it late, some again."""
    at = dice.uniform(0, 1)
    while at < DURATION_S:
        until = min(DURATION_S, at + dice.expovariate(rate_hz))
        publication = speaker.speak(at, until)
        late = at + (dice.uniform(0, 6) if dice.random() < 0.1 else 0.0)  # noqa: PLR2004 - it took another way
        yield late, publication
        yield from _again(dice, late, publication)
        at = max(until, at + 0.01)


def _again(dice: random.Random, at: float, publication: Publication) -> Published:
    while dice.random() < 0.05:  # noqa: PLR2004 - its PUBACK was lost
        yield at + dice.uniform(0, 8), publication


def _reading(dice: random.Random, at: float, boot: int | None, seq: int) -> bytes:
    ts = START_NS + round((at - dice.uniform(0, 0.5)) * NS)
    speed = 4.0 + dice.random() if dice.random() < 0.97 else 1e6  # noqa: PLR2004 - beyond the range now and then
    body: dict[str, object] = {"v": 1, "ts": ts, "m": {"odometer_m": float(seq), "speed_mps": speed}}
    if boot is not None:
        body |= {"boot": boot, "seq": seq}
    return json.dumps(body).encode()
