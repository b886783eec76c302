"""The models of a dark scaling by name, fitted to the same pixels and judged by the same folds."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_fit import Fitted, Triangles, Vector, least_squares
from calibrant.effects._scaling_judge import (
    Judged,
    fold_blocks,
    held_out_squares,
    judge_least_squares,
    statistics,
    with_held_out,
)
from calibrant.effects._scaling_lines import Loss, Noise, line
from calibrant.errors import CalibrantError, OptionError, SelectionError
from calibrant.stats import mad_std

LINES: dict[str, Loss] = {
    "deming": "none",
    "york": "none",
    "huber": "huber",
    "tukey": "tukey",
    "robust": "tukey",
    "affine": "tukey",
}
"""Lines with errors in both darks, and how they weigh residuals."""
RANKS = {"add": -1, "mult": 0}
TRAINED = 100_000  # pixels that a line is fitted to where a fold is held out; all of the fold are judged
MEDIAN = math.sqrt(math.pi / 2)  # error of a median over that of a mean, for normal values
HIGHEST = 30  # degree; beyond it even the scaled basis has nothing to tell


@dataclass(frozen=True, eq=False)
class Sample:
    """The pixels that are fitted.

    Attributes
    ----------
    x, y : ndarray
        Both darks, (n,), float64, adu.
    labels : ndarray of int
        Block of the image, counted from 0 without gaps, (n,).
    noise : Noise or None
        Their variances, where known.
    ratio : float
        var(y) / var(x) where they are not.
    bias : float or None
        Level without dark current, adu.
    times : float
        Exposure time of the second dark over that of the first.
    temperatures : tuple of float or None
        Of both darks, deg C.
    """

    x: Vector
    y: Vector
    labels: NDArray[np.intp]
    noise: Noise | None = None
    ratio: float = 1.0
    bias: float | None = None
    times: float = 1.0
    temperatures: tuple[float | None, float | None] = (None, None)

    def at(self, which: NDArray[np.bool_]) -> Sample:
        """Some of the pixels."""
        _, labels = np.unique(self.labels[which], return_inverse=True)
        return replace(
            self,
            x=self.x[which],
            y=self.y[which],
            labels=labels.astype(np.intp),
            noise=None if self.noise is None else self.noise.at(which),
        )

    @property
    def errors(self) -> Noise:
        """The noise, or its ratio."""
        return self.noise or Noise.ratio(self.ratio)


def rank_of(name: str) -> int:
    """-1 for add, 0 for mult, n for poly<n>, 1 for the lines with errors in both darks.

    Raises
    ------
    OptionError
        With the nearest spelling.
    """
    if name in RANKS:
        return RANKS[name]
    found = re.fullmatch(r"poly([1-9]\d?)", name)
    if found and int(found[1]) <= HIGHEST:
        return int(found[1])
    if name in LINES:
        return 1
    known = [*RANKS, "poly1", "poly2", *LINES]
    near = difflib.get_close_matches(name, known, 1)
    raise OptionError(
        f"there is no model {name!r}",
        where="model",
        expected=f"add, mult, poly1 ... poly{HIGHEST}, {', '.join(LINES)}",
        do=f"did you mean {near[0]!r}?" if near else None,
    )


def name_of_rank(rank: int) -> str:
    """The least-squares model of a rank.

    Raises
    ------
    OptionError
        If there is none.
    """
    if rank < -1:
        raise OptionError("a rank is -1, 0 or the degree of a polynomial", where="ranks", got=rank)
    return {-1: "add", 0: "mult"}.get(rank, f"poly{rank}")


def fit_all(
    sample: Sample, names: Sequence[str], *, folds: int, seed: int, strict: bool
) -> tuple[list[Judged], list[str]]:
    """Every model fitted and judged; one that cannot be is an error if `strict`, else a note.

    Raises
    ------
    SelectionError, OptionError
        Of a model that cannot be fitted, or if none can.
    """
    ranks = {name: rank_of(name) for name in names}
    if sample.x.size == 0 or np.ptp(sample.x) == 0:
        raise SelectionError("no two pixels of the first dark differ", got=f"{sample.x.size} pixels")
    parts = fold_blocks(int(sample.labels.max()) + 1, folds, seed)
    degree = max((rank for name, rank in ranks.items() if name not in LINES), default=1)
    triangles = Triangles.of(sample.x, sample.y, sample.labels, degree)
    found: list[Judged] = []
    notes: list[str] = []
    for name, rank in ranks.items():
        try:
            if name in LINES:
                found.append(_judge_line(sample, name, parts))
                continue
            fitted = least_squares(triangles, rank, name)
            if name == "mult" and (total := float(sample.x.sum())) != 0:
                fitted.facts["ratio_of_means"] = (float(sample.y.sum()) / total, None, "")
            noise = sample.noise
            found.append(judge_least_squares(fitted, triangles, parts, sample.x, sample.y, noise))
        except CalibrantError as error:
            if strict or len(ranks) == 1:
                raise
            notes.append(f"{name} is left out: {error}")
    if not found:
        raise SelectionError(f"no model could be fitted: {notes[0] if notes else 'none was asked for'}")
    return found, notes


def _judge_line(sample: Sample, name: str, parts: Sequence[NDArray[np.intp]]) -> Judged:
    fitted = _fit_line(sample, name)
    judged = Judged(fitted, statistics(fitted, sample.x, sample.y, sample.noise))
    thin = np.zeros(sample.x.size, np.bool_)
    thin[:: max(sample.x.size // TRAINED, 1) | 1] = True  # odd: even steps would see half of the columns
    squares = held_out_squares(
        lambda which: _fit_line(sample.at(which & thin), name, fitted.coefficients),
        sample.x,
        sample.y,
        sample.labels,
        parts,
    )
    return with_held_out(judged, *squares)


def _fit_line(sample: Sample, name: str, start: Vector | None = None) -> Fitted:
    """Deming takes the mean noise, York that of each pixel; the robust ones whatever is known."""
    noise = sample.errors
    if name == "york" and not noise.known:
        raise OptionError(
            "york needs the noise of each pixel", where="model",
            do="give sigmas or a noise model, or take deming, which needs their ratio",
        )  # fmt: skip
    if name == "deming":
        ratio = float(np.mean(noise.y) / np.mean(noise.x))
        noise = Noise.ratio(ratio)
    fitted = line(sample.x, sample.y, noise, sample.labels, name=name, loss=LINES[name], start=start)
    if start is None:  # not for a fold
        _add_attenuation(sample, fitted)
        if name == "affine":
            _add_physics(sample, fitted)
    return fitted


def _add_attenuation(sample: Sample, fitted: Fitted) -> None:
    """What least squares does to the slope: 1 - var(noise of x) / var(x)."""
    noise = sample.noise
    if noise is not None and noise.known:
        value = 1.0 - float(np.mean(noise.x)) / float(np.var(sample.x))
        fitted.facts["attenuation"] = (value, None, "")


def _add_level_factor(sample: Sample, fitted: Fitted) -> None:
    """Dark current of the median pixel over that in the first dark: the slope, if pixels share one law."""
    assert sample.bias is not None
    levels = np.array([np.median(sample.x), np.median(sample.y)]) - sample.bias
    widths = np.array([mad_std(sample.x), mad_std(sample.y)]) * MEDIAN / math.sqrt(sample.x.size)
    if not levels[0] > 5 * widths[0] or not levels[1] > 0:
        return
    factor = float(levels[1] / levels[0]) / sample.times
    sigma = factor * float(np.hypot(*(widths / levels)))
    fitted.facts["level_factor"] = (factor, sigma, "")


def _add_physics(sample: Sample, fitted: Fitted) -> None:
    """bias + factor (dark current): y - B = f (x - B) + drift, with B where it is known.

    Where it is not, the level at which both lines would meet, offset / (1 - slope), stands for it.
    """
    slope, offset = (float(value) for value in fitted.coefficients)
    sigma = float(fitted.sigma[0])
    factor, facts = slope / sample.times, fitted.facts
    facts["temperature_factor"] = (factor, sigma / sample.times, "")
    if sample.bias is not None:
        _add_level_factor(sample, fitted)
        level = sample.bias
        gradient = np.array([level, 1.0])
        drift = math.sqrt(max(float(gradient @ fitted.covariance @ gradient), 0.0))
        facts["drift"] = (offset - level * (1.0 - slope), drift, "adu")
    elif abs(1.0 - slope) > 5.0 * sigma:
        gradient = np.array([offset / (1.0 - slope) ** 2, 1.0 / (1.0 - slope)])
        error = math.sqrt(max(float(gradient @ fitted.covariance @ gradient), 0.0))
        facts["implied_bias"] = (offset / (1.0 - slope), error, "adu")
    first, second = sample.temperatures
    if first is not None and second is not None and factor > 0 and abs(math.log(factor)) > 1e-12:
        change = second - first
        error = abs(math.log(2) * change / math.log(factor) ** 2 * sigma / slope)
        facts["doubling_temperature"] = (math.log(2) * change / math.log(factor), error, "K")
