"""Mosquitto as a child, configured so that it keeps what it has acknowledged.

Its defaults lose messages: 1,000 queued per client and the rest dropped although acknowledged, a snapshot every half
hour, a persistence folder that it may not be able to write. What is set here against that is in docs/deploy.md.
"""

import getpass
import shutil
import socket
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from quayflow.broker_access import AccessFiles

PROGRAM: Final = "mosquitto"
LOOPBACK: Final = "127.0.0.1"
# Debian puts it where only root's PATH looks.
SEARCH_PATH: Final = ("/usr/sbin", "/usr/local/sbin")
QUEUE_BYTES: Final = 1 << 30
AUTOSAVE_S: Final = 30


class BrokerError(Exception):
    """The broker cannot be started; the message says what to do."""


def program() -> str:
    """Return the path of Mosquitto; BrokerError says how to install it."""
    found = shutil.which(PROGRAM) or next(
        filter(None, (shutil.which(PROGRAM, path=path) for path in SEARCH_PATH)), None
    )
    if found is None:
        raise BrokerError(
            "mosquitto is not installed: `apt-get install mosquitto` (Debian, Ubuntu) or `brew install mosquitto`, "
            "or name a broker with --broker HOST:PORT"
        )
    return found


@dataclass(frozen=True, slots=True)
class Protection:
    """What stands between the broker and others; nothing of it in the plain demo."""

    files: AccessFiles | None = None
    """Who may do what; None lets anybody do everything."""
    certificate: tuple[Path, Path] | None = None
    """Certificate and key of the broker; None speaks plain TCP."""
    authority: Path | None = None
    """Certificate authority of the devices that prove themselves by a certificate."""
    device_port: int = 0
    """TCP port for them."""
    address: str = LOOPBACK
    """Address on which it listens besides loopback."""


def configure(folder: Path, port: int, protection: Protection | None = None) -> list[str]:
    """Write the configuration into ``folder`` and return the command that starts the broker."""
    protection = protection or Protection()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "persistence").mkdir(exist_ok=True)
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"""# Written anew at every start of quayflow.
{_listeners(port, protection)}
# Started by root it would become another user, who cannot write the folder below.
user {getpass.getuser()}

# What is acknowledged to a publisher is kept for a subscriber that is away. 0 would mean "unlimited", which some
# versions take as "nothing".
max_queued_messages 10000000
max_queued_bytes {QUEUE_BYTES}
max_inflight_messages 0
persistence true
persistence_location {folder.absolute()}/persistence/
autosave_interval {AUTOSAVE_S}
persistent_client_expiration 7d

set_tcp_nodelay true
max_packet_size 16777216
log_dest stderr
log_type error
log_type warning
connection_messages false
""",
        encoding="utf-8",
    )
    return [program(), "-c", str(configuration)]


def _listeners(port: int, protection: Protection) -> str:
    """Return the lines that say where the broker listens and whom it lets do what."""
    files = protection.files
    lines = [f"allow_anonymous {'true' if files is None else 'false'}"]
    if files is not None:
        lines += [f"password_file {files.passwords.absolute()}", f"acl_file {files.rules.absolute()}"]
    tls: list[str] = []
    if protection.certificate is not None:
        certificate, key = protection.certificate
        tls = [f"certfile {certificate.absolute()}", f"keyfile {key.absolute()}", "tls_version tlsv1.2"]
    # One address for all holds loopback as well.
    everywhere = ip_address(protection.address).is_unspecified
    addresses = [protection.address] if everywhere else list(dict.fromkeys((LOOPBACK, protection.address)))
    for address in addresses:
        lines += [f"listener {port} {address}", *tls]
    if not (tls and files is not None and files.crl is not None and protection.authority is not None):
        return "\n".join(lines)
    for address in addresses:
        # The name in the certificate is the user name, to which the same access list applies.
        lines += [f"listener {protection.device_port} {address}", *tls, f"cafile {protection.authority.absolute()}"]
        lines += ["require_certificate true", "use_identity_as_username true", f"crlfile {files.crl.absolute()}"]
    return "\n".join(lines)


def version() -> str:
    """Return what Mosquitto calls itself, such as ``mosquitto 2.0.11``."""
    said = subprocess.run([program(), "-h"], capture_output=True, text=True, check=False).stdout.splitlines()
    words = said[0].split() if said else []
    return f"mosquitto {words[2]}" if len(words) > 2 else "mosquitto"  # noqa: PLR2004 - "mosquitto version 2.0.11"


def free_port(wanted: int = 0) -> int:
    """Return ``wanted`` if it can be listened on at loopback, and a free port if ``wanted`` is 0; OSError if taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        return int(probe.getsockname()[1])
