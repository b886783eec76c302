"""Straight lines."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrant.errors import OptionError
from calibrant.stats.factors import MAD_TO_STD


def weighted_line(
    x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Slope and intercept of the (weighted) least-squares line."""
    weight = np.ones_like(x) if w is None else w
    total = weight.sum()
    mean_x, mean_y = (weight @ x) / total, (weight @ y) / total
    dx = x - mean_x
    slope = float((weight * dx) @ (y - mean_y) / ((weight * dx) @ dx))
    return slope, float(mean_y - slope * mean_x)


class Line(NamedTuple):
    """A straight line, y = intercept + slope x, with the uncertainties of both and the scatter about it."""

    slope: float
    intercept: float
    slope_sigma: float
    intercept_sigma: float
    scatter: float


def robust_line(x: ArrayLike, y: ArrayLike) -> Line:
    """A line through points of which up to a quarter may be wrong.

    Parameters
    ----------
    x, y : array
        One axis, equal lengths; pairs with a NaN are left out.

    Returns
    -------
    Line
        Units: y per x for the slope, y for the others. Uncertainties from the scatter of the points.

    Raises
    ------
    OptionError
        If there are fewer than three points or all `x` are equal.

    Notes
    -----
    Theil-Sen start (median of the slopes of pairs), then reweighting with Tukey's biweight at 4.685 sigma,
    which keeps 95 % of the precision of least squares for normal errors. The uncertainties are a few percent
    too large for normal errors: a point counts as its weight.
    """
    px, py = np.asarray(x, np.float64).reshape(-1), np.asarray(y, np.float64).reshape(-1)
    good = np.isfinite(px) & np.isfinite(py)
    px, py = px[good], py[good]
    if px.size < 3 or np.ptp(px) == 0:
        raise OptionError("a line needs three points at different places", where="robust_line", got=px.size)
    slope = _theil_sen(px, py)
    level = float(np.median(py - slope * px))
    weight = np.ones_like(px)
    scatter = 0.0
    for _ in range(30):
        residual = py - level - slope * px
        scatter = float(MAD_TO_STD * np.median(np.abs(residual)))
        if scatter <= 1e-12 * max(1.0, float(np.abs(py).max())):
            return Line(slope, level, 0.0, 0.0, scatter)
        weight = np.maximum(1.0 - (residual / (4.685 * scatter)) ** 2, 0.0) ** 2
        new = weighted_line(px, py, weight)
        settled = abs(new[0] - slope) * np.ptp(px) + abs(new[1] - level) < 1e-9 * scatter
        slope, level = new
        if settled:
            break
    return _with_sigmas(px, slope, level, scatter, weight)


def _theil_sen(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Median of the slopes between pairs; every point takes part, large samples not in every pair."""
    if x.size > 300:  # pairs at many distances, about 150 for each point
        shifts = np.unique(np.linspace(1, x.size - 1, 150).astype(np.intp))
    else:
        shifts = np.arange(1, x.size)
    dx = np.concatenate([x[s:] - x[:-s] for s in shifts])
    dy = np.concatenate([y[s:] - y[:-s] for s in shifts])
    return float(np.median(dy[dx != 0] / dx[dx != 0]))


def _with_sigmas(
    x: NDArray[np.float64], slope: float, level: float, scatter: float, weight: NDArray[np.float64]
) -> Line:
    total = weight.sum()
    mean = (weight @ x) / total
    squares = weight @ (x - mean) ** 2
    slope_sigma = scatter / math.sqrt(squares)
    intercept_sigma = scatter * math.sqrt(1.0 / total + mean * mean / squares)
    return Line(slope, level, float(slope_sigma), float(intercept_sigma), scatter)
