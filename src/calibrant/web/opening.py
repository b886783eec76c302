"""What the command line opens: a shelf of files, a server, and a browser that looks at it."""

from __future__ import annotations

import contextlib
import json
import secrets
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname, socket
from threading import Thread, Timer
from typing import Any
from urllib.parse import quote

from calibrant.errors import CalibrantError, OptionError
from calibrant.web.app import LOOPBACK, create
from calibrant.web.describe import meta
from calibrant.web.focal import stand
from calibrant.web.server import LOCAL, address, bind, run
from calibrant.web.session import Session
from calibrant.web.shelf import Shelf

SHORTEST = 16
"""Characters of a token that somebody thought of."""
SOON = 0.3  # seconds after which the browser finds the server listening


@dataclass(frozen=True)
class Viewer:
    """A server that is about to run.

    Attributes
    ----------
    url : str
        With the token, where there is one.
    problems : tuple of str
        A sentence for each file that is not shown.
    images : int
        How many there are.
    """

    app: Any
    listening: socket
    url: str
    problems: tuple[str, ...]
    images: int

    def show(self) -> None:
        """Open the user's browser, once the server has begun."""
        timer = Timer(SOON, webbrowser.open, (self.url,))
        timer.daemon = True
        timer.start()

    def run(self) -> None:
        """Answer until Ctrl-C; what the page asks first is got ready while the browser begins."""
        Thread(target=self._warm, name="calibrant-warm", daemon=True).start()
        run(self.app, self.listening)

    def _warm(self) -> None:
        with contextlib.suppress(CalibrantError):  # the page is told when it asks
            for entry in self.app.state.shelf.entries()[:1]:
                meta(self.app.state.shelf, entry.id)


@contextlib.contextmanager
def opened(
    paths: Sequence[Path], *, port: int, host: str, token: str | None, db: str | None, first: int
) -> Iterator[Viewer]:
    """A viewer of files and folders, and of a registry; nothing answers yet.

    Raises
    ------
    FileError
        If a path that was named is missing.
    OptionError
        If the port cannot be had, or the token is too short.
    """
    secret = token_for(host, token)
    shelf, session = Shelf(), Session()
    images = shelf.add_paths(paths)
    session.title = " ".join(Path(path).resolve().name for path in paths[:3]) or "Calibrant"
    for number, image in enumerate(images[:first], 1):
        session.show(number, image)
    session.current = 1 if images else None
    with contextlib.ExitStack() as stack:
        pages = [] if db is None else _registry_pages(stack.enter_context(_registry(db)), shelf)
        listening = stack.enter_context(contextlib.closing(bind(host, port)))
        port = listening.getsockname()[1]
        app = create(
            shelf,
            session,
            token=secret,
            hosts=names_of(host),
            pages=pages,
            facts=lambda: {"registry": db is not None, "focal": stand(shelf)},
            cookie=f"calibrant_{port}",
        )
        name = gethostname() if _is_any(host) else None
        url = address(listening, secret, name, "" if images else "registry")
        yield Viewer(app, listening, url, (*shelf.problems, *_unreadable(shelf)), len(images))


def _unreadable(shelf: Shelf) -> Iterator[str]:
    """A sentence for each file that was named and cannot be shown; its tab says the same."""
    return (str(entry.error) for entry in shelf.entries() if entry.error is not None)


def _registry(db: str) -> contextlib.AbstractContextManager[Any]:
    from calibrant.registry import Registry

    return Registry(db)


def _registry_pages(registry: Any, shelf: Shelf) -> Sequence[Any]:
    """The pages of a registry; what it knows is opened in the viewer from the file that was recorded."""
    from calibrant.web.pages import routes

    def viewed(keys: Sequence[str], mosaic: bool) -> str:
        images = [_of_registry(registry, shelf, key) for key in keys]
        if mosaic:
            images = _together(shelf, images) or images
        # In quotes: some names would be read as numbers.
        parts = [f"{number}.image={quote(json.dumps(image))}" for number, image in enumerate(images, 1)]
        return "/#" + "&".join([*parts, *(_beside(len(images)) if len(images) > 1 else ())])

    return routes(registry, viewed)


def _of_registry(registry: Any, shelf: Shelf, key: str) -> str:
    """Put a product, a calibrated frame or a raw file of a registry on the shelf; returns its image."""
    from calibrant.registry.opening import place_of_product, unharmed
    from calibrant.registry.words import short

    lineage = registry.lineage(key)
    node = lineage.nodes[lineage.root]
    if node.state:
        path = place_of_product(node.key, node.kind, registry.entry(node.key).places)
    else:
        path = unharmed(f"{node.kind} {node.name}", node.key, registry.files([node.key]).get(node.key, []))
    return shelf.add_file(path, f"{Path(path).name} ({short(node.key).removeprefix('sha256:')})", node.key)[0]


def _together(shelf: Shelf, images: Sequence[str]) -> list[str]:
    """The focal plane that holds some of these images, if there is one."""
    planes = ((one["id"], shelf.view(one["id"]).pieces) for one in stand(shelf))
    return [plane for plane, pieces in planes if any(piece.image in images for piece in pieces)][:1]


def _beside(count: int) -> list[str]:
    """Parts of an address: frames side by side that move together, and blink by themselves."""
    frames = ",".join(str(number) for number in range(1, count + 1))
    return ["layout=grid", "lock.zoom=true", "lock.pan=true", f"blink.frames=[{frames}]"]


def token_for(host: str, token: str | None) -> str | None:
    """The token that is asked for: the one given, or a new one where others can reach the server.

    Raises
    ------
    OptionError
        If it could be guessed.
    """
    if token is not None and len(token) < SHORTEST:
        raise OptionError(
            "the token is too short", where="--token", expected=f"{SHORTEST} characters or more",
            do="leave it out, and one is made",
        )  # fmt: skip
    if token is None and not _is_local(host):
        return secrets.token_urlsafe(24)
    return token


def names_of(host: str) -> frozenset[str]:
    """Names by which a server at this address may be called."""
    if _is_any(host):
        name = gethostname().lower()
        return LOOPBACK | {name, name.partition(".")[0], *_addresses(name)}
    return LOOPBACK | {f"[{host}]" if ":" in host else host.lower()}


def _addresses(name: str) -> frozenset[str]:
    """The addresses under which this machine knows itself."""
    import socket as sockets

    try:
        found = sockets.getaddrinfo(name, None)
    except OSError:
        return frozenset()
    return frozenset(f"[{one[4][0]}]" if ":" in str(one[4][0]) else str(one[4][0]) for one in found)


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _is_local(host: str) -> bool:
    if host in (LOCAL, "localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
