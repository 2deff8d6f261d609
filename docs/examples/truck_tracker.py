"""A terminal truck: follows gpsd and publishes position, speed and heading, on asyncio.

python truck_tracker.py CNNGB-DEMO T-07 --gpsd 127.0.0.1:2947 --broker 127.0.0.1:1883
"""

import argparse
import asyncio
import json
from pathlib import Path

from devices.client import AsyncClient, ClientConfig, add_broker_arguments, broker_settings
from devices.times import parse_rfc3339
from devices.vocabulary import DeviceClass

WATCH = b'?WATCH={"enable":true,"json":true}\n'
METRICS = {
    "lat": "latitude_deg",
    "lon": "longitude_deg",
    "speed": "speed_mps",
    "track": "heading_deg",
    "altMSL": "altitude_m",
}


async def follow(client: AsyncClient, host: str, port: int) -> None:
    """Publish each fix with the receiver's own time, until cancelled; a gpsd that is away is tried again."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(WATCH)
            async for line in reader:
                report = json.loads(line)
                values = {metric: report[name] for name, metric in METRICS.items() if name in report}
                if report.get("class") == "TPV" and values:
                    await client.publish(values, parse_rfc3339(report["time"]) if "time" in report else None)
        except (OSError, ValueError) as error:
            await client.event("gps_lost", {"why": str(error)[:100]})
        await asyncio.sleep(1)


async def run(config: ClientConfig, host: str, port: int, seconds: float | None) -> None:
    """Follow until time is over."""
    async with AsyncClient(config) as client:
        try:
            async with asyncio.timeout(seconds):
                await follow(client, host, port)
        except TimeoutError:
            await client.flush(10)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site")
    parser.add_argument("device")
    parser.add_argument("--gpsd", default="127.0.0.1:2947")
    parser.add_argument("--folder", type=Path, default=Path("ring"))
    parser.add_argument("--for", dest="seconds", type=float)
    add_broker_arguments(parser)
    given = parser.parse_args()
    gps_host, _, gps_port = given.gpsd.rpartition(":")
    config = ClientConfig(
        site=given.site,
        device_class=DeviceClass.VEHICLE,
        device=given.device,
        folder=given.folder,
        **broker_settings(given),
        info={"source": "gpsd"},
    )
    asyncio.run(run(config, gps_host, int(gps_port), given.seconds))


if __name__ == "__main__":
    main()
