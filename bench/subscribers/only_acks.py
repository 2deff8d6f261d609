"""The limit: a subscriber that splits packets with the least possible work, acknowledges, and does nothing else."""

import sys

from bench.subscribers import Meter
from bench.wire import END_TOPIC, SUBSCRIBE_ALL, connect

END = END_TOPIC.encode()


def main(port: int) -> None:
    """Acknowledge everything until the end mark."""
    connection = connect(port, "bench-only-acks")
    connection.sendall(SUBSCRIBE_ALL)
    connection.recv(64)
    print("READY", flush=True)
    meter, count, rest, done = Meter(), 0, b"", False
    while not done:
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
            if data[at] >> 4 == 3:  # noqa: PLR2004 - PUBLISH
                name = data[body] << 8 | data[body + 1]
                if data[at] & 6:
                    acks += b"\x40\x02" + data[body + 2 + name : body + 4 + name]
                    count += 1
                elif data[body + 2 : body + 2 + name] == END:
                    done = True
            at = body + size
        rest = data[at:]
        if acks:
            connection.sendall(acks)
    meter.report(count)


main(int(sys.argv[1]))
