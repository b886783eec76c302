"""``calibrant compare --by slice``: frames of several campaigns, and what changed between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.tables import rounded, with_sigma

if TYPE_CHECKING:
    from calibrant.exposures import Exposures
    from calibrant.frame import Exposure
    from calibrant.pipeline.measure_choice import Choice
    from calibrant.product import Product

FILE = "campaigns.fits"
STRAY = "stray-light"
NUMBERS = {
    "gain": "gain",
    "edge": "edge [pixel]",
    "structure": "structure [pixel]",
    "dispersion": "dispersion [pixel]",
    "pedestal": "pedestal [{unit}]",
    "core_change": "core change [%]",
    "edge_change": "edge change [%]",
    "gap_background": "gap background [{unit}]",
}
"""Columns of the trend, and what stands at their heads."""


@dataclass(frozen=True)
class How:
    """What is compared, and how: words of the command line.

    Attributes
    ----------
    instrument : str
    where, reference : str or None
    out : Path or None
    any_readout : bool
    frames, maps : mapping
        Of `calibrant.pipeline.measure_choice.Choice` and `calibrant.exposures.slice_maps.Maps`.
    """

    instrument: str = "auto"
    where: str | None = None
    reference: str | None = None
    out: Path | None = None
    any_readout: bool = False
    frames: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, Any] = field(default_factory=dict)


def compare_slices(terminal: Terminal, paths: list[Path], how: How) -> None:
    """Compare the frames of some paths, one of each campaign."""
    from calibrant.effects.campaigns import measure
    from calibrant.exposures import Exposures
    from calibrant.exposures.slice_maps import Maps
    from calibrant.pipeline.measure_choice import Choice
    from calibrant.pipeline.measure_slices import prepared

    choice, maps = Choice(**how.frames), Maps(**how.maps)
    everything = Exposures.scan(paths, how.instrument)
    if len(everything) and everything.instrument.slices is None:
        maps.slice_map(everything[0], everything.instrument)  # nothing to choose from without slices
    chosen = _chosen(everything, how.where, choice)
    with terminal.progress() as progress:
        slices = maps.slice_map(chosen[0], chosen.instrument)

        def measured(choice: Choice) -> Product:
            frames = {_name(one): prepared(everything, one, choice, slices) for one in chosen}
            return measure(
                frames, slices, reference=how.reference, any_readout=how.any_readout, progress=progress
            )

        found = measured(choice)
        left = _without(choice)
        before = found if how.out is None or left is None else measured(left)
    files = [] if how.out is None else _written(found, before, how.out, terminal.overwrite)
    terminal.result(_facts(found, files), lambda: _print(terminal, found, files))


def _chosen(exposures: Exposures, where: str | None, choice: Choice | None = None) -> Exposures:
    """One frame of each campaign, in order of time.

    Raises
    ------
    SelectionError
        If a campaign has none of the band of the others, or several frames; or nothing is left.
    """
    from calibrant.errors import SelectionError
    from calibrant.pipeline.measure_choice import Choice, contents

    rules = exposures.instrument.slices
    known = exposures.where(lambda one: one.kind != "product")
    found, _ = (choice or Choice()).of(known.where(where), rules.lamp if rules else "")
    names = [_name(one) for one in found]
    lost = set(known.values("campaign")) - set(names) - {None} if len(known) else set()
    if lost and not (choice and choice.campaign) and "campaign" not in (where or ""):
        raise SelectionError(
            f"nothing of {', '.join(sorted(lost))} is left",
            where=where,
            got="; ".join(f"{name} has {contents(known, name)}" for name in sorted(lost)),
            do="choose what all campaigns have, or name the others with --campaign",
        )
    several = sorted({name for name in names if names.count(name) > 1})
    if several:
        raise SelectionError(
            "each campaign is compared by one frame",
            got="; ".join(f"{names.count(name)} of {name}" for name in several),
            do="choose with --source, --band or --where, or name files",
        )
    return found


def _without(choice: Choice) -> Choice | None:
    """The choice without its correction of stray light; None if there is none."""
    from calibrant.pipeline.measure_choice import words

    steps = [name.replace("_", "-") for name in words(choice.correct)]
    left = [name for name in steps if name != STRAY]
    return replace(choice, correct=",".join(left) or None) if left != steps else None


def _name(exposure: Exposure) -> str:
    return exposure.campaign or Path(exposure.path or exposure.identifier or "frame").stem


def _written(found: Product, before: Product, out: Path, overwrite: bool) -> list[str]:
    """The product and its pictures; a row also before stray light was removed."""
    from calibrant.files.fits import write
    from calibrant.report.plots import figures, save
    from calibrant.report.plots.campaigns import campaign_rows

    out.mkdir(parents=True, exist_ok=True)
    write(found, out / FILE, overwrite=overwrite)
    names = [FILE]
    makers = figures(found)
    if before is not found:
        makers["before_and_after"] = partial(campaign_rows, before, found)
    for name, make in makers.items():
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
    trend, model = found.tables["trend"], found.tables["model"]
    unit = found.units.get("trend.pedestal", "")
    heads = {name: head.format(unit=unit) for name, head in NUMBERS.items()}
    rows = [
        {"campaign": name} | {head: _with_sigma(trend, what, i) for what, head in heads.items()}
        for i, name in enumerate(trend["campaign"])
    ]
    terminal.table(rows, list(rows[0]), title="Campaigns, mean of the slices", parted=True)
    columns = ("slice", "campaign", "gain", "edge", "structure", "dispersion", "pedestal", "chi")
    lines = [
        {heads.get(name, name): rounded(model[name][i]) for name in columns}
        for i in range(len(model["slice"]))
    ]
    terminal.table(lines, list(lines[0]), title="Slices", parted=True)
    for note in found.provenance.notes:
        typer.echo(terminal.folded(note))
    for name in files:
        typer.echo(name)


def _with_sigma(trend: Any, what: str, index: int) -> object:
    value, sigma = float(trend[what][index]), float(trend[f"{what}_sigma"][index])
    return rounded(with_sigma(value, sigma) if sigma else value) if math.isfinite(value) else None
