"""The example programs run as they are, against a PLC, a reader and a gpsd of this test, and lose nothing."""

import argparse
import json
import socket
import socketserver
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from devices.client import add_broker_arguments, broker_settings
from devices.codecs import native
from devices.times import parse_rfc3339
from devices.topics import DeviceKey, Stream, Topic, parse
from engines.answers import serving
from engines.mosquitto import running_mosquitto
from engines.ports import free_port, wait_until
from faults.ingest_process import IngestProcess
from quayflow.broker import Protection, configure
from quayflow.broker_access import BrokerAccess, password_credential
from quayflow.certificates import Authority
from store.access import INGEST, username_of
from store.journal import read
from store.open import open_registry
from store.registry import Credential

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


Told = list[tuple[Topic, bytes]]


def play(root: Path, folder: Path, port: int, flags: dict[str, list[str]], **settings: Any) -> Told:
    """Run the three programs against an ingest at a broker, each with its flags; return what was journalled."""
    with (
        IngestProcess(folder / "data", port, **settings) as ingest,
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
        programs = []
        for name, arguments in given.items():
            command = [sys.executable, str(root / "docs" / "examples" / f"{name}.py"), "CNNGB-DEMO", *arguments]
            command += ["--for", "2", "--folder", str(folder / name), *flags[name]]
            programs.append(subprocess.Popen(command, cwd=root, env={"PYTHONPATH": str(root)}))
        assert [program.wait(60) for program in programs] == [0, 0, 0]
        assert ingest.terminate() == 0, ingest.words()
        return [(parse(frame.topic), frame.payload) for frame in read(ingest.folder / "journal")]


def test_each_example_publishes_what_its_source_says(root: Path, tmp_path: Path) -> None:
    with running_mosquitto() as broker:
        flags = ["--broker", f"127.0.0.1:{broker.port}"]
        frames = play(root, tmp_path, broker.port, dict.fromkeys(PROGRAMS, flags))
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


def test_each_example_proves_itself_to_a_broker_that_speaks_tls_by_password_or_certificate(
    root: Path, tmp_path: Path
) -> None:
    now = time.time_ns()
    authority = Authority(tmp_path / "tls", now)
    (tmp_path / "data").mkdir()
    registry = open_registry(f"sqlite:///{tmp_path}/data/quayflow.db", read_only=False)
    keys = {
        "crane_plc": DeviceKey("CNNGB-DEMO", "quay-crane", "QC09"),
        "gate_reader": DeviceKey("CNNGB-DEMO", "rfid-gate", "G1"),
    }
    flags: dict[str, list[str]] = {}
    for user, uid in ((INGEST, ""), *((username_of(key), key.uid) for key in keys.values())):
        registry.issue(password_credential(user, uid, f"word of {user}", now), actor="cli:test")
    truck = DeviceKey("CNNGB-DEMO", "vehicle", "T-07")
    issued = authority.device(username_of(truck), now)
    for name, content in (("cert.pem", issued.certificate), ("cert.key", issued.key)):
        (tmp_path / name).write_bytes(content)
    registry.issue(
        Credential(username=username_of(truck), uid=truck.uid, kind="certificate", serial=issued.serial, issued_ns=now),
        actor="cli:test",
    )
    access = BrokerAccess(registry, tmp_path / "broker", authority)
    access.refresh()
    registry.close()
    port, device_port = free_port(), free_port()
    protection = Protection(access.files, authority.serve(now), authority.certificate_file, device_port)
    ca = ["--ca", str(authority.certificate_file)]
    for name, key in keys.items():
        word = tmp_path / f"{name}.word"
        word.write_text(f"word of {username_of(key)}\n")
        secret = ["--password-file", str(word)] if name == "crane_plc" else ["--password", word.read_text().strip()]
        flags[name] = ["--broker", f"127.0.0.1:{port}", *ca, "--user", username_of(key), *secret]
    own = ["--cert", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "cert.key")]
    flags["truck_tracker"] = ["--broker", f"127.0.0.1:{device_port}", *ca, *own]
    with (tmp_path / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(configure(tmp_path / "broker", port, protection), stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), "the broker listens")
        settings: dict[str, Any] = {
            "broker_username": INGEST,
            "broker_password": f"word of {INGEST}",
            "broker_tls": True,
        }
        frames = play(root, tmp_path, port, flags, **settings, broker_ca_file=authority.certificate_file)
    finally:
        process.terminate()
        process.wait(10)
    heard = {(key.device, stream) for (key, stream), _ in frames}
    assert {CRANE, GATE, TRUCK} <= heard


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--password", "x"], "--user: missing"),
        (["--cert", "c.pem"], "--cert and --key: expected both"),
        (["--ca", "nowhere.pem"], "--ca nowhere.pem: there is no such file"),
        (["--user", "u", "--password-file", "nowhere"], "nowhere"),
        (["--broker", "host:port"], "--broker 'host:port'"),
        (["--password", "x", "--password-file", "y"], "not allowed with"),
    ],
)
def test_flags_that_cannot_be_end_the_program_and_are_named(
    flags: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_broker_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        broker_settings(parser.parse_args(flags))
    assert (ended.value.code, word in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        ([], ("127.0.0.1", 1883)),
        (["--tls"], ("127.0.0.1", 8883)),
        (["--broker", "b.example:1884"], ("b.example", 1884)),
        (["--broker", "[::1]:1884"], ("::1", 1884)),
        (["--broker", "::1"], ("::1", 1883)),
    ],
)
def test_the_port_follows_from_the_flags(flags: list[str], address: tuple[str, int]) -> None:
    parser = argparse.ArgumentParser()
    add_broker_arguments(parser)
    found = broker_settings(parser.parse_args(flags))
    assert (found["host"], found["port"]) == address


PROGRAMS = ("crane_plc", "gate_reader", "truck_tracker")
CRANE, GATE, TRUCK = ("QC09", Stream.TELEMETRY), ("G1", Stream.EVENT), ("T-07", Stream.TELEMETRY)
