"""Gain from pairs of flats: the noise of their difference against their signal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrant.effects._amplifiers import read
from calibrant.effects._pairs import Light, look
from calibrant.exposures import Exposures
from calibrant.product import Product, Quantity
from calibrant.stack.source import Source

BLOCK = 128  # pixels: within a block even the light of a twilight sky changes its level alone
GOOD = 0.9  # of a block's pixels


class Estimate(NamedTuple):
    """Gain with its standard uncertainty, e-/adu; NaN where no pair is usable."""

    gain: float
    sigma: float


def estimate(mean: ArrayLike, variance: ArrayLike, pixels: ArrayLike, noise: ArrayLike) -> Estimate:
    """Gain of pairs: ``g = sum(n mu) / sum(n (v - r^2))``, v half the variance of a difference.

    A ratio of sums, not a mean of ratios: unbiased down to 20 electrons and a read noise of 5. See Janesick
    (2001), Scientific Charge-Coupled Devices, chapter 2.

    Parameters
    ----------
    mean : array
        (pairs,), mu: adu above the bias; pairs with a NaN are left out.
    variance : array
        (pairs,), v: adu^2, of one frame.
    pixels : array
        (pairs,), n.
    noise : array
        (pairs,) or one number, r^2: read noise squared as it is in v, adu^2.

    Returns
    -------
    Estimate
        Its sigma is that of variances of n values, at least the scatter of three or more pairs.
    """
    mu, v, n, square = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (mean, variance, pixels, noise))
    )
    good = np.isfinite(mu) & np.isfinite(v) & (n > 1)
    mu, v, n, square = mu[good], v[good], n[good], square[good]
    light = float(n @ (v - square))
    if not light > 0:
        return Estimate(math.nan, math.nan)
    gain = float(n @ mu) / light
    sigma = gain * math.sqrt(2.0 * float(n @ np.square(v))) / light
    if len(mu) > 2:
        scatter = n * (mu - gain * (v - square)) / light
        sigma = max(sigma, math.sqrt(float(scatter @ scatter) * len(mu) / (len(mu) - 1)))
    return Estimate(gain, sigma)


def pair_gain(flats: Exposures, bias: Product, saturation: float | None = None) -> Quantity | None:
    """Gain of flats of one filter, e-/adu, from the differences of neighbours in time; see `estimate`.

    Frames are scaled to each other block by block, so that the sky of twilight may change its gradient.

    Parameters
    ----------
    flats : Exposures
        Raw, adu; at least two, in order of time.
    bias : Product
        With the quantity read_noise [adu].
    saturation : float, optional
        adu, of raw values: blocks that reach it are left out.

    Returns
    -------
    Quantity or None
        ``pair_gain`` with its standard error; None where no pair is usable.
    """
    read_noise = float(np.median([q.value for q in bias if q.name == "read_noise"]))
    sources = flats.sources()
    pairs = [
        _whole(list(_blocks(one, other, bias.data, saturation)), read_noise)
        for one, other in zip(sources[::2], sources[1::2], strict=False)
    ]
    found = estimate(*np.reshape(pairs, (-1, 4)).T)
    return Quantity("pair_gain", *found, "electron/adu") if math.isfinite(found.gain) else None


def _whole(blocks: list[Light], read_noise: float) -> tuple[float, float, float, float]:
    """Mean, variance, pixels and noise of a pair from those of its blocks."""
    n = np.array([light.pixels for light in blocks], np.float64)
    if not n.sum():
        return math.nan, math.nan, 0.0, 0.0
    means = ([x.mean, x.variance, x.noise_factor * read_noise**2] for x in blocks)
    mean, variance, noise = np.average(np.array(list(means)), axis=0, weights=n)
    return float(mean), float(variance), float(n.sum()), float(noise)


def _blocks(
    one: Source, other: Source, bias: NDArray[np.floating], saturation: float | None
) -> Iterator[Light]:
    """Blocks of a pair that hold light and are good nearly everywhere."""
    rows, cols = one.shape
    for top in range(0, rows, BLOCK):
        band = slice(top, min(top + BLOCK, rows))
        a, b = (read(source, band, saturation) - bias[band] for source in (one, other))
        for left in range(0, cols, BLOCK):
            parts = [np.asarray(x[:, left : left + BLOCK], np.float32) for x in (a, b)]
            light = look(*parts, minimum=math.ceil(GOOD * parts[0].size))
            if light.mean > 0:
                yield light
