"""The application: pages, static files and routes behind the guard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from calibrant.errors import CalibrantError, WorkError
from calibrant.web.api import Api
from calibrant.web.guard import Guard, error_response
from calibrant.web.session import Session
from calibrant.web.shelf import Shelf

STATIC = Path(__file__).parent / "static"
PLOTS = Path(__file__).parents[1] / "report" / "static"
PAGE = "viewer/index.html"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
"""Files of other types are not served."""


def create(
    shelf: Shelf,
    session: Session,
    *,
    token: str | None = None,
    hosts: Iterable[str] = LOOPBACK,
    pages: Sequence[BaseRoute] = (),
    facts: Callable[[], dict[str, Any]] = lambda: {"registry": False, "focal": []},
    cookie: str = "calibrant",
) -> Starlette:
    """The viewer as an ASGI application.

    Parameters
    ----------
    shelf : Shelf
        What may be seen.
    session : Session
        What stands in which frame.
    token : str, optional
        Without it nothing is shown; needed wherever others can reach the server.
    hosts : iterable of str
        Names by which the server may be called.
    pages : sequence of routes
        Further pages, such as those of the registry.
    facts : callable
        Further keys of /api/session: ``registry`` and ``focal``.
    cookie : str
        Name of the cookie that holds the token.
    """
    api = Api(shelf, session, facts)
    table = static_table()
    routes: list[BaseRoute] = [
        Route("/", _file_route(table, PAGE)),
        Route("/static/{name:path}", _static_route(table)),
        *api.routes(),
        *pages,
    ]
    guard = Middleware(Guard, hosts=frozenset(hosts), token=token, cookie=cookie)
    app = Starlette(
        routes=routes, middleware=[guard], exception_handlers={HTTPException: _told, Exception: _failed}
    )
    app.state.api, app.state.shelf, app.state.session = api, shelf, session
    return app


def static_table(*roots: Path) -> dict[str, Path]:
    """Address below /static -> packaged file; nothing else is ever served, whatever the address says.

    Parameters
    ----------
    *roots : Path
        Folders; by default the viewer's own, and that of the report for the library of plots.
    """
    found: dict[str, Path] = {}
    for root in roots or (PLOTS, STATIC):
        files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
        found |= {path.relative_to(root).as_posix(): path for path in files if path.suffix in TYPES}
    return found


def _static_route(table: Mapping[str, Path]) -> Callable[[Request], Response]:
    def static(request: Request) -> Response:
        return _file(request, table.get(request.path_params["name"]))

    return static


def _file_route(table: Mapping[str, Path], name: str) -> Callable[[Request], Response]:
    return lambda request: _file(request, table.get(name))


def _file(request: Request, path: Path | None) -> Response:
    if path is None:
        return error_response(404, CalibrantError("there is no such page"))
    body = path.read_bytes()
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": etag, "cache-control": "no-cache", "content-type": TYPES[path.suffix]}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers)


def _told(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = {404: "there is no such page", 405: "this server only shows"}.get(
        status, "the request is not understood"
    )
    return error_response(status, CalibrantError(what))


def _failed(request: Request, error: Exception) -> Response:
    """A fault of ours: the reader gets one sentence, the terminal the rest."""
    return error_response(500, WorkError(f"this is a fault of the viewer ({type(error).__name__})"))
