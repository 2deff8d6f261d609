"""Free ports and waiting until something answers on one."""

import socket
import time
from collections.abc import Callable

START_S = 30.0
"""How long an engine may take to start, seconds; a busy machine needs it."""


def free_port() -> int:
    """Return a TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(answers: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Poll ``answers`` until it is true; TimeoutError names ``what``."""
    deadline = time.monotonic() + timeout_s
    while not answers():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {timeout_s:g} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Return whether something accepts connections on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
