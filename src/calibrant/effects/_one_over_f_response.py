"""What a noise of known spectrum gives in the binned spectra of differences: tapers, gaps and all.

The expectation of a periodogram is the transform of the autocovariance times the autocorrelation of the
window (Percival and Walden 1993, chapter 6); the autocovariance of the difference of two reads a time T
apart is ``2 R(t) - R(t + T) - R(t - T)``, and of means of reads in the same way. With
``R(t) = integral S(f) cos(2 pi f t) df`` and S ~ 1/f within narrow cells of f, every cell is a difference of
cosine integrals. No low-frequency cut is needed: the difference has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import sici

from calibrant.effects._one_over_f_spectra import (
    pixel_edges,
    pixel_kept,
    pixel_taper,
    row_edges,
    row_taper,
    segment_length,
)
from calibrant.instrument.clock import Clock

LOWEST = 0.01  # of one over the frame time: lower frequencies do not reach a difference of reads
PER_DECADE = 16  # cells
SETTLED = 300.0  # periods in a frame time beyond which the two reads are independent

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Response:
    """Binned spectra of the difference of two reads, by the spectrum of one.

    Attributes
    ----------
    white : array (bins,)
        Of a white noise of 1 DN^2/Hz.
    pink, alternating : array (bins, cells)
        Of a noise with S(f) = 1/f in one cell and 0 in others; `alternating` has its sign turned from column
        to column.
    """

    white: Floats
    pink: Floats
    alternating: Floats


@dataclass(frozen=True)
class Responses:
    """Of the three scales, in the order of `Spectra.scales`; `cells` are the edges of the cells [Hz]."""

    cells: Floats
    scales: tuple[Response, Response, Response]


def power_law(cells: Floats, slope: float) -> Floats:
    """f^-slope in units of 1/f in each cell of one width in ln f: the mean of f^(1 - slope)."""
    flat = 1.0 - slope
    half = flat * np.log(cells[1] / cells[0]) / 2
    widened = math.sinh(half) / half if half else 1.0
    return np.asarray((cells[1:] * cells[:-1]) ** (flat / 2) * widened)


@dataclass(frozen=True)
class Sampling:
    """What is subtracted from what: two groups, each the mean of `nframes` reads, `skip` reads between them.

    Attributes
    ----------
    nframes, skip : int
        1 and 0: two reads that follow each other.
    """

    nframes: int = 1
    skip: int = 0

    @property
    def step(self) -> int:
        """Reads from group to group."""
        return self.nframes + self.skip

    @property
    def lags(self) -> Floats:
        """Autocorrelation of the weights of the reads, for lags of 0, 1, ... reads."""
        weights = np.zeros(self.step + self.nframes)
        weights[: self.nframes], weights[self.step :] = -1 / self.nframes, 1 / self.nframes
        return np.asarray(np.correlate(weights, weights, "full")[len(weights) - 1 :])


def responses(clock: Clock, sampling: Sampling | None = None) -> Responses:
    """Of the spectra that `Accumulator` makes, by the clock of the pixels inside the border.

    Parameters
    ----------
    clock : Clock
    sampling : Sampling, optional
        Of the groups that were subtracted; reads that follow each other if not given.
    """
    sampling = Sampling() if sampling is None else sampling
    low, high = LOWEST / clock.frame_time / sampling.step, clock.nyquist
    cells = np.geomspace(low, high, int(np.ceil(PER_DECADE * np.log10(high / low))) + 1)
    return Responses(cells, (_pixels(clock, cells, sampling), *_rows(clock, cells, sampling)))


def _covariances(times: Floats, clock: Clock, cells: Floats, sampling: Sampling) -> Floats:
    """Autocovariance of the difference of two groups, (times, cells), of 1/f in each cell."""
    lags, delay = sampling.lags, clock.frame_time
    single = lags[0] * _cosines(times, cells)
    slow = cells[: int(np.searchsorted(cells, SETTLED / delay)) + 1]
    for number in np.flatnonzero(lags[1:]) + 1:
        later = number * delay
        both = _cosines(later + times, slow) + _cosines(later - times, slow)
        single[:, : len(slow) - 1] += lags[number] * both
    return np.asarray(single)


def _cosines(times: Floats, cells: Floats) -> Floats:
    """Integrals of cos(2 pi f t) / f over each cell, (times, cells)."""
    argument = 2 * np.pi * np.abs(times)[:, None] * cells
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.diff(sici(argument)[1], axis=1)
    found[times == 0] = np.diff(np.log(cells))
    return np.asarray(found)


def _expected(
    window: Floats,
    covariances: Floats,
    length: int,
    step: float,
    edges: NDArray[np.int64],
    kept: NDArray[np.bool_] | None = None,
) -> Floats:
    """One-sided binned periodograms (bins, cells); lags of `covariances` are those of the window."""
    spectrum = np.abs(np.fft.rfft(window, scipy.fft.next_fast_len(2 * len(window)))) ** 2
    overlap = np.fft.irfft(spectrum, scipy.fft.next_fast_len(2 * len(window)))[: len(window)]
    terms = overlap[:, None] * covariances
    circle = np.zeros((length, covariances.shape[1]))
    circle[: len(window)] += terms
    circle[(length - np.arange(1, len(window))) % length] += terms[1:]
    power = 2 * step * scipy.fft.rfft(circle, axis=0).real
    used = np.ones(len(power), bool) if kept is None else kept
    return np.array([power[a:b][used[a:b]].mean(axis=0) for a, b in pairwise(edges)])


def _pixels(clock: Clock, cells: Floats, sampling: Sampling) -> Response:
    """Of segments. Their frame's level was subtracted: what is slower than the frame is not in them."""
    taper = pixel_taper(clock).astype(np.float64)
    sign = np.where(np.arange(clock.row_ticks) % 2, -1.0, 1.0)
    length, edges = segment_length(clock), pixel_edges(clock)
    middle = np.sqrt(cells[1:] * cells[:-1])
    within = 1 - np.sinc(middle * clock.rows * clock.row_ticks * clock.pixel_time) ** 2
    covariances = _covariances(np.arange(float(taper.size)) * clock.pixel_time, clock, cells, sampling)
    pink = _expected(taper.ravel(), covariances * within, length, clock.pixel_time, edges, pixel_kept(clock))
    turned = _expected(
        (taper * sign).ravel(), covariances, length, clock.pixel_time, edges, pixel_kept(clock)
    )
    return Response(np.full(len(edges) - 1, sampling.lags[0]), pink, turned)


def _rows(clock: Clock, cells: Floats, sampling: Sampling) -> tuple[Response, Response]:
    """Of means of rows, and of even less odd columns."""
    step = 1 / clock.row_frequency
    edges, window = row_edges(clock), row_taper(clock).astype(np.float64)
    covariances = _covariances(np.arange(float(clock.rows)) * step, clock, cells, sampling)
    same, turned = _boxcar(clock, cells, False), _boxcar(clock, cells, True)
    slow = _expected(window, covariances * same, clock.rows, step, edges)
    leaked = _expected(window, covariances * turned, clock.rows, step, edges)
    white = np.full(len(edges) - 1, 2 * sampling.lags[0] * step * clock.nyquist / clock.width)
    return Response(white, slow, leaked), Response(white, leaked, slow)


def _boxcar(clock: Clock, cells: Floats, alternate: bool) -> Floats:
    """Squared response of the mean of a row, mean over each cell; with turned signs if `alternate`."""
    inside = cells[:-1, None] * (cells[1] / cells[0]) ** ((np.arange(32) + 0.5) / 32)
    phase = np.pi * clock.pixel_time * inside + (np.pi / 2 if alternate else 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        response = np.sin(clock.width * phase) / (clock.width * np.sin(phase))
    return np.asarray((response**2).mean(axis=1))
