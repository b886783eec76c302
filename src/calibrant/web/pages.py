"""The pages of a registry: each address answers with a page, or with the same facts as JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from calibrant.errors import CalibrantError, OptionError
from calibrant.registry import Registry
from calibrant.registry.words import second, told
from calibrant.web import drawings
from calibrant.web.describe import plain
from calibrant.web.guard import error_facts, error_response
from calibrant.web.registry_models import MODELS, Model, key_of

ADDRESSES = {
    "/registry": "overview",
    "/registry/products": "products",
    "/registry/products/{ref}": "product",
    "/registry/exposures": "exposures",
    "/registry/explain": "explain",
    "/registry/lineage/{ref}": "lineage",
    "/registry/trend": "trend",
    "/registry/compare": "compare",
}
DRAWN: Mapping[str, Callable[[Model], Any]] = {
    "products": lambda model: drawings.timeline(model["products"]),
    "lineage": drawings.graph,
    "trend": lambda model: drawings.chart(model["points"], model["low"], model["high"]),
}
"""What a page draws beside its facts."""
NO_IMAGE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="240" height="60"><text x="120" y="34" fill="gray" '
    'text-anchor="middle" font-family="sans-serif" font-size="14">no image in this product</text></svg>'
)
BESIDE = 32
"""Things that one address opens in the viewer."""
CONTENTS = 2000
"""Characters of a query that are read."""


Viewed = Callable[[Sequence[str], bool], str]
"""From keys, and whether a focal plane is asked for, to the address of the viewer."""


def routes(registry: Registry, viewed: Viewed) -> list[Route]:
    """The routes of a registry's pages.

    Parameters
    ----------
    registry : Registry
        Read, never written.
    viewed : callable
        From identities of products and hashes of files, or beginnings of them, to the address at which the
        viewer shows these, each in a frame of its own, or together as a focal plane.
    """
    paper = _paper()
    found = [
        Route(address, functools.partial(_answer, registry, paper, name))
        for address, name in ADDRESSES.items()
    ]
    for address in ("/registry/view", "/registry/view/{ref}"):
        found.append(Route(address, functools.partial(_view, paper, viewed)))
    found.append(Route("/registry/pictures/{ref}", functools.partial(_picture, registry)))
    return found


async def _answer(registry: Registry, paper: jinja2.Environment, name: str, request: Request) -> Response:
    try:
        model = await run_in_threadpool(MODELS[name], registry, _query(request))
    except CalibrantError as error:
        return await _told(paper, name, request, {"error": error_facts(error)}, status_of(error))
    return await _told(paper, name, request, model, 200)


async def _told(
    paper: jinja2.Environment, name: str, request: Request, model: Model, status: int
) -> Response:
    """A page, or its twin."""
    if wants_json(request):
        return Response(dumped(model), status, media_type="application/json")
    text = await run_in_threadpool(_page, paper, name, model, _query(request))
    return HTMLResponse(text, status)


def _page(paper: jinja2.Environment, name: str, model: Model, query: Mapping[str, str]) -> str:
    if "error" in model:
        return paper.get_template("error.html").render(name=name, model=model, query=query)
    draw = DRAWN.get(name)
    drawing = None if draw is None else draw(model)
    return paper.get_template(f"{name}.html").render(name=name, model=model, query=query, drawing=drawing)


async def _view(paper: jinja2.Environment, viewed: Viewed, request: Request) -> Response:
    """On to the viewer with a product, frame or raw file; beside it those named ``with``, or a and b."""
    query = request.query_params
    asked = [request.path_params.get("ref"), query.get("a"), query.get("b"), *query.getlist("with")]
    try:
        keys = [key_of(ref) for ref in asked if ref][:BESIDE]
        address = await run_in_threadpool(viewed, keys or [key_of("")], bool(query.get("mosaic")))
    except CalibrantError as error:
        return await _told(paper, "view", request, {"error": error_facts(error)}, status_of(error))
    return Response(status_code=303, headers={"Location": address})


async def _picture(registry: Registry, request: Request) -> Response:
    """A small picture of a product's main plane; the identity is its name for ever."""
    from calibrant.report.plots.html import product_picture

    try:
        ref = key_of(request.path_params["ref"])
        found = await run_in_threadpool(lambda: product_picture(registry.read(ref)))
    except CalibrantError as error:
        return error_response(status_of(error), error)
    if found is None:
        return Response(NO_IMAGE, media_type="image/svg+xml")
    return Response(found, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})


# --- requests and answers ---------------------------------------------------------------------------------


def wants_json(request: Request) -> bool:
    """Whether the JSON twin of a page is asked for: ``?format=json``, or by the Accept header."""
    asked = request.query_params.get("format")
    if asked:
        return asked == "json"
    accepts = request.headers.get("accept", "")
    return "application/json" in accepts and "text/html" not in accepts


def status_of(error: CalibrantError) -> int:
    """400 for a question that cannot be understood, 404 for what is not there."""
    return 400 if isinstance(error, OptionError) else 404


def dumped(model: Model) -> str:
    """JSON without NaN, which is not JSON: unknown numbers are null."""
    return json.dumps(plain(model), allow_nan=False)


def _query(request: Request) -> dict[str, str]:
    return {name: value[:CONTENTS] for name, value in {**request.query_params, **request.path_params}.items()}


# --- paper ------------------------------------------------------------------------------------------------


def _paper() -> jinja2.Environment:
    paper = jinja2.Environment(
        loader=jinja2.PackageLoader("calibrant.web"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    paper.filters |= {
        "number": _number,
        "short": _short,
        "keys": told,
        "minute": _minute,
        "instant": _instant,
    }
    paper.globals["address"] = _address
    return paper


def _address(path: str, query: Mapping[str, Any], **changes: Any) -> str:
    """A page with the query of this one, but for some changes."""
    asked = {name: value for name, value in {**query, **changes}.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(asked)}" if asked else path


def _number(value: Any, digits: int = 6) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}g}".replace("-", "−")
    return str(value)


def _short(identity: str) -> str:
    return identity.removeprefix("sha256:")[:12]


def _minute(text: str | None) -> str:
    """ISO text to the minute."""
    return "–" if text is None else text[:16].replace("T", " ")


def _instant(microseconds: int | None) -> str:
    return "–" if microseconds is None else second(microseconds)
