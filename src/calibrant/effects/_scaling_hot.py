"""Hot pixels of two darks: cuts, populations kept apart, and what a cut does to the residuals."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_fit import Vector
from calibrant.effects._scaling_judge import skewness
from calibrant.effects._scaling_lines import INLIER, Noise, line
from calibrant.errors import OptionError, SelectionError
from calibrant.frame import DQ
from calibrant.stats import mad_std

Rule = Literal["from", "sigma", "persistent"]
Mask = NDArray[np.bool_]
WARM = 5.0  # widths of the core above its middle
HOT = 20.0
FEWEST = 30  # pixels of a population that has a line of its own
UNLIKE = 0.05  # of the slope: a smaller difference between populations does no harm
NAMES = ("normal", "warm", "hot", "telegraph")
BITS = {"warm": DQ.WARM, "hot": DQ.HOT, "telegraph": DQ.TELEGRAPH}
TAIL = 5.0  # robust sigmas, of tails of the residuals


@dataclass(frozen=True)
class Cut:
    """Which pixels are left out of a fit as hot.

    Attributes
    ----------
    rule : {"from", "sigma", "persistent"}
        ``from``: above the threshold in the dark scaled from (as published). ``sigma``: farther than
        `threshold` sigma from a robust line between the darks. ``persistent``: above it in every dark.
    threshold : float
        adu, or sigmas.
    """

    rule: Rule
    threshold: float

    @classmethod
    def of(cls, given: float | str | Cut | None) -> Cut | None:
        """A number is a threshold in adu on the first dark; ``5sigma``, ``persistent[:2500]`` look at both.

        Raises
        ------
        OptionError
            If it is none of these.
        """
        if given is None or isinstance(given, Cut):
            return given
        text = str(given).strip().lower()
        found = re.fullmatch(r"(?:(persistent)(?::(.+))?|(.+?)\s*(sigma)?)", text)
        try:
            if found is None:
                raise ValueError
            persistent, level, number, sigma = found.groups()
            value = float(level or "nan") if persistent else float(number)
        except ValueError:
            value, persistent, sigma, level = np.nan, None, None, None
        if not (value > 0 or (persistent and level is None)):
            raise OptionError(
                "a cut of hot pixels is a threshold", where="hot",
                expected="adu such as 2500, sigmas such as 5sigma, or persistent:2500", got=repr(given),
            )  # fmt: skip
        return cls("persistent" if persistent else "sigma" if sigma else "from", value)

    @property
    def name(self) -> str:
        """For tables."""
        if math.isnan(self.threshold):
            return self.rule
        if self.rule == "sigma":
            return f"beyond {self.threshold:g} sigma"
        return f"{'first dark' if self.rule == 'from' else self.rule} > {self.threshold:g}"


@dataclass(frozen=True, eq=False)
class Core:
    """Middle and width of the pixels that are not hot, from the half below the median."""

    middle: float
    width: float

    @classmethod
    def of(cls, values: Vector) -> Core:
        """Of pixels, adu."""
        middle = float(np.median(values))
        below = values[values <= middle]
        return cls(middle, max(1.4826 * float(np.median(middle - below)), 1e-12))

    def level(self, sigmas: float) -> float:
        """The value that lies `sigmas` widths above the middle."""
        return self.middle + sigmas * self.width


@dataclass(frozen=True, eq=False)
class Sorted:
    """The pixels used, sorted into populations.

    Attributes
    ----------
    population : ndarray of uint8
        Index into `NAMES`, (n,).
    z : ndarray
        Distance from the line of the own population in its sigmas, (n,).
    table : dict
        One row for each population.
    """

    population: NDArray[np.uint8]
    z: Vector
    table: dict[str, NDArray[Any]]


def hot_pixels(cut: Cut, x: Vector, y: Vector, z: Vector, others: Sequence[NDArray[Any]] = ()) -> Mask:
    """The pixels to be cut, (n,).

    Parameters
    ----------
    x, y, z : ndarray
        Both darks [adu], and the distance from the robust line between them in its sigmas, (n,).
    others : sequence of ndarray
        Further darks of the same pixels, (n,) each [adu], that a persistent pixel must be hot in, too.
    """
    if cut.rule == "from":
        return x > cut.threshold
    if cut.rule == "sigma":
        return np.abs(z) > cut.threshold
    own = np.isnan(cut.threshold)  # each dark's own level
    found = np.ones(x.size, np.bool_)
    for dark in (x, y, *others):
        found &= dark > (Core.of(dark).level(HOT) if own else cut.threshold)
    return found


def robust_z(x: Vector, y: Vector, noise: Noise, labels: NDArray[np.intp]) -> Vector:
    """Distance of each pixel from the robust line, in its sigmas; 0 where there is no line."""
    try:
        fitted = line(x, y, noise, labels, name="robust", loss="tukey")
    except (SelectionError, OptionError):
        return np.zeros(x.size)
    r = y - fitted(x)
    slope = float(fitted.coefficients[0])
    sigma = np.sqrt(noise.y + slope**2 * noise.x)
    size = float(mad_std(r / sigma))
    scale = max(size, 1.0) if noise.known else size
    return np.asarray(r / (sigma * scale)) if scale > 0 else np.zeros(x.size)


def sort_pixels(x: Vector, y: Vector, noise: Noise, hot_level: float | None) -> Sorted:
    """Normal, warm and hot pixels by what they keep in both darks; telegraph: off the line of their own kind.

    Parameters
    ----------
    x, y : ndarray
        Pixels of the darks, (n,), adu.
    noise : Noise
        Of both; where it is known it is the least that counts as a sigma.
    hot_level : float or None
        Above it in the first dark (and its like in the second) a pixel is hot; None: 20 widths of the core.
    """
    cores = Core.of(x), Core.of(y)
    level = max(hot_level or 0.0, 0.0) or cores[0].level(HOT)
    share = (level - cores[0].middle) / cores[0].width  # the same number of widths in both darks
    depth = np.minimum((x - cores[0].middle) / cores[0].width, (y - cores[1].middle) / cores[1].width)
    classes = np.where(depth > share, 2, np.where(depth > min(WARM, share), 1, 0)).astype(np.uint8)
    population, z = classes.copy(), np.zeros(x.size)
    rows = []
    for k in range(len(BITS)):
        own = classes == k
        told, used = _own_line(x[own], y[own], noise.at(own))
        slope, offset, scatter = used
        if np.isfinite(slope):
            unit = np.full(own.sum(), scatter)
            if noise.known:
                least = np.sqrt(noise.at(own).y + slope**2 * noise.at(own).x)
                unit = np.maximum(unit, least)
            z[own] = (y[own] - offset - slope * x[own]) / np.maximum(unit, 1e-12)
            population[own & (np.abs(z) > INLIER)] = 3
        rows.append(told)
    rows.append((np.nan,) * 4)
    table: dict[str, NDArray[Any]] = {"population": np.array(NAMES)}
    counts = np.bincount(population, minlength=4)
    table |= {"pixels": counts, "fraction": counts / x.size}
    for column, values in (("median_from", x), ("median_to", y)):
        table[column] = np.array(
            [np.median(values[population == k]) if counts[k] else np.nan for k in range(4)]
        )
    for index, column in enumerate(("slope", "slope_sigma", "offset", "scatter")):
        table[column] = np.array([row[index] for row in rows], np.float64)
    return Sorted(population, z, table)


def _own_line(
    x: Vector, y: Vector, noise: Noise
) -> tuple[tuple[float, float, float, float], tuple[float, float, float]]:
    """A robust line with errors in both: slope, its sigma, offset and scatter; and the line to judge by.

    Where the pixels tell no line (a core of noise alone), they are judged by their difference.
    """
    none = (np.nan,) * 4
    if x.size < FEWEST or np.ptp(x) == 0:
        return none, none[:3]
    try:
        fitted = line(x, y, noise, np.zeros(x.size, np.intp), name="population", loss="tukey")
    except (SelectionError, OptionError):
        return none, (1.0, float(np.median(y - x)), float(mad_std(y - x)))
    slope, offset = (float(value) for value in fitted.coefficients)
    scatter = float(mad_std(y - fitted(x)))
    return (slope, float(fitted.sigma[0]), offset, scatter), (slope, offset, scatter)


def apart(found: Sorted) -> list[str]:
    """A sentence, if normal and hot pixels follow lines of different slope."""
    slopes, sigmas = found.table["slope"], found.table["slope_sigma"]
    gap, sigma = abs(slopes[0] - slopes[2]), math.hypot(sigmas[0], sigmas[2])
    if not gap > max(INLIER * sigma, UNLIKE * abs(slopes[0])):
        return []
    return [
        f"normal and hot pixels follow different lines: slopes {slopes[0]:.4g} +- {sigmas[0]:.2g} and "
        f"{slopes[2]:.4g} +- {sigmas[2]:.2g}; one line for all is a compromise between them"
    ]


def cut_table(cuts: Iterable[tuple[str, str, Vector, int]]) -> dict[str, NDArray[Any]]:
    """Skewness and tails of residuals under different cuts.

    Parameters
    ----------
    cuts : iterable of (cut, model, residuals [adu], pixels cut)
    """
    rows = []
    for cut, model, r, count in cuts:
        centred = r - np.median(r)
        width = float(mad_std(r))
        left, right = int((centred < -TAIL * width).sum()), int((centred > TAIL * width).sum())
        lean = float(np.mean(np.clip(centred / max(width, 1e-12), -TAIL, TAIL)))
        rows.append((cut, model, count, skewness(r), width, left, right, lean))
    names = ("cut", "model", "pixels_cut", "skewness", "width", "left_tail", "right_tail", "lean")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
