"""Hours of findings as they rest: those that are over beside the checkpoint, those still open in it.

Every release reads the plain form, in which each time that a state was held is a finding. An open hour is written again
whenever it changes, and thousands of vehicles' change together by the minute, so in most checkpoints these times are
packed, as in memory: an hour of sixty stretches has 1.1 KB and not 5.5.
"""

import logging
import zlib
from collections.abc import Mapping

import msgspec

from analytics.findings import STRETCH, DetectorState, Finding, Hour
from analytics.held_times import HeldTime, HeldTimes
from devices.times import format_rfc3339
from devices.vocabulary import INDEX, METRICS

log = logging.getLogger(__name__)


class PlainHour(msgspec.Struct, array_like=True):
    """An hour in the plain form: all that was found by its id."""

    since: int
    state: DetectorState
    findings: dict[str, Finding]

    @classmethod
    def of(cls, hour: Hour) -> "PlainHour":
        """Return the plain form of an hour."""
        return cls(hour.since, hour.state, hour.every())

    def hour(self) -> Hour:
        """Return the hour."""
        hour = Hour(self.since, self.state, {})
        for id_, finding in self.findings.items():
            name = next(iter(finding.samples), "")
            if finding.type == STRETCH and name in INDEX:
                hour.held.note(INDEX[name], finding.ts, finding.until)
            else:
                hour.findings[id_] = finding
        return hour


class PackedHour(msgspec.Struct, array_like=True):
    """An hour with what :class:`analytics.held_times.HeldTimes` has, whose metrics another release may number anew."""

    since: int
    state: DetectorState
    findings: dict[str, Finding]
    metrics: dict[int, str]
    """Name of each metric that is counted, by its index."""
    held: bytes

    @classmethod
    def of(cls, hour: Hour) -> "PackedHour":
        """Return the packed form of an hour."""
        metrics = {metric: METRICS[metric].name for metric in hour.held.metrics()}
        return cls(hour.since, hour.state, hour.findings, metrics, bytes(hour.held))

    def hour(self) -> Hour:
        """Return the hour."""
        held = HeldTimes(self.held)
        if any(INDEX[name] != index for index, name in self.metrics.items()):
            held = HeldTimes.of(HeldTime(INDEX[self.metrics[metric]], start, until) for metric, start, until in held)
        return Hour(self.since, self.state, self.findings, held)


class PackedHours(msgspec.Struct, array_like=True):
    """The open hours of a device, by their start: what an older release does not take for hours of its own form."""

    hours: dict[int, PackedHour]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PlainHour).decode
_decode_open = msgspec.msgpack.Decoder(dict[int, PlainHour] | PackedHours).decode


def encode_hour(hour: Hour) -> bytes:
    """Return an hour that is over as it is kept: zlib over the plain form, a tenth of it."""
    return zlib.compress(_encode(PlainHour.of(hour)), 1)


def decode_hour(blob: bytes) -> Hour:
    """Return the hour that :func:`encode_hour` was given."""
    return _decode(zlib.decompress(blob)).hour()


def decode_history(history: Mapping[int, bytes], uid: str) -> dict[int, Hour]:
    """Return the hours of a device that can be read, by their start in ns UTC; a damaged one is left out."""
    hours = {}
    for start, blob in history.items():
        try:
            hours[start] = decode_hour(blob)
        except (zlib.error, msgspec.MsgspecError, ValueError, KeyError) as error:
            log.error("%s: the findings kept of the hour %s cannot be read: %s", uid, format_rfc3339(start), error)  # noqa: TRY400
    return hours


def encode_open(hours: Mapping[int, Hour], *, plain: bool = False) -> bytes:
    """Return the open hours of a device, by their start in ns UTC, for a checkpoint."""
    if plain:
        return _encode({start: PlainHour.of(hour) for start, hour in hours.items()})
    return _encode(PackedHours({start: PackedHour.of(hour) for start, hour in hours.items()}))


def decode_open(blob: bytes) -> dict[int, Hour]:
    """Return the hours that :func:`encode_open` was given."""
    found = _decode_open(blob)
    hours = found.hours if isinstance(found, PackedHours) else found
    return {start: hour.hour() for start, hour in hours.items()}
