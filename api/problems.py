"""Errors as RFC 9457 problems: the closed list of kinds, the exception, and the handlers that turn all into them.

``type`` of a problem is the path of its page here, ``/problems/{slug}``, which says what it means and what to do.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from store.interface import StoreUnreachableError
from store.value_words import ValueFault, faults_of

MEDIA_TYPE: Final = "application/problem+json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem."""

    slug: str
    status: int
    title: str
    meaning: str
    """What has happened, for a person who reads the page."""
    remedy: str
    """What the caller can do."""


_KINDS: Final = (
    ProblemKind(
        "invalid-parameter",
        422,
        "A parameter has an invalid value",
        "A parameter of the request has a value of the wrong form, or outside what is allowed.",
        "Read `errors`: each entry names the parameter and what is allowed.",
    ),
    ProblemKind(
        "unknown-parameter",
        422,
        "A parameter is not known here",
        "The query holds a name that this endpoint does not know, or one name twice. It is refused rather than "
        "ignored: a misspelt filter would answer another question.",
        "Check the spelling against /docs and send each parameter once.",
    ),
    ProblemKind(
        "unknown-metric",
        422,
        "The metric is not known for this device",
        "`metric` is not in the vocabulary, or devices of this class do not have it.",
        "/v1/vocabulary lists every metric with the classes that have it.",
    ),
    ProblemKind(
        "reversed-range",
        422,
        "The range is empty or reversed",
        "`end` is not after `start`, or less than one window of 10 s apart. Ranges are half-open: "
        "`start` is inside, `end` is not.",
        "Swap the two, or widen the range.",
    ),
    ProblemKind(
        "range-too-large",
        422,
        "The answer would be too large",
        "The range is wider than allowed, or has more buckets of `step` than one answer may hold.",
        "Take a longer `step` or a shorter range, and several requests for the rest.",
    ),
    ProblemKind(
        "invalid-cursor",
        422,
        "The cursor does not belong to this question",
        "`cursor` is damaged, comes from another list, or from the same list with other filters.",
        "Use `next` of an answer unchanged and keep the filters; start without a cursor otherwise.",
    ),
    ProblemKind(
        "unknown-device",
        404,
        "No such device",
        "No device of this id has been heard, and none is registered.",
        "/v1/devices lists the devices. A device appears there with its first accepted or refused message.",
    ),
    ProblemKind(
        "ambiguous-device",
        409,
        "Several devices have this id",
        "Devices of several sites or classes share their own id.",
        "Use one of the uids in `uids`, with ~ in the place of each /.",
    ),
    ProblemKind(
        "not-found",
        404,
        "Nothing here",
        "The path does not exist.",
        "/docs lists every path.",
    ),
    ProblemKind(
        "method-not-allowed",
        405,
        "The method is not allowed here",
        "Nearly all paths answer GET and HEAD alone; `Allow` says what this one does.",
        "See /docs. Devices are written to over MQTT.",
    ),
    ProblemKind(
        "content-too-large",
        413,
        "The request body is too large",
        "No endpoint reads a large body, so only small ones are tolerated.",
        "Send what /docs says that the endpoint reads.",
    ),
    ProblemKind(
        "query-too-long",
        414,
        "The query string is too long",
        "The query string is longer than the service reads.",
        "Shorten it; no question needs so much.",
    ),
    ProblemKind(
        "bad-request",
        400,
        "The request is malformed",
        "The request could not be understood as HTTP.",
        "Check the client.",
    ),
    ProblemKind(
        "not-authorised",
        401,
        "The secret is missing or wrong",
        "Who changes something proves itself with `Authorization: Bearer` and the secret of the installation.",
        "Send the secret that the setting of the endpoint names.",
    ),
    ProblemKind(
        "changes-off",
        403,
        "Nothing may be changed from there",
        "Without the setting `change_secret` only whoever sits at the machine of the API may do this, and "
        "not where the broker asks for credentials, nor through a proxy.",
        "Set `change_secret` and send it, or use `quayflow device` on the machine.",
    ),
    ProblemKind(
        "not-adopted",
        404,
        "The name has not been adopted",
        "Nobody has said that this name of the device means a metric.",
        "The names of the device, at /v1/devices/{id}/names, say which are adopted.",
    ),
    ProblemKind(
        "no-answer",
        504,
        "The device did not answer in time",
        "The command was published and no acknowledgement came. Whether it was done is not known; from `expires` on it "
        "is not begun any more.",
        "See the device's health. The same `id` again asks what became of it: it is done then only if it was not.",
    ),
    ProblemKind(
        "broker-refused",
        502,
        "The broker does not take the command",
        "The broker refuses this service, or its right to publish commands. Nobody was given the command.",
        "Check the broker's access list; docs/access.md says what `quayflow-api` needs.",
    ),
    ProblemKind(
        "broker-unreachable",
        503,
        "The broker cannot be reached",
        "There is no connection to the MQTT broker. Nobody was given the command.",
        "See /readyz, and repeat.",
    ),
    ProblemKind(
        "internal-error",
        500,
        "The service failed",
        "A fault of the service. It is in its log under `trace_id`.",
        "Report it with the `trace_id`; repeating the request does no harm.",
    ),
    ProblemKind(
        "busy",
        503,
        "Too many questions at once",
        "Every thread that asks the stores is taken, and enough requests wait already.",
        "Repeat after the seconds in Retry-After; ask for longer steps.",
    ),
    ProblemKind(
        "query-timeout",
        503,
        "The store did not answer in time",
        "The question took longer than the service waits.",
        "Take a longer `step` or a shorter range; look at the load of the store if that does not help.",
    ),
    ProblemKind(
        "store-unreachable",
        503,
        "The store cannot be reached",
        "The database that holds the answer cannot be reached. Nothing that was received is lost: "
        "the journal keeps it.",
        "See /readyz, and start or repair the store. It is tried again with each request.",
    ),
    ProblemKind(
        "not-ready",
        503,
        "Not ready",
        "A part that answers depend on is down or too far behind; `checks` says which.",
        "See `checks`. The service recovers by itself when the part does.",
    ),
    ProblemKind(
        "too-many-streams",
        503,
        "Too many live streams",
        "As many clients as allowed follow the live stream already.",
        "Close one, or repeat after the seconds in Retry-After.",
    ),
    ProblemKind(
        "page-not-built",
        503,
        "The page has not been built",
        "The files of the page are made at set-up and are not there. The API itself works.",
        "Run `make setup` in the checkout.",
    ),
)
KINDS: Final[Mapping[str, ProblemKind]] = {kind.slug: kind for kind in _KINDS}
_FRAMEWORK_UNREADABLE: Final = "There was an error parsing the body"
"""What FastAPI says of a body that is not even text."""
BODY_UNREADABLE: Final = "the body is no JSON in UTF-8"
_OF_STATUS: Final = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "content-too-large"}


class ApiError(Exception):
    """A problem to be answered to the caller."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        """``errors`` entries hold ``parameter`` or ``pointer``, and ``detail``; ``members`` extend the problem."""
        super().__init__(detail)
        self.kind = KINDS[slug]
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        self.headers = dict(headers or {})
        self.members = dict(members or {})


def parameter_error(name: str, detail: str, slug: str = "invalid-parameter") -> ApiError:
    """Return the problem that blames one parameter."""
    return ApiError(slug, f"{name}: {detail}", errors=[{"parameter": name, "detail": detail}])


def problem_response(error: ApiError, instance: str) -> Response:
    """Return the answer of a problem that occurred at path ``instance``."""
    body: dict[str, Any] = {
        "type": f"/problems/{error.kind.slug}",
        "title": error.kind.title,
        "status": error.kind.status,
        "detail": error.detail,
        "instance": instance,
        "errors": error.errors,
        **error.members,
    }
    headers = {"Cache-Control": "no-store", **error.headers}
    return Response(msgspec.json.encode(body), error.kind.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every expected exception with a problem; the unexpected ones are `middleware.FaultBarrier`'s."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(StoreUnreachableError, _on_store_unreachable)


def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - for the type checker: it is registered for nothing else
    return problem_response(error, request.url.path)


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    entries = [_entry(fault) for fault in faults_of(error.errors(), error.body)]
    detail = "; ".join(": ".join(filter(None, (next(iter(entry.values())), entry["detail"]))) for entry in entries)
    return problem_response(ApiError("invalid-parameter", detail, errors=entries), request.url.path)


def _entry(fault: ValueFault) -> dict[str, str]:
    where, *path = (str(part) for part in fault.where)
    if where in {"query", "path", "header", "cookie"}:
        return {"parameter": ".".join(path), "detail": fault.detail}
    pointer = "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in path)
    if not path and isinstance(fault.given, bytes):
        # What is not called JSON is not read as such.
        return {"pointer": pointer, "detail": "expected JSON, sent as Content-Type: application/json"}
    return {"pointer": pointer, "detail": fault.detail}


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    slug = _OF_STATUS.get(error.status_code)
    if slug is None:
        logger.error("unexpected status %s at %s: %s", error.status_code, request.url.path, error.detail)
        slug = "bad-request" if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else "internal-error"
    headers = dict(error.headers or {})
    detail = KINDS[slug].meaning
    if slug == "method-not-allowed":
        # The framework names the methods of the first route at a path alone, and HEAD goes where GET does.
        allowed = _allowed(request) or ("POST" if headers.get("Allow") == "POST" else "GET, HEAD")
        headers["Allow"] = allowed
        detail = f"{request.method} is not allowed here; allowed: {allowed}"
    elif slug == "bad-request":
        detail = BODY_UNREADABLE if error.detail == _FRAMEWORK_UNREADABLE else str(error.detail)
    elif slug == "not-found":
        detail = f"nothing at {request.url.path[:200]}; /docs lists every path"
    return problem_response(ApiError(slug, detail, headers=headers), request.url.path)


def _allowed(request: Request) -> str:
    """Return the methods of the described path that a request is for, "" where it is not described."""
    path = getattr(request.scope.get("route"), "path", "")
    methods = [method.upper() for method in request.app.openapi()["paths"].get(path, {})]
    return ", ".join([*(method for method in methods), *(["HEAD"] if "GET" in methods else [])])


def _on_store_unreachable(request: Request, error: Exception) -> Response:
    logger.warning("%s", error)
    detail = "the store cannot be reached; see the log of the service"
    return problem_response(ApiError("store-unreachable", detail, headers={"Retry-After": "5"}), request.url.path)
