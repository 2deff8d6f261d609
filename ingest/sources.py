"""Where foreign frames come from: topics whose last level names a codec, and topic filters bound to one by settings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from devices.codecs.readings import Asking, Codec, Reading, Remembering, Request, Timed
from devices.codecs.registry import CODECS, make_codec
from devices.filters import fault_of, matches
from devices.rejects import Reason, RejectError
from devices.topics import DEVICE, SITE, DeviceKey, TopicError, split
from devices.vocabulary import DeviceClass
from ingest.directory import NOBODY, CardinalityError, Device, Directory, NotAdmittedError

NATIVE: Final = "native"
USUAL: Final[dict[str, tuple[str, ...]]] = {
    "owntracks": ("owntracks/#",),
    # The STATE topic has three levels: what ingest says of itself does not come back to it.
    "sparkplug": ("spBv1.0/+/+/+", "spBv1.0/+/+/+/+"),
}
"""Codec → the topics on which its format is spoken everywhere."""


@dataclass(frozen=True, slots=True)
class Source:
    """Topic filters that carry one foreign format, and whose devices speak there."""

    codec: str
    """Name of the codec, such as ``owntracks``."""
    site: str
    """Site to which the devices belong."""
    device_class: DeviceClass
    """Class of the devices, where the format itself does not say."""
    filters: tuple[str, ...] = ()
    """Topic filters; by default those of :data:`USUAL`."""
    zone: str = ""
    """Offset of times that have no zone, such as ``+08:00``; by default they are taken as UTC and flagged."""

    def __post_init__(self) -> None:
        """Refuse a source that could never deliver."""
        if self.codec not in CODECS or self.codec == NATIVE:
            msg = f"codec {self.codec!r}: expected one of {', '.join(name for name in CODECS if name != NATIVE)}"
            raise ValueError(msg)
        if not SITE.fullmatch(self.site):
            msg = f"site {self.site!r}: expected a UN/LOCODE and a facility, such as CNNGB-BLCT"
            raise ValueError(msg)
        if not self.topics:
            msg = f"filter: codec {self.codec!r} has no usual topics, so name those of yours"
            raise ValueError(msg)
        make_codec(self.codec, self.zone)
        for fault in filter(None, map(fault_of, self.topics)):
            msg = f"filter {fault}"
            raise ValueError(msg)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topic filters to subscribe to."""
        return self.filters or USUAL.get(self.codec, ())


class Feed(NamedTuple):
    """How frames of a foreign topic are read, and whose they are."""

    codec: Codec
    site: str
    device_class: DeviceClass
    timed: Timed | None = None
    """The codec, if it needs to know when its frames were received."""
    speaker: str = ""
    """What the topic ``port/{site}/{class}/{device}/{codec}`` calls the device, "" where the payload names it."""

    @property
    def named(self) -> bool:
        """Whether the topic names the device."""
        return bool(self.speaker)


def _feed(codec: Codec, site: str, device_class: DeviceClass, speaker: str = "") -> Feed:
    return Feed(codec, site, device_class, codec if isinstance(codec, Timed) else None, speaker)


class Feeds:
    """Finds the codec of a topic, and keeps the codecs' memory."""

    def __init__(self, directory: Directory, sources: Sequence[Source], strict: Collection[str] = ()) -> None:
        """Make one codec for each source; those named by topics are made when they are first needed.

        ``strict``: names of the codecs that refuse what they could read in spite of its faults.
        """
        self._directory = directory
        self._strict = frozenset(strict)
        self._bound = [
            (source, make_codec(source.codec, source.zone, strict=source.codec in self._strict)) for source in sources
        ]
        self._by_name: dict[str, Codec] = {}

    def route(self, topic: str) -> tuple[Device, Feed] | None:
        """Return the device of a foreign topic, nobody where the payload names it, and its feed; None if unknown.

        Raises NotAdmittedError and CardinalityError as :meth:`ingest.directory.Directory.device` does.
        """
        for source, codec in self._bound:
            if any(matches(pattern, topic) for pattern in source.topics):
                return self._directory.devices[NOBODY], _feed(codec, source.site, source.device_class)
        try:
            key, name = split(topic)
        except TopicError:
            return None
        if name not in CODECS or name == NATIVE:
            return None
        device = self._directory.device(self._directory.admission.known_as(name, key))
        codec = self._by_name.get(name) or self._by_name.setdefault(name, self._made(name))
        return device, _feed(codec, device.key.site, DeviceClass(device.key.device_class), key.device)

    def device_of(self, reading: Reading, device: Device, feed: Feed) -> Device:
        """Return the device of which a reading speaks, entering it if it is new; ``device`` is that of the topic.

        RejectError where it is nobody's, somebody else's, or of one that may not speak.
        """
        if feed.named:
            if reading.device not in {"", feed.speaker}:
                detail = f"payload says {reading.device[:64]!r}, the topic says {feed.speaker!r}"
                raise RejectError(Reason.IDENTITY_MISMATCH, "/device", detail)
            return device
        if not DEVICE.fullmatch(reading.device):
            detail = f"{reading.device[:64]!r}: expected 1 to 64 letters, digits, dots, colons, _ or -"
            raise RejectError(Reason.WRONG_TYPE if reading.device else Reason.MISSING_FIELD, "/device", detail)
        spoken = DeviceKey(feed.site, reading.device_class or feed.device_class, reading.device)
        try:
            return self._directory.device(self._directory.admission.known_as(feed.codec.name, spoken))
        except NotAdmittedError as error:
            raise RejectError(Reason.NOT_REGISTERED, "/device", str(error)) from None
        except CardinalityError as error:
            raise RejectError(Reason.CARDINALITY, "", str(error)) from None

    def take_states(self) -> dict[str, bytes]:
        """Return the memory of the codecs that learned something since the last call, by a lasting name."""
        return {name: codec.take_state() for name, codec in self._remembering().items() if codec.learned}

    def states(self) -> dict[str, bytes]:
        """Return the memory of every codec that has one, by a lasting name, leaving what is still to be kept."""
        result = {}
        for name, codec in self._remembering().items():
            learned = codec.learned
            result[name] = codec.take_state()
            codec.learned = learned
        return result

    def restore(self, name: str, state: bytes, *, earlier: bool = False) -> None:
        """Put back the memory that a checkpoint has kept under ``name``; one whose source is gone is left out.

        ``earlier``: the frames to come are from before, read again.
        """
        if name in CODECS:
            self._by_name.setdefault(name, self._made(name))
        codec = self._remembering().get(name)
        if codec is not None:
            codec.restore(state, earlier=earlier)

    def wants(self, now: int) -> list[Request]:
        """Return what codecs want to be published at ``now``, ns UTC."""
        return [request for _, codec in self._bound if isinstance(codec, Asking) for request in codec.wants(now)]

    @property
    def is_sparkplug_host(self) -> bool:
        """Whether a source speaks Sparkplug, to whose nodes ingest is a host application."""
        return any(source.codec == "sparkplug" for source, _ in self._bound)

    def _made(self, name: str) -> Codec:
        return make_codec(name, strict=name in self._strict)

    def _remembering(self) -> dict[str, Remembering]:
        found: dict[str, Codec] = {f"{source.codec}:{','.join(source.topics)}": codec for source, codec in self._bound}
        found |= self._by_name
        return {name: codec for name, codec in found.items() if isinstance(codec, Remembering)}
