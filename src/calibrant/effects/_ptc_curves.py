"""Curves of three parameters through variances against their mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ptc_levels import Levels, Trial, running_median, standard_error
from calibrant.effects._ptc_models import exponential, exponential_jacobian
from calibrant.effects._ptc_solve import Solution, solve

F8 = NDArray[np.float64]
FREE = {"linear": [0, 2], "quadratic": [0, 1, 2], "exponential": [0, 1, 2]}


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
    smooth = np.maximum(running_median(levels.variance), 1e-3 * np.median(levels.variance))
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


def try_curve(name: str, levels: Levels, used: NDArray[np.bool_]) -> Trial[Solution] | None:
    """The model through the used levels, and what it predicts of all: for `_ptc_levels.choose`."""
    found = solve_curve(name, levels.take(used))
    if found is None:
        return None
    free = FREE[name]
    values, slopes = evaluate(name, found.parameters, levels.mean)
    covariance = found.covariance[np.ix_(free, free)]
    predicted = np.einsum("ij,jk,ik->i", slopes[:, free], covariance, slopes[:, free])
    return Trial(found, values, predicted)
