"""``python -m bench.fuzz [--codec NAME,…] [--mutations N] [--pipeline N] [--seed S]``: broken messages, all formats.

A codec may refuse what it is given, and in no other way than by a RejectError; what it returns must be well formed.
The pipeline behind it must book each message, and make a checkpoint and records of what it has read.
Exit status 1 if one does not, with the message as hexadecimal digits.
"""

import argparse
import random
import re
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from bench.frames import FRAMES, START_NS
from devices.codecs.readings import Codec, Reading
from devices.codecs.registry import CODECS, make_codec
from devices.rejects import RejectError
from devices.topics import Stream
from devices.vocabulary import BY_NAME, DeviceClass
from ingest.checkpoint import WorkerBlob, freeze
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.sources import NATIVE, USUAL, Source
from ingest.unforeseen import FAILED
from store.journal import Frame

MAX_PEAK: Final = 64 * 2**20
"""Bytes that decoding one mutation may need at most."""
NUMBERS: Final = (
    b"-1",
    b"1e999",
    b"NaN",
    b"99999999999999999999999",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1" + b"0" * 400,
    b"0.0000001",
    b"null",
    b'""',
    b"true",
    b"[]",
    b"{}",
)
DIGITS: Final = re.compile(rb"-?\d+")
ROUND: Final = 1_000
BATCH: Final = 25
SITE: Final = "CNNGB-FUZZ"
SPARKPLUG_KINDS: Final = ("NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH")
PROBES: Final = 200


def mutations(frames: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield ``count`` broken messages, the same ones for the same seed: most are one or two steps from a good one."""
    draw = random.Random(seed)
    for _ in range(count):
        frame = bytearray(draw.choice(frames))
        for _ in range(1 + (draw.random() < 0.4) + (draw.random() < 0.1)):  # noqa: PLR2004 - shares
            _mutate(frame, frames, draw)
        yield bytes(frame)


def _mutate(frame: bytearray, frames: Sequence[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(frame) + 1)
    until = min(len(frame), at + 1 + int(draw.expovariate(0.2)))
    match draw.randrange(10):
        case 0 if frame:
            frame[at % len(frame)] ^= 1 << draw.randrange(8)
        case 1 if frame:
            frame[at % len(frame)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        case 2:
            del frame[at:until]
        case 3:
            del frame[at:]
        case 4:
            frame[at:at] = draw.randbytes(1 + draw.randrange(8))
        case 5:
            frame[at:at] = frame[at:until] * draw.choice((1, 2, 50))
        case 6:
            other = draw.choice(frames)
            frame[at:] = other[draw.randrange(len(other) + 1) :]
        case 7:
            frame[at:until] = draw.choice(NUMBERS)
        case 8 if (found := DIGITS.search(frame, at)) is not None:
            frame[found.start() : found.end()] = draw.choice(NUMBERS)
        case _:
            frame[at:at] = draw.choice((b"[", b"{", b'{"a":', b"\x91", b'"')) * draw.choice((1, 3, 2_000))


def complaint(reading: Reading) -> str:
    """Return what is wrong with a reading, "" if it is well formed."""
    for name, value in reading.values.items():
        if name not in BY_NAME or BY_NAME[name].derived:
            return f"{name} is no metric of a device"
        if type(value) not in {float, int, bool}:
            return f"{name}: {value!r}"
    if reading.ts is not None and type(reading.ts) is not int:
        return f"ts {reading.ts!r}"
    for name, number, most in (("boot", reading.boot, 2**64), ("seq", reading.seq, 2**63)):
        if number is not None and not 0 <= number < most:
            return f"{name} {number}"
    said = [*reading.unknown.values(), *reading.info.values()]
    for happening in reading.happenings:
        if not 0 < len(happening.type) <= 64:  # noqa: PLR2004 - as a native event's type
            return f"event type {happening.type!r}"
        said += happening.data.values()
    flat = all(value is None or isinstance(value, str | int | float | bool) for value in said)
    return "" if flat else "something that is not flat"


def check(codec: Codec, payload: bytes) -> str:
    """Return what a codec does wrong with a payload, "" if nothing."""
    try:
        readings = codec.decode(payload)
    except RejectError as error:
        return "" if error.reject.detail else "a reject without a sentence"
    except BaseException as error:  # noqa: BLE001 - whatever leaves a codec is what is looked for
        return f"{type(error).__name__}: {error}"
    if not readings:
        return "neither a reading nor a reject"
    return next((found for reading in readings if (found := complaint(reading))), "")


def topics(name: str) -> list[str]:
    """Return topics on which a format comes: with its devices named by it, by the topic, and whatever else it knows."""
    port = f"port/{SITE}"
    if name == NATIVE:
        streams = (Stream.TELEMETRY, Stream.STATUS, Stream.EVENT)
        return [f"{port}/{each}/D1/{stream}" for each in DeviceClass for stream in streams]
    born = [f"spBv1.0/g/{kind}/n{'/d' * kind.startswith('D')}" for kind in SPARKPLUG_KINDS] * (name == "sparkplug")
    return [f"fuzz/{name}/D1", f"{port}/rfid-gate/D1/{name}", f"{port}/quay-crane/D1/{name}", *born]


def pipeline_of(name: str) -> Pipeline:
    """Return a pipeline that takes a format."""
    filters = (f"fuzz/{name}/#", *USUAL.get(name, ()))
    sources = () if name == NATIVE else (Source(name, SITE, DeviceClass.VEHICLE, filters),)
    return Pipeline("fuzz", 1, PipelineConfig(sources=sources))


def check_frames(pipeline: Pipeline, frames: Sequence[Frame]) -> str:
    """Return what a pipeline does wrong with frames, "" if nothing: it books them, and keeps what they say."""
    before = pipeline.ledger.received
    try:
        pipeline.process(frames)
        touched = pipeline.touched()
        freeze(pipeline, WorkerBlob(), touched)
        refused = pipeline.take_quarantine()
        msgspec.json.encode([pipeline.take_events(), list(pipeline.records_of(touched)), refused])
        pipeline.take_rows(1)
    except Exception as error:  # noqa: BLE001 - whatever leaves it is what is looked for
        return f"{type(error).__name__}: {error}"
    if not pipeline.ledger.balanced() or pipeline.ledger.received != before + len(frames):
        return "the ledger does not balance"
    return next((record.detail for record in refused if FAILED in record.detail), "")


def search(name: str, count: int, seed: int) -> str:
    """Send broken messages through a pipeline; return the first that it goes wrong with and how, "" if none does."""
    draw = random.Random(seed)
    where, offset = topics(name), 0
    pipeline = pipeline_of(name)
    payloads = mutations(FRAMES[name], count, seed)
    while some := list(islice(payloads, BATCH)):
        frames = []
        for payload in some:
            frames.append(Frame(offset, START_NS, 1, 1, draw.choice(where), payload))
            offset += len(payload)
        if check_frames(pipeline, frames):
            alone = ((frame, check_frames(pipeline_of(name), [frame])) for frame in frames)
            frame, wrong = next((found for found in alone if found[1]), (frames[0], "these frames together"))
            return f"{wrong}: {frame.topic} {frame.payload.hex()[:2_000]}"
    return ""


def peak_of(codec: Codec, payloads: Sequence[bytes]) -> int:
    """Return the most bytes that decoding one of the payloads has needed."""
    most = 0
    tracemalloc.start()
    try:
        for payload in payloads:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            check(codec, payload)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return most


def main(arguments: Sequence[str]) -> int:
    """Break messages and decode them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--codec", default=",".join(FRAMES), help="names of codecs, separated by commas")
    parser.add_argument("--mutations", type=int, default=1_000_000, help="broken messages per codec")
    parser.add_argument("--pipeline", type=int, default=100_000, help="the same, through the whole of ingest")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    failed = 0
    for name in options.codec.split(","):
        if name not in FRAMES or name not in CODECS:
            parser.error(f"--codec {name!r}: expected one of {', '.join(FRAMES)}")
        codec, refused, started = make_codec(name), 0, time.perf_counter()
        for nth, payload in enumerate(mutations(FRAMES[name], options.mutations, options.seed)):
            if nth % ROUND == 0:
                codec = make_codec(name)
            wrong = check(codec, payload)
            if wrong:
                failed += 1
                print(f"{name}: {wrong}: {payload.hex()[:2_000]}")
                break
            refused += _is_refused(codec, payload) if nth % ROUND < ROUND // 10 else 0
        if found := search(name, options.pipeline, options.seed):
            failed += 1
            print(f"{name} through the pipeline: {found}")
        peak = peak_of(codec, list(mutations(FRAMES[name], min(PROBES, options.mutations), options.seed + 1)))
        failed += peak > MAX_PEAK
        took = time.perf_counter() - started
        share = 10 * refused / max(options.mutations, 1)
        figures = f"{share:.0%} refused, {took:.0f} s, peak {peak / 1024:.0f} kB"
        print(f"{name:<12} {options.mutations:>9,} mutations, {figures}")
    return 1 if failed else 0


def _is_refused(codec: Codec, payload: bytes) -> bool:
    try:
        codec.decode(payload)
    except RejectError:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
