"""What tag readers report: raw reads with those missed, those heard at the neighbouring lane, and ghosts."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

import numpy as np

from simulators.noise import Noise
from simulators.port.gate import Read

NEIGHBOUR_DB: Final = -22.0
"""How much weaker the neighbouring lane's antenna hears a tag, dB."""
GHOST_DBM: Final = -71.5
GHOST_PREFIX: Final = "00"
"""A ghost is noise that passed for a tag: its header is that of no EPC."""


class Channel(IntEnum):
    """Streams of the noise of one reader."""

    MISSED = 0
    UNREAD = 1
    NEIGHBOUR = 2
    GHOST = 3
    SIDE = 4


def reported(reads: Sequence[Read], lane: int, neighbours: Sequence[int], noise: Noise) -> Iterator[tuple[int, Read]]:
    """Yield (lane, read) for what is reported of a lane's raw ``reads``; ``neighbours`` are the lanes beside it."""
    if not reads:
        return
    level = noise.level
    times = np.array([read.time for read in reads])
    starts = np.array([read.passage_s for read in reads])
    heard = noise.uniform(Channel.MISSED, times) >= level.missed_share
    heard &= noise.uniform(Channel.UNREAD, starts) >= level.unread_share
    beside = noise.uniform(Channel.NEIGHBOUR, times) < level.neighbour_share
    ghosts = noise.uniform(Channel.GHOST, times) < level.ghost_share
    sides = noise.uniform(Channel.SIDE, times)
    flags = zip(reads, heard.tolist(), beside.tolist(), ghosts.tolist(), sides.tolist(), strict=True)
    for read, is_heard, is_beside, is_ghost, side in flags:
        if is_heard:
            yield lane, read
        if is_beside and neighbours:
            there = neighbours[int(side * len(neighbours))]
            yield there, read._replace(rssi_dbm=read.rssi_dbm + NEIGHBOUR_DB)
        if is_ghost:
            tag = f"{GHOST_PREFIX}{int(side * 2**52):013X}{read.tag[15:]}"
            yield lane, read._replace(tag=tag, rssi_dbm=GHOST_DBM)
