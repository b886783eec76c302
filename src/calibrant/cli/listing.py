"""``calibrant ls``: what is in a folder, as the instrument's rules read it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.tables import text

if TYPE_CHECKING:
    from calibrant.exposures import Exposures

RAMP_AXES = 4
COLUMNS = "file,kind,exptime,filter,temperature,binning,shape,time"


def ls(
    terminal: Terminal,
    paths: Annotated[list[Path], typer.Argument(help="Folders, files, or @list.txt.")],
    keys: Annotated[
        str,
        typer.Option(
            "--keys", "-k", help=f"Columns, separated by commas; else those of {COLUMNS} that tell."
        ),
    ] = "",
    instrument: Annotated[
        str, typer.Option("--instrument", "-i", help="Name of an instrument, or a TOML file.")
    ] = "auto",
    where: Annotated[str, typer.Option(help="Only these, e.g. 'kind=dark and exptime>10'.")] = "",
    newest: Annotated[
        bool, typer.Option("--newest", help="Of files that come in several versions only the newest.")
    ] = False,
    sort: Annotated[str, typer.Option(help="Columns to sort by, separated by commas.")] = "",
    kinds: Annotated[
        Path | None, typer.Option(help="A table (CSV or TOML) that says what files are: name or glob, kind.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read the numbers of ramps, and tell what is wrong with them.")
    ] = False,
) -> None:
    """List exposures: what each file is, as its header and name say."""
    from calibrant.exposures import Exposures

    with terminal.progress() as progress:
        exposures = Exposures.scan(
            [str(path) for path in paths], instrument=instrument, kinds=kinds, progress=progress
        )
    if where:
        exposures = exposures.where(where)
    if newest:
        exposures = exposures.newest()
    if sort:
        exposures = exposures.sort(*sort.split(","))
    keys = keys or ",".join(exposures.instrument.columns)
    columns = [key.strip() for key in (keys or COLUMNS).split(",") if key.strip()]
    if "file" not in columns:
        columns = ["file", *columns]
    rows = exposures.table(columns)
    problems = [{"file": problem.path, "problem": problem.sentence} for problem in exposures.problems]
    faults = _faults(exposures) if check else []
    if as_csv:
        _print_csv(rows, columns)
    else:
        told = columns if keys else _telling(rows, columns)
        short = [{**row, "time": _seconds(row.get("time"))} for row in rows]
        facts = {"exposures": rows, "problems": problems, **({"faults": faults} if check else {})}
        terminal.result(facts, lambda: terminal.table(short, told))
    same = "" if keys or as_csv else _common(rows, [name for name in columns if name not in told])
    unused = f", {len(problems)} files that could not be used:" if problems else ""
    ours = sum(exposure.kind == "product" for exposure in exposures)
    products = f" and {ours} of our products" if ours else ""
    terminal.say(f"{len(rows) - ours} exposures{products}{same}{unused}")
    for problem in problems:
        terminal.say(f"  {problem['problem']}")
    if check:
        terminal.say(f"{len(faults)} faults of ramps" + (":" if faults else ""))
    for sentence in faults:
        terminal.say(f"  {sentence}")


def _faults(exposures: Exposures) -> list[str]:
    """What is wrong with the numbers of ramps among the exposures, a sentence each."""
    from calibrant.errors import CalibrantError
    from calibrant.exposures.ramp_faults import faults

    found: list[str] = []
    for index, exposure in enumerate(exposures):
        if len(exposure.shape) < RAMP_AXES:
            continue
        try:
            (ramp,) = exposures.take([index]).ramps()
            found += faults(ramp)
        except CalibrantError as error:
            found.append(str(error))
    return found


def _print_csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: "" if value is None else text(value) for name, value in row.items()} for row in rows
    )


def _telling(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> list[str]:
    """Columns that tell exposures apart, and those that people look for; nobody asked for the others."""
    always = ("file", "kind", "exptime")
    raw = [row for row in rows if row["kind"] != "product"]
    return [name for name in columns if name in always or len({text(row.get(name)) for row in raw}) > 1]


def _seconds(time: object) -> object:
    """A time without its fraction, for the eye."""
    return f"{time.partition('.')[0].rstrip('Z')}Z" if isinstance(time, str) else time


def _common(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """What all exposures share, in words."""
    shared = [f"{name} {text(rows[0][name])}" for name in columns if rows and rows[0].get(name)]
    return f" (all: {', '.join(shared)})" if shared else ""
