"""The broker that simulators publish to, and how patient they are with it."""

import ssl
from dataclasses import dataclass, field
from typing import Final

FIRST_BACKOFF_S: Final = 0.1
LONGEST_BACKOFF_S: Final = 5.0
REFUSED_AGAIN_S: Final = 1.0
"""A message that the broker refuses is offered again after this time, s."""
COMPLAIN_EVERY: Final = 8
"""Of so many attempts in vain, one is told."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to publish."""

    host: str = "127.0.0.1"
    """Name or address of the broker."""
    port: int = 1883
    """TCP port, 1 to 65535."""
    username: str | None = None
    """User name, or None for an anonymous connection."""
    password: str | None = field(default=None, repr=False)
    """Password of ``username``."""
    tls: bool = False
    """Whether to connect by TLS."""
    tls_ca: str | None = None
    """File with the certificates to trust, or None for the system's."""

    def __post_init__(self) -> None:
        """Check what can be checked without a connection."""
        if not self.host:
            raise ValueError("host = '': allowed is a name or an address")
        if not 1 <= self.port <= 65_535:  # noqa: PLR2004 - TCP
            raise ValueError(f"port = {self.port}: allowed is 1 to 65535")

    def tls_context(self) -> ssl.SSLContext | None:
        """Read the certificates to trust; None without TLS. OSError names the file that cannot be used."""
        if not self.tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.tls_ca)
        except OSError as error:
            raise OSError(f"TLS needs {self.tls_ca}, which cannot be used: {error}") from None
