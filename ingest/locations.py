"""Plain locations of JT/T 808 terminals, taken together: thousands of terminals say the same with other numbers.

Where :mod:`ingest.alike` takes many frames of each device, here there are few of each of many:

    frames ─► topics ─► terminals        one look-up each
           └► frames of a length ─► layout ─► numbers, as columns   (:mod:`devices.codecs.jt808_columns`)
    terminals all of whose frames are so, and which are there ─► repetitions ─► Accepted;  all others ─► one by one

A device goes this way with all of its frames of a batch or with none, so that each device's are taken in their order.
It goes only where every frame would be accepted, or recognised as a repetition, without anything else to be noted but
serial and facts; both ways come to the same.
"""

from collections.abc import Callable, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from analytics.dedup import Verdict
from devices.codecs.jt808 import SERIAL, Jt808
from devices.codecs.jt808_columns import PHONE_BITS, Layout, Locations, layout_of, plain
from devices.columns import Bools, Ints
from devices.topics import Stream
from ingest.batch import Accepted
from ingest.checks import MAX_AHEAD, YEAR_2000
from ingest.directory import NOBODY, Device
from ingest.foreign import add_info, digest_of_values
from ingest.layouts import FEW, Layouts
from ingest.sources import Feed
from store.journal import Frame, FrameTable


class Taken(NamedTuple):
    """What was taken together."""

    accepted: Accepted
    duplicates: list[tuple[int, int]]
    """Device index and number of samples of each frame that was there before."""
    rest: FrameTable
    """The frames that are to be taken otherwise, in order."""


class _Group(NamedTuple):
    """Frames of one layout."""

    layout: Layout
    places: Ints
    """Where they are among the frames of the batch, ascending."""
    said: Locations


class _Row(NamedTuple):
    """One frame that is about to be taken."""

    place: int
    device: Device
    ts: int
    serial: int
    digest: bytes
    info: dict[str, Any]
    series: list[int]
    values: tuple[float, ...]


class LocationsTogether:
    """Takes plain locations in batches of frames, of terminals whose topics it has been told."""

    def __init__(self) -> None:
        """No topic is known."""
        self._slots: dict[str, int] = {}
        self._devices: list[Device] = []
        self._phones: Ints = np.empty(0, np.int64)
        """By slot: whose frames come under a topic, and the phone number that they have to have."""
        self._layouts = Layouts(layout_of)

    def forget(self) -> None:
        """Let every topic be told anew."""
        self._slots.clear()
        self._devices.clear()
        self._layouts.forget()

    def remember(self, topic: str, device: Device, stream: Stream | Feed) -> None:
        """Note a topic, if it is one of a terminal that can be taken here."""
        if not isinstance(stream, Feed) or type(stream.codec) is not Jt808 or not stream.named:
            return
        try:
            phone = int(stream.speaker, 16)
        except ValueError:
            return
        # As frames have it, which write it in digits and without zeros in front.
        if f"{phone:x}" == stream.speaker and phone >> PHONE_BITS == 0:
            slot = self._slots[topic] = len(self._devices)
            self._devices.append(device)
            if slot >= len(self._phones):
                self._phones = np.append(self._phones, np.zeros(max(slot, 64), np.int64))
            self._phones[slot] = phone

    def take(self, frames: Sequence[Frame], whose: Callable[[str], int]) -> Taken | None:
        """Take what is alike; None where that is nothing.

        ``whose`` gives the index of the one device of which frames of another topic speak, that of nobody where it may
        be any. Where it raises, which nobody foresees, nothing has been noted of any frame.
        """
        if not self._slots or len(frames) < FEW:
            return None
        table = FrameTable.of(frames)
        slots = np.fromiter(map(self._slots.get, table.topics, repeat(-1)), np.int64, len(table))
        here = np.flatnonzero(slots >= 0)
        if len(here) < FEW:
            return None
        others = {whose(table.topics[nth]) for nth in np.flatnonzero(slots < 0).tolist()}
        if NOBODY in others:
            return None
        groups = self._read(table, slots, here)
        apart = self._apart(table, slots, here, groups) | others
        rows = self._rows(slots, groups, apart)
        if not rows:
            return None
        left = np.ones(len(table), np.bool_)
        left[[row.place for row in rows]] = False
        rest = table.take(left)
        accepted = _accepted(table, rows)
        # Nothing fails from here on.
        new, duplicates = _note(table, rows)
        return Taken(_accepted(table, new) if duplicates else accepted, duplicates, rest)

    # --- frames -----------------------------------------------------------------------------------------------------

    def _read(self, table: FrameTable, slots: Ints, here: Ints) -> list[_Group]:
        """Read the frames at ``here`` that have a layout; the groups hold nothing that is not sound."""
        payloads = table.payloads
        frames = list(map(plain, payloads if len(here) == len(table) else [payloads[nth] for nth in here.tolist()]))
        groups: list[_Group] = []

        def take(layout: Layout, which: Ints, some: bytes) -> Bools:
            said, at = layout.read(some), here[which]
            good: Bools = said.sound & (said.phone == self._phones[slots[at]])
            good &= (said.ts >= YEAR_2000) & (said.ts <= table.recv_ts[at] + MAX_AHEAD)
            if good.any():
                groups.append(_Group(layout, at[good], said if good.all() else _chosen(said, good)))
            return good

        self._layouts.read(frames, take)
        return groups

    def _apart(self, table: FrameTable, slots: Ints, here: Ints, groups: Sequence[_Group]) -> set[int]:
        """Return the devices that have a frame which is not read, or has something else to it."""
        read = np.zeros(len(table), np.bool_)
        for group in groups:
            read[group.places] = True
        apart = {self._devices[slot].index for slot in slots[here[~read[here]]].tolist()}
        for group in groups:
            for slot in slots[group.places].tolist():
                device = self._devices[slot]
                if not device.online or _series_of(device, group.layout.names) is None:
                    apart.add(device.index)
        return apart

    def _rows(self, slots: Ints, groups: Sequence[_Group], apart: set[int]) -> list[_Row]:
        """Return the frames to be taken, in their order; nothing is noted of them yet."""
        rows = []
        for layout, places, said in groups:
            numbers = (each.tolist() for each in (places, slots[places], said.ts, said.serial))
            facts, values = (zip(*(each.tolist() for each in some), strict=True) for some in (said.info, said.values))
            for place, slot, ts, serial, told, measured in zip(*numbers, facts, values, strict=True):
                device = self._devices[slot]
                series = _series_of(device, layout.names)
                if series is None or device.index in apart:
                    continue
                info = dict(zip(layout.info, told, strict=True))
                digest = digest_of_values(ts, layout.values(*measured))
                rows.append(_Row(place, device, ts, serial, digest, info, series, measured))
        if len(groups) > 1:
            rows.sort(key=itemgetter(0))
        return rows


def _note(table: FrameTable, rows: Sequence[_Row]) -> tuple[list[_Row], list[tuple[int, int]]]:
    """Let terminals have sent frames; return those that are new, and the duplicates."""
    received, stream, wraps_at = table.recv_ts.tolist(), SERIAL.stream, SERIAL.wraps_at
    new, duplicates = [], []
    for row in rows:
        device = row.device
        device.frames += 1
        device.last_seen = received[row.place]
        device.touched = True
        known = device.tracker.see_hash(row.digest, row.ts) is Verdict.DUPLICATE
        device.tracker.count_round(stream, row.serial, wraps_at, known=known)
        if known:
            duplicates.append((device.index, len(row.series)))
        else:
            add_info(device, row.info)
            new.append(row)
    return new, duplicates


def _accepted(table: FrameTable, rows: Sequence[_Row]) -> Accepted:
    """Put frames and their samples one behind the other."""
    taken = table.take(np.array([row.place for row in rows], np.int64))
    device, ts, serial, samples = (
        np.array(column, np.int64)
        for column in (
            [row.device.index for row in rows],
            [row.ts for row in rows],
            [row.serial for row in rows],
            [len(row.series) for row in rows],
        )
    )
    series = np.fromiter(chain.from_iterable([row.series for row in rows]), np.int64)
    value = np.fromiter(chain.from_iterable([row.values for row in rows]), np.float64)
    received = taken.recv_ts
    return Accepted(taken, device, ts, serial, received, samples.copy(), samples, samples.copy(), series, value, [])


def _chosen(said: Locations, which: Bools) -> Locations:
    """Return what the frames under a mask say."""
    values, info = [each[which] for each in said.values], [each[which] for each in said.info]
    return Locations(said.sound[which], said.phone[which], said.serial[which], said.ts[which], values, info)


def _series_of(device: Device, names: tuple[str, ...]) -> list[int] | None:
    """Return the series of names that a device has published before, and remember them; None where it has not."""
    if names == device.telemetry_names:
        return device.telemetry_series
    series = [device.series.get(name, -1) for name in names]
    if -1 in series:
        return None
    device.telemetry_names, device.telemetry_series = names, series
    return series
