"""aiomqtt, which acknowledges by itself, doing nothing else."""

import asyncio
import sys

import aiomqtt

from bench.subscribers import Meter


async def main(port: int, messages: int) -> None:
    """Receive until all have come."""
    meter, count = Meter(), 0
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier="bench-aiomqtt", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        await client.subscribe("port/#", qos=1)
        print("READY", flush=True)
        async for _ in client.messages:
            if not meter.started:
                meter.start()
            count += 1
            if count == messages:
                break
    meter.report(count)


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
