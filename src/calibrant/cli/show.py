"""``calibrant show``: a frame as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibrant.cli.common import Terminal


def show(
    terminal: Terminal,
    path: Annotated[Path, typer.Argument(help="A FITS file: raw, calibrated or a master.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG or JPEG to write.")],
    stretch: Annotated[str, typer.Option(help="linear, log, sqrt or asinh.")] = "linear",
    limits: Annotated[
        str, typer.Option(help="zscale, percentile, median (-2/+5 std), minmax, or low,high.")
    ] = "zscale",
    plane: Annotated[
        str, typer.Option(help="Plane to draw: data, variance, read_noise ...; dq in classes of flags.")
    ] = "data",
    colours: Annotated[str, typer.Option("--cmap", help="Colour map.")] = "gray",
    sky: Annotated[bool, typer.Option(help="Draw the sky grid where the header has coordinates.")] = True,
    dpi: Annotated[int, typer.Option(help="Dots per inch.")] = 120,
) -> None:
    """Draw a frame or a plane of a master to a PNG or JPEG."""
    from calibrant.cli.pictures import drawable
    from calibrant.files.atomic import refuse_existing
    from calibrant.report.plots import flags, image, save

    refuse_existing(out, terminal.overwrite)
    frame, grid = drawable(path, plane), "auto" if sky else False
    title = path.name if plane == "data" else f"{path.name}: {plane}"
    if plane == "dq":
        figure = flags(frame, title=title, sky=grid)
    else:
        figure = image(frame, stretch=stretch, limits=_limits(limits), cmap=colours, sky=grid, title=title)
    save(figure, out, dpi=dpi, overwrite=terminal.overwrite)
    terminal.result({"out": str(out)}, lambda: typer.echo(f"written: {out}"))


def _limits(words: str) -> str | tuple[float, float]:
    try:
        low, high = (float(word) for word in words.split(","))
    except ValueError:
        return words
    return low, high
