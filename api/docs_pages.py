"""The built page, the API's own documentation (offline), and the pages of the problems."""

import html
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from api.middleware import DOCS_POLICY
from api.problems import KINDS, ApiError, ProblemKind

SWAGGER: Final = ("swagger/swagger-ui.css", "swagger/swagger-ui-bundle.js")
_FOREVER: Final = "public, max-age=31536000, immutable"
_CHECK_FIRST: Final = "no-cache"

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>{head}</head><body>{body}</body></html>
"""
_SWAGGER_HEAD: Final = '<link rel="stylesheet" href="/swagger/swagger-ui.css">'
_SWAGGER_BODY: Final = (
    '<div id="swagger-ui"></div><script src="/swagger/swagger-ui-bundle.js"></script>'
    '<script src="/docs/start.js"></script>'
)
_SWAGGER_START: Final = """window.addEventListener("load", () => {
  SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
});
"""


def pages(static_dir: Path) -> APIRouter:
    """Return the routes of all pages; the last one takes every path that nothing else took."""
    router = APIRouter(include_in_schema=False)
    built = _BuiltPage(static_dir)
    router.add_api_route("/docs", built.docs)
    router.add_api_route("/docs/start.js", _docs_start)
    router.add_api_route("/problems", _problem_list)
    router.add_api_route("/problems/{slug}", _problem_page)
    router.add_api_route("/{path:path}", built.page)
    return router


class _BuiltPage:
    """What set-up builds; looked for at each request, so that it may be built later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = StaticFiles(directory=folder, check_dir=False)

    def docs(self, request: Request) -> Response:
        """Swagger UI over /openapi.json, without any other host."""
        if not all((self._folder / name).is_file() for name in SWAGGER):
            return _not_built(request)
        page = _PAGE.format(title="Quayflow API", head=_SWAGGER_HEAD, body=_SWAGGER_BODY)
        return HTMLResponse(page, headers={"Content-Security-Policy": DOCS_POLICY})

    async def page(self, request: Request, path: str) -> Response:
        """The page and its files."""
        try:
            response = await self._files.get_response(path or "index.html", request.scope)
        except HTTPException:
            if path:
                raise
            return _not_built(request)
        response.headers["Cache-Control"] = _FOREVER if path.startswith("assets/") else _CHECK_FIRST
        return response


async def _docs_start() -> Response:
    """A file of its own, because the content security policy allows no inline scripts."""
    return Response(_SWAGGER_START, media_type="text/javascript")


async def _problem_list() -> Response:
    """Every kind of problem."""
    items = "".join(
        f'<li><a href="/problems/{kind.slug}">{html.escape(kind.title)}</a> ({kind.status})</li>'
        for kind in KINDS.values()
    )
    return HTMLResponse(_PAGE.format(title="Problems", head="", body=f"<h1>Problems</h1><ul>{items}</ul>"))


async def _problem_page(slug: str) -> Response:
    """One kind of problem."""
    if slug not in KINDS:
        raise HTTPException(404)
    return HTMLResponse(_PAGE.format(title=html.escape(KINDS[slug].title), head="", body=_problem(KINDS[slug])))


def _problem(kind: ProblemKind) -> str:
    title, meaning, remedy = (html.escape(text) for text in (kind.title, kind.meaning, kind.remedy))
    return (
        f"<h1>{title}</h1><p>Status {kind.status}, type <code>/problems/{kind.slug}</code></p>"
        f"<h2>What it means</h2><p>{meaning}</p><h2>What to do</h2><p>{remedy}</p>"
        '<p><a href="/problems">All problems</a></p>'
    )


def _not_built(request: Request) -> Response:
    kind = KINDS["page-not-built"]
    if "text/html" not in request.headers.get("accept", ""):
        raise ApiError(kind.slug, f"{kind.meaning} {kind.remedy}")
    return HTMLResponse(_PAGE.format(title=kind.title, head="", body=_problem(kind)), kind.status)
