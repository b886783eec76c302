"""How strong a pattern of fringes is in a frame: small boxes against it, each less the large box around it.

    mean(small) - mean(large) of the frame = amplitude * the same of the pattern,

by least squares with clipping. Small boxes are tiles that do not overlap; wings of sources reach over several
of them, so that the error is taken from sums over parts of the frame (a sandwich estimator).
Means, because medians are not linear: in a box on a crest of fringes the median of a frame that is noisier
than the pattern is smaller (2.5 % for fringes 24 pixels apart). Medians serve while sources are not masked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.stats import clip_factor, mad_std

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

SAMPLES = 21  # along each side of a large box: enough for its level, at a tenth of the cost
GOOD_SMALL, GOOD_LARGE = 0.5, 0.2  # of the pixels of a box that must be good
FEWEST = 20  # boxes
PARTS = 8  # along each side of the frame, whose sums give the error
MEDIAN = math.pi / 2.0  # variance of a median over that of a mean, of many values


@dataclass(frozen=True)
class Boxes:
    """Where the frame is held against the pattern.

    Attributes
    ----------
    boxes : int
        At most, at random places.
    small : int
        Half size of the small ones: they are 2 small + 1 pixels wide.
    large : int or None
        Half size of the large ones; 30, or a ninth of the shorter side if that is more.
    clip : float
        Sigmas from which on a box is left out.
    iterations : int
        Of the clipping.
    seed : int
        Of the places.
    """

    boxes: int = 30_000
    small: int = 3
    large: int | None = None
    clip: float = 3.0
    iterations: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.boxes < FEWEST or self.small < 0 or not self.clip > 0 or self.iterations < 1:
            raise OptionError(
                f"fringes are fitted at {FEWEST} boxes or more, clipped at least once at a positive limit",
                got=f"{self.boxes} boxes, half size {self.small}, clip {self.clip:g}",
            )
        if self.large is not None and self.large <= self.small:
            raise OptionError(
                "the large boxes must be larger than the small ones",
                where="large",
                expected=f"> {self.small}",
                got=self.large,
            )

    def reach(self, shape: tuple[int, ...]) -> int:
        """Half size of the large boxes."""
        return max(30, min(shape) // 9) if self.large is None else self.large


@dataclass(frozen=True)
class Amplitude:
    """How much of the pattern is in a frame, in the unit of the frame per unit of the pattern.

    Attributes
    ----------
    value, sigma : float
        NaN if too few boxes are good.
    boxes : int
        That were used.
    """

    value: float
    sigma: float
    boxes: int


def amplitude(
    image: F4,
    pattern: F4,
    variance: F4 | None,
    choice: Boxes,
    *,
    amplifiers: NDArray[Any] | None = None,
    shared: float = 0.0,
    robust: bool = False,
) -> Amplitude:
    """The amplitude of a pattern in an image.

    Parameters
    ----------
    image : ndarray
        float32, (rows, cols); NaN where sources are, or no good pixel.
    pattern : ndarray
        float32, (rows, cols), dimensionless; NaN where unknown.
    variance : ndarray, optional
        Of the pattern: its noise makes the slope too small, which is corrected for.
    choice : Boxes
    amplifiers : ndarray, optional
        Integers, (rows, cols): the amplifier of each pixel. Boxes end at its borders, where levels may have a
        step that is not light.
    shared : float
        Covariance of a pixel of the image with that of the pattern, where the image is part of the pattern.
    robust : bool
        Medians of boxes instead of means: for images whose sources are still there.
    """
    places = _tiles(image.shape, choice)
    parts = np.zeros((1, 1), np.uint8) if amplifiers is None else amplifiers
    owner = np.broadcast_to(parts, image.shape)
    good = np.isfinite(image) & np.isfinite(pattern)
    y = _differences(np.where(good, image, np.float32(np.nan)), owner, places, choice, robust)
    x = _differences(np.where(good, pattern, np.float32(np.nan)), owner, places, choice, robust)
    known = np.isfinite(x) & np.isfinite(y)
    y, x, places = y[known], x[known], places[known]
    of_box = (MEDIAN if robust else 1.0) * ((2 * choice.small + 1) ** -2.0 + SAMPLES**-2.0)
    noise = np.zeros(x.size)
    if variance is not None:
        noise = of_box * np.nan_to_num(variance[places[:, 0], places[:, 1]].astype(np.float64))
    part = places * PARTS // np.array(image.shape)
    return _slope(x, y, noise, shared * of_box, part[:, 0] * PARTS + part[:, 1], choice)


def _tiles(shape: tuple[int, ...], choice: Boxes) -> NDArray[np.int64]:
    """Middles (row, col) of small boxes at random places of a grid that begins at a random place."""
    rng, size = np.random.default_rng(choice.seed), 2 * choice.small + 1
    first = rng.integers(0, size, 2)
    axes = [np.arange(f, n - size + 1, size) + choice.small for f, n in zip(first, shape, strict=True)]
    row, col = np.meshgrid(*axes, indexing="ij")
    places = np.stack([row.ravel(), col.ravel()], axis=1)
    if len(places) > choice.boxes:
        places = places[np.sort(rng.choice(len(places), choice.boxes, replace=False))]
    return places


def _differences(
    image: F4, owner: NDArray[Any], places: NDArray[np.int64], choice: Boxes, robust: bool
) -> F8:
    """The small box less the large one, at each place; NaN with too few good pixels."""
    reach = choice.reach(image.shape)
    close = np.arange(-choice.small, choice.small + 1)
    offsets = np.unique(np.linspace(-reach, reach, min(SAMPLES, 2 * reach + 1)).round().astype(int))
    small = _levels(image, owner, places, close, GOOD_SMALL, robust)
    return small - _levels(image, owner, places, offsets, GOOD_LARGE, robust)


def _levels(
    image: F4,
    owner: NDArray[Any],
    places: NDArray[np.int64],
    offsets: NDArray[np.int64],
    least: float,
    robust: bool,
) -> F8:
    """Mean, or median, of the good pixels of boxes about places, within the amplifier of the middle."""
    rows, cols = places[:, :1] + offsets, places[:, 1:] + offsets
    inside = (rows >= 0) & (rows < image.shape[0]), (cols >= 0) & (cols < image.shape[1])
    rows, cols = (at.clip(0, n - 1) for at, n in zip((rows, cols), image.shape, strict=True))
    at = rows[:, :, np.newaxis], cols[:, np.newaxis, :]
    values, middles = image[at], owner[places[:, 0], places[:, 1]]
    own = owner[at] == middles[:, np.newaxis, np.newaxis]
    values[~(inside[0][:, :, np.newaxis] & inside[1][:, np.newaxis, :] & own)] = np.nan
    values = values.reshape(len(places), -1)
    count = np.count_nonzero(np.isfinite(values), axis=1)
    if robust:
        values = np.sort(values, axis=1)  # NaN come last
        each, last = np.arange(len(places)), values.shape[1] - 1
        below, above = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, last)
        middle = 0.5 * (values[each, below].astype(np.float64) + values[each, above])
    else:
        middle = np.nansum(values, axis=1, dtype=np.float64) / np.maximum(count, 1)
    return np.where(count >= max(1.0, least * offsets.size**2), middle, np.nan)


def _slope(x: F8, y: F8, noise: F8, shared: float, part: NDArray[np.int64], choice: Boxes) -> Amplitude:
    """Slope through the origin, boxes that lie far off left out.

    `noise` is the variance of each x, `shared` the covariance of the noise of x and y.
    """
    good = np.ones(x.size, np.bool_)
    if x.size < FEWEST:
        return Amplitude(math.nan, math.nan, 0)
    for _ in range(choice.iterations):
        square = float(np.square(x[good]).sum())
        light = square - float(noise[good].sum())
        # Where noise is all that is there, the pattern holds no fringes to be corrected for it.
        power = light if light > 0.5 * square else square
        product = float((x[good] * y[good]).sum()) - shared * int(good.sum())
        value = product / power if power > 0 else math.nan
        rest = y - value * x
        inside = np.abs(rest) <= choice.clip * max(float(mad_std(rest[good])), 1e-12)
        if inside.sum() < FEWEST or (inside == good).all():
            break
        good = inside
    if not power > 0:
        return Amplitude(math.nan, math.nan, 0)
    sums = np.bincount(part[good], (x * rest)[good], PARTS * PARTS)
    parts = np.unique(part[good]).size
    alone = np.square((x * rest)[good]).sum()  # as if all boxes were independent
    together = np.square(sums).sum() * parts / max(1, parts - 1) if parts > PARTS else alone
    sigma = clip_factor(choice.clip) * math.sqrt(float(max(alone, together))) / power
    return Amplitude(value, sigma, int(good.sum()))
