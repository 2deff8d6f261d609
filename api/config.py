"""What the read side can be told."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from store.tls_files import tls_context

PORTS: Final = range(1, 65_536)
LEAST_SECRET: Final = 16
"""Characters that a secret has at least."""
_AT_LEAST: Final = {
    "max_points": 1,
    "max_cells": 1,
    "max_range_days": 1,
    "query_threads": 1,
    "max_waiting_queries": 0,
    "query_timeout_s": 0.01,
    "max_query_bytes": 256,
    "max_body_bytes": 0,
    "max_question_bytes": 1_024,
    "stream_clients": 0,
    "stream_heartbeat_s": 0.01,
    "stream_stall_s": 0.01,
    "records_poll_s": 0.01,
    "ready_lag_s": 0.1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """Addresses, limits and folders of one API process."""

    windows_url: str
    """Where window rows are kept, such as ``sqlite:////var/lib/quayflow/quayflow.db``."""

    records_url: str
    """Where devices, events and the ledger are kept, such as ``postgresql+psycopg://user@host/quayflow``."""

    broker_host: str
    """Host of the MQTT broker that carries the live values."""

    broker_port: int = 1883
    """Port of the broker, 1 to 65535."""

    broker_username: str | None = None
    """User name at the broker; None connects without one."""

    broker_password: str | None = field(default=None, repr=False)
    """Password at the broker; never shown."""

    broker_tls: bool = False
    """Connect to the broker over TLS."""

    broker_ca_file: Path | None = None
    """Certificate authorities to trust there instead of the system's, PEM."""

    broker_cert_file: Path | None = None
    """Own certificate for mutual TLS, PEM."""

    broker_key_file: Path | None = None
    """Key of the own certificate, PEM; by default in the same file."""

    access_secret: str | None = field(default=None, repr=False)
    """What a broker that asks who may do what proves itself with, 16 characters or more; None: none may ask."""

    change_secret: str | None = field(default=None, repr=False)
    """What who changes the registry or commands devices proves itself with, 16 characters or more.

    None: see ``local_changes``.
    """

    local_changes: bool = False
    """Whether, without ``change_secret``, whoever sits at the machine of the API may do that."""

    max_question_bytes: int = 1 << 20
    """Largest body of such a question, bytes; VerneMQ sends the message along."""

    registration: str = "open"
    """Whom sites admit that the registry does not know, as ingest is told: ``open`` or ``closed``."""

    static_dir: Path = Path(__file__).resolve().parent / "static"
    """Folder of the built page; Swagger UI lies in its ``swagger`` folder."""

    max_points: int = 11_000
    """Most buckets of one series in an answer."""

    max_cells: int = 200_000
    """Most buckets of all groups of an answer together."""

    max_range_days: int = 400
    """Widest time range of a question, days."""

    query_threads: int = 4
    """Threads that ask the stores on behalf of requests."""

    max_waiting_queries: int = 64
    """Requests that may wait for one of those threads; more are answered with 503."""

    query_timeout_s: float = 10.0
    """Longest time to wait for a store, s."""

    max_query_bytes: int = 4_096
    """Longest query string, bytes."""

    max_body_bytes: int = 65_536
    """Largest request body, bytes; those that endpoints read are far smaller."""

    stream_clients: int = 200
    """Most open live streams."""

    stream_heartbeat_s: float = 10.0
    """Time between the comments that keep a quiet stream open, s."""

    stream_stall_s: float = 20.0
    """A stream whose reader takes nothing for this long is closed, s."""

    records_poll_s: float = 2.0
    """Time between looks at the records for events that the broker did not announce, s."""

    ready_lag_s: float = 10.0
    """Age of the worker's report, or of its oldest uncommitted frame, above which the service is not ready, s."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work; nothing is contacted."""
        for name in ("windows_url", "records_url"):
            url = getattr(self, name)
            if "://" not in url:
                # A URL may hold a password, so the message does not repeat it.
                raise ValueError(f"{name} must be a URL such as sqlite:////var/lib/quayflow/quayflow.db")
        if not self.broker_host:
            raise ValueError("broker_host must not be empty; allowed: a host name or an address")
        if self.broker_port not in PORTS:
            raise ValueError(f"broker_port is {self.broker_port}; allowed: 1 to 65535")
        if self.broker_password is not None and self.broker_username is None:
            raise ValueError("broker_username is missing; a password needs one")
        for name in ("access_secret", "change_secret"):
            secret = getattr(self, name)
            if secret is not None and len(secret) < LEAST_SECRET:
                raise ValueError(f"{name} has {len(secret)} characters; allowed: {LEAST_SECRET} and more")
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"{name} is {value}; allowed: {least} and above")

    def broker_tls_context(self) -> ssl.SSLContext | None:
        """Return what TLS to the broker needs, None without it; OSError where a file cannot be used."""
        if not self.broker_tls:
            return None
        return tls_context(self.broker_ca_file, self.broker_cert_file, self.broker_key_file)
