"""What measurements of slices print: each slice, each wavelength, and a line for each exposure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.cli.tables import rounded, with_sigma

if TYPE_CHECKING:
    from calibrant.pipeline.measure import Measured
    from calibrant.product import Product

Entry = Mapping[str, Any]
HEADS: Mapping[str, Mapping[str, str]] = {
    "fringe": {"depth": "depth observed", "depth_intrinsic": "depth intrinsic"},
    "fringe_comparison": {
        "D": "D difference",
        "phase": "phase difference",
        "depth_ratio": "depth ratio",
        "R_ratio": "R ratio",
    },
    "flatness": {"correlation_alpha": "correlation by alpha", "correlation_column": "by column"},
    "row_parity": {"gain": "parity", "offset": "parity offset"},
    "stray_light": {"mean": "mean under slices"},
    "trace": {"lost": "rows lost"},
    "spectrum": {"spacing": "spacing of lines", "scatter": "scatter of lines"},
}
"""Kind of product -> name -> what stands at the head of a column."""
SHOWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "fringe": {"wavelengths": ("wavelength", "period", "depth", "depth_intrinsic", "R")},
    "fringe_comparison": {
        "wavelengths": ("wavelength", "depth_ratio", "R_ratio", "phase"),
        "causes": ("cause", "value", "chi2", "bic"),
    },
}
"""Kind -> tables that are printed, and which of their columns."""
PLACE = {"stray_light": "gap"}


def print_slices(terminal: Terminal, measured: Measured) -> None:
    """Each product; then a line for each exposure."""
    for entry in measured.entries:
        title = f"{entry['name']} ({'kept' if entry.get('reused') else 'made'})"
        if len(_places(entry)) > 1:
            _print_places(terminal, title, entry)
        elif SHOWN.get(entry["kind"]):
            typer.echo(f"\n{title}")
        if SHOWN.get(entry["kind"]):
            _print_tables(terminal, measured.product(entry["name"]))
        if entry["notes"]:
            typer.echo(terminal.folded(f"note: {_exposure(entry, measured)}: {'; '.join(entry['notes'])}"))
    for pairs, title in ((False, "by exposure"), (True, "of two sources")):
        entries = [entry for entry in measured.entries if ("against" in entry["keys"]) == pairs]
        rows = _lines([(_exposure(entry, measured), entry) for entry in entries])
        if rows:
            columns = list(dict.fromkeys(name for row in rows for name in row))
            terminal.table(rows, columns, title=f"{measured.name}, {title}", parted=True)


def _exposure(entry: Entry, measured: Measured) -> str:
    """Its name without what was measured."""
    kinds = (f"{measured.name.replace('-', '_')}_", "spectrum_")
    name = str(entry["name"])
    return next((name.removeprefix(kind) for kind in kinds if name.startswith(kind)), name).replace("_", " ")


def _places(entry: Entry) -> dict[str, dict[str, Entry]]:
    """Place -> name -> quantity; under no place what holds for all."""
    found: dict[str, dict[str, Entry]] = {}
    for quantity in entry["quantities"]:
        if quantity.get("place"):
            found.setdefault(quantity["place"], {})[quantity["name"]] = quantity
    return found


def _print_places(terminal: Terminal, title: str, entry: Entry) -> None:
    first = PLACE.get(entry["kind"], "slice")
    rows = [
        {first: place.removeprefix(f"{first} ")} | {_head(entry, q): _told(q) for q in told.values()}
        for place, told in _places(entry).items()
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    terminal.table(rows, columns, title=title, parted=True)


def _print_tables(terminal: Terminal, product: Product) -> None:
    for name, columns in SHOWN[product.kind].items():
        rows = list(_rows(product, name, columns)) if name in product.tables else []
        if rows:
            typer.echo()
            terminal.table(rows, list(rows[0]), parted=True)


def _lines(entries: Sequence[tuple[str, Entry]]) -> list[dict[str, object]]:
    """One for each exposure: what holds for all of it, or for its only slice."""
    rows: dict[str, dict[str, object]] = {}
    for name, entry in entries:
        places = _places(entry)
        whole = [q for q in entry["quantities"] if not q.get("place")]
        row = rows.setdefault(name, {"exposure": name})
        if len(places) == 1:
            place, own = next(iter(places.items()))
            row[PLACE.get(entry["kind"], "slice")] = place
            whole = [q for q in own.values() if q["name"] not in {one["name"] for one in whole}] + whole
        row |= {_head(entry, q): _told(q) for q in whole}
    return [row for row in rows.values() if len(row) > 1]


def _head(entry: Entry, quantity: Entry) -> str:
    return _titled(entry["kind"], quantity["name"], str(quantity.get("unit") or ""))


def _titled(kind: str, name: str, unit: str) -> str:
    words = HEADS.get(kind, {}).get(name, name)
    return f"{words} [{unit}]" if unit else words


def _told(quantity: Entry) -> object:
    return rounded(with_sigma(quantity["value"], quantity.get("sigma")))


def _rows(product: Product, table: str, columns: Sequence[str]) -> Iterator[dict[str, object]]:
    """Rows of a table, values with their sigmas; columns without any number are left out."""
    found = product.tables[table]
    heads = {name: _titled(product.kind, name, product.units.get(f"{table}.{name}", "")) for name in columns}
    known = [name for name in columns if name in found and not _empty(found[name])]
    for index in range(len(found[columns[0]])):
        sigma = {name: _sigma_of(found, name, index) for name in known}
        yield {
            heads[name]: rounded(with_sigma(found[name][index].item(), sigma[name]))
            if sigma[name] is not None
            else rounded(found[name][index].item())
            for name in known
        }


def _sigma_of(table: Mapping[str, Any], name: str, index: int) -> float | None:
    column = f"{name}_sigma" if f"{name}_sigma" in table else "sigma" if name == "value" else ""
    return float(table[column][index]) if column in table else None


def _empty(column: Any) -> bool:
    return column.dtype.kind == "f" and not any(value == value for value in column.tolist())
