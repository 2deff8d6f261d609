"""TIC 4.0 FLAT: one JSON object of paths and values, all of one time.

The older spelling has dots, ``che.@.spreader.@.locked.status.output.actual.value``, the newer one bars,
``che|@STS01|hoist|@|on|totaltimer|#unit#hour|value``; ``@`` and ``@id`` mark the arrays of the JSON form. Members of
the header are ``msg.timestamp`` or simply ``timestamp``. As tolerant as the JSON form, and judged alike.
"""

from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import msgspec

from devices.codecs.json_frames import reject_of
from devices.codecs.readings import Reading
from devices.codecs.tic40 import MACHINE, MAX_PAYLOAD, TYPE_OF_CLASS, VERSION, plain_text
from devices.codecs.tic40_gathering import DAY_NS, Machine, Message
from devices.codecs.tic40_words import (
    ATTRIBUTES,
    CLASSES,
    COORDINATE,
    IDENTITIES,
    KINDS,
    SUBJECTS,
    UNIT_WORDS,
    folded,
)
from devices.identities import kind_of
from devices.rejects import Reason, RejectError
from devices.times import format_rfc3339
from devices.vocabulary import BY_NAME, DeviceClass

POINTS: Final = frozenset({"input", "iinput", "internal_input", "output", "ioutput", "internal_output"})
TYPES: Final = frozenset({"schedule", "planning", "estimated", "actual", "performed"})
MEMBERS: Final = frozenset({"timestamp", "unit", "reference", "pom", "pomt", "qualifier", "accuracy", "status"})
"""Members of an observed property that are not its value, where they end a path after point and type."""
PLAIN_MEMBERS: Final = frozenset({"timestamp", "unit", "pom", "pomt"})
"""Those that are one without point and type too, where they end a path of a concept's property."""
PROPERTY_LEVELS: Final = 3
"""Words of the shortest path of a property: machine, concept, property."""
FIRST: Final = frozenset({"", "0", "1"})
"""Array ids that name no machine: it has an id of its own elsewhere, or none."""
MAX_LEVELS: Final = 24
ENVELOPES: Final = frozenset({"msg", "message", "data", "body"})
"""What may stand before ``che`` and says nothing."""


class Path(NamedTuple):
    """A path taken apart."""

    words: str
    """What it speaks of, such as ``che.spreader.locked.status``."""
    root: str
    """The first of the words, ``che`` for a machine."""
    rest: str
    """The others."""
    ids: tuple[str, ...]
    """Array ids, in order."""
    machine: str
    """The array id of the machine, "" where it has none."""
    parts: tuple[tuple[str, str], ...]
    """Of the machine's parts: what is counted, such as ``che.spreader``, and its array id."""
    identities: tuple[tuple[str, str], ...]
    """Array ids that identify something, such as a container: path of the fact and the id."""
    member: str
    """``value``, the member of the observed property that it gives instead, or "" where there is no such property."""
    unit: str
    pom: str
    pomt: str

    @property
    def is_usual(self) -> bool:
        """Whether it is a value that was measured, and says so itself."""
        return self.pom == "output" and self.pomt == "actual" and self.member == "value"

    @classmethod
    def of(cls, words: list[str], marks: list[tuple[str, str]], member: str, unit: str, pom: str, pomt: str) -> "Path":
        """Return what these levels of a path come to; ``marks``: what is counted, and the array id."""
        joined = ".".join(words)
        return cls(
            words=joined,
            root=words[0] if words else "",
            rest=".".join(words[1:]),
            ids=tuple(mark for _, mark in marks),
            machine=marks[0][1] if marks and marks[0][0] == MACHINE else "",
            parts=tuple((array, mark) for array, mark in marks if array != MACHINE),
            identities=tuple(
                (f"{array}.id", mark)
                for array, mark in marks[1:]
                if mark and not mark.isdigit() and kind_of(f"{array}.id")
            ),
            member=member or ("value" if pom or pomt else ""),
            unit=unit,
            pom=pom,
            pomt=pomt,
        )


@lru_cache(8_192)
def parse_path(key: str) -> Path:
    """Take a key apart; many messages share each of them. ValueError above the number of levels."""
    levels = key.strip().split("|" if "|" in key else ".")
    if len(levels) > MAX_LEVELS:
        raise ValueError(f"{len(levels)} levels: at most {MAX_LEVELS}")
    words: list[str] = []
    marks: list[tuple[str, str]] = []
    unit, pom, pomt, member = "", "", "", ""
    for nth, level in enumerate(levels):
        last = nth == len(levels) - 1
        word = folded(level)
        if level.startswith("@"):
            marks.append((".".join(words), level[1:]))
        elif level.startswith("#"):
            _, name, said = (*level.split("#", 2), "")[:3]
            unit = said if name.lower() == "unit" else unit
        elif word in POINTS and not pom:
            pom = word
        elif word in TYPES and not pomt:
            pomt = word
        elif last and _is_member(word, words, pom or pomt):
            member = word
        elif words or word not in ENVELOPES or "che" not in map(str.lower, levels[1:2]):
            words.append(word)
    return Path.of(words, marks, member, unit, pom, pomt)


def _is_member(word: str, words: list[str], measured: str) -> bool:
    """Tell whether the last word of a path is a member of the observed property that the words before it name."""
    if word == "value" or (word in MEMBERS and measured):
        return True
    return word in PLAIN_MEMBERS and words[:1] == [MACHINE] and len(words) >= PROPERTY_LEVELS


class Tic40Flat:
    """Decodes TIC 4.0 FLAT messages of either spelling."""

    name: Final = "tic40-flat"

    def __init__(self, max_age_ns: int = DAY_NS, offset_ns: int | None = None) -> None:
        """Values observed more than ``max_age_ns`` before their message are refused as ``stale``.

        ``offset_ns``: how far times without a zone are ahead of UTC; None where nobody knows, which is flagged.
        """
        self._max_age_ns, self._offset_ns = max_age_ns, offset_ns
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per machine; a value that cannot be used is refused alone."""
        if len(payload) > MAX_PAYLOAD:
            raise RejectError(Reason.TOO_LARGE, "", f"{len(payload)} bytes: at most {MAX_PAYLOAD}")
        try:
            tree = self._decode(payload)
        except Exception as error:  # noqa: BLE001 - besides DecodeError also RecursionError and UnicodeDecodeError
            raise reject_of(error) from None
        return _Flat(tree, Message(topic, self._max_age_ns, self._offset_ns)).message.readings()


class _Flat:
    """The paths of one message, sorted by machine."""

    def __init__(self, tree: dict[str, Any], message: Message) -> None:
        self.message = message
        self._paths: list[tuple[str, Path, Any]] = []
        self._members: dict[tuple[str, tuple[str, ...], str, str], dict[str, str]] = {}
        self._seen: dict[tuple[str, str], str] = {}
        header: dict[str, Any] = {}
        told: dict[str, dict[str, str]] = {}
        for key, said in tree.items():
            path = self._parsed(key)
            if path.root != MACHINE:
                header.setdefault(path.rest if path.root in {"msg", "header"} else path.words, said)
            elif path.rest in ATTRIBUTES:
                told.setdefault(path.machine, {})[path.rest] = plain_text(said)
            elif path.member in {"value", ""}:
                self._paths.append((key, path, said))
            else:
                self._members.setdefault(_property_of(path), {})[path.member] = plain_text(said)
        if not self._paths and not told:
            raise RejectError(Reason.MISSING_FIELD, "/che", "no path that begins with che")
        stamp = header.get("timestamp") or header.get("creationtimestamp")
        self.message.head(stamp, header.get("version"), header.get("sender"))
        self._observe(told)

    @staticmethod
    def _parsed(key: str) -> Path:
        try:
            return parse_path(key)
        except ValueError as error:
            raise RejectError(Reason.WRONG_TYPE, f"/{key[:64]}", str(error)) from None

    def _observe(self, told: dict[str, dict[str, str]]) -> None:
        machines: dict[str, Machine] = {}
        places: dict[tuple[str, ...], dict[str, Any]] = {}
        for key, path, said in self._paths:
            mark = path.machine
            machine = machines.get(mark)
            if machine is None:
                machine = machines[mark] = self.message.machine(*_who(mark, told.get(mark, {})))
            if path.words.startswith(COORDINATE):
                places.setdefault((mark, *path.ids), {})[path.words.removeprefix(COORDINATE).strip(".")] = said
                continue
            # Array ids that are identities, such as the number of a container, are taken for what they say.
            for named, identity in path.identities:
                machine.describe(named, identity)
            usual = path.is_usual and not self._members
            if usual and machine.take(self._named(path), said, None, path.unit):
                continue
            where = partial(_where, key)
            if not path.member:
                machine.tell(path.words, self._named(path), said, where)
                continue
            members = self._members.get(_property_of(path), {}) if self._members else {}
            unit = path.unit or members.get("unit", "")
            pom, pomt = path.pom or members.get("pom", "").lower(), path.pomt or members.get("pomt", "").lower()
            machine.observe(self._named(path), said, None, unit, pom, pomt, where)
        for (mark, *_), place in places.items():
            found = place.get("", [place.get("latitude"), place.get("longitude")])
            machines[mark].locate(found, plain_text(place.get("qualifier")), None, lambda: _where(COORDINATE))

    def _named(self, path: Path) -> str:
        """Return the words, with the array ids where a part is not the first of its kind."""
        for array, mark in path.parts:
            if self._seen.setdefault((path.machine, array), mark) != mark:
                return path.words + "".join(f"[{mark}]" for _, mark in path.parts)
        return path.words


def encode_flat(
    device: str, device_class: DeviceClass, ts: int, values: dict[str, float | bool], *, separator: str = "|"
) -> bytes:
    """Return values of one instant (``ts``, ns UTC) as a message of either spelling, bars or dots.

    Values without a word of TIC 4.0 are left out.
    """
    machine = f"che{separator}@{device}"
    tree: dict[str, Any] = {
        f"msg{separator}timestamp": format_rfc3339(ts),
        f"msg{separator}version": VERSION,
        f"{machine}{separator}type": TYPE_OF_CLASS[device_class],
    }
    for name, value in values.items():
        metric = BY_NAME[name]
        if not metric.tic or metric.tic == COORDINATE:
            continue
        levels = [machine]
        for word in metric.tic.split(".")[1:]:
            levels += [word, "@"] if word in SUBJECTS else [word]
        levels += ["output", "actual"]
        unit = UNIT_WORDS.get(metric.unit)
        if unit and separator == "|":
            levels.append(f"#unit#{unit}")
        tree[separator.join((*levels, "value"))] = value
    if {"latitude_deg", "longitude_deg"} <= values.keys():
        key = separator.join((machine, "location", "coordinate", "@", "value"))
        tree[key] = [values["latitude_deg"], values["longitude_deg"]]
    return msgspec.json.encode(tree)


def _property_of(path: Path) -> tuple[str, tuple[str, ...], str, str]:
    """Return what the paths of the members of one observed property have in common."""
    return path.words, path.ids, path.pom, path.pomt


def _who(mark: str, told: dict[str, str]) -> tuple[str, str]:
    identity = next((told[name] for name in IDENTITIES if told.get(name)), "" if mark in FIRST else mark)
    return identity, next((told[name] for name in KINDS if told.get(name, "").upper() in CLASSES), "")


def _where(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")[:128]
