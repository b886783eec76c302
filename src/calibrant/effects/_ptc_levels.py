"""Which levels of a photon transfer curve are good: outliers, and where the curve leaves its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibrant.stats import MAD_TO_STD

F8 = NDArray[np.float64]
Mask = NDArray[np.bool_]
TOLERANCE = 0.01  # of the model: nearer levels are good, however many pixels prove them off the curve
ROUNDS = 20
T = TypeVar("T")


class Levels(NamedTuple):
    """Good levels by rising mean: mean [adu], variance [adu^2], pixels."""

    mean: F8
    variance: F8
    pixels: F8

    def take(self, which: Mask | NDArray[np.intp]) -> Levels:
        """Some of them."""
        return Levels(self.mean[which], self.variance[which], self.pixels[which])


class Trial(NamedTuple, Generic[T]):
    """A fit to some levels: its result, and at all levels the model and the variance of its prediction."""

    result: T
    values: F8
    predicted: F8


class Choice(NamedTuple, Generic[T]):
    """The last trial, the levels that it used, and the index of the turn-off."""

    trial: Trial[T]
    used: Mask
    turn: int


def standard_error(variance: F8, pixels: F8) -> F8:
    """Of a variance of normal values, ``v sqrt(2 / n)``, adu^2."""
    return np.abs(variance) * np.sqrt(2.0 / pixels)


def running_median(values: F8) -> F8:
    """Of three neighbours; ends stay with the nearer two."""
    if len(values) < 3:
        return values
    padded = np.concatenate([values[1:2], values, values[-2:-1]])
    return np.asarray(np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0), np.float64)


def first_levels(levels: Levels, least: int) -> Mask:
    """Levels of a first fit: half way to the largest variance, if that is twice as many as are needed.

    What happens at saturation must not bend the curve that saturation is judged by.
    """
    peak = int(np.argmax(running_median(levels.variance)))
    half = levels.mean <= 0.5 * levels.mean[peak]
    return half if half.sum() >= 2 * least else np.arange(len(half)) < max(least, peak + 1)


def choose(
    attempt: Callable[[Mask], Trial[T] | None], levels: Levels, used: Mask, least: int, clip: float
) -> Choice[T] | None:
    """Fit, judge all levels by the curve and fit again, until the same levels are used.

    A level is off the curve beyond `clip` sigmas if that is also more than `TOLERANCE` of the model, for no
    model is so good that very many pixels could not refute it. The turn-off is the level that best parts
    levels on the curve from levels off it; those off it below are outliers.

    Parameters
    ----------
    attempt : callable
        From used levels to a fit; None if there is none.
    levels : Levels
        All.
    used : array of bool
        (levels,), those of the first fit.
    least : int
        Levels that a fit needs.
    clip : float
        Sigmas.

    Returns
    -------
    Choice or None
        None if already the first fit fails.
    """
    choice = None
    seen: set[bytes] = set()
    while used.tobytes() not in seen and len(seen) < ROUNDS and used.sum() >= least:
        seen.add(used.tobytes())
        trial = attempt(used)
        if trial is None:
            break
        off = np.abs(levels.variance - trial.values) > TOLERANCE * np.abs(trial.values)
        away = off & (np.abs(_departure(trial, levels, used, least)) > clip)
        choice = Choice(trial, used, _parting(away))
        used = ~away & (np.arange(len(used)) <= choice.turn)
    return choice


def _departure(trial: Trial[T], levels: Levels, used: Mask, least: int) -> F8:
    """Residuals in sigmas, each from a curve that has not seen the level itself.

    For a level that was used, r / sqrt(s^2 - p^2) with p the error of the prediction is that of the fit
    without it; for the others the two errors add. Where used levels scatter more, their scatter is the sigma.
    """
    error = standard_error(trial.values, levels.pixels)
    square = error**2 + np.where(used, -trial.predicted, trial.predicted)
    # A level that alone decides a parameter lies on its own curve and says nothing.
    alone = square < 1e-6 * error**2
    residual = np.where(alone, 0.0, levels.variance - trial.values) / np.sqrt(
        np.where(alone, error**2, square)
    )
    scatter = MAD_TO_STD * float(np.median(np.abs(residual[used]))) if used.sum() > least else 1.0
    return np.asarray(residual / max(1.0, scatter), np.float64)


def _parting(away: Mask) -> int:
    """Index of the last level before the curve is left for good: fewest levels are on the wrong side."""
    wrong: NDArray[np.intp] = np.cumsum(away) + np.cumsum(~away[::-1])[::-1] - ~away
    best = np.flatnonzero(wrong == wrong.min())
    kept = best[~away[best]]
    return int(kept[-1] if kept.size else best[-1])
