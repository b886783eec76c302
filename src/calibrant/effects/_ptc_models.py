"""Models of the photon transfer curve: variance and covariances of flats against their mean.

Reference: Astier et al. (2019), A&A 629, A36, equations 16 and 20. Everywhere mean [adu] is above the bias,
gain g is in electron/adu, and a00 < 0 for a CCD: charge that has gathered pushes new charge away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft2, rfft2

F8 = NDArray[np.float64]
SERIES = 1e-5  # |x| below which three terms of (e^x - 1)/x are exact in float64


def linear(mean: ArrayLike, gain: float, noise: float) -> F8:
    """``mean / g + noise^2 / g^2``: photons and readout alone.

    Parameters
    ----------
    mean : array
        adu above the bias, any shape.
    gain : float
        electron/adu.
    noise : float
        Read noise, electron.

    Returns
    -------
    array
        Variance, adu^2, in the shape of `mean`, float64.
    """
    return np.asarray(mean, np.float64) / gain + noise**2 / gain**2


def quadratic(mean: ArrayLike, gain: float, a00: float, noise: float) -> F8:
    """`linear` with the first term of the brighter-fatter effect, ``+ a00 * mean^2``.

    Parameters and result as of `exponential`, whose expansion it is to first order in a00.
    """
    return linear(mean, gain, noise) + a00 * np.square(np.asarray(mean, np.float64))


def exponential(mean: ArrayLike, gain: float, a00: float, noise: float) -> F8:
    """``(exp(2 a00 mean g) - 1) / (2 a00 g^2) + noise^2 / g^2`` (Astier et al. 2019, eq. 16).

    Parameters
    ----------
    mean : array
        adu above the bias, any shape.
    gain : float
        electron/adu.
    a00 : float
        1/electron; at zero the model is `linear`, to rounding.
    noise : float
        Read noise, electron.

    Returns
    -------
    array
        Variance, adu^2, in the shape of `mean`, float64.
    """
    mu = np.asarray(mean, np.float64)
    return mu / gain * growth(2.0 * a00 * gain * mu) + noise**2 / gain**2


def growth(x: F8) -> F8:
    """``(e^x - 1) / x``, 1 at zero."""
    small = np.abs(x) < SERIES
    safe = np.where(small, 1.0, x)
    return np.where(small, 1.0 + x / 2.0 + x * x / 6.0, np.expm1(safe) / safe)


def _growth_slope(x: F8) -> F8:
    """Derivative of `growth`: (e^x - growth) / x, by its series where that quotient loses digits."""
    small = np.abs(x) < 1e-2
    safe = np.where(small, 1.0, x)
    series = 0.5 + x * (1 / 3 + x * (1 / 8 + x * (1 / 30 + x * (1 / 144 + x / 840))))
    return np.where(small, series, (np.exp(safe) - growth(safe)) / safe)


def exponential_jacobian(mean: ArrayLike, gain: float, a00: float, noise: float) -> F8:
    """Derivatives of `exponential`; arguments as there.

    Returns
    -------
    array
        (..., 3): with respect to gain [adu^3/electron], a00 [adu^2 electron] and noise^2 [adu^2/electron^2],
        which is what data know of the noise.
    """
    mu = np.asarray(mean, np.float64)
    x = 2.0 * a00 * gain * mu
    slope = _growth_slope(x)
    by_gain = (x * slope - growth(x)) * mu / gain**2 - 2.0 * noise**2 / gain**3
    return np.stack([by_gain, 2.0 * mu * mu * slope, np.full_like(mu, 1.0 / gain**2)], axis=-1)


def full(mean: ArrayLike, gain: float, a: F8, b: F8 | None, noise: F8) -> F8:
    """Covariances of neighbours at each level (Astier et al. 2019, eq. 20).

    ::

        C = mean/g delta + a mean^2 + 2/3 (a*a + ab) g mean^3 + (1/3 a*a*a + 5/6 a*ab) g^2 mean^4 + n / g^2

    with ``*`` the convolution over lags of either sign, ``ab`` the product element by element, and delta one
    at lag (0, 0) alone.

    Parameters
    ----------
    mean : array
        (levels,), adu above the bias.
    gain : float
        electron/adu.
    a : array
        (n, n), lags along rows and columns, 1/electron; zero beyond.
    b : array or None
        (n, n), 1/electron: change of `a` with charge; None is zero.
    noise : array
        (n, n), electron^2: covariances of the dark image, read noise squared at [0, 0].

    Returns
    -------
    array
        (levels, n, n), adu^2, float64.
    """
    ab = np.zeros_like(a) if b is None else a * b
    return full_of_product(np.asarray(mean, np.float64), gain, a, ab, noise)


def full_of_product(mean: F8, gain: float, a: F8, ab: F8, noise: F8) -> F8:
    """`full` by the product ab, (n, n) in 1/electron^2, which the data determine also where `a` is zero."""
    mu = mean[:, np.newaxis, np.newaxis]
    second, third = _orders(a, ab)
    covariance: F8 = a * mu**2 + second * gain * mu**3 + third * gain**2 * mu**4 + noise / gain**2
    covariance[:, 0, 0] += mean / gain
    return covariance


def full_jacobian(mean: F8, gain: float, a: F8, ab: F8, noise: F8) -> F8:
    """Derivatives of `full_of_product`; arguments as there.

    Returns
    -------
    array
        (levels, n * n, 1 + 3 n * n): with respect to gain, `a`, `ab` and `noise`, matrices row after row.
    """
    lags = a.size
    mu = mean[:, np.newaxis, np.newaxis]
    one = np.eye(lags)
    by_a, by_square, by_product = (convolution(kernel, len(a)) for kernel in (a, convolve(a, a), ab))
    out = np.empty((len(mean), lags, 1 + 3 * lags))
    second, third = _orders(a, ab)
    out[:, :, 0] = (second * mu**3 + 2.0 * third * gain * mu**4 - 2.0 * noise / gain**3).reshape(-1, lags)
    out[:, 0, 0] -= mean / gain**2
    out[:, :, 1 : lags + 1] = (
        one * mu**2 + 4 / 3 * by_a * gain * mu**3 + (by_square + 5 / 6 * by_product) * gain**2 * mu**4
    )
    out[:, :, lags + 1 : 2 * lags + 1] = 2 / 3 * one * gain * mu**3 + 5 / 6 * by_a * gain**2 * mu**4
    out[:, :, 2 * lags + 1 :] = one / gain**2
    return out


def _orders(a: F8, ab: F8) -> tuple[F8, F8]:
    """What stands at mean^3 and mean^4 in `full`, (n, n) each, without the gain."""
    n = len(a)
    square = convolve(a, a)
    third = 1 / 3 * convolve(square, np.pad(a, (0, n - 1)))[:n, :n] + 5 / 6 * convolve(a, ab)[:n, :n]
    return 2 / 3 * (square[:n, :n] + ab), third


def convolve(one: F8, other: F8) -> F8:
    """Convolution of two even functions of the lag, given (and zero beyond) and returned by their lags >= 0.

    Parameters
    ----------
    one, other : array
        (n, n).

    Returns
    -------
    array
        (2 n - 1, 2 n - 1): all lags that are not zero.
    """
    n = len(one)
    # Even functions are their cosine transforms: a product there is the convolution.
    size = 2 * (2 * n - 1)
    product = _spectrum(one, size) * _spectrum(other, size)
    return np.asarray(irfft2(product, (size, size))[: 2 * n - 1, : 2 * n - 1])


def _spectrum(values: F8, size: int) -> NDArray[np.complex128]:
    """Transform of an even function, whose negative lags are laid at the far end."""
    n = len(values)
    even = np.zeros((size, size))
    even[:n, :n] = values
    even[size - n + 1 :, :n] = values[:0:-1]
    even[:, size - n + 1 :] = even[:, n - 1 : 0 : -1]
    return np.asarray(rfft2(even))


def convolution(kernel: F8, n: int) -> F8:
    """The matrix, (n * n, n * n), that convolves even functions given by their lags 0 to n - 1 with `kernel`.

    Parameters
    ----------
    kernel : array
        (m, m), lags >= 0 of an even function that is zero beyond.
    n : int
        Lags of what it acts on, and of the result.
    """
    padded = np.pad(kernel, (0, max(0, 2 * n - 1 - len(kernel))))
    lag = np.arange(n)
    # An even function has each lag but zero twice: both signs of the inner lag are summed, axis by axis.
    apart, together = np.abs(lag[:, np.newaxis] - lag), lag[:, np.newaxis] + lag
    once = np.where(lag == 0, 0.5, 1.0)
    rows = padded[apart] + padded[together]  # (n, n, m): outer lag, inner lag, column
    total = rows[:, :, apart] + rows[:, :, together]  # (n, n, n, n): rows, then columns
    matrix: F8 = total.transpose(0, 2, 1, 3) * np.multiply.outer(once, once)
    return matrix.reshape(n * n, n * n)
