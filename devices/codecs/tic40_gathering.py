"""Observations of a TIC 4.0 message, gathered into readings: one for each machine and instant."""

from collections.abc import Callable
from typing import Final

from devices.codecs.readings import Reading
from devices.codecs.tic40_words import (
    ANY_TARGETS,
    ATTRIBUTES,
    CLASSES,
    COORDINATE,
    LOGICAL,
    MEASURED_POINTS,
    MEASURED_TYPES,
    TARGETS,
    WGS84,
    instant,
    time_of,
    value_of,
)
from devices.identities import kind_of
from devices.rejects import Reason, Reject, RejectError
from devices.scalars import Scalar
from devices.times import NS
from devices.topics import ROOT, device_id
from devices.vocabulary import DeviceClass

DAY_NS: Final = 86_400_000_000_000
MAX_OBSERVATIONS: Final = 20_000
PAIR: Final = 2
MAX_FACTS: Final = 32
LARGEST: Final = 1e15
"""Beyond, a value is looked at twice."""
NO_ZONE: Final = "no_zone"
PLACE: Final = "che.location."
"""What stands here without an observed property around it are names, and no measurements."""

Where = Callable[[], str]
"""Makes the JSON Pointer to a value: only what is refused needs one."""


class Machine:
    """One machine (CHE) of a message, and what it says of each instant."""

    def __init__(self, message: "Message", identity: str, kind: str, fallback: DeviceClass | None) -> None:
        """``identity`` is the machine's own id, ``kind`` its type, ``fallback`` its class if that says nothing."""
        self._message = message
        self.identity = identity
        self.device_class = CLASSES.get(kind.strip().upper(), fallback)
        self._targets = ANY_TARGETS if self.device_class is None else TARGETS.get(self.device_class, {})
        self._readings: dict[int | None, Reading] = {}
        self._by_stamp: dict[object, Reading] = {}
        self._refused: list[Reject] = []
        self._facts: dict[str, Scalar] = {}
        self._empty = 0

    def take(self, path: str, said: object, stamp: object, unit: object) -> bool:
        """Take a value that has nothing out of the ordinary, at an instant that was met before; tell whether it was.

        What this does not take is for :meth:`observe`. It is a shorter way for what nearly all values are.
        """
        target = self._targets.get(path)
        reading = self._by_stamp.get(stamp) if stamp is None or type(stamp) is str else None
        if target is None or reading is None or target.when_true is not None or target.metric.name in reading.values:
            return False
        if type(said) is float:
            factor = target.factors.get(unit) if type(unit) is str else None
            if factor is None or not -LARGEST < said < LARGEST:
                return False
            said *= factor
        elif type(said) is not bool or not target.is_yes_or_no:
            return False
        self._message.count()
        reading.values[target.metric.name] = said
        return True

    def observe(self, path: str, said: object, stamp: object, unit: str, pom: str, pomt: str, where: Where) -> None:
        """Take one value of an observed property; what is wrong with it refuses it alone."""
        self._message.count()
        try:
            ts, zoned = self._instant(stamp)
        except ValueError as error:
            self._refused.append(Reject(Reason.WRONG_TYPE, f"{where()}/timestamp", str(error)))
            return
        if ts is not None and self._message.ts is not None and self._message.ts - ts > self._message.max_age_ns:
            age, most = ((ns // NS) for ns in (self._message.ts - ts, self._message.max_age_ns))
            detail = f"observed {age:,} s before the message; at most {most:,} s"
            self._refused.append(Reject(Reason.STALE, where(), detail))
            return
        target = self._targets.get(path)
        if target is None or pom not in MEASURED_POINTS or pomt not in MEASURED_TYPES:
            measured = pom in MEASURED_POINTS and pomt in MEASURED_TYPES
            if _is_empty(said):
                self._empty += 1
            elif measured and _is_fact(bare := path.partition("[")[0], said):
                self.describe(bare, said)
            else:
                name = path if measured else f"{path}.{pom}.{pomt}"
                _note_unknown(self._reading(ts, zoned=zoned).unknown, name[:128], said)
            return
        try:
            value = value_of(said, unit, target)
        except ValueError as error:
            self._refused.append(Reject(Reason.WRONG_TYPE, where(), str(error)[:200]))
            return
        if value is None:
            self._empty += _is_empty(said)
            return
        reading = self._reading(ts, zoned=zoned)
        if stamp is None or type(stamp) is str:
            self._by_stamp[stamp] = reading
        if target.metric.name in reading.values:
            # A second value of one instant, such as a reach from another reference: the first one stands.
            _note_unknown(reading.unknown, f"{path}#{len(reading.unknown)}", value)
        else:
            reading.values[target.metric.name] = value

    def tell(self, path: str, named: str, said: object, where: Where) -> None:
        """Take what stands at a path without an observed property around it: a fact, or a value without a time.

        ``named`` is the path with the numbers of the parts where they are not the first. Members that describe a
        subject are neither.
        """
        if _is_fact(path, said) or path.startswith(PLACE):
            self.describe(path, said)
        elif path.rpartition(".")[2] not in ATTRIBUTES:
            self.observe(named, said, None, "", "", "", where)

    def describe(self, path: str, said: object) -> None:
        """Take a fact about the machine that is no measurement, such as the block of the yard in which it stands.

        The last two words of its path name it; of several under one name each is kept, as several containers may hang
        in one spreader.
        """
        if not isinstance(said, str | int | float) or said == "":
            return
        name = fact = "_".join(path.split(".")[-2:])[:64]
        nth = 1
        while fact in self._facts and self._facts[fact] != said:
            nth += 1
            fact = f"{name}#{nth}"
        if len(self._facts) < MAX_FACTS:
            self._facts[fact] = said

    def locate(self, said: object, qualifier: str, stamp: object, where: Where) -> None:
        """Take a coordinate: latitude and longitude in degrees, in this order."""
        self._message.count()
        if qualifier.replace(" ", "").lower() not in {WGS84, ""}:
            self.observe(f"{COORDINATE}.{qualifier}", str(said), stamp, "", "", "", where)
            return
        pair = [float(part) for part in said if isinstance(part, int | float)] if isinstance(said, list) else []
        if len(pair) != PAIR:
            if said:
                self._refused.append(Reject(Reason.WRONG_TYPE, where(), "expected latitude and longitude"))
            else:
                self._empty += 1
            return
        try:
            ts, zoned = self._instant(stamp)
        except ValueError as error:
            self._refused.append(Reject(Reason.WRONG_TYPE, f"{where()}/timestamp", str(error)))
            return
        self._reading(ts, zoned=zoned).values |= {"latitude_deg": pair[0], "longitude_deg": pair[1]}

    def _instant(self, stamp: object) -> tuple[int | None, bool]:
        """Return the time of a value, or that of the message where the value has none, and whether it had a zone."""
        return self._message.instant(stamp) or (self._message.ts, self._message.zoned)

    def _reading(self, ts: int | None, *, zoned: bool) -> Reading:
        found = self._readings.get(ts)
        if found is None:
            found = self._readings[ts] = Reading(ts=ts)
        if not zoned and ts is not None:
            found.flags = (NO_ZONE,)
        return found

    def readings(self) -> tuple[list[Reading], list[Reject]]:
        """Return the readings in the order of their times, and what was refused; the first reading has it too."""
        found = sorted(self._readings.values(), key=lambda reading: reading.ts or 0)
        for reading in found:
            reading.device, reading.device_class = self.identity, self.device_class
        if found:
            found[0].refused = tuple(self._refused)
            facts: dict[str, Scalar] = self._message.facts | self._facts
            if self._empty:
                facts["empty_values"] = self._empty
            found[0].info = facts
        return found, self._refused


class Message:
    """A message: its header, and its machines."""

    def __init__(self, topic: str, max_age_ns: int, offset_ns: int | None = None) -> None:
        """``topic`` may tell the class; values observed more than ``max_age_ns`` before the message are refused.

        ``offset_ns``: how far times without a zone are ahead of UTC, if that is known.
        """
        self._offset_ns = offset_ns
        levels = topic.split("/")
        told = levels[2] if len(levels) > 2 and levels[0] == ROOT else ""  # noqa: PLR2004 - the level of the class
        self._fallback = DeviceClass(told) if told in set(DeviceClass) else None
        self.max_age_ns = max_age_ns
        self.ts: int | None = None
        self.zoned = True
        self.facts: dict[str, Scalar] = {}
        self._machines: list[Machine] = []
        self._observations = 0

    def head(self, stamp: object, version: object, sender: object) -> None:
        """Take over the header; RejectError where its time is unreadable."""
        try:
            self.ts, self.zoned = self.instant(stamp) or (None, True)
        except ValueError as error:
            raise RejectError(Reason.WRONG_TYPE, "/msg/timestamp", str(error)) from None
        for name, said in (("tic_version", version), ("sender", sender)):
            if isinstance(said, str) and said:
                self.facts[name] = said[:64]

    def instant(self, stamp: object) -> tuple[int, bool] | None:
        """Return a time in ns UTC and whether its zone is known, None for an empty one; ValueError if unreadable."""
        found = time_of(stamp) if type(stamp) is str and stamp else instant(stamp)
        if found is None or found[1] or self._offset_ns is None:
            return found
        return found[0] - self._offset_ns, True

    def machine(self, identity: str, kind: str) -> Machine:
        """Enter a machine."""
        found = Machine(self, device_id(identity) if identity else "", kind, self._fallback)
        self._machines.append(found)
        return found

    def count(self) -> None:
        """Count an observation; RejectError above the bound."""
        self._observations += 1
        if self._observations > MAX_OBSERVATIONS:
            raise RejectError(Reason.TOO_LARGE, "", f"more than {MAX_OBSERVATIONS} values")

    def readings(self) -> list[Reading]:
        """Return all readings; RejectError where there are none, with the first reason."""
        readings: list[Reading] = []
        refused: list[Reject] = []
        for machine in self._machines:
            found, rejects = machine.readings()
            readings += found
            if not found:
                refused += rejects
        if not readings:
            raise RejectError(*(refused or [Reject(Reason.NO_SAMPLES, "", "no value")])[0])
        if refused:
            readings[0].refused += tuple(refused)
        return readings


def _note_unknown(unknown: dict[str, Scalar], name: str, said: object) -> None:
    """Note what has no metric under its name; what comes under one that is taken is kept beside it."""
    name = name if name not in unknown else f"{name}#{len(unknown)}"
    unknown[name] = said if isinstance(said, str | int | float) else str(said)[:64]


def _is_fact(path: str, said: object) -> bool:
    """Tell whether what stands at a path is a fact: where in the yard the machine is, or what it has to do with.

    Which container is in the spreader or on the chassis is judged as a fact, :mod:`devices.identities`.
    """
    return path.startswith(LOGICAL) or (type(said) is str and kind_of(path) != "")


def _is_empty(said: object) -> bool:
    return said is None or (isinstance(said, str) and not said.strip())
