"""Where the broker that is started here listens: in a yard with TLS and credentials, otherwise on this machine only."""

import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devices.times import NS
from engines.ports import wait_until
from quayflow.broker import Protection, configure, free_port
from quayflow.certificates import Authority
from quayflow.main import app
from quayflow.parts import listen

NOW = 1_795_421_730 * NS
ELSEWHERE = "127.0.0.2"
"""Another address of the loopback network, which a certificate for 127.0.0.1 does not hold."""


@pytest.mark.parametrize("others", [(), ("--secure",), ("--tls",)])
def test_an_address_of_the_network_needs_credentials_and_tls(tmp_path: Path, others: tuple[str, ...]) -> None:
    found = CliRunner().invoke(app, ["up", "--listen", "0.0.0.0", "--data", str(tmp_path), "--no-open", *others])
    assert found.exit_code == 2
    assert "broker_listen 0.0.0.0: others on the network could listen and speak; add --secure and --tls" in found.output


def test_what_is_no_address_is_a_usage_error(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["up", "--listen", "everywhere", "--data", str(tmp_path), "--no-open"])
    assert found.exit_code == 2
    assert "broker_listen" in found.output


@pytest.mark.parametrize(
    ("address", "listeners"),
    [
        ("127.0.0.1", ["listener 1883 127.0.0.1"]),
        ("192.0.2.7", ["listener 1883 127.0.0.1", "listener 1883 192.0.2.7"]),
        ("0.0.0.0", ["listener 1883 0.0.0.0"]),
    ],
)
def test_loopback_is_always_among_the_addresses(tmp_path: Path, address: str, listeners: list[str]) -> None:
    configure(tmp_path, 1883, Protection(address=address))
    lines = (tmp_path / "mosquitto.conf").read_text().splitlines()
    assert [line for line in lines if line.startswith("listener")] == listeners


def test_a_broker_s_certificate_is_made_anew_for_another_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path, NOW)
    first = authority.serve(NOW)[0].read_bytes()
    other = authority.serve(NOW, "192.0.2.7")[0].read_bytes()
    assert other != first
    # It holds what was asked for, and loopback as before.
    assert authority.serve(NOW, "0.0.0.0")[0].read_bytes() == authority.serve(NOW)[0].read_bytes() == other


@pytest.mark.parametrize("address", [ELSEWHERE, "0.0.0.0"])
def test_a_device_elsewhere_meets_the_broker_with_a_certificate_that_it_can_check(tmp_path: Path, address: str) -> None:
    authority, port = Authority(tmp_path / "tls", NOW), free_port()
    certificate = authority.serve(NOW, ELSEWHERE)
    command = configure(tmp_path / "broker", port, Protection(certificate=certificate, address=address))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context = ssl.create_default_context(cafile=authority.certificate_file)

    def met(host: str) -> str | None:
        try:
            with (
                socket.create_connection((host, port), 5) as plain,
                context.wrap_socket(plain, server_hostname=host) as end,
            ):
                return end.version()
        except ConnectionRefusedError:
            return None

    try:
        for host in ("127.0.0.1", ELSEWHERE):
            wait_until(lambda host=host: met(host) == "TLSv1.3", f"the broker listens on {host}")  # type: ignore[misc]
    finally:
        process.terminate()
        process.wait(10)


def test_no_live_value_waits_until_its_reader_has_acknowledged_the_one_before() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
