"""Levels of an overscan strip: rejection, then a constant, a level per line, or a curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from calibrant.errors import OptionError, ShapeError
from calibrant.stats import MAD_TO_STD, clip_factor, median_factor

Fit = Literal["constant", "line", "polynomial", "spline", "cubic"]
Centre = Literal["median", "mean"]
Side = Literal["high", "both"]
Array = NDArray[np.float64]
Pixels = NDArray[np.floating]  # (lines, pixels)
NEIGHBOURS = 5  # lines on either side that stand in for a line without good pixels
WINDOW = 31  # lines of the running median that a contaminated line is compared with
FEWEST = 0.25  # a line with a smaller fraction of good pixels has no level of its own
CURVE_CLIP = 3.0  # sigma, of the line levels about a polynomial
CURVE_ITERATIONS = 5
ROUNDING = 0.3  # adu: integers of a quiet amplifier still scatter by 1/sqrt(12)


@dataclass(frozen=True)
class LevelModel:
    """How the level of an overscan strip is found.

    Attributes
    ----------
    fit : str
        ``constant`` (one level), ``line`` (one per row of a serial strip, per column of a parallel one),
        ``polynomial`` (Legendre series of the line levels), ``spline`` or ``cubic`` (through the levels of
        `bins` bins; natural or not-a-knot ends).
    centre : str
        ``median`` or ``mean``, of the good pixels of a line (of the strip, for ``constant``).
    order : int
        Of the Legendre series.
    bins : int
        Of the spline, at least 4.
    reject : float or None
        Limit in sigmas of the pixels about their line, and of line levels about a running median of their
        neighbours; None keeps all.
    side : str
        ``high`` rejects only what lies above, as the charge of bleeding trails and of deferred transfer
        does; ``both``.
    skip : tuple of int
        Pixels of the strip left out: next to the data, and at its far end.

    Raises
    ------
    OptionError
        If a value has no meaning.
    """

    fit: Fit = "line"
    centre: Centre = "median"
    order: int = 3
    bins: int = 16
    reject: float | None = 4.0
    side: Side = "high"
    skip: tuple[int, int] = (3, 0)

    def __post_init__(self) -> None:
        words = {"fit": get_args(Fit), "centre": get_args(Centre), "side": get_args(Side)}
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise OptionError(
                    f"unknown {name} of an overscan level",
                    expected=" or ".join(allowed),
                    got=repr(getattr(self, name)),
                )
        if self.order < 0 or self.bins < 4 or len(self.skip) != 2 or min(self.skip) < 0:
            raise OptionError(
                "order and skip must not be negative, and a spline needs bins",
                expected="at least 4 bins",
                got=f"order {self.order}, {self.bins} bins, skip {self.skip}",
            )
        if self.reject is not None and not self.reject > 0:
            raise OptionError(
                "a rejection limit must be positive",
                where="reject",
                got=self.reject,
                do="give None to keep all",
            )


@dataclass(frozen=True, eq=False)
class StripLevels:
    """Levels of one strip, and what the strip says about the noise.

    Attributes
    ----------
    level : ndarray
        float64, (lines,), adu.
    sigma : float
        Standard uncertainty of one line's level, adu.
    read_noise : float
        Standard deviation of the good pixels about their line, adu.
    rejected : float
        Fraction of the pixels that were rejected.
    """

    level: Array
    sigma: float
    read_noise: float
    rejected: float


def strip_levels(strip: NDArray[Any], model: LevelModel) -> StripLevels:
    """Level of every line of an overscan strip.

    Parameters
    ----------
    strip : ndarray
        (lines, pixels), adu, float32 or float64: a serial strip as it is, a parallel one transposed, with
        `LevelModel.skip` already removed. NaN marks pixels that are no good.
    model : LevelModel

    Returns
    -------
    StripLevels

    Raises
    ------
    ShapeError
        If no pixel is left.
    OptionError
        If too few lines are left for the curve.
    """
    # float32 holds what was decoded, and sorts in half the time; all sums are float64.
    values: Pixels = np.array(strip, np.float32 if strip.dtype == np.float32 else np.float64, order="C")
    good = np.isfinite(values)
    before = np.count_nonzero(good)
    if values.ndim != 2 or before == 0:
        raise ShapeError(
            "the overscan strip has no pixel left",
            got=f"{values.shape} (lines, pixels)",
            do="skip fewer pixels, or check its section in the instrument file",
        )
    if before < values.size:
        values[~good] = np.nan
    correction = 1.0 if model.reject is None else _reject_pixels(values, model, model.reject)
    counts, means, noise = _moments(values)
    noise *= correction
    centres = _medians(values, counts) if model.centre == "median" else means
    lines, sigma = _line_levels(centres, counts, values.shape[1], model, noise)
    level, factor = _MODELS[model.fit](lines, values, model)
    return StripLevels(level, sigma * factor, noise, 1.0 - int(counts.sum()) / before)


def _reject_pixels(values: Pixels, model: LevelModel, reject: float) -> float:
    """Set rejected pixels to NaN in place; by what the deviation of the others is to be multiplied."""
    lines = _medians(values)
    centred = values - lines[:, None]
    pixels = max(float(np.median(np.isfinite(values).sum(axis=1))), 2.0)
    # The median of a line follows its own pixels, so that residuals are too small by about sqrt(1 - 1/n).
    noise = MAD_TO_STD * float(np.nanmedian(np.abs(centred))) / math.sqrt(1.0 - 1.0 / pixels)
    noise = max(noise, ROUNDING)
    # A whole line may be contaminated, and then its own median hides it: compare it with its neighbours.
    odd = lines - _running_median(lines)
    jitter = max(MAD_TO_STD * float(np.nanmedian(np.abs(odd))), noise / math.sqrt(pixels))
    if model.side == "both":
        centred, odd = np.abs(centred), np.abs(odd)
    values[centred > reject * noise] = np.nan
    values[odd > 1.25 * reject * jitter] = np.nan
    both = clip_factor(reject)
    return both if model.side == "both" else 0.5 + 0.5 * both


def _moments(values: Pixels) -> tuple[NDArray[np.int64], Array, float]:
    """Count and mean of each line; standard deviation within lines, all lines together."""
    from calibrant.stack.kernels_amplifiers import line_moments  # brings numba, as late as it can

    counts, means = np.empty(len(values), np.int64), np.empty(len(values))
    squares = line_moments(values, counts, means)
    freedom = int(np.clip(counts - 1, 0, None).sum())
    return counts, means, math.sqrt(squares / freedom) if freedom else 0.0


def _line_levels(
    centres: Array, good: NDArray[np.int64], width: int, model: LevelModel, noise: float
) -> tuple[Array, float]:
    """Level of each line with enough good pixels, NaN for the others; and the sigma of one."""
    levels = centres
    enough = good >= max(1, math.ceil(FEWEST * width))
    if enough.any():
        levels[~enough] = np.nan
        good = good[enough]
    pixels = max(int(np.median(good)), 1)
    loss = median_factor(pixels) if model.centre == "median" else 1.0
    return levels, loss * noise / math.sqrt(pixels)


def _constant(lines: Array, values: Pixels, model: LevelModel) -> tuple[Array, float]:
    centre = np.nanmedian(values) if model.centre == "median" else np.nanmean(values)
    return np.full(lines.size, float(centre)), 1.0 / math.sqrt(np.isfinite(lines).sum())


def _line(lines: Array, values: Pixels, model: LevelModel) -> tuple[Array, float]:
    """Each line its own level; a line without one takes the median of its neighbours, else of all."""
    levels = lines.copy()
    for row in np.flatnonzero(np.isnan(lines)):
        near = lines[max(0, row - NEIGHBOURS) : row + NEIGHBOURS + 1]
        levels[row] = np.nanmedian(near if np.isfinite(near).any() else lines)
    return levels, 1.0


def _polynomial(lines: Array, values: Pixels, model: LevelModel) -> tuple[Array, float]:
    """Legendre series on [-1, 1], clipped; sigma is that of the mean over the lines."""
    x = np.linspace(-1.0, 1.0, lines.size) if lines.size > 1 else np.zeros(1)
    keep = np.isfinite(lines)
    curve: Array = np.zeros(lines.size)
    for _ in range(CURVE_ITERATIONS):
        if keep.sum() <= model.order:
            raise OptionError(
                "too few overscan lines for the polynomial",
                expected=f"more than {model.order} good lines",
                got=int(keep.sum()),
                do="lower the order",
            )
        curve = np.asarray(legendre.legval(x, legendre.legfit(x[keep], lines[keep], model.order)))
        residual = lines - curve
        width = max(MAD_TO_STD * float(np.median(np.abs(residual[keep]))), 1e-6)
        off = residual if model.side == "high" else np.abs(residual)
        good = np.nan_to_num(off, nan=np.inf) <= CURVE_CLIP * width
        if model.reject is None or (good == keep).all():
            break
        keep = good
    return curve, math.sqrt((model.order + 1) / keep.sum())


def _spline(lines: Array, values: Pixels, model: LevelModel) -> tuple[Array, float]:
    """Cubic spline through the mean levels of bins of lines, continued as straight lines at both ends."""
    edges = np.linspace(0, lines.size, model.bins + 1).astype(int)
    rows = np.arange(lines.size)
    middles, levels = [], []
    for low, high in pairwise(edges):
        good = np.flatnonzero(np.isfinite(lines[low:high])) + low
        if good.size:
            middles.append(rows[good].mean())
            levels.append(lines[good].mean())
    if len(middles) < 4:
        raise OptionError(
            "too few filled bins for a spline of the overscan", expected="at least 4", got=len(middles)
        )
    curve = CubicSpline(middles, levels, bc_type="natural" if model.fit == "spline" else "not-a-knot")
    inside = np.clip(rows, middles[0], middles[-1])
    level = curve(inside) + curve(inside, 1) * (rows - inside)
    return level, math.sqrt(len(middles) / np.isfinite(lines).sum())


_MODELS: dict[str, Callable[[Array, Pixels, LevelModel], tuple[Array, float]]] = {
    "constant": _constant,
    "line": _line,
    "polynomial": _polynomial,
    "spline": _spline,
    "cubic": _spline,
}


def _medians(values: Pixels, counts: NDArray[np.int64] | None = None) -> Array:
    """Median of each line without its NaN: as `numpy.nanmedian`, which takes ten times as long."""
    ordered = np.sort(values, axis=1)  # NaN come last
    width = values.shape[1]
    if counts is None:
        lacking = np.isnan(ordered[:, -1]).any()
        counts = width - np.isnan(ordered).sum(axis=1) if lacking else np.full(len(values), width)
    if counts.min() == width:  # as a rule
        return np.asarray(ordered[:, (width - 1) // 2 : width // 2 + 1].mean(axis=1, dtype=np.float64))
    middle = np.stack([np.maximum(counts - 1, 0) // 2, np.minimum(counts // 2, width - 1)], axis=1)
    return np.asarray(np.take_along_axis(ordered, middle, axis=1).mean(axis=1, dtype=np.float64))


def _running_median(lines: Array) -> Array:
    """Median of `WINDOW` lines about each; blind to NaN."""
    if lines.size < 3:
        return np.full(lines.size, np.nanmedian(lines))
    half = min(WINDOW // 2, (lines.size - 1) // 2)
    # Continued point-symmetrically: the ramp that amplifiers have in their first rows is no contamination.
    padded = np.pad(lines, half, mode="reflect", reflect_type="odd")
    smooth = _medians(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1))
    return np.where(np.isnan(smooth), np.nanmedian(lines), smooth)
