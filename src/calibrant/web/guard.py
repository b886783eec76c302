"""The guard before every route: looks at method, sizes, Host, Origin and token before anything is done."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calibrant.errors import CalibrantError

LONGEST_TARGET = 4096
"""Bytes of path and query."""
MOST_HEADERS, LARGEST_HEADERS = 64, 16384
SEND_SECONDS = 30.0
"""A client that takes nothing for so long is let go."""
COOKIE_DAYS = 7

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self' http://127.0.0.1:* http://localhost:* vscode-webview:",
    )
)
"""What a page may load: this server's own files, no script inside of HTML. Notebooks here may hold it."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Refusal(Exception):
    """A request that is not answered: status, and the error that says why."""

    def __init__(self, status: int, what: str, do: str | None = None, **headers: str) -> None:
        super().__init__(what)
        self.status, self.error, self.headers = status, CalibrantError(what, do=do), headers


def error_facts(error: CalibrantError, sentence: str | None = None) -> dict[str, str | None]:
    """What, where, expected, got, do, and the sentence that they make."""
    sides = {name: getattr(error, name) for name in ("what", "where", "expected", "got", "do")}
    told = {name: None if value is None else str(value) for name, value in sides.items()}
    return {**told, "sentence": sentence or str(error)}


def error_response(
    status: int, error: CalibrantError, sentence: str | None = None, **headers: str
) -> Response:
    """An error as JSON."""
    body = {"error": error_facts(error, sentence)}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(
        json.dumps(body), status, {"cache-control": "no-store", **more}, media_type="application/json"
    )


@dataclass(frozen=True)
class Guard:
    """An ASGI application before another one.

    Attributes
    ----------
    hosts : frozenset of str
        Names by which this server may be called, without a port; all others are somebody's trick.
    token : str or None
        Without it nothing is shown.
    """

    app: ASGIApp
    hosts: frozenset[str]
    token: str | None = None
    cookie: str = "calibrant"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _decorated(send)
        try:
            headers = self._checked(scope)
            answer = self._admitted(scope, headers)
        except Refusal as refusal:
            answer = error_response(refusal.status, refusal.error, **refusal.headers)
        if answer is not None:
            await answer(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    def _checked(self, scope: Scope) -> dict[str, str]:
        """The headers, if the request is of a form that this server answers."""
        if scope["method"] not in ("GET", "HEAD"):
            raise Refusal(405, "this server only shows: it takes GET and HEAD", allow="GET, HEAD")
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > LONGEST_TARGET:
            raise Refusal(413, f"the address is longer than {LONGEST_TARGET} bytes")
        raw = scope["headers"]
        if len(raw) > MOST_HEADERS or sum(len(k) + len(v) for k, v in raw) > LARGEST_HEADERS:
            raise Refusal(413, "the headers of the request are too large")
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in raw}
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise Refusal(413, "a request has no body here", connection="close")
        self._check_host(raw, headers)
        self._check_origin(headers)
        return headers

    def _check_host(self, raw: Iterable[tuple[bytes, bytes]], headers: dict[str, str]) -> None:
        stated = [value for name, value in raw if name == b"host"]
        if len(stated) != 1 or host_name(headers.get("host", "")) not in self.hosts:
            raise Refusal(421, "the request names another host", do="use the address that the viewer printed")

    def _check_origin(self, headers: dict[str, str]) -> None:
        """Pages of other sites may lead here, and notebooks may hold the page; they may read nothing."""
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers["host"]:
            raise Refusal(403, "a page of another site asks, which is not answered")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            raise Refusal(403, "a page of another site asks, which is not answered")

    def _admitted(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """None for whoever has the token; who brings it in the address gets a cookie, and a clean address."""
        if self.token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        brought = [value for name, value in query if name == "token"]
        if brought and _same(brought[0], self.token):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            return self._welcome(scope["path"] + (f"?{rest}" if rest else ""))
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if _same(self._cookie_of(headers), self.token) or _same(bearer, self.token):
            return None
        raise Refusal(
            401, "the viewer asks for its token", do="open the address that it printed, with its token"
        )

    def _welcome(self, address: str) -> Response:
        # Two slashes at the beginning would lead to another host.
        answer = RedirectResponse("/" + address.lstrip("/\\"), 303)
        answer.set_cookie(
            self.cookie, self.token or "", max_age=COOKIE_DAYS * 86400, httponly=True, samesite="strict"
        )
        return answer

    def _cookie_of(self, headers: dict[str, str]) -> str:
        try:
            jar = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return ""
        return jar[self.cookie].value if self.cookie in jar else ""


def host_name(host: str) -> str:
    """The name in a Host header, without its port, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.rpartition(":")[0] if ":" in name else name


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


def _decorated(send: Send) -> Send:
    """Adds the headers of safety to every answer, and gives up on a client that takes nothing."""
    extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def decorated(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *((n, v) for n, v in extra if n not in own)]
        with anyio.fail_after(SEND_SECONDS):
            await send(message)

    return decorated


@dataclass
class Gate:
    """A limit on work that is done at the same time, and on how much of it may wait.

    Attributes
    ----------
    workers : int
        Threads at work.
    waiting : int
        Requests that may wait; more are told to come back.
    """

    workers: int = 8
    waiting: int = 512
    inside: int = 0
    _limiter: Any = field(default=None)

    async def run(self, job: Any) -> Any:
        """The result of ``job()``, called in a thread when there is room.

        Raises
        ------
        Refusal
            If too many wait already.
        """
        if self.inside >= self.workers + self.waiting:
            raise Refusal(503, "the viewer is busy", do="ask again in a second", retry_after="1")
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.workers)
        self.inside += 1
        try:
            return await anyio.to_thread.run_sync(job, limiter=self._limiter)
        finally:
            self.inside -= 1
