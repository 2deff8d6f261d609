"""`/asyncapi.json`, and `/asyncapi`: the same for people, as one page without scripts and without any other host."""

import html
import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Response
from starlette.responses import HTMLResponse

from api.answers import answer
from api.middleware import DOCS_POLICY

Json = Mapping[str, Any]

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head><body><main>{body}</main></body></html>
"""
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#1b2430;background:#fff}"
    "main{max-width:64rem;margin:0 auto;padding:1rem 1.5rem 4rem}"
    "h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-top:1px solid #d5dbe3;padding-top:1rem}"
    "h3{font-size:1rem}code,pre{font:14px/1.45 ui-monospace,monospace}"
    "pre{background:#f2f5f8;padding:.75rem;overflow-x:auto;border-radius:4px}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #e4e8ee}"
    ".way{font-weight:600;text-transform:uppercase;font-size:.8rem;color:#0b6b8a}"
    "@media(prefers-color-scheme:dark){body{color:#dfe6ee;background:#10161d}pre{background:#1a232d}"
    "td,th,h2{border-color:#2a3542}.way{color:#6cc4e0}}"
)


def messages_pages(document: Json) -> APIRouter:
    """Return the routes of the message description; it is fixed for the life of the application."""
    router = APIRouter(include_in_schema=False)
    page = _PAGE.format(title=html.escape(document["info"]["title"]), style=_STYLE, body=_body(document))

    async def description() -> Response:
        return answer(document)

    async def for_people() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": DOCS_POLICY})

    router.add_api_route("/asyncapi.json", description)
    router.add_api_route("/asyncapi", for_people)
    return router


def _body(document: Json) -> str:
    info, server = document["info"], document["servers"]["broker"]
    links = "".join(
        f'<li><a href="#{_text(name)}"><code>{_text(channel["address"])}</code></a></li>'
        for name, channel in document["channels"].items()
    )
    return (
        f"<h1>{_text(info['title'])} {_text(info['version'])}</h1><p>{_text(info['description'])}</p>"
        f"<p>Broker: <code>{_text(server['host'])}</code> ({_text(server['protocol'])}). For programs: "
        f'<a href="/asyncapi.json">/asyncapi.json</a>, AsyncAPI {_text(document["asyncapi"])}. '
        f'Read over HTTP: <a href="/docs">/docs</a>.</p><ul>{links}</ul>'
        + "".join(_channel(document, name) for name in document["channels"])
    )


def _channel(document: Json, name: str) -> str:
    channel = document["channels"][name]
    way = "devices publish" if document["operations"][name]["action"] == "receive" else "quayflow publishes"
    parameters = "".join(
        _row(f"<code>{_text(parameter)}</code>", _text(_described(about)))
        for parameter, about in channel["parameters"].items()
    )
    return (
        f'<h2 id="{_text(name)}"><code>{_text(channel["address"])}</code></h2><p class="way">{way}</p>'
        f"<p>{_text(channel['description'])}</p><table>{parameters}</table>"
        + "".join(_message(document, each) for each in channel["messages"])
    )


def _described(parameter: Json) -> str:
    allowed = ", ".join(parameter.get("enum", ()))
    return f"{parameter['description']}: {allowed}" if allowed else parameter["description"]


def _message(document: Json, name: str) -> str:
    message = document["components"]["messages"][name]
    example = json.dumps(message["examples"][0]["payload"], indent=1, ensure_ascii=False)
    parts = message["payload"].get("allOf", [message["payload"]])
    fields: dict[str, Json] = {}
    required: set[str] = set()
    for part in parts:
        schema = _resolved(document, part)
        fields |= schema.get("properties", {})
        required |= set(schema.get("required", ()))
    rows = "".join(
        _row(f"<code>{_text(field)}</code>", _type(document, about), "required" if field in required else "")
        for field, about in fields.items()
    )
    head = "<tr><th>field</th><th>type</th><th></th></tr>"
    return f"<h3>{_text(message['title'])}</h3><table>{head}{rows}</table><pre>{_text(example)}</pre>"


def _resolved(document: Json, schema: Json) -> Json:
    if "$ref" not in schema:
        return schema
    found: Json = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def _type(document: Json, schema: Json) -> str:
    """Return a schema in a few words; the values of a class as a list."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        kinds = [_type(document, each) for each in schema["anyOf"] if each != {"type": "null"}]
        return " or ".join(dict.fromkeys(kinds))
    kind = schema.get("type", "any")
    words = _text(" or ".join(kind) if isinstance(kind, list) else kind)
    if "minimum" in schema and "maximum" in schema and abs(schema["maximum"]) < 1e300:  # noqa: PLR2004 - any float
        words += f", {schema['minimum']:g} to {schema['maximum']:g}"
    if "description" in schema:
        words += f"; {_text(schema['description'])}"
    if schema.get("properties"):
        rows = "".join(
            _row(f"<code>{_text(name)}</code>", _type(document, each)) for name, each in schema["properties"].items()
        )
        words += f"<table>{rows}</table>"
    return words


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _text(value: object) -> str:
    return html.escape(str(value))
