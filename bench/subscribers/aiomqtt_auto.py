"""aiomqtt, which acknowledges by itself, doing nothing else."""

import asyncio
import sys

import aiomqtt

from bench.subscribers import Meter
from bench.wire import END_TOPIC


async def main(port: int) -> None:
    """Receive everything until the end mark."""
    meter, count = Meter(), 0
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier="bench-aiomqtt", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        await client.subscribe("port/#", qos=1)
        print("READY", flush=True)
        async for message in client.messages:
            if not meter.started:
                meter.start()
            if message.qos:
                count += 1
            elif str(message.topic) == END_TOPIC:
                break
    meter.report(count)


asyncio.run(main(int(sys.argv[1])))
