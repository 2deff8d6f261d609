"""What every foreign codec returns: readings under the vocabulary's names, in the vocabulary's units.

One foreign frame may speak of several devices and several instants; each (device, instant) is one :class:`Reading`. A
codec is pure: bytes and a topic in, readings or a :class:`devices.rejects.RejectError` out. Formats that need memory
(Sparkplug aliases, sub-packages) keep it in the codec object, which ingest makes once per source.
"""

from typing import Protocol, runtime_checkable

import msgspec

from devices.rejects import Reject
from devices.scalars import LEAST, MOST, Scalar, bounded_facts, bounded_number
from devices.vocabulary import DeviceClass


class Happening(msgspec.Struct, frozen=True, gc=False):
    """Something that happened once, as a format reports it; ``data`` is flat, as in a native event."""

    type: str
    data: dict[str, Scalar] = {}


class Counter(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A counter of a device that begins anew as the device pleases: a gap in it is a loss, nothing else follows."""

    stream: int
    """Which of the device's counters it is, 0 to 255."""
    wraps_at: int = 0
    """The number at which it goes round to 0; 0: it never does."""
    anew: bool = False
    """Whether the device may have begun to count anew with this number."""
    doubtful: bool = False
    """Whether the number cannot be relied on: it is taken for the next one."""


class Reading(msgspec.Struct, kw_only=True, gc=False):
    """What one device says of one instant. Nothing in it refers back to it: the collector need not look at it."""

    device: str = ""
    """Id of the device as the format names it; "" where the topic or the connection tells who speaks."""
    device_class: DeviceClass | None = None
    """What the format says that the device is, None where it does not."""
    ts: int | None = None
    """Event time, ns UTC; None where the format has none and the time of receipt counts."""
    boot: int | None = None
    """A number that changes when the format's own counter begins anew, 0 to 2**64 - 1."""
    seq: int | None = None
    """The format's own counter, unwrapped by the codec where it wraps, 0 to 2**63 - 1."""
    counter: Counter | None = None
    """Which of the device's counters a ``seq`` without a ``boot`` is of, where a gap in it is a loss."""
    values: dict[str, float | bool] = {}
    """Metric of the vocabulary → value in the metric's unit. Ranges are checked later, on whole columns."""
    happenings: tuple[Happening, ...] = ()
    """Events among the reading, such as ``tag_read``."""
    online: bool | None = None
    """Whether the reading says that the device came (true) or went (false)."""
    unknown: dict[str, Scalar] = {}
    """Foreign name → value, of what has no metric: to be quarantined by name, and adopted on request."""
    refused: tuple[Reject, ...] = ()
    """Values that cannot be used, one reject each, such as text where a number belongs; the other values count."""
    info: dict[str, Scalar] = {}
    """What the format tells beyond samples (firmware, plate, alarm bits), for people and the registry."""
    payload: bytes = b""
    """What is to be kept of it in quarantine, where that is not the frame with which it comes."""
    flags: tuple[str, ...] = ()
    """What is odd about it and yet no reason to lose it, such as ``checksum`` or ``historical``."""


_encode = msgspec.msgpack.Encoder().encode


def bounded(reading: Reading) -> Reading:
    """Return the reading with no number in it that could not be kept: JSON spells whole numbers of any size.

    Those beyond 64 bits go on as floats, which the checks of values refuse where they matter; a time stops at the
    bound, which no clock passes either.
    """
    try:
        # A fraction of a microsecond, where to look at each number would take several.
        _encode(reading)
    except OverflowError:
        if reading.ts is not None:
            reading.ts = min(max(reading.ts, LEAST), MOST)
        reading.values = {name: bounded_number(value) for name, value in reading.values.items()}
        reading.happenings = tuple(Happening(each.type, bounded_facts(each.data)) for each in reading.happenings)
        reading.unknown, reading.info = bounded_facts(reading.unknown), bounded_facts(reading.info)
    return reading


class Request(msgspec.Struct, frozen=True):
    """What a codec wants to be published, such as a request to be told again what aliases stand for."""

    topic: str
    payload: bytes


class Codec(Protocol):
    """Decodes one wire format."""

    @property
    def name(self) -> str:
        """Name on the command line and in settings, such as ``tic40``."""

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return the readings of one frame, at least one; RejectError with reason and pointer where it is unusable."""


@runtime_checkable
class Remembering(Protocol):
    """A codec whose memory must outlive the process, such as the names behind Sparkplug's aliases."""

    learned: bool
    """Whether the memory has changed since :meth:`take_state`."""

    def take_state(self) -> bytes:
        """Return the memory and note that it is kept."""

    def restore(self, state: bytes, *, earlier: bool = False) -> None:
        """Put back what :meth:`take_state` gave; ``earlier``: for frames that came before, which are read again."""


@runtime_checkable
class Numbering(Protocol):
    """A codec whose frames are numbered by their devices, also those that it refuses."""

    def number_of(self, payload: bytes) -> tuple[Counter | None, int]:
        """Return counter and number of a frame that :meth:`Codec.decode` has refused; None: it has no number."""


@runtime_checkable
class Timed(Protocol):
    """A codec that waits for something, and needs to know for how long."""

    received: int
    """When the next frame to be decoded was received, ns UTC."""


@runtime_checkable
class Asking(Protocol):
    """A codec that now and then needs something from whom it listens to."""

    def wants(self, now: int) -> list[Request]:
        """Return what is to be published at ``now``, ns UTC; it is taken for published."""
