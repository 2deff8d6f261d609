"""Topics of the native wire: ``port/{site}/{class}/{device}/{stream}``."""

import re
from enum import StrEnum
from hashlib import blake2b
from typing import Final, NamedTuple

from devices.vocabulary import DeviceClass

ROOT: Final = "port"
RESULTS_ROOT: Final = "quayflow"
LEVELS: Final = 5
SITE: Final = re.compile(r"[A-Z]{2}[A-Z0-9]{3}-[A-Z0-9]{1,12}")
DEVICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
UNFIT: Final = re.compile(r"[^A-Za-z0-9._:-]+")


class Stream(StrEnum):
    """The last level of a native topic."""

    TELEMETRY = "telemetry"
    EVENT = "event"
    STATUS = "status"
    COMMAND = "cmd"
    COMMAND_ACK = "cmd-ack"


CLASSES: Final = frozenset(device_class.value for device_class in DeviceClass)
STREAMS: Final = frozenset(stream.value for stream in Stream)


class DeviceKey(NamedTuple):
    """Who speaks: the site, the class and the device's own id within them."""

    site: str
    device_class: str
    device: str

    @property
    def uid(self) -> str:
        """The unique id over all sites: ``site/class/device``."""
        return f"{self.site}/{self.device_class}/{self.device}"

    @classmethod
    def from_uid(cls, uid: str) -> "DeviceKey":
        """Parse what :attr:`uid` wrote; ValueError if it has not three parts."""
        site, device_class, device = uid.split("/")
        return cls(site, device_class, device)


class Topic(NamedTuple):
    """A parsed native topic."""

    key: DeviceKey
    stream: Stream


class TopicError(ValueError):
    """A topic that is not of the native form; ``level`` names the level at fault."""

    def __init__(self, level: str, message: str) -> None:
        """Keep the level at fault beside the message."""
        super().__init__(message)
        self.level = level


def parse(topic: str) -> Topic:
    """Parse a native topic; :class:`TopicError` says which level is wrong and what is allowed."""
    key, stream = split(topic)
    if stream not in STREAMS:
        allowed = ", ".join(Stream)
        raise TopicError("stream", f"stream {stream[:64]!r}: expected one of {allowed}")
    return Topic(key, Stream(stream))


def split(topic: str) -> tuple[DeviceKey, str]:
    """Return the device of a native topic and its last level, whatever that is; :class:`TopicError` as in parse."""
    levels = topic.split("/")
    if len(levels) != LEVELS or levels[0] != ROOT:
        raise TopicError("topic", f"expected {ROOT}/{{site}}/{{class}}/{{device}}/{{stream}}")
    _, site, device_class, device, stream = levels
    if not SITE.fullmatch(site):
        raise TopicError("site", f"site {site[:64]!r}: expected a UN/LOCODE and a facility, such as CNNGB-BLCT")
    if device_class not in CLASSES:
        allowed = ", ".join(DeviceClass)
        raise TopicError("class", f"class {device_class[:64]!r}: expected one of {allowed}")
    if not DEVICE.fullmatch(device):
        raise TopicError("device", f"device {device[:64]!r}: expected 1 to 64 letters, digits, dots, colons, _ or -")
    return DeviceKey(site, device_class, device), stream


def device_id(*parts: str) -> str:
    """Return a device id made of the names that a foreign format gives, such as node and device.

    Names that are ids already stay as they are, joined by a colon. Of others the characters that cannot stand in an id
    become ``-``, and a hash keeps apart what would then look alike.
    """
    joined = ":".join(parts)
    if DEVICE.fullmatch(joined):
        return joined
    mark = blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{UNFIT.sub('-', joined).strip('-._:')[:48] or 'device'}-{mark}"


def topic_of(key: DeviceKey, stream: Stream) -> str:
    """Return the topic on which a device publishes a stream."""
    return f"{ROOT}/{key.site}/{key.device_class}/{key.device}/{stream}"


def live_topic(site: str, device_class: str) -> str:
    """Return the topic of a class's conflated live values."""
    return f"{RESULTS_ROOT}/{site}/live/{device_class}"


def event_topic(site: str, event_type: str) -> str:
    """Return the topic of a site's port events of one type."""
    return f"{RESULTS_ROOT}/{site}/events/{event_type}"


def status_topic(worker: str) -> str:
    """Return the retained topic on which an ingest worker reports itself."""
    return f"{RESULTS_ROOT}/_workers/{worker}/status"
