"""The traffic of the measurements: small telemetry, and packed blocks, of 40 quay cranes."""

import struct
import time
from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from bench.wire import publish_packet
from devices.codecs.native import Block, Telemetry, decode_telemetry, encode
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import MAXIMUM, METRICS, MINIMUM, DeviceClass, Kind

DEVICES: Final = 40
SITE: Final = "CNNGB-BENCH"
PACKET_IDS: Final = 60_000
_VARIANTS: Final = 7 * DEVICES
"""Small messages after which device and values are the same again."""
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


class SteadyMessages:
    """The messages of :func:`small_messages` for any length of time, made in lots while they are sent.

    What differs between two of a device, times and numbers, is written into packets that were made beforehand.
    """

    def __init__(self, boot: int) -> None:
        """Make one packet of each device and value."""
        ts, seq, device = 0x7E7D7C7B7A797877, 0x6E6D6C6B6A696867, TOPICS[0].encode()
        frames = [(topic, _with(payload, ts, seq)) for topic, payload in small_frames(_VARIANTS, boot)]
        packets = [publish_packet(topic, payload, 1) for topic, payload in frames]
        self._packets = np.array([list(packet) for packet in packets], np.uint8)
        self._id_at = packets[0].index(device) + len(device)
        self._ts_at, self._seq_at = (packets[0].index(struct.pack(">Q", number)) for number in (ts, seq))

    def lot(self, first: int, count: int, now: int) -> bytes:
        """Return messages number ``first`` and on, sent at ``now``, ns UTC."""
        nth = first + np.arange(count)
        made = self._packets[nth % _VARIANTS]
        _write(made, self._id_at, (1 + nth % PACKET_IDS).astype(">u2"))
        # All numbers in nine bytes, as times are.
        _write(made, self._seq_at, ((1 << 32) + nth // DEVICES).astype(">u8"))
        _write(made, self._ts_at, (now + nth - first).astype(">u8"))
        return made.tobytes()


def _with(payload: bytes, ts: int, seq: int) -> bytes:
    message = decode_telemetry(payload)
    return encode(structs.replace(message, ts=ts, seq=seq))


def _write(packets: NDArray[np.uint8], at: int, numbers: NDArray[np.unsignedinteger]) -> None:
    size = numbers.dtype.itemsize
    packets[:, at : at + size] = numbers.view(np.uint8).reshape(-1, size)


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
