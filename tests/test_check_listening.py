"""`quayflow check --listen`: terminals over TCP are answered as by ingest's gateway, and judged as any other device."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808_frames import (
    AUTHENTICATE,
    FLAG,
    LOCATION,
    REGISTER,
    REGISTER_REPLY,
    REPLY,
    Message,
    frame_of,
    open_frame,
)
from devices.codecs.teltonika import packet_of, record_of
from devices.times import NS
from quayflow.main import app

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
PHONE = "13812345678"
IMEI = b"\x00\x0f356307042441013"


@dataclass
class Check:
    """A check that listens, and what it reported when it was ended."""

    port: int
    report: dict[str, Any] = field(default_factory=dict)
    status: int = -1

    def errors(self, severity: str = "error") -> list[str]:
        return [each["detail"].partition(":")[0] for each in self.report["findings"] if each["severity"] == severity]


@contextlib.contextmanager
def listening(cwd: Path, codec: str, **environment: str) -> Iterator[Check]:
    """A check on a free port, ended by Ctrl-C."""
    words = [sys.executable, "-m", "quayflow", "check", "--listen", "0", "--codec", codec, "--as", "vehicle", "--json"]
    running = subprocess.Popen(
        [*words, "--for", "60s"],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        found = next(filter(None, (re.search(r"listening on \S+, port (\d+)", line) for line in running.stderr)))
        check = Check(int(found[1]))
        yield check
        running.send_signal(signal.SIGINT)
        said, errors = running.communicate(timeout=20)
        assert "Traceback" not in errors
        check.report, check.status = json.loads(said), running.returncode
    finally:
        running.kill()
        running.communicate()


class Terminal:
    """A JT/T 808 terminal's end of a connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.serial = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, kind: int, body: bytes) -> Message:
        self.socket.sendall(frame_of(kind, PHONE, self.serial, body))
        self.serial += 1
        said = self.socket.recv(1)
        while len(said) < 2 or not said.endswith(FLAG):
            said += self.socket.recv(1)
        return open_frame(said, strict=True)

    def introduce(self) -> None:
        given = self.ask(REGISTER, bodies.registration("浙B12345"))
        assert given.kind == REGISTER_REPLY
        assert self.ask(AUTHENTICATE, bodies.authentication(given.body[3:].decode("gbk"))).body[-1] == bodies.ACCEPTED


def test_a_jt808_terminal_registers_reports_and_conforms(tmp_path: Path) -> None:
    with listening(tmp_path, "jt808") as check, Terminal(check.port) as terminal:
        terminal.introduce()
        for _ in range(3):
            reply = terminal.ask(LOCATION, bodies.location(time.time_ns(), 29.93, 121.85, speed_mps=5))
            assert (reply.kind, reply.body[-1]) == (REPLY, bodies.ACCEPTED)
    assert (check.status, check.report["conforms"], check.report["messages"]) == (0, True, 5)
    (device,) = check.report["devices"]
    assert (device["uid"], device["formats"]) == (f"CNNGB-DEMO/vehicle/{PHONE}", ["jt808"])
    assert abs(device["skew_s"]) < 5
    # What is for looking leaves nothing behind.
    assert list(tmp_path.iterdir()) == []


def test_what_ingest_would_refuse_of_a_terminal_is_named(tmp_path: Path) -> None:
    with listening(tmp_path, "jt808") as check, Terminal(check.port) as terminal:
        assert terminal.ask(LOCATION, bodies.location(time.time_ns(), 29.93, 121.85)).body[-1] == bodies.FAILED
        assert terminal.ask(AUTHENTICATE, bodies.authentication("0000")).body[-1] == bodies.FAILED
        terminal.introduce()
        terminal.ask(LOCATION, bodies.location(time.time_ns() + 7_200 * NS, 29.93, 121.85))
    assert (check.status, check.report["conforms"]) == (1, False)
    assert check.errors() == ["clock_future"]
    assert set(check.errors("warning")) >= {"wrong_code", "not_authenticated"}


def test_a_terminal_that_cannot_register_is_believed_where_the_settings_say_so(tmp_path: Path) -> None:
    with listening(tmp_path, "jt808", QUAYFLOW_JT808_ANYONE="true") as check, Terminal(check.port) as terminal:
        assert terminal.ask(LOCATION, bodies.location(time.time_ns(), 29.93, 121.85)).body[-1] == bodies.ACCEPTED
    assert (check.status, check.report["messages"]) == (0, 1)


def test_a_teltonika_terminal_is_answered_with_its_number_of_records(tmp_path: Path) -> None:
    with (
        listening(tmp_path, "teltonika") as check,
        socket.create_connection(("127.0.0.1", check.port), timeout=10) as terminal,
    ):
        terminal.sendall(IMEI)
        assert terminal.recv(1) == b"\x01"
        terminal.sendall(packet_of(8, 1, record_of(time.time_ns(), 29.9, 121.8, elements={16: 1_000, 239: 1})))
        assert terminal.recv(4) == (1).to_bytes(4)
    assert (check.status, check.report["messages"]) == (0, 1)
    assert [each["uid"] for each in check.report["devices"]] == ["CNNGB-DEMO/vehicle/356307042441013"]


def test_silence_and_rubbish_do_not_conform(tmp_path: Path) -> None:
    with listening(tmp_path, "teltonika") as check:
        pass
    assert (check.status, check.report["messages"]) == (1, 0)
    with (
        listening(tmp_path, "teltonika") as check,
        socket.create_connection(("127.0.0.1", check.port), timeout=10) as terminal,
    ):
        terminal.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert terminal.recv(1) == b""
    assert (check.status, check.errors()) == (1, ["undecodable"])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--listen", "6808"], "--codec jt808 or --codec teltonika"),
        (["--listen", "6808", "--codec", "tic40"], "--codec jt808 or --codec teltonika"),
        (["--listen", "eighty", "--codec", "jt808"], "'eighty': expected PORT or HOST:PORT"),
        (["--listen", "70000", "--codec", "jt808"], "'70000': expected PORT or HOST:PORT"),
        (["--listen", "6808", "--codec", "jt808", "file.hex"], "one of FILE, TOPIC and --listen PORT"),
        (["--listen", "6808", "--codec", "jt808", "--topic", "a/b"], "not for --listen"),
        ([], "one of FILE, TOPIC and --listen PORT"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str], named: str) -> None:
    done = CliRunner().invoke(app, ["check", *arguments, "--as", "vehicle"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert named in done.stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["check", "--listen", port, "--codec", "jt808", "--as", "vehicle"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"--listen {port}: cannot listen for jt808 on 127.0.0.1, port {port}" in done.stderr
