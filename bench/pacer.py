"""Publish at QoS 1 at a steady rate: ``python -m bench.pacer PORT RATE SECONDS BOOT``; prints what was acknowledged."""

import contextlib
import json
import sys
import time
from typing import Final

from bench.payloads import SteadyMessages
from bench.wire import connect

SLICE_S: Final = 0.005
WINDOW: Final = 8_000
"""Messages under way at most; beyond, the broker cannot keep the pace and the rest waits."""


def main(port: int, rate: float, seconds: float, boot: int) -> None:
    """Publish until all is acknowledged."""
    messages, count = SteadyMessages(boot), int(rate * seconds)
    print("READY", flush=True)
    sys.stdin.readline()
    connection = connect(port, f"bench-pacer-{boot}")
    connection.settimeout(0)
    began, sent, acknowledged, partial, queue = time.perf_counter(), 0, 0, 0, bytearray()
    while acknowledged < count:
        due = min(int((time.perf_counter() - began) * rate), acknowledged + WINDOW, count)
        if due > sent:
            queue += messages.lot(sent, due - sent, time.time_ns())
            sent = due
        with contextlib.suppress(BlockingIOError):
            del queue[: connection.send(queue[: 1 << 18])]
        with contextlib.suppress(BlockingIOError):
            # A successful PUBACK is four bytes.
            whole, partial = divmod(partial + len(connection.recv(1 << 18)), 4)
            acknowledged += whole
        time.sleep(SLICE_S)
    print(json.dumps({"messages": acknowledged, "seconds": time.perf_counter() - began}), flush=True)
    connection.close()


main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
