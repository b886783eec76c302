"""Coefficients of crosstalk: what an amplifier has in common with bright pixels that are read with its own.

Around bright pixels, a target is a level of each row, a smooth background, and a part of every source,

    y(p) = a_row + sum over k of b_k T_k(p) + sum over s of c[s][t] x_s(p),

one linear least-squares fit for each target and frame, so that the error of the background is in that of c.
Rows have a level of their own because the overscan that was taken off has noise, the same all along a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._sky_sources import grown
from calibrant.errors import OptionError
from calibrant.stats import clip_factor, mad_std

F8 = NDArray[np.float64]
Planes = NDArray[np.float32]

FAINT = 0.1
"""Of the threshold: a target's own light above it is masked, and that of sources too small to be measured."""
ITERATIONS = 8
DEAD = 0.5  # of an amplifier's pixels: fewer that are good, and it is left out


@dataclass(frozen=True)
class Choice:
    """How bright pixels are looked for, and what is fitted to the others.

    Attributes
    ----------
    threshold : float
        adu above the background, from which on a pixel is bright.
    pixels : int
        Bright ones that an amplifier must have to count as a source.
    order : int
        Of the polynomial of the background.
    reach : int
        Distance from bright pixels up to which the background is fitted, pixels.
    grow : int
        Distance from a target's own bright pixels up to which it is left out, pixels.
    clip : float
        Sigmas.
    """

    threshold: float
    pixels: int = 50
    order: int = 2
    reach: int = 30
    grow: int = 20
    clip: float = 5.0

    def __post_init__(self) -> None:
        if not (self.threshold > 0 and self.clip > 0):
            raise OptionError(
                "threshold and clip are positive", got=f"threshold {self.threshold:g}, clip {self.clip:g}"
            )
        if self.pixels < 2 or min(self.order, self.reach, self.grow) < 0:
            raise OptionError(
                "a source has at least 2 pixels; order, reach and grow are not negative",
                got=f"pixels {self.pixels}, order {self.order}, reach {self.reach}, grow {self.grow}",
            )


@dataclass(frozen=True, eq=False)
class Seen:
    """What one frame says, or all of them: matrices [source][target]; NaN where it says nothing.

    Attributes
    ----------
    coefficient, sigma : ndarray
        (amplifiers, amplifiers), adu/adu.
    bright : ndarray
        (amplifiers,): pixels above the threshold.
    alive : ndarray
        (amplifiers,): whether there are good pixels.
    """

    coefficient: F8
    sigma: F8
    bright: NDArray[np.int64]
    alive: NDArray[np.bool_]


def coefficients(planes: Planes, choice: Choice) -> Seen:
    """Coefficients of the sources that are bright in one frame.

    Parameters
    ----------
    planes : ndarray
        float32, (amplifiers, rows, cols), adu, in the order of reading; NaN where saturated or bad.
    choice : Choice
    """
    count = len(planes)
    good = np.isfinite(planes)
    alive = good.mean(axis=(1, 2)) > DEAD
    signal = np.where(good, planes, np.float32(0))
    for number in np.flatnonzero(alive):
        signal[number] -= np.median(planes[number][good[number]])
    signal[~good] = 0
    lit = (signal > choice.threshold) & alive[:, np.newaxis, np.newaxis]
    bright = np.count_nonzero(lit, axis=(1, 2))
    sources = np.flatnonzero(bright >= choice.pixels)
    found = Seen(np.full((count, count), np.nan), np.full((count, count), np.nan), bright, alive)
    if not sources.size:
        return found
    others = np.setdiff1d(np.flatnonzero(alive), sources)
    usable = grown(lit[sources].any(axis=0), choice.reach) & good[alive].all(axis=0)
    usable &= ~(signal[others] > FAINT * choice.threshold).any(axis=0)
    for target in np.flatnonzero(alive):
        own = sources[sources != target]
        use = usable & ~grown(signal[target] > FAINT * choice.threshold, choice.grow)
        if own.size:
            values, errors = _fit(signal[target], signal[own], use, choice)
            found.coefficient[own, target], found.sigma[own, target] = values, errors
    return found


def _fit(target: Planes, sources: Planes, use: NDArray[np.bool_], choice: Choice) -> tuple[F8, F8]:
    """Coefficients of the sources in a target, and their errors; NaN if they cannot be told apart."""
    nothing = np.full(len(sources), np.nan)
    rows, cols = np.nonzero(use)
    x = sources[:, rows, cols].astype(np.float64)
    # Where the target was left out, a source may have lost its bright pixels.
    if rows.size and (np.count_nonzero(x > choice.threshold, axis=1) < choice.pixels).any():
        seen = np.count_nonzero(x > choice.threshold, axis=1) >= choice.pixels
        use = use & ~(sources[~seen] > FAINT * choice.threshold).any(axis=0)
        values, errors = nothing.copy(), nothing.copy()
        if seen.any():
            values[seen], errors[seen] = _fit(target, sources[seen], use, choice)
        return values, errors
    design = np.concatenate([x / choice.threshold, _background(rows, cols, use.shape, choice.order)])
    if rows.size <= 2 * len(design):
        return nothing, nothing
    values, errors = _clipped(design, target[rows, cols].astype(np.float64), rows, choice.clip)
    return values[: len(x)] / choice.threshold, errors[: len(x)] / choice.threshold


def _background(rows: NDArray[np.int64], cols: NDArray[np.int64], shape: tuple[int, ...], order: int) -> F8:
    """Terms of a polynomial that are not constant along rows, (terms, pixels); coordinates from -1 to 1."""
    y, x = (2.0 * at / max(1, size - 1) - 1.0 for at, size in zip((rows, cols), shape, strict=True))
    terms = [y**i * x**j for i in range(order + 1) for j in range(1, order + 1 - i)]
    return np.array(terms).reshape(len(terms), rows.size)


def _off_rows(values: F8, rows: NDArray[np.int64], good: NDArray[np.bool_]) -> F8:
    """(..., pixels) less the mean of the good ones of each row."""
    count = np.maximum(np.bincount(rows[good], minlength=int(rows.max()) + 1), 1)
    means = [np.bincount(rows[good], line[good], count.size) / count for line in np.atleast_2d(values)]
    return values - np.reshape(means, (*values.shape[:-1], count.size))[..., rows]


def _clipped(terms: F8, signal: F8, rows: NDArray[np.int64], clip: float) -> tuple[F8, F8]:
    """Least squares with outliers left out, (terms,), and the errors from the scatter that is left."""
    nothing = np.full(len(terms), np.nan)
    good = np.ones(signal.size, np.bool_)
    for _ in range(ITERATIONS):
        design, y = _off_rows(terms, rows, good), _off_rows(signal, rows, good)
        a = design[:, good]
        try:
            inverse = np.linalg.inv(a @ a.T)
        except np.linalg.LinAlgError:  # two sources of one shape at one place
            return nothing, nothing
        values = inverse @ (a @ y[good])
        rest = y - values @ design
        inside = np.abs(rest) <= clip * max(float(mad_std(rest[good])), 1e-9)
        if inside.sum() <= 2 * len(design) or (inside == good).all():
            break
        good = inside
    freedom = int(np.count_nonzero(good)) - len(terms) - np.unique(rows[good]).size
    scatter = clip_factor(clip) * math.sqrt(float(np.square(rest[good]).sum()) / max(1, freedom))
    variance = np.diagonal(inverse)
    if not (np.isfinite(variance).all() and (variance > 0).all()):
        return nothing, nothing
    return values, scatter * np.sqrt(variance)


@dataclass(frozen=True, eq=False)
class Combined:
    """All frames together: matrices [source][target]; NaN, and no frame, where nothing is known.

    Attributes
    ----------
    coefficient, sigma : ndarray
        adu/adu; the sigma is widened where frames differ by more than their errors.
    frames : ndarray
        int64: how many were used.
    chi2 : ndarray
        Reduced, of the frames about their mean; NaN for one frame.
    """

    coefficient: F8
    sigma: F8
    frames: NDArray[np.int64]
    chi2: F8


def combined(seen: list[Seen], clip: float) -> Combined:
    """Mean over frames, weighted by errors; of three or more, those far from their median are left out."""
    values, sigmas = (np.stack([getattr(one, name) for one in seen]) for name in ("coefficient", "sigma"))
    known = np.isfinite(values) & (sigmas > 0)
    many = np.count_nonzero(known, axis=0) >= 3
    middle = np.nanmedian(np.where(known | ~known.any(axis=0), np.where(known, values, 0.0), np.nan), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        far = np.abs(values - middle) > clip * sigmas
        known &= ~(far & many)
        weight = np.where(known, sigmas**-2.0, 0.0)
        total = weight.sum(axis=0)
        mean = np.where(known, weight * values, 0.0).sum(axis=0) / total
        frames = np.count_nonzero(known, axis=0)
        square = np.where(known, weight * np.square(values - mean), 0.0).sum(axis=0)
        chi2 = np.where(frames > 1, square / (frames - 1), np.nan)
        sigma = total**-0.5
        wider = np.sqrt(np.fmax(chi2, 1.0))
    sigma = np.where(frames >= 3, sigma * wider, sigma)
    empty = frames == 0
    return Combined(np.where(empty, np.nan, mean), np.where(empty, np.nan, sigma), frames, chi2)
