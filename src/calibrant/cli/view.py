"""``calibrant view`` and ``calibrant serve``: images and the registry in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from calibrant.cli.common import Terminal
from calibrant.errors import OptionError

Port = Annotated[int, typer.Option(help="Port to listen at; 0 takes one that is free.")]
Host = Annotated[
    str, typer.Option(help="Address to listen at; beyond this machine a token is asked of everybody.")
]
Token = Annotated[
    str | None, typer.Option(help="Secret that the address must hold; made where --host needs one.")
]
Database = Annotated[
    str | None, typer.Option("--db", help="Registry to browse: a file, or a database's URL.")
]
FIRST = 16
"""Images that stand in frames from the beginning; the others are in the list."""


def view(
    terminal: Terminal,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="FITS files, products or folders of them.")
    ] = None,
    port: Port = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    host: Host = "127.0.0.1",
    token: Token = None,
    db: Database = None,
) -> None:
    """Look at images in the browser; Ctrl-C ends it."""
    if not paths and db is None:
        raise OptionError("there is nothing to look at", do="name files or a folder, or a registry with --db")
    _serve(terminal, paths or [], port=port, host=host, token=token, db=db, browser=not no_browser)


def serve(
    terminal: Terminal,
    db: Annotated[str, typer.Option("--db", help="Registry to browse: a file, or a database's URL.")],
    port: Port = 0,
    host: Host = "127.0.0.1",
    token: Token = None,
) -> None:
    """Serve the pages of a registry, without opening a browser; Ctrl-C ends it."""
    _serve(terminal, [], port=port, host=host, token=token, db=db, browser=False)


def _serve(
    terminal: Terminal,
    paths: list[Path],
    *,
    port: int,
    host: str,
    token: str | None,
    db: str | None,
    browser: bool,
) -> None:
    from calibrant.web import require

    require()
    from calibrant.web.opening import opened

    with opened(paths, port=port, host=host, token=token, db=db, first=FIRST) as viewer:
        for sentence in viewer.problems:
            terminal.say(sentence)
        terminal.result({"url": viewer.url, "images": viewer.images}, _printer(viewer.url))
        if browser:
            viewer.show()
        viewer.run()


def _printer(url: str) -> Callable[[], None]:
    def printer() -> None:
        typer.echo(url)
        typer.echo("Ctrl-C ends it.", err=True)

    return printer
