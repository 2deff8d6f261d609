"""The native payload: msgpack or JSON of one shape, told apart by the first byte.

Telemetry is ``{"v":1,"boot":u64,"seq":u64,"ts":ns or RFC 3339,"m":{metric: number or boolean}}``; ``boot``, ``seq``
and ``ts`` may be missing (a person with mosquitto_pub has none). An event carries ``type`` and ``data`` instead of
``m``, a status ``online`` and ``info``. ``site``, ``class`` and ``device`` may repeat the topic's identity and must
then agree with it. The layout is specified in ``docs/wire.md``.
"""

import json
import math
from typing import Annotated, Any, Final, TypeVar, cast

import msgspec

from devices.rejects import Reason, Reject, RejectError
from devices.scalars import FiniteScalar, Scalar, bounded_number, is_beyond
from devices.times import parse_rfc3339
from devices.topics import DeviceKey

VERSION: Final = 1
MAX_SEQ: Final = 2**63 - 1
MAX_METRICS: Final = 1_024
MAX_DT_NS: Final = 3_600_000_000_000
FLOAT_BYTES: Final = 4
BLOCK_MARK: Final = b"f32"
SHOWN: Final = 64
"""Characters of a foreign text that a pointer or a detail repeats."""
EXPLAIN_LIMIT: Final = 65_536
"""Payloads above this many bytes are refused without a search for the field at fault: untyped decoding costs memory."""

Boot = Annotated[int, msgspec.Meta(ge=0)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
EventType = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"\A[^/+#\x00-\x1f\x7f]+\Z")]
"""It becomes a level of the topic on which the event is published, so it must be able to be one."""


class Telemetry(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A set of values that belong to one instant."""

    v: int
    m: Annotated[dict[str, float | bool], msgspec.Meta(max_length=MAX_METRICS)]
    boot: Boot | None = None
    seq: Seq | None = None
    ts: int | str | None = None
    site: str | None = None
    class_: str | None = msgspec.field(default=None, name="class")
    device: str | None = None


class Block(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Fast signals, packed: ``names`` sampled every ``dt`` ns from ``t0`` on, as little-endian float32, row by row."""

    v: int
    t0: int
    dt: Annotated[int, msgspec.Meta(ge=1, le=MAX_DT_NS)]
    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_METRICS)]
    f32: bytes
    boot: Boot | None = None
    seq: Seq | None = None
    site: str | None = None
    class_: str | None = msgspec.field(default=None, name="class")
    device: str | None = None

    @property
    def ts(self) -> int:
        """The time of the first row, ns UTC."""
        return self.t0

    @property
    def rows(self) -> int:
        """The number of instants in the block."""
        return len(self.f32) // (FLOAT_BYTES * len(self.names))


class Event(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Something that happened once; ``data`` is flat."""

    v: int
    type: EventType
    data: Annotated[dict[str, FiniteScalar], msgspec.Meta(max_length=64)] = {}
    boot: Boot | None = None
    seq: Seq | None = None
    ts: int | str | None = None
    site: str | None = None
    class_: str | None = msgspec.field(default=None, name="class")
    device: str | None = None


class Status(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The retained state of a device; its last will says ``online: false``."""

    v: int
    online: bool
    info: Annotated[dict[str, FiniteScalar], msgspec.Meta(max_length=64)] = {}
    boot: Boot | None = None
    seq: Seq | None = None
    ts: int | str | None = None
    site: str | None = None
    class_: str | None = msgspec.field(default=None, name="class")
    device: str | None = None


Instant = Telemetry | Event | Status
"""What belongs to one instant."""
Payload = Instant | Block
Other = TypeVar("Other", Block, Event, Status)

_TELEMETRY_JSON = msgspec.json.Decoder(Telemetry).decode
_TELEMETRY_MSGPACK = msgspec.msgpack.Decoder(Telemetry).decode
_OTHERS: Final = {
    kind: (msgspec.json.Decoder(kind).decode, msgspec.msgpack.Decoder(kind).decode) for kind in (Block, Event, Status)
}
_JSON_STARTS: Final = frozenset(b'{ \t\r\n["')
_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def decode_telemetry(payload: bytes) -> Telemetry:
    """Decode one telemetry payload or raise :class:`RejectError` that names the field.

    Finiteness and ranges are checked later, on whole columns.
    """
    try:
        found = _TELEMETRY_JSON(payload) if payload[:1] == b"{" else _TELEMETRY_MSGPACK(payload)
    except Exception as error:  # noqa: BLE001 - decoders raise RecursionError, UnicodeDecodeError and more on bad input
        raise _explained(payload, Telemetry, error) from None
    if found.v != VERSION:
        raise RejectError(Reason.UNSUPPORTED_VERSION, "/v", f"version {found.v}: this build reads {VERSION}")
    return found


def telemetry_in(payload: bytes) -> Telemetry | None:
    """Return the telemetry that a payload is, None where it is none, for whatever reason."""
    try:
        found = _TELEMETRY_JSON(payload) if payload[:1] == b"{" else _TELEMETRY_MSGPACK(payload)
    except Exception:  # noqa: BLE001 - as in decode_telemetry
        return None
    return found if found.v == VERSION else None


def decode_block(payload: bytes) -> Block:
    """Decode one packed block or raise :class:`RejectError` that names the field; it holds whole rows, at least one."""
    found = _decode_other(payload, Block)
    if len(set(found.names)) < len(found.names):
        raise RejectError(Reason.WRONG_TYPE, "/names", "the same name twice")
    size = FLOAT_BYTES * len(found.names)
    if not found.f32 or len(found.f32) % size:
        detail = f"{len(found.f32)} bytes: expected a multiple of {size}, one row of {len(found.names)} float32"
        raise RejectError(Reason.WRONG_TYPE, "/f32", detail)
    return found


def is_block(payload: bytes) -> bool:
    """Tell whether a payload that is no valid block was meant as one: it is no telemetry, and has the block's field."""
    try:
        decode_telemetry(payload)
    except RejectError:
        if len(payload) > EXPLAIN_LIMIT:
            return True
    else:
        return False
    try:
        tree = _tree(payload)
    except Exception:  # noqa: BLE001 - as in decode_telemetry
        return False
    return isinstance(tree, dict) and BLOCK_MARK.decode() in tree


def decode_event(payload: bytes) -> Event:
    """Decode one event payload or raise :class:`RejectError` that names the field."""
    return _decode_other(payload, Event)


def decode_status(payload: bytes) -> Status:
    """Decode one status payload or raise :class:`RejectError` that names the field."""
    return _decode_other(payload, Status)


def encode(payload: Payload, *, binary: bool = True) -> bytes:
    """Encode as msgpack (``binary``) or JSON; None and empty fields are left out."""
    return _encode_msgpack(payload) if binary else _encode_json(payload)


def event_time(found: Payload, recv_ts: int) -> int:
    """Return the payload's time in ns UTC, or the time of receipt where it has none; RejectError on bad text."""
    ts = found.ts
    if ts is None:
        return recv_ts
    if isinstance(ts, int):
        return ts
    try:
        return parse_rfc3339(ts)
    except ValueError as error:
        raise RejectError(Reason.WRONG_TYPE, "/ts", _sentence(error)) from None


def identity_reject(found: Payload, key: DeviceKey) -> Reject | None:
    """Return a reject if the payload claims another identity than its topic, else None."""
    claims = (
        ("site", found.site, key.site),
        ("class", found.class_, key.device_class),
        ("device", found.device, key.device),
    )
    for field, claimed, actual in claims:
        if claimed is not None and claimed != actual:
            detail = f"payload says {claimed[:SHOWN]!r}, the topic says {actual!r}"
            return Reject(Reason.IDENTITY_MISMATCH, f"/{field}", detail)
    return None


def _decode_other(payload: bytes, kind: type[Other]) -> Other:
    from_json, from_msgpack = _OTHERS[kind]
    try:
        found: Any = (from_json if payload[:1] == b"{" else from_msgpack)(payload)
    except Exception as error:  # noqa: BLE001 - as in decode_telemetry
        raise _explained(payload, kind, error) from None
    if found.v != VERSION:
        raise RejectError(Reason.UNSUPPORTED_VERSION, "/v", f"version {found.v}: this build reads {VERSION}")
    if isinstance(found, Event):
        _bound_facts("data", found.data)
    elif isinstance(found, Status):
        _bound_facts("info", found.info)
    return cast("Other", found)


def _bound_facts(field: str, facts: dict[str, Scalar]) -> None:
    """Make the nearest floats of whole numbers that 64 bits do not hold; RejectError where there is none."""
    for name, value in facts.items():
        if isinstance(value, int) and is_beyond(value):
            facts[name] = nearest = bounded_number(value)
            if not math.isfinite(nearest):
                raise RejectError(*_not_finite(pointer(field, name), value))


def _explained(payload: bytes, kind: type[Payload], error: Exception) -> RejectError:
    """Find the field that a typed decoder refused; it names only the path to a dictionary, not the key."""
    if len(payload) > EXPLAIN_LIMIT:
        return RejectError(Reason.UNDECODABLE, "", f"{_sentence(error)} ({len(payload)} bytes)")
    try:
        tree = _tree(payload)
    except Exception:  # noqa: BLE001 - whatever it is, the payload is not decodable
        return RejectError(Reason.UNDECODABLE, "", _plain_text(payload) or _sentence(error))
    if not isinstance(tree, dict):
        return RejectError(Reason.WRONG_TYPE, "", f"expected an object, got {_type_name(tree)}")
    reject = _field_at_fault(tree, kind)
    return RejectError(*(reject or (Reason.UNDECODABLE, "", _sentence(error))))


def _plain_text(payload: bytes) -> str:
    """Return what is wrong with a payload such as ``12.5``, which a decoder takes for msgpack; "" for others."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return ""
    if payload[:1] and (payload[0] in _JSON_STARTS or not text.isprintable()):
        return ""
    return f"expected a JSON or msgpack object, got the text {_shown(text)}" if text else ""


def _tree(payload: bytes) -> Any:  # noqa: ANN401 - whatever it holds
    """Decode untyped: for small payloads only, and whatever comes may be raised."""
    # json.loads, unlike strict decoders, reads NaN and Infinity, which is what has to be named.
    return json.loads(payload) if payload[:1] and payload[0] in _JSON_STARTS else msgspec.msgpack.decode(payload)


def _field_at_fault(tree: dict[Any, Any], kind: type[Payload]) -> Reject | None:
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in tree:
        if name not in known:
            detail = f"field {str(name)[:SHOWN]!r}: expected one of {', '.join(known)}"
            return Reject(Reason.UNKNOWN_FIELD, pointer(name), detail)
    for name, field in known.items():
        if name not in tree:
            if field.required:
                return Reject(Reason.MISSING_FIELD, f"/{name}", f"field {name!r} is required")
            continue
        if isinstance(tree[name], dict) and name in {"m", "data", "info"}:
            reject = _value_at_fault(tree[name], name, FiniteScalar if name != "m" else float | bool)
            if reject:
                return reject
        try:
            msgspec.convert(tree[name], field.type)
        except Exception as error:  # noqa: BLE001 - besides ValidationError also Recursion-, Overflow-, UnicodeEncodeError
            return Reject(Reason.WRONG_TYPE, f"/{name}", _sentence(error))
    return None


def _value_at_fault(values: dict[Any, Any], name: str, allowed: Any) -> Reject | None:  # noqa: ANN401 - a type form
    for key, value in values.items():
        where = pointer(name, key)
        if isinstance(value, int | float) and not _is_finite(value):
            return _not_finite(where, value)
        try:
            msgspec.convert(key, str)
            msgspec.convert(value, allowed)
        except Exception:  # noqa: BLE001 - as above
            wanted = "a number or a boolean" if name == "m" else "text, a number, a boolean or null"
            return Reject(Reason.WRONG_TYPE, where, f"expected {wanted}, got {_type_name(value)} {_shown(value)}")
    return None


def _not_finite(where: str, value: object) -> Reject:
    return Reject(Reason.NOT_FINITE, where, f"{_shown(value)} is not a finite number of 64 bits")


def pointer(*parts: object) -> str:
    """Return a JSON Pointer (RFC 6901) to the parts, each cut to a length that can be shown."""
    text = "".join("/" + str(part)[:SHOWN].replace("~", "~0").replace("/", "~1") for part in parts)
    # JSON can spell half a character ("\\ud800"), which no text outside can hold.
    return text.encode(errors="backslashreplace").decode()


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _type_name(value: object) -> str:
    names = {str: "text", dict: "an object", list: "an array", bool: "a boolean", type(None): "null", bytes: "binary"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - a width for people


def _sentence(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
