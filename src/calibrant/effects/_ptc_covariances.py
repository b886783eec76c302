"""Covariances of flats against their mean: each lag by itself, and all lags with the variance together."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ptc_models import full_jacobian, full_of_product
from calibrant.effects._ptc_solve import solve

F8 = NDArray[np.float64]
KNOWN = 5.0  # sigmas of a: below, a quotient by it has no error that could be stated


class Matrices(NamedTuple):
    """What covariances say: matrices (n, n), gain and noise with their sigmas, and the model at the levels.

    Attributes
    ----------
    gain, gain_sigma : float
        electron/adu.
    a, a_sigma : array
        (n, n), 1/electron.
    b, b_sigma : array or None
        (n, n), 1/electron; NaN where `a` is less than five of its sigmas. None if not fitted.
    noise, noise_sigma : array
        (n, n), electron^2.
    values : array
        (levels, n, n), adu^2: the model at all means.
    predicted : array
        (levels,), adu^4: variance of its prediction at lag (0, 0); NaN if fitted lag by lag.
    chi2 : float
        Reduced, over all lags; NaN without degrees of freedom.
    freedom : int
        Their number.
    """

    gain: float
    gain_sigma: float
    a: F8
    a_sigma: F8
    b: F8 | None
    b_sigma: F8 | None
    noise: F8
    noise_sigma: F8
    values: F8
    predicted: F8
    chi2: float
    freedom: int


def each_lag(
    mean: F8, covariance: F8, pixels: F8, variance: F8, gain: float, used: NDArray[np.bool_]
) -> Matrices | None:
    """A parabola with a cubic term in the mean for each lag: ``n / g^2 + a mean^2 + c mean^3``.

    The first orders of Astier et al. (2019), eq. 20; linear in what is sought, so it also starts `all_lags`.

    Parameters
    ----------
    mean : array
        (levels,), adu.
    covariance, pixels : array
        (levels, n, n), adu^2 and pairs of pixels.
    variance : array
        (levels,), adu^2, of the model: a covariance is known to v / sqrt(pixels).
    gain : float
        electron/adu.
    used : array of bool
        (levels,).

    Returns
    -------
    Matrices or None
        Without b; None if there are fewer than three levels.
    """
    n = covariance.shape[1]
    top = float(np.max(mean[used])) if used.any() else 0.0
    if used.sum() < 3 or top <= 0:
        return None
    x = mean / top
    powers = np.stack([np.ones_like(x), x**2, x**3], axis=1)[:, : 2 if used.sum() == 3 else 3]
    observed = covariance - _poisson(mean, gain, n)
    weight = np.sqrt(pixels) / variance[:, np.newaxis, np.newaxis]
    weight[:, 0, 0] /= math.sqrt(2.0)
    terms, sigmas = np.full((3, n, n), 0.0), np.full((3, n, n), np.nan)
    for lag in np.ndindex(n, n):
        good = used & np.isfinite(observed[:, *lag]) & (weight[:, *lag] > 0)
        if good.sum() < powers.shape[1]:
            terms[:, *lag] = np.nan
            continue
        design = powers[good] * weight[good, *lag][:, np.newaxis]
        inverse = np.linalg.pinv(design.T @ design)
        terms[: len(inverse), *lag] = inverse @ (design.T @ (observed[good, *lag] * weight[good, *lag]))
        sigmas[: len(inverse), *lag] = np.sqrt(np.diag(inverse))
    values = np.einsum("lp,pij->lij", powers, terms[: powers.shape[1]]) + _poisson(mean, gain, n)
    chi = ((covariance - values) * weight)[used]
    freedom = int(np.isfinite(chi).sum()) - powers.shape[1] * n * n
    return Matrices(
        gain=gain,
        gain_sigma=math.nan,
        a=terms[1] / top**2,
        a_sigma=sigmas[1] / top**2,
        b=None,
        b_sigma=None,
        noise=terms[0] * gain**2,
        noise_sigma=sigmas[0] * gain**2,
        values=values,
        predicted=np.full(len(mean), np.nan),
        chi2=float(np.nansum(chi**2) / freedom) if freedom > 0 else math.nan,
        freedom=freedom,
    )


def _poisson(mean: F8, gain: float, n: int) -> F8:
    """The photon noise, (levels, n, n): at lag (0, 0) alone."""
    out = np.zeros((len(mean), n, n))
    out[:, 0, 0] = mean / gain
    return out


def all_lags(
    mean: F8, covariance: F8, pixels: F8, gain: float, used: NDArray[np.bool_], start: Matrices
) -> Matrices | None:
    """Variance and covariances together: Astier et al. (2019), eq. 20, with a, b and noise matrices.

    Parameters
    ----------
    mean, covariance, pixels, used
        As of `each_lag`; the variance stands at lag (0, 0).
    gain : float
        electron/adu, where to begin.
    start : Matrices
        Of `each_lag`.

    Returns
    -------
    Matrices or None
        None if the levels do not determine them: four are needed, of each lag. A covariance that is NaN
        counts for nothing.
    """
    n = covariance.shape[1]
    lags = n * n
    if used.sum() < 4 or not np.isfinite(start.a).all():
        return None
    observed = covariance[used].reshape(-1)
    missing = ~np.isfinite(observed)
    observed[missing] = 0.0
    some, counts = mean[used], pixels[used]

    def unpack(parameters: F8) -> tuple[float, F8, F8, F8]:
        a, ab, noise = parameters[1:].reshape(3, n, n)
        return float(parameters[0]), a, ab, noise

    def model(parameters: F8) -> tuple[F8, F8]:
        parts = unpack(parameters)
        slopes = full_jacobian(some, *parts)
        return full_of_product(some, *parts).reshape(-1), slopes.reshape(-1, 1 + 3 * lags)

    def sigma(values: F8) -> F8:
        variance = values.reshape(-1, n, n)[:, :1, :1]
        error = np.abs(variance) / np.sqrt(counts)
        error[:, 0, 0] *= math.sqrt(2.0)
        return np.where(missing, np.inf, error.reshape(-1))

    begin = np.concatenate([[gain], start.a.reshape(-1), np.zeros(lags), start.noise.reshape(-1)])
    found = solve(model, sigma, observed, begin)
    if found is None:
        return None
    gain, a, ab, noise = unpack(found.parameters)
    sigmas = np.sqrt(np.diag(found.covariance))
    _, a_sigma, _, noise_sigma = unpack(sigmas)
    freedom = int((~missing).sum()) - begin.size
    chi = (observed - found.values) / sigma(found.values)
    b, b_sigma = _quotient(a, ab, found.covariance)
    slopes = full_jacobian(mean, gain, a, ab, noise)[:, 0]
    return Matrices(
        gain=gain,
        gain_sigma=float(sigmas[0]),
        a=a,
        a_sigma=a_sigma,
        b=b,
        b_sigma=b_sigma,
        noise=noise,
        noise_sigma=noise_sigma,
        values=full_of_product(mean, gain, a, ab, noise),
        predicted=np.einsum("ij,jk,ik->i", slopes, found.covariance, slopes),
        chi2=float(chi @ chi / freedom) if freedom > 0 else math.nan,
        freedom=freedom,
    )


def _quotient(a: F8, ab: F8, covariance: F8) -> tuple[F8, F8]:
    """b from its product with a, with its sigma; where a may be zero, b may be anything."""
    lags = a.size
    of_a, of_ab = np.arange(1, lags + 1), np.arange(lags + 1, 2 * lags + 1)
    safe = np.where(np.abs(a) < KNOWN * np.sqrt(covariance[of_a, of_a].reshape(a.shape)), np.nan, a)
    b = ab / safe
    variance = (
        covariance[of_ab, of_ab].reshape(a.shape)
        - 2.0 * b * covariance[of_a, of_ab].reshape(a.shape)
        + b**2 * covariance[of_a, of_a].reshape(a.shape)
    )
    return b, np.sqrt(np.maximum(variance, 0.0)) / np.abs(safe)
