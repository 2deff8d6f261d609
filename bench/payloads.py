"""The traffic of the measurements: small telemetry of 40 quay cranes."""

import time
from typing import Final

from bench.wire import publish_packet
from devices.codecs.native import Telemetry, encode
from devices.topics import DeviceKey, Stream, topic_of

DEVICES: Final = 40
SITE: Final = "CNNGB-BENCH"


def small_messages(count: int, boot: int) -> list[bytes]:
    """Return PUBLISH packets of about 125 bytes payload with four metrics each, QoS 1, in the order of their times."""
    start = time.time_ns()
    topics = [topic_of(DeviceKey(SITE, "quay-crane", f"QC{n:02d}"), Stream.TELEMETRY) for n in range(DEVICES)]
    packets = []
    for n in range(count):
        metrics: dict[str, float | bool] = {
            "hoist_height_m": 12.3 + n % 7,
            "trolley_position_m": 3.2,
            "load_t": 23.1,
            "wind_speed_mps": 5.5,
        }
        message = Telemetry(v=1, m=metrics, boot=boot, seq=n // DEVICES, ts=start + n * 20_000)
        packets.append(publish_packet(topics[n % DEVICES], encode(message), 1 + n % 60_000))
    return packets
