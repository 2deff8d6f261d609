"""Publish at QoS 1 at a steady rate: ``python -m bench.pacer PORT RATE SECONDS BOOT``."""

import contextlib
import sys
import time
from typing import Final

from bench.payloads import small_messages
from bench.wire import connect

SLICE_S: Final = 0.005
WINDOW: Final = 8_000
"""Messages under way at most; beyond, the broker cannot keep the pace and the rest waits."""


def main(port: int, rate: float, seconds: float, boot: int) -> None:
    """Publish until all is sent."""
    packets = small_messages(int(rate * seconds), boot)
    print("READY", flush=True)
    sys.stdin.readline()
    connection = connect(port, f"bench-pacer-{boot}")
    connection.settimeout(0)
    began, sent, acknowledged, queue = time.perf_counter(), 0, 0, bytearray()
    while sent < len(packets) or queue:
        due = min(int((time.perf_counter() - began) * rate), acknowledged + WINDOW, len(packets))
        queue += b"".join(packets[sent:due])
        sent = max(sent, due)
        with contextlib.suppress(BlockingIOError):
            del queue[: connection.send(queue[: 1 << 18])]
        with contextlib.suppress(BlockingIOError):
            # A successful PUBACK is four bytes.
            acknowledged += len(connection.recv(1 << 18)) // 4
        time.sleep(SLICE_S)
    connection.close()


main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
