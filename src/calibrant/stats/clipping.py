"""Centre and width of values with outliers."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrant.errors import OptionError
from calibrant.stats.factors import MAD_TO_STD, clip_factor, std_bias
from calibrant.stats.values import finite_values, some_values


class ClippedStats(NamedTuple):
    """Mean, median and standard deviation of the `n` values that a clip kept."""

    mean: float
    median: float
    std: float
    n: int


def clipped_stats(
    a: NDArray[Any],
    *,
    sigma: float = 3.0,
    iterations: int | None = 5,
    centre: Literal["median", "mean"] = "median",
    mask: NDArray[np.bool_] | None = None,
    correct: bool = False,
) -> ClippedStats:
    """Statistics after iterated clipping; NaN and infinite values are left out.

    Parameters
    ----------
    a : ndarray
        Any shape, in any unit; the results have its unit.
    sigma : float
        Values farther than this many standard deviations from the centre are rejected; on the limit they
        stay.
    iterations : int or None
        At most so many clips; None goes on until nothing changes.
    centre : str
        ``median`` or ``mean``.
    mask : ndarray of bool, optional
        True: leave out.
    correct : bool
        False: the standard deviation with ddof = 0 as it comes. True: ddof = 1, divided by c4(n) and
        multiplied by what the clips take from normal values, so that it estimates their sigma without bias.

    Returns
    -------
    ClippedStats
        NaN, and n = 0, where there is no value.

    Raises
    ------
    OptionError
        If `centre` is unknown or `sigma` is not positive.

    Notes
    -----
    Values are sorted once. What a clip keeps of sorted values is a range, so a clip costs only its tails.
    """
    if centre not in ("median", "mean"):
        raise OptionError("unknown centre", where="centre", expected="median or mean", got=centre)
    factor = clip_factor(sigma)  # refuses limits that are not positive
    x = np.sort(finite_values(a, mask))
    if x.size == 0:
        return ClippedStats(math.nan, math.nan, math.nan, 0)
    kept = _Range(x)
    clips = 0
    while iterations is None or clips < iterations:
        middle = kept.median if centre == "median" else kept.mean
        clips += 1
        if not kept.narrow(middle - sigma * kept.std(0), middle + sigma * kept.std(0)):
            break
    std = kept.std(0)
    if correct and kept.count > 1:
        for _ in range(clips - 1):  # later limits are multiples of an std that is too small already
            factor = clip_factor(sigma / factor)
        std = kept.std(1) / std_bias(kept.count) * (factor if clips else 1.0)
    return ClippedStats(kept.mean, kept.median, std, kept.count)


class _Range:
    """A range of sorted values with its moments; narrowing costs only what is cut off."""

    def __init__(self, x: NDArray[Any]) -> None:
        self.x, self.low, self.high = x, 0, x.size
        self.origin = self.median
        # Sums relative to the median, in float64: squares of raw values would lose the small scatter.
        self.first, self.second = self._sums(0, x.size)

    def _sums(self, low: int, high: int) -> tuple[float, float]:
        d = self.x[low:high].astype(np.float64) - self.origin
        return float(d.sum()), float(d @ d)

    @property
    def count(self) -> int:
        return self.high - self.low

    @property
    def median(self) -> float:
        middle = self.low + self.high
        return 0.5 * (float(self.x[(middle - 1) // 2]) + float(self.x[middle // 2]))

    @property
    def mean(self) -> float:
        return self.origin + self.first / self.count

    def std(self, ddof: int) -> float:
        squares = self.second - self.first * self.first / self.count
        return math.sqrt(max(squares, 0.0) / (self.count - ddof))

    def narrow(self, lower: float, upper: float) -> bool:
        """Keep lower <= x <= upper; whether anything was cut off."""
        low = self.low + int(np.searchsorted(self.x[self.low : self.high], lower, "left"))
        high = self.low + int(np.searchsorted(self.x[self.low : self.high], upper, "right"))
        if (low, high) == (self.low, self.high) or low >= high:
            return False
        for cut in ((self.low, low), (high, self.high)):
            first, second = self._sums(*cut)
            self.first, self.second = self.first - first, self.second - second
        self.low, self.high = low, high
        return True


def mad_std(a: NDArray[Any], axis: int | tuple[int, ...] | None = None) -> Any:
    """Standard deviation from the median absolute deviation: 1.4826 median(abs(a - median(a))).

    Parameters
    ----------
    a : ndarray
        Any shape; NaN are left out.
    axis : int or tuple of int, optional
        Axes that are reduced; None takes all.

    Returns
    -------
    float or array of float64
        In the unit of `a`; right for normal values in large samples, breaks down at half outliers. NaN where
        there is no value.
    """
    values = np.asarray(a)
    missing = values.dtype.kind == "f" and bool(np.isnan(values).any())
    median = _nan_median if missing else np.median
    middle = median(values, axis=axis, keepdims=True)
    deviation = MAD_TO_STD * np.asarray(median(np.abs(values - middle), axis=axis), np.float64)
    return float(deviation) if deviation.ndim == 0 else deviation


def _nan_median(a: NDArray[Any], **options: Any) -> Any:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN slices: NaN is the answer
        return np.nanmedian(a, **options)


def percentiles(a: NDArray[Any], q: ArrayLike, *, samples: int | None = None) -> NDArray[np.float64]:
    """Percentiles of the finite values.

    Parameters
    ----------
    a : ndarray
        Any shape and unit.
    q : float or sequence of float
        In percent, 0 to 100.
    samples : int, optional
        Look at about so many values, evenly spread; None looks at all.

    Returns
    -------
    array of float64
        One for each of `q`, in the unit of `a`, interpolated linearly.

    Raises
    ------
    OptionError
        If `a` has no finite value.
    """
    values = np.asarray(a).reshape(-1)
    if samples is not None and values.size > samples:
        # An even step would walk along columns of images whose width it divides.
        values = values[:: (values.size // samples) | 1]
    values = some_values(finite_values(values, None), "percentiles")
    return np.atleast_1d(np.percentile(values.astype(np.float64), np.asarray(q, np.float64)))
