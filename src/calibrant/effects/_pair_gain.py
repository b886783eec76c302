"""Gain from pairs of flats: the noise of their difference against their signal."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._levels import spread
from calibrant.exposures import Exposures
from calibrant.frame import DQ
from calibrant.product import Product, Quantity
from calibrant.stack.source import Source, decode

CLIP = 5.5  # sigmas of the difference: normal noise loses 1e-6 of its width
BLOCK = 128  # pixels: within a block the light is even enough for one level


def pair_gain(flats: Exposures, bias: Product, saturation: float | None = None) -> Quantity | None:
    """Gain of flats of one filter, e-/adu, from the differences of neighbours in time.

    ``g = sum(mu) / sum(var(D) / 2 - r**2)`` over blocks of the image, with mu the level above the bias [adu],
    D the difference of two frames brought to one level [adu], and r the read noise [adu]. In a difference the
    flat's own structure cancels; see Janesick (2001), Scientific Charge-Coupled Devices, chapter 2.

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
        ``pair_gain`` with the standard error of the pairs; None where no pair is usable.
    """
    read_noise = float(np.median([q.value for q in bias if q.name == "read_noise"]))
    sources = flats.sources()
    pairs = [
        _one_pair(sources[i], sources[i + 1], bias.data, read_noise, saturation)
        for i in range(0, len(sources) - 1, 2)
    ]
    sums = np.array([pair for pair in pairs if pair is not None])
    if sums.size == 0 or not sums[:, 1].sum() > 0:
        return None
    signal, variance, count = sums.sum(axis=0)
    value = signal / variance
    # A variance of n values is known to sqrt(2/n); the scatter of several pairs says it too.
    error = value * math.sqrt(2.0 / count)
    if len(sums) > 2:
        error = max(error, float(np.std(sums[:, 0] / sums[:, 1], ddof=1)) / math.sqrt(len(sums)))
    return Quantity("pair_gain", float(value), error, "electron/adu")


def _one_pair(
    one: Source, other: Source, bias: NDArray[np.floating], read_noise: float, saturation: float | None
) -> tuple[float, float, float] | None:
    """Sums over the blocks of a pair: level, variance of the light, pixels; None without a good block."""
    rows, cols = one.shape
    signal = variance = count = 0.0
    for top in range(0, rows, BLOCK):
        band = slice(top, min(top + BLOCK, rows))
        a, b = (_counts(source, band, saturation) - bias[band] for source in (one, other))
        for left in range(0, cols, BLOCK):
            found = _block(a[:, left : left + BLOCK], b[:, left : left + BLOCK])
            if found is not None:
                mu, width, n = found
                signal += mu * n
                variance += (width**2 / 2.0 - read_noise**2) * n
                count += n
    return (signal / count, variance / count, count) if count else None


def _counts(source: Source, band: slice, saturation: float | None) -> NDArray[np.float32]:
    """Rows of a flat, NaN where they are flagged or saturated."""
    shape = (band.stop - band.start, source.shape[1])
    raw = np.empty(shape, np.dtype(source.encoding.dtype))
    dq = np.zeros(shape, np.uint32) if source.has_dq else None
    source.read_into(band, raw, dq)
    values: NDArray[np.float32] = decode(raw, source.encoding).astype(np.float32)
    if dq is not None:
        values[(dq & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) != 0] = np.nan
    if saturation is not None:
        values[values >= saturation] = np.nan
    return values


def _block(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[float, float, int] | None:
    """Level, clipped width of the difference, and pixels of a block; None if it cannot be used."""
    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < 0.9 * good.size:
        return None
    one, other = float(np.mean(a[good])), float(np.mean(b[good]))
    if not (one > 0 and other > 0):
        return None
    mean = (one + other) / 2.0
    found = spread(a[good] * np.float32(mean / one) - b[good] * np.float32(mean / other), clip=CLIP)
    return mean, found.std, found.count
