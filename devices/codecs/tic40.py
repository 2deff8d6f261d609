"""TIC 4.0 JSON: a header ``msg`` and machines ``che``, whose parts, concepts and observed properties form a tree.

``{"msg":{"timestamp",…},"che":[{"id","type","hoist":[{"hoisting":{"height":[{"value","unit","timestamp",…}]}}]}]}``.
Subjects are arrays, concepts objects, observed properties arrays of values. Decoding is tolerant: of wrong case and
known misspellings, of booleans and numbers as text, of empty values (no value) and empty times (the header's), of times
without a zone (UTC, flagged), of an object where an array belongs. The first of several parts of one kind (two
spreaders) has the metrics; values of the others are unknown names.
"""

from typing import Any, Final

import msgspec

from devices.codecs.native import pointer
from devices.codecs.readings import Reading
from devices.codecs.tic40_gathering import DAY_NS, Machine, Message
from devices.codecs.tic40_words import (
    ATTRIBUTES,
    CLASSES,
    COORDINATE,
    IDENTITIES,
    KINDS,
    MEASURED_POINTS,
    MEASURED_TYPES,
    SUBJECTS,
    UNIT_WORDS,
    folded,
)
from devices.rejects import Reason, RejectError
from devices.times import format_rfc3339
from devices.vocabulary import BY_NAME, DeviceClass

MAX_PAYLOAD: Final = 1_048_576
DEEPEST: Final = 24
MACHINE: Final = "che"
VERSION: Final = "2024.010"
TYPE_OF_CLASS: Final = {
    DeviceClass.QUAY_CRANE: "STS",
    DeviceClass.YARD_CRANE: "RTG",
    DeviceClass.VEHICLE: "TT",
}


class Tic40:
    """Decodes TIC 4.0 JSON messages."""

    name: Final = "tic40"

    def __init__(self, max_age_ns: int = DAY_NS, offset_ns: int | None = None) -> None:
        """Values observed more than ``max_age_ns`` before their message are refused as ``stale``.

        ``offset_ns``: how far times without a zone are ahead of UTC; None where nobody knows, which is flagged.
        """
        self._max_age_ns, self._offset_ns = max_age_ns, offset_ns
        self._decode = msgspec.json.Decoder().decode

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return a reading for each machine and instant; a value that cannot be used is refused alone."""
        tree = self._tree(payload)
        message = Message(topic, self._max_age_ns, self._offset_ns)
        members = {folded(name): child for name, child in tree.items()}
        header = _first(members.get("msg", members.get("header", members)))
        header = {folded(name): child for name, child in header.items()}
        stamp = header.get("timestamp") or header.get("creationtimestamp")
        message.head(stamp, header.get("version"), header.get("sender"))
        machines = _machines(members)
        if not any(isinstance(machine, dict) for machine in machines):
            raise RejectError(Reason.MISSING_FIELD, "/che", "expected an array of machines")
        for nth, machine in enumerate(machines):
            if isinstance(machine, dict):
                _Walk(message.machine(*_who(machine)), nth).subject(machine, MACHINE, first=True)
        return message.readings()

    def _tree(self, payload: bytes) -> dict[str, Any]:
        if len(payload) > MAX_PAYLOAD:
            raise RejectError(Reason.TOO_LARGE, "", f"{len(payload)} bytes: at most {MAX_PAYLOAD}")
        try:
            tree = self._decode(payload)
        except Exception as error:  # noqa: BLE001 - besides DecodeError also RecursionError and UnicodeDecodeError
            raise RejectError(Reason.UNDECODABLE, "", str(error)[:200] or type(error).__name__) from None
        if not isinstance(tree, dict):
            raise RejectError(Reason.WRONG_TYPE, "", "expected an object")
        return tree


class _Walk:
    """One walk through the tree of one machine; the trail leads to where it is."""

    def __init__(self, machine: Machine, nth: int) -> None:
        self._machine = machine
        self._trail: list[object] = ["che", nth]

    def subject(self, node: dict[str, Any], path: str, *, first: bool) -> None:
        """Visit a subject or a concept; ``first`` tells whether all subjects on the way are the first of their kind."""
        if len(self._trail) > DEEPEST:
            raise RejectError(Reason.WRONG_TYPE, self._where(), f"nested more than {DEEPEST} deep")
        trail, take = self._trail, self._machine.take
        for key, child in node.items():
            name = folded(key)
            if path == MACHINE and name in ATTRIBUTES:
                continue
            if first and type(child) is list and len(child) == 1 and type(item := child[0]) is dict and "value" in item:
                get = item.get
                usual = get("pom") == "output" and get("pomt") == "actual"
                if usual and take(f"{path}.{name}", item["value"], get("timestamp"), get("unit")):
                    continue
            trail.append(key)
            if type(child) is list:
                self._array(child, f"{path}.{name}", first=first)
            elif type(child) is dict:
                self._object(child, f"{path}.{name}", first=first)
            else:
                path_of_it = f"{path}.{name}"
                self._machine.tell(path_of_it, self._named(path_of_it, first), child, self._where)
            trail.pop()

    def _array(self, items: list[Any], path: str, *, first: bool) -> None:
        trail = self._trail
        for nth, item in enumerate(items):
            trail.append(nth)
            if type(item) is dict:
                self._object(item, path, first=first and (nth == 0 or "value" in item))
            elif item is not None and item != "":
                self._machine.tell(path, self._named(path, first), item, self._where)
            trail.pop()

    def _object(self, item: dict[str, Any], path: str, *, first: bool) -> None:
        if "value" not in item:
            self.subject(item, path, first=first)
            return
        get = item.get
        if path == COORDINATE:
            self._machine.locate(item["value"], plain_text(get("qualifier")), get("timestamp"), self._where)
            return
        path = path if first else self._named(path, first)
        # Nearly always they are text in the right case, and asking costs less than making sure.
        unit, pom, pomt = get("unit"), get("pom"), get("pomt")
        if type(pom) is not str or pom not in MEASURED_POINTS:
            pom = plain_text(pom).lower()
        if type(pomt) is not str or pomt not in MEASURED_TYPES:
            pomt = plain_text(pomt).lower()
        unit = unit if type(unit) is str else plain_text(unit)
        self._machine.observe(path, item["value"], get("timestamp"), unit, pom, pomt, self._where)

    def _named(self, path: str, first: bool) -> str:  # noqa: FBT001 - handed on
        """Return the path, with the numbers of the parts where they are not the first."""
        if first:
            return path
        numbers = "".join(f"[{part}]" for part in self._trail[2:-1] if isinstance(part, int))
        return f"{path}{numbers}"

    def _where(self) -> str:
        return pointer(*self._trail)


def encode(
    device: str, device_class: DeviceClass, ts: int, values: dict[str, float | bool], *, sender: str = "quayflow"
) -> bytes:
    """Return values of one instant (``ts``, ns UTC) as a message; those without a word of TIC 4.0 are left out."""
    stamp = format_rfc3339(ts)
    machine: dict[str, Any] = {"id": device, "name": device, "type": TYPE_OF_CLASS[device_class]}
    for name, value in values.items():
        metric = BY_NAME[name]
        if not metric.tic or metric.tic == COORDINATE:
            continue
        *parts, observed = metric.tic.split(".")[1:]
        node = machine
        for part in parts:
            child = node.setdefault(part, [{}] if part in SUBJECTS else {})
            node = child[0] if part in SUBJECTS else child
        item = {"pom": "output", "pomt": "actual", "unit": UNIT_WORDS.get(metric.unit, ""), "timestamp": stamp}
        node.setdefault(observed, []).append(item | {"value": value})
    if {"latitude_deg", "longitude_deg"} <= values.keys():
        pair = [values["latitude_deg"], values["longitude_deg"]]
        place = {"qualifier": "WGS84", "value": pair, "timestamp": stamp}
        machine.setdefault("location", {})["coordinate"] = [place]
    header = {"id": f"{device}-{ts}", "sender": sender, "timestamp": stamp, "topic": "che", "version": VERSION}
    return msgspec.json.encode({"msg": header, "che": [machine]})


def _machines(members: dict[str, Any]) -> list[Any]:
    """Return the machines of a message: beside its header, or with it in an envelope of some name."""
    found = members.get(MACHINE)
    if found is None:
        envelopes = (child for child in members.values() if isinstance(child, dict))
        found = next((child[MACHINE] for child in envelopes if MACHINE in child), None)
    return found if isinstance(found, list) else [found]


def _who(machine: dict[str, Any]) -> tuple[str, str]:
    """Return the id and the type of a machine, each "" where it says none."""
    members = {folded(name): child for name, child in machine.items()}
    identities = [_plain(members.get(name)) for name in IDENTITIES]
    identity = next((text for text in identities if text), "")
    kinds = [_plain(members.get(name)) for name in KINDS]
    return identity, next((kind for kind in kinds if kind.upper() in CLASSES), "")


def _first(header: object) -> dict[str, Any]:
    if isinstance(header, list) and header:
        header = header[0]
    return header if isinstance(header, dict) else {}


def _plain(said: object) -> str:
    """Return a text that may be given like an observed property."""
    if isinstance(said, list):
        said = said[0] if said else None
    return plain_text(said.get("value") if isinstance(said, dict) else said)


def plain_text(said: object) -> str:
    """Return what names something, "" for what cannot."""
    return said.strip() if isinstance(said, str) else "" if said is None or isinstance(said, bool) else str(said)[:64]
