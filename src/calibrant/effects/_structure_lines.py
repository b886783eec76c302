"""Structures that follow the readout: columns that differ from their neighbours, and periodic patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._structure_geometry import Amplifier
from calibrant.stats import mad_std

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
CHUNKS = 8  # of rows, in which a column is judged: charge trails begin anywhere
COLUMN = 0.004  # smallest departure, relative, that makes a column a structure
FIRST = 0.03  # the same for the first and the last of an amplifier, which have neighbours on one side only
SHARE = 0.7  # of the threshold, that each chunk of rows has to pass
TRIALS = 1.4  # so many more sigmas for what may be in any column
LOWEST = 5  # periods that must fit into an amplifier
UNLIKE = 0.5  # of the mean wave: how much single amplifiers may differ from it
BESIDE = 4  # frequencies off the axis on either side that tell what is no line


@dataclass(frozen=True)
class Column:
    """A column that differs from its neighbours.

    Attributes
    ----------
    amplifier, col : int
        Index of the amplifier, and column of the detector.
    rows : tuple of int
        First row, and the one after the last.
    amplitude, sigma : float
        Relative to its neighbours: positive is bright.
    """

    amplifier: int
    col: int
    rows: tuple[int, int]
    amplitude: float
    sigma: float


@dataclass(frozen=True)
class Peak:
    """A periodic pattern common to the amplifiers of a detector.

    Attributes
    ----------
    axis : int
        0: the level changes from row to row; 1: from column to column.
    period : float
        Pixels, in the order of the readout.
    amplitude, sigma : float
        Of the sine, relative.
    significance : float
        Sigmas of a normal distribution, trials counted.
    """

    axis: int
    period: float
    amplitude: float
    sigma: float
    significance: float


def columns(log: F4, amplifiers: Sequence[Amplifier], scatter: F8, threshold: float) -> tuple[Column, ...]:
    """Columns, or parts of them, that are brighter or darker than those on both sides.

    Parameters
    ----------
    log : array
        (rows, cols), ln of the response.
    scatter : array
        (amplifiers,), of single pixels.
    threshold : float
        Sigmas, of the larger of the noise and of what the columns of the amplifier scatter.
    """
    found: list[Column] = []
    for index, amp in enumerate(amplifiers):
        found += _columns(log[amp.window], index, amp, float(scatter[index]), threshold, log.shape[1])
    return tuple(found)


def _columns(
    own: F4, index: int, amp: Amplifier, scatter: float, threshold: float, width: int
) -> list[Column]:
    rows, cols = own.shape
    chunks = [chunk for chunk in np.array_split(np.arange(rows), min(CHUNKS, rows)) if chunk.size]
    if cols < 9 or not math.isfinite(scatter):
        return []
    profile = np.array([_medians(own[chunk]) for chunk in chunks])  # (chunks, cols)
    left, right = (_medians_of_three(profile, side) for side in (-1, 1))
    with np.errstate(invalid="ignore"):
        # A slope is between its neighbours; a bad column is beyond both.
        excess = np.maximum(profile - np.fmax(left, right), 0.0) + np.minimum(
            profile - np.fmin(left, right), 0.0
        )
    noise = 1.2533 * scatter / math.sqrt(rows / len(chunks)) * math.sqrt(1.0 + 1.0 / 3.0)
    plain = profile - np.where(
        np.isfinite(left) & np.isfinite(right), 0.5 * (left + right), np.fmin(left, right)
    )
    typical = mad_std(plain[np.isfinite(plain)]) if np.isfinite(plain).any() else 0.0
    sigma = max(noise, float(typical), 1e-9)
    least = np.full(cols, COLUMN)
    least[[0, -1]] = FIRST
    strength = np.where(np.abs(excess) > least, np.nan_to_num(excess) / sigma, 0.0)
    first = amp.window[1].start
    found = []
    for col in np.flatnonzero((np.abs(strength) > SHARE * threshold).any(axis=0)):
        if first + col < 2 or first + col >= width - 2:
            continue  # the roll-off of the edge has no other side
        for run in _runs(strength[:, col], threshold):
            start, stop = int(chunks[run.start][0]), int(chunks[run.stop - 1][-1]) + 1
            amplitude = float(np.expm1(np.median(plain[run, col])))
            rows_of = (amp.window[0].start + start, amp.window[0].start + stop)
            error = sigma / math.sqrt(run.stop - run.start)
            found.append(Column(index, int(first + col), rows_of, amplitude, error))
    return found


def _runs(strength: F8, threshold: float) -> list[slice]:
    """Successive chunks of rows that depart to one side, and together are beyond doubt."""
    found, k = [], 0
    sides = np.where(np.abs(strength) > SHARE * threshold, np.sign(strength), 0.0)
    while k < sides.size:
        end = k + 1
        while end < sides.size and sides[end] == sides[k]:
            end += 1
        together = abs(float(strength[k:end].sum())) / math.sqrt(end - k)
        # One chunk alone may be a pixel or the crest of a ring: it has to be strong.
        if sides[k] and together > (TRIALS if end - k > 1 else 2.0) * threshold:
            found.append(slice(k, end))
        k = end
    return found


def _medians(part: F4) -> F8:
    """Median of each column; NaN where fewer than half of the rows count."""
    enough = 2 * np.isfinite(part).sum(axis=0) >= len(part)
    found = np.full(part.shape[1], np.nan)
    if enough.any():
        found[enough] = _medians_of_known(part[:, enough])
    return found


def _medians_of_known(part: NDArray[np.floating]) -> F8:
    """As `numpy.nanmedian`, which takes many times as long for short columns; each has a finite value."""
    ordered = np.sort(part.T.astype(np.float64), axis=1)  # NaN last
    count = np.count_nonzero(~np.isnan(ordered), axis=1)
    lower, upper = (
        np.take_along_axis(ordered, at[:, np.newaxis], 1)[:, 0] for at in ((count - 1) // 2, count // 2)
    )
    return np.asarray(0.5 * (lower + upper), np.float64)


def _medians_of_three(profile: F8, side: int) -> F8:
    """Median of the three columns on one side; NaN beyond the amplifier."""
    padded = np.pad(profile, ((0, 0), (3, 3)), constant_values=np.nan)
    n = profile.shape[1]
    shifted = np.array([padded[:, 3 + side * k : 3 + side * k + n] for k in (1, 2, 3)])
    some = np.isfinite(shifted).any(axis=0)
    found = np.full(profile.shape, np.nan)
    found[some] = _medians_of_known(shifted[:, some])
    return found


def periods(clean: F4, amplifiers: Sequence[Amplifier], threshold: float) -> tuple[Peak, ...]:
    """Patterns along rows or columns that all amplifiers have in the order of their readout.

    The amplifiers are averaged in that order: what lies in the light or the silicon is at another phase in
    each. In the Fourier plane of the mean such a pattern is one point on an axis; power beside the axis tells
    how much other structure there is at that frequency.

    Parameters
    ----------
    clean : array
        (rows, cols), ln of the response, NaN where it does not count.
    threshold : float
        Sigmas.
    """
    shapes = {tuple(s.stop - s.start for s in amp.window) for amp in amplifiers}
    if len(shapes) != 1 or min(next(iter(shapes))) < 24:
        return ()
    cut = tuple(slice(size // 10, size - size // 10) for size in next(iter(shapes)))
    shape = tuple(at.stop - at.start for at in cut)
    each, slopes = [], _slopes(shape)  # the outermost pixels belong to the edges of the detector
    for amp in amplifiers:
        own = clean[amp.window][amp.order][cut].astype(np.float64)
        good = np.isfinite(own)
        if 2 * good.sum() > good.size:
            values = np.where(good, own - np.median(own[good]), 0.0).ravel()
            each.append((values - slopes @ (slopes.T @ values)).reshape(shape))
    if not each:
        return ()
    found = (_peak([e if axis == 0 else e.T for e in each], axis, threshold) for axis in (0, 1))
    return tuple(peak for peak in found if peak is not None)


def _slopes(shape: tuple[int, ...]) -> F8:
    """Slopes and curvature of an amplifier as orthogonal columns, (pixels, 8)."""
    y, x = (np.linspace(-1.0, 1.0, n) for n in shape)
    y, x = y[:, np.newaxis], x[np.newaxis, :]
    terms = (np.ones(shape), x, y, x * x, x * y, y * y, x**3, y**3)
    matrix = np.stack([np.broadcast_to(term, shape).ravel() for term in terms], axis=1)
    return np.asarray(np.linalg.qr(matrix)[0], np.float64)


def _peak(each: list[F8], axis: int, threshold: float) -> Peak | None:
    rows, cols = each[0].shape
    window = np.hanning(rows + 2)[1:-1, np.newaxis] * np.hanning(cols + 2)[np.newaxis, 1:-1]
    power = np.abs(np.fft.fft2(np.mean(each, axis=0) * window)) ** 2
    line = power[LOWEST : rows // 2 + 1, 0]
    beside = [power[LOWEST : rows // 2 + 1, k] for k in (*range(3, 3 + BESIDE), *range(-2 - BESIDE, -2))]
    floor = np.mean(beside, axis=0)
    along = np.array([np.median(line[max(0, k - 8) : k + 9]) for k in range(line.size)]) / math.log(2.0)
    ratio = line / np.maximum(floor, along)
    best = int(np.argmax(ratio))
    # Power of noise is exponential; its floor is a mean of eight, which widens the tail (F of 2 and 16).
    tail = 1.0 / (1.0 + ratio[best] / (2.0 * BESIDE)) ** (2.0 * BESIDE)
    significance = _sigmas(tail * line.size)
    if significance < threshold or not _alike(each, window, best + LOWEST):
        return None
    amplitude = 2.0 * math.sqrt(line[best]) / float(window.sum())
    sigma = 2.0 * math.sqrt(floor[best] / 2.0) / float(window.sum())
    return Peak(axis, rows / (best + LOWEST), amplitude, sigma, significance)


def _alike(each: list[F8], window: F8, k: int) -> bool:
    """Whether the amplifiers have the wave at one phase: fringes along an axis have not."""
    rows = each[0].shape[0]
    wave = window * np.exp(-2j * math.pi * k * np.arange(rows) / rows)[:, np.newaxis]
    waves = np.array([np.sum(wave * e) for e in each])
    noise = math.sqrt(float(np.sum(window**2)) * float(np.mean([np.var(e) for e in each])))
    scatter = float(np.sqrt(np.mean(np.abs(waves - waves.mean()) ** 2)))
    return scatter < max(UNLIKE * abs(complex(waves.mean())), 2.0 * noise)


def _sigmas(probability: float) -> float:
    """Sigmas of a normal distribution with this upper tail, 0 for probabilities of a half and more."""
    from scipy.stats import norm

    return float(norm.isf(max(probability, 1e-300))) if probability < 0.5 else 0.0
