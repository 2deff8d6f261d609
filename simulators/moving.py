"""Native messages moved in time and to other devices; what is not native stays as it is."""

from devices.codecs.native import (
    BLOCK_MARK,
    Payload,
    decode_block,
    decode_event,
    decode_status,
    decode_telemetry,
    encode,
    is_block,
)
from devices.rejects import RejectError
from devices.times import format_rfc3339, parse_rfc3339
from devices.topics import DeviceKey, Stream, TopicError, parse, topic_of

LONGEST_ID = 64


def decoded(topic: str, payload: bytes) -> tuple[DeviceKey, Stream, Payload] | None:
    """Return whose message it is, on which stream, and what it says; None where it is not native."""
    try:
        key, stream = parse(topic)
        return key, stream, _decode(stream, payload)
    except (TopicError, RejectError, ValueError):
        return None


def moved(topic: str, payload: bytes, shift_ns: int, boot: int, device: str | None = None) -> bytes | None:
    """Return a native payload moved in time and made new traffic by another boot; None where it is not native.

    ``device``, where given, takes the place of the device that the payload names.
    """
    native = decoded(topic, payload)
    if native is None:
        return None
    found = native[2]
    try:
        if hasattr(found, "t0"):
            found.t0 += shift_ns
        elif isinstance(found.ts, str):
            found.ts = format_rfc3339(parse_rfc3339(found.ts) + shift_ns)
        elif found.ts is not None:
            found.ts += shift_ns
    except (ValueError, OverflowError):
        return None
    if found.boot is not None:
        found.boot ^= boot
    if device is not None and found.device is not None:
        found.device = device
    return encode(found, binary=payload[:1] != b"{")


def clone_of(topic: str, number: int) -> tuple[str, str] | None:
    """Return topic and id of a device's clone, numbered from 1; None for a topic that names no device."""
    try:
        key, stream = parse(topic)
    except TopicError:
        return None
    ending = f"-x{number}"
    device = f"{key.device[: LONGEST_ID - len(ending)]}{ending}"
    return topic_of(key._replace(device=device), stream), device


def _decode(stream: Stream, payload: bytes) -> Payload:
    match stream:
        case Stream.TELEMETRY if BLOCK_MARK in payload and is_block(payload):
            return decode_block(payload)
        case Stream.TELEMETRY:
            return decode_telemetry(payload)
        case Stream.EVENT:
            return decode_event(payload)
        case Stream.STATUS:
            return decode_status(payload)
    raise ValueError(f"{stream}: not a stream of a device")
