"""What a replay is asked to do."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devices.filters import fault_of
from devices.topics import SITE
from simulators.addresses import check_address
from simulators.broker import Broker
from simulators.outcome import FIGURES
from simulators.recording import ENDLESS, Choice
from simulators.thresholds import Threshold

CHOICES: Final = {"shift": ("now", "none"), "qos": (0, 1), "payload": ("msgpack", "json")}
MOST_CLONES: Final = 1_000


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """What to replay, where to and how."""

    path: Path
    """A CSV, JSON-lines or msgpack file, a folder or a zip archive of such; a journal, or the data folder of one."""
    broker: Broker = field(default_factory=Broker)
    """Where to publish."""
    site: str = "CNNGB-DEMO"
    """Site level of the tracks' topics; recorded messages keep their own topics."""
    shift: str = "now"
    """``now``: move all times so that the replay ends as the last message's time comes; ``none``: keep them."""
    speed: float = 1.0
    """Recorded seconds per real second, > 0; infinite is as fast as the broker acknowledges."""
    clients: int = 4
    """MQTT connections, 1 to 1000; devices are spread over them."""
    qos: int = 1
    """Quality of service, 0 or 1; at 0 the broker acknowledges nothing, and only reading back shows what was lost."""
    limit: int | None = None
    """Replay the first so many messages only, ≥ 1, or None for all."""
    limit_devices: int | None = None
    """Replay the first so many devices only, ≥ 1, in the order of file names, or None for all."""
    topics: tuple[str, ...] = ()
    """Topic filters, one of which has to match; none takes every topic."""
    devices: tuple[str, ...] = ()
    """Patterns of device ids such as ``QC*``; none takes every device."""
    from_ns: int = -ENDLESS
    """Replay what was recorded at or after this, ns UTC …"""
    to_ns: int = ENDLESS
    """… and before this, ns UTC."""
    loops: int = 1
    """How often to play the recording, each time as new traffic; 0: until ``duration_s`` is over or it is stopped."""
    duration_s: float | None = None
    """Stop after this, s > 0, or None to play to the end."""
    scale_devices: int = 1
    """Let each device publish under so many identities, 1 to 1000."""
    offset_m: tuple[float, float] | None = None
    """Added to the x and y of tracks, m; None puts the middle of each track in the middle of the small port."""
    payload: str = "msgpack"
    """Form of the tracks' payloads: ``msgpack`` or ``json``."""
    verify_url: str | None = None
    """Address of the API that is asked in the end whether everything is stored."""
    thresholds: tuple[str, ...] = ()
    """Conditions on the result, such as ``lost==0``."""
    patience_s: float = 30.0
    """Give up when the broker acknowledges nothing, or the API does not show everything, for so long, s > 0."""

    def __post_init__(self) -> None:
        """Check every value; thresholds included, so that a typing error is found before the replay."""
        if not SITE.fullmatch(self.site):
            raise ValueError(f"site = {self.site!r}: allowed is a UN/LOCODE and a facility, such as CNNGB-DEMO")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} = {value!r}: allowed are {', '.join(map(str, choices))}")
        if not self.speed > 0:
            raise ValueError(f"speed = {self.speed}: allowed is above 0, or max")
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        """Check what has a least or a greatest value."""
        for name, least, most in (("clients", 1, 1_000), ("scale_devices", 1, MOST_CLONES), ("loops", 0, ENDLESS)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} = {value}: allowed is {least} to {most}")
        for name in ("limit", "limit_devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: allowed is 1 or more")
        if self.offset_m is not None and not all(math.isfinite(part) for part in self.offset_m):
            raise ValueError(f"offset_m = {self.offset_m}: allowed are two finite numbers")
        for name in ("patience_s", "duration_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} = {value}: allowed is above 0")

    def _check_together(self) -> None:
        """Check what depends on several values."""
        for pattern in self.topics:
            if fault := fault_of(pattern):
                raise ValueError(f"topics = {fault}")
        if self.from_ns >= self.to_ns:
            raise ValueError(f"from_ns = {self.from_ns}: allowed is before to_ns = {self.to_ns}")
        if self.loops != 1 and self.shift == "none":
            raise ValueError(f"loops = {self.loops}: allowed is 1 with shift none, else the same traffic comes again")
        if self.verify_url is not None:
            check_address("verify_url", self.verify_url)
        if self.verify_url is not None and self.loops != 1:
            raise ValueError(f"loops = {self.loops}: allowed is 1 with verify_url")
        _ = self.conditions

    @property
    def choice(self) -> Choice:
        """Which messages of the recording are replayed."""
        return Choice(self.topics, self.devices, self.from_ns, self.to_ns, self.limit, self.limit_devices)

    @property
    def conditions(self) -> tuple[Threshold, ...]:
        """The thresholds, parsed."""
        return tuple(Threshold.parse(text, FIGURES) for text in self.thresholds)
