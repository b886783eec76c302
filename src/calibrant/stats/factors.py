"""Factors of small samples and of clipping, for normal values."""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError

MAD_TO_STD = 1.482602218505602
"""Standard deviation of a normal distribution in units of its median absolute deviation, 1/Phi^-1(3/4)."""

# Standard deviation of the median of N = 1..100 unit normal deviates, times sqrt(N).  Integrated from the
# densities of the middle order statistics (N odd: one; N even: mean of two); the tests integrate them again.
# fmt: off
_MEDIAN_FACTORS = np.array([
    1.000000000, 1.000000000, 1.160178139, 1.092153137, 1.197567663, 1.135101757, 1.213724858, 1.159933981,
    1.222665748, 1.176122595, 1.228326817, 1.187515998, 1.232228443, 1.195972289, 1.235078856, 1.202498806,
    1.237251746, 1.207689191, 1.238962682, 1.211916067, 1.240344652, 1.215425193, 1.241484118, 1.218385240,
    1.242439707, 1.220915835, 1.243252573, 1.223104185, 1.243952447, 1.225015371, 1.244561345, 1.226698946,
    1.245095913, 1.228193310, 1.245568974, 1.229528680, 1.245990560, 1.230729162, 1.246368637, 1.231814222,
    1.246709608, 1.232799748, 1.247018677, 1.233698843, 1.247300121, 1.234522402, 1.247557484, 1.235279564,
    1.247793730, 1.235978051, 1.248011353, 1.236624431, 1.248212473, 1.237224326, 1.248398897, 1.237782579,
    1.248572180, 1.238303381, 1.248733662, 1.238790380, 1.248884511, 1.239246763, 1.249025742, 1.239675332,
    1.249158246, 1.240078552, 1.249282809, 1.240458611, 1.249400123, 1.240817447, 1.249510803, 1.241156791,
    1.249615397, 1.241478188, 1.249714392, 1.241783027, 1.249808226, 1.242072555, 1.249897294, 1.242347898,
    1.249981948, 1.242610073, 1.250062510, 1.242860002, 1.250139268, 1.243098525, 1.250212487, 1.243326405,
    1.250282404, 1.243544339, 1.250349239, 1.243752964, 1.250413191, 1.243952864, 1.250474443, 1.244144575,
    1.250533162, 1.244328591, 1.250589501, 1.244505365,
])
# fmt: on
# Beyond the table: N var / (pi/2) - 1 as a polynomial in 1/N without constant term.  The first terms are
# exact (pi/2 - 2 for odd N, pi/2 - 3 for even N), the others fitted to the same integrals at N = 100..1100.
_ODD_EXPANSION = (math.pi / 2 - 2, -0.07874, 0.25249, 0.0782)
_EVEN_EXPANSION = (math.pi / 2 - 3, 2.92120, -7.7351, 28.32)


@overload
def median_factor(n: int) -> float:
    """Of one count."""


@overload
def median_factor(n: NDArray[Any]) -> NDArray[np.float64]:
    """Of an array of counts."""


def median_factor(n: int | NDArray[Any]) -> float | NDArray[np.float64]:
    """How much less precise a median is than a mean: sigma(median) = factor * sigma / sqrt(n).

    It replaces the usual sqrt(pi/2), which holds for very large `n` only. The variance of a median of `n`
    normal values of variance V is ``median_factor(n)**2 * V / n``.

    Parameters
    ----------
    n : int or array of int
        Number of values, at least 1. Even counts take the mean of the two middle values.

    Returns
    -------
    float or array of float64
        Dimensionless: 1, 1, 1.160, 1.092, 1.198, ... -> sqrt(pi/2). Correct to 1e-9.
        Where an array holds n < 1 the factor is NaN: a median of nothing has no error.

    Raises
    ------
    OptionError
        If a single `n` is below 1.

    Notes
    -----
    Exact variances of the middle order statistics of a normal sample (David & Nagaraja, Order Statistics,
    3rd ed.).
    """
    if np.ndim(n) == 0:
        if n < 1:
            raise OptionError("a median needs values", where="n", expected="at least 1", got=n)
        return float(_median_factors(np.array([n]))[0])
    return _median_factors(np.asarray(n))


def _median_factors(n: NDArray[Any]) -> NDArray[np.float64]:
    inside = np.clip(n, 1, _MEDIAN_FACTORS.size).astype(np.intp)
    factors = _MEDIAN_FACTORS[inside - 1]
    beyond = n > _MEDIAN_FACTORS.size
    if beyond.any():
        inverse = 1.0 / np.where(beyond, n, 1)
        for expansion, parity in ((_ODD_EXPANSION, 1), (_EVEN_EXPANSION, 0)):
            series = np.polynomial.polynomial.polyval(inverse, (1.0, *expansion))
            here = beyond & (n % 2 == parity)
            factors = np.where(here, np.sqrt(math.pi / 2 * series), factors)
    return np.where(n < 1, np.nan, factors)


@overload
def std_bias(n: int) -> float:
    """Of one count."""


@overload
def std_bias(n: NDArray[Any]) -> NDArray[np.float64]:
    """Of an array of counts."""


def std_bias(n: int | NDArray[Any]) -> float | NDArray[np.float64]:
    """Mean of the sample standard deviation (ddof = 1) of `n` unit normal deviates: c4(n).

    Divide a standard deviation by it to remove its bias; a sample *variance* needs no such correction.

    Parameters
    ----------
    n : int or array of int
        Number of values, at least 2.

    Returns
    -------
    float or array of float64
        sqrt(2/(n-1)) Gamma(n/2)/Gamma((n-1)/2): 0.798, 0.886, 0.921, ... -> 1; NaN where an array has n < 2.

    Raises
    ------
    OptionError
        If a single `n` is below 2.
    """
    if np.ndim(n) == 0:
        if n < 2:
            raise OptionError("a standard deviation needs values", where="n", expected="at least 2", got=n)
        return _c4(int(n))
    counts, index = np.unique(np.asarray(n), return_inverse=True)
    values = np.array([_c4(int(count)) if count > 1 else math.nan for count in counts], np.float64)
    return values[index].reshape(np.shape(n))


def _c4(n: int) -> float:
    return math.sqrt(2.0 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def clip_factor(k: float) -> float:
    """What a k-sigma clip takes from the standard deviation of normal values: sigma = factor * std(kept).

    Parameters
    ----------
    k : float
        Limit on both sides, in true sigmas, positive.

    Returns
    -------
    float
        [1 - 2 k phi(k) / (Phi(k) - Phi(-k))]^(-1/2): 1.01360 for k = 3, 1.13685 for k = 2, for a clip about
        the true centre with the true sigma.

    Raises
    ------
    OptionError
        If `k` is not positive.
    """
    if not k > 0:
        raise OptionError("a clipping limit must be positive", where="k", got=k)
    inside = math.erf(k / math.sqrt(2))
    return 1.0 / math.sqrt(1.0 - 2.0 * k * math.exp(-0.5 * k * k) / (math.sqrt(2.0 * math.pi) * inside))
