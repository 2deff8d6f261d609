"""The example programs run as they are, against a PLC, a reader and a gpsd of this test, and lose nothing."""

import json
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devices.codecs import native
from devices.times import parse_rfc3339
from devices.topics import Stream, parse
from engines.mosquitto import running_mosquitto
from faults.ingest_process import IngestProcess
from store.journal import read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FIX = {"class": "TPV", "time": "2026-11-23T08:00:00.25Z", "lat": 29.93, "lon": 121.83, "speed": 4.2, "track": 87.5}


class Plc(socketserver.BaseRequestHandler):
    """Answers each read of holding registers with the same four."""

    def handle(self) -> None:
        while question := self.request.recv(12):
            transaction, _, _, unit, function, _, count = struct.unpack(">HHHBBHH", question)
            registers = struct.pack(">4h", 1_285, -310, 2_460, 1)
            head = struct.pack(">HHHBBB", transaction, 0, 3 + 2 * count, unit, function, 2 * count)
            self.request.sendall(head + registers)


class Reader(socketserver.StreamRequestHandler):
    """Streams reads of one tag, in both spellings, among lines that are none."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        for epc in ({"epc": "4oARcAAAAg8aKzxN"}, {"epcHex": "e28011700000020f1a2b3c4d"}):
            event = {"antennaPort": 2, "peakRssiCdbm": -6_150, **epc}
            for line in ({"eventType": "tagInventory", "tagInventoryEvent": event}, {"eventType": "antennaConnected"}):
                self.wfile.write(json.dumps(line).encode() + b"\r\n\r\n")
        time.sleep(3)


class Gpsd(socketserver.StreamRequestHandler):
    """Greets, is told to watch, and reports three fixes."""

    def handle(self) -> None:
        self.wfile.write(b'{"class":"VERSION","release":"3.22"}\n')
        assert b"WATCH" in self.rfile.readline()
        for _ in range(3):
            self.wfile.write(json.dumps(FIX).encode() + b"\n")
        time.sleep(3)


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    """Serve on a free port and yield its address."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_each_example_publishes_what_its_source_says(root: Path, tmp_path: Path) -> None:
    examples = root / "docs" / "examples"
    with (
        running_mosquitto() as broker,
        IngestProcess(tmp_path / "data", broker.port) as ingest,
        serving(Plc) as plc,
        serving(Reader) as reader,
        serving(Gpsd) as gpsd,
    ):
        ingest.start()
        given = {
            "crane_plc": ("QC09", "--plc", plc, "--hz", "20"),
            "gate_reader": ("G1", "--reader", f"http://{reader}/api/v1/data/stream"),
            "truck_tracker": ("T-07", "--gpsd", gpsd),
        }
        common = ["--broker", f"127.0.0.1:{broker.port}", "--for", "2"]
        programs = []
        for name, arguments in given.items():
            command = [sys.executable, str(examples / f"{name}.py"), "CNNGB-DEMO", *arguments, *common]
            command += ["--folder", str(tmp_path / name)]
            programs.append(subprocess.Popen(command, cwd=root, env={"PYTHONPATH": str(root)}))
        assert [program.wait(60) for program in programs] == [0, 0, 0]
        assert ingest.terminate() == 0, ingest.words()
        frames = [(parse(frame.topic), frame.payload) for frame in read(ingest.folder / "journal")]
    crane = [native.decode_telemetry(payload).m for (key, stream), payload in frames if (key.device, stream) == CRANE]
    assert len(crane) > 10
    assert crane[0] == pytest.approx(
        {"hoist_height_m": 12.85, "trolley_position_m": -3.1, "load_t": 24.6, "spreader_locked": 1}
    )
    events = [native.decode_event(payload) for (key, stream), payload in frames if (key.device, stream) == GATE]
    read_once = {"tag": "E28011700000020F1A2B3C4D", "antenna": 2, "rssi_dbm": -61.5, "direction": "in"}
    assert [event.data for event in events if event.type == "tag_read"][:2] == [read_once, read_once]
    fixes = [native.decode_telemetry(payload) for (key, stream), payload in frames if (key.device, stream) == TRUCK]
    assert len(fixes) == 3
    assert fixes[0].ts == parse_rfc3339(str(FIX["time"]))
    assert fixes[0].m == {"latitude_deg": 29.93, "longitude_deg": 121.83, "speed_mps": 4.2, "heading_deg": 87.5}


CRANE, GATE, TRUCK = ("QC09", Stream.TELEMETRY), ("G1", Stream.EVENT), ("T-07", Stream.TELEMETRY)
