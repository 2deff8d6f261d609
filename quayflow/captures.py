"""What a file holds, as messages to judge: a recording, frames as `quayflow journal cat` writes them, or bare payloads.

Bare payloads have no topic and nobody noted when they came. Where one ends and the next begins, the format says: JSON
documents by themselves or a line each, msgpack by its own lengths, JT/T 808 between its flags, Teltonika and LLRP by
the lengths in their heads. What is binary may also be written as hexadecimal digits, a message a line.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack
import msgspec

from devices.codecs.readings import Codec, Reading
from devices.codecs.registry import make_codec
from devices.codecs.teltonika import IMEI_DIGITS, imei_of
from devices.times import parse_rfc3339
from devices.topics import DEVICE, DeviceKey, Stream, topic_of
from devices.vocabulary import DeviceClass
from quayflow.contents import Content, FromHere, Mapped, lines_of
from store.journal import SUFFIX
from store.recorded_frames import payload_of, time_of

NATIVE: Final = "native"
BARE: Final = "check"
"""First level of the topics made up for foreign payloads that name their devices themselves."""
PLACEHOLDER: Final = "CHECKED"
"""Id of the device for payloads that come without a topic and name nobody."""
SPACE: Final = re.compile(rb"[ \t\r\n]*")
HEX: Final = re.compile(rb"[0-9A-Fa-f \t\r\n]+")
MARKS: Final = bytes([*range(0x80, 0x90), 0xDE, 0xDF])
"""First bytes of a map in msgpack."""
DOCUMENTS: Final = (1 << 12, 1 << 16, 1 << 20)
"""Bytes that a JSON document over several lines may have; it is looked for within the fewest first."""
MAX_MESSAGE: Final = 1 << 24
"""Bytes of a message that are looked at: where none ends, the rest of a file is one."""
HEAD: Final = 1 << 16
"""Bytes at the beginning of a file that tell whether it is written as hexadecimal digits."""
FLAG: Final = b"\x7e"
PING: Final = 0xFF
TELTONIKA_HEAD: Final = 8
LLRP_HEAD: Final = 10
LLRP_VERSIONS: Final = (1, 2)
GUESSED: Final = (
    *("tic40", "tic40-flat", "impinj", "zebra", "owntracks"),
    *("teltonika", "llrp", "sparkplug", "jt808"),
)
"""Formats that a payload which is not native is tried as, the strictest first, to say which ``--codec`` to name."""

_documents_of = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Message:
    """A message to judge."""

    topic: str
    payload: bytes
    recv_ts: int
    """Time of receipt, ns UTC."""
    place: str = ""
    """Where in its file it stands, such as ``line 3``."""
    own_topic: bool = True
    """Whether it came with its topic; else that is made up."""
    received: bool = True
    """Whether somebody noted when it came; else ``recv_ts`` is the time that it says itself …"""
    timed: bool = True
    """… if it says one, else that of the check, which tells nothing of a rate."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What is said of a file whose messages come without a topic."""

    device_class: DeviceClass
    site: str
    codec: str = NATIVE
    zone: str = ""
    topic: str = ""
    """Topic on which they came, "" where that is not known."""
    now: int = field(default_factory=time.time_ns)


class Piece(NamedTuple):
    """One message in a file of bare payloads."""

    payload: bytes
    place: str


def is_recording(path: Path) -> bool:
    """Tell whether a path is a recording of `quayflow record`, a journal, a segment of one or an archive of files."""
    return path.is_dir() or path.suffix in {SUFFIX, ".zip"}


def read_recording(path: Path, only: str, site: str) -> tuple[Iterator[Message], int, frozenset[str], list[str]]:
    """Return a recording's messages, how many they are, their topics, and what of it could not be read.

    ``only`` is a topic filter, "" for all. RecordingError where nothing can be read.
    """
    from simulators.recording import Choice, open_recording  # noqa: PLC0415 - for who has a recording: ingest starts too

    found = open_recording(path, Choice(topics=(only,) if only else ()), site)
    messages = (
        Message(each.topic, _bytes_of(each.content), each.ts, f"message {number}")
        for number, each in enumerate(found.entries(), 1)
    )
    more = found.bad.count - len(found.bad.notes)
    notes = [*found.bad.notes, *([f"and {more} more"] if more else [])]
    return messages, found.messages, frozenset(found.topics), notes


def _bytes_of(content: object) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, dict):
        return json.dumps(content).encode()
    raise ValueError("a track of points holds no messages to judge")


def read_file(content: Content, holding: Holding) -> Iterator[Message]:
    """Yield the messages of a file: payloads, or frames as ``quayflow journal cat`` writes them.

    ValueError names the place that is neither.
    """
    bare = _Bare(holding)
    for payload, place in pieces(content, NATIVE if has_topics(content) else holding.codec):
        tree = body_of(payload)
        if isinstance(tree.get("topic"), str) and "payload" in tree:
            yield _framed(tree, place, holding.now)
        else:
            yield bare.message(payload, place)


def topics_of(content: Content, holding: Holding) -> frozenset[str]:
    """Return the topics with which the messages of a file come; the whole file is read where they may differ."""
    if not has_topics(content) and holding.codec != "owntracks":
        return frozenset({holding.topic} - {""})
    return frozenset(each.topic for each in read_file(content, holding) if each.own_topic)


def pieces(content: Content, codec: str) -> Iterator[Piece]:
    """Yield the messages of a file of bare payloads; what is cut off or no message is one, too, to be refused.

    What has been yielded is not looked at again, so that a file of any size takes no more memory than its longest
    message, of which :data:`MAX_MESSAGE` bytes count.
    """
    head = content[:HEAD]
    if codec in BINARY and head.strip() and HEX.fullmatch(head):
        yield from _hexadecimal(content, codec)
        return
    line, before = 1, 0
    for at, payload in SPLITTERS[codec](content):
        line, before = line + content[before:at].count(b"\n"), at
        if isinstance(content, Mapped):
            content.look_from(at)
        yield Piece(payload, f"byte {at}" if codec in BINARY or payload[:1] > b"\x7f" else f"line {line}")


def guess(content: Content) -> str:
    """Return the foreign format as which the first message of a file reads, "" if as none, or natively."""
    for codec in () if has_topics(content) else (NATIVE, *GUESSED):
        try:
            piece = next(pieces(content, codec), None)
            readings = make_codec(codec).decode(piece.payload) if piece else []
        except Exception:  # noqa: BLE001, S112 - whatever it says, it is not of this format
            continue
        if codec == "jt808" and piece and not piece.payload.startswith(FLAG):
            continue
        if any(each.values or each.happenings or each.unknown or each.info or each.online for each in readings):
            return "" if codec == NATIVE else codec
    return ""


def body_of(payload: bytes) -> dict[Any, Any]:
    """Return a native payload's fields, {} where it is no map; whatever is wrong with it, the pipeline says."""
    try:
        body = msgspec.json.decode(payload) if payload[:1] == b"{" else msgspec.msgpack.decode(payload)
    except Exception:  # noqa: BLE001 - decoders raise RecursionError, UnicodeDecodeError and more on bad input
        return {}
    return body if isinstance(body, dict) else {}


def has_topics(content: Content) -> bool:
    """Tell whether a file holds frames with their topics, whatever format these are in."""
    first = next(pieces(content, NATIVE), None)
    tree = body_of(first.payload) if first else {}
    return isinstance(tree.get("topic"), str) and "payload" in tree


def _framed(tree: dict[Any, Any], place: str, now: int) -> Message:
    """Return a frame as the journal's commands write it: with its topic and the time of receipt."""
    try:
        payload, at = payload_of(tree), time_of(tree)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    if at is not None and not 0 < at < 2**63:
        raise ValueError(f"{place}: ts: expected nanoseconds since 1970 UTC, or RFC 3339")
    noted = at is not None
    return Message(tree["topic"], content, now if at is None else at, place, received=noted, timed=noted)


class _Bare:
    """Finds a topic for payloads that come without one, as they follow each other."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._speaker = PLACEHOLDER
        # Beside that of the pipeline: whoever remembers must be told everything once.
        self._codec: Codec | None = None if holding.codec == NATIVE else make_codec(holding.codec, holding.zone)

    def message(self, payload: bytes, place: str) -> Message:
        holding = self._holding
        if self._codec is None:
            tree = body_of(payload)
            stream = Stream.EVENT if "type" in tree else Stream.STATUS if "online" in tree else Stream.TELEMETRY
            told = tree.get("device")
            name = told if isinstance(told, str) and DEVICE.fullmatch(told) else PLACEHOLDER
            topic = topic_of(DeviceKey(holding.site, holding.device_class, name), stream)
            return self._told(topic, payload, place, _times_in(tree))
        try:
            topic = holding.topic or _topic_in(payload, holding.codec) or f"{BARE}/{holding.codec}"
            readings = self._codec.decode(payload, topic)
        except Exception:  # noqa: BLE001 - the pipeline says what it is
            readings = []
        if (imei := imei_of(payload)) is not None and holding.codec == "teltonika":
            self._speaker = imei
        speaker = "" if all(reading.device for reading in readings) and imei is None else self._speaker
        topic = f"{BARE}/{holding.codec}"
        if speaker:
            spoken = next((each.device_class for each in readings if each.device_class), holding.device_class)
            topic = f"port/{holding.site}/{spoken}/{speaker}/{holding.codec}"
        return self._told(topic, payload, place, _times_of(readings))

    def _told(self, topic: str, payload: bytes, place: str, times: list[int]) -> Message:
        now, told = self._holding.now, self._holding.topic or _topic_in(payload, self._holding.codec)
        at = max((ts for ts in times if 0 < ts <= now), default=None)
        return Message(
            topic=told or topic,
            payload=payload,
            recv_ts=now if at is None else at,
            place=place,
            own_topic=bool(told),
            received=False,
            timed=at is not None,
        )


def _topic_in(payload: bytes, codec: str) -> str:
    """Return the topic that a payload of OwnTracks repeats, as over HTTP; "" where it does not."""
    topic = body_of(payload).get("topic") if codec == "owntracks" else None
    return topic if isinstance(topic, str) else ""


def _times_in(tree: dict[Any, Any]) -> list[int]:
    ts = tree.get("ts", tree.get("t0"))
    try:
        found = parse_rfc3339(ts) if isinstance(ts, str) else ts
    except ValueError:
        return []
    return [found] if isinstance(found, int) and not isinstance(found, bool) else []


def _times_of(readings: list[Reading]) -> list[int]:
    return [reading.ts for reading in readings if reading.ts is not None]


def _hexadecimal(content: Content, codec: str) -> Iterator[Piece]:
    for number, (at, line) in enumerate(lines_of(content, MAX_MESSAGE), 1):
        if isinstance(content, Mapped):
            content.look_from(at)
        if not line.strip():
            continue
        try:
            octets = bytes.fromhex(line.decode("ascii"))
        except ValueError:
            raise ValueError(f"line {number}: expected pairs of hexadecimal digits, a message a line") from None
        for _, payload in SPLITTERS[codec](octets):
            yield Piece(payload, f"line {number}")


Split = Iterator[tuple[int, bytes]]
"""Where each message begins, and what it is."""


def _native(content: Content) -> Split:
    """Split JSON and msgpack, mixed as they may be: no payload begins with what stands between two of them."""
    at = 0
    while (at := _after_space(content, at)) < len(content):
        if content[at] not in MARKS:
            end = _end_of_document(content, at)
            yield at, _cut(content, at, end).rstrip()
            at = end
            continue
        begin = at
        stream = msgpack.Unpacker(FromHere(content, begin), read_size=1 << 16, max_buffer_size=MAX_MESSAGE)
        while (at := _after_space(content, at)) < len(content) and content[at] in MARKS:
            try:
                while begin + stream.tell() <= at:
                    stream.skip()
            except Exception:  # noqa: BLE001 - in a stream nothing can be found beyond it
                yield at, _cut(content, at, len(content))
                return
            yield at, content[at : begin + stream.tell()]
            at = begin + stream.tell()


def _documents(content: Content) -> Split:
    """Split JSON: a document a line, or over several lines."""
    at = 3 if content[:3] == b"\xef\xbb\xbf" else 0
    while (at := _after_space(content, at)) < len(content):
        end = _end_of_document(content, at)
        yield at, _cut(content, at, end).rstrip()
        at = end


def _end_of_document(content: Content, at: int) -> int:
    """Return where a JSON document ends: with its line, unless it goes on in further lines and is whole there."""
    found = content.find(b"\n", at, at + DOCUMENTS[-1])
    if (
        found < 0
        and content[at] in b"{["
        and at + DOCUMENTS[-1] < len(content)
        and (length := _length_of_document(content, at))
    ):
        # Documents one after another without lines.
        return at + length
    found = content.find(b"\n", at) if found < 0 else found
    line_end = len(content) if found < 0 else found
    if content[at] not in b"{[" or _is_document(_cut(content, at, line_end)):
        return line_end
    length = _length_of_document(content, at)
    if not length:
        return line_end if length is None else len(content)
    after = _after_space(content, at + length)
    # A document with something else behind it is none.
    return at + length if after == len(content) or content[after] in b"{[" or after > line_end else line_end


def _length_of_document(content: Content, at: int) -> int | None:
    """Return how long the JSON document is that begins somewhere, 0 if it is cut off, None if there is none."""
    for most in DOCUMENTS:
        try:
            # In Latin-1 a character is a byte, and what stands within strings does not matter.
            return _documents_of.raw_decode(content[at : at + most].decode("latin-1"))[1]
        except json.JSONDecodeError as error:
            if at + most < len(content) and most < DOCUMENTS[-1]:
                continue
            is_cut = "Unterminated" in error.msg or _after_space(content, at + error.pos) == len(content)
            return 0 if is_cut else None
        except RecursionError:
            return None
    return None


def _is_document(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except Exception:  # noqa: BLE001 - besides DecodeError also RecursionError
        return False
    return True


def _after_space(content: Content, at: int) -> int:
    found = SPACE.match(content, at)
    return found.end() if found else at


def _cut(content: Content, at: int, end: int) -> bytes:
    """Return what stands between two places, as far as it is looked at."""
    return content[at : min(end, at + MAX_MESSAGE)]


def _lines(content: Content) -> Split:
    for at, line in lines_of(content, MAX_MESSAGE):
        if line.strip():
            yield at, line.strip()


def _whole(content: Content) -> Split:
    if len(content):
        yield 0, _cut(content, 0, len(content))


def _jt808(content: Content) -> Split:
    """Split what stands between flags; what stands before the first or after the last is no frame."""
    at = content.find(FLAG)
    if at < 0:
        yield from _whole(content)
        return
    if (before := _cut(content, 0, at)).strip():
        yield 0, before
    while (end := content.find(FLAG, at + 1)) >= 0:
        if (frame := _cut(content, at, end + 1))[1:-1].strip():
            yield at, frame
        at = end
    if (rest := _cut(content, at, len(content)))[1:].strip():
        yield at, rest


def _teltonika(content: Content) -> Split:
    """Split introductions and packets; pings between them are none."""
    at = 0
    while (at := _after_space(content, at)) < len(content):
        if content[at] == PING:
            at += 1
            continue
        end = len(content)
        if any(content[at : at + 4]):
            digits = int.from_bytes(content[at : at + 2])
            end = at + 2 + digits if digits in IMEI_DIGITS else end
        elif at + TELTONIKA_HEAD <= len(content):
            end = at + TELTONIKA_HEAD + int.from_bytes(content[at + 4 : at + 8]) + 4
        yield at, _cut(content, at, end)
        at = end


def _llrp(content: Content) -> Split:
    """Split whole messages; bare parameters are one with all that follows."""
    at = 0
    while at < len(content):
        length = int.from_bytes(content[at + 2 : at + 6])
        is_head = content[at] >> 2 & 7 in LLRP_VERSIONS and length >= LLRP_HEAD
        end = at + length if is_head else len(content)
        yield at, _cut(content, at, end)
        at = end


SPLITTERS: Final[dict[str, Callable[[Content], Split]]] = {
    NATIVE: _native,
    **dict.fromkeys(("tic40", "tic40-flat", "impinj", "zebra", "owntracks"), _documents),
    **dict.fromkeys(("epc", "iso6346"), _lines),
    **dict.fromkeys(("sparkplug", "edifact"), _whole),
    "llrp": _llrp,
    "jt808": _jt808,
    "teltonika": _teltonika,
}
"""Format → where its messages begin and end in a file."""
BINARY: Final = frozenset({"sparkplug", "llrp", "jt808", "teltonika"})
"""Formats whose messages are not text."""
