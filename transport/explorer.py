"""The explorer: GraphiQL out of an installed package, our own frame around it, and not one request to another host."""

import gzip
import hashlib
import importlib.metadata
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PACKAGE = "graphene-django-graphiql-static"  # holds GraphiQL 2 and React 17; its files are read, nothing of it is imported
_PACKAGED = ("graphiql.min.css", "graphiql.min.js", "react.production.min.js", "react-dom.production.min.js")
_OURS = ("explorer.css", "explorer.js", "mark.svg")
_FOLDER = Path(__file__).parent / "explorer_page"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
# GraphiQL sets styles from its script, and its style sheet carries its fonts as data.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    packed: bytes
    version: str  # of the content: in the page's links, so that browsers keep what has not changed for good
    media_type: str


@dataclass(frozen=True, slots=True)
class Example:
    """One tab: an operation of the guide's flow, its comments saying how. `variables` is JSON."""

    query: str
    variables: str


def routes() -> list[Route]:
    """The page at `/`, and what it loads under `/explorer/`."""
    return [Route("/", _page), Route("/explorer/examples.json", _examples), Route("/explorer/{name}", _asset)]


@cache
def examples() -> tuple[Example, ...]:
    """The tabs a new visitor finds, in order."""
    return tuple(_example(path.read_text()) for path in sorted((_FOLDER / "examples").glob("*.graphql")))


def _example(text: str) -> Example:
    match = re.match(r"# variables: (.*)\n", text)
    return Example(text[match.end() :], json.dumps(json.loads(match[1]), indent=2)) if match else Example(text, "")


@cache
def assets() -> dict[str, Asset]:
    """Every file the page loads, by name. Raises PackageNotFoundError when the package with GraphiQL is not installed."""
    folder = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(PACKAGE.replace("-", "_")))) / "static"
    packaged = {name: folder / PACKAGE.replace("-", "_") / name for name in _PACKAGED}
    ours = {name: _FOLDER / name for name in _OURS}
    return {name: _read(path) for name, path in (packaged | ours).items()}


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    version = hashlib.sha256(content).hexdigest()[:12]
    return Asset(content, gzip.compress(content, 6), version, _TYPES[path.suffix])


@cache
def _html() -> str:
    page = (_FOLDER / "page.html").read_text()
    for name, asset in assets().items():
        page = page.replace(f"{{{name}}}", asset.version)
    return page


async def _page(request: Request) -> Response:
    headers = _HEADERS | {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(_html(), headers=headers, media_type="text/html; charset=utf-8")


async def _examples(request: Request) -> Response:
    tabs = [{"query": example.query, "variables": example.variables} for example in examples()]
    return JSONResponse(tabs, headers=_HEADERS | {"Cache-Control": "no-cache"})


async def _asset(request: Request) -> Response:
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return Response("There is no such file.\n", 404, _HEADERS, "text/plain")
    is_current = request.query_params.get("v") == asset.version
    caching = "public, max-age=31536000, immutable" if is_current else "no-cache"
    headers = _HEADERS | {"Cache-Control": caching, "ETag": f'"{asset.version}"', "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
