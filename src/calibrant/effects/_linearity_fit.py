"""Linearity of one amplifier: signal against light, a straight line and a correction; arrays in and out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from calibrant.stats import MAD_TO_STD, weighted_line

Array = NDArray[np.float64]
Curve = Callable[[Array], Array]
Model = Literal["quadratic", "polynomial", "spline"]

BIWEIGHT = 4.685  # sigma: Tukey's limit, which keeps 95 % of the precision for normal errors
ROUNDS = 20
FEW = 3  # points of a line
LEAST = 3  # knots of a spline
SAME = 0.01  # relative: light that differs less is one level, however well a photodiode tells it
REACH = 3.0  # of the light: within less, a bent curve and a straight one with another slope are alike
UNSURE = 0.01  # of the signal: a correction with a larger standard error does more harm than none
PLACES = 65  # along a curve, where its error is looked at
FALL = 0.02  # relative: a fall that no lamp or shutter makes of one level


@dataclass(frozen=True)
class Choice:
    """How an amplifier is fitted.

    Attributes
    ----------
    model : str
    order : int
        Of the polynomial, at least 2.
    knots : int
        Of the spline, besides the one at 0; fewer where there are no levels between two, or too few in all.
    low, high : float
        adu: the part that is taken as straight for a first line; levels below `low` are not used at all.
    limit : float
        Deviation from that line, relative, at which the response turns off.
    offset : bool
        Whether there may be signal at no light: a shutter that is slow, stray light, a pedestal.
    """

    model: Model = "spline"
    order: int = 3
    knots: int = 8
    low: float = 30.0
    high: float = 20000.0
    limit: float = 0.03
    offset: bool = True


@dataclass(frozen=True, eq=False)
class Response:
    """What was found for one amplifier; NaN and a note where nothing was.

    Attributes
    ----------
    slope, offset : float
        Of the ideal line: adu per unit of light, adu; with `offset_sigma`.
    coefficients, sigmas : ndarray
        Of the model: of (u/top)^2 top, (u/top)^3 top, ... for polynomials; corrections at the knots of a
        spline; adu.
    bottom, top : float
        Lowest and highest level that was used, adu; the correction ends at `top`.
    turnoff, turnoff_sigma : float
        Highest level within the limit, adu; NaN if the series does not reach one above it.
    line, before, after : ndarray
        (levels,): ideal line, adu; deviations of the measured and of the corrected levels from it, relative.
    used : ndarray of bool
        (levels,).
    correction, error : callable
        Signal (n,) -> correction, and its standard error, adu.
    """

    slope: float
    offset: float
    offset_sigma: float
    coefficients: Array
    sigmas: Array
    bottom: float
    top: float
    turnoff: float
    turnoff_sigma: float
    line: Array
    before: Array
    after: Array
    used: NDArray[np.bool_]
    correction: Curve
    error: Curve
    notes: tuple[str, ...] = field(default=())

    @property
    def found(self) -> bool:
        """Whether there is a correction."""
        return math.isfinite(self.slope)


def functions(choice: Choice, levels: Array, top: float) -> tuple[Callable[[Array], Array], int]:
    """The functions of signal whose sum is the correction, adu; 0 with slope 0 at no signal.

    Returns
    -------
    (callable, int)
        adu (n,) -> (n, terms), and the number of terms.
    """
    if choice.model != "spline":
        powers = np.arange(2, 3 if choice.model == "quadratic" else choice.order + 1)
        return lambda u: top * (np.asarray(u)[:, None] / top) ** powers, len(powers)
    # Between two knots there must be a level, or nothing holds the curve there.
    edges = np.linspace(0.0, top, choice.knots + 1)
    held = [edges[0]]
    for edge in edges[1:]:
        if ((levels > held[-1]) & (levels <= edge)).any():
            held.append(edge)
    at = np.array(held)
    # Not-a-knot at the top: a parabola is a spline of this kind, and is found without error.
    curves = CubicSpline(at, np.eye(len(at))[:, 1:], bc_type=("clamped", "not-a-knot"))
    return lambda u: np.asarray(curves(np.clip(u, 0.0, top)), np.float64), len(at) - 1


def respond(light: Array, mean: Array, sigma: Array, choice: Choice) -> Response:
    """Fit one amplifier.

    ``u + f(u) = k (x + x0)``: f is 0 with slope 0 at no signal, so that the gain at little light stays what
    it is. Linear in k, k x0 and the coefficients of f; weights 1 / (sigma^2 + (s u)^2) with the scatter s of
    the lamp that makes chi2 per degree of freedom 1, times Tukey's biweight.

    Parameters
    ----------
    light : ndarray
        (levels,), x: exposure time, or what a photodiode counted.
    mean, sigma : ndarray
        (levels,), u: adu above the bias; its photon and read noise, adu. NaN is left out.
    choice : Choice
    """
    good = np.isfinite(light) & np.isfinite(mean) & np.isfinite(sigma) & (mean > choice.low)
    if np.count_nonzero(good) < FEW or _is_flat(light[good], mean[good]):
        return _nothing(len(mean), "it does not respond to light" if _no_light(mean) else "too few levels")
    slope, level = straight(light, mean, sigma, good & (mean <= choice.high))
    turnoff, turnoff_sigma, below = _turnoff(light, mean, slope, level, good, choice)
    used = good & below
    notes = _falls(light, mean, sigma, used)
    top = float(mean[used].max())
    knots = max(LEAST, min(choice.knots, _levels(light[used]) - 2 - choice.offset))
    base, terms = functions(replace(choice, knots=knots), mean[used], top)
    needed = terms + 2 + choice.offset
    words = _too_little(light[used], needed, choice)
    if words:
        return replace(_nothing(len(mean), words), turnoff=turnoff, turnoff_sigma=turnoff_sigma)
    theta, covariance, kept = _solve(light, mean, sigma, used, base, choice.offset)
    first = 2 if choice.offset else 1
    correction, error = _bend(base, -theta[first:], covariance[first:, first:], top)
    unsure = float(np.max(error(np.linspace(0.0, top, PLACES)))) / top
    if unsure > UNSURE:
        words = f"its levels of light leave the correction uncertain by {100 * unsure:.2g} % of the signal"
        return replace(_nothing(len(mean), words), turnoff=turnoff, turnoff_sigma=turnoff_sigma)
    errors = np.sqrt(np.diag(covariance))
    line = theta[0] * light + (theta[1] if choice.offset else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        before = mean / line - 1.0
        after = (mean + correction(np.nan_to_num(mean))) / line - 1.0
    return Response(
        slope=float(theta[0]),
        offset=float(theta[1]) if choice.offset else 0.0,
        offset_sigma=float(errors[1]) if choice.offset else 0.0,
        coefficients=-theta[first:],
        sigmas=errors[first:],
        bottom=float(mean[used].min()),
        top=top,
        turnoff=turnoff,
        turnoff_sigma=turnoff_sigma,
        line=line,
        before=before,
        after=after,
        used=kept,
        correction=correction,
        error=error,
        notes=notes,
    )


def _bend(base: Curve, coefficients: Array, covariance: Array, top: float) -> tuple[Curve, Curve]:
    """Correction and its standard error, both functions of the signal, adu; held beyond the top."""

    def correction(u: Array) -> Array:
        return np.asarray(base(np.clip(u, 0.0, top)) @ coefficients, np.float64)

    def error(u: Array) -> Array:
        terms = base(np.clip(u, 0.0, top))
        return np.asarray(np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", terms, covariance, terms), 0.0)))

    return correction, error


def _too_little(light: Array, needed: int, choice: Choice) -> str:
    """Why levels of light cannot tell a curve from a line; empty if they can."""
    levels, span = _levels(light), light.max() / light.min()
    if levels < needed:
        return f"{levels} usable level{'s' if levels > 1 else ''} of light, the {choice.model} needs {needed}"
    if span < REACH:
        return f"its levels of light span a factor {span:.3g}, where {REACH:g} is needed"
    return ""


def _levels(light: Array) -> int:
    """How many differ by more than a lamp scatters."""
    order = np.sort(light)
    return 1 + int(np.count_nonzero(np.diff(order) > SAME * order[1:]))


def straight(light: Array, mean: Array, sigma: Array, low: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and level of the line through the low part, reweighted; of the lowest levels if that is empty."""
    if np.count_nonzero(low) < FEW:
        low = np.isfinite(mean) & (mean <= np.sort(mean[np.isfinite(mean)])[: 2 * FEW].max())
    x, u, s = light[low], mean[low], sigma[low]
    weight = 1.0 / s**2
    slope, level = weighted_line(x, u, weight)
    for _ in range(ROUNDS):
        residual = (u - level - slope * x) / s
        before = slope
        slope, level = weighted_line(x, u, weight * np.maximum(biweight(residual), 1e-6))
        if abs(slope - before) <= 1e-12 * abs(slope):
            break
    return slope, level


def biweight(residual: Array) -> Array:
    """Weights of residuals in sigmas: 1 near zero, 0 from 4.685 times their own robust width on."""
    width = MAD_TO_STD * float(np.median(np.abs(residual)))
    if not width > 1e-9:
        return np.ones_like(residual)
    return np.asarray(np.maximum(1.0 - (residual / (BIWEIGHT * width)) ** 2, 0.0) ** 2)


def _turnoff(
    light: Array, mean: Array, slope: float, level: float, good: NDArray[np.bool_], choice: Choice
) -> tuple[float, float, NDArray[np.bool_]]:
    """Highest level within the limit, half the gap to the next, and the levels up to it."""
    line = slope * light + level
    # At little light the noise is as large as the limit: what is low is straight by definition.
    within = good & ((np.abs(mean / line - 1.0) <= choice.limit) | (line <= choice.high))
    end = float(light[within].max()) if within.any() else math.inf
    beyond = good & (light > end)
    below: NDArray[np.bool_] = light <= end
    if not beyond.any():
        return math.nan, math.nan, below
    turnoff = float(mean[within].max())
    gap = float(np.min(line[beyond])) - turnoff
    return turnoff, 0.5 * max(gap, 0.0), below


def _solve(
    light: Array,
    mean: Array,
    sigma: Array,
    used: NDArray[np.bool_],
    base: Callable[[Array], Array],
    offset: bool,
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Coefficients, their covariance, and the levels that were not thrown out."""
    x, u, s = light[used], mean[used], sigma[used]
    ones = [np.ones_like(x)] if offset else []
    columns = np.column_stack([x, *ones, base(u)])
    size = np.abs(columns).max(axis=0)
    size[size == 0] = 1.0
    columns = columns / size
    weight, keep = 1.0 / s, np.ones_like(x)
    robust = len(x) > columns.shape[1] + FEW
    for last in [False] * (ROUNDS if robust else 0) + [True]:
        if last and robust:  # outliers are known now: the others count in full, so that sigmas are right
            keep = (keep > 0).astype(np.float64)
        design = columns * (weight * np.sqrt(keep))[:, None]
        theta, *_ = np.linalg.lstsq(design, u * weight * np.sqrt(keep), rcond=None)
        residual = u - columns @ theta
        weight = 1.0 / np.hypot(s, _scatter(residual, s, u, keep, _leverage(design)) * u)
        if not last:
            keep = biweight(residual * weight)
    design = columns * (weight * keep)[:, None]
    inverse = np.linalg.pinv(design.T @ design) / np.outer(size, size)
    kept = used.copy()
    kept[used] = keep > 0
    return theta / size, inverse, kept


def _leverage(design: Array) -> Array:
    """How much of each value its own fitted value holds: diagonal of the hat matrix."""
    return np.asarray(np.einsum("ij,ij->i", design, np.linalg.pinv(design).T))


def _scatter(residual: Array, sigma: Array, mean: Array, weight: Array, leverage: Array) -> float:
    """Relative scatter of the light besides the noise, by restricted maximum likelihood.

    Zero of ``sum(q (r^2 / v - (1 - h)))`` with v = sigma^2 + (s u)^2 and q = u^2 / v: levels at which the
    lamp decides have the word, not those at which the noise does.
    """

    def excess(s: float) -> float:
        variance = sigma**2 + (s * mean) ** 2
        return float(np.sum(weight * mean**2 / variance * (residual**2 / variance - (1.0 - leverage))))

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, float(np.max(np.abs(residual) / mean)) * math.sqrt(len(mean)) + 1e-15
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _falls(light: Array, mean: Array, sigma: Array, used: NDArray[np.bool_]) -> tuple[str, ...]:
    """A sentence if more light makes less signal."""
    order = np.argsort(light[used], kind="stable")
    x, u, s = light[used][order], mean[used][order], sigma[used][order]
    fell = np.flatnonzero((np.diff(u) < -5.0 * np.hypot(s[1:], s[:-1]) - FALL * u[:-1]) & (np.diff(x) > 0))
    if not fell.size:
        return ()
    first = int(fell[0])
    return (f"its mean falls from {u[first]:.0f} to {u[first + 1]:.0f} adu although there is more light",)


def _no_light(mean: Array) -> bool:
    known = mean[np.isfinite(mean)]
    return bool(known.size < FEW or np.ptp(known) < FEW * 10)


def _is_flat(light: Array, mean: Array) -> bool:
    return bool(np.ptp(light) == 0 or np.polyfit(light, mean, 1)[0] <= 0)


def _nothing(levels: int, why: str) -> Response:
    nan, empty = np.full(levels, math.nan), np.zeros(0)
    return Response(
        *(math.nan,) * 3, empty, empty, *(math.nan,) * 4, nan, nan, nan, np.zeros(levels, bool),
        correction=np.zeros_like, error=np.zeros_like, notes=(f"{why}: it has no correction",),
    )  # fmt: skip
