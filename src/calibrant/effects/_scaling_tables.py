"""Tables of a dark scaling: coefficients, statistics, and all that its plots draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_fit import Fitted, Vector
from calibrant.effects._scaling_judge import Judged, Statistics
from calibrant.product import Quantity

Table = dict[str, NDArray[Any]]
BINS = 100
POINTS = 200  # of a curve
CELLS = 100  # of the density, each way
ADU = frozenset({"mean", "std", "rms", "median", "cv", "cv_sigma", "cv_gap", "cv_gap_sigma"})
STATISTICS = tuple(field.name for field in fields(Statistics))
QUANTITIES = {"cv": "cv_error"}  # a quantity's own name, where the column is short


def models_table(judged: Sequence[Judged]) -> Table:
    """One row for each model: name, rank, statistics, conditions, chosen."""
    table: Table = {
        "model": np.array([one.fitted.name for one in judged]),
        "rank": np.array([one.fitted.rank for one in judged]),
        "parameters": np.array([len(one.fitted.coefficients) for one in judged]),
    }
    for name in STATISTICS:
        table[name] = np.array([getattr(one.statistics, name) for one in judged])
    for name in ("condition", "raw_condition"):
        table[name] = np.array([getattr(one.fitted, name) for one in judged])
    for name in ("inliers", "noise_scale"):
        table[name] = np.array([one.fitted.facts.get(name, (np.nan,))[0] for one in judged])
    return table | {"chosen": np.array([one.chosen for one in judged])}


def coefficients_table(judged: Sequence[Judged]) -> Table:
    """One row for each coefficient, highest power first; errors from independent pixels and from blocks."""
    rows = [
        (
            one.fitted.name, power_of(one.fitted, k), value, one.fitted.sigma[k],
            np.sqrt(max(one.fitted.block_covariance[k, k], 0.0)), one.fitted.scaled[k],
        )
        for one in judged for k, value in enumerate(one.fitted.coefficients)
    ]  # fmt: skip
    return _columns(("model", "power", "value", "sigma", "block_sigma", "scaled_value"), rows)


def power_of(fitted: Fitted, k: int) -> int:
    """Power of x that the k-th coefficient belongs to."""
    return {-1: 0, 0: 1}.get(fitted.rank, fitted.rank - k)


def covariance_table(judged: Sequence[Judged]) -> Table:
    """Covariances of the coefficients: model, i, j (indices into the coefficients, highest first), value."""
    rows = [
        (one.fitted.name, i, j, one.fitted.covariance[i, j], one.fitted.block_covariance[i, j])
        for one in judged
        for i in range(len(one.fitted.coefficients))
        for j in range(len(one.fitted.coefficients))
    ]
    return _columns(("model", "i", "j", "value", "block_value"), rows)


def scale_table(judged: Sequence[Judged]) -> Table:
    """The scaled basis of each model: T_k((x - centre) / half)."""
    rows = [(one.fitted.name, one.fitted.scale.centre, one.fitted.scale.half) for one in judged]
    return _columns(("model", "centre", "half"), rows)


def quantities(judged: Sequence[Judged], unit: str) -> list[Quantity]:
    """All numbers of all models, the model being the place."""
    found = []
    for one in judged:
        place, s = one.fitted.name, one.statistics
        found.append(Quantity("rank", float(one.fitted.rank), place=place))
        for name in STATISTICS:
            if name in ("cv_sigma", "cv_gap_sigma"):
                continue
            sigma = {"cv": s.cv_sigma, "cv_gap": s.cv_gap_sigma, "mean": s.std / np.sqrt(s.n)}.get(name)
            value = float(getattr(s, name))
            found.append(
                Quantity(QUANTITIES.get(name, name), value, sigma, unit if name in ADU else "", place)
            )
        found.append(Quantity("condition", one.fitted.condition, place=place))
        found.append(Quantity("raw_condition", one.fitted.raw_condition, place=place))
        for k, value in enumerate(one.fitted.coefficients):
            power = power_of(one.fitted, k)
            found.append(
                Quantity(f"c{power}", float(value), float(one.fitted.sigma[k]), _unit_of(power, unit), place)
            )
        for name, (value, sigma, own) in one.fitted.facts.items():
            found.append(Quantity(name, value, sigma, own, place))
    return found


def _unit_of(power: int, unit: str) -> str:
    return {0: unit, 1: ""}.get(power, f"{unit}^{1 - power}" if unit else "")


def units(unit: str) -> dict[str, str]:
    """Units of the columns."""
    columns = {
        "models": ADU,
        "uncut": ADU,
        "profiles": ("value",),
        "histograms": ("left", "right"),
        "residual_histograms": ("left", "right"),
        "curves": ("x", "y"),
        "density": ("dark_from", "dark_to"),
        "populations": ("median_from", "median_to", "offset", "scatter"),
        "cuts": ("width",),
        "scale": ("centre", "half"),
    }
    return {f"{table}.{name}": unit for table, names in columns.items() for name in sorted(names)}


# --- what plots draw --------------------------------------------------------------------------------------


def histogram_rows(
    series: Iterable[tuple[str, Vector]], span: tuple[float, float] | None, bins: int = BINS
) -> Table:
    """Counts of values in `bins` equal bins, each series its own range or all the same one."""
    rows = []
    for name, values in series:
        there = values[np.isfinite(values)]
        if there.size == 0:
            continue
        counts, edges = np.histogram(there, bins, range=span)
        rows += [(name, edges[k], edges[k + 1], int(counts[k])) for k in range(bins)]
    return _columns(("series", "left", "right", "count"), rows)


def profiles_table(series: Iterable[tuple[str, NDArray[np.float64]]]) -> Table:
    """Means along the rows, per column; planes (rows, cols), NaN left out."""
    rows = []
    for name, plane in series:
        there = np.isfinite(plane)
        count = there.sum(axis=0)
        mean = np.where(there, plane, 0.0).sum(axis=0) / np.maximum(count, 1)
        rows += [(name, k, mean[k] if count[k] else np.nan) for k in range(plane.shape[1])]
    return _columns(("series", "column", "value"), rows)


def curves_table(judged: Sequence[Judged], x: Vector) -> Table:
    """The fits over the range of the first dark."""
    grid = np.linspace(x.min(), x.max(), POINTS)
    rows = [(one.fitted.name, a, b) for one in judged for a, b in zip(grid, one.fitted(grid), strict=True)]
    return _columns(("model", "x", "y"), rows)


def density_table(x: Vector, y: Vector, cells: int = CELLS) -> Table:
    """Pixels per cell of dark_to against dark_from: centres and counts of the cells that hold any."""
    counts, across, along = np.histogram2d(x, y, cells)
    i, j = np.nonzero(counts)
    return {
        "dark_from": (across[i] + across[i + 1]) / 2,
        "dark_to": (along[j] + along[j + 1]) / 2,
        "count": counts[i, j].astype(np.int64),
    }


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Rows as columns."""
    if not rows:
        return {name: np.array([]) for name in names}
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
