"""Flatness of a source: how even it lights the slices of a detector, and how strong it is beside another.

Structure that keeps its place in the slice while the slice bends over the detector belongs to the light, not
to the detector; see docs/effects/flatness.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from calibrant.effects._slice_pixels import cuts, quarters, upright
from calibrant.effects.common import Record
from calibrant.errors import OptionError, SelectionError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import Frame
from calibrant.instrument.slices import SliceMap
from calibrant.product import Kind, Product, Quantity

NAME = "flatness"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    quantities={
        "rms": "Of the structure across a slice, relative, noise removed; the place is the slice.",
        "correlation_alpha": "Of profiles of far rows at the same place in the slice; mean of the slices.",
        "correlation_column": "Of the same profiles in the same columns.",
        "ratio": "Of the signals of two sources; the place is the slice, none: all of them.",
        "expected": "Of that ratio, from transmissions that were given.",
        "pull": "Difference of ratio and expected in units of its sigma.",
    },
)
CORE = 0.12  # of a slice at each edge, where its illumination falls
EACH = 8  # rows to either side whose profiles are averaged
PARTS = 16  # of the rows: their scatter gives errors
MOST = 128  # rows of a slice that its profile is made of
SPLINE = 5  # degree
F8 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Slice:
    """One slice: good pixels, with value and variance relative to the mean of their row."""

    name: str
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    alpha: F8
    value: F8
    variance: F8
    step: float

    def about(self, row: int) -> NDArray[np.int64]:
        """The rows about one."""
        return self.lines[np.abs(self.lines - row) <= EACH]

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        """Rows that have pixels."""
        return np.unique(self.row)

    def line(self, row: int, by: str) -> tuple[F8, F8, F8]:
        """Place (alpha, or column), value and variance of the pixels of a row, in order of place."""
        here = slice(*np.searchsorted(self.row, [row, row + 1]))
        place = self.alpha[here] if by == "alpha" else self.col[here].astype(np.float64)
        order = np.argsort(place)
        return place[order], self.value[here][order], self.variance[here][order]


def measure(frame: Frame, slices: SliceMap, *, rows: Sequence[int] | None = None) -> Product:
    """In-slice structure by slice and row, and whether it follows the slice or the columns.

    Parameters
    ----------
    frame : Frame
        (rows, cols), stray light removed if its shape matters; any unit.
    slices : SliceMap
        With alpha.
    rows : sequence of int, optional
        Rows along the dispersion whose profiles are told; a quarter, half and three quarters if not given.

    Returns
    -------
    Product
        Table ``slices``: slice, mean [unit], rms, sigma; ``rows``: slice, row, mean [unit], rms, sigma;
        ``profiles``: slice, row, alpha [arcsec], value (relative), sigma; ``cuts``: the rows as they are.
        Quantities of `KIND`.

    Raises
    ------
    ShapeError
        If the map is of another size.
    OptionError
        If the map has no alpha, or a row lies outside.
    SelectionError
        If no slice has light.
    """
    record = Record()
    planes, count = _upright(frame, slices), slices.turned().shape[0]
    chosen = quarters(count) if rows is None else list(rows)
    if not chosen or min(chosen) < 0 or max(chosen) >= count:
        raise OptionError("a row lies outside", where="rows", expected=f"0 to {count - 1}", got=str(chosen))
    record.options |= {"rows": chosen, "dispersion": slices.dispersion}
    found = list(_slices(planes, slices, record))
    if not found:
        raise SelectionError("no slice has light in it", where=frame.name, do="give a lit frame, and its map")
    profiles = {(one.name, row): _profile(one, one.about(row)) for one in found for row in chosen}
    tables = _tables(found, profiles, planes, slices)
    tables["cuts"] = cuts(chosen, slices, {"value": planes[0]})
    quantities = [
        Quantity("rms", float(value), float(sigma), "", str(name))
        for name, value, sigma in zip(*(tables["slices"][k] for k in ("slice", "rms", "sigma")), strict=True)
    ]
    quantities += _correlations(found, chosen)
    return _product(frame, tables, quantities, record)


def _upright(frame: Frame, slices: SliceMap) -> tuple[F8, F8]:
    """Values, NaN where bad, and their variance (NaN if unknown), wavelength along the rows."""
    if slices.alpha is None:
        raise OptionError("the slice map has no positions along slices (alpha)", where=slices.name)
    values, variance = upright(frame, slices, NAME)
    return values, np.full(values.shape, np.nan) if variance is None else variance


def _slices(planes: tuple[F8, F8], slices: SliceMap, record: Record) -> Iterator[_Slice]:
    turned = slices.turned()
    values, variance = planes
    assert turned.alpha is not None
    for number in turned.numbers:
        place = turned.within(number)
        good = (place > CORE) & (place < 1 - CORE) & np.isfinite(values)
        row, col = np.nonzero(good)
        if not row.size:
            record.notes.append(f"slice {number}: no good pixel, left out")
            continue
        count = np.bincount(row, minlength=len(values))
        mean = np.bincount(row, values[good], len(values)) / np.maximum(count, 1)
        level = float(np.median(mean[count > 0]))
        whole = (count > 0.7 * np.median(count[count > 0])) & (mean > 0.01 * level)
        if not level > 0 or not whole.any():
            record.notes.append(f"slice {number}: no light, left out")
            continue
        keep = whole[row]
        row, col = row[keep], col[keep]
        alpha = turned.alpha[row, col]
        step = float(np.median(np.abs(np.diff(alpha)[np.diff(row) == 0])))
        yield _Slice(
            str(number),
            row,
            col,
            alpha,
            values[row, col] / mean[row],
            variance[row, col] / mean[row] ** 2,
            step,
        )


def _profile(one: _Slice, rows: NDArray[np.int64], by: str = "alpha") -> tuple[F8, F8, F8]:
    """Mean value at places a pixel apart: place, value, sigma of the mean."""
    grid, values, noise = _resampled(one, rows, by)
    return (grid, *_mean(values, noise))


def _resampled(one: _Slice, rows: NDArray[np.int64], by: str = "alpha") -> tuple[F8, F8, F8]:
    """Values of each row at places a pixel apart, by splines, and their variance; NaN outside of a row.

    Structure may be three pixels wide: splines of a lower degree would weaken it, by more where places lie
    between pixels.
    """
    lines = [line for row in rows if len((line := one.line(int(row), by))[0]) > SPLINE]
    if not lines:
        return np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0))
    step = one.step if by == "alpha" else 1.0
    low = math.ceil(float(np.median([line[0][0] for line in lines])) / step)
    high = math.floor(float(np.median([line[0][-1] for line in lines])) / step)
    grid = step * np.arange(low, high + 1)
    values, noise = np.full((2, len(lines), grid.size), np.nan)
    for k, (place, value, variance) in enumerate(lines):
        inside = (grid >= place[0]) & (grid <= place[-1])
        values[k, inside] = make_interp_spline(place, value, SPLINE)(grid[inside])
        noise[k, inside] = np.interp(grid[inside], place, variance)
    full = np.isfinite(values).sum(axis=0) > 0.5 * len(lines)
    return grid[full], values[:, full], noise[:, full]


def _mean(values: F8, noise: F8) -> tuple[F8, F8]:
    """Mean of the rows, and its sigma."""
    if not values.size:
        return np.zeros(0), np.zeros(0)
    there = np.isfinite(values)
    mean = np.nanmean(values, axis=0)
    if np.isnan(noise[there]).any():
        noise = (values - mean) ** 2
    return mean, np.sqrt(np.nansum(noise, axis=0)) / there.sum(axis=0)


def _rms(value: F8, sigma: F8) -> float:
    """Relative structure of a profile, what noise makes of it removed."""
    if value.size < 3:
        return math.nan
    return math.sqrt(max(float(value.var(ddof=1) - (sigma**2).mean()), 0.0)) / float(value.mean())


def _scatter(one: _Slice, rows: NDArray[np.int64]) -> tuple[float, float]:
    """rms of the mean profile, and its error from leaving out each part of the rows in turn."""
    _, values, noise = _resampled(one, rows[:: max(1, len(rows) // MOST)])
    whole = _rms(*_mean(values, noise))
    parts = np.array_split(np.arange(len(values)), min(PARTS, len(values)) or 1)
    if len(parts) < 2:
        return whole, math.nan
    left = [_rms(*_mean(np.delete(values, part, 0), np.delete(noise, part, 0))) for part in parts]
    return whole, float(np.sqrt((len(parts) - 1) * np.var(left)))


def _tables(
    found: Sequence[_Slice],
    profiles: Mapping[tuple[str, int], tuple[F8, F8, F8]],
    planes: tuple[F8, F8],
    slices: SliceMap,
) -> dict[str, dict[str, NDArray[Any]]]:
    values, ids = planes[0], slices.turned().ids
    by_name = {one.name: one for one in found}
    whole = {one.name: _scatter(one, one.lines) for one in found}
    means = {one.name: float(np.nanmean(values[ids == int(one.name)])) for one in found}
    keys = [key for key, profile in profiles.items() if profile[0].size]
    each = [_scatter(by_name[name], by_name[name].about(row)) for name, row in keys]
    levels = [float(np.nanmean(values[row][ids[row] == int(name)])) for name, row in keys]
    long = [(name, row, *line) for name, row in keys for line in zip(*profiles[name, row], strict=True)]
    return {
        "slices": {
            "slice": np.array([one.name for one in found]),
            "mean": np.array([means[one.name] for one in found]),
            "rms": np.array([whole[one.name][0] for one in found]),
            "sigma": np.array([whole[one.name][1] for one in found]),
        },
        "rows": {
            "slice": np.array([name for name, _ in keys]),
            "row": np.array([row for _, row in keys], np.int64),
            "mean": np.array(levels),
            "rms": np.array([value for value, _ in each]),
            "sigma": np.array([sigma for _, sigma in each]),
        },
        "profiles": {
            "slice": np.array([line[0] for line in long]),
            "row": np.array([line[1] for line in long], np.int64),
            **{k: np.array([line[n] for line in long]) for n, k in enumerate(("alpha", "value", "sigma"), 2)},
        },
    }


def _correlations(found: Sequence[_Slice], rows: Sequence[int]) -> list[Quantity]:
    """Of profiles of all pairs of rows, at the same alpha and in the same column: mean over slices."""
    made = []
    for by in ("alpha", "column"):
        values = np.array([_correlation(one, rows, by) for one in found])
        values = values[np.isfinite(values)]
        if values.size:
            sigma = float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else None
            made.append(Quantity(f"correlation_{by}", float(values.mean()), sigma))
    return made


def _correlation(one: _Slice, rows: Sequence[int], by: str) -> float:
    found = []
    for first, second in combinations(rows, 2):
        a, b = (_profile(one, one.about(row), by) for row in (first, second))
        if not (a[0].size and b[0].size):
            continue
        low, high = max(a[0][0], b[0][0]), min(a[0][-1], b[0][-1])
        if high - low < 5 * (one.step if by == "alpha" else 1.0):
            continue
        grid = a[0][(a[0] >= low) & (a[0] <= high)]
        pair = np.interp(grid, a[0], a[1]), np.interp(grid, b[0], b[1])
        if min(np.ptp(pair[0]), np.ptp(pair[1])) > 0:
            found.append(float(np.corrcoef(*pair)[0, 1]))
    return float(np.mean(found)) if found else math.nan


# --- two sources ------------------------------------------------------------------------------------------


def ratio(
    first: Frame,
    second: Frame,
    slices: SliceMap,
    *,
    transmissions: Sequence[tuple[float, float]] = (),
    over: Sequence[tuple[float, float]] = (),
) -> Product:
    """The signal of a source over that of another, beside what the optics between them let expect.

    Parameters
    ----------
    first, second : Frame
        (rows, cols), in the same unit, background removed.
    slices : SliceMap
    transmissions, over : sequence of (value, sigma)
        Factors of the first source's way, such as transmissions and brightness; of the second's. If given,
        ``expected`` and ``pull`` are told.

    Returns
    -------
    Product
        Quantities ratio (each slice, and all), expected, pull; tables ``slices``: slice, ratio, sigma;
        ``cuts``: three rows of both sources.

    Raises
    ------
    UnitError
        If units differ.
    ShapeError, SelectionError
        If sizes differ, or no slice has light in both.
    """
    if first.unit != second.unit:
        raise UnitError(
            "signals of different units have no ratio",
            where=second.name,
            expected=first.unit,
            got=second.unit,
        )
    planes = [_upright(frame, slices)[0] for frame in (first, second)]
    turned, record = slices.turned(), Record()
    rows: list[tuple[str, float, float]] = []
    for number in turned.numbers:
        place = turned.within(number)
        good = (place > CORE) & (place < 1 - CORE) & np.isfinite(planes[0]) & np.isfinite(planes[1])
        found = _ratio_of(planes[0], planes[1], good)
        if math.isfinite(found[0]):
            rows.append((str(number), *found))
        else:
            record.notes.append(f"slice {number}: no light in one of the two, left out")
    if not rows:
        raise SelectionError("no slice has light in both frames", where=f"{first.name}, {second.name}")
    value, sigma = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    mean, error = float(value.mean()), float(np.hypot(value.std(ddof=1) if len(rows) > 1 else 0.0, 0.0))
    error = math.hypot(error, float(np.sqrt((sigma**2).mean()))) / math.sqrt(len(rows))
    quantities = [Quantity("ratio", v, s, "", name) for name, v, s in rows]
    quantities.append(Quantity("ratio", mean, error))
    if transmissions or over:
        expected, its = _expected(transmissions, over)
        quantities.append(Quantity("expected", expected, its))
        quantities.append(Quantity("pull", (mean - expected) / math.hypot(error, its)))
    table = {"slice": np.array([row[0] for row in rows]), "ratio": value, "sigma": sigma}
    both = dict(zip(("first", "second"), planes, strict=True))
    tables = {"slices": table, "cuts": cuts(quarters(len(planes[0])), slices, both)}
    for name, frame in (("first", first), ("second", second)):
        record.options[name] = str(frame.exposure.get("source") or frame.name)
    record.options["dispersion"] = slices.dispersion
    return _product(first, tables, quantities, record, second)


def _ratio_of(first: F8, second: F8, good: NDArray[np.bool_]) -> tuple[float, float]:
    """Ratio of sums, and its error from the scatter of parts of the rows."""
    if not good.any():
        return math.nan, math.nan
    part = np.nonzero(good)[0] * PARTS // len(first)
    one, other = np.bincount(part, first[good], PARTS), np.bincount(part, second[good], PARTS)
    used = np.bincount(part, minlength=PARTS) > 0
    one, other = one[used], other[used]
    if not other.sum() > 0 or not one.sum() > 0 or one.size < 2:
        return math.nan, math.nan
    left = (one.sum() - one) / (other.sum() - other)
    return float(one.sum() / other.sum()), float(np.sqrt((one.size - 1) * left.var()))


def _expected(
    transmissions: Sequence[tuple[float, float]], over: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    if any(not value > 0 for value, _ in (*transmissions, *over)):
        raise OptionError("transmissions are positive", where="transmissions", got=str(transmissions))
    value = math.prod(v for v, _ in transmissions) / math.prod(v for v, _ in over)
    return value, value * math.sqrt(sum((s / v) ** 2 for v, s in (*transmissions, *over)))


def _product(
    frame: Frame, tables: Mapping[str, Any], quantities: Sequence[Quantity], record: Record, *more: Frame
) -> Product:
    series = Exposures.from_frames([frame, *more])
    units = {f"cuts.{name}": frame.unit for name in ("value", "first", "second")}
    units |= {"slices.mean": frame.unit, "rows.mean": frame.unit, "profiles.alpha": "arcsec"}
    known = {f"{name}.{column}" for name, table in tables.items() for column in table}
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys={"detector": frame.exposure.detector},
        epoch=frame.exposure.mid,
        tables=tables,
        units={name: unit for name, unit in units.items() if name in known},
        quantities=tuple(quantities),
        provenance=record.provenance(NAME, series, {}),
    )
