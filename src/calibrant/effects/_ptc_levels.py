"""Which levels of a photon transfer curve are good: outliers, and where the curve leaves its model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ptc_models import exponential, exponential_jacobian
from calibrant.effects._ptc_solve import Solution, solve
from calibrant.stats import MAD_TO_STD

F8 = NDArray[np.float64]
FREE = {"linear": [0, 2], "quadratic": [0, 1, 2], "exponential": [0, 1, 2]}
TOLERANCE = 0.01  # of the model: nearer levels are good, however many pixels prove them off the curve
ROUNDS = 20


class Levels(NamedTuple):
    """Good levels by rising mean: mean [adu], variance [adu^2], pixels."""

    mean: F8
    variance: F8
    pixels: F8

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Levels:
        """Some of them."""
        return Levels(self.mean[which], self.variance[which], self.pixels[which])


class Curve(NamedTuple):
    """A fit to some levels: parameters (3,), their covariance, the model at all levels, and the turn-off.

    The parameters are gain [electron/adu], a00 [1/electron] and noise squared [electron^2].
    """

    parameters: F8
    covariance: F8
    values: F8
    used: NDArray[np.bool_]
    turn: int


def evaluate(name: str, parameters: F8, mean: F8) -> tuple[F8, F8]:
    """Variance (levels,) [adu^2] and its derivatives (levels, 3) by gain, a00 and noise squared."""
    gain, a00, square = parameters
    noise = square / gain**2
    by_noise = np.full_like(mean, 1.0 / gain**2)
    if name == "exponential":
        slopes = exponential_jacobian(mean, gain, a00, 0.0)
        slopes[:, 0] -= 2.0 * noise / gain
        return exponential(mean, gain, a00, 0.0) + noise, slopes
    bend = a00 if name == "quadratic" else 0.0
    by_gain = -mean / gain**2 - 2.0 * noise / gain
    return mean / gain + bend * mean**2 + noise, np.stack([by_gain, mean**2, by_noise], axis=-1)


def standard_error(variance: F8, pixels: F8) -> F8:
    """Of a variance of normal values, ``v sqrt(2 / n)``, adu^2."""
    return np.abs(variance) * np.sqrt(2.0 / pixels)


def solve_curve(name: str, levels: Levels) -> Solution | None:
    """The model through all of the levels, parameters (3,); NaN covariance for a00 of a straight line."""
    free = FREE[name]
    start = _start(levels)
    if start is None or len(levels.mean) < len(free):
        return None
    if name == "linear":
        start[1] = 0.0
    floor = 1e-6 * float(np.max(levels.variance))

    def model(some: F8) -> tuple[F8, F8]:
        whole = start.copy()
        whole[free] = some
        values, slopes = evaluate(name, whole, levels.mean)
        return values, slopes[:, free]

    found = solve(
        model,
        lambda values: standard_error(np.maximum(values, floor), levels.pixels),
        levels.variance,
        start[free],
    )
    if found is None:
        return None
    parameters, covariance = start.copy(), np.full((3, 3), np.nan)
    parameters[free] = found.parameters
    covariance[np.ix_(free, free)] = found.covariance
    return Solution(parameters, covariance, found.values)


def _start(levels: Levels) -> F8 | None:
    """A parabola, else a line, with weights from the smoothed variances; None if it does not rise."""
    smooth = np.maximum(_running_median(levels.variance), 1e-3 * np.median(levels.variance))
    weight = 1.0 / standard_error(smooth, levels.pixels)
    top = float(np.max(np.abs(levels.mean)))
    x = levels.mean / top if top > 0 else levels.mean
    for powers in ((0, 1, 2), (0, 1)):
        if len(x) < len(powers):
            continue
        design = np.stack([x**power for power in powers], axis=1) * weight[:, np.newaxis]
        terms = np.linalg.lstsq(design, levels.variance * weight, rcond=None)[0]
        if top > 0 and terms[1] > 0:
            gain = top / terms[1]
            bend = terms[2] / top**2 if len(powers) == 3 else 0.0
            return np.array([gain, bend, terms[0] * gain**2])
    return None


def _running_median(values: F8) -> F8:
    """Of three neighbours; ends stay with the nearer two."""
    if len(values) < 3:
        return values
    padded = np.concatenate([values[1:2], values, values[-2:-1]])
    return np.asarray(np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0), np.float64)


def choose(name: str, levels: Levels, clip: float) -> Curve | None:
    """Fit, reject and fit again until the same levels are used.

    The first fit sees levels up to half the signal at which the variance is largest, and is extrapolated:
    what happens at saturation must not bend the curve that saturation is judged by. A level is off the curve
    beyond `clip` sigmas if that is also more than `TOLERANCE` of the model, for no model is so good that very
    many pixels could not refute it. One sigma is the standard error of the variance with that of the
    prediction, times the scatter of the used levels where that is more. The turn-off is the level that best
    parts levels on the curve from levels off it; those off it below are outliers.

    Returns
    -------
    Curve or None
        With the index of the turn-off; None if there is no fit.
    """
    used = _first(levels, len(FREE[name]))
    curve = None
    seen: set[bytes] = set()
    while used.tobytes() not in seen and len(seen) < ROUNDS:
        seen.add(used.tobytes())
        found = solve_curve(name, levels.take(used))
        if found is None:
            return curve
        values, _ = evaluate(name, found.parameters, levels.mean)
        departure = _departure(name, found, levels, used, values)
        away = (np.abs(departure) > clip) & (np.abs(levels.variance - values) > TOLERANCE * np.abs(values))
        turn = _parting(away)
        curve = Curve(found.parameters, found.covariance, values, used, turn)
        used = ~away & (np.arange(len(used)) <= turn)
        if used.sum() < len(FREE[name]):
            break
    return curve


def _first(levels: Levels, least: int) -> NDArray[np.bool_]:
    """Levels of the first fit: half way up, if that is twice as many as are needed, else up to the peak."""
    peak = int(np.argmax(_running_median(levels.variance)))
    half = levels.mean <= 0.5 * levels.mean[peak]
    return half if half.sum() >= 2 * least else np.arange(len(half)) < max(least, peak + 1)


def _departure(name: str, found: Solution, levels: Levels, used: NDArray[np.bool_], values: F8) -> F8:
    """Residuals in sigmas, each from a curve that has not seen the level itself.

    For a level that was used, r / sqrt(s^2 - p^2) with p the error of the prediction is that of the fit
    without it; for the others the two errors add.
    """
    _, slopes = evaluate(name, found.parameters, levels.mean)
    free = FREE[name]
    covariance = found.covariance[np.ix_(free, free)]
    error = standard_error(values, levels.pixels)
    predicted = np.einsum("ij,jk,ik->i", slopes[:, free], covariance, slopes[:, free])
    square = error**2 + np.where(used, -predicted, predicted)
    # A level that alone decides a parameter lies on its own curve and says nothing.
    alone = square < 1e-6 * error**2
    residual = np.where(alone, 0.0, levels.variance - values) / np.sqrt(np.where(alone, error**2, square))
    scatter = MAD_TO_STD * float(np.median(np.abs(residual[used]))) if used.sum() > len(free) else 1.0
    return np.asarray(residual / max(1.0, scatter), np.float64)


def _parting(away: NDArray[np.bool_]) -> int:
    """Index of the last level before the curve is left for good: fewest levels are on the wrong side."""
    wrong: NDArray[np.intp] = np.cumsum(away) + np.cumsum(~away[::-1])[::-1] - ~away
    best = np.flatnonzero(wrong == wrong.min())
    kept = best[~away[best]]
    return int(kept[-1] if kept.size else best[-1])
