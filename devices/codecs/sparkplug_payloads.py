"""Sparkplug B payloads: metrics out of protobuf and into it.

    payload = 1 timestamp ms | 2 metric* | 3 seq | 4 uuid | 5 body
    metric  = 1 name | 2 alias | 3 timestamp ms | 4 datatype | 5 historical | 6 transient | 7 null | 8 metadata
              | 9 properties | one of 10 int u32, 11 long u64, 12 float, 13 double, 14 boolean, 15 string, 16 bytes,
              17 dataset, 18 template, 19 extension

After the Sparkplug specification 3.0 and its schema.
"""

import re
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from devices.codecs.protobuf import BYTES, VARINT, fields, put_bytes, put_fixed, put_varint, varint
from devices.rejects import Reason, RejectError

INT8, INT16, INT32, INT64 = 1, 2, 3, 4
FLOAT, DOUBLE, BOOLEAN = 9, 10, 11
MAX_METRICS: Final = 10_000
MAX_PAYLOAD: Final = 1_048_576
"""Bytes of a payload: one of fields of two bytes each takes about a microsecond for each."""
FLOAT_LAYOUT: Final = struct.Struct("<f")
DOUBLE_LAYOUT: Final = struct.Struct("<d")
BITS: Final = {INT8: 8, INT16: 16, INT32: 32, INT64: 64}
NUMBER: Final = rb"([\x80-\xff]{0,9}[\x00-\x7f])"
USUAL: Final = re.compile(
    rb"\x12([\x00-\x7f])\x10" + NUMBER + rb"(?:\x18" + NUMBER + rb")?(?:\x20([\x00-\x7f]))?"
    rb"(?:\x69(.{8})|\x65(.{4})|([\x50\x58\x70])" + NUMBER + rb")",
    re.DOTALL,
)
"""A metric as data messages are full of it: alias, perhaps timestamp and datatype, and a number, in this order.

What it does not match is read field by field; it is for speed alone.
"""

Value = int | float | bool | str | None


class Metric(msgspec.Struct, array_like=True, gc=False):
    """One metric of a payload."""

    name: str = ""
    alias: int | None = None
    ts: int | None = None
    """Own timestamp, ms since 1970."""
    datatype: int = 0
    """0 where the payload leaves it to the birth."""
    value: Value = None
    historical: bool = False
    skipped: str = ""
    """Why there is no value: ``null``, ``dataset``, ``template``, ``bytes``."""


class Payload(msgspec.Struct, gc=False):
    """A payload."""

    ts: int | None
    seq: int | None
    metrics: list[Metric]


def read(data: bytes) -> Payload:
    """Read a payload; RejectError where it is no protobuf message of this layout, or holds too much."""
    if len(data) > MAX_PAYLOAD:
        raise RejectError(Reason.TOO_LARGE, "", f"{len(data)} bytes: at most {MAX_PAYLOAD}")
    payload = Payload(None, None, [])
    _read_into(payload, data)
    if len(payload.metrics) > MAX_METRICS:
        raise RejectError(Reason.TOO_LARGE, "/metrics", f"{len(payload.metrics)} metrics: at most {MAX_METRICS}")
    return payload


def _read_into(payload: Payload, data: bytes) -> None:
    metrics, position, end = payload.metrics, 0, len(data)
    match, double = USUAL.match, DOUBLE_LAYOUT.unpack_from
    known = head = middle = b""
    ts: int | None = None
    own: int | None = None
    kind_of_last = 0
    while position < end:
        # Often a metric is the last double but for its alias, of one byte, and its value.
        value_at = position + 4 + len(middle)
        if (
            middle
            and value_at + 8 <= end
            and data[position + 4 : value_at] == middle
            and data[position : position + 3] == head
            and data[position + 3] < 0x80  # noqa: PLR2004 - the bit that says that more follows
        ):
            metrics.append(Metric("", data[position + 3], own, kind_of_last, double(data, value_at)[0]))
            position = value_at + 8
            continue
        middle = b""
        if data[position] == 0x12 and (found := match(data, position)) is not None:  # noqa: PLR2004 - field 2
            length, alias, time, datatype, eight, four, kind, number = found.groups()
            after = found.end()
            if position + 2 + length[0] == after:
                if time is None:
                    own = None
                else:
                    if time != known:
                        known, ts = time, varint(time, 0, len(time))[0]
                    own = ts
                kind_of_last = datatype[0] if datatype else 0
                if eight is not None:
                    value: Value = double(eight)[0]
                    if len(alias) == 1:
                        head, middle = data[position : position + 3], data[position + 4 : after - 8]
                else:
                    value = _value(four, kind, number)
                alias_number = alias[0] if len(alias) == 1 else varint(alias, 0, len(alias))[0]
                metrics.append(Metric("", alias_number, own, kind_of_last, value))
                position = after
                continue
        position = _field(data, position, payload)


def _value(single: bytes | None, kind: bytes, number: bytes) -> Value:
    """Return the value of a usual metric that is no double."""
    if single is not None:
        return float(FLOAT_LAYOUT.unpack(single)[0])
    value = number[0] if len(number) == 1 else varint(number, 0, len(number))[0]
    return bool(value) if kind == b"\x70" else value


def signed(value: Value, datatype: int) -> Value:
    """Return a value as its datatype means it: signed integers travel as two's complement."""
    bits = BITS.get(datatype)
    if bits is None or isinstance(value, bool) or not isinstance(value, int):
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def write(ts: int | None, seq: int | None, metrics: Sequence[Metric]) -> bytes:
    """Write a payload, ``ts`` in ms since 1970; numbers that are no float go as long, as Tahu writes bdSeq."""
    head = put_varint(1, ts) if ts is not None else b""
    body = b"".join(put_bytes(2, _written(metric)) for metric in metrics)
    return head + body + (put_varint(3, seq) if seq is not None else b"")


def _written(metric: Metric) -> bytes:
    parts = [put_bytes(1, metric.name.encode()) if metric.name else b""]
    parts += [put_varint(number, value) for number, value in ((2, metric.alias), (3, metric.ts)) if value is not None]
    parts.append(put_varint(4, metric.datatype) if metric.datatype else b"")
    parts.append(put_varint(5, 1) if metric.historical else b"")
    value = metric.value
    if isinstance(value, bool):
        parts.append(put_varint(14, value))
    elif isinstance(value, str):
        parts.append(put_bytes(15, value.encode()))
    elif isinstance(value, int):
        parts.append(put_varint(11, value))
    elif value is None:
        parts.append(put_varint(7, 1))
    elif metric.datatype == FLOAT:
        parts.append(put_fixed(12, FLOAT_LAYOUT.pack(value)))
    else:
        parts.append(put_fixed(13, DOUBLE_LAYOUT.pack(value)))
    return b"".join(parts)


def _field(data: bytes, start: int, payload: Payload) -> int:
    """Read one field of a payload, whatever it is; return where it ends."""
    key, position = varint(data, start, len(data))
    number, kind = key >> 3, key & 7
    if kind == VARINT:
        value, position = varint(data, position, len(data))
        if number == 1:
            payload.ts = value
        elif number == 3:  # noqa: PLR2004 - seq
            payload.seq = value
        return position
    if kind == BYTES:
        length, position = varint(data, position, len(data))
    else:
        length = {1: 8, 5: 4}.get(kind, len(data))
    if position + length > len(data):
        raise RejectError(Reason.UNDECODABLE, "", f"field {number} reaches beyond the payload")
    if number == 2 and kind == BYTES:  # noqa: PLR2004 - metric
        payload.metrics.append(_metric(data, position, position + length))
    return position + length


def _metric(data: bytes, start: int, end: int) -> Metric:
    metric = Metric()
    for number, kind, value in fields(data, start, end):
        if kind == VARINT and isinstance(value, int):
            _take_number(metric, number, value)
        elif isinstance(value, bytes):
            _take_bytes(metric, number, kind, value)
    return metric


def _take_number(metric: Metric, number: int, value: int) -> None:
    match number:
        case 2:
            metric.alias = value
        case 3:
            metric.ts = value
        case 4:
            metric.datatype = value
        case 5:
            metric.historical = bool(value)
        case 7:
            metric.skipped = "null" if value else ""
        case 10 | 11:
            metric.value = value
        case 14:
            metric.value = bool(value)
        case _:
            pass


def _take_bytes(metric: Metric, number: int, kind: int, value: bytes) -> None:
    match number, kind:
        case 1, 2:
            metric.name = value.decode(errors="replace")
        case 12, 5:
            metric.value = FLOAT_LAYOUT.unpack(value)[0]
        case 13, 1:
            metric.value = DOUBLE_LAYOUT.unpack(value)[0]
        case 15, 2:
            metric.value = value.decode(errors="replace")
        case ((16 | 17 | 18), 2):
            metric.skipped = {16: "bytes", 17: "dataset", 18: "template"}[number]
        case _:
            pass
