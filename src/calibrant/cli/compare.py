"""``calibrant compare``: products held against those of another epoch, detector or run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.tables import rounded

if TYPE_CHECKING:
    from calibrant.comparison import Comparison
    from calibrant.product import Product

COLUMNS = ("what", "one", "other", "difference", "sigma", "pull", "unit")
BESIDE = "_reference.fits"  # the same product in another layout


def compare(
    terminal: Terminal,
    one: Annotated[Path, typer.Argument(help="A product, or a folder of them, such as of flight darks.")],
    other: Annotated[Path, typer.Argument(help="What it is held against, such as of ground exposures.")],
) -> None:
    """Differences of products in units of their errors: this epoch against that, each detector with its own.

    Of two folders, products of one kind and of the same keys are compared. Reference files of read noise
    (CDS) are taken, too.
    """
    from calibrant.comparison import compare as held

    pairs = list(matched(one, other))
    found = [(str(a), str(b), held(product(a), product(b))) for a, b in pairs]
    told = [{"first": a, "second": b, **result.as_dict()} for a, b, result in found]
    terminal.result(
        {"compared": told, "agree": all(result.agrees for _, _, result in found)},
        lambda: _print(terminal, found),
    )


def product(path: Path) -> Product:
    """The product of a file.

    Raises
    ------
    SelectionError
        If the file holds none.
    """
    from calibrant.errors import SelectionError
    from calibrant.files.fits import read
    from calibrant.files.header import inspect
    from calibrant.files.jwst_reference import read_readnoise
    from calibrant.product import Product

    if inspect(str(path)).header().get("REFTYPE") == "READNOISE":
        return read_readnoise(path)
    found = read(path)
    if not isinstance(found, Product):
        raise SelectionError("this file holds a frame, and no product", where=str(path))
    return found


def matched(one: Path, other: Path) -> Iterator[tuple[Path, Path]]:
    """Files that belong together: the two named, or of folders those of one kind and the same keys.

    Raises
    ------
    SelectionError
        If nothing belongs together, or several products of a folder could.
    """
    from calibrant.errors import SelectionError

    if one.is_file() and other.is_file():
        yield one, other
        return
    sides = [_listed(side) for side in (one, other)]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        told = [", ".join(path.name for paths in side.values() for path in paths) for side in sides]
        raise SelectionError(
            "the two have no product of one kind and the same keys",
            expected=told[0] or "none",
            got=told[1] or "none",
        )
    for key in common:
        for side in sides:
            if len(side[key]) > 1:
                raise SelectionError(
                    "several products could be meant",
                    got=", ".join(str(path) for path in side[key]),
                    do="name one file",
                )
        yield sides[0][key][0], sides[1][key][0]


def _listed(side: Path) -> dict[Any, list[Path]]:
    """Products of a folder, or of a file, by kind and keys."""
    paths = sorted(side.glob("*.fits")) if side.is_dir() else [side]
    found: dict[Any, list[Path]] = {}
    for path in paths:
        if side.is_dir() and path.name.endswith(BESIDE):
            continue
        held = product(path)
        if held.keys.get("detector") is None and len(paths) > 1:
            continue  # what several detectors say together
        keys = tuple(sorted((name, str(value)) for name, value in held.keys.items()))
        found.setdefault((held.kind, keys), []).append(path)
    return found


def _print(terminal: Terminal, found: list[tuple[str, str, Comparison]]) -> None:
    for one, other, result in found:
        rows = [{name: rounded(value) for name, value in row.items()} for row in result.rows()]
        terminal.table(rows, COLUMNS, title=f"{one} less {other} ({result.kind})", parted=True)
        for note in result.notes:
            typer.echo(terminal.folded(f"note: {note}"))
        typer.echo(terminal.folded(result.verdict))
