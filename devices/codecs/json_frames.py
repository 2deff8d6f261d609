"""Foreign JSON: one object, an array of objects or one object a line, each decoded into a typed struct.

What one object of several has wrong refuses that object alone. Fields that a struct does not name are passed over: the
frame is in the journal with all that it held.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from devices.rejects import Reason, Reject, RejectError

MAX_PAYLOAD: Final = 1_048_576
"""Bytes of a foreign frame: typed decoding needs some tens of bytes for each."""
MAX_OBJECTS: Final = 10_000
PATH: Final = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
SHOWN: Final = 200

Message = TypeVar("Message", bound=msgspec.Struct)


class Decoded(NamedTuple, Generic[Message]):
    """What a frame holds."""

    messages: Sequence[Message]
    """Its objects that are good."""
    refused: tuple[Reject, ...] = ()
    """Of each of the others why it is none."""
    places: Sequence[int] = (0,)
    """Where in the frame each of the messages stands, from 0 on."""

    def pointer(self, nth: int) -> str:
        """Return the JSON Pointer of a message: empty where the frame is one object."""
        return f"/{self.places[nth]}" if len(self.messages) + len(self.refused) > 1 else ""


class JsonFrames(Generic[Message]):
    """Decodes the objects of a frame as structs of one type."""

    def __init__(self, kind: type[Message]) -> None:
        """``kind`` is the struct of one object."""
        self._kind = kind
        self._one = msgspec.json.Decoder(kind)
        self._many = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type] # a type made at run time

    def decode(self, payload: bytes) -> Decoded[Message]:
        """Return the objects that are good, and a reject for each that is not; RejectError where none is good."""
        if len(payload) > MAX_PAYLOAD:
            raise RejectError(Reason.TOO_LARGE, "", f"{len(payload)} bytes: at most {MAX_PAYLOAD}")
        try:
            if payload[:1] == b"{":
                return Decoded((self._one.decode(payload),))
            found = _bounded(self._many.decode(payload))
        except RejectError:
            raise
        except Exception as error:  # noqa: BLE001 - decoders raise RecursionError, UnicodeDecodeError and more on bad input
            return self._one_by_one(payload, error)
        return Decoded(found, (), range(len(found)))

    def _one_by_one(self, payload: bytes, error: Exception) -> Decoded[Message]:
        """Decode what could not be decoded as a whole: lines, or an array with something wrong in it."""
        objects = objects_of(payload)
        if objects is None:
            raise reject_of(error) from None
        good: list[Message] = []
        places: list[int] = []
        refused: list[Reject] = []
        for nth, each in enumerate(objects):
            try:
                good.append(self._one.decode(each))
            except Exception as inner:  # noqa: BLE001 - as above
                reason, pointer, detail = reject_of(inner).reject
                refused.append(Reject(reason, f"/{nth}{pointer}", detail))
            else:
                places.append(nth)
        if not good:
            raise RejectError(*refused[0])
        return Decoded(good, tuple(refused), places)


def objects_of(payload: bytes) -> Sequence[bytes | msgspec.Raw] | None:
    """Return the objects of an array or of lines as they are written; None where a frame is neither."""
    stripped = payload.strip()
    if stripped[:1] == b"[":
        try:
            return _bounded(msgspec.json.decode(stripped, type=list[msgspec.Raw]))
        except RejectError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            raise reject_of(error) from None
    if b"\n" in stripped and not _is_one_value(stripped):
        return _bounded([line for line in stripped.splitlines() if line.strip()])
    return None


def reject_of(error: Exception) -> RejectError:
    """Return a decoder's refusal as ours, with its path as a JSON Pointer."""
    text = str(error) or type(error).__name__
    if not isinstance(error, msgspec.ValidationError):
        return RejectError(Reason.UNDECODABLE, "", text[:SHOWN])
    found = PATH.search(text)
    if found is None:
        missing = re.search(r"missing required field `(.*)`$", text)
        pointer = f"/{missing[1]}" if missing else ""
        return RejectError(Reason.MISSING_FIELD if missing else Reason.WRONG_TYPE, pointer, text[:SHOWN])
    sentence = text[: found.start()]
    pointer = "".join(f"/{name or index}" for name, index in STEP.findall(found[1]))
    missing = re.search(r"missing required field `(.*)`$", sentence)
    if missing:
        return RejectError(Reason.MISSING_FIELD, f"{pointer}/{missing[1]}", sentence[:SHOWN])
    return RejectError(Reason.WRONG_TYPE, pointer, sentence[:SHOWN])


def _is_one_value(payload: bytes) -> bool:
    """Tell whether a payload is a single JSON value, which may well be written over several lines."""
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _bounded(found: list[Any]) -> list[Any]:
    if not found:
        raise RejectError(Reason.NO_SAMPLES, "", "an empty array")
    if len(found) > MAX_OBJECTS:
        raise RejectError(Reason.TOO_LARGE, "", f"{len(found)} objects: at most {MAX_OBJECTS}")
    return found
