"""Up to when an answer is complete, from the watermarks of the devices that it concerns."""

from collections.abc import Iterable, Mapping
from typing import Final

from devices.scalars import Scalar
from devices.times import NS
from store.interface import DeviceRecord

IDLE_NS: Final = 30 * NS
"""A device silent for this long holds nothing up: nobody knows whether it will ever speak again."""
SETTLING_NS: Final = 2 * NS
"""How far behind its worker's report an answer without speaking devices is taken to be complete."""
RETIRED_NS: Final = 86_400 * NS
"""A worker that has reported nothing for a day while another did is taken to be gone for good."""


def reported_ns(workers: Mapping[str, Mapping[str, Scalar]]) -> int | None:
    """Return when the worker that is furthest behind last committed a report, ns UTC; None if none ever did."""
    updated = [int(value) for status in workers.values() if isinstance(value := status.get("updated_ns"), int | float)]
    if not updated:
        return None
    newest = max(updated)
    return min(value for value in updated if newest - value <= RETIRED_NS)


def complete_through_ns(devices: Iterable[DeviceRecord], workers: Mapping[str, Mapping[str, Scalar]]) -> int | None:
    """Return the event time up to which nothing more is expected from ``devices``; None without any report.

    ``workers`` must be what the records hold, not what the broker says: it belongs to the same commits as the devices.
    """
    updated = reported_ns(workers)
    if updated is None:
        return None
    speaking = (device.watermark_ns for device in devices if updated - device.last_seen_ns <= IDLE_NS)
    return min(speaking, default=updated - SETTLING_NS)
