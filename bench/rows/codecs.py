"""Codecs alone, on one core, without a broker: messages a second, each beside a library that only parses its syntax."""

import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import msgpack
import numpy as np

from bench.frames import QUAY_CRANE, START_NS, TRUCK, impinj_read, llrp_report, zebra_read
from bench.registry import Pair, Round, Row, Scale, group
from bench.tracker_frames import TRACKERS, jt808_location, sparkplug_birth, sparkplug_data
from devices.codecs.native import Telemetry, encode
from devices.codecs.registry import make_codec
from devices.codecs.teltonika import packet_of, record_of
from devices.codecs.tic40 import encode as encode_tic40
from devices.codecs.tic40_flat import encode_flat
from devices.times import NS
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import DeviceClass
from ingest.decoding import Decoder
from ingest.directory import Directory
from ingest.foreign import Foreign
from store.journal import Frame

SITE: Final = "CNNGB-BENCH"
DEVICES: Final = 40
BATCH: Final = 1_000
"""Frames that ingest hands to the decoder at once."""
VALUES: Final[dict[str, float | bool]] = {
    "hoist_height_m": 12.85, "trolley_position_m": 31.2, "load_t": 24.6, "wind_speed_mps": 5.5,
}  # fmt: skip


@group(
    Row("codec_native_msgpack", "messages/s", "msgpack", "native msgpack, 4 values, into columns", goal_value=400e3),
    Row("codec_native_json", "messages/s", "json", "native JSON, 4 values, into columns", goal_value=300e3),
)
def native(scale: Scale) -> Iterator[Round]:
    """Decode frames of 40 cranes into columns, as ingest does: routing, duplicates, time and names included."""
    count = scale.of(200_000, 4_000)
    while True:
        found = {}
        for name, binary, parse in (
            ("codec_native_msgpack", True, msgpack.unpackb),
            ("codec_native_json", False, json.loads),
        ):
            frames = _frames(count, binary=binary)
            payloads = [frame.payload for frame in frames]
            found[name] = Pair(_rate(partial(_into_columns, frames), count), _parsed(parse, payloads))
        yield found


@group(
    Row("codec_tic40", "messages/s", "json", "TIC 4.0 JSON of a quay crane, 12 values", goal_value=20e3),
    Row("codec_tic40_truck", "messages/s", "json", "TIC 4.0 JSON of a terminal tractor, 6 values", goal_value=20e3),
    Row("codec_tic40_flat", "messages/s", "json", "TIC 4.0 FLAT of a quay crane, 12 values", goal_value=20e3),
    Row("codec_impinj", "messages/s", "json", "Impinj R700 JSON, one read", goal_value=200e3),
    Row("codec_zebra", "messages/s", "json", "Zebra JSON, one read", goal_value=200e3),
)
def fields(scale: Scale) -> Iterator[Round]:
    """Decode the messages of cranes and readers into readings."""
    cranes, reads = scale.of(20_000, 500), scale.of(100_000, 2_000)
    at = [START_NS + nth * NS // 10 for nth in range(cranes)]
    kinds: dict[str, tuple[str, list[bytes]]] = {
        "codec_tic40": ("tic40", [encode_tic40("STS07", DeviceClass.QUAY_CRANE, ts, QUAY_CRANE) for ts in at]),
        "codec_tic40_truck": ("tic40", [encode_tic40("TT101", DeviceClass.VEHICLE, ts, TRUCK) for ts in at]),
        "codec_tic40_flat": ("tic40-flat", [encode_flat("STS07", DeviceClass.QUAY_CRANE, ts, QUAY_CRANE) for ts in at]),
        "codec_impinj": ("impinj", [impinj_read(nth) for nth in range(reads)]),
        "codec_zebra": ("zebra", [zebra_read(nth) for nth in range(reads)]),
    }
    while True:
        yield {
            row: Pair(_decoded(codec, messages), _parsed(json.loads, messages))
            for row, (codec, messages) in kinds.items()
        }


@group(Row("codec_llrp", "reads/s", "impinj JSON", "LLRP tag reports of 10 reads"))
def reports(scale: Scale) -> Iterator[Round]:
    """Decode binary reports of a reader, beside the same reads one by one in JSON."""
    count = scale.of(10_000, 200)
    messages, others = [llrp_report(10)] * count, [impinj_read(nth) for nth in range(count)]
    while True:
        yield {"codec_llrp": Pair(10 * _decoded("llrp", messages), _decoded("impinj", others))}


@group(
    Row("codec_sparkplug", "messages/s", "msgpack", "Sparkplug B, 10 metrics by alias", goal_value=60e3),
    Row("codec_jt808", "messages/s", "msgpack", "JT/T 808 location with four items", goal_value=150e3),
    Row("codec_teltonika", "messages/s", "msgpack", "Teltonika codec 8, one record"),
    Row("codec_owntracks", "messages/s", "json", "OwnTracks location"),
)
def trackers(scale: Scale) -> Iterator[Round]:
    """Decode what edge nodes and vehicles send into readings, beside a library that parses as many values."""
    count = scale.of(40_000, 1_000)
    nodes = [sparkplug_data(nth) for nth in range(1, count + 1)]
    locations = [jt808_location(nth) for nth in range(count)]
    packets = [packet_of(8, 1, record_of(START_NS + nth * NS, 29.9, 121.8, elements={16: nth})) for nth in range(count)]
    phones = [TRACKERS["owntracks"][0]] * count
    ten, nine = (msgpack.packb({f"signal_{nth}": nth + 0.5 for nth in range(size)}) for size in (10, 9))
    while True:
        plain = _parsed(msgpack.unpackb, [nine] * count)
        yield {
            "codec_sparkplug": Pair(_of_a_node(nodes), _parsed(msgpack.unpackb, [ten] * count)),
            "codec_jt808": Pair(_decoded("jt808", locations), plain),
            "codec_teltonika": Pair(_decoded("teltonika", packets), plain),
            "codec_owntracks": Pair(_decoded("owntracks", phones), _parsed(json.loads, phones)),
        }


def _of_a_node(messages: Sequence[bytes]) -> float:
    """Decode a node's messages in their order, after its birth."""
    codec = make_codec("sparkplug")
    codec.decode(sparkplug_birth(), "spBv1.0/bench/NBIRTH/edge")

    def work() -> None:
        for message in messages:
            codec.decode(message, "spBv1.0/bench/NDATA/edge")

    return _rate(work, len(messages))


def _frames(count: int, *, binary: bool) -> list[Frame]:
    keys = [DeviceKey(SITE, DeviceClass.QUAY_CRANE, f"QC{nth:02}") for nth in range(DEVICES)]
    topics = [topic_of(key, Stream.TELEMETRY) for key in keys]
    frames = []
    for nth in range(count):
        ts = START_NS + nth * 20_000
        payload = encode(Telemetry(v=1, m=VALUES, boot=7, seq=nth // DEVICES, ts=ts), binary=binary)
        frames.append(Frame(nth, ts, 1, 1, topics[nth % DEVICES], payload))
    return frames


def _into_columns(frames: Sequence[Frame]) -> None:
    """Decode batch by batch with a new memory, and make the arrays that the windows are given."""
    directory = Directory(max_devices=DEVICES, max_series=10_000)
    decoder = Decoder(directory, Foreign(directory, ()))
    values = 0
    for start in range(0, len(frames), BATCH):
        batch = decoder.decode(frames[start : start + BATCH])
        accepted = batch.accepted()
        columns = (
            np.repeat(accepted.ts, accepted.scattered),
            np.repeat(accepted.seq, accepted.scattered),
            accepted.series,
            accepted.value,
        )
        values += len(columns[3])
        assert not batch.refused
    assert values == len(frames) * len(VALUES)


def _decoded(codec: str, messages: Sequence[bytes]) -> float:
    decode = make_codec(codec).decode

    def work() -> None:
        for message in messages:
            decode(message)

    return _rate(work, len(messages))


def _parsed(parse: Callable[[bytes], object], messages: Sequence[bytes]) -> float:
    def work() -> None:
        for message in messages:
            parse(message)

    return _rate(work, len(messages))


def _rate(work: Callable[[], None], count: int) -> float:
    """Return how many of ``count`` things a second of this process's time did."""
    gc.collect()
    started = time.process_time()
    work()
    return count / (time.process_time() - started)
