"""TIC 4.0 FLAT: one JSON object of paths and values, all of one time.

The older spelling has dots, ``che.@.spreader.@.locked.status.output.actual.value``, the newer one bars,
``che|@STS01|hoist|@|on|totaltimer|#unit#hour|value``; ``@`` and ``@id`` mark the arrays of the JSON form. Members of
the header are ``msg.timestamp`` or simply ``timestamp``. As tolerant as the JSON form.
"""

from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import msgspec

from devices.codecs.json_frames import reject_of
from devices.codecs.readings import Reading
from devices.codecs.tic40 import IDENTITIES, KINDS, MAX_PAYLOAD, TYPE_OF_CLASS, VERSION
from devices.codecs.tic40_gathering import DAY_NS, Machine, Message
from devices.codecs.tic40_words import CLASSES, COORDINATE, SUBJECTS, UNIT_WORDS, folded
from devices.rejects import Reason, RejectError
from devices.times import format_rfc3339
from devices.vocabulary import BY_NAME, DeviceClass

POINTS: Final = frozenset({"input", "iinput", "internal_input", "output", "ioutput", "internal_output"})
TYPES: Final = frozenset({"schedule", "planning", "estimated", "actual", "performed"})
MEMBERS: Final = frozenset({"timestamp", "unit", "reference", "pom", "pomt", "qualifier", "accuracy", "status"})
"""Members of an observed property that are not its value, where they end a path after point and type."""
FIRST: Final = frozenset({"", "0", "1"})
"""Array ids that name no machine: it has an id of its own elsewhere, or none."""
MAX_LEVELS: Final = 24
ENVELOPES: Final = frozenset({"msg", "message", "data", "body"})
"""What may stand before ``che`` and says nothing."""


class Path(NamedTuple):
    """A path taken apart."""

    words: str
    """What it speaks of, such as ``che.spreader.locked.status``."""
    ids: tuple[str, ...]
    """Array ids, in order; the first is that of the machine."""
    member: str
    """``value``, or the member of the observed property that it gives instead."""
    unit: str
    pom: str
    pomt: str


@lru_cache(8_192)
def parse_path(key: str) -> Path:
    """Take a key apart; many messages share each of them. ValueError above the number of levels."""
    levels = key.strip().split("|" if "|" in key else ".")
    if len(levels) > MAX_LEVELS:
        raise ValueError(f"{len(levels)} levels: at most {MAX_LEVELS}")
    words: list[str] = []
    ids: list[str] = []
    unit, pom, pomt, member = "", "", "", "value"
    for nth, level in enumerate(levels):
        last = nth == len(levels) - 1
        word = folded(level)
        if level.startswith("@"):
            ids.append(level[1:])
        elif level.startswith("#"):
            _, name, said = (*level.split("#", 2), "")[:3]
            unit = said if name.lower() == "unit" else unit
        elif word in POINTS and not pom:
            pom = word
        elif word in TYPES and not pomt:
            pomt = word
        elif last and word == "value":
            break
        elif last and word in MEMBERS and (pom or pomt):
            member = word
        elif words or word not in ENVELOPES or "che" not in map(str.lower, levels[1:2]):
            words.append(word)
    return Path(".".join(words), tuple(ids), member, unit, pom, pomt)


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
        self._units: dict[tuple[str, tuple[str, ...]], str] = {}
        self._seen: dict[tuple[str, int], str] = {}
        header: dict[str, Any] = {}
        told: dict[str, dict[str, str]] = {}
        for key, said in tree.items():
            path = self._parsed(key)
            root, _, rest = path.words.partition(".")
            if root != "che":
                header.setdefault(rest if root in {"msg", "header"} else path.words, said)
            elif rest in IDENTITIES or rest in KINDS:
                told.setdefault(path.ids[0] if path.ids else "", {})[rest] = str(said)
            elif path.member == "value":
                self._paths.append((key, path, said))
            elif path.member == "unit" and isinstance(said, str):
                self._units[path.words, path.ids] = said
        if not self._paths:
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
        pairs: dict[str, dict[str, Any]] = {}
        for key, path, said in self._paths:
            mark = path.ids[0] if path.ids else ""
            machine = machines.get(mark)
            if machine is None:
                machine = machines[mark] = self.message.machine(*_who(mark, told.get(mark, {})))
            if path.words.startswith(COORDINATE):
                pairs.setdefault(mark, {})[path.words.removeprefix(COORDINATE).strip(".")] = said
                continue
            unit = path.unit or self._units.get((path.words, path.ids), "")
            machine.observe(self._named(path), said, None, unit, path.pom, path.pomt, partial(_where, key))
        for mark, pair in pairs.items():
            found = pair.get("", [pair.get("latitude"), pair.get("longitude")])
            machines[mark].locate(found, "", None, lambda: _where(COORDINATE))

    def _named(self, path: Path) -> str:
        """Return the words, with the array ids where a part is not the first of its kind."""
        for nth, mark in enumerate(path.ids[1:], 1):
            if self._seen.setdefault((path.words.split(".")[min(nth, path.words.count("."))], nth), mark) != mark:
                return path.words + "".join(f"[{each}]" for each in path.ids[1:])
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


def _who(mark: str, told: dict[str, str]) -> tuple[str, str]:
    identity = next((told[name] for name in IDENTITIES if told.get(name)), "" if mark in FIRST else mark)
    return identity, next((told[name] for name in KINDS if told.get(name, "").upper() in CLASSES), "")


def _where(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")[:128]
