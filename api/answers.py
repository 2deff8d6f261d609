"""Encoding answers, and what each route tells the API description about them."""

from typing import Any, Final

import msgspec
from fastapi import Response

from api.problems import MEDIA_TYPE

_encode = msgspec.json.Encoder().encode
PROBLEM_SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}
_ALWAYS: Final = (422, 503)
_WORDS: Final = {
    400: "The body is not text",
    401: "The secret is missing or wrong",
    403: "Nobody may change anything from there",
    404: "No such device",
    409: "Several devices have this id",
    422: "A parameter is wrong; `errors` names it",
    502: "The broker does not take the command",
    503: "Busy, or store or broker do not answer",
    504: "The device did not answer in time",
}


def answer(body: object, response: Response | None = None) -> Response:
    """Return ``body`` as JSON, with the headers of ``response``; answers change by the second, so none is kept."""
    result = Response(_encode(body), media_type="application/json", headers={"Cache-Control": "no-store"})
    if response is not None and "link" in response.headers:
        result.headers["Link"] = response.headers["link"]
    return result


def describe(example: str, *problems: int, always: tuple[int, ...] = _ALWAYS) -> dict[str, Any]:
    """Return the route arguments that describe an answer by an example's name, and its problems by status."""
    responses: dict[int | str, dict[str, Any]] = {
        # Its name alone: FastAPI would leave the nulls out of the example itself.
        200: {"content": {"application/json": {"example": example}}, "description": "The answer"},
    }
    for status in sorted({*problems, *always}):
        content = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
        responses[status] = {"description": _WORDS[status], "content": content}
    return {"responses": responses}
