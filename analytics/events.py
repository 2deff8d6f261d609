"""Port events: what detectors and devices say has happened."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from devices.scalars import Scalar


class PortEvent(NamedTuple):
    """Something that happened in the port.

    ``device``: index in the worker's table. ``ts``: when it was complete, ``start``: when it began, ns UTC. ``seq``:
    tie-break of its samples. ``samples``: metric → value in its unit, which join the windows at ``ts``.
    ``distinguishing``: what tells it from another event of the same type, device and times.
    """

    type: str
    device: int
    ts: int
    start: int
    seq: int
    data: Mapping[str, Scalar]
    samples: Mapping[str, float]
    distinguishing: str = ""


def event_id(uid: str, event: PortEvent) -> str:
    """Return an id made of what the event is, so that finding it again gives the same record."""
    identity = f"{event.type}|{uid}|{event.start}|{event.ts}|{event.distinguishing}"
    return hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
