"""The exercise with the photon transfer curve: what straight lines through noise and variance say.

A sensor with photon noise and readout noise alone has, with S the charge [electron], R the read noise
[electron] and g the gain [electron/adu],

    mean = S / g        variance = (S + R^2) / g^2 = mean / g + (R / g)^2

Reference: Janesick (2007), Photon Transfer, chapter 5. Real sensors bend: `measure` fits what they do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrant.effects._ptc_curves import evaluate, solve_curve
from calibrant.effects._ptc_levels import Levels, standard_error
from calibrant.errors import SelectionError, ShapeError
from calibrant.stats import weighted_line

F8 = NDArray[np.float64]
WINDOW = 3.0  # a local slope is that of the levels within a factor of sqrt(3) to either side


class PixelLevels(NamedTuple):
    """Mean [adu], variance [adu^2] and number of pixels of each level, (levels,) each."""

    mean: F8
    variance: F8
    pixels: F8


class NoiseSlope(NamedTuple):
    """Noise against signal, on logarithmic axes.

    Attributes
    ----------
    slope, slope_sigma : float
        d log noise / d log signal of the bright levels; photons alone give 1/2.
    intercept, intercept_sigma : float
        log10 of the noise [adu] at a signal of 1 adu; photons alone give -log10(g) / 2.
    local : array
        (levels,), the slope around each level; NaN where fewer than three levels are near.
    used : array of bool
        (levels,), the bright ones.
    """

    slope: float
    slope_sigma: float
    intercept: float
    intercept_sigma: float
    local: F8
    used: NDArray[np.bool_]


class GainLine(NamedTuple):
    """Variance against mean: a straight line and what follows from it.

    Attributes
    ----------
    slope, slope_sigma : float
        adu per adu, which is 1/g.
    intercept, intercept_sigma : float
        adu^2, which is (R/g)^2.
    gain, gain_sigma : float
        electron/adu: the reciprocal of the slope.
    read_noise, read_noise_sigma : float
        electron; NaN where the intercept is negative.
    """

    slope: float
    slope_sigma: float
    intercept: float
    intercept_sigma: float
    gain: float
    gain_sigma: float
    read_noise: float
    read_noise_sigma: float


class MeanRatio(NamedTuple):
    """The mean of variance over mean, and the gain that is its reciprocal.

    Attributes
    ----------
    ratio : float
        adu per adu.
    gain : float
        electron/adu.
    gains : array
        (levels,), electron/adu: of each level by itself; NaN where the mean is not positive.
    """

    ratio: float
    gain: float
    gains: F8


class Crossing(NamedTuple):
    """Where photon noise becomes as large as readout noise: charge [electron], mean and noise [adu]."""

    signal: float
    mean: float
    noise: float


def pixel_levels(images: Iterable[ArrayLike]) -> PixelLevels:
    """Mean and variance of images of even light.

    Only for pixels that respond alike, as simulated ones do: in a real flat the differences between pixels
    count as noise, and the difference of two flats must be taken instead, as `measure` does.

    Parameters
    ----------
    images : iterable of array
        Of each level one, of any shape, adu above the bias; values that are not finite are left out.

    Returns
    -------
    PixelLevels
        Variances with ddof = 1; NaN for images of fewer than two pixels.
    """
    rows = []
    for image in images:
        values = np.asarray(image, np.float64)
        values = values[np.isfinite(values)]
        enough = values.size > 1
        rows.append(
            (values.mean(), values.var(ddof=1), values.size) if enough else (np.nan, np.nan, values.size)
        )
    table = np.array(rows, np.float64).reshape(-1, 3)
    return PixelLevels(*table.T)


def noise_against_signal(
    mean: ArrayLike, variance: ArrayLike, pixels: ArrayLike, *, bright: float | None = None
) -> NoiseSlope:
    """Log-log slope of the noise: 0 where readout rules, 1/2 where photons do.

    Parameters
    ----------
    mean, variance, pixels : array
        (levels,), adu, adu^2 and pixels of each. Levels of a mean <= 0 have no logarithm and are left out.
    bright : float, optional
        adu: the line goes through levels above it; a tenth of the highest if not given.

    Raises
    ------
    SelectionError
        If fewer than three levels are bright.

    Notes
    -----
    The logarithm of a noise is known to 1/sqrt(2 n) at every level, so all weigh alike where n is the same.
    The slope between two signals is (S / (S + R^2)) / 2 at some signal between them: below 1/2 by 0.0036 for
    levels from 1000 to 10 000 electron and R = 5.
    """
    mu, var, n = _equal(mean, variance, pixels)
    there = np.isfinite(mu) & (mu > 0) & (var > 0) & (n > 1)
    x, y = (np.log10(np.where(there, values, 1.0)) for values in (mu, np.sqrt(np.where(there, var, 1.0))))
    least = 0.1 * float(np.max(mu[there], initial=0.0)) if bright is None else bright
    used = there & (mu > least)
    if used.sum() < 3:
        raise SelectionError(
            "too few bright levels for a slope", expected=f"three above {least:g} adu", got=int(used.sum())
        )
    weight = 2.0 * n * math.log(10.0) ** 2
    slope, intercept = weighted_line(x[used], y[used], weight[used])
    slope_sigma, intercept_sigma = _line_sigmas(x[used], weight[used])
    local = np.full(mu.shape, np.nan)
    local[there] = _local_slopes(x[there], y[there], weight[there])
    return NoiseSlope(slope, slope_sigma, intercept, intercept_sigma, local, used)


def _local_slopes(x: F8, y: F8, weight: F8) -> F8:
    """Slope of the line through the neighbours of each point; NaN where they are fewer than three."""
    from_here = x - x[:, np.newaxis]
    near = (np.abs(from_here) <= math.log10(WINDOW) / 2.0) * weight
    total = near.sum(axis=1)
    centre = (near * from_here).sum(axis=1) / total
    away = from_here - centre[:, np.newaxis]
    spread = (near * away**2).sum(axis=1)
    enough = ((near > 0).sum(axis=1) >= 3) & (spread > 0)
    slopes = (near * away) @ y / np.where(enough, spread, 1.0)
    return np.where(enough, slopes, np.nan)


def _line_sigmas(x: F8, weight: F8) -> tuple[float, float]:
    """Of slope and intercept, for weights that are one over the variance."""
    centre = float(weight @ x / weight.sum())
    spread = float(weight @ (x - centre) ** 2)
    return math.sqrt(1.0 / spread), math.sqrt(1.0 / float(weight.sum()) + centre**2 / spread)


def local_slope(signal: ArrayLike, read_noise: float) -> F8:
    """Log-log slope of the noise that photon and readout noise have: ``S / (S + R^2) / 2``.

    Parameters
    ----------
    signal : array
        electron.
    read_noise : float
        electron.
    """
    light = np.asarray(signal, np.float64)
    return 0.5 * light / (light + read_noise**2)


def variance_against_mean(
    mean: ArrayLike, variance: ArrayLike, pixels: ArrayLike, *, weighted: bool = True
) -> GainLine:
    """A straight line through variance against mean: its slope is 1/g, its intercept (R/g)^2.

    Parameters
    ----------
    mean, variance, pixels : array
        (levels,), adu above the bias, adu^2 and pixels of each. Levels in the dark belong to it.
    weighted : bool
        Weigh each level by the variance that the line itself gives it, until both settle; else all alike.

    Raises
    ------
    SelectionError
        If fewer than two levels can be used, or the variance does not rise with the mean.

    Notes
    -----
    A variance of n pixels is known to v sqrt(2/n), so that its error grows with the signal: without weights
    the brightest levels decide the intercept, and the read noise drowns. Weights from the measured variances
    would favour those that came out low, by about 2/n; hence those of the line. Sigmas hold for either:
    without weights they are propagated from the noise that the line gives to each level.
    """
    mu, var, n = _equal(mean, variance, pixels)
    good = np.isfinite(mu) & np.isfinite(var) & (var > 0) & (n > 1)
    levels = Levels(mu[good], var[good], n[good])
    found = solve_curve("linear", levels) if good.sum() > 1 and np.ptp(levels.mean) > 0 else None
    if found is None:
        raise SelectionError(
            "no line goes through these levels", expected="two or more whose variance rises with their mean"
        )
    design = np.stack([levels.mean, np.ones(len(levels.mean))], axis=1)
    expected = evaluate("linear", found.parameters, levels.mean)[0]
    error = standard_error(expected, levels.pixels)
    weight = error**-2.0 if weighted else np.ones_like(error)
    inverse = np.linalg.inv(design.T @ (design * weight[:, np.newaxis]))
    terms = inverse @ (design.T @ (weight * levels.variance))
    spread = inverse @ (design * (weight * error)[:, np.newaxis]).T
    return gain_line(terms, spread @ spread.T)


def gain_line(terms: F8, covariance: F8) -> GainLine:
    """Gain and read noise of a line, from slope and intercept (2,) and their covariance (2, 2)."""
    slope, intercept = (float(term) for term in terms)
    gain = 1.0 / slope
    noise = math.sqrt(intercept) * gain if intercept > 0 else math.nan
    # R = sqrt(intercept) / slope
    by = np.array([-noise * gain, 0.5 * gain / math.sqrt(intercept)]) if intercept > 0 else np.full(2, np.nan)
    return GainLine(
        slope=slope,
        slope_sigma=math.sqrt(covariance[0, 0]),
        intercept=intercept,
        intercept_sigma=math.sqrt(covariance[1, 1]),
        gain=gain,
        gain_sigma=math.sqrt(covariance[0, 0]) * gain**2,
        read_noise=noise,
        read_noise_sigma=math.sqrt(float(by @ covariance @ by)),
    )


def straight_lines(mean: F8, variance: F8, pixels: F8, gain: float) -> dict[str, NDArray[np.generic]]:
    """What simpler curves than the fitted one make of its levels: they are offered, and their bias is said.

    Parameters
    ----------
    mean, variance, pixels : array
        (levels,), adu, adu^2 and pixels: the levels that the fit used.
    gain : float
        electron/adu, of the fit.

    Returns
    -------
    dict of array
        line (``unweighted``, ``weighted``, ``quadratic``), gain [electron/adu], read_noise [electron] and
        bias_percent, how much the gain differs from that of the fit; NaN where there is no such line.
    """
    rows: list[tuple[str, float, float]] = []
    for name, weighted in (("unweighted", False), ("weighted", True)):
        try:
            line = variance_against_mean(mean, variance, pixels, weighted=weighted)
            rows.append((name, line.gain, line.read_noise))
        except SelectionError:
            rows.append((name, math.nan, math.nan))
    parabola = solve_curve("quadratic", Levels(mean, variance, pixels)) if len(mean) > 2 else None
    own, square = (math.nan, math.nan) if parabola is None else parabola.parameters[[0, 2]].tolist()
    rows.append(("quadratic", own, math.sqrt(square) if square >= 0 else math.nan))
    names, gains, noises = zip(*rows, strict=True)
    return {
        "line": np.array(names),
        "gain": np.array(gains),
        "read_noise": np.array(noises),
        "bias_percent": 100.0 * (np.array(gains) / gain - 1.0),
    }


def variance_over_mean(
    mean: ArrayLike, variance: ArrayLike, *, read_noise: float = 0.0, least: float = 0.0
) -> MeanRatio:
    """``1 / g = <variance / mean>``, the trick of the exercise: right for bright levels only.

    A level of S electron gives (1 + R^2 / S) / g: 2.5 per cent too much at S = 1000 and R = 5, and 3.5 times
    1/g at 10. Take the read noise off, or leave out the faint levels, or fit a line.

    Parameters
    ----------
    mean, variance : array
        (levels,), adu and adu^2; levels of a mean <= 0 are left out.
    read_noise : float
        adu, taken off the variances in square; zero is the ratio as it stands.
    least : float
        adu: only levels above it.

    Raises
    ------
    SelectionError
        If no level is left.
    """
    mu, var = _equal(mean, variance)
    used = np.isfinite(var) & (mu > max(least, 0.0))
    if not used.any():
        raise SelectionError("no level is bright enough for a ratio", expected=f"a mean above {least:g} adu")
    ratios = np.full(mu.shape, np.nan)
    ratios[used] = (var[used] - read_noise**2) / mu[used]
    ratio = float(np.mean(ratios[used]))
    return MeanRatio(ratio, 1.0 / ratio, 1.0 / ratios)


def crossing(gain: float, read_noise: float) -> Crossing:
    """Where the two regimes of the noise meet: S = R^2.

    Parameters
    ----------
    gain : float
        electron/adu.
    read_noise : float
        electron.
    """
    return Crossing(read_noise**2, read_noise**2 / gain, math.sqrt(2.0) * read_noise / gain)


def what_gain_changes(gains: Sequence[float], read_noise: float, signal: float) -> dict[str, F8]:
    """One sensor read with several gains: what the plots of the exercise show of it, a column for each.

    Parameters
    ----------
    gains : sequence of float
        electron/adu.
    read_noise, signal : float
        electron.

    Returns
    -------
    dict of array
        (gains,) each: gain [electron/adu]; mean and noise [adu]; floor, the noise in the dark [adu];
        log_slope of the noise at this signal, and log_intercept of photon noise alone [log10 adu at 1 adu];
        variance_slope [adu/adu]; signal_to_noise. Of these log_slope and signal_to_noise never change.
    """
    gain = np.asarray(gains, np.float64)
    noise = math.sqrt(signal + read_noise**2) / gain
    same = np.ones_like(gain)
    return {
        "gain": gain,
        "mean": signal / gain,
        "noise": noise,
        "floor": read_noise / gain,
        "log_slope": local_slope(signal, read_noise) * same,
        "log_intercept": -0.5 * np.log10(gain),
        "variance_slope": 1.0 / gain,
        "signal_to_noise": signal / gain / noise,
    }


def _equal(*columns: ArrayLike) -> list[F8]:
    """Columns as float64 of the shape of the first."""
    first = np.asarray(columns[0], np.float64)
    try:
        return [np.broadcast_to(np.asarray(column, np.float64), first.shape) for column in columns]
    except ValueError:
        got = ", ".join(str(np.shape(column)) for column in columns)
        raise ShapeError(
            "columns of a curve must be of equal length", expected=first.shape, got=got
        ) from None
