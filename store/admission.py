"""Who may speak, and what a device's own names mean: the part of the registry that ingest acts on."""

from collections.abc import Iterable
from typing import Final

import msgspec

from devices.topics import DeviceKey
from devices.vocabulary import DeviceClass
from store.registry import SqlRegistry
from store.registry_entries import Adoption, Alias, Entry, Policy, RegisteredDevice, Site


class Adopted(msgspec.Struct, frozen=True, array_like=True):
    """A device's own name taken for a metric: value × scale + offset, in the metric's unit."""

    metric: str
    scale: float
    offset: float


class SitePolicy(msgspec.Struct, frozen=True, array_like=True):
    """Whom a site admits."""

    policy: Policy
    classes: frozenset[DeviceClass] = frozenset()


class Admission(msgspec.Struct, frozen=True):
    """What the registry says at one revision."""

    revision: int = 0
    default: Policy = Policy.OPEN
    """For sites that the registry does not know."""
    sites: dict[str, SitePolicy] = {}
    devices: dict[str, bool] = {}
    """uid → whether it is enabled, of registered devices."""
    adopted: dict[str, dict[str, Adopted]] = {}
    """uid → the device's own name → what it means."""
    aliases: dict[str, str] = {}
    """``{codec}:{foreign id}`` → uid, for devices that speak a foreign format."""

    def known_as(self, codec: str, key: DeviceKey) -> DeviceKey:
        """Return whose readings those of a device are that a codec, a topic or a gateway calls ``key``."""
        alias = self.aliases.get(f"{codec}:{key.device}")
        return DeviceKey.from_uid(alias) if alias else key

    def refusal(self, key: DeviceKey) -> str | None:
        """Return why a device may not speak, None if it may."""
        enabled = self.devices.get(key.uid)
        if enabled is not None:
            return None if enabled else f"{key.uid} is registered, and disabled"
        found = self.sites.get(key.site) or SitePolicy(self.default)
        if found.policy is Policy.OPEN:
            return None
        if found.policy is Policy.KNOWN_CLASSES and key.device_class in found.classes:
            return None
        return f"{key.uid} is not registered and {key.site} is {found.policy}: quayflow device add {key.uid}"


EVERYBODY: Final = Admission()
"""No registry: every device is admitted and speaks the vocabulary."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Admission).decode


def read_admission(registry: SqlRegistry, default: Policy) -> Admission:
    """Return what the registry says; StoreUnreachableError where it cannot be asked. Blocking."""
    # Asked first: what changes meanwhile is read again with the next revision.
    revision = registry.revision()
    kinds = (Site.kind, RegisteredDevice.kind, Adoption.kind, Alias.kind)
    every = (entry for kind in kinds for entry in registry.every(kind))
    return admission_of(every, default, revision)


def read_admission_of(registry: SqlRegistry, key: DeviceKey, default: Policy) -> Admission:
    """Return whether one device may speak, and nothing of its names or of others; else as :func:`read_admission`."""
    found = (registry.entry(Site.kind, key.site), registry.entry(RegisteredDevice.kind, key.uid))
    return admission_of((entry for entry in found if entry is not None), default)


def admission_of(entries: Iterable[Entry], default: Policy = Policy.OPEN, revision: int = 0) -> Admission:
    """Return what entries of the registry say."""
    admission = Admission(revision, default, {}, {}, {}, {})
    for entry in entries:
        match entry:
            case Site():
                admission.sites[entry.site] = SitePolicy(entry.policy, frozenset(entry.classes))
            case RegisteredDevice():
                admission.devices[entry.uid] = entry.enabled
            case Adoption():
                meaning = Adopted(entry.metric, entry.scale, entry.offset)
                admission.adopted.setdefault(entry.device, {})[entry.name] = meaning
            case Alias():
                admission.aliases[entry.key] = entry.device
            case _:
                continue
    return admission


def to_bytes(admission: Admission) -> bytes:
    """Return an admission for keeping beside the journal, for a start without the store."""
    return _encode(admission)


def from_bytes(kept: bytes) -> Admission:
    """Return what :func:`to_bytes` gave; ValueError where it is something else."""
    return _decode(kept)
