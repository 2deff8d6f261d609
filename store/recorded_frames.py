"""A recorded frame as an object, in JSON or msgpack: what ``quayflow journal cat`` writes, and recordings hold.

{"topic": text, "payload": base64 text, binary, or the JSON itself, "ts": ns since 1970 UTC or RFC 3339}
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from devices.times import parse_rfc3339


def payload_of(frame: Mapping[Any, Any]) -> bytes | dict[Any, Any]:
    """Return what a frame's message says: bytes, or an object where it was recorded as one; ValueError for neither."""
    payload = frame.get("payload")
    if isinstance(payload, str):
        try:
            return base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"payload: text must be base64: {error}") from error
    if isinstance(payload, list):
        return json.dumps(payload).encode()
    if isinstance(payload, dict | bytes):
        return payload
    raise ValueError("payload: expected an object, base64 text or binary")


def time_of(frame: Mapping[Any, Any]) -> int | None:
    """Return when a frame came, ns UTC, None where that was not noted; ValueError for what is no time.

    A time without a zone is taken as UTC.
    """
    match frame.get("ts"):
        case None:
            return None
        case int(ts) if not isinstance(ts, bool):
            return ts
        case str(text):
            try:
                return _time(text)
            except ValueError as error:
                raise ValueError(f"ts: {error}") from None
    raise ValueError("ts: expected nanoseconds since 1970 UTC, or RFC 3339")


def _time(text: str) -> int:
    try:
        return parse_rfc3339(text)
    except ValueError:
        return parse_rfc3339(f"{text}Z")
