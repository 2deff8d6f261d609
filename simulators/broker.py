"""The broker that simulators publish to, and how patient they are with it."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from store.system_words import of_address
from store.tls_files import tls_context

log = logging.getLogger(__name__)

FIRST_BACKOFF_S: Final = 0.1
LONGEST_BACKOFF_S: Final = 5.0
REFUSED_AGAIN_S: Final = 1.0
"""A message that the broker refuses is offered again after this time, s."""
COMPLAIN_EVERY: Final = 8
"""Of so many attempts in vain, one is told."""
NOT_LET_IN: Final = frozenset({0x86, 0x87, 0x8A})
"""Reasons of a broker that stay true however often one comes: bad user name or password, not authorised, banned."""


class BrokerRefusesError(Exception):
    """The broker lets nobody in as whom we come, or delivers nothing of what was asked for."""


class NotLetInError(ConnectionRefusedError):
    """A broker has answered a connection with a reason that is none of success."""

    def __init__(self, code: int, reason: str) -> None:
        """``code`` is that of MQTT 5."""
        super().__init__(f"refuses the connection: {reason}".strip())
        self.code = code


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
    tls_cert: str | None = None
    """File with our own certificate, or None for none."""
    tls_key: str | None = None
    """File with its key."""

    def __post_init__(self) -> None:
        """Check what can be checked without a connection."""
        if not self.host:
            raise ValueError("host = '': allowed is a name or an address")
        if not 1 <= self.port <= 65_535:  # noqa: PLR2004 - TCP
            raise ValueError(f"port = {self.port}: allowed is 1 to 65535")

    def tls_context(self) -> ssl.SSLContext | None:
        """Read the certificates; None without TLS. OSError names the file that cannot be used."""
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key) if self.tls else None


class Attempts:
    """What the connections of one run have met at their broker: attempts in vain are told once, then by their number.

    Whoever was never let in, and is told that it may not, comes in vain however often; who was let in once is patient.
    """

    def __init__(self, broker: Broker, connections: int) -> None:
        """``connections`` try at the same time."""
        self.refusal = ""
        """Why nobody is let in as whom we come; "" as long as it is not known that nobody is."""
        self.on_refusal: Callable[[], object] = lambda: None
        """Called when it is known."""
        self._where = f"broker {broker.host}:{broker.port}"
        self._username = broker.username
        self._told_every = COMPLAIN_EVERY * connections
        self._in_vain = 0
        self._was_let_in = False

    @property
    def was_let_in(self) -> bool:
        """Whether a connection has ever stood."""
        return self._was_let_in

    def succeeded(self) -> None:
        """Note a connection that stands."""
        self._was_let_in = True
        self._in_vain = 0

    def failed(self, error: Exception) -> None:
        """Note an attempt in vain, or a connection that was lost."""
        code = getattr(error, "code", getattr(error, "rc", None))
        if not self._was_let_in and getattr(code, "value", code) in NOT_LET_IN:
            who = "without a user name" if self._username is None else f"as {self._username!r}"
            self.refusal = f"{self._where} lets nobody in {who}: {error}; see broker_username and broker_password"
            self.on_refusal()
            return
        if not self._in_vain:
            log.warning("%s: %s; trying again", self._where, of_address(error))
        elif self._in_vain % self._told_every == 0:
            log.warning("%s: %s; %d attempts in vain, trying again", self._where, of_address(error), self._in_vain)
        self._in_vain += 1

    def check(self) -> None:
        """Raise BrokerRefusesError where it is known that nobody is let in."""
        if self.refusal:
            raise BrokerRefusesError(self.refusal)
