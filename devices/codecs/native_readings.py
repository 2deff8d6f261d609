"""The native payload as readings: for whoever looks at one message of any format. Ingest has its own, faster way."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from devices.codecs import native
from devices.codecs.readings import Happening, Reading
from devices.rejects import Reason, RejectError
from devices.times import parse_rfc3339
from devices.topics import DeviceKey, Stream, TopicError, parse
from devices.vocabulary import BY_NAME, DeviceClass, accepted_from

MAX_BOOT: Final = 2**64 - 1
KINDS: Final[dict[bytes, Callable[[bytes], native.Payload]]] = {
    b"m": native.decode_telemetry,
    b"f32": native.decode_block,
    b"online": native.decode_status,
    b"type": native.decode_event,
}
"""The field that only one kind of payload has, and that kind's decoder."""


class Native:
    """Decodes msgpack and JSON of the native layout, by the stream of the topic or, without a topic, by the fields."""

    name: Final = "native"

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading, of a packed block one per row."""
        if not topic:
            return _readings(_decode_by_fields(payload), None)
        try:
            key, stream = parse(topic)
        except TopicError as error:
            raise RejectError(Reason.UNKNOWN_TOPIC, "", f"{error.level}: {error}") from None
        if stream in {Stream.COMMAND, Stream.COMMAND_ACK}:
            return [_reading_of(key, happenings=(Happening(stream.value),))]
        found: native.Payload
        if stream is Stream.STATUS:
            found = native.decode_status(payload)
        elif stream is Stream.EVENT:
            found = native.decode_event(payload)
        elif native.BLOCK_MARK in payload and native.is_block(payload):
            found = native.decode_block(payload)
        else:
            found = native.decode_telemetry(payload)
        reject = native.identity_reject(found, key)
        if reject is not None:
            raise RejectError(*reject)
        return _readings(found, key)


def _decode_by_fields(payload: bytes) -> native.Payload:
    """Decode by the kind whose own field is there; telemetry's word counts where none is."""
    refused: dict[bytes, RejectError] = {}
    for field, decode in KINDS.items():
        try:
            return decode(payload)
        except RejectError as error:
            refused[field] = error
    marked = [field for field in KINDS if field in payload]
    raise refused[max(marked, key=len) if marked else b"m"]


def _readings(found: native.Payload, key: DeviceKey | None) -> list[Reading]:
    if found.boot is not None and found.boot > MAX_BOOT:
        raise RejectError(Reason.WRONG_TYPE, "/boot", f"expected at most {MAX_BOOT}")
    if isinstance(found, native.Block):
        return _rows(found, key)
    ts = parse_time(found.ts)
    common: dict[str, Any] = {"ts": ts, "boot": found.boot, "seq": found.seq, "device": found.device or ""}
    if isinstance(found, native.Telemetry):
        if not found.m:
            raise RejectError(Reason.NO_SAMPLES, "/m", "no values")
        values, unknown = _known(found.m, key)
        return [_reading_of(key, values=values, unknown=unknown, **common)]
    if isinstance(found, native.Status):
        return [_reading_of(key, online=found.online, info=dict(found.info), **common)]
    return [_reading_of(key, happenings=(Happening(found.type, dict(found.data)),), **common)]


def _rows(block: native.Block, key: DeviceKey | None) -> list[Reading]:
    rows = np.frombuffer(block.f32, "<f4").reshape(block.rows, len(block.names)).astype(float)
    readings = []
    for nth, row in enumerate(rows.tolist()):
        values, unknown = _known(dict(zip(block.names, row, strict=True)), key)
        readings.append(
            _reading_of(
                key,
                ts=block.t0 + nth * block.dt,
                boot=block.boot,
                seq=block.seq,
                device=block.device or "",
                values=values,
                unknown=unknown,
            )
        )
    return readings


def parse_time(ts: int | str | None) -> int | None:
    """Return a payload's time in ns UTC, None where it has none; RejectError on bad text."""
    if not isinstance(ts, str):
        return ts
    try:
        return parse_rfc3339(ts)
    except ValueError as error:
        raise RejectError(Reason.WRONG_TYPE, "/ts", str(error)) from None


def _known(values: dict[str, Any], key: DeviceKey | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split values into those that the device may publish, and the others."""
    accepted = set(BY_NAME) if key is None else set(accepted_from(key.device_class))
    known = {name: value for name, value in values.items() if name in accepted}
    return known, {name: value for name, value in values.items() if name not in accepted}


def _reading_of(key: DeviceKey | None, **fields: Any) -> Reading:  # noqa: ANN401 - the fields of a reading
    if key is None:
        return Reading(**fields)
    return Reading(device_class=DeviceClass(key.device_class), **(fields | {"device": key.device}))
