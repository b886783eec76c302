"""Straight lines between two darks that are both noisy: Deming, York, and robust ones.

All solve the same pair of equations, sum w W r = 0 and sum w W r (x + b vx W r) = 0, with r = y - a - b x,
W = 1 / (vy + b^2 vx) and robust weights w of z = r sqrt(W) (1 for Deming and York). They are unbiased for
normal noise, since the true x behind a pixel is x + b vx W r plus noise that is independent of r.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_fit import Fitted, Scale, Vector
from calibrant.errors import OptionError, SelectionError
from calibrant.stats import mad_std, robust_line

Loss = Literal["none", "huber", "tukey"]
TUNING = {"huber": 1.345, "tukey": 4.685}  # 95 % of the precision of least squares for normal noise
INLIER = 5.0  # |z|: beyond it a pixel jumped or was hit
ITERATIONS = 200
SAMPLE = 4000  # pixels of the line that a robust fit starts from
EXACT = 1e-10  # of the signal: a smaller scatter is rounding
NOISY = 1.5  # scatter over noise, from which on the noise model does not explain the residuals
UNRELATED = 3.0  # standard errors: a correlation below is none

Law = Callable[[Vector], Vector]


@dataclass(frozen=True, eq=False)
class Noise:
    """Variances of both darks, and whether their size is known or only their ratio.

    Attributes
    ----------
    x, y : ndarray
        Variance of each pixel, (n,) or (1,), [adu2]; in units of x's where only the ratio is known.
    known : bool
    law : callable or None
        Variance against signal: then the variances are taken at the adjusted points, not at the noisy ones.
    """

    x: Vector
    y: Vector
    known: bool
    law: Law | None = None

    @classmethod
    def ratio(cls, value: float = 1.0) -> Noise:
        """Constant noise of which only var(y) / var(x) is known."""
        if not value > 0:
            raise OptionError("a ratio of variances is positive", where="ratio", got=value)
        return cls(np.ones(1), np.array([value]), False)

    def at(self, pixels: NDArray[np.bool_]) -> Noise:
        """The noise of some of the pixels."""
        x, y = (v if v.size == 1 else v[pixels] for v in (self.x, self.y))
        return replace(self, x=x, y=y)


def weight(z: Vector, loss: Loss) -> Vector:
    """Weight of a residual of z sigma."""
    if loss == "none":
        return np.ones_like(z)
    c = TUNING[loss]
    if loss == "huber":
        return np.asarray(c / np.maximum(np.abs(z), c))
    return np.asarray(np.maximum(1.0 - (z / c) ** 2, 0.0) ** 2)


def _slope_of_score(z: Vector, loss: Loss) -> Vector:
    """Derivative of weight(z) z."""
    if loss == "none":
        return np.ones_like(z)
    c = TUNING[loss]
    if loss == "huber":
        return (np.abs(z) <= c).astype(np.float64)
    q = (z / c) ** 2
    return np.asarray(np.where(q < 1, (1 - q) * (1 - 5 * q), 0.0))


def _dot(a: Vector, b: Vector) -> float:
    """Scalar product; summed in pairs, not in threads, so that it is the same everywhere."""
    return float(np.sum(a * b))


def deming_slope(x: Vector, y: Vector, ratio: float) -> float:
    """Slope that is unbiased for constant normal noise (Deming 1943; Fuller 1987, equation 1.3.7).

    `ratio` is var(noise of y) / var(noise of x).

    Raises
    ------
    SelectionError
        If the darks are not correlated.
    """
    dx, dy = x - x.mean(), y - y.mean()
    sxx, syy, sxy = _dot(dx, dx), _dot(dy, dy), _dot(dx, dy)
    if abs(sxy) <= 1e-12 * math.sqrt(sxx * syy):
        raise SelectionError("the darks are not correlated: there is no line between them")
    gap = syy - ratio * sxx
    return (gap + math.sqrt(gap * gap + 4.0 * ratio * sxy * sxy)) / (2.0 * sxy)


def line(
    x: Vector,
    y: Vector,
    noise: Noise,
    labels: NDArray[np.intp],
    *,
    name: str,
    loss: Loss = "none",
    start: Vector | None = None,
) -> Fitted:
    """A line through pixels with errors in both directions.

    Parameters
    ----------
    x, y : ndarray
        Pixels of the darks, (n,), float64, [adu].
    noise : Noise
    labels : ndarray of int
        Block of each pixel, for errors that stand correlated pixels.
    name : str
    loss : {"none", "huber", "tukey"}
        How residuals are weighted down.
    start : ndarray, optional
        Slope and offset to begin from, where a fit to nearly the same pixels is known.

    Raises
    ------
    SelectionError
        If there are fewer than three pixels, no correlation, or nothing converges.
    """
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise SelectionError(
            f"too few pixels for {name}", expected="at least 3 that are not the same", got=x.size
        )
    centre = np.array([np.median(x), np.median(y)])
    u, v = x - centre[0], y - centre[1]
    constant = loss == "none" and noise.x.size == noise.y.size == 1 and noise.law is None
    if start is None or constant:
        first = _start(u, v, noise, loss)
    else:
        first = float(start[0]), float(start[1] + start[0] * centre[0] - centre[1])
    slope, offset, iterations = _iterate(u, v, noise, loss, centre, first)
    final = _state(u, v, offset, slope, noise, loss, centre)
    if not math.isfinite(slope) or final.w.sum() < 3:
        raise SelectionError(f"{name} finds no line through the pixels", do="check the noise model")
    _check_related(u, v, loss, name)
    covariance, blocked = _covariances(u, final, slope, loss, labels)
    shift = np.array([[1.0, 0.0], [-centre[0], 1.0]])  # from (slope, offset at the median) to raw powers
    coefficients = np.array([slope, centre[1] + offset - slope * centre[0]])
    scale = Scale.of(x)
    series = np.array([coefficients[1] + slope * scale.centre, slope * scale.half])
    inliers = float(np.mean(np.abs(final.z) <= INLIER))
    facts: dict[str, tuple[float, float | None, str]] = {
        "iterations": (float(iterations), None, ""),
        "noise_scale": (final.scatter if noise.known else math.nan, None, ""),
        "inliers": (inliers, math.sqrt(max(inliers * (1 - inliers), 0.0) / x.size), ""),
    }
    notes: tuple[str, ...] = ()
    if iterations >= ITERATIONS:
        notes += (f"{name}: not settled after {ITERATIONS} iterations",)
    if noise.known and not 1 / NOISY < final.scatter < NOISY:
        notes += (_unlike_noise(name, final.scatter),)
    return Fitted(
        name, 1, coefficients, shift @ covariance @ shift.T, shift @ blocked @ shift.T, series, scale,
        weights=None if loss == "none" else final.w, facts=facts, notes=notes,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _State:
    """Residuals r, variances, W, z in units of `size`, robust weights w, scatter over the noise given."""

    r: Vector
    vx: Vector
    big: Vector
    z: Vector
    w: Vector
    size: float
    scatter: float


def _unlike_noise(name: str, scatter: float) -> str:
    said = f"{name}: the residuals scatter {scatter:.2f} times as much as the noise given"
    if scatter > 1:
        return said
    return f"{said}: if the darks hold a bias, it counts as signal unless the noise model's zero is its level"


def _check_related(u: Vector, v: Vector, loss: Loss, name: str) -> None:
    """That the pixels tell a line: the formulas give one of noise alone, too."""
    if loss != "none":  # each dark for itself: weights about a line would make a correlation of noise
        u, v = (
            np.clip(a, -INLIER * width, INLIER * width) if (width := float(mad_std(a))) else a for a in (u, v)
        )
    du, dv = u - u.mean(), v - v.mean()
    suu, svv, suv = _dot(du, du), _dot(dv, dv), _dot(du, dv)
    if suv * suv * max(u.size - 2, 0) <= UNRELATED**2 * max(suu * svv - suv * suv, 0.0):
        raise SelectionError(
            f"{name} finds no line: the darks are not correlated",
            expected="patterns that both darks have", do="take an offset alone",
        )  # fmt: skip


def _state(
    u: Vector, v: Vector, offset: float, slope: float, noise: Noise, loss: Loss, centre: Vector
) -> _State:
    r = v - offset - slope * u
    vx, vy = noise.x, noise.y
    big = np.broadcast_to(1.0 / (vy + slope * slope * vx), u.shape)
    if noise.law is not None:  # at the points moved onto the line: their weights do not know of r
        for _ in range(2):
            adjusted = u + slope * vx * big * r
            vx = noise.law(adjusted + centre[0])
            vy = noise.law(offset + slope * adjusted + centre[1])
            big = 1.0 / (vy + slope * slope * vx)
    z = r * np.sqrt(big)
    if loss == "none":
        size = math.sqrt(_dot(z, z) / max(u.size - 2, 1))
    else:
        size = float(mad_std(z))
    scatter = size
    least = 1.0 if noise.known else EXACT * math.sqrt(float(np.mean(v * v * big)))
    if loss != "none" or not noise.known:
        size = max(size, least)
    scaled = z / size if size > 0 else z
    if not noise.known:  # the scatter is all that is known of the size of the noise
        vx, big = vx * size**2, big / size**2
    judged = scaled if loss != "none" or not noise.known else z
    return _State(r, np.broadcast_to(vx, u.shape), big, judged, weight(scaled, loss), size, scatter)


def _start(u: Vector, v: Vector, noise: Noise, loss: Loss) -> tuple[float, float]:
    """Slope and offset to begin from; a robust fit begins from one that hot pixels do not lead astray."""
    if loss == "none":
        slope = deming_slope(u, v, float(np.mean(noise.y) / np.mean(noise.x)))
        return slope, float(v.mean() - slope * u.mean())
    step = max(u.size // SAMPLE, 1) | 1
    found = robust_line(u[::step], v[::step])
    return found.slope, found.intercept


def _iterate(
    u: Vector, v: Vector, noise: Noise, loss: Loss, centre: Vector, start: tuple[float, float]
) -> tuple[float, float, int]:
    """Slope, offset and how many steps they took; York's form of the equations (York et al. 2004)."""
    slope, offset = start
    if loss == "none" and noise.x.size == noise.y.size == 1 and noise.law is None:
        return slope, offset, 0  # the start is the closed form
    spread = math.sqrt(float(np.mean(u * u)))
    for iteration in range(1, ITERATIONS + 1):
        now = _state(u, v, offset, slope, noise, loss, centre)
        weights = now.w * now.big
        total = weights.sum()
        if not total > 0:
            return math.nan, math.nan, iteration
        mean_u, mean_v = _dot(weights, u) / total, _dot(weights, v) / total
        du, dv = u - mean_u, v - mean_v
        beta = du + slope * now.vx * now.big * (dv - slope * du)
        weights = weights * beta
        new = _dot(weights, dv) / _dot(weights, du)
        moved = abs(new - slope) * spread + abs(mean_v - new * mean_u - offset)
        slope, offset = new, mean_v - new * mean_u
        if moved < 1e-10 * (abs(offset) + abs(slope) * spread):
            return slope, offset, iteration
    return slope, offset, ITERATIONS


def _covariances(
    u: Vector, state: _State, slope: float, loss: Loss, labels: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sandwich covariances of (slope, offset): from independent pixels, and from blocks of them."""
    score = state.w * state.big * state.r
    scores = np.column_stack([score * (u + slope * state.vx * state.big * state.r), score])
    bend = state.big * _slope_of_score(state.z if loss != "none" else state.r, loss)
    cross = _dot(bend, u)
    hessian = np.array([[_dot(bend, u * u - state.vx), cross], [cross, bend.sum()]])
    inverse = np.linalg.inv(hessian)
    count = u.size
    single = inverse @ (scores.T @ scores) @ inverse * (count / (count - 2))
    sums = np.column_stack([np.bincount(labels, scores[:, k]) for k in range(2)])
    number = len(np.unique(labels))
    blocks = inverse @ (sums.T @ sums) @ inverse * (number / (number - 2) if number > 2 else np.nan)
    return single, blocks
