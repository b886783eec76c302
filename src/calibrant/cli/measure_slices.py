"""``calibrant measure fringes`` and other measurements of slices: sources, campaigns and maps by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.measure import (
    Db,
    Out,
    Paths,
    Plots,
    Register,
    Set,
    Where,
    Whose,
    measured_and_told,
    options_of,
)

ABOUT = {
    "fringes": "Fringes of slices: depth, reflectivity, thickness and phase; of two sources, and why.",
    "stray-light": "Stray light under slices, orders or fibres, from what shines between them.",
    "trace": "Where the light of a point source runs, and its spectrum with peaks and continuum.",
    "flatness": "How evenly a source lights the slices; its signal over that of another source.",
    "row-parity": "How far even and odd rows differ, in each slice.",
}

Source = Annotated[
    str | None,
    typer.Option(help="Sources, such as 'internal,extended-*'; else the lamp, for traces the point."),
]
Campaign = Annotated[str | None, typer.Option(help="Campaigns, such as FM,OTIS; else each.")]
Band = Annotated[str | None, typer.Option(help="Bands, such as 1A; else each.")]
Against = Annotated[str | None, typer.Option(help="A source to hold the others against (fringes, flatness).")]
Background = Annotated[
    str | None,
    typer.Option(help="Source to subtract, or none; else from sources that the instrument names."),
]
Correct = Annotated[
    str | None,
    typer.Option(help="Measured on each frame and corrected before: row-parity,stray-light, in this order."),
]
AnyReadout = Annotated[
    bool, typer.Option("--any-readout", help="Sources that were read out differently are held together, too.")
]
Slices = Annotated[
    str | None,
    typer.Option(help="A distortion file, or one with planes; else a frame's own, or the instrument's."),
]
Channel = Annotated[int | None, typer.Option(help="Of a distortion file; else that of the band.")]
Resolution = Annotated[
    str | None,
    typer.Option(help="A number, a table (FITS, text), or none; else the instrument's."),
]


def verb(name: str) -> Callable[..., None]:
    """The command that measures `name`."""

    def measure(
        terminal: Terminal,
        paths: Paths,
        out: Out = Path("measured"),
        instrument: Whose = "auto",
        source: Source = None,
        campaign: Campaign = None,
        band: Band = None,
        against: Against = None,
        where: Where = None,
        background: Background = None,
        correct: Correct = None,
        any_readout: AnyReadout = False,
        slices: Slices = None,
        channel: Channel = None,
        resolution: Resolution = None,
        change: Set = None,
        register: Register = False,
        db: Db = None,
        plots: Plots = True,
    ) -> None:
        frames = {"source": source, "campaign": campaign, "band": band, "against": against}
        before = {"background": background, "correct": correct, "any_readout": any_readout or None}
        maps: dict[str, Any] = {"slices": slices, "channel": channel, "resolution": resolution}
        named = {key: value for key, value in (frames | before | maps).items() if value is not None}
        options = {"options": options_of(change or []) | named, "where": where, "instrument": instrument}
        measured_and_told(terminal, name, paths, (register, db), plots, {"out": out, **options})

    measure.__doc__ = ABOUT[name]
    return measure
