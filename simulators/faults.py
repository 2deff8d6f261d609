"""Faults of devices and of their way to the broker, as a scenario file declares them.

A fault says for which devices and when it holds; ``simulators.fault_chain`` lets it strike.
"""

from typing import Annotated, Final

import msgspec

FOR_EVER_S: Final = 1e9

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Moment = Annotated[float, msgspec.Meta(ge=0, le=FOR_EVER_S)]
Delay = tuple[Moment, Moment]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all faults have: the devices concerned, as a pattern of their ids, and the time, in s from the start."""

    devices: str = "*"
    from_s: Moment = 0.0
    lasts_s: Moment = FOR_EVER_S


class Late(Fault, frozen=True, kw_only=True, tag="late"):
    """A share of the messages arrives late; each on its own, so they also come out of order."""

    share: Share = 1.0
    delay_s: Delay


class Duplicate(Fault, frozen=True, kw_only=True, tag="duplicate"):
    """A share of the messages arrives twice, the second time after a while."""

    share: Share
    after_s: Delay = (0.0, 0.0)


class Lost(Fault, frozen=True, kw_only=True, tag="lost"):
    """A share of the messages never arrives."""

    share: Share


class Corrupt(Fault, frozen=True, kw_only=True, tag="corrupt"):
    """A share of the payloads arrives with some bits flipped."""

    share: Share


class Silent(Fault, frozen=True, kw_only=True, tag="silent"):
    """The device says nothing, and what it would have said is gone."""


class Backfill(Fault, frozen=True, kw_only=True, tag="backfill"):
    """A dead zone: the device keeps what it would say, and says it afterwards, one message after another."""

    per_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 50.0
    """Messages per second with which a device catches up."""


class Clock(Fault, frozen=True, kw_only=True, tag="clock"):
    """The device's clock is off by an offset, from a moment on (a jump) or always, and gains or loses besides."""

    offset_s: Annotated[float, msgspec.Meta(ge=-1e8, le=1e8)] = 0.0
    ppm: Annotated[float, msgspec.Meta(ge=-1e5, le=1e5)] = 0.0


class Reboot(Fault, frozen=True, kw_only=True, tag="reboot"):
    """The device restarts at ``from_s`` and is silent for ``lasts_s``; boot id and sequence begin anew."""

    lasts_s: Moment = 20.0


class Stuck(Fault, frozen=True, kw_only=True, tag="stuck"):
    """A sensor goes on showing what it showed first."""

    metric: str


class Drift(Fault, frozen=True, kw_only=True, tag="drift"):
    """A sensor drifts away."""

    metric: str
    per_hour: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]


AnyFault = Late | Duplicate | Lost | Corrupt | Silent | Backfill | Clock | Reboot | Stuck | Drift
