"""The guard: foreign names, foreign pages, oversize and malformed requests, tokens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import anyio
import httpx2 as httpx
import numpy as np
import pytest

from calibrant.web import guard
from calibrant.web.app import create
from calibrant.web.guard import Gate, Refusal, host_name
from calibrant.web.server import Background, address, bind
from calibrant.web.session import Session
from calibrant.web.shelf import Shelf

TOKEN = "a-token-that-nobody-guesses"
TRICKS = (
    "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
    "....//....//etc/passwd", "..\\..\\windows", "%00", "file:///etc/passwd", "-1", "1e9", "NaN", "9" * 30,
    "<script>", "'; drop table", "%ff%fe", "\u00e9", "a" * 300,
)  # fmt: skip
TILE = ("image", "plane", "read", "level", "ty", "tx")
ROUTES = ("", "/limits", "/statistics", "/pixel", "/cut", "/ramp", "/header", "/provenance")
QUERIES = {
    "limits": ("plane", "read"),
    "statistics": ("plane", "read", "rows", "cols"),
    "histogram": ("bins", "low", "high", "rows"),
    "pixel": ("row", "col", "read"),
    "cut": ("plane", "read", "row"),
    "line": ("plane", "from", "to", "width"),
    "ramp": ("row", "col"),
    "tiles/data/0/0/0/0": ("of", "v"),
}
NEEDED = {"row": "1", "col": "1", "from": "1,1", "to": "5,5"}


@pytest.fixture(scope="module")
def viewer() -> Iterator[tuple[str, str]]:
    """Address of a viewer, and the name of its image."""
    shelf, session = Shelf(), Session()
    (image,) = shelf.add(np.arange(60.0 * 40).reshape(60, 40), "ramp")
    session.show(1, image)
    listening = bind()
    url = address(listening)
    with Background(create(shelf, session), listening):
        yield url, image


@pytest.fixture(scope="module")
def client(viewer: tuple[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=viewer[0], trust_env=False) as found:
        yield found


def is_told(answer: httpx.Response, *statuses: int) -> bool:
    """A refusal with a sentence that names no file and shows no traceback."""
    error = answer.json()["error"]
    assert answer.status_code in statuses, (answer.status_code, answer.text)
    assert set(error) == {"what", "where", "expected", "got", "do", "sentence"}
    assert error["sentence"].endswith(".")
    assert "root:" not in answer.text and "Traceback" not in answer.text and ".py" not in answer.text
    return True


# --- paths ---


@pytest.mark.parametrize("trick", TRICKS)
def test_no_parameter_of_a_path_leads_to_a_file(viewer: tuple[str, str], trick: str) -> None:
    _, image = viewer
    good = dict(zip(TILE, (image, "data", "0", "0", "0", "0"), strict=True))
    targets = [f"/api/images/{trick}{route}" for route in ROUTES]
    for name in TILE:
        parts = {**good, name: trick}
        targets.append("/api/images/{image}/tiles/{plane}/{read}/{level}/{ty}/{tx}".format(**parts))
    targets += [f"/static/{trick}", f"/static/viewer/{trick}", f"/{trick}"]
    for target in targets:
        status, body = raw(viewer[0], target)
        assert status in (400, 404), (target, status)
        assert b"root:" not in body and b"Traceback" not in body


@pytest.mark.parametrize("trick", TRICKS)
def test_no_parameter_of_a_query_leads_to_a_file(
    client: httpx.Client, viewer: tuple[str, str], trick: str
) -> None:
    for route, names in QUERIES.items():
        usual = {name: NEEDED[name] for name in names if name in NEEDED}
        assert client.get(f"/api/images/{viewer[1]}/{route}", params=usual).status_code == 200
        for name in names:
            answer = client.get(f"/api/images/{viewer[1]}/{route}", params={**usual, name: trick})
            # A number that happens to mean something is answered; nothing else is.
            assert answer.status_code in (200, 400, 404, 409), (route, name, answer.text)
            assert "root:" not in answer.text and "Traceback" not in answer.text


def raw(
    url: str, target: str, head: str = "", method: str = "GET", host: str | None = None
) -> tuple[int, bytes]:
    """One request exactly as it is written; clients tidy up what they send."""
    place = urlsplit(url)
    lines = f"{method} {target} HTTP/1.1\r\nHost: {host or place.netloc}\r\nConnection: close\r\n{head}\r\n"
    with socket.create_connection((place.hostname, place.port), timeout=10) as line:
        line.sendall(lines.encode("utf-8"))
        answer = b""
        while part := line.recv(65536):
            answer += part
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


# --- host and origin ---


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "169.254.169.254", "", "localhost@evil"],
)
def test_a_foreign_host_is_refused(viewer: tuple[str, str], host: str) -> None:
    for target in ("/", "/api/session", "/static/viewer/main.js"):
        assert raw(viewer[0], target, host=host or " ")[0] in (400, 421)


def test_two_hosts_are_refused(viewer: tuple[str, str]) -> None:
    assert raw(viewer[0], "/api/session", "Host: 127.0.0.1\r\n")[0] in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST:1234"])
def test_names_of_this_machine_are_known(viewer: tuple[str, str], host: str) -> None:
    assert raw(viewer[0], "/api/session", host=host)[0] == 200


def test_names_of_hosts() -> None:
    assert [host_name(one) for one in ("A:1", "a", "[::1]:80", "[::1]")] == ["a", "a", "[::1]", "[::1]"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_a_page_of_another_site_reads_nothing(client: httpx.Client, origin: str) -> None:
    assert is_told(client.get("/api/session", headers={"origin": origin}), 403)
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert is_told(client.get("/api/session", headers=headers), 403)


def test_the_page_itself_and_notebooks_are_answered(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    assert client.get("/api/session", headers={"origin": own}).status_code == 200
    frame = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert client.get("/", headers=frame).status_code == 200


def test_every_answer_has_the_headers_of_safety(client: httpx.Client) -> None:
    for target in ("/", "/api/session", "/nothing", "/static/viewer/main.js"):
        headers = client.get(target).headers
        for name, value in guard.HEADERS.items():
            assert headers[name] == value
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert "server" not in headers and "access-control-allow-origin" not in headers


# --- forms and sizes ---


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_written(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/api/session")
    assert is_told(answer, 405) and answer.headers["allow"] == "GET, HEAD"


def test_a_body_is_refused(client: httpx.Client, viewer: tuple[str, str]) -> None:
    assert is_told(client.request("GET", "/api/session", content=b"x" * 100_000), 413)
    assert raw(viewer[0], "/api/session", "Transfer-Encoding: chunked\r\n")[0] == 413


def test_long_addresses_and_many_headers_are_refused(client: httpx.Client, viewer: tuple[str, str]) -> None:
    assert is_told(client.get("/api/session", params={"a": "x" * 5000}), 413)
    assert is_told(client.get("/api/session", headers={f"x-{n}": "1" for n in range(100)}), 413)
    assert raw(viewer[0], "/api/session", f"X-Long: {'y' * 20_000}\r\n")[0] == 413
    with contextlib.suppress(ConnectionError):  # it may be cut off before it is told why
        assert raw(viewer[0], "/api/session", f"X-Long: {'y' * 200_000}\r\n")[0] == 400
    assert client.get("/api/session").status_code == 200


@pytest.mark.parametrize(
    "line", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"NOTHING AT ALL\r\n\r\n", b"\0" * 50]
)
def test_what_is_no_request_does_no_harm(client: httpx.Client, viewer: tuple[str, str], line: bytes) -> None:
    place = urlsplit(viewer[0])
    with socket.create_connection((place.hostname, place.port), timeout=10) as one:
        one.sendall(line + b"\r\n\r\n")
        one.shutdown(socket.SHUT_WR)
        one.recv(4096)
    assert client.get("/api/session").status_code == 200


def test_websockets_are_not_spoken(viewer: tuple[str, str]) -> None:
    upgrade = (
        "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    )
    assert raw(viewer[0], "/api/session", upgrade)[0] in (200, 400, 403, 426)


# --- token ---


@pytest.fixture
def locked() -> Iterator[str]:
    shelf, session = Shelf(), Session()
    shelf.add(np.ones((4, 4)))
    listening = bind()
    url = address(listening)
    with Background(create(shelf, session, token=TOKEN), listening):
        yield url


def test_without_the_token_nothing_is_shown(locked: str) -> None:
    with httpx.Client(base_url=locked, trust_env=False) as client:
        for target in ("/", "/api/session", "/static/viewer/main.js", "/?token=wrong", "/?token="):
            assert is_told(client.get(target), 401)
        assert is_told(client.get("/", headers={"cookie": "calibrant=wrong"}), 401)


def test_the_token_becomes_a_cookie_and_leaves_the_address(locked: str) -> None:
    with httpx.Client(base_url=locked, trust_env=False) as client:
        answer = client.get(f"/?token={TOKEN}&a=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?a=1")
        kept = answer.headers["set-cookie"].lower()
        assert "httponly" in kept and "samesite=strict" in kept
        assert client.get("/api/session").status_code == 200
    with httpx.Client(base_url=locked, trust_env=False) as client:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/session", headers=bearer).status_code == 200


def test_the_token_sends_nobody_elsewhere(locked: str) -> None:
    status, _ = raw(locked, f"//evil.example/?token={TOKEN}")
    assert status == 303
    with httpx.Client(base_url=locked, trust_env=False) as client:
        for target in (f"//evil.example/?token={TOKEN}", f"/%5Cevil.example?token={TOKEN}"):
            where = client.get(httpx.URL(locked).join(target) if target[1] != "/" else f"{locked}{target}")
            assert urlsplit(where.headers["location"]).netloc == ""


# --- crowds ---


def alone(work: Callable[[], list]) -> list:
    """Run in a thread of its own: the driver of browsers keeps a loop running in that of the tests."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_gate_sends_away_who_would_wait_too_long() -> None:
    async def crowd() -> list[object]:
        gate, found = Gate(workers=2, waiting=3), []
        release = threading.Event()

        async def one() -> None:
            try:
                found.append(await gate.run(lambda: release.wait(10)))
            except Refusal as refusal:
                found.append(refusal.status)
                if found.count(503) == 5:
                    release.set()

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(one)
        assert gate.inside == 0
        return found

    found = alone(lambda: anyio.run(crowd))
    assert found.count(503) == 5 and found.count(True) == 5


def test_500_tiles_at_once_while_a_client_stalls(serve: Callable) -> None:
    """Who takes nothing holds up nobody, and the server answers everybody and stays."""
    image_of = np.random.default_rng(0).integers(0, 65535, (2048, 64), np.uint16)
    served = serve(image_of)
    (image,) = served.images
    place = urlsplit(served.url)

    def asked(n: int, more: str = "") -> bytes:
        target = f"/api/images/{image}/tiles/data/0/0/{n % 4}/0"
        return f"GET {target} HTTP/1.1\r\nHost: {place.netloc}\r\n{more}\r\n".encode()

    async def one(n: int) -> bytes:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(asked(n, "Connection: close\r\n"))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def crowd() -> list[bytes]:
        return await asyncio.gather(*(one(n) for n in range(500)))

    with contextlib.ExitStack() as stack:
        for n in range(10):  # they ask, and never read
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect((place.hostname, place.port))
            line.sendall(asked(n) * 100)
        answers = alone(lambda: asyncio.run(crowd()))
    for n, answer in enumerate(answers):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        assert body == image_of[512 * (n % 4) : 512 * (n % 4 + 1)].tobytes()
    assert httpx.get(f"{served.url}api/session", trust_env=False).status_code == 200


def test_a_client_that_takes_nothing_is_let_go(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SEND_SECONDS", 0.3)
    served = serve(np.zeros((512, 512), np.float32))
    place = urlsplit(served.url)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.connect((place.hostname, place.port))
        tile = (
            f"GET /api/images/{served.images[0]}/tiles/data/0/0/0/0 HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n"
        )
        line.sendall(tile.encode() * 20)
        time.sleep(1.0)
        line.settimeout(10)
        got = 0
        while part := line.recv(1 << 16):
            got += len(part)
    assert got < 20 * (1 << 20)
