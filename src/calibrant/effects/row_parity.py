"""Row parity: rows of even number that read higher, or stronger, than those of odd number.

``frame = light * (1 + gain * s) + offset * s``, s = 1 in even rows and -1 in odd ones; see
docs/effects/row_parity.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects.common import Record
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Frame
from calibrant.instrument.slices import SliceMap
from calibrant.product import Kind, Product, Quantity
from calibrant.stats import mad_std

NAME = "row_parity"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    planes={"group": "Row of the table `groups` that holds for the pixel; -1: the mean of all."},
    quantities={
        "gain": "Half the relative difference of even and odd rows; the place is the slice.",
        "offset": "Half the difference of even and odd rows that does not follow the light.",
    },
)
MODES = {"gain": ("gain",), "offset": ("offset",), "both": ("offset", "gain")}
AXES = {"rows": 0, "cols": 1}
SMOOTH = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
"""Along the rows: lets no alternation pass, and of slow light nearly all."""
ALTERNATION = SMOOTH * [1, -1, 1, -1, 1]
"""Lets an alternation pass, and of fringes of P rows sin^4(pi/P)."""
REACHED = 2  # rows to either side
CLIP = 4.0
ROUNDS = 5
PARTS = 32  # along the rows, whose scatter gives the errors
LEAST = 8  # parts with pixels
F8 = NDArray[np.float64]


@dataclass(frozen=True)
class _Group:
    """What was found of one slice: values and sigmas by name."""

    name: str
    value: dict[str, float]
    sigma: dict[str, float]
    pixels: int


def measure(
    frame: Frame, *, slices: SliceMap | None = None, mode: str = "gain", axis: str | None = None
) -> Product:
    """How far even and odd rows differ.

    Parameters
    ----------
    frame : Frame
        (rows, cols), any unit, of light that changes slowly from row to row, fringes included.
    slices : SliceMap, optional
        Measure each slice by itself; else the whole image is one.
    mode : str
        ``gain``: the difference follows the light; ``offset``: it does not; ``both``.
    axis : str, optional
        ``rows``, or ``cols`` where columns alternate; by default along the dispersion of `slices`, or rows.

    Returns
    -------
    Product
        Quantities gain and offset [unit of the frame] of each slice, ``""`` for all together; table
        ``groups``. What was not asked for is 0. For pictures, tables ``parts`` (row, before, after, sigma:
        half the relative difference) and ``example`` (row, before, after) of one column.

    Raises
    ------
    OptionError, ShapeError
        If an option has no meaning, or the map does not fit.
    SelectionError
        If there are too few pixels with neighbours.
    """
    axis = axis or ("rows" if slices is None else slices.dispersion)
    if mode not in MODES or axis not in AXES:
        words = (MODES, mode, "mode") if mode not in MODES else (AXES, axis, "axis")
        raise OptionError("unknown word", where=words[2], expected=" or ".join(words[0]), got=words[1])
    loaded = frame.load()
    if len(loaded.shape) != 2:
        raise ShapeError("row parity is measured on images of two axes", where=frame.name, got=frame.shape)
    data = _turned(_good(loaded), axis)
    ids = np.zeros(data.shape, np.int32)
    if slices is not None:
        slices.check_fits(loaded.shape, frame.name)
        ids = _turned(slices.ids, axis)
    difference, light = _filtered(data, ids)
    record = Record({"mode": mode, "axis": axis})
    groups = list(_groups(difference, light, ids, slices, MODES[mode], record))
    if not groups:
        raise SelectionError(
            "too few rows have two good neighbours on either side",
            where=frame.name,
            expected=f"pixels in {LEAST} of {PARTS} parts of the rows",
            do="give a frame with light in more of its rows",
        )
    tables = {"groups": _table(groups)}
    plane = np.full(loaded.shape, -1, np.int16)
    for index, group in enumerate(groups):
        if group.name:
            assert slices is not None
            plane[slices.ids == int(group.name)] = index
    fixed = _corrected(_good(loaded), plane, tables["groups"], axis)[0]
    tables |= _shown(data, difference, light, _turned(fixed, axis), ids)
    return _product(loaded, groups, tables, plane, record)


def _turned(plane: NDArray[Any], axis: str) -> NDArray[Any]:
    return plane if axis == "rows" else np.swapaxes(plane, -1, -2)


def _good(frame: Frame) -> F8:
    data = np.array(frame.data, np.float64)
    if frame.dq is not None:
        data[(np.asarray(frame.dq) & np.uint32(DQ.DO_NOT_USE)) != 0] = np.nan
    return data


def _filtered(data: F8, ids: NDArray[np.int32]) -> tuple[F8, F8]:
    """The alternation with the sign of even rows, and the light without it; NaN across edges of slices."""
    rows = len(data)
    difference, light = np.full(data.shape, np.nan), np.full(data.shape, np.nan)
    if rows <= 2 * REACHED:
        return difference, light
    inner = slice(REACHED, rows - REACHED)
    parts = [slice(k, rows - 2 * REACHED + k) for k in range(2 * REACHED + 1)]
    difference[inner] = sum(weight * data[part] for weight, part in zip(ALTERNATION, parts, strict=True))
    light[inner] = sum(weight * data[part] for weight, part in zip(SMOOTH, parts, strict=True))
    difference[1::2] *= -1.0
    for part in parts:
        difference[inner][ids[part] != ids[inner]] = np.nan
    return difference, light


def _groups(
    difference: F8,
    light: F8,
    ids: NDArray[np.int32],
    slices: SliceMap | None,
    names: tuple[str, ...],
    record: Record,
) -> Iterator[_Group]:
    for number in (0,) if slices is None else slices.numbers:
        found = _fit("" if slices is None else str(number), difference, light, ids == number, names)
        if found is None:
            record.notes.append(f"slice {number}: too few good pixels, no row parity was measured")
        else:
            yield found


def _fit(
    name: str, difference: F8, light: F8, mask: NDArray[np.bool_], names: tuple[str, ...]
) -> _Group | None:
    """Least squares over the good pixels, outliers left out; errors from the scatter of parts of the rows."""
    rows, cols = np.nonzero(mask & np.isfinite(difference))
    part = rows * PARTS // len(difference)
    e, s = difference[rows, cols], light[rows, cols]
    keep = np.ones(e.size, bool)
    for _ in range(ROUNDS):
        sums = _sums(e[keep], s[keep], part[keep], names)
        if np.count_nonzero(sums[0][:, 0, 0]) < LEAST:
            return None
        values = _solved(sums[0].sum(axis=0), sums[1].sum(axis=0))
        residual = e - _columns(s, names) @ values
        new = np.abs(residual - np.median(residual[keep])) <= CLIP * float(mad_std(residual[keep]))
        if np.array_equal(new, keep):
            break
        keep = new
    normal, right = _sums(e[keep], s[keep], part[keep], names)
    used = np.flatnonzero(normal[:, 0, 0])
    whole, sums_right = normal.sum(axis=0), right.sum(axis=0)
    without = np.array([_solved(whole - normal[b], sums_right - right[b]) for b in used])
    spread = (len(used) - 1) / len(used) * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    values = _solved(whole, sums_right)
    return _Group(
        name,
        dict(zip(names, map(float, values), strict=True)),
        dict(zip(names, map(float, np.sqrt(spread)), strict=True)),
        int(keep.sum()),
    )


def _columns(light: F8, names: tuple[str, ...]) -> F8:
    return np.stack([light if name == "gain" else np.ones_like(light) for name in names], axis=1)


def _sums(e: F8, light: F8, part: NDArray[np.int64], names: tuple[str, ...]) -> tuple[F8, F8]:
    """Normal matrices and right-hand sides of each part of the rows."""
    columns = _columns(light, names)
    n = len(names)
    normal, right = np.empty((PARTS, n, n)), np.empty((PARTS, n))
    for i in range(n):
        right[:, i] = np.bincount(part, columns[:, i] * e, PARTS)
        for j in range(n):
            normal[:, i, j] = np.bincount(part, columns[:, i] * columns[:, j], PARTS)
    return normal, right


def _solved(normal: F8, right: F8) -> F8:
    found: F8 = np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0], np.float64)
    return found


def _table(groups: list[_Group]) -> dict[str, NDArray[Any]]:
    table: dict[str, NDArray[Any]] = {
        "name": np.array([group.name for group in groups]),
        "pixels": np.array([group.pixels for group in groups], np.int64),
    }
    for what in ("gain", "offset"):
        value = np.array([group.value.get(what, 0.0) for group in groups], np.float64)
        sigma = np.array([group.sigma.get(what, 0.0) for group in groups], np.float64)
        table |= {what: value, f"{what}_sigma": sigma}
    return table


def _shown(
    data: F8, difference: F8, light: F8, fixed: F8, ids: NDArray[np.int32]
) -> dict[str, dict[str, NDArray[Any]]]:
    """Before and after: half the relative difference in parts of the rows, and the brightest column."""
    after = _filtered(fixed, ids)[0]
    lit = np.isfinite(difference) & np.isfinite(after) & (light > 0.5 * np.nanpercentile(light, 90))
    row, column = np.nonzero(lit)
    part = row * PARTS // len(data)
    count = np.maximum(np.bincount(part, minlength=PARTS), 1)
    middle = (np.arange(PARTS) + 0.5) * len(data) / PARTS
    table: dict[str, NDArray[Any]] = {"row": middle}
    for name, plane in (("before", difference), ("after", after)):
        value = plane[lit] / light[lit]
        table[name] = np.bincount(part, value, PARTS) / count
        square = np.bincount(part, (value - table[name][part]) ** 2, PARTS)
        table["sigma"] = np.sqrt(square / count / np.maximum(count - 1, 1))
    used = np.bincount(part, minlength=PARTS) > LEAST
    best = int(np.bincount(column, light[lit], data.shape[1]).argmax())
    return {
        "parts": {name: values[used] for name, values in table.items()},
        "example": {
            "col": np.full(len(data), best, np.int32),
            "row": np.arange(len(data), dtype=np.int32),
            "before": data[:, best],
            "after": fixed[:, best],
        },
    }


def _product(
    frame: Frame,
    groups: list[_Group],
    tables: dict[str, dict[str, NDArray[Any]]],
    plane: NDArray[np.int16],
    record: Record,
) -> Product:
    table = tables["groups"]
    quantities = []
    for what, unit in (("gain", ""), ("offset", frame.unit)):
        value, sigma = table[what], table[f"{what}_sigma"]
        if what not in groups[0].value:
            continue
        quantities += [
            Quantity(what, v, s, unit, group.name)
            for group, v, s in zip(groups, value, sigma, strict=True)
            if group.name
        ]
        quantities.append(Quantity(what, *_together(value, sigma), unit))
    series = Exposures.from_frames([frame])
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys={"detector": frame.exposure.detector},
        epoch=frame.exposure.mid,
        planes={"group": plane},
        tables=tables,
        units={
            "group": "",
            **{f"groups.{name}": frame.unit for name in ("offset", "offset_sigma")},
            **{f"example.{name}": frame.unit for name in ("before", "after")},
        },
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, series, {}),
    )


def _together(value: F8, sigma: F8) -> tuple[float, float]:
    """Weighted mean of the slices, and its sigma."""
    if not (sigma > 0).all():
        return float(value.mean()), float(np.sqrt((sigma**2).sum()) / len(sigma))
    weight: F8 = 1.0 / sigma**2
    return float((weight * value).sum() / weight.sum()), float(weight.sum() ** -0.5)


def apply(frame: Frame, product: Product) -> Frame:
    """The frame with even and odd rows alike; fringes stay as they are.

    Parameters
    ----------
    frame : Frame
        (rows, cols), in the unit that was measured if there is an offset.
    product : Product
        Of `measure`.

    Returns
    -------
    Frame
        ``(data - offset s) / (1 + gain s)``; the error of gain and offset goes to `systematic`.

    Raises
    ------
    HistoryError
        If it was done already.
    SelectionError, ShapeError, UnitError
        If the product does not belong to the frame.
    """
    frame.require(NAME, forbids=FORBIDS)
    if product.kind != NAME:
        raise SelectionError("not a row parity", expected=f"a product of kind {NAME}", got=product.kind)
    loaded = frame.load()
    plane, table = np.asarray(product.planes["group"]), product.tables["groups"]
    if plane.shape != loaded.shape:
        raise ShapeError(
            "the row parity is of another size", where=frame.name, expected=plane.shape, got=loaded.shape
        )
    measured = product.units.get("groups.offset", "")
    if np.any(table["offset"]) and measured != frame.unit:
        raise UnitError("the offset is in another unit", where=frame.name, expected=measured, got=frame.unit)
    data, scale, error = _corrected(
        np.asarray(loaded.data, np.float64), plane, table, str(product.provenance.options.get("axis", "rows"))
    )
    before = 0.0 if loaded.systematic is None else np.asarray(loaded.systematic) * scale**2
    variance = None if loaded.variance is None else np.asarray(loaded.variance) * scale**2
    return replace(
        loaded,
        data=data.astype(np.float32),
        variance=None if variance is None else variance.astype(np.float32),
        systematic=(before + error).astype(np.float32),
        systematic_from=frame.systematic_from | {product.identity},
        history=(*frame.history, Applied(NAME, product.identity, dict(product.provenance.options))),
    )


def _corrected(data: F8, plane: NDArray[np.int16], table: Any, axis: str) -> tuple[F8, F8, F8]:
    """Data with even and odd rows alike, the factor that did it, and the square of its error."""
    sign = np.ones((plane.shape[0], 1) if axis == "rows" else plane.shape[1])
    sign[1::2] = -1.0
    of = {what: _spread_out(plane, table, what) for what in ("gain", "offset")}
    scale = 1.0 / (1.0 + sign * of["gain"][0])
    data = (data - sign * of["offset"][0]) * scale
    return data, scale, (of["gain"][1] * scale * data) ** 2 + (of["offset"][1] * scale) ** 2


def _spread_out(plane: NDArray[np.int16], table: Any, what: str) -> tuple[F8, F8]:
    """Value and sigma of each pixel; those of no slice have what all together have."""
    value, sigma = np.asarray(table[what], np.float64), np.asarray(table[f"{what}_sigma"], np.float64)
    mean, error = _together(value, sigma)
    return np.append(value, mean)[plane], np.append(sigma, error)[plane]


# --- as it was published ----------------------------------------------------------------------------------


def binomial(frame: Frame, *, axis: str = "rows") -> Frame:
    """Each row as a quarter, half and quarter of the row before, itself and the row after, as published.

    It is no correction of the parity but a filter along the rows: a signal of period P rows keeps cos^2(pi/P)
    of its amplitude (`transfer`), so that fringes become weaker, by 18 % at 7.3 rows. The noise of neighbours
    is no longer independent (correlation 2/3, and 1/6 over two rows), and its variance 3/8.

    Parameters
    ----------
    frame : Frame
        (..., rows, cols).
    axis : str
        ``rows``, or ``cols`` to filter along the columns.

    Returns
    -------
    Frame
        Data in their own dtype, the first and the last row untouched; `variance` propagated.

    Raises
    ------
    HistoryError
        If row parity was corrected already.
    OptionError
        For another word than rows or cols.
    """
    frame.require(NAME, forbids=FORBIDS)
    if axis not in AXES:
        raise OptionError("unknown word", where="axis", expected=" or ".join(AXES), got=axis)
    data = frame.data if isinstance(frame.data, np.ndarray) else frame.data.load()
    made = data.copy()
    old, new = _turned(data, axis), _turned(made, axis)
    new[..., 1:-1, :] = (old[..., :-2, :] + 2 * old[..., 1:-1, :] + old[..., 2:, :]) / 4
    variance = None
    if frame.variance is not None:
        whole = np.asarray(frame.load().variance)
        variance = whole.copy()
        old, new = _turned(whole, axis), _turned(variance, axis)
        new[..., 1:-1, :] = (old[..., :-2, :] + 4 * old[..., 1:-1, :] + old[..., 2:, :]) / 16
    note = "noise of neighbouring rows is correlated by 2/3; fringes of P rows keep cos^2(pi/P)"
    return replace(
        frame,
        data=made,
        variance=variance,
        history=(*frame.history, Applied(NAME, None, {"mode": "binomial", "axis": axis}, note)),
    )


def transfer(period: float) -> float:
    """What `binomial` leaves of the amplitude of a signal of so many rows: cos^2(pi / period)."""
    if not period > 0:
        raise OptionError("a period is positive", where="period", expected="rows", got=period)
    return math.cos(math.pi / period) ** 2
