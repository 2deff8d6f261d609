"""The limit: a subscriber that splits packets with the least possible work, acknowledges, and does nothing else."""

import sys

from bench.subscribers import Meter
from bench.wire import SUBSCRIBE_ALL, connect


def main(port: int, messages: int) -> None:
    """Acknowledge until all have come."""
    connection = connect(port, "bench-only-acks")
    connection.sendall(SUBSCRIBE_ALL)
    connection.recv(64)
    print("READY", flush=True)
    meter, count, rest = Meter(), 0, b""
    while count < messages:
        data = rest + connection.recv(1 << 18)
        if not meter.started:
            meter.start()
        at, end, acks = 0, len(data), bytearray()
        while at + 2 < end:
            size, body, shift = data[at + 1] & 127, at + 2, 7
            while data[body - 1] & 128:
                size |= (data[body] & 127) << shift
                shift += 7
                body += 1
            if body + size > end:
                break
            if data[at] >> 4 == 3:  # noqa: PLR2004 - PUBLISH, here always of QoS 1
                name = data[body] << 8 | data[body + 1]
                acks += b"\x40\x02" + data[body + 2 + name : body + 4 + name]
                count += 1
            at = body + size
        rest = data[at:]
        if acks:
            connection.sendall(acks)
    meter.report(count)


main(int(sys.argv[1]), int(sys.argv[2]))
