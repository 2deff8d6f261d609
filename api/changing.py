"""Who may change the registry over HTTP: whoever carries the secret; without one, whoever sits at this machine."""

import base64
import binascii
import logging
import secrets
from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.problems import ApiError
from api.wiring import Given
from store.registry import SqlRegistry

FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers of a request that came through a proxy: whoever sent it may sit anywhere."""

log = logging.getLogger(__name__)


class Changer:
    """Whoever may change something, and the registry open for it."""

    def __init__(self, registry: SqlRegistry, actor: str) -> None:
        """``actor``: as the audit trail names it."""
        self.registry = registry
        self.actor = actor


_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="change_secret",
    description="The setting `change_secret`; not asked for at the machine itself where that is not set.",
)


async def _changer(
    request: Request, wiring: Given, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Changer:
    """Let in who proves itself, or refuse with a problem."""
    config, registry = wiring.config, wiring.changes
    if registry is None:
        raise _off("neither change_secret nor local_changes is set")
    if config.change_secret is not None:
        name = proven_as(request, config.change_secret)
        if name is None:
            log.warning("%s asked to change %s without the secret", _address(request), request.url.path)
            detail = "expected the header Authorization: Bearer with the secret of the setting change_secret"
            raise ApiError("not-authorised", detail, headers={"WWW-Authenticate": "Bearer"})
        return Changer(registry, f"api:{name or _address(request)}")
    why = _not_here(request)
    if why:
        raise _off(f"without the setting change_secret only this machine may change anything, and {why}")
    return Changer(registry, f"api:{_address(request)}")


Changing = Annotated[Changer, Depends(_changer)]
"""Whoever asks may change the registry."""


def proven_as(request: Request, secret: str) -> str | None:
    """Return the name given with the secret, "" without a name, None where the secret is missing or wrong.

    As ``Bearer``, or as the password of ``Basic``; compared in the same time whatever is there.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    name = ""
    if scheme.lower() == "basic":
        try:
            name, _, given = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    elif scheme.lower() != "bearer":
        given = ""
    return name[:64] if secrets.compare_digest(given.strip().encode(), secret.encode()) else None


def _not_here(request: Request) -> str:
    """Return why a request does not come from a person at this machine, "" where it does."""
    if not _is_loopback(_address(request)):
        return f"the request came from {_address(request) or 'nowhere'}"
    passed = next((name for name in FORWARDED if name in request.headers), None)
    if passed is not None:
        return f"the request came through a proxy, as its header {passed} says"
    # A name of somebody else's that leads to this machine, and a page of somebody else's in a browser here.
    host = request.headers.get("host", "")
    if not _is_loopback(urlsplit(f"//{host}").hostname or ""):
        return f"the request is for the host {host[:64]!r}"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return f"the request comes from a page of {origin[:64]!r}"
    return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _off(detail: str) -> ApiError:
    return ApiError("changes-off", detail)
