"""How well a scaled dark fits the other one: statistics, held-out error, and the choice of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_fit import Fitted, Triangles, Vector, held_out
from calibrant.effects._scaling_lines import Noise
from calibrant.errors import CalibrantError

FAR_MEAN = 5.0  # standard errors: the mean of residuals is not zero
ROUNDING = 1e-9  # of the signal: a smaller mean is none


@dataclass(frozen=True)
class Statistics:
    """Residuals r = y - f(x) of the pixels used.

    Attributes
    ----------
    n : int
    mean, std, rms, median : float
        Of r, adu; std is that of the population about the mean (divided by n), rms is about zero.
    sum_ratio : float
        sum(r) / sum(y).
    fractional : float
        As published: mean of r / y, over all pixels where y is not 0; biased, since 1 / y is noisy.
    fractional_median : float
        Median of r / y over y > 0.
    not_positive : int
        Pixels with y <= 0, where r / y says nothing.
    skewness : float
        Third standardised moment of r.
    chi2, median_pull : float
        Sum of r^2 / variance, and the median of abs(r) / sigma; NaN without known noise.
    aicc, bic : float
        n ln(mean r^2) + penalty, as for independent normal residuals.
    cv, cv_sigma : float
        Root of the mean squared held-out residual, and its standard error over the folds, adu.
    cv_gap, cv_gap_sigma : float
        By how much `cv` exceeds that of the best least-squares model, and the standard error of that
        difference over the same folds, adu: what the choice looks at.
    """

    n: int
    mean: float
    std: float
    rms: float
    median: float
    sum_ratio: float
    fractional: float
    fractional_median: float
    not_positive: int
    skewness: float
    chi2: float = math.nan
    median_pull: float = math.nan
    aicc: float = math.nan
    bic: float = math.nan
    cv: float = math.nan
    cv_sigma: float = math.nan
    cv_gap: float = math.nan
    cv_gap_sigma: float = math.nan


@dataclass(frozen=True, eq=False)
class Judged:
    """A model fitted and judged; `folds` are mean squared held-out residuals of each fold [adu2]."""

    fitted: Fitted
    statistics: Statistics
    folds: Vector = field(default_factory=lambda: np.zeros(0))
    chosen: bool = False


def skewness(values: Vector) -> float:
    """Third standardised moment; 0 for values that are all the same."""
    centred = values - values.mean()
    squared = centred * centred
    variance = float(squared.mean())
    return float(np.mean(squared * centred)) / variance**1.5 if variance > 0 else 0.0


def statistics(fitted: Fitted, x: Vector, y: Vector, noise: Noise | None) -> Statistics:
    """Of the pixels used, (n,) each, adu."""
    r = y - fitted(x)
    n, parameters = r.size, len(fitted.coefficients)
    mean_square = float(np.mean(r * r))
    total = float(y.sum())
    there, positive = y != 0, y > 0
    chi2 = pull = math.nan
    if noise is not None and noise.known:
        variance = noise.y + fitted.slope(x) ** 2 * noise.x
        chi2 = float(np.sum(r * r / variance))
        pull = float(np.median(np.abs(r) / np.sqrt(variance)))
    k = parameters + 1  # the scatter is one of them
    deviance = n * math.log(max(mean_square, np.finfo(np.float64).tiny))
    return Statistics(
        n, float(r.mean()), float(r.std()), math.sqrt(mean_square), float(np.median(r)),
        sum_ratio=float(r.sum()) / total if total else math.nan,
        fractional=float(np.mean(r[there] / y[there])) if there.any() else math.nan,
        fractional_median=float(np.median(r[positive] / y[positive])) if positive.any() else math.nan,
        not_positive=int((~positive).sum()),
        skewness=skewness(r),
        chi2=chi2,
        median_pull=pull,
        aicc=deviance + 2 * k + (2 * k * (k + 1) / (n - k - 1) if n > k + 1 else math.inf),
        bic=deviance + k * math.log(n),
    )  # fmt: skip


# --- held out ---------------------------------------------------------------------------------------------


def fold_blocks(number: int, folds: int, seed: int) -> list[NDArray[np.intp]]:
    """Which blocks are held out together: a random partition, so that no fold is one side of the image."""
    if number < 2:
        return []  # nothing is left to fit
    order = np.random.default_rng(seed).permutation(number)
    return [np.sort(part) for part in np.array_split(order, min(folds, number))]


def held_out_squares(
    fit: Callable[[NDArray[np.bool_]], Fitted],
    x: Vector,
    y: Vector,
    labels: NDArray[np.intp],
    folds: Sequence[NDArray[np.intp]],
) -> tuple[Vector, NDArray[np.intp]]:
    """As `held_out` for a model without triangles: fitted again without each fold; `labels` count from 0."""
    found, counts = [], []
    for fold in folds:
        out = np.isin(labels, fold)
        try:
            r = y[out] - fit(~out)(x[out])
            found.append(float(np.sum(r * r)))
        except CalibrantError:
            found.append(np.nan)
        counts.append(int(out.sum()))
    return np.array(found), np.array(counts, np.intp)


def with_held_out(judged: Judged, squares: Vector, counts: NDArray[np.intp]) -> Judged:
    """The held-out error, with its standard error over the folds."""
    per_fold = squares / np.maximum(counts, 1)
    if per_fold.size < 2 or not np.isfinite(per_fold).all():
        return judged
    error = math.sqrt(float(squares.sum() / counts.sum()))
    sigma = float(np.std(per_fold, ddof=1)) / math.sqrt(per_fold.size) / (2 * error) if error else 0.0
    made = replace(judged.statistics, cv=error, cv_sigma=sigma)
    return replace(judged, statistics=made, folds=per_fold)


def judge_least_squares(
    fitted: Fitted,
    triangles: Triangles,
    folds: Sequence[NDArray[np.intp]],
    x: Vector,
    y: Vector,
    noise: Noise | None,
) -> Judged:
    """A least-squares fit judged; what is held out comes from the triangles."""
    judged = Judged(fitted, statistics(fitted, x, y, noise))
    return with_held_out(judged, *held_out(triangles, folds, fitted.rank))


def choose(judged: Sequence[Judged]) -> list[Judged]:
    """Mark the model of choice: the simplest within one standard error of the smallest held-out error.

    The standard error is that of the *difference* between a model and the best over the same folds: what all
    models share, such as a fold with many hot pixels, says nothing about which is better. Only least-squares
    models compete: a line with errors in both darks, or a robust one, does not aim at small squares.
    """
    candidates = [one for one in judged if one.folds.size and one.fitted.weights is None]
    candidates = [one for one in candidates if one.fitted.name in ("add", "mult") or is_polynomial(one)]
    if not candidates:
        return list(judged)
    best = min(candidates, key=lambda one: one.statistics.cv)
    simple = sorted(candidates, key=lambda one: (len(one.fitted.coefficients), one.statistics.cv))
    for one in simple:
        gap = one.folds - best.folds
        if gap.mean() <= np.std(gap, ddof=1) / math.sqrt(gap.size):
            return [replace(_with_gap(other, best), chosen=other is one) for other in judged]
    return list(judged)


def _with_gap(one: Judged, best: Judged) -> Judged:
    """How far the held-out error is above the best one, over the same folds."""
    if one.folds.size != best.folds.size or not one.statistics.cv > 0:
        return one
    spread = float(np.std(one.folds - best.folds, ddof=1)) / math.sqrt(one.folds.size)
    gap, sigma = one.statistics.cv - best.statistics.cv, spread / (2 * one.statistics.cv)
    return replace(one, statistics=replace(one.statistics, cv_gap=gap, cv_gap_sigma=sigma))


def is_polynomial(one: Judged) -> bool:
    """Whether it is a least-squares polynomial."""
    return one.fitted.name == f"poly{one.fitted.rank}"


def _unlike_level(fitted: Fitted) -> list[str]:
    """A sentence, if the median pixel does not follow the line."""
    names = ("temperature_factor", "level_factor")
    (slope, error, _), (level, sigma, _) = (fitted.facts.get(name, (0.0, 0.0, "")) for name in names)
    if not level or abs(slope - level) <= FAR_MEAN * math.hypot(error or 0.0, sigma or 0.0):
        return []
    return [
        f"{fitted.name}: the slope is {slope:.4g}, but the dark current of the median pixel changed by "
        f"{level:.4g}: pixels have several activation energies, or the zero level drifted"
    ]


def remarks(judged: Sequence[Judged]) -> list[str]:
    """Sentences about the fits: means that are not zero, and what information criteria would have chosen."""
    notes = [note for one in judged for note in one.fitted.notes]
    for one in judged:
        s = one.statistics
        far = abs(s.mean) > FAR_MEAN * s.std / math.sqrt(s.n) and not abs(s.sum_ratio) < ROUNDING
        if s.std > 0 and far and one.fitted.rank <= 0:
            notes.append(
                f"{one.fitted.name}: the residuals have a mean of {s.mean:.4g}, "
                f"which their std ({s.std:.4g}) hides"
            )
        notes += _unlike_level(one.fitted)
    chosen = next((one for one in judged if one.chosen), None)
    plain = [one for one in judged if is_polynomial(one) or one.fitted.rank <= 0]
    if chosen is not None and len(plain) > 2:
        aicc, bic = (min(plain, key=lambda one: getattr(one.statistics, name)) for name in ("aicc", "bic"))
        notes.append(
            f"held-out blocks choose {chosen.fitted.name}, AICc {aicc.fitted.name}, BIC {bic.fitted.name}; "
            "the last two take residuals for independent and normal, which those of darks are not, and "
            "prefer high degrees"
        )
    return notes
