"""What the estimators of read noise give for normal white noise: their bias, and their own scatter.

Found by carrying out the same arithmetic on seeded noise: the small sample, the correlation of consecutive
differences and the clips are all in it, for any number of files, integrations and groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ramp_noise import Method, Options, Scatter, pairs_of

SEED = 4118
VALUES = 2_000_000  # reads that are drawn: the bias is known to 0.08 % whatever the number of groups
FEWEST = 2000  # pixels
PARTS = (1.0, 0.9, 0.75, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05)

Structure = tuple[tuple[int, int], ...]
"""Integrations and groups of each file."""


@dataclass(frozen=True, eq=False)
class White:
    """A ramp of white noise of unit width, in memory."""

    reads: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Integrations, groups, rows, columns."""
        return self.reads.shape

    def values(self, rows: slice) -> NDArray[np.float32]:
        """Its reads."""
        return self.reads[:, :, rows]

    def read_dq(self, rows: slice) -> None:
        """No flags."""


@dataclass(frozen=True, eq=False)
class Factors:
    """Mean and relative scatter of the estimate, for the number of differences that were offered.

    Attributes
    ----------
    offered : ndarray
        Ascending.
    mean, scatter : ndarray
        Of the estimate of unit noise, and its standard deviation in units of the mean.
    """

    offered: NDArray[np.float64]
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    def at(self, offered: NDArray[np.float32]) -> tuple[Any, Any]:
        """Mean and relative scatter for each pixel, interpolated in 1 / n."""
        if len(self.offered) == 1:
            return np.float32(self.mean[0]), np.float32(self.scatter[0])
        inverse = 1.0 / np.maximum(np.arange(int(offered.max()) + 1), 1)
        index, order = offered.astype(np.intp), slice(None, None, -1)
        mean, scatter = (
            np.interp(inverse, 1.0 / self.offered[order], values[order]).astype(np.float32)[index]
            for values in (self.mean, self.scatter)
        )
        return mean, scatter


def factors(structure: Structure, method: Method, options: Options, whole: bool = True) -> Factors:
    """Of ramps of that structure.

    Parameters
    ----------
    structure : tuple
        (integrations, groups) of each file.
    whole : bool
        Whether every pixel has all its differences; if not, parts of them are looked at too.
    """
    rows = []
    for part in PARTS[:1] if whole else PARTS:
        cut = _part(structure, part)
        if sum(len(pairs_of(*one, "independent")) for one in cut) >= 1:
            clip = (options.clipping_sigma, options.max_clipping_iters, options.centre)
            rows.append(_factor(cut, method, options.group_diff_type, *clip))
    found = {offered: (mean, scatter) for offered, mean, scatter in rows}
    offered = sorted(found)
    return Factors(
        np.array(offered),
        np.array([found[n][0] for n in offered]),
        np.array([found[n][1] for n in offered]),
    )


def _part(structure: Structure, part: float) -> Structure:
    """Ramps with a part of their groups; where that leaves too few, fewer ramps."""
    if part >= 1:
        return structure
    short = [(many, max(2, round(part * groups))) for many, groups in structure]
    if all(part * groups >= 2 for _, groups in structure):
        return tuple(short)
    ramps = sum(many for many, _ in structure)
    return ((max(1, round(ramps * part * structure[0][1] / 2)), 2),)


@lru_cache(maxsize=256)
def _factor(
    structure: Structure, method: Method, kind: str, sigma: float, times: int, centre: str
) -> tuple[float, float, float]:
    """Differences offered, mean and relative scatter."""
    rng = np.random.default_rng(SEED)
    trials = max(FEWEST, VALUES // sum(many * groups for many, groups in structure))
    ramps = [White(rng.standard_normal((many, groups, 1, trials), np.float32)) for many, groups in structure]
    options = Options(group_diff_type=kind, clipping_sigma=sigma, max_clipping_iters=times, centre=centre)  # type: ignore[arg-type]
    planes = Scatter(ramps, method, options, np.ones((1, trials), bool))((0, 1))[1]
    noise = planes["noise"][np.isfinite(planes["noise"])].astype(np.float64)
    if noise.size < 2 or not noise.mean() > 0:
        return float(np.median(planes["offered"])), np.nan, np.nan
    unit = 1.0 if method == "residual" else np.sqrt(2.0)
    return float(np.median(planes["offered"])), float(noise.mean() / unit), float(noise.std() / noise.mean())
