"""A quay crane: polls holding registers of its PLC over Modbus TCP and publishes them.

python crane_plc.py CNNGB-DEMO QC09 --plc 192.0.2.10:502 --broker 127.0.0.1:1883 --folder /var/lib/qc09

At a broker that asks who is there, with what `quayflow device add QC09 --class quay-crane --credentials` has told:

python crane_plc.py … --broker broker.example:8883 --ca ca.pem --user CNNGB-DEMO/quay-crane/QC09 --password-file word
"""

import argparse
import socket
import struct
import time
from pathlib import Path

from devices.client import Client, ClientConfig, add_broker_arguments, broker_settings
from devices.vocabulary import DeviceClass

# Register → metric and the value of one count: what the crane's PLC programmer says.
REGISTERS = (("hoist_height_m", 0.01), ("trolley_position_m", 0.01), ("load_t", 0.01), ("spreader_locked", 1))
READ_HOLDING_REGISTERS = 3
UNIT = 1


def poll(plc: socket.socket, transaction: int) -> dict[str, float]:
    """Read every register once; OSError where the PLC does not answer as it should."""
    plc.sendall(struct.pack(">HHHBBHH", transaction, 0, 6, UNIT, READ_HOLDING_REGISTERS, 0, len(REGISTERS)))
    head = _exactly(plc, 9)
    if head[7] != READ_HOLDING_REGISTERS:
        raise OSError(f"the PLC refuses: exception {head[8]}")
    counts = struct.unpack(f">{len(REGISTERS)}h", _exactly(plc, 2 * len(REGISTERS)))
    return {metric: count * unit for (metric, unit), count in zip(REGISTERS, counts, strict=True)}


def _exactly(plc: socket.socket, size: int) -> bytes:
    answer = b""
    while len(answer) < size:
        part = plc.recv(size - len(answer))
        if not part:
            raise OSError("the PLC closed the connection")
        answer += part
    return answer


def run(client: Client, plc_host: str, plc_port: int, hz: float, seconds: float | None) -> None:
    """Poll until time is over; a PLC that is away is tried again, a broker that is away is the client's matter."""
    end = None if seconds is None else time.monotonic() + seconds
    transaction = 0
    while end is None or time.monotonic() < end:
        try:
            with socket.create_connection((plc_host, plc_port), timeout=2) as plc:
                while end is None or time.monotonic() < end:
                    transaction = (transaction + 1) % 65_536
                    client.publish(poll(plc, transaction))
                    time.sleep(1 / hz)
        except OSError as error:
            client.event("plc_lost", {"why": str(error)[:100]})
            time.sleep(1)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site")
    parser.add_argument("device")
    parser.add_argument("--plc", default="127.0.0.1:502")
    parser.add_argument("--folder", type=Path, default=Path("ring"))
    parser.add_argument("--hz", type=float, default=2.0)
    parser.add_argument("--for", dest="seconds", type=float)
    add_broker_arguments(parser)
    given = parser.parse_args()
    plc_host, _, plc_port = given.plc.rpartition(":")
    config = ClientConfig(
        site=given.site,
        device_class=DeviceClass.QUAY_CRANE,
        device=given.device,
        folder=given.folder,
        **broker_settings(given),
        info={"source": "modbus"},
    )
    with Client(config) as client:
        run(client, plc_host, int(plc_port), given.hz, given.seconds)
        client.flush(10)


if __name__ == "__main__":
    main()
