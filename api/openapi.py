"""The API description: FastAPI's, with our problems in the place of its own errors."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.examples import EXAMPLES
from api.responses import Problem

TAGS: Final = [
    {"name": "figures", "description": "Telemetry and key figures; each answer says what it is and how complete."},
    {"name": "devices", "description": "The devices heard, and the vocabulary they speak."},
    {"name": "events", "description": "Port events, as lists and live."},
    {"name": "quality", "description": "What was refused, and the account of every frame."},
    {"name": "commands", "description": "What devices are asked to do."},
    {"name": "operations", "description": "For operators and their tools."},
]
DESCRIPTION: Final = (
    "The read side of quayflow. Times are RFC 3339 in UTC, ranges half-open `[start, end)`, errors RFC 9457 problems "
    "whose `errors` name the parameter. Lists continue with `next`, also linked as `rel=next`."
)
_FASTAPI_ERRORS: Final = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> None:
    """Let ``app.openapi()`` return our description; it is made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    # The way that FastAPI documents; setattr, because a type checker takes it for a mistake.
    setattr(app, "openapi", openapi)  # noqa: B010


def known_parameters(app: FastAPI) -> dict[str, frozenset[str]]:
    """Return path → names of its query parameters, as described."""
    return {
        path: frozenset(
            parameter["name"]
            for operation in operations.values()
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query"
        )
        for path, operations in app.openapi()["paths"].items()
    }


def _build(app: FastAPI) -> dict[str, Any]:
    description = get_openapi(
        title="Quayflow API", version=app.version, description=DESCRIPTION, tags=TAGS, routes=app.routes
    )
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    for name in _FASTAPI_ERRORS:
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    for operation in (each for operations in description["paths"].values() for each in operations.values()):
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
        answer = operation["responses"]["200"]["content"].get("application/json", {})
        if "example" in answer:
            answer["example"] = EXAMPLES[answer["example"]]
    return description


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that may be left out: a query cannot carry null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    bare: dict[str, Any] = {name: value for name, value in schema.items() if name != "anyOf"} | kinds[0]
    return bare
