"""``calibrant compare --by slice``: frames of several campaigns, and what changed between them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.tables import rounded

if TYPE_CHECKING:
    from calibrant.exposures import Exposures
    from calibrant.product import Product

NUMBERS = (
    "gain",
    "edge",
    "structure",
    "dispersion",
    "pedestal",
    "core_change",
    "edge_change",
    "gap_background",
)
FILE = "campaigns.fits"


def compare_slices(
    terminal: Terminal,
    paths: list[Path],
    instrument: str,
    where: str | None,
    reference: str | None,
    out: Path | None,
    any_readout: bool,
) -> None:
    """Compare the frames of some paths, one of each campaign."""
    from calibrant.effects.campaigns import measure
    from calibrant.exposures import Exposures

    chosen = _chosen(Exposures.scan(paths, instrument), where)
    frames = {_name(chosen, index): chosen.frame(index) for index in range(len(chosen))}
    slices = chosen.instrument.slice_map(chosen[0])
    with terminal.progress() as progress:
        found = measure(frames, slices, reference=reference, any_readout=any_readout, progress=progress)
    files = [] if out is None else _written(found, out, terminal.overwrite)
    terminal.result(_facts(found, files), lambda: _print(terminal, found, files))


def _chosen(exposures: Exposures, where: str | None) -> Exposures:
    """One frame of each campaign, in order of time.

    Raises
    ------
    SelectionError
        If a campaign has none of the band of the others, or several frames; or nothing is left.
    """
    from calibrant.errors import SelectionError

    found = exposures.where(where) if where else exposures
    names = [_name(found, index) for index in range(len(found))]
    lost = set(exposures.values("campaign")) - set(found.values("campaign")) - {None}
    if where and lost:
        raise SelectionError(
            f"nothing of {', '.join(sorted(lost))} is left",
            where=where,
            got="; ".join(f"{name} has {_bands(exposures, name)}" for name in sorted(lost)),
            do="choose what all campaigns have, or leave these files out",
        )
    several = sorted({name for name in names if names.count(name) > 1})
    if several:
        raise SelectionError(
            "each campaign is compared by one frame",
            got="; ".join(f"{names.count(name)} of {name}" for name in several),
            do="choose with --where 'source=internal and band=1A', or name files",
        )
    return found


def _bands(exposures: Exposures, campaign: str) -> str:
    """What a campaign has, by source and band."""
    own = exposures.where(lambda one: one.campaign == campaign)
    pairs = {" ".join(str(one.get(key)) for key in ("source", "band") if one.get(key)) for one in own}
    return ", ".join(sorted(pairs))


def _name(exposures: Exposures, index: int) -> str:
    exposure = exposures[index]
    return exposure.campaign or Path(exposure.path or f"frame {index}").stem


def _written(found: Product, out: Path, overwrite: bool) -> list[str]:
    from calibrant.files.fits import write
    from calibrant.report.plots import figures, save

    out.mkdir(parents=True, exist_ok=True)
    write(found, out / FILE, overwrite=overwrite)
    names = [FILE]
    for name, make in figures(found).items():
        names.append(f"campaigns_{name}.png")
        save(make(), out / names[-1], overwrite=overwrite)
    return [str(out / name) for name in names]


def _facts(found: Product, files: list[str]) -> dict[str, Any]:
    return {
        "changed": list(found.provenance.notes),
        "tables": {
            name: [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
            for name, table in found.tables.items()
        },
        "files": files,
    }


def _print(terminal: Terminal, found: Product, files: list[str]) -> None:
    trend = found.tables["trend"]
    rows = [
        {"campaign": name, **{what: _with_sigma(trend, what, i) for what in NUMBERS}}
        for i, name in enumerate(trend["campaign"])
    ]
    terminal.table(rows, ("campaign", *NUMBERS), title="Campaigns, mean of the slices", parted=True)
    model = found.tables["model"]
    columns = ("slice", "campaign", "gain", "edge", "structure", "dispersion", "pedestal", "chi")
    lines = [{name: rounded(model[name][i]) for name in columns} for i in range(len(model["slice"]))]
    terminal.table(lines, columns, title="Slices", parted=True)
    for note in found.provenance.notes:
        typer.echo(terminal.folded(note))
    for name in files:
        typer.echo(name)


def _with_sigma(trend: Any, what: str, index: int) -> str:
    value, sigma = float(trend[what][index]), float(trend[f"{what}_sigma"][index])
    if not math.isfinite(value):
        return "-"
    return f"{value:.4g} +- {sigma:.2g}" if sigma else f"{value:.4g}"
