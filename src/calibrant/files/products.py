"""Products in files: every bit comes back, and a file that was changed is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import CalibrantError, FileError
from calibrant.files.cards import CardLike
from calibrant.files.encode import Unit, image_unit, table_unit
from calibrant.files.header import Contents
from calibrant.files.records import (
    DQ_DEF,
    LAYOUT_VERSION,
    PROVENANCE,
    VERSION,
    Records,
    Row,
    definitions_unit,
    provenance_unit,
    unique,
)
from calibrant.files.source import FitsSource
from calibrant.files.tables import read_table
from calibrant.frame import iso_time
from calibrant.product import Input, Product, Provenance, Quantity

QUANTITIES = "QUANTITIES"
_NAMES = {"data": "SCI", "variance": "VAR", "systematic": "SYS", "dq": "DQ"}


def product_units(product: Product) -> Iterator[Unit]:
    """The units of a product: planes, tables, QUANTITIES, and PROVENANCE with what no array can say."""
    taken = {"PRIMARY", PROVENANCE, DQ_DEF, QUANTITIES}
    rows = list(_rows(product))
    yield _primary(product)
    for name, plane in product.planes.items():
        label = unique(_NAMES.get(name, name), taken)
        rows.append(("plane", name, {"hdu": label, "dtype": _dtype_of(plane)}))
        unit = product.units.get(name)
        yield image_unit(np.asarray(plane), [("BUNIT", unit)] if unit else [], name=label)
    if "dq" in product.planes:
        yield definitions_unit()
    for name, columns in product.tables.items():
        label = unique(name, taken)
        rows.append(("table", name, {"hdu": label, "columns": list(columns)}))
        rows += [("column", f"{name}.{column}", _dtype_of(values)) for column, values in columns.items()]
        units = {column: product.units.get(f"{name}.{column}", "") for column in columns}
        yield table_unit({column: np.asarray(values) for column, values in columns.items()}, label, units)
    yield _quantities_unit(product.quantities)
    yield provenance_unit(rows)


def read_product(contents: Contents, records: Records, verify: bool = True) -> Product:
    """A product of ours, all in memory.

    Raises
    ------
    FileError
        If `verify` is true and its content does not match the identity that was written with it; if the
        file is damaged.
    """
    try:
        return _read_product(contents, records, verify)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CalibrantError):
            raise
        raise FileError(
            f"the product cannot be understood: the file is damaged ({type(error).__name__}: {error})",
            where=contents.path,
            do="copy it back, or make it again",
        ) from error


def _read_product(contents: Contents, records: Records, verify: bool) -> Product:
    identity, outlined = outline(contents, records)
    tables = {name: read_columns(contents, records, name, table) for name, table in records.all("table")}
    planes = {
        name: _restored(_plane(contents, plane["hdu"]), plane["dtype"])
        for name, plane in records.all("plane")
    }
    product = replace(outlined, planes=planes, tables=tables)
    if verify and product.identity != identity:
        raise FileError(
            "the product was changed since it was written: its content is not what its identity says",
            where=contents.path,
            expected=identity[:19],
            got=product.identity[:19],
            do="make it again",
        )
    return product


def read_columns(
    contents: Contents, records: Records, name: str, table: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """The columns of one table of a product, as its record tells of it.

    Raises
    ------
    FileError
        If the table is not in the file.
    """
    hdu = contents.find(table["hdu"])
    if hdu is None:
        raise FileError(f"the table {name!r} is missing", where=contents.path, do="write it again")
    columns, dtypes = read_table(contents, hdu), records.mapping("column")
    return {column: _restored(columns[column], dtypes[f"{name}.{column}"]) for column in table["columns"]}


def outline(contents: Contents, records: Records) -> tuple[str, Product]:
    """The identity that was written with a product of ours, and the product without planes and tables.

    No pixel is read. The outline's own `Product.identity` means nothing.
    """
    facts = records.mapping("product")
    return facts["identity"], Product(
        kind=facts["kind"],
        instrument=facts["instrument"],
        keys=facts["keys"],
        epoch=facts["epoch"],
        units=facts["units"],
        quantities=tuple(_quantities(contents)),
        provenance=_provenance(records),
    )


def _primary(product: Product) -> Unit:
    cards: list[CardLike] = [
        (VERSION, LAYOUT_VERSION, "version of this layout"),
        ("CALFORM", "product"),
        ("KIND", product.kind, "kind of product"),
        ("CALINSTR", product.instrument, "instrument"),
    ]
    if product.epoch is not None:
        cards.append(("DATE-AVG", iso_time(product.epoch).rstrip("Z"), "middle of its inputs, UTC"))
    cards += [(f"KEY {name}", _card_value(value)) for name, value in product.keys.items()]
    cards.append(("IDENTITY", product.identity))
    made = product.provenance
    cards.append(("HISTORY", f"calibrant: {made.effect or product.kind} of {len(made.inputs)} files"))
    cards += [("HISTORY", f"calibrant: {note}") for note in made.notes]
    return image_unit(None, cards, primary=True)


def _card_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _rows(product: Product) -> Iterator[Row]:
    for name in ("kind", "instrument", "keys", "epoch", "units", "identity"):
        yield "product", name, getattr(product, name)
    made = product.provenance
    yield "made", "effect", made.effect
    yield "made", "created", made.created
    yield from (("input", entry.name, entry.hash) for entry in made.inputs)
    yield from (("parent", "", parent) for parent in made.parents)
    yield from (("option", name, value) for name, value in made.options.items())
    yield from (("version", name, value) for name, value in made.versions.items())
    yield from (("note", "", note) for note in made.notes)


def _provenance(records: Records) -> Provenance:
    made = records.mapping("made")
    return Provenance(
        effect=made["effect"],
        inputs=tuple(Input(name, value) for name, value in records.all("input")),
        parents=tuple(value for _, value in records.all("parent")),
        options=records.mapping("option"),
        versions=records.mapping("version"),
        created=made["created"],
        notes=tuple(value for _, value in records.all("note")),
    )


def _quantities_unit(quantities: tuple[Quantity, ...]) -> Unit:
    columns: dict[str, NDArray[Any]] = {
        "name": np.array([q.name for q in quantities], np.str_),
        "place": np.array([q.place for q in quantities], np.str_),
        "value": np.array([q.value for q in quantities], np.float64),
        "sigma": np.array([np.nan if q.sigma is None else q.sigma for q in quantities], np.float64),
        "has_sigma": np.array([q.sigma is not None for q in quantities], np.bool_),
        "unit": np.array([q.unit for q in quantities], np.str_),
    }
    return table_unit(columns, QUANTITIES)


def _quantities(contents: Contents) -> Iterator[Quantity]:
    hdu = contents.find(QUANTITIES)
    if hdu is None:
        raise FileError("the table QUANTITIES is missing", where=contents.path, do="write it again")
    table = {name: values.tolist() for name, values in read_table(contents, hdu).items()}
    order = ("name", "value", "sigma", "unit", "place")
    for known, *entry in zip(table["has_sigma"], *(table[name] for name in order), strict=True):
        quantity = Quantity(*entry)
        yield quantity if known else replace(quantity, sigma=None)


def _dtype_of(values: NDArray[Any]) -> str:
    dtype = np.asarray(values).dtype
    return "text" if dtype.kind in "OUS" else dtype.newbyteorder("<").str


def _restored(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The type that FITS had no word for: bool and float16 planes."""
    return values if dtype == "text" else values.astype(np.dtype(dtype).newbyteorder("="), copy=False)


def _plane(contents: Contents, name: str) -> NDArray[Any]:
    hdu = contents.find(name)
    if hdu is None:
        raise FileError(f"the plane {name} is missing", where=contents.path, do="write it again")
    return FitsSource.of(contents, hdu).load()
