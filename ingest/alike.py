"""Frames that are alike, taken together: most of a batch is what devices repeat with other numbers.

Decoding, judging sequences and booking frame by frame costs two microseconds each. Here a batch is taken as columns:

    frames ─► topics ─► devices      one look-up each
           └► payloads of a length ─► layout ─► numbers, as columns   (:mod:`devices.codecs.native_layouts`)
    devices all of whose frames are so, online, each in sequence ─► Accepted;  all others ─► one by one

A device goes this way with all of its frames of a batch or with none, so that each device's are taken in their order.
It goes only where every frame would be accepted without anything being noted but its numbers: what is new, repeated,
missing or refused in any way is for :mod:`ingest.decoding`, and both ways come to the same.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from analytics.radix import narrowed, order_by
from analytics.rows import starts_of
from devices.codecs.native_layouts import Layout, layout_of
from devices.columns import Bools, Floats, Ints
from ingest.batch import Accepted
from ingest.blocks import Float32s, Stack
from ingest.checks import MAX_AHEAD, MAX_SPAN, YEAR_2000
from ingest.directory import Device, Directory
from ingest.layouts import FEW, Layouts
from store.journal import Frame, FrameTable

PER_DEVICE: Final = 2
"""Those of a batch with no more frames of each device than this, on the average, are taken one by one."""

TELEMETRY: Final = 0
OTHER: Final = 1
FOREIGN: Final = 2
NOBODYS: Final = 3
KINDS: Final = 4
"""What a topic carries: native telemetry, another native stream, a foreign format that may speak of any device, or
nothing that is known. A way is a device's index * KINDS + one of these."""


class _Read(NamedTuple):
    """What the payloads of a batch say; arrays over its n frames, meaningless where ``layout`` is -1."""

    layout: Ints
    """Number of the layout."""
    row: Ints
    """Which row of the layout's values it is."""
    boot: Ints
    seq: Ints
    ts: Ints
    layouts: list[Layout]
    values: list[Floats | Float32s]
    """Of each layout, shape (its frames, its names), of blocks (its frames * rows, its names)."""

    def of_layout(self, what: Callable[[Layout], int]) -> Ints:
        """Return a number of its layout for each frame (n,), anything where it has none."""
        return np.array([*map(what, self.layouts), 0], np.int64)[self.layout]

    def take(self, layout: Layout, at: Ints, some: bytes) -> Bools:
        """Read the payloads at ``at`` (k,), ``some`` of which have a layout; return which do (k,)."""
        fits = layout.fits(some)
        if fits.any():
            here, alike = at[fits], layout.read(some)
            self.layout[here] = len(self.layouts)
            self.row[here] = np.flatnonzero(fits)
            self.boot[here], self.seq[here], self.ts[here] = alike.boot[fits], alike.seq[fits], alike.ts[fits]
            self.layouts.append(layout)
            self.values.append(alike.values)
        return fits


class _Run(NamedTuple):
    """The frames of one device in a batch, in sequence."""

    entry: Device
    last_seq: int
    frames: int
    recv_ts: int
    """When its last one was received, ns UTC."""

    def note(self) -> None:
        """Let the device have sent them."""
        self.entry.tracker.see_up_to(self.last_seq)
        self.entry.frames += self.frames
        self.entry.last_seen = self.recv_ts
        self.entry.touched = True


class Together:
    """Takes what is alike in batches of frames."""

    def __init__(self, directory: Directory, way: Callable[[str, int], int]) -> None:
        """``way`` gives the way of a topic that was received at a time, ns UTC."""
        self._directory = directory
        self._way = way
        self._ways: dict[str, int] = {}
        self._layouts = Layouts(layout_of)

    def forget(self) -> None:
        """Look up anew where topics go, and how payloads are laid out."""
        self._ways.clear()
        self._layouts.forget()

    def remember(self, topic: str, way: int) -> None:
        """Note where a topic goes."""
        self._ways[topic] = way

    def take(self, frames: Sequence[Frame]) -> tuple[Accepted | None, Sequence[Frame]]:
        """Return what is accepted together, and the frames that are to be taken one by one, in order.

        Where it raises, which nobody foresees, nothing has been noted of any frame: all can be taken one by one.
        """
        if len(frames) < FEW:
            return None, frames
        table = FrameTable.of(frames)
        topics, received = table.topics, table.recv_ts
        ways = list(map(self._ways.get, topics))
        if None in ways:
            ways = [
                self._way(topic, at) if way is None else way
                for topic, at, way in zip(topics, received.tolist(), ways, strict=True)
            ]
        way = np.array(ways, np.int64)
        kind, device = way % KINDS, way // KINDS
        if (kind == FOREIGN).any():
            return None, frames
        telemetry = kind == TELEMETRY
        apart = np.zeros(len(self._directory.devices), np.bool_)
        apart[device[~telemetry]] = True
        read = self._read(table.payloads, telemetry)
        sound = (read.layout >= 0) & (read.boot >= 0) & (read.seq >= 0)
        # A block must have ended by then.
        span = read.of_layout(_span)
        sound &= (read.ts >= YEAR_2000) & (read.ts <= received + MAX_AHEAD - span) & (span <= MAX_SPAN)
        apart[device[~sound]] = True
        at = np.flatnonzero(~apart[device])
        followed = self._follow(device, received, read, at, apart)
        if followed is None:
            return None, frames
        tables, runs = followed
        at = at[~apart[device[at]]]
        if not len(at):
            return None, frames
        rest = np.ones(len(frames), np.bool_)
        rest[at] = False
        accepted = _accepted(table.take(at), device[at], read, at, tables), table.take(rest)
        # Nothing fails from here on.
        for run in runs:
            run.note()
        return accepted

    def _read(self, payloads: Sequence[bytes], telemetry: Bools) -> _Read:
        """Read the payloads of telemetry that have a layout."""
        row, boot, seq, ts = np.zeros((4, len(payloads)), np.int64)
        read = _Read(np.full(len(payloads), -1), row, boot, seq, ts, [], [])
        self._layouts.read(payloads, read.take, telemetry)
        return read

    # --- devices ----------------------------------------------------------------------------------------------------

    def _follow(
        self, device: Ints, received: Ints, read: _Read, at: Ints, apart: Bools
    ) -> tuple[dict[tuple[int, int], list[int]], list[_Run]] | None:
        """Find the devices whose frames at ``at`` go on in sequence; mark the other devices in ``apart``.

        Return (device, layout) → series, and what is to be noted; None where there are too few frames of each device.
        """
        order = at[order_by(narrowed(device[at], len(self._directory.devices)))]
        whose = device[order]
        starts = starts_of(whose)
        if len(starts) * PER_DEVICE >= len(order):
            return None
        step_boot, step_seq, same = np.diff(read.boot[order]), np.diff(read.seq[order]), np.diff(whose) == 0
        apart[whose[1:][same & ((step_boot != 0) | (step_seq != 1))]] = True
        tables = self._tables(whose, read.layout[order], read.layouts, apart)
        lasts = np.append(starts[1:], len(order)) - 1
        first, last = order[starts], order[lasts]
        runs = zip(
            *(whose[starts].tolist(), read.boot[first].tolist(), read.seq[first].tolist(), read.seq[last].tolist()),
            *((lasts - starts + 1).tolist(), received[last].tolist()),
            strict=True,
        )
        found = []
        for index, boot, seq, last_seq, frames, recv_ts in runs:
            entry = self._directory.devices[index]
            if apart[index] or not entry.online or not entry.tracker.goes_on(boot, seq):
                apart[index] = True
            else:
                found.append(_Run(entry, last_seq, frames, recv_ts))
        return tables, found

    def _tables(
        self, whose: Ints, which: Ints, layouts: Sequence[Layout], apart: Bools
    ) -> dict[tuple[int, int], list[int]]:
        """Return (device, layout) → series, marking the devices in ``apart`` that have none for a name."""
        tables: dict[tuple[int, int], list[int]] = {}
        pairs = whose * len(layouts) + which
        for pair in set(pairs[starts_of(pairs)].tolist()):
            index, number = divmod(pair, len(layouts))
            entry, layout = self._directory.devices[index], layouts[number]
            # The columns of a block may come in units of their own.
            series = None if layout.rows and entry.adopted else _series_of(entry, layout.names)
            if series is None:
                apart[index] = True
            else:
                tables[index, number] = series
        return tables


def _series_of(device: Device, names: tuple[str, ...]) -> list[int] | None:
    """Return the series of names that a device has published before; None where it has not."""
    if names == device.telemetry_names:
        return device.telemetry_series
    series = [device.series.get(name, -1) for name in names]
    return None if -1 in series else series


def _span(layout: Layout) -> int:
    return layout.dt * max(layout.rows - 1, 0)


def _accepted(
    frames: FrameTable,
    device: Ints,
    read: _Read,
    at: Ints,
    tables: dict[tuple[int, int], list[int]],
) -> Accepted:
    """Put the frames at ``at`` and their samples one behind the other."""
    layout, row = read.layout[at], read.row[at]
    scattered = read.of_layout(lambda each: 0 if each.rows else len(each.names))[at]
    begin = np.cumsum(scattered) - scattered
    series, value = np.empty(int(scattered.sum()), np.int64), np.empty(int(scattered.sum()))
    line = np.empty(int(device.max()) + 1, np.int64)
    blocks = []
    for number, values in enumerate(read.values):
        those = np.flatnonzero(layout == number)
        if not len(those):
            continue
        devices = sorted(set(device[those].tolist()))
        line[devices] = np.arange(len(devices))
        of_each = np.array([tables[index, number] for index in devices], np.int64)[line[device[those]]]
        if read.layouts[number].rows:
            blocks.append(_stack(read.layouts[number], those, of_each, read.ts[at[those]], values, row[those]))
            continue
        if len(those) == len(at):
            series, value = of_each.ravel(), np.asarray(values[row].ravel(), np.float64)
            break
        places = begin[those][:, None] + np.arange(values.shape[1])
        series[places] = of_each
        value[places] = values[row[those]]
    samples = read.of_layout(lambda each: max(each.rows, 1) * len(each.names))[at]
    ts, received = read.ts[at] + read.of_layout(_span)[at], frames.recv_ts
    return Accepted(
        frames, device, ts, read.seq[at], received, samples.copy(), samples, scattered, series, value, blocks
    )


def _stack(layout: Layout, frame: Ints, series: Ints, t0: Ints, values: Floats | Float32s, row: Ints) -> Stack:
    """Return the blocks of a layout that are accepted: those of its frames that are at ``row``."""
    of_each = values.reshape(-1, layout.rows, len(layout.names))
    some = values if len(row) == len(of_each) else of_each[row].reshape(-1, len(layout.names))
    dt, rows = np.full(len(row), layout.dt), np.full(len(row), layout.rows)
    return Stack(frame, series, t0, dt, rows, np.asarray(some, np.float32))
