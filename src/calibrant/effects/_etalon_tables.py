"""Tables of fringes: by column, by column and wavelength, and by slice and wavelength."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._etalon_fit import Columns, Fit
from calibrant.effects._etalon_model import MOST, UM, attenuation, finesse, intrinsic, observed
from calibrant.product import Quantity

F8 = NDArray[np.float64]
Table = dict[str, NDArray[Any]]
TURN = 2 * np.pi


@dataclass(frozen=True, eq=False)
class Places:
    """Slice and column of each fitted column, and the rows at which fringes are told."""

    number: NDArray[np.int32]
    col: NDArray[np.int32]
    rows: NDArray[np.int64]


def columns_table(fit: Fit, places: Places) -> Table:
    """Thickness [um] and phase at the pivot [cycles] of each column, with sigmas."""
    return {
        "slice": places.number,
        "col": places.col,
        "pixels": fit.used.sum(axis=1).astype(np.int32),
        "D": UM * fit.thickness,
        "D_sigma": UM * _root(fit.covariance[:, -1, -1]),
        "phase": np.mod(fit.phase / TURN, 1.0),
        "phase_sigma": _root(fit.covariance[:, -2, -2]) / TURN,
        "chi2": fit.chi2,
    }


def points_table(columns: Columns, fit: Fit, places: Places, slow: F8, pivot: float, known: bool) -> Table:
    """R, depths, visibility, F and phase of each column at each row of `places`."""
    rows, basis = places.rows, slow[places.rows]
    r = fit.reflectivity @ basis.T
    size = slow.shape[1]
    r_sigma = _root(_spread(basis, fit.covariance[:, :size, :size]))
    wavenumber = columns.wavenumber[:, rows]
    theta = 4 * np.pi * fit.thickness[:, None] * (wavenumber - pivot) + fit.phase[:, None] + fit.lag @ basis.T
    lag_sigma = _root(_spread(basis, fit.lag_covariance))
    half = max(1, len(slow) // (4 * len(rows)))
    there = np.stack([fit.used[:, max(0, row - half) : row + half + 1].mean(axis=1) > 0.5 for row in rows], 1)
    who, where = np.nonzero(there & np.isfinite(r_sigma))
    thick, slope = fit.thickness[who], columns.slope[who, rows[where]]
    table: Table = {
        "slice": places.number[who],
        "col": places.col[who],
        "row": rows[where].astype(np.int32),
        "wavelength": UM / wavenumber[who, where],
        "period": 1 / (2 * thick * slope),
    }
    spread = columns.spread[who, rows[where]]
    table |= _contrast(r[who, where], r_sigma[who, where], (thick, slope, spread), known)
    table["phase"] = np.mod(theta[who, where] / TURN, 1.0)
    table["phase_sigma"] = lag_sigma[who, where] / TURN
    return table


def _contrast(r: F8, sigma: F8, blur: tuple[F8, F8, F8], known: bool) -> Table:
    """What follows from a reflectivity, each with its sigma: as observed, and of the plate itself."""
    kept = attenuation(*blur, MOST)

    def with_sigma(of: Any) -> tuple[F8, F8]:
        step = np.maximum(1e-3 * np.abs(r), 1e-7)
        return of(r), np.abs(of(r + step) - of(r - step)) / (2 * step) * sigma

    table: Table = {}
    kinds = {
        "depth": lambda x: observed(x, kept).depth,
        "visibility": lambda x: observed(x, kept).visibility,
        "R": lambda x: x,
        "F": finesse,
        "depth_intrinsic": lambda x: intrinsic(x).depth,
        "visibility_intrinsic": lambda x: intrinsic(x).visibility,
    }
    for name, of in kinds.items():
        value, error = with_sigma(of)
        if not known and name not in ("depth", "visibility"):
            value, error = np.full(r.shape, np.nan), np.full(r.shape, np.nan)
        table[name], table[f"{name}_sigma"] = value, error
    return table


def fringes_table(points: Table) -> Table:
    """Weighted means over the columns of each slice at each row; sigmas grow where columns differ by more."""
    keys = np.stack([points["slice"], points["row"]], axis=1)
    found, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    count = np.bincount(inverse, minlength=len(found))
    table: Table = {
        "slice": found[:, 0].astype(np.int32),
        "row": found[:, 1].astype(np.int32),
        "columns": count,
    }
    for name in ("wavelength", "period"):
        table[name] = np.bincount(inverse, points[name], len(found)) / np.maximum(count, 1)
    for name in [name for name in points if f"{name}_sigma" in points and name != "phase"]:
        table[name], table[f"{name}_sigma"] = mean(points[name], points[f"{name}_sigma"], inverse, len(found))
    return table


def example_table(columns: Columns, fit: Fit, places: Places) -> Table:
    """The middle column of the middle slice, row by row: value and sigma, continuum at the peaks, fit."""
    numbers = list(dict.fromkeys(places.number.tolist()))
    own = np.flatnonzero(places.number == numbers[len(numbers) // 2])
    n = own[len(own) // 2]
    row = np.flatnonzero(fit.used[n] | (columns.weight[n] > 0))
    fringe = fit.fringe[n]
    sigma = columns.weight[n, row] ** -0.5 if columns.weighed else np.full(row.size, np.nan)
    return {
        "slice": np.full(row.size, places.number[n]),
        "col": np.full(row.size, places.col[n]),
        "row": row.astype(np.int32),
        "wavelength": UM / columns.wavenumber[n, row],
        "value": columns.value[n, row],
        "sigma": sigma,
        "continuum": fit.continuum[n, row] * (1 + crest(fringe, row)),
        "model": fit.continuum[n, row] * (1 + fringe[row]),
        "used": fit.used[n, row],
        "peak": np.isin(np.arange(row.size), tops(fringe[row])),
    }


def tops(fringe: F8) -> NDArray[np.int64]:
    """Samples that are as high as their neighbours, or higher."""
    return np.flatnonzero((fringe[1:-1] >= fringe[:-2]) & (fringe[1:-1] >= fringe[2:])) + 1


def crest(fringe: F8, here: NDArray[np.int64]) -> F8:
    """Height of the fringes' peaks at each row, between them by straight lines."""
    part = fringe[here]
    top = tops(part)
    if top.size < 2:
        return np.full(part.size, part.max())
    bend = part[top - 1] - 2 * part[top] + part[top + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        rise = np.where(bend < 0, -((part[top + 1] - part[top - 1]) ** 2) / (8 * bend), 0.0)
    made: F8 = np.interp(np.arange(part.size), top, part[top] + rise)
    return made


def wavelengths_table(fringes: Table) -> Table:
    """Weighted means over the slices at each row, in order of wavelength; without phases."""
    rows, group = np.unique(fringes["row"], return_inverse=True)
    group = group.ravel()
    count = np.maximum(np.bincount(group), 1)
    table: Table = {"row": rows.astype(np.int32)}
    for name in ("wavelength", "period"):
        table[name] = np.bincount(group, fringes[name]) / count
    for name in [name for name in fringes if f"{name}_sigma" in fringes]:
        table[name], table[f"{name}_sigma"] = mean(fringes[name], fringes[f"{name}_sigma"], group, len(rows))
    order = np.argsort(table["wavelength"])
    return {name: column[order] for name, column in table.items()}


def mean(value: F8, sigma: F8, group: NDArray[np.int64], count: int) -> tuple[F8, F8]:
    """Weighted mean of each group and its sigma; NaN where a group has nothing."""
    good = np.isfinite(value) & np.isfinite(sigma) & (sigma > 0)
    value, group, weight = value[good], group[good], sigma[good] ** -2.0
    total = np.bincount(group, weight, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = np.bincount(group, weight * value, count) / total
        number = np.bincount(group, minlength=count)
        chi2 = np.bincount(group, weight * (value - middle[group]) ** 2, count) / np.maximum(number - 1, 1)
        unlikely = chi2 > 1 + 3 * np.sqrt(2 / np.maximum(number - 1, 1))
        return middle, np.where(unlikely, np.sqrt(chi2), 1.0) / np.sqrt(total)


def units(unit: str) -> dict[str, str]:
    """Of planes and columns of tables."""
    lengths = {f"{table}.wavelength": "um" for table in ("points", "fringes", "wavelengths")}
    periods = {f"{table}.period": "pixel" for table in ("points", "fringes", "wavelengths")}
    cycles = {
        f"{table}.{name}": "cycle" for table in ("points", "columns") for name in ("phase", "phase_sigma")
    }
    thick = {"columns.D": "um", "columns.D_sigma": "um"}
    shown = {f"example.{name}": unit for name in ("value", "sigma", "continuum", "model")}
    planes = {"data": "", "variance": "", "continuum": unit, "dq": ""}
    return {**planes, **lengths, **periods, **cycles, **thick, **shown, "example.wavelength": "um"}


def quantities(tables: dict[str, Table], pivot: float) -> tuple[Quantity, ...]:
    """Of the slices, and of all of them.

    Thicknesses are weighted means. Depths and reflectivities differ along the band more than by their errors:
    plain means over it.
    """
    columns, fringes = tables["columns"], tables["fringes"]
    made = [Quantity("pivot", pivot, None, "1/cm"), Quantity("chi2", float(np.median(columns["chi2"])))]
    for name, table in (("D", columns), *((n, fringes) for n in ("depth", "depth_intrinsic", "R"))):
        value, sigma = table[name], table[f"{name}_sigma"]
        known = np.isfinite(value) & np.isfinite(sigma)
        if not known.any():
            continue
        found, group = np.unique(table["slice"][known], return_inverse=True)
        of, unit = (mean, "um") if name == "D" else (_plain_mean, "")
        each = of(value[known], sigma[known], group, len(found))
        made += [
            Quantity(name, float(v), float(s), unit, str(number))
            for number, v, s in zip(found, *each, strict=True)
        ]
        total = of(value[known], sigma[known], np.zeros(known.sum(), np.int64), 1)
        made.append(Quantity(name, float(total[0][0]), float(total[1][0]), unit))
    return tuple(made)


def with_common(
    tables: dict[str, Table], found: tuple[Quantity, ...], part: float
) -> tuple[dict[str, Table], tuple[Quantity, ...]]:
    """Means and quantities whose sigmas hold what is common to all pixels, too: a `part` of the light.

    A constant error of the light changes depths, and R, by the same part, and does not average out.
    """

    def wider(sigma: Any, value: Any) -> Any:
        return np.hypot(sigma, part * np.abs(value))

    made = dict(tables)
    for which in ("fringes", "wavelengths"):
        table = tables[which]
        names = [name for name in table if f"{name}_sigma" in table]
        made[which] = table | {f"{n}_sigma": wider(table[f"{n}_sigma"], table[n]) for n in names}
    told = [
        replace(one, sigma=float(wider(one.sigma, one.value)))
        if one.name in ("depth", "depth_intrinsic", "R") and one.sigma is not None
        else one
        for one in found
    ]
    return made, tuple(told)


def _plain_mean(value: F8, sigma: F8, group: NDArray[np.int64], size: int) -> tuple[F8, F8]:
    count = np.bincount(group, minlength=size)
    return np.bincount(group, value, size) / count, np.sqrt(np.bincount(group, sigma**2, size)) / count


def _spread(basis: F8, covariance: F8) -> F8:
    made: F8 = np.einsum("ri,nij,rj->nr", basis, covariance, basis, optimize=True)
    return made


def _root(variance: F8) -> F8:
    return np.sqrt(np.maximum(variance, 0.0))
