"""UN/EDIFACT CODECO (gate-in, gate-out) and COARRI (discharge, load), each container an event; other messages by name.

Directories D.95B and D.00B as terminals use them (SMDG and ITIGG guides). Counts that do not add up (UNT, UNZ, CNT),
wrong check digits of containers and odd document codes are flagged, and the message is kept. Times have no zone in
EDIFACT: they are those of a given offset; where none is given they are taken as UTC and flagged.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pydifact.control.characters import Characters
from pydifact.parser import Parser
from pydifact.tokenizer import Tokenizer

from devices.codecs import iso6346, places
from devices.codecs.readings import Happening, Reading
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar
from devices.times import NS
from devices.topics import ROOT, device_id

MAX_PAYLOAD: Final = 65_536
"""Bytes: the tokenizer takes microseconds for each, and ingest waits for it."""
MAX_TEXT: Final = 256
SERVICE_ADVICE: Final = "UNA"
REMARK: Final = "#"
USUAL_ADVICE: Final = "UNA:+.? '"
"""The separators that count where none are said."""

Segment = Sequence[str | Sequence[str]]
"""Tag and elements; an element of several components is a list."""

EVENTS: Final = {
    ("CODECO", "34"): "gate_in",
    ("CODECO", "36"): "gate_out",
    ("COARRI", "44"): "discharge",
    ("COARRI", "46"): "load",
}
"""Type of message and document name code (BGM 1001) → event."""
REPORT: Final = "container_report"
"""The event of another document name code, such as 98, which some send for both discharge and load."""
OTHER: Final = "edifact_message"
TIME_QUALIFIERS: Final = ("7", "203", "ACT", "137")
"""DTM 2005 in the order in which they are believed: effective, execution, actual, message."""
TIME_FORMATS: Final = {
    "203": ("%Y%m%d%H%M", 12), "204": ("%Y%m%d%H%M%S", 14), "102": ("%Y%m%d", 8), "201": ("%y%m%d%H%M", 10),
    "101": ("%y%m%d", 6),
}  # fmt: skip
"""DTM 2379 → format and length."""
TRADES: Final = {"2": "export", "3": "import", "6": "transhipment"}
"""EQD 8249."""
FULL: Final = {"4": False, "5": True}
"""EQD 8169."""
PLACES: Final = {"9": "load_port", "11": "discharge_port", "165": "place", "147": "stowage"}
"""LOC 3227."""
REFERENCES: Final = {"BN": "booking", "BM": "bill_of_lading", "ACA": "acceptance", "ON": "order"}
"""RFF 1153."""
PARTIES: Final = {"CF": "container_operator", "CA": "carrier", "MS": "message_sender"}
"""NAD 3035."""
TRUCK: Final = "1"
VESSEL: Final = "20"


class Edifact:
    """Decodes interchanges, and messages without one around them."""

    name: Final = "edifact"

    def __init__(self, offset_ns: int | None = None) -> None:
        """``offset_ns``: how far the local time of the messages is ahead of UTC; None where nobody knows."""
        self._offset_ns = offset_ns

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per container, or per message that reports none."""
        segments = _segments(payload)
        interchange = _Interchange(topic, self._offset_ns)
        readings: list[Reading] = []
        messages = 0
        for segment in segments:
            tag = _text(segment, 0)
            if tag == "UNH":
                messages += 1
            if tag == "UNB":
                messages = 0
                interchange.head(segment)
            elif tag == "UNZ" and _number(segment, 1) != messages and readings:
                readings[0].flags += ("interchange_count",)
            elif tag not in {"UNZ", "UNG", "UNE"}:
                readings += interchange.take(segment)
        readings += interchange.end()
        if not readings:
            raise RejectError(Reason.NO_SAMPLES, "/UNH", "no message: expected a segment UNH")
        return readings


@dataclass
class _Equipment:
    """A container and what a message says of it."""

    data: dict[str, Scalar]
    flags: list[str]
    times: dict[str, int] = field(default_factory=dict)


@dataclass
class _Message:
    """A message under way."""

    kind: str
    reference: str
    segments: int = 1
    code: str = ""
    data: dict[str, Scalar] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    equipment: list[_Equipment] = field(default_factory=list)


class _Interchange:
    """An interchange, message by message."""

    def __init__(self, topic: str, offset_ns: int | None) -> None:
        self._named = topic.startswith(f"{ROOT}/")
        self._offset_ns = offset_ns
        self._data: dict[str, Scalar] = {}
        self._prepared: int | None = None
        self._message: _Message | None = None

    def head(self, segment: Segment) -> None:
        """Take over who sends to whom, and when it was prepared."""
        self._data = _said(sender=_text(segment, 2), receiver=_text(segment, 3))
        self._prepared = self._instant("".join((_text(segment, 4), _text(segment, 4, 1))), "201")

    def take(self, segment: Segment) -> list[Reading]:
        """Take a segment; return the readings of the message that it ends."""
        tag = _text(segment, 0)
        if tag == "UNH":
            ended = self.end()
            self._message = _Message(_text(segment, 2), _text(segment, 1))
            return ended
        message = self._message
        if message is None:
            return []
        message.segments += 1
        if tag == "UNT":
            if _number(segment, 1) != message.segments:
                message.flags.append("segment_count")
                message.data |= {"segments": message.segments, "segments_declared": _text(segment, 1)}
            if _text(segment, 2) != message.reference:
                message.flags.append("message_reference")
            return self.end(complete=True)
        reader = READERS.get(tag)
        if reader is not None:
            reader(self, message, segment)
        return []

    def end(self, *, complete: bool = False) -> list[Reading]:
        """Return the readings of the message under way; one that was cut off is flagged."""
        message, self._message = self._message, None
        if message is None:
            return []
        if not complete:
            message.flags.append("segment_count")
        common = self._data | _said(message=message.kind, reference=message.reference) | message.data
        found = [each for each in message.equipment if message.kind in {"CODECO", "COARRI"}]
        if not found:
            containers = {"containers": len(message.equipment)} if message.equipment else {}
            return [self._reading(Happening(OTHER, common | containers), message.times, message.flags)]
        event = EVENTS.get((message.kind, message.code), REPORT)
        flags = [*message.flags, "document_code"] if event == REPORT else message.flags
        return [
            self._reading(Happening(event, common | each.data), message.times | each.times, [*flags, *each.flags])
            for each in found
        ]

    def _reading(self, happening: Happening, times: dict[str, int], flags: list[str]) -> Reading:
        ts = next((times[name] for name in TIME_QUALIFIERS if name in times), self._prepared)
        told = self._data.get("sender") or happening.data.get("message_sender")
        if ts is not None and self._offset_ns is None:
            flags = [*flags, "no_zone"]
        return Reading(
            device="" if self._named or not told else device_id(str(told)),
            ts=ts,
            happenings=(happening,),
            flags=tuple(dict.fromkeys(flags)),
        )

    def _instant(self, text: str, form: str) -> int | None:
        """Return a time in ns UTC, None where it is none."""
        known = TIME_FORMATS.get(form)
        if known is None or len(text) != known[1] or not (text.isascii() and text.isdigit()):
            return None
        try:
            # The form has no zone; the offset makes it one.
            local = datetime.strptime(text, known[0]).replace(tzinfo=UTC)
        except ValueError:
            return None
        return int(local.timestamp()) * NS - (self._offset_ns or 0)

    def beginning(self, message: _Message, segment: Segment) -> None:
        """BGM: what the message is, and whether it is original."""
        message.code = _text(segment, 1)
        message.data |= _said(document_code=message.code, document=_text(segment, 2), function=_text(segment, 3))

    def transport(self, message: _Message, segment: Segment) -> None:
        """TDT: the vessel (stage 20) or the truck (stage 1)."""
        data, flags = _place_of(message)
        stage, name = _text(segment, 1), _text(segment, 8, 3)
        if stage == VESSEL:
            data |= _said(voyage=_text(segment, 2), vessel=name, vessel_id=_text(segment, 8))
        elif stage == TRUCK and _text(segment, 8):
            plate = places.plain_plate(_text(segment, 8))
            data["plate"] = plate
            if places.plate_kind(plate) is None:
                flags.append("plate")

    def equipment(self, message: _Message, segment: Segment) -> None:
        """EQD: a container, its size and whether it is full."""
        data, flags = iso6346.describe(_text(segment, 2), _text(segment, 3))
        kind, trade, full = _text(segment, 1), _text(segment, 5), FULL.get(_text(segment, 6))
        data |= _said(equipment=kind if kind != "CN" else "", trade=TRADES.get(trade, trade))
        if full is not None:
            data["full"] = full
        message.equipment.append(_Equipment(data, list(flags) if kind in {"CN", ""} else []))

    def time(self, message: _Message, segment: Segment) -> None:
        """DTM: when it happened."""
        qualifier, text, form = (_text(segment, 1, nth) for nth in range(3))
        ts = self._instant(text, form or "203")
        if not text:
            return
        if ts is None:
            _place_of(message)[1].append("time")
        else:
            times = message.equipment[-1].times if message.equipment else message.times
            times.setdefault(qualifier, ts)

    def place(self, message: _Message, segment: Segment) -> None:
        """LOC: a port, the terminal, or the cell in which a container is stowed."""
        data, flags = _place_of(message)
        name, code = PLACES.get(_text(segment, 1)), _text(segment, 2)
        if name is None or not code:
            return
        data[name] = code
        if name == "place":
            data |= _said(terminal=_text(segment, 3))
        if name != "stowage" and not places.is_locode(code):
            flags.append("locode")

    def reference(self, message: _Message, segment: Segment) -> None:
        """RFF: a booking or another reference."""
        name = REFERENCES.get(_text(segment, 1))
        if name:
            _place_of(message)[0].update(_said(**{name: _text(segment, 1, 1)}))

    def party(self, message: _Message, segment: Segment) -> None:
        """NAD: who operates the container, and who sends the message."""
        name = PARTIES.get(_text(segment, 1))
        if name:
            _place_of(message)[0].update(_said(**{name: _text(segment, 2)}))

    def measure(self, message: _Message, segment: Segment) -> None:
        """MEA: a weight, kg."""
        data, flags = _place_of(message)
        unit, text = _text(segment, 3), _text(segment, 3, 1)
        if unit not in {"KGM", "TNE"} or not text:
            return
        try:
            weight = float(text) * (1_000 if unit == "TNE" else 1)
        except ValueError:
            flags.append("weight")
            return
        if 0 <= weight < 1e6:  # noqa: PLR2004 - a thousand tonnes
            data["verified_mass_kg" if _text(segment, 2) == "VGM" else "weight_kg"] = weight
        else:
            flags.append("weight")

    def seal(self, message: _Message, segment: Segment) -> None:
        """SEL: a seal; of several the first."""
        _place_of(message)[0].setdefault("seal", _text(segment, 1) or None)

    def free_text(self, message: _Message, segment: Segment) -> None:
        """FTX: damage."""
        if _text(segment, 1) == "DAR":
            _place_of(message)[0].update(_said(damage=_text(segment, 3) or _text(segment, 4)))

    def control(self, message: _Message, segment: Segment) -> None:
        """CNT: how many containers there should be."""
        declared = _text(segment, 1, 1)
        if _text(segment, 1) == "16" and declared.lstrip("0") != str(len(message.equipment)).lstrip("0"):
            message.flags.append("container_count")


Reader = Callable[[_Interchange, _Message, Segment], None]
READERS: Final[dict[str, Reader]] = {
    "BGM": _Interchange.beginning,
    "TDT": _Interchange.transport,
    "EQD": _Interchange.equipment,
    "DTM": _Interchange.time,
    "LOC": _Interchange.place,
    "RFF": _Interchange.reference,
    "NAD": _Interchange.party,
    "MEA": _Interchange.measure,
    "SEL": _Interchange.seal,
    "FTX": _Interchange.free_text,
    "CNT": _Interchange.control,
}
"""Segments that are read; the others only count."""


def _segments(payload: bytes) -> Iterator[Segment]:
    if len(payload) > MAX_PAYLOAD:
        raise RejectError(Reason.TOO_LARGE, "", f"{len(payload)} bytes: at most {MAX_PAYLOAD}")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        # UNOC and its like are single-byte alphabets.
        text = payload.decode("latin-1")
    if text.startswith(REMARK):
        # Collections of messages are kept with remarks between them; on the wire none begins so.
        text = re.sub(rf"(?m)^{REMARK}.*$", "", text)
    text, advice = text.strip(), USUAL_ADVICE
    if text.startswith(SERVICE_ADVICE):
        advice, text = text[: len(USUAL_ADVICE)], text[len(USUAL_ADVICE) :]
    if not text.strip():
        raise RejectError(Reason.UNDECODABLE, "", "no segment")
    try:
        tokens = Tokenizer().get_tokens(text.lstrip(), Characters.from_str(advice))
        # The segments themselves, without the library's checks of them: what does not follow the directory is kept.
        yield from Parser().convert_tokens_to_raw_segments(tokens)
    except Exception as error:  # noqa: BLE001 - the library raises errors of many kinds on bad input
        raise RejectError(Reason.UNDECODABLE, "", str(error)[:200] or type(error).__name__) from None


def _text(segment: Segment, element: int, component: int = 0) -> str:
    """Return a component of an element, "" where it is missing."""
    if element >= len(segment):
        return ""
    found = segment[element]
    if isinstance(found, str):
        return found.strip()[:MAX_TEXT] if component == 0 else ""
    return found[component].strip()[:MAX_TEXT] if component < len(found) else ""


def _number(segment: Segment, element: int) -> int | None:
    text = _text(segment, element)
    return int(text) if text.isascii() and text.isdigit() else None


def _place_of(message: _Message) -> tuple[dict[str, Scalar], list[str]]:
    """Return where a segment's facts belong: to the container before it, else to the message."""
    if message.equipment:
        return message.equipment[-1].data, message.equipment[-1].flags
    return message.data, message.flags


def _said(**facts: str) -> dict[str, Scalar]:
    """Return the facts that are there."""
    return {name: text for name, text in facts.items() if text}
