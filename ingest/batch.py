"""What decoding hands to the pipeline: the outcome of every frame of a batch, as lists that become arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from analytics.detectors.gates import TagRead
from analytics.events import PortEvent
from devices.columns import Floats, Ints
from devices.rejects import Reject
from devices.tables import Table
from ingest.blocks import Block, Stack, stacked
from ingest.checks import UNSET
from ingest.directory import Device
from store.journal import Frame

WHOLE: Final = -1


class Refused(NamedTuple):
    """What goes to quarantine: a whole frame (``nth`` = ``WHOLE``) or the ``nth`` sample of one."""

    frame: Frame
    device: int
    reject: Reject
    nth: int
    samples: int
    """How many samples it takes along."""


class Mark(NamedTuple):
    """How much of a batch there is before something is taken into it."""

    series: int
    refused: int
    reads: int
    events: int
    blocks: int


class Compound(NamedTuple):
    """A foreign frame: it may speak of several devices and instants, and is booked once."""

    frame: Frame
    device: int
    """Index of the device to which the frame itself is booked."""
    first: int
    end: int
    """Its readings accepted are those from ``first`` up to ``end`` among the frames accepted, one entry each."""
    received: dict[int, int]
    """Device index → how many samples the frame has of it."""
    duplicate: dict[int, int]
    """Device index → how many of them were seen before."""


class _Behind(Table[Frame]):
    """Frames and others behind them, looked at where they are."""

    def __init__(self, first: Sequence[Frame], then: Sequence[Frame]) -> None:
        self._first, self._then = first, then

    def __len__(self) -> int:
        return len(self._first) + len(self._then)

    def item(self, nth: int) -> Frame:
        return self._first[nth] if nth < len(self._first) else self._then[nth - len(self._first)]


@dataclass(slots=True)
class Accepted:
    """The frames accepted, of foreign ones every reading accepted: arrays (n,), and their single samples, (m,)."""

    frames: Sequence[Frame]
    device: Ints
    """Device index."""
    ts: Ints
    """Event time, ns UTC."""
    seq: Ints
    received: Ints
    """Receive time, ns UTC."""
    samples: Ints
    """How many samples are kept of each …"""
    sent: Ints
    """… and how many it came with."""
    scattered: Ints
    """How many single samples each has; they follow each other. The others are in blocks."""
    series: Ints
    value: Floats
    blocks: list[Stack]
    """Those of the frames that are at their places ``frame``."""
    unset: Mapping[int, int] = field(default_factory=dict)
    """Place → what the device's clock said, ns UTC, where that was not set and the time of receipt counts."""

    @property
    def said(self) -> Ints:
        """What the devices' clocks said, ns UTC."""
        if not self.unset:
            return self.ts
        said = self.ts.copy()
        said[list(self.unset)] = list(self.unset.values())
        return said

    def behind(self, first: "Accepted") -> "Accepted":
        """Return ``first`` and these behind it."""
        if not first.frames:
            return self
        names = ("device", "ts", "seq", "received", "samples", "sent", "scattered", "series", "value")
        joined = {name: np.concatenate([getattr(first, name), getattr(self, name)]) for name in names}
        moved = [stack._replace(frame=stack.frame + len(first.frames)) for stack in self.blocks]
        unset = dict(first.unset) | {place + len(first.frames): ts for place, ts in self.unset.items()}
        frames, blocks = _Behind(first.frames, self.frames), first.blocks + moved
        return replace(self, frames=frames, blocks=blocks, unset=unset, **joined)


@dataclass(slots=True)
class Batch:
    """What became of a sequence of frames; lists of a group run parallel to each other."""

    together: Accepted | None = None
    """Frames that were taken together, each with all of its samples. The rest is of those taken one by one."""

    # Every frame
    received: list[int] = field(default_factory=list)
    """Device index."""
    received_samples: list[int] = field(default_factory=list)

    # Frames seen before
    duplicate: list[int] = field(default_factory=list)
    """Device index."""
    duplicate_samples: list[int] = field(default_factory=list)

    # Frames accepted, of foreign ones every reading accepted
    frames: list[Frame] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    seq: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    """How many samples each has."""

    scattered: list[int] = field(default_factory=list)
    """How many of them follow each other in the next group; the others are in blocks."""

    # Samples of the frames accepted, one by one
    series: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    blocks: list[Block] = field(default_factory=list)
    """Samples of the frames accepted, packed."""

    compounds: list[Compound] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    """Entry among the frames accepted → number of the reading in its foreign frame, where that is above 0."""
    unset: dict[int, int] = field(default_factory=dict)
    """Entry among the frames accepted → what the device's clock said, ns UTC, where that is not its event time."""
    flags: list[tuple[int, str]] = field(default_factory=list)
    """Device index and what was odd about a reading of it."""

    refused: list[Refused] = field(default_factory=list)
    reads: list[TagRead] = field(default_factory=list)
    events: list[PortEvent] = field(default_factory=list)

    def accepted(self) -> Accepted:
        """Return everything accepted: what was taken one by one first, in its order, then what was taken together."""
        if self.together is not None and not self.frames:
            return self.together
        samples = np.array(self.samples, np.int64)
        one_by_one = Accepted(
            self.frames,
            np.array(self.device, np.int64),
            np.array(self.ts, np.int64),
            np.array(self.seq, np.int64),
            np.array([frame.recv_ts for frame in self.frames], np.int64),
            samples.copy(),
            samples,
            np.array(self.scattered, np.int64),
            np.array(self.series, np.int64),
            np.array(self.value, np.float64),
            stacked(self.blocks),
            self.unset,
        )
        return one_by_one if self.together is None else self.together.behind(one_by_one)

    def take_located(self, accepted: Accepted, duplicates: Sequence[tuple[int, int]]) -> None:
        """Add frames that were taken together elsewhere, and the device and samples of those seen before."""
        self.together = accepted if self.together is None else self.together.behind(accepted)
        self.received += [device for device, _ in duplicates]
        self.received_samples += [samples for _, samples in duplicates]
        self.duplicate += [device for device, _ in duplicates]
        self.duplicate_samples += [samples for _, samples in duplicates]

    def note_unset(self, device: int, said: int) -> None:
        """Note of the entry that is about to be accepted what its device's clock said, which was not set."""
        # Within 64 bits, whatever it says.
        self.unset[len(self.frames)] = max(said, 0)
        self.flags.append((device, UNSET))

    def accept(self, frame: Frame, device: int, ts: int, seq: int, samples: int, *, packed: bool = False) -> None:
        """Note that a frame, or a reading of it, is accepted, whose ``samples`` have been taken already.

        ``packed``: they are a block's, and do not follow each other in ``series`` and ``value``.
        """
        self.frames.append(frame)
        self.device.append(device)
        self.ts.append(ts)
        self.seq.append(seq)
        self.samples.append(samples)
        self.scattered.append(0 if packed else samples)

    def mark(self) -> Mark:
        """Return how much there is."""
        return Mark(len(self.series), len(self.refused), len(self.reads), len(self.events), len(self.blocks))

    def mark_before(self, frame: Frame) -> Mark:
        """Return how much there was before a native frame, which is taken last and of which nothing is accepted yet."""
        refused = len(self.refused)
        while refused and self.refused[refused - 1].frame is frame:
            refused -= 1
        blocks = sum(block.frame < len(self.frames) for block in self.blocks)
        return Mark(sum(self.scattered), refused, len(self.reads), len(self.events), blocks)

    def rewind(self, mark: Mark) -> None:
        """Forget what was taken of a frame or a reading since ``mark``, which an error kept from being accepted."""
        del self.series[mark.series :], self.value[mark.series :], self.refused[mark.refused :]
        del self.reads[mark.reads :], self.events[mark.events :], self.blocks[mark.blocks :]


def set_online(device: Device, *, online: bool, ts: int, seq: int, batch: Batch) -> None:
    """Note that a device came or went, and report it. Whoever sends values is there, whatever it last announced."""
    device.online = online
    kind = "device_online" if online else "device_offline"
    batch.events.append(PortEvent(kind, device.index, ts, ts, seq, {}, {}, str(seq)))
