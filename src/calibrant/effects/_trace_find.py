"""Columns of a trace along the dispersion: of one alpha, of the light's centre, and as published."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from calibrant.stats import mad_std

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
STEPS = 15
FAR = 3.0  # pixels from where the light is in most rows: another thing
SEEN = 5.0  # sigmas of light in the window
ROUNDS = 10


def of_alpha(alpha: F8, inside: Bools, at: float) -> F8:
    """Column at which alpha has one value, by straight lines between pixels; NaN where the slice lacks it."""
    away = np.where(inside, alpha - at, np.nan)
    with np.errstate(invalid="ignore"):
        crosses = (away[:, :-1] * away[:, 1:] <= 0) & (away[:, :-1] != away[:, 1:])
    rows = np.arange(len(alpha))
    first = crosses.argmax(axis=1)
    one, other = away[rows, first], away[rows, first + 1]
    found: F8 = np.full(len(alpha), np.nan)
    there = crosses.any(axis=1)
    found[there] = first[there] + one[there] / (one[there] - other[there])
    return found


def start(values: F8, inside: Bools, place: F8) -> F8:
    """Column of each row at the place (alpha, or part of the slice) where most rows are brightest.

    The median over rows of all pixels at one place: neither hot pixels nor rows without light move it.
    """
    count = inside.sum(axis=1)
    bins = max(int(np.median(count[count > 0])), 1)
    low, high = np.nanmin(place[inside]), np.nanmax(place[inside])
    each = np.clip(((place - low) / (high - low or 1.0) * bins), 0, bins - 1)
    light = np.full(bins, -np.inf)
    for number in range(bins):
        here = inside & np.isfinite(values) & (np.floor(np.nan_to_num(each, nan=-1.0)) == number)
        if here.any():
            light[number] = np.median(values[here])
    best = low + (light.argmax() + 0.5) * (high - low) / bins
    away = np.where(inside, np.abs(place - best), np.inf)
    column: F8 = away.argmin(axis=1).astype(np.float64)
    column[~inside.any(axis=1)] = np.nan
    return column


def centroids(values: F8, variance: F8 | None, inside: Bools, begin: F8, fwhm: float) -> tuple[F8, F8]:
    """Centre of the light of each row in a Gaussian window that follows it, and its sigma; NaN where lost.

    The window's centre x solves sum w(x_i - x) (x_i - x) I_i = 0; its sigma follows from those of the pixels
    (1 where there is no variance).
    """
    rows, cols = np.arange(len(values))[:, None], values.shape[1]
    with np.errstate(invalid="ignore"):
        light = np.where(inside, values, np.nan)
        floor = _low(light)
    half = math.ceil(1.5 * fwhm) + int(FAR)
    near = np.nan_to_num(begin).astype(int)[:, None] + np.arange(-half, half + 1)
    known = (near >= 0) & (near < cols)
    near = np.clip(near, 0, cols - 1)
    taken = light[rows, near] - floor[:, None]
    known &= np.isfinite(taken)
    taken = np.where(known, taken, 0.0)
    noise = np.where(known, 1.0 if variance is None else variance[rows, near], 0.0)
    scale = fwhm / 2.3548
    x = begin.copy()
    for _ in range(STEPS):
        away = near - x[:, None]
        weight = np.exp(-0.5 * (away / scale) ** 2)
        total = (weight * taken).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            x = x + np.clip(2 * (weight * away * taken).sum(axis=1) / total, -0.5, 0.5)
    away = near - x[:, None]
    weight = np.exp(-0.5 * (away / scale) ** 2)
    slope = (taken * weight * ((away / scale) ** 2 - 1)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma = np.sqrt((weight**2 * away**2 * noise).sum(axis=1)) / np.abs(slope)
        strength = (weight * taken).sum(axis=1) / np.sqrt((weight**2 * noise).sum(axis=1))
        holes = ((np.abs(away) < 1.5) & ~known).any(axis=1)
        lost = holes | (np.abs(x - begin) > FAR) | ~(slope < 0) | ~np.isfinite(sigma)
        if variance is not None:
            lost |= ~(strength > SEEN)
    x[lost] = sigma[lost] = np.nan
    return x, sigma


def _low(light: F8) -> F8:
    """Level beside the source: a quarter of the pixels of a row are lower."""
    count = np.isfinite(light).sum(axis=1)
    low: F8 = np.zeros(len(light))
    some = count > 0
    low[some] = np.nanquantile(light[some], 0.25, axis=1)
    return low


def smooth(column: F8, sigma: F8, degree: int, clip: float) -> tuple[F8, F8, Bools] | None:
    """A polynomial through the columns of all rows, its sigma, and the rows that it was made of.

    Rows further off than `clip` times the scatter are left out, again and again; None if too few are left.
    """
    u = np.linspace(-1.0, 1.0, len(column))
    design = np.polynomial.chebyshev.chebvander(u, degree)
    used = np.isfinite(column) & np.isfinite(sigma) & (sigma > 0)
    known = used.copy()
    first = True
    for _ in range(ROUNDS):
        if used.sum() < degree + 3:
            return None
        scaled = design[used] / sigma[used][:, None]
        coefficients = np.linalg.lstsq(scaled, column[used] / sigma[used], rcond=None)[0]
        pull = (column - design @ coefficients) / sigma
        spread = float(mad_std(pull[known] if first else pull[used]))
        kept = known & (np.abs(pull) < clip * max(spread, 1e-12))
        if not first and np.array_equal(kept, used):
            break
        used, first = kept, False
    scatter = float((pull[used] ** 2).sum() / (used.sum() - degree - 1))
    covariance = np.linalg.pinv(scaled.T @ scaled) * max(scatter, 1.0 if spread else 0.0)
    error = np.sqrt(np.einsum("ij,jk,ik->i", design, covariance, design))
    return design @ coefficients, error, used
