"""Dark rates from exposures of several times: fits per pixel, with hits found by leaving one out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.stack.run import Runner, default_runner
from calibrant.stack.source import Source, decode

Plane = NDArray[np.float32]
BAND_VALUES = 1 << 19  # values of all groups that are worked on together: 4 MB per float64 array


@dataclass(frozen=True, eq=False)
class Group:
    """The frames of one dark time, combined.

    Attributes
    ----------
    time : float
        Seconds.
    source : Source
        Mean of the frames (or the only frame), adu, (rows, cols).
    count : ndarray or None
        uint16 (rows, cols): frames used in each pixel; None for a single frame.
    """

    time: float
    source: Source
    count: NDArray[np.uint16] | None = None


@dataclass(frozen=True, eq=False)
class RateFit:
    """What a fit gives, (rows, cols); float32 except for the counts.

    Attributes
    ----------
    rate, rate_variance : ndarray
        adu/s, and its propagated variance.
    chi2 : ndarray
        Reduced chi squared; NaN where no degree of freedom is left.
    frames_per_second : ndarray
        Sum of frames over sum of times, 1/s: how strongly an error of the bias enters the rate.
    bias, bias_variance, covariance : ndarray or None
        adu; of fits without a given bias.
    count, low, high : ndarray
        uint16: frames used, and rejected below and above.
    """

    rate: Plane
    rate_variance: Plane
    chi2: Plane
    frames_per_second: Plane
    count: NDArray[np.uint16]
    low: NDArray[np.uint16]
    high: NDArray[np.uint16]
    bias: Plane | None = None
    bias_variance: Plane | None = None
    covariance: Plane | None = None


def fit_rates(
    groups: Sequence[Group],
    *,
    bias: NDArray[np.float32] | None,
    read_noise: float,
    gain: float,
    limit: float,
    runner: Runner | str | int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> RateFit:
    """Dark rate in each pixel from groups of several times.

    Without a bias the straight line ``counts = bias + rate t`` is fitted by weighted least squares. With one,
    ``rate = sum of counts / sum of times``, which is the maximum-likelihood rate of Poisson counts. In both,
    a group whose value lies more than `limit` sigma from what the others predict is left out, the worst
    first: one suspect at a time is tested, each judged with the noise that the others foretell.

    Parameters
    ----------
    groups : sequence of Group
        At least two times.
    bias : ndarray or None
        adu, (rows, cols), subtracted from every group; None fits it.
    read_noise, gain : float
        adu, e-/adu, of one frame.
    limit : float
        Sigmas.
    runner : Runner, str or int, optional
        Where bands of rows are fitted; threads if not given.

    Returns
    -------
    RateFit
    """
    rows, cols = groups[0].source.shape
    names = ["rate", "rate_variance", "chi2", "frames_per_second"]
    names += [] if bias is not None else ["bias", "bias_variance", "covariance"]
    planes: dict[str, NDArray[Any]] = {name: np.empty((rows, cols), np.float32) for name in names}
    planes |= {name: np.empty((rows, cols), np.uint16) for name in ("count", "low", "high")}
    step = max(1, BAND_VALUES // (cols * len(groups)))
    bands = [slice(first, min(first + step, rows)) for first in range(0, rows, step)]
    task = _Fit(tuple(groups), bias, read_noise, gain, limit)
    for band, results in default_runner(runner).map(task, bands):
        for name, result in results.items():
            planes[name][band] = result.reshape(-1, cols)
        if progress is not None:
            progress(band.stop, rows, "dark rates")
    return RateFit(**planes)


@dataclass(frozen=True, eq=False)
class _Fit:
    """The fit of one band of rows, for a Runner."""

    groups: tuple[Group, ...]
    bias: NDArray[np.float32] | None
    read_noise: float
    gain: float
    limit: float

    def __call__(self, band: slice) -> tuple[slice, dict[str, NDArray[np.float64]]]:
        values, n = _read(self.groups, band)
        if self.bias is not None:
            values -= self.bias[band].ravel()
        times = np.array([group.time for group in self.groups])
        column = _Column(values, n, times, self.read_noise, self.gain, self.bias is None)
        column.reject(self.limit)
        return band, column.results()


def _read(groups: Sequence[Group], band: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and frame numbers of a band, (groups, pixels); 0 frames where there is no value."""
    values, numbers = [], []
    for group in groups:
        shape = (band.stop - band.start, group.source.shape[1])
        raw = np.empty(shape, np.dtype(group.source.encoding.dtype))
        dq = np.zeros(shape, np.uint32) if group.source.has_dq else None
        group.source.read_into(band, raw, dq)
        value = decode(raw, group.source.encoding).astype(np.float64).ravel()
        n = np.ones(value.size) if group.count is None else group.count[band].astype(np.float64).ravel()
        bad = ~np.isfinite(value)
        if dq is not None:
            bad |= dq.ravel() != 0
        values.append(np.where(bad, 0.0, value))
        numbers.append(np.where(bad, 0.0, n))
    return np.array(values), np.array(numbers)


class _Column:
    """All groups of one band of pixels; arrays are (groups, pixels), sums (pixels,)."""

    def __init__(
        self,
        values: NDArray[np.float64],
        n: NDArray[np.float64],
        times: NDArray[np.float64],
        read_noise: float,
        gain: float,
        free: bool,
    ) -> None:
        self.y, self.n, self.t = values, n, times[:, None]
        self.read_variance, self.gain, self.free = read_noise**2, gain, free
        self.low = np.zeros(values.shape[1])
        self.high = np.zeros(values.shape[1])
        self.weight = self._weights(np.zeros(values.shape[1]))
        self.weight = self._weights(self.line()[1])

    def _weights(self, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.n / self._variance(rate)

    def _variance(self, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of one frame of each group: read noise and the photon noise of the dark."""
        variance = self.read_variance + np.maximum(rate, 0.0) * self.t / self.gain
        return np.maximum(variance, 1e-12)

    def line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bias and rate of the weighted fit; NaN where the values left do not determine them."""
        bias, rate, *_ = self._solve(*self._sums(self.weight))
        return bias, rate

    def _sums(self, w: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        wt, wy = w * self.t, w * self.y
        return w.sum(0), wt.sum(0), (wt * self.t).sum(0), wy.sum(0), (wy * self.t).sum(0)

    def _solve(
        self,
        s: NDArray[np.float64],
        st: NDArray[np.float64],
        stt: NDArray[np.float64],
        sy: NDArray[np.float64],
        sty: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], ...]:
        """Bias, rate, and their variances and covariance, from the sums of the normal equations."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if not self.free:
                one = np.where(stt > 0, 1.0 / stt, np.nan)
                nothing = np.zeros_like(stt)
                return nothing, sty * one, nothing, one, nothing
            det = s * stt - st * st
            one = np.where(det > 1e-9 * s * stt, 1.0 / det, np.nan)
            return (stt * sy - st * sty) * one, (s * sty - st * sy) * one, stt * one, s * one, -st * one

    def reject(self, limit: float) -> None:
        """Leave out the worst group of a pixel while it is beyond `limit` and the rest determines the fit."""
        here = np.arange(self.y.shape[1])
        for _ in range(max(0, self.y.shape[0] - (2 if self.free else 1))):
            part = self._part(here)
            z = part._surprise()
            # Hits add counts: of two values that accuse each other the higher one is left out.
            worst = np.argmax(np.abs(z) * np.where(z > 0, 1.001, 1.0), axis=0)
            value = z[worst, np.arange(here.size)]
            out = np.abs(value) > limit
            if not out.any():
                return
            pixel, group = here[out], worst[out]
            frames = self.n[group, pixel]
            self.high[pixel] += np.where(value[out] > 0, frames, 0.0)
            self.low[pixel] += np.where(value[out] < 0, frames, 0.0)
            self.n[group, pixel] = 0.0
            self.weight[group, pixel] = 0.0
            here = pixel

    def _part(self, pixels: NDArray[np.intp]) -> _Column:
        part = object.__new__(_Column)
        part.__dict__.update(self.__dict__)
        part.y, part.n, part.weight = self.y[:, pixels], self.n[:, pixels], self.weight[:, pixels]
        return part

    def _surprise(self) -> NDArray[np.float64]:
        """How many sigmas each group lies from the prediction of the others; 0 where they make none."""
        w, sums = self.weight, self._sums(self.weight)
        own = (w, w * self.t, w * self.t**2, w * self.y, w * self.t * self.y)
        bias, rate, vb, vr, cov = self._solve(*(total - part for total, part in zip(sums, own, strict=True)))
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = self._variance(rate) / self.n + vb + 2 * self.t * cov + self.t**2 * vr
            z = (self.y - bias - rate * self.t) / np.sqrt(variance)
        return np.where(np.isfinite(z) & (self.n > 0), z, 0.0)

    def results(self) -> dict[str, NDArray[np.float64]]:
        """The planes of `RateFit` for this band."""
        with np.errstate(divide="ignore", invalid="ignore"):
            frames, seconds = self.n.sum(0), (self.n * self.t).sum(0)
            if self.free:
                self.weight = self._weights(np.nan_to_num(self.line()[1]))
                bias, rate, vb, vr, cov = self._solve(*self._sums(self.weight))
            else:
                bias = np.zeros_like(seconds)
                rate = np.where(seconds > 0, (self.n * self.y).sum(0) / seconds, np.nan)
                vr = (self.n * self._variance(rate)).sum(0) / seconds**2
            residual = (self.y - bias - rate * self.t) ** 2 * self.n / self._variance(rate)
            freedom = (self.n > 0).sum(0) - (2 if self.free else 1)
            chi2 = np.where(freedom > 0, residual.sum(0) / freedom, np.nan)
            found = {"rate": rate, "rate_variance": vr, "chi2": chi2, "frames_per_second": frames / seconds}
        found |= {"count": frames, "low": self.low, "high": self.high}
        return found | ({"bias": bias, "bias_variance": vb, "covariance": cov} if self.free else {})
