"""Traces: where the light of a source runs along the dispersion, and its spectrum without jumps.

See docs/effects/trace.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._slice_pixels import upright
from calibrant.effects._trace_extract import spectrum
from calibrant.effects._trace_find import centroids, of_alpha, smooth, start
from calibrant.effects.common import Record
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import Frame
from calibrant.instrument.slices import SliceMap
from calibrant.product import Kind, Product, Quantity

NAME = "trace"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    planes={"image": "The frame that was traced, NaN where it is bad."},
    quantities={
        "lost": "Rows of the slice without a centre of their own; the place is the slice.",
        "light": "Mean of the slice; the place is the slice.",
    },
)
METHODS = ("centroid", "alpha", "as_published")
F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Found = tuple[F8, F8, NDArray[np.bool_], F8]
"""Column, sigma, whether the row has a say, and its own centre."""


def measure(
    frame: Frame,
    slices: SliceMap,
    *,
    method: str = "centroid",
    numbers: Sequence[int] | None = None,
    alpha: float = 0.0,
    fwhm: float = 2.5,
    degree: int = 4,
    clip: float = 4.0,
) -> Product:
    """The columns along which a source, or a place in the slice, runs over the rows.

    Parameters
    ----------
    frame : Frame
        (rows, cols), any unit.
    slices : SliceMap
        With alpha for the method ``alpha``; ``centroid`` uses it if it is there.
    method : str
        ``centroid``: the middle of the light in each row, and a robust polynomial through it; ``alpha``:
        where the map has one alpha, between pixels; ``as_published``: the brightest pixel of each row.
    numbers : sequence of int, optional
        Slices; by default the brightest one (all of them for ``alpha``).
    alpha : float
        Arcsec, for ``alpha``.
    fwhm : float
        Of the window of a centroid, pixels: about that of the source.
    degree : int
        Of the polynomial.
    clip : float
        Rows further off than so many times the scatter are left out.

    Returns
    -------
    Product
        Table ``trace``: slice, row, col [pixel], sigma [pixel], used (whether the row had a centre that was
        kept), centre [pixel] of the row by itself; NaN where there is none. Plane and quantities of `KIND`.

    Raises
    ------
    OptionError
        If an option has no meaning, or the map has no alpha.
    ShapeError
        If the map is of another size.
    SelectionError
        If there is no such slice, no light, or the trace is lost in nearly all rows.
    """
    if method not in METHODS:
        raise OptionError("unknown method", where="method", expected=" or ".join(METHODS), got=method)
    if not (fwhm > 0 and degree >= 0 and clip > 0):
        raise OptionError(
            "an option of the trace has no meaning",
            where=NAME,
            expected="fwhm > 0, degree >= 0, clip > 0",
            got=f"fwhm {fwhm}, degree {degree}, clip {clip}",
        )
    if method == "alpha" and slices.alpha is None:
        raise OptionError("the slice map has no positions along slices (alpha)", where=slices.name)
    record = Record({"method": method, "alpha": alpha, "fwhm": fwhm, "degree": degree, "clip": clip})
    record.options["dispersion"] = slices.dispersion
    values, variance = upright(frame, slices, NAME)
    turned = slices.turned()
    chosen = (
        tuple(numbers) if numbers else turned.numbers if method == "alpha" else (brightest(frame, slices),)
    )
    parts, quantities = [], []
    for number in chosen:
        inside = turned.mask(number)
        if method == "alpha":
            assert turned.alpha is not None
            col = of_alpha(turned.alpha, inside, alpha)
            found = col, np.zeros(len(col)), np.isfinite(col), np.full(len(col), np.nan)
        elif method == "as_published":
            found = _published(values, inside)
        else:
            found = _centred(frame, values, variance, turned, number, record)
        parts.append((number, *found))
        quantities += _quantities(number, found, inside, (values, variance), frame.unit)
    image = np.ascontiguousarray(slices.upright(values), np.float32)
    return _product(frame, image, _table(parts), quantities, record)


def brightest(frame: Frame, slices: SliceMap, offset: int = 0) -> int:
    """Number of the slice with the largest sum of light, or of one so many numbers on.

    Raises
    ------
    SelectionError
        If no slice has light, or there is no slice so far from the brightest.
    """
    values, _ = upright(frame, slices, NAME)
    ids = slices.turned().ids
    numbers = sorted(slices.numbers)
    good = np.isfinite(values) & (ids > 0)
    if not good.any():
        raise SelectionError("no slice has a good pixel", where=frame.name)
    sums = np.bincount(ids[good], values[good], max(numbers) + 1)[numbers]
    place = int(np.argmax(sums)) + offset
    if not 0 <= place < len(numbers):
        raise SelectionError(
            f"there is no slice {offset:+d} from the brightest",
            where=frame.name,
            expected=f"{numbers[0]} to {numbers[-1]}",
            got=f"{numbers[int(np.argmax(sums))]} {offset:+d}",
        )
    return numbers[place]


def _published(values: F8, inside: NDArray[np.bool_]) -> Found:
    """The brightest pixel of each row, whatever it is; column 0 in rows without light, as it was."""
    light = np.where(inside & np.isfinite(values), values, 0.0)
    col = light.argmax(axis=1).astype(np.float64)
    return col, np.full(len(col), 12**-0.5), light.max(axis=1) > 0, np.full(len(col), np.nan)


def _centred(
    frame: Frame, values: F8, variance: F8 | None, turned: SliceMap, number: int, record: Record
) -> Found:
    inside = turned.mask(number)
    if not (inside & np.isfinite(values)).any():
        raise SelectionError("the slice has no good pixel", where=frame.name, got=f"slice {number}")
    place = turned.within(number) if turned.alpha is None else turned.alpha
    begin = start(values, inside, place)
    options = record.options
    col, sigma = centroids(values, variance, inside, begin, options["fwhm"])
    found = smooth(col, sigma, options["degree"], options["clip"])
    if found is None:
        raise SelectionError(
            "the trace is lost: too few rows have light to follow",
            where=frame.name,
            expected=f"{options['degree'] + 3} rows at least",
            got=f"{int(np.isfinite(col).sum())} in slice {number}",
            do="name a slice with light, or take the trace of an alpha",
        )
    missing = int(inside.any(axis=1).sum() - found[2].sum())
    if missing:
        record.notes.append(
            f"slice {number}: {missing} rows have no centre of their own, the trace spans them"
        )
    column, error, used = found
    column[~inside.any(axis=1)] = np.nan
    return column, error, used, col


def _quantities(
    number: int, found: Found, inside: NDArray[np.bool_], light: tuple[F8, F8 | None], unit: str
) -> list[Quantity]:
    values, variance = light
    lit = inside & np.isfinite(values)
    there, count = int(inside.any(axis=1).sum()), int(lit.sum())
    mean = float(values[lit].mean()) if count else float("nan")
    error = None if variance is None or not count else float(np.sqrt(variance[lit].sum())) / count
    return [
        Quantity("light", mean, error, unit, str(number)),
        Quantity("lost", float(there - found[2].sum()), None, "", str(number)),
    ]


def _table(parts: Sequence[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    rows = [len(part[1]) for part in parts]
    return {
        "slice": np.repeat(np.array([part[0] for part in parts], np.int32), rows),
        "row": np.concatenate([np.arange(count, dtype=np.int32) for count in rows]),
        "col": np.concatenate([part[1] for part in parts]),
        "sigma": np.concatenate([part[2] for part in parts]),
        "used": np.concatenate([part[3] for part in parts]),
        "centre": np.concatenate([part[4] for part in parts]),
    }


def _product(
    frame: Frame, image: F4, table: dict[str, NDArray[Any]], quantities: list[Quantity], record: Record
) -> Product:
    series = Exposures.from_frames([frame])
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys={"detector": frame.exposure.detector},
        epoch=frame.exposure.mid,
        planes={"image": image},
        tables={"trace": table},
        units={"image": frame.unit, **{f"trace.{name}": "pixel" for name in ("col", "sigma", "centre")}},
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, series, {}),
    )


# --- the spectrum -----------------------------------------------------------------------------------------


def extract(frame: Frame, slices: SliceMap, product: Product, *, width: float = 1.0) -> Product:
    """The light along a trace, at columns between pixels: no jumps where the trace changes its column.

    Parameters
    ----------
    frame : Frame
        (rows, cols).
    slices : SliceMap
    product : Product
        Of `measure`.
    width : float
        Columns whose light is added up, centred on the trace; parts of pixels count as parts of the smooth
        curve through the sums of pixels. 1: what a pixel centred on the trace would have seen.

    Returns
    -------
    Product
        Table ``spectrum``: slice, row, wavelength [um] (NaN without such a map), value [unit], sigma [unit]
        (NaN if the frame has no variance; not of the trace's place). NaN where pixels are bad or the window
        leaves the slice.

    Raises
    ------
    OptionError, SelectionError, ShapeError
        If the width is not positive, the product no trace, the map of another size.
    """
    if product.kind != NAME:
        raise SelectionError("not a trace", expected=f"a product of kind {NAME}", got=product.kind)
    if not width > 0:
        raise OptionError("a width is positive", where="width", expected="columns", got=width)
    values, variance = upright(frame, slices, NAME)
    turned, table = slices.turned(), product.tables["trace"]
    if len(table["row"]) and int(table["row"].max()) >= len(values):
        raise SelectionError("the trace is of a larger image", where=frame.name, got=int(table["row"].max()))
    made: dict[str, list[NDArray[Any]]] = {k: [] for k in ("slice", "row", "wavelength", "value", "sigma")}
    for number in dict.fromkeys(table["slice"].tolist()):
        here = table["slice"] == number
        rows, cols = np.asarray(table["row"])[here], np.asarray(table["col"], np.float64)[here]
        inside = turned.mask(number)
        value, sigma = spectrum(values, variance, inside, rows, cols, width)
        made["slice"].append(np.full(len(rows), number, np.int32))
        made["row"].append(rows)
        made["wavelength"].append(_between(turned.wavelength, rows, cols))
        made["value"].append(value)
        made["sigma"].append(sigma)
    record = Record({"width": width, "method": product.provenance.options.get("method")})
    columns = {name: np.concatenate(parts) for name, parts in made.items()}
    lost = int(np.isnan(columns["value"]).sum())
    if lost:
        record.notes.append(f"{lost} rows have no value: a bad pixel, or the window leaves the slice")
    series = Exposures.from_frames([frame])
    units = {"spectrum.wavelength": "um", "spectrum.value": frame.unit, "spectrum.sigma": frame.unit}
    return Product(
        "spectrum",
        instrument=series.instrument.name,
        keys={"detector": frame.exposure.detector},
        epoch=frame.exposure.mid,
        tables={"spectrum": columns},
        units=units,
        provenance=record.provenance(NAME, series, {"trace": product}),
    )


def _between(plane: F8 | None, rows: NDArray[Any], cols: F8) -> F8:
    """A smooth map at columns between pixels, by straight lines; NaN beyond its pixels."""
    found: F8 = np.full(len(rows), np.nan)
    if plane is None:
        return found
    there = np.isfinite(cols)
    row, col = rows[there], np.clip(cols[there], 0, plane.shape[1] - 1)
    left = np.minimum(np.floor(col).astype(int), plane.shape[1] - 2)
    part = col - left
    one, other = plane[row, left], plane[row, left + 1]
    found[there] = np.where(part == 0, one, one + part * (other - one))
    return found
