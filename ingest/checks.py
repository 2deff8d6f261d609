"""Checks that concern a whole frame or one reading of it: its time, and the tag that it read."""

from typing import Final

from analytics.detectors.gates import TagRead
from devices.codecs import native
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar
from devices.times import NS
from devices.vocabulary import BY_NAME

YEAR_2000: Final = 946_684_800 * NS
MAX_AHEAD: Final = 300 * NS
"""A device may be this far ahead of the time of receipt, ns; beyond, its clock is wrong."""
MAX_SPAN: Final = 3_600 * NS
"""Longest time that one block may cover, ns: it is cut at the end of every window that it reaches over."""
MAX_BOOT: Final = 2**64 - 1
MAX_TAG: Final = 128
"""Characters of a tag: the longest EPC, of 496 bits, has 124 hex digits."""
READ_METRICS: Final = ("reads", "rssi_dbm", "antenna")


UNSET: Final = str(Reason.CLOCK_UNSET)
"""Flag of what came from a device whose clock is not set, and counts at the time of receipt."""


def is_set(ts: int | None) -> bool:
    """Tell whether a device says when something was: not where it says nothing, or its clock was never set."""
    return ts is not None and ts >= YEAR_2000


def checked_time(ts: int, recv_ts: int, pointer: str = "/ts", *, kept: bool = False) -> int:
    """Return the event time of what a device dates ``ts``, all in ns UTC; RejectError where its clock is wrong.

    Where the clock is not set the time of receipt counts, but not for what the device had ``kept`` for later: that was
    at another time, which nobody knows. ``pointer`` is where the payload has its time.
    """
    if ts < YEAR_2000:
        if kept:
            raise RejectError(Reason.CLOCK_UNSET, pointer, "kept for later by a device whose clock was not set")
        return recv_ts
    if ts > recv_ts + MAX_AHEAD:
        ahead = min(ts - recv_ts, 2**63) // NS
        raise RejectError(Reason.CLOCK_FUTURE, pointer, f"{ahead} s ahead of receipt; at most {MAX_AHEAD // NS} s")
    return ts


def is_read(event: native.Event, topic: str) -> bool:
    """Tell whether an event is a read of a tag, which becomes samples and is joined to a passage."""
    return event.type == "tag_read" and "/rfid-gate/" in topic


def tag_read(device: int, ts: int, event: native.Event, *, partial: bool = False) -> TagRead:
    """Return the read that an event reports; RejectError names the field that is missing or wrong.

    ``partial``: readers of other makes may not report antenna and signal strength; such a read is the weakest there is.
    """
    tag, direction = event.data.get("tag"), event.data.get("direction", "in")
    if not isinstance(tag, str) or not 0 < len(tag) <= MAX_TAG:
        reason = Reason.WRONG_TYPE if "tag" in event.data else Reason.MISSING_FIELD
        raise RejectError(reason, "/data/tag", f"expected text of 1 to {MAX_TAG} characters")
    if direction not in {"in", "out"}:
        raise RejectError(Reason.WRONG_TYPE, "/data/direction", f'expected "in" or "out", got {direction!r:.40}')
    antenna, rssi_dbm = (
        BY_NAME[name].minimum if partial and name not in event.data else _measured(event.data, name)
        for name in ("antenna", "rssi_dbm")
    )
    return TagRead(device, ts, event.seq or 0, tag, int(antenna), rssi_dbm, str(direction))


def _measured(data: dict[str, Scalar], name: str) -> float:
    """Return the value of a metric that lies in an event's data, within the metric's range."""
    value, metric = data.get(name), BY_NAME[name]
    if not isinstance(value, int | float) or isinstance(value, bool):
        reason = Reason.WRONG_TYPE if name in data else Reason.MISSING_FIELD
        raise RejectError(reason, f"/data/{name}", f"expected a number, got {value!r:.40}")
    if not metric.minimum <= value <= metric.maximum:
        detail = f"{value:g} {metric.unit}: expected {metric.minimum:g} to {metric.maximum:g}"
        raise RejectError(Reason.OUT_OF_RANGE, f"/data/{name}", detail)
    return float(value)
