"""The routes under /api: what the page asks for, and what it is told where that cannot be given."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from calibrant.errors import CalibrantError, OptionError
from calibrant.web import describe, statistics
from calibrant.web.guard import Gate, Refusal, error_response
from calibrant.web.planes import Plane
from calibrant.web.session import Session
from calibrant.web.shelf import Altered, Gone, Shelf, Unknown
from calibrant.web.statistics import Box
from calibrant.web.tiles import Place, Tile, tile

FOREVER = "public, max-age=31536000, immutable"
PIECE = 1 << 16  # bytes sent at once: a client that stalls holds no more than that in the buffers
HEARTBEAT = 15.0  # seconds between signs of life
LOOK = 0.1  # seconds between looks for a change
STREAMS = 64
LASTING = 3
"""Streams of events that stay open."""
AGAIN = 1500  # milliseconds after which a page whose stream has ended asks again
WIDEST = 501
_WHOLE = re.compile(r"-?\d{1,9}")
Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Api:
    """The routes of one shelf and session.

    Attributes
    ----------
    tiles, numbers : Gate
        Limits on tiles, and on everything else that is computed.
    facts : mapping
        Further keys of /api/session: ``registry``, ``focal``.
    """

    shelf: Shelf
    session: Session
    facts: Callable[[], dict[str, Any]] = dict
    tiles: Gate = field(default_factory=Gate)
    numbers: Gate = field(default_factory=lambda: Gate(4, 128))
    streams: int = 0

    def routes(self) -> list[Route]:
        """All of them."""
        image = "/api/images/{image}"
        plane = f"{image}/tiles/{{plane}}/{{read}}/{{level}}/{{ty}}/{{tx}}"
        return [
            Route("/api/session", self._answer(self.state)),
            Route("/api/events", guarded(self.shelf, self.events)),
            Route(image, self._answer(self.meta)),
            Route(plane, guarded(self.shelf, self.tile)),
            Route(f"{image}/limits", self._answer(self.limits)),
            Route(f"{image}/statistics", self._answer(self.statistics)),
            Route(f"{image}/histogram", self._answer(self.histogram)),
            Route(f"{image}/pixel", self._answer(self.pixel)),
            Route(f"{image}/cut", self._answer(self.cut)),
            Route(f"{image}/line", self._answer(self.line)),
            Route(f"{image}/ramp", self._answer(self.ramp)),
            Route(f"{image}/header", self._answer(self.header)),
            Route(f"{image}/provenance", self._answer(self.provenance)),
        ]

    def _answer(self, job: Callable[[Request], Any]) -> Handler:
        """A route that computes JSON in a thread."""

        async def handler(request: Request) -> Response:
            return json_response(await self.numbers.run(partial(job, request)))

        return guarded(self.shelf, handler)

    # --- JSON ---

    def state(self, request: Request) -> dict[str, Any]:
        """What there is to see."""
        images = [describe.summary(entry) for entry in self.shelf.entries()]
        return {**self.session.state(), "images": images, **self.facts()}

    def meta(self, request: Request) -> dict[str, Any]:
        """One image."""
        return describe.meta(self.shelf, request.path_params["image"])

    def limits(self, request: Request) -> dict[str, Any]:
        """What a plane can be stretched between."""
        image, plane, read = self._plane(request)
        return describe.limits_of(self.shelf, image, plane, read)

    def statistics(self, request: Request) -> dict[str, Any]:
        """Numbers of a box."""
        image, plane, read = self._plane(request)
        found = statistics.box_numbers(partial(self.shelf.rows, image, plane, read), _box(request, plane))
        return {"plane": plane.name, "unit": plane.unit, "read": read, **found}

    def histogram(self, request: Request) -> dict[str, Any]:
        """Counts of values."""
        image, plane, read = self._plane(request)
        rows = partial(self.shelf.rows, image, plane, read)
        bins = whole(request, "bins", 256)
        low, high = real(request, "low"), real(request, "high")
        found = statistics.histogram(rows, _box(request, plane), bins, low, high)
        return {"plane": plane.name, "unit": plane.unit, "read": read, **found}

    def pixel(self, request: Request) -> dict[str, Any]:
        """One pixel."""
        row, col = whole(request, "row"), whole(request, "col")
        return describe.pixel(self.shelf, request.path_params["image"], row, col, whole(request, "read", 0))

    def cut(self, request: Request) -> dict[str, Any]:
        """A row or a column."""
        image, plane, read = self._plane(request)
        rows = partial(self.shelf.rows, image, plane, read)
        if ("row" in request.query_params) == ("col" in request.query_params):
            raise OptionError("a cut has a row or a column", where="cut")
        name, axis = ("row", 0) if "row" in request.query_params else ("col", 1)
        at = whole(request, name)
        if not 0 <= at < plane.shape[axis]:
            raise Unknown(f"the image has no such {name}", expected=f"0 to {plane.shape[axis] - 1}", got=at)
        values = statistics.cut(rows, plane.shape, **{name: at})
        return {"start": 0, name: at, "unit": plane.unit, "values": values}

    def line(self, request: Request) -> dict[str, Any]:
        """Values along a line."""
        image, plane, read = self._plane(request)
        rows = partial(self.shelf.rows, image, plane, read)
        ends = [place(request, name, plane) for name in ("from", "to")]
        width = whole(request, "width", 1)
        if not 1 <= width <= WIDEST:
            raise OptionError(
                "the width is out of range", where="width", expected=f"1 to {WIDEST}", got=width
            )
        return {**statistics.line_profile(rows, plane.shape, ends[0], ends[1], width), "unit": plane.unit}

    def ramp(self, request: Request) -> dict[str, Any]:
        """A pixel through all reads."""
        row, col = whole(request, "row"), whole(request, "col")
        return describe.ramp(self.shelf, request.path_params["image"], row, col)

    def header(self, request: Request) -> dict[str, Any]:
        """The original cards."""
        return {"cards": describe.header(self.shelf.view(request.path_params["image"]))}

    def provenance(self, request: Request) -> Any:
        """Where an image comes from."""
        return describe.plain(dict(self.shelf.view(request.path_params["image"]).provenance))

    def _plane(self, request: Request) -> tuple[str, Plane, int]:
        image = request.path_params["image"]
        plane = self.shelf.view(image).plane(request.query_params.get("plane", "data"))
        if plane is None and "plane" not in request.query_params:
            plane = next(iter(self.shelf.view(image).planes), None)
        if plane is None:
            raise Unknown("the image has no such plane")
        read = whole(request, "read", 0)
        if not 0 <= read < plane.reads:
            raise Unknown("the plane has no such read", expected=f"0 to {plane.reads - 1}", got=read)
        return image, plane, read

    # --- pixels ---

    async def tile(self, request: Request) -> Response:
        """The bytes of a tile."""
        at = request.path_params
        numbers = {name: _number(name, at[name]) for name in ("read", "level", "ty", "tx")}
        of = request.query_params.get("of", "mean")
        where = Place(at["image"], at["plane"], of=of, **numbers)  # type: ignore[arg-type]
        asked = request.query_params.get("v")
        found: Tile = await self.tiles.run(partial(self._tile, where, asked))
        headers = {
            "etag": f'"{found.etag}"',
            "cache-control": FOREVER if asked else "no-cache",
            "x-shape": f"{found.shape[0]},{found.shape[1]}",
            "x-encoding": found.encoding,
        }
        if found.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Pieces(found.body, headers)

    def _tile(self, where: Place, asked: str | None) -> Tile:
        view = self.shelf.view(where.image)
        if asked is not None and asked != view.version:
            raise Altered("the image was changed since it was opened", where=view.name, do="open it again")
        return tile(self.shelf, where)

    # --- events ---

    async def events(self, request: Request) -> Response:
        """A line whenever the session changed."""
        if self.streams >= STREAMS:
            raise Refusal(503, "too many pages are open", do="close some", retry_after="10")
        return StreamingResponse(
            self._stream(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _stream(self) -> AsyncIterator[str]:
        told, quiet = -1, 0.0
        self.streams += 1
        # A browser opens six connections to a server, for all its pages together: the frames of a long
        # notebook would leave none for pixels. Those beyond the first few come back now and then instead.
        is_brief = self.streams > LASTING
        try:
            yield f"retry: {AGAIN}\n\n"
            while not self.session.closed:
                if self.session.revision != told:
                    told, quiet = self.session.revision, 0.0
                    yield f"data: {json.dumps({'revision': told})}\n\n"
                    if is_brief:
                        return
                elif quiet >= HEARTBEAT:
                    quiet = 0.0
                    yield ": still here\n\n"
                await anyio.sleep(LOOK)
                quiet += LOOK
        finally:
            self.streams -= 1


class Pieces(Response):
    """Bytes sent piece by piece, each when the one before is taken."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(b"", headers=headers, media_type="application/octet-stream")
        self._whole = memoryview(body)
        self.headers["content-length"] = str(len(body))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send them."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            for begin in range(0, len(self._whole), PIECE):
                body = bytes(self._whole[begin : begin + PIECE])
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def json_response(value: Any) -> Response:
    """A value as JSON that is never kept by the browser."""
    body = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(body, headers={"cache-control": "no-store"}, media_type="application/json")


def guarded(shelf: Shelf, handler: Handler) -> Handler:
    """A route whose errors become JSON with a status, and never name a folder of this machine."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return error_response(refusal.status, refusal.error, **refusal.headers)
        except CalibrantError as error:
            return _told(shelf, request, error)

    return answer


def _told(shelf: Shelf, request: Request, error: CalibrantError) -> Response:
    image = request.path_params.get("image")
    try:
        if image is not None and not isinstance(error, Gone | Altered | Unknown):
            shelf.view(image)  # what failed may have failed because the file changed meanwhile
    except CalibrantError as truer:
        error = truer
    if image is not None and not isinstance(error, Unknown):
        error = _without_paths(shelf, image, error)
    return error_response(_status(error), error)


def _without_paths(shelf: Shelf, image: str, error: CalibrantError) -> CalibrantError:
    try:
        entry = shelf.entry(image)
    except Unknown as unknown:
        return unknown
    sides = {
        name: None if (value := getattr(error, name)) is None else describe.without_paths(str(value), entry)
        for name in ("where", "expected", "got", "do")
    }
    return type(error)(describe.without_paths(error.what, entry), **sides)


def _status(error: CalibrantError) -> int:
    by_kind: tuple[tuple[type[CalibrantError], int], ...] = ((Unknown, 404), (Gone, 410), (Altered, 409))
    return next((status for kind, status in by_kind if isinstance(error, kind)), 400)


# --- parameters ---


def _number(name: str, text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise OptionError("this is no whole number", where=name, got=text[:40])
    return int(text)


def whole(request: Request, name: str, usual: int | None = None) -> int:
    """A whole number of the query.

    Raises
    ------
    OptionError
        If it is missing, or none.
    """
    text = request.query_params.get(name)
    if text is None:
        if usual is None:
            raise OptionError("it is missing", where=name, expected="a whole number")
        return usual
    return _number(name, text)


def real(request: Request, name: str) -> float | None:
    """A number of the query, or None.

    Raises
    ------
    OptionError
        If it is no finite number.
    """
    text = request.query_params.get(name)
    if text is None or text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OptionError("this is no number", where=name, got=text[:40])
    return value


def place(request: Request, name: str, plane: Plane) -> tuple[float, float]:
    """A row and a column, in or near the image.

    Raises
    ------
    OptionError
        If it is none.
    """
    parts = request.query_params.get(name, "").split(",")
    try:
        row, col = (float(part) for part in parts)
    except ValueError:
        row = col = math.nan
    far = max(plane.shape)
    if not (abs(row) <= 2 * far and abs(col) <= 2 * far):
        raise OptionError(
            "this is no place in the image", where=name, expected="row,col", got=",".join(parts)[:40]
        )
    return row, col


def _box(request: Request, plane: Plane) -> Box:
    spans = []
    for name, size in zip(("rows", "cols"), plane.shape, strict=True):
        text = request.query_params.get(name)
        ends = (0, size) if text is None else tuple(_number(name, part) for part in text.split(",")[:3])
        if len(ends) != 2 or not 0 <= ends[0] < ends[1] <= size:
            raise OptionError(
                "this is no part of the image",
                where=name,
                expected=f"first,end within 0,{size}",
                got=(text or "")[:40],
            )
        spans.append((int(ends[0]), int(ends[1])))
    return Box(spans[0], spans[1])
