"""A gate lane: follows the event stream of an RFID reader over HTTP (JSON lines) and publishes each read.

python gate_reader.py CNNGB-DEMO G-IN-1 --reader http://192.0.2.20/api/v1/data/stream --direction in
"""

import argparse
import base64
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from devices.client import Client, ClientConfig, add_broker_arguments, broker_settings
from devices.vocabulary import DeviceClass

CENTI = 100


def read_of(line: bytes) -> dict[str, Any] | None:
    """Return tag, antenna and signal strength of a line of the stream, None where it is no read of a tag."""
    event = json.loads(line).get("tagInventoryEvent")
    if event is None:
        return None
    epc = event.get("epcHex") or base64.urlsafe_b64decode(event["epc"] + "==").hex()
    return {
        "tag": epc.upper(),
        "antenna": event["antennaPort"],
        "rssi_dbm": event["peakRssiCdbm"] / CENTI,
    }


def run(client: Client, url: str, direction: str, seconds: float | None) -> None:
    """Follow the stream until time is over, and follow it again whenever it ends."""
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as stream:  # noqa: S310 - the address is the operator's own
                for line in stream:
                    read = read_of(line) if line.strip() else None
                    if read is not None:
                        client.event("tag_read", read | {"direction": direction})
                    if end is not None and time.monotonic() > end:
                        return
        except (OSError, KeyError, ValueError) as error:
            client.event("reader_lost", {"why": str(error)[:100]})
        time.sleep(0.5)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site")
    parser.add_argument("device")
    parser.add_argument("--reader", required=True)
    parser.add_argument("--direction", choices=("in", "out"), default="in")
    parser.add_argument("--folder", type=Path, default=Path("ring"))
    parser.add_argument("--for", dest="seconds", type=float)
    add_broker_arguments(parser)
    given = parser.parse_args()
    config = ClientConfig(
        site=given.site,
        device_class=DeviceClass.RFID_GATE,
        device=given.device,
        folder=given.folder,
        **broker_settings(given),
        info={"direction": given.direction},
    )
    with Client(config) as client:
        run(client, given.reader, given.direction, given.seconds)
        client.flush(10)


if __name__ == "__main__":
    main()
