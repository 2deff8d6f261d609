"""Who a device is and where its broker is."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devices.scalars import Scalar
from devices.topics import DEVICE, SITE, DeviceKey
from devices.vocabulary import DeviceClass

PORTS: Final = range(1, 65_536)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Everything that a device client needs to know."""

    site: str
    """UN/LOCODE and facility, such as CNNGB-BLCT."""
    device_class: DeviceClass
    """What the device is."""
    device: str
    """Its own id, 1 to 64 letters, digits, dots, colons, _ or -."""
    folder: Path
    """Folder of the ring; made if it is missing. One client at a time."""
    info: Mapping[str, Scalar] = field(default_factory=dict)
    """Flat facts shown with the device, such as maker and firmware."""

    host: str = "127.0.0.1"
    """Name or address of the broker."""
    port: int = 1883
    """TCP port of the broker."""
    username: str | None = None
    """User name at the broker; None connects without one."""
    password: str | None = field(default=None, repr=False)
    """Password of ``username``."""
    tls: bool = False
    """Whether to speak TLS."""
    ca_file: Path | None = None
    """Certificate authorities to trust instead of the system's, PEM."""
    cert_file: Path | None = None
    """Own certificate, PEM."""
    key_file: Path | None = None
    """Key of the own certificate, PEM."""

    max_bytes: int = 64 << 20
    """Bytes of payloads that the ring holds; beyond, the oldest messages are dropped and counted."""
    power_safe: bool = False
    """Whether each message is synced to the disk before :meth:`publish` returns; without, a power cut may take the last
    ones, a killed process none."""
    window: int = 2_000
    """Messages sent and not acknowledged by ingest, at most."""
    resend_s: float = 30.0
    """What is outstanding without a word from ingest for this long is sent again, s; doubles while it does not help."""
    keep_alive_s: int = 20
    """Longest silence on the connection, s."""

    def __post_init__(self) -> None:
        """Refuse what no broker and no ingest would accept."""
        if not SITE.fullmatch(self.site):
            raise ValueError(f"site {self.site!r}: expected a UN/LOCODE and a facility, such as CNNGB-BLCT")
        if self.device_class not in set(DeviceClass):
            raise ValueError(f"device_class {self.device_class!r}: expected one of {', '.join(DeviceClass)}")
        if not DEVICE.fullmatch(self.device):
            raise ValueError(f"device {self.device!r}: expected 1 to 64 letters, digits, dots, colons, _ or -")
        if not self.host:
            raise ValueError("host: must not be empty")
        if self.port not in PORTS:
            raise ValueError(f"port {self.port}: expected 1 to 65535")
        if self.password is not None and self.username is None:
            raise ValueError("username: missing, a password needs one")
        for name, least in (("max_bytes", 1), ("window", 1), ("resend_s", 0.1), ("keep_alive_s", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {least}")

    @property
    def key(self) -> DeviceKey:
        """Who the device is."""
        return DeviceKey(self.site, str(self.device_class), self.device)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what TLS needs, None without it; OSError where a file cannot be used."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context
