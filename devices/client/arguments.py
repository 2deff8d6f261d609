"""The flags by which a device's program is told where its broker is, and how it proves itself there."""

import argparse
from pathlib import Path
from typing import Any, Final

PORT: Final = 1883
TLS_PORT: Final = 8883


def add_broker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a program's own."""
    group = parser.add_argument_group("broker")
    group.add_argument(
        "--broker", default="127.0.0.1", metavar="HOST[:PORT]", help=f"port: {PORT}, {TLS_PORT} with TLS"
    )
    group.add_argument("--user", help="user name, as quayflow device add has told it")
    secret = group.add_mutually_exclusive_group()
    secret.add_argument("--password", help="seen by whoever lists this machine's processes; better:")
    secret.add_argument("--password-file", type=Path, metavar="FILE", help="file with nothing but the password")
    group.add_argument("--tls", action="store_true", help="speak TLS; also meant by each of the files below")
    group.add_argument("--ca", type=Path, metavar="FILE", help="authorities to trust in place of the system's, PEM")
    group.add_argument("--cert", type=Path, metavar="FILE", help="own certificate, PEM")
    group.add_argument("--key", type=Path, metavar="FILE", help="its key, PEM")


def broker_settings(given: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags say, as keywords of :class:`devices.client.ClientConfig`; the ring's folder is not theirs.

    Ends the program with status 2 where they say what cannot be.
    """
    try:
        return _settings(given)
    except (OSError, ValueError) as error:
        argparse.ArgumentParser().error(str(error))


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    if (given.cert is None) != (given.key is None):
        raise ValueError("--cert and --key: expected both or neither")
    for flag in ("ca", "cert", "key"):
        path = getattr(given, flag)
        if path is not None and not path.is_file():
            raise ValueError(f"--{flag} {path}: there is no such file")
    tls = given.tls or given.ca is not None or given.cert is not None
    host, port = _address(given.broker, TLS_PORT if tls else PORT)
    password = given.password
    if given.password_file is not None:
        password = given.password_file.read_text().strip()
    username = given.user
    if username is None and password is not None:
        raise ValueError("--user: missing, a password needs one")
    return {
        "host": host,
        "port": port,
        "username": username,
        "password": password,
        "tls": tls,
        "ca_file": given.ca,
        "cert_file": given.cert,
        "key_file": given.key,
    }


def _address(text: str, otherwise: int) -> tuple[str, int]:
    """Return host and port of ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host or (port and not port.isdecimal()):
        raise ValueError(f"--broker {text!r}: expected HOST or HOST:PORT")
    return host, int(port) if port else otherwise
