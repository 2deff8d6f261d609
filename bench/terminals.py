"""``python -m bench.terminals PORT TERMINALS SECONDS``: terminals that report every 5 s, and count replies.

Prints READY when all are connected, begins at a line on standard input, and prints what was sent and answered as JSON.
"""

import asyncio
import json
import resource
import sys
import time
from typing import Final, cast

from bench.tracker_frames import jt808_location
from devices.codecs.jt808_frames import FLAG

PERIOD_S: Final = 5.0
CONNECTING: Final = 200
"""Connections made at the same time."""
LAST_REPLIES_S: Final = 5.0
FIRST_PHONE: Final = 13_900_000_000


class Terminal(asyncio.Protocol):
    """One connection that counts replies."""

    def __init__(self) -> None:
        """Start without a reply."""
        self.flags = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to send."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count the flags: two to a reply."""
        self.flags += data.count(FLAG)


def allow(connections: int) -> None:
    """Raise the bound on open files as far as it takes and is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 100
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


async def main(port: int, count: int, seconds: float) -> dict[str, int]:
    """Connect, report for a time, wait for the last replies."""
    loop = asyncio.get_running_loop()
    terminals: list[Terminal] = []
    while len(terminals) < count:
        batch = min(CONNECTING, count - len(terminals))
        made = await asyncio.gather(*(loop.create_connection(Terminal, "127.0.0.1", port) for _ in range(batch)))
        terminals += [protocol for _, protocol in made]
    print("READY", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began, sent = loop.time(), 0
    while (elapsed := loop.time() - began) < seconds:
        for nth in range(sent, round(elapsed * count / PERIOD_S)):
            who, round_number = nth % count, nth // count
            transport = terminals[who].transport
            if transport is not None:
                now = time.time_ns()
                transport.write(jt808_location(round_number, str(FIRST_PHONE + who), now - round_number * 5 * 10**9))
            sent += 1
        await asyncio.sleep(0.01)
    deadline = loop.time() + LAST_REPLIES_S
    while (replied := sum(each.flags for each in terminals) // 2) < sent and loop.time() < deadline:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0.05)
    return {"sent": sent, "replied": replied}


if __name__ == "__main__":
    allow(int(sys.argv[2]))
    print(json.dumps(asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))), flush=True)
