"""Opaque keyset cursors: where a list was left, and for which question.

A cursor is base64url text over msgpack ``[kind, fingerprint, position…]``. It is not secret and grants nothing; it is
opaque so that it may change. The fingerprint of the filters keeps one from being used with another question, where it
would silently skip items.
"""

import base64
import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

MAX_LENGTH: Final = 1_024
_FINGERPRINT_BYTES: Final = 6

Position = tuple[int | str | None, ...]


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    kind: str
    fingerprint: bytes
    position: list[int | str | None]


_decode = msgspec.msgpack.Decoder(_Cursor).decode
_encode = msgspec.msgpack.Encoder().encode


def fingerprint(filters: Iterable[tuple[str, str]]) -> bytes:
    """Return a digest of the filters of a question, whatever their order."""
    text = "\0".join(f"{name}\0{value}" for name, value in sorted(filters))
    return hashlib.blake2b(text.encode(), digest_size=_FINGERPRINT_BYTES).digest()


def encode(kind: str, mark: bytes, position: Position) -> str:
    """Return the cursor that continues list ``kind`` after ``position``; ``mark``: fingerprint of its filters."""
    return base64.urlsafe_b64encode(_encode(_Cursor(kind, mark, list(position)))).decode().rstrip("=")


def decode(kind: str, mark: bytes, text: str, like: tuple[type, ...]) -> Position:
    """Return the position in ``text``; ValueError if it is none, another list's, or another question's.

    ``like`` holds the type of each part of the position; a part of ``int`` may also be None.
    """
    try:
        cursor = _decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, msgspec.DecodeError):
        raise ValueError("not a cursor; use `next` of an answer unchanged") from None
    if cursor.kind != kind or len(cursor.position) != len(like):
        raise ValueError("a cursor of another list; use `next` of an answer of this list")
    if cursor.fingerprint != mark:
        raise ValueError("a cursor of another question; keep every other parameter but `limit` unchanged")
    for part, wanted in zip(cursor.position, like, strict=True):
        if not (isinstance(part, wanted) or (part is None and wanted is int)) or isinstance(part, bool):
            raise ValueError("not a cursor; use `next` of an answer unchanged")
    return tuple(cursor.position)
