"""What the system says is said again in words for who has just typed a file or an address."""

import asyncio
import errno
import socket
import ssl
import time
from pathlib import Path

import aiomqtt
import pytest
import urllib3
from cryptography.hazmat.primitives import serialization

from engines.ports import free_port
from quayflow.certificates import Authority
from store.system_words import of_address, of_file
from store.tls_files import TlsFileError, tls_context


def refusal(path: Path, name: str) -> str:
    with pytest.raises(OSError) as refused:  # noqa: PT011 - whichever the system has
        (path / name).read_bytes()
    return of_file(refused.value)


def test_a_file_that_cannot_be_read_is_said_without_numbers(tmp_path: Path) -> None:
    (tmp_path / "Cranes.csv").write_text("x")
    assert refusal(tmp_path, "trucks.csv") == "there is no such file"
    assert refusal(tmp_path, "cranes.csv") == "there is no such file, but Cranes.csv: capitals count"
    assert refusal(tmp_path, "nowhere/cranes.csv") == f"there is no folder {tmp_path}/nowhere"
    assert refusal(tmp_path, ".") == "it is a folder, not a file"
    assert refusal(tmp_path, "Cranes.csv/x") == "a part of it is a file, not a folder"
    assert of_file(OSError(errno.ENOSPC, "No space left on device")) == "the disk is full"
    assert of_file(OSError(errno.EROFS, "Read-only file system")) == "the disk is read-only"
    assert of_file(OSError("strange")) == "strange"


def test_an_address_that_cannot_be_reached_is_said_without_numbers() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError) as refused:
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert of_address(refused.value) == "nobody listens there"
    with pytest.raises(urllib3.exceptions.HTTPError) as http:
        urllib3.PoolManager(retries=False).urlopen("GET", f"http://127.0.0.1:{port}/")
    assert of_address(http.value) == "nobody listens there"
    assert of_address(socket.gaierror(-2, "Name or service not known")) == "no machine has this name"
    assert of_address(TimeoutError()) == "no answer"
    assert of_address(ExceptionGroup("several addresses", [refused.value])) == "nobody listens there"


def test_what_an_mqtt_client_met_is_said_likewise() -> None:
    async def connect(host: str) -> str:
        with pytest.raises(aiomqtt.MqttError) as failed:
            async with aiomqtt.Client(host, free_port(), timeout=5):
                pass
        return of_address(failed.value)

    assert asyncio.run(connect("127.0.0.1")) == "nobody listens there"
    assert asyncio.run(connect("nobody.invalid")) == "no machine has this name"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority, certificates and keys, and with files that are none of these."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, time.time_ns())
    for name in ("own", "other"):
        issued = authority.device(name, time.time_ns())
        (folder / f"{name}.pem").write_bytes(issued.certificate)
        (folder / f"{name}.key").write_bytes(issued.key)
    key = serialization.load_pem_private_key((folder / "own.key").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (folder / "locked.key").write_bytes(locked)
    (folder / "both.pem").write_bytes((folder / "own.pem").read_bytes() + (folder / "own.key").read_bytes())
    (folder / "empty").touch()
    (folder / "notes.txt").write_text("hello")
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["CA.pem"], "broker_ca_file {}/CA.pem: there is no such file, but ca.pem: capitals count"),
        (["none.pem"], "broker_ca_file {}/none.pem: there is no such file"),
        (["folder"], "broker_ca_file {}/folder: it is a folder, not a file"),
        (["empty"], "broker_ca_file {}/empty: it holds no certificate in PEM"),
        (["notes.txt"], "broker_ca_file {}/notes.txt: it holds no certificate in PEM"),
        (["own.key"], "broker_ca_file {}/own.key: it holds no certificate in PEM"),
        (["ca.pem", "none.pem", "own.key"], "broker_cert_file {}/none.pem: there is no such file"),
        (["ca.pem", "own.pem", "none.key"], "broker_key_file {}/none.key: there is no such file"),
        (["ca.pem", "own.pem", "other.key"], "{0}/other.key: it is not the key of broker_cert_file {0}/own.pem"),
        (["ca.pem", "own.pem", "locked.key"], "broker_key_file {}/locked.key: the key is encrypted; "),
        (["ca.pem", "own.pem", "notes.txt"], "broker_cert_file {}/own.pem: certificate and key are"),
        (["ca.pem", "own.pem"], "not both there in PEM; name the file of the key as broker_key_file"),
        (["ca.pem", "", "own.key"], "broker_key_file {}/own.key: means nothing without broker_cert_file"),
    ],
)  # fmt: skip
def test_certificates_that_cannot_be_used_are_refused_by_setting_and_file(
    made: Path, files: list[str], words: str
) -> None:
    with pytest.raises(TlsFileError) as refused:
        tls_context(*(made / name if name else None for name in files))
    assert words.format(made) in str(refused.value)


def test_certificates_that_fit_are_taken(made: Path) -> None:
    tls_context(made / "ca.pem", made / "own.pem", made / "own.key")
    tls_context(made / "ca.pem", made / "both.pem")
    assert tls_context().minimum_version == ssl.TLSVersion.TLSv1_2
