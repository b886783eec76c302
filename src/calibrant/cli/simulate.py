"""``calibrant simulate``: raw frames whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibrant.cli.common import Terminal


def ccd_night(
    terminal: Terminal,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; made if it is not there.")],
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
    size: Annotated[int, typer.Option(help="Rows and columns of the detector.")] = 1024,
) -> None:
    """A night with a CCD: biases, darks, flats, a galaxy field; the truth beside them."""
    from calibrant.simulate.observe import ccd_night as observe

    with terminal.progress() as progress:
        truth = observe(out, seed=seed, shape=(size, size), progress=progress, overwrite=terminal.overwrite)
    files = sorted(str(path) for path in out.rglob("*") if path.is_file())
    facts = {"out": str(out), "files": len(files), "truth": truth.identity}
    terminal.result(facts, lambda: typer.echo(f"{len(files)} files written to {out}"))
