"""Good messages with one byte changed, taken out or put in, by the million, through codecs and the pipeline.

In one process and in batches, without a broker: what leaves a codec other than a reading or a reject, or a pipeline
other than booked, is what is looked for.
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Final, NamedTuple

from bench.frames import FRAMES, START_NS
from bench.fuzz import check, check_frames, pipeline_of, topics
from devices.codecs.registry import make_codec
from faults.resident import peak_mb
from ingest.ledger import Account
from store.journal import Frame

BATCH: Final = 500
ALIVE: Final = 20_000
"""Messages that one pipeline and one codec take before others begin in their places: devices come and go."""
_BYTES: Final = [bytes([value]) for value in range(256)]


class Searched(NamedTuple):
    """What came of the mutants of one format."""

    codec: str
    mutants: int
    quarantined: int
    wrong: str
    """The first that went wrong and how, "" if none did."""
    rss_mb: float


def mutants(frames: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield good messages of which one byte is wrong, the same ones for the same seed."""
    draw = random.Random(seed).random
    for _ in range(count):
        frame = frames[int(draw() * len(frames))]
        at, value = int(draw() * len(frame)), _BYTES[int(draw() * 256)]
        kind = draw() * 3
        if kind < 1:
            yield frame[:at] + value + frame[at + 1 :]
        elif kind < 2:  # noqa: PLR2004 - the second of three
            yield frame[:at] + frame[at + 1 :]
        else:
            yield frame[:at] + value + frame[at:]


def decoded(codec: str, count: int, seed: int) -> Searched:
    """Hand mutants to a codec alone."""
    found, wrong, done = make_codec(codec), "", 0
    for payload in mutants(FRAMES[codec], count, seed):
        if done % ALIVE == 0:
            found = make_codec(codec)
        done += 1
        if complaint := check(found, payload):
            wrong = f"{codec}: {complaint}: {payload.hex()[:500]}"
            break
    return Searched(codec, done, 0, wrong, peak_mb())


def processed(codec: str, count: int, seed: int) -> Searched:
    """Send mutants through decode and pipeline, on every topic of their format; each must end in an account."""
    where, offset, done, refused, wrong = topics(codec), 0, 0, 0, ""
    draw = random.Random(seed)
    pipeline = pipeline_of(codec)
    source = mutants(FRAMES[codec], count, seed)
    while not wrong and (some := list(islice(source, BATCH))):
        if done % ALIVE == 0:
            pipeline = pipeline_of(codec)
        frames = []
        for payload in some:
            frames.append(Frame(offset, START_NS, 1, 1, draw.choice(where), payload))
            offset += len(payload) + 1
        before = pipeline.ledger.total(Account.QUARANTINED)
        if complaint := check_frames(pipeline, frames):
            wrong = f"{codec}: {complaint} among {some[0].hex()[:200]} and {len(some) - 1} more"
        refused += pipeline.ledger.total(Account.QUARANTINED) - before
        done += len(some)
    return Searched(codec, done, refused, wrong, peak_mb())


def every_codec(count: int, seed: int, processes: int = 2) -> list[Searched]:
    """Hand ``count`` mutants to each codec, several codecs at a time."""
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(decoded, FRAMES, [count] * len(FRAMES), [seed] * len(FRAMES)))
