"""Reading: the frames of a whole journal, from an offset on, of certain topics, received in a certain time."""

import logging
from collections.abc import Callable, Container, Iterator
from itertools import chain, zip_longest
from pathlib import Path

from store.journal.frames import Frame, FrameTable
from store.journal.records import Damage
from store.journal.scanning import SegmentScan
from store.journal.segments import Segment, list_segments
from store.journal.selection import FOREVER, Selection

log = logging.getLogger(__name__)


def read(
    folder: Path,
    start: int = 0,
    *,
    topics: Container[str] | None = None,
    from_ns: int = 0,
    to_ns: int = FOREVER,
    damaged: Callable[[Damage], None] | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a journal in the order of their offsets, from ``start`` on.

    Args:
        folder: where the segments lie.
        start: offset of the first frame, such as a checkpoint's.
        topics: only frames of these topics, spelled out: a set of them, or anything that knows ``topic in topics``.
        from_ns: only frames received at or after this, ns UTC.
        to_ns: only frames received before this, ns UTC. Times of receipt need not ascend: a clock may be set.
        damaged: is told of what had to be skipped, in what was read.

    Raises:
        JournalError: a segment is none, or of a version that this build does not read.
    """
    return chain.from_iterable(_lots(folder, start, Selection(topics, from_ns, to_ns), damaged))


def _lots(
    folder: Path, start: int, selection: Selection, damaged: Callable[[Damage], None] | None
) -> Iterator[FrameTable]:
    segments = list_segments(folder)
    for segment, after in zip_longest(segments, segments[1:]):
        yield from lots_of(segment, after, start, selection, damaged)


def lots_of(
    segment: Segment,
    after: Segment | None,
    start: int,
    selection: Selection,
    damaged: Callable[[Damage], None] | None,
) -> Iterator[FrameTable]:
    """Yield in tables what :func:`read` reads of one segment; ``after`` is the one that follows it."""
    if after is not None and after.base <= start:
        return
    try:
        scan = SegmentScan(segment)
    except FileNotFoundError:
        log.info("%s was deleted by retention before it could be read", segment.path.name)
        return
    yield from scan.lots(start, selection)
    if damaged is None:
        return
    for damage in scan.damage:
        damaged(damage)
    if after is not None and (missing := after.base - segment.base - scan.valid_bytes):
        damaged(Damage(segment.path, segment.base + scan.valid_bytes, missing))


def first_frame(folder: Path) -> int:
    """Return the number of the first frame that a journal still holds; 0 if it is empty."""
    segments = list_segments(folder)
    return segments[0].first_frame if segments else 0
