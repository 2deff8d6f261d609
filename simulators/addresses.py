"""Addresses of an API, as they are given to a replay and a load run."""

from urllib.parse import urlsplit


def check_address(name: str, url: str) -> None:
    """Raise ValueError, which calls it ``name``, where an address is none of HTTP."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{name} = {url!r}: allowed is an address such as http://127.0.0.1:8080")
