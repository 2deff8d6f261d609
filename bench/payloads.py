"""The traffic of the measurements: small telemetry, and packed blocks, of 40 quay cranes."""

import time
from typing import Final

import numpy as np

from bench.wire import publish_packet
from devices.codecs.native import Block, Telemetry, encode
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import MAXIMUM, METRICS, MINIMUM, DeviceClass, Kind

DEVICES: Final = 40
SITE: Final = "CNNGB-BENCH"
PACKET_IDS: Final = 60_000
GAUGES: Final = tuple(
    index
    for index, metric in enumerate(METRICS)
    if DeviceClass.QUAY_CRANE in metric.classes and metric.kind is not Kind.STATE and not metric.derived
)[:10]
"""The signals of a block: ten gauges and positions of a quay crane."""
TOPICS: Final = tuple(
    topic_of(DeviceKey(SITE, DeviceClass.QUAY_CRANE, f"QC{n:02d}"), Stream.TELEMETRY) for n in range(DEVICES)
)


def small_frames(count: int, boot: int) -> list[tuple[str, bytes]]:
    """Return topics and payloads of about 125 bytes with four metrics each, in the order of their times."""
    start = time.time_ns()
    frames = []
    for n in range(count):
        metrics: dict[str, float | bool] = {
            "hoist_height_m": 12.3 + n % 7,
            "trolley_position_m": 3.2,
            "load_t": 23.1,
            "wind_speed_mps": 5.5,
        }
        message = Telemetry(v=1, m=metrics, boot=boot, seq=n // DEVICES, ts=start + n * 20_000)
        frames.append((TOPICS[n % DEVICES], encode(message)))
    return frames


def small_messages(count: int, boot: int) -> list[bytes]:
    """Return :func:`small_frames` as PUBLISH packets of QoS 1."""
    frames = enumerate(small_frames(count, boot))
    return [publish_packet(topic, payload, 1 + n % PACKET_IDS) for n, (topic, payload) in frames]


def packed_messages(count: int, boot: int, samples: int) -> list[bytes]:
    """Return PUBLISH packets with ``samples`` samples each, as blocks of ten signals at 100 Hz, QoS 1.

    The signals swing within a minute, each device's at another point of it, with a noise of a hundredth.
    """
    rows, dt = samples // len(GAUGES), 10_000_000
    generator = np.random.default_rng(boot)
    low, high = np.maximum(MINIMUM[list(GAUGES)], -20), np.minimum(MAXIMUM[list(GAUGES)], 20)
    at = 2 * np.pi * (np.arange(rows)[None, :, None] / (60 * 100) + np.arange(DEVICES)[:, None, None] / DEVICES)
    swing = 0.49 * np.sin(at) + 0.01 * generator.uniform(-1, 1, (DEVICES, rows, len(GAUGES)))
    bodies = [body.astype("<f4").tobytes() for body in (low + high) / 2 + (high - low) * swing]
    names = tuple(METRICS[index].name for index in GAUGES)
    rounds = -(-count // DEVICES)
    # The last block ends now: ahead of the clock of the receiver it would be refused.
    start = time.time_ns() - rounds * rows * dt
    packets = []
    for n in range(count):
        t0 = start + n // DEVICES * rows * dt
        block = Block(v=1, t0=t0, dt=dt, names=names, f32=bodies[n % DEVICES], boot=boot, seq=n // DEVICES)
        packets.append(publish_packet(TOPICS[n % DEVICES], encode(block), 1 + n % PACKET_IDS))
    return packets


def wide_messages(count: int, boot: int, series: int) -> list[bytes]:
    """Return PUBLISH packets of one instant each, of so many series that each comes every 10 s of event time, QoS 1."""
    devices = series // len(GAUGES)
    names, body = tuple(METRICS[index].name for index in GAUGES), np.full(len(GAUGES), 1.5, "<f4").tobytes()
    topics = [topic_of(DeviceKey(SITE, DeviceClass.QUAY_CRANE, f"W{n:05d}"), Stream.TELEMETRY) for n in range(devices)]
    step = 10_000_000_000
    start = time.time_ns() - -(-count // devices) * step
    packets = []
    for n in range(count):
        round_number, device = divmod(n, devices)
        block = Block(v=1, t0=start + round_number * step, dt=1, names=names, f32=body, boot=boot, seq=round_number)
        packets.append(publish_packet(topics[device], encode(block), 1 + n % PACKET_IDS))
    return packets
