"""``calibrant compare``: products held against those of another epoch, detector or run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.measure import Where
from calibrant.cli.measure_slices import Background, Band, Campaign, Channel, Correct, Slices, Source
from calibrant.cli.tables import rounded

if TYPE_CHECKING:
    from calibrant.comparison import Comparison
    from calibrant.product import Product

COLUMNS = ("what", "one", "other", "difference", "sigma", "pull", "unit")
BESIDE = "_reference.fits"  # the same product in another layout


BY = ("slice", "amplifier", "detector")


def compare(
    terminal: Terminal,
    one: Annotated[Path, typer.Argument(help="A product, a folder of them, or frames (with --by slice).")],
    others: Annotated[
        list[Path] | None, typer.Argument(help="What it is held against; several for more epochs.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Slice (frames of campaigns), amplifier (its quantities alone), or detector.")
    ] = "detector",
    instrument: Annotated[
        str, typer.Option("--instrument", "-i", help="Whose slices: name or TOML file, or auto.")
    ] = "auto",
    where: Where = None,
    source: Source = None,
    campaign: Campaign = None,
    band: Band = None,
    background: Background = None,
    correct: Correct = None,
    slices: Slices = None,
    channel: Channel = None,
    reference: Annotated[
        str | None, typer.Option(help="The campaign that others are held against; the first if not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for product and pictures of --by slice.")
    ] = None,
    any_readout: Annotated[
        bool, typer.Option("--any-readout", help="Compare campaigns that were read out differently, too.")
    ] = False,
) -> None:
    """Differences in units of their errors: this epoch against that, each detector with its own.

    Products: of two folders, those of one kind and of the same keys are compared; each of several others is
    compared with the first. Reference files of read noise (CDS) are taken, too. Frames, with --by slice: what
    changed between campaigns, slice by slice.
    """
    from calibrant.errors import OptionError, SelectionError

    if by not in BY:
        raise OptionError("products are compared by one of these", expected=", ".join(BY), got=by)
    if by == "slice":
        from calibrant.cli.compare_slices import How, compare_slices

        frames = {"source": source, "campaign": campaign, "band": band}
        frames |= {"background": background, "correct": correct}
        how = How(
            instrument, where, reference, out, any_readout, frames, {"slices": slices, "channel": channel}
        )
        compare_slices(terminal, [one, *(others or [])], how)
        return
    if not others:
        raise SelectionError("nothing to compare with", got=str(one), do="name a second product or folder")
    _compare_products(terminal, one, others, by)


def _compare_products(terminal: Terminal, one: Path, others: list[Path], by: str) -> None:
    from dataclasses import replace

    from calibrant.comparison import compare as held

    pairs = [pair for other in others for pair in matched(one, other)]
    found = [(str(a), str(b), held(product(a), product(b))) for a, b in pairs]
    if by == "amplifier":
        found = [
            (a, b, replace(r, planes=(), flags=(), quantities=tuple(q for q in r.quantities if q.place)))
            for a, b, r in found
        ]
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
