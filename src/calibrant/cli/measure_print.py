"""What a measurement prints: quantities by place, tables, sentences, files; and the same as facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.slices_print import print_slices
from calibrant.cli.tables import rounded, with_sigma

if TYPE_CHECKING:
    from calibrant.pipeline.measure import Measured

MOST = 12  # files that are named


def facts(measured: Measured, pictures: Mapping[str, list[str]]) -> dict[str, Any]:
    """All of it, for `--json`."""
    return {
        "measured": measured.name,
        "out": str(measured.out),
        "file": None if measured.file is None else str(measured.file),
        "instrument": measured.exposures.instrument.name,
        "products": [{**entry, "pictures": pictures.get(entry["name"], [])} for entry in measured.entries],
        "pictures": [file for files in pictures.values() for file in files],
        "notes": measured.notes,
        "problems": measured.problems,
        "registered": measured.registered,
        "seconds": measured.seconds,
    }


def print_measured(terminal: Terminal, measured: Measured, pictures: Mapping[str, list[str]]) -> None:
    """All of it, for a reader: numbers, what was noted, what was left out, where the files are."""
    if measured.sliced:
        print_slices(terminal, measured)
    else:
        _print_products(terminal, measured)
    _print_end(terminal, measured, pictures)


def _print_products(terminal: Terminal, measured: Measured) -> None:
    for entry in measured.entries:
        state = "kept" if entry.get("reused") else "made"
        frames = f"{entry['frames']} frames, " if entry["frames"] else ""
        _print_quantities(terminal, f"{entry['name']} ({frames}{state})", entry)
        _print_verdicts(terminal, entry)
        for sentence in _sentences(entry):
            typer.echo(f"\n{terminal.folded(sentence)}")
        for note in entry["notes"]:
            typer.echo(terminal.folded(f"note: {note}"))


def _print_end(terminal: Terminal, measured: Measured, pictures: Mapping[str, list[str]]) -> None:
    for note in measured.notes:
        typer.echo(terminal.folded(f"note: {note}"))
    for problem in measured.problems:
        told = problem["problem"] if problem["file"] in problem["problem"] else ": ".join(problem.values())
        typer.echo(terminal.folded(f"left out: {told}"))
    if measured.registered:
        from calibrant.pipeline.register import sentence as registered

        typer.echo(registered(measured.registered))
    names = [file for entry in measured.entries for file in (entry["file"], *entry.get("beside", ()))]
    files = ", ".join(names) if len(names) <= MOST else f"{len(names)} products"
    drawn = f"  pictures: {measured.out / 'plots'}/" if pictures else ""
    if measured.file is not None:
        typer.echo(f"product: {measured.file}")
    typer.echo(f"results: {measured.out}/ ({files}){drawn}")
    typer.echo(f"{measured.seconds:.1f} s without pictures")


def _print_quantities(terminal: Terminal, title: str, entry: Mapping[str, Any]) -> None:
    """A row for each place, a column for each quantity; those of the whole detector below.

    Places of several kinds (amplifiers, sides) that share no quantity have a table each.
    """
    kinds: list[tuple[dict[str, str], dict[str, dict[str, Any]]]] = []
    for place, told in _by_place(entry["quantities"]).items():
        kind = next((one for one in kinds if set(one[0]) & set(told)), None)
        columns, rows = kind or ({}, {})
        if kind is None:
            kinds.append((columns, rows))
        columns |= {name: heading(q) for name, q in told.items()}
        rows[place] = {"amplifier": place} | {columns[name]: _told(q) for name, q in told.items()}
    for number, (columns, rows) in enumerate(kinds):
        head = title if number == 0 else ""
        terminal.table(list(rows.values()), ["amplifier", *columns.values()], title=head, parted=True)
    if not kinds:
        typer.echo(f"\n{title}")
    whole = [q for q in entry["quantities"] if not q.get("place")]
    if whole:
        lines = [{"quantity": heading(q), "value": _told(q)} for q in whole]
        terminal.table(lines, ["quantity", "value"])


def _by_place(quantities: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Place -> name -> quantity, without those of the whole detector."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for quantity in quantities:
        if quantity.get("place"):
            found.setdefault(quantity["place"], {})[quantity["name"]] = quantity
    return found


def _print_verdicts(terminal: Terminal, entry: Mapping[str, Any]) -> None:
    """What is beyond its limits, or unlike its history."""
    table = entry["tables"].get("verdict") or {}
    rows = [dict(zip(table, line, strict=True)) for line in zip(*table.values(), strict=True)]
    told = [
        {name: rounded(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
        if row["verdict"] in ("beyond limit", "unlike history")
    ]
    if told:
        terminal.table(told, list(table), title="beyond limits, or unlike their history", parted=True)


def _told(quantity: Mapping[str, Any]) -> object:
    """Its value with its uncertainty, or to a few digits."""
    return rounded(with_sigma(quantity["value"], quantity.get("sigma")))


def heading(quantity: Mapping[str, Any]) -> str:
    """Name and unit of a quantity, as the head of a column."""
    unit = str(quantity.get("unit") or "").replace("electron", "e-")
    return f"{quantity['name']} [{unit}]" if unit else str(quantity["name"])


def _sentences(entry: Mapping[str, Any]) -> list[str]:
    """What an inventory says of what it found."""
    table = entry["tables"].get("inventory", {})
    return [str(sentence) for sentence in table.get("sentence", ())]
