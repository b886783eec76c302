"""Models of the photon transfer curve: limits, derivatives, and convolutions done another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import fftconvolve

from calibrant.effects._ptc_models import (
    convolve,
    exponential,
    exponential_jacobian,
    full,
    full_jacobian,
    full_of_product,
    growth,
    linear,
    quadratic,
)

GAIN, A00, NOISE = 0.8, -3e-6, 5.0
MEAN = np.geomspace(1.0, 1.2e5, 60)


def matrices(n: int = 6, seed: int = 3):
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:n, :n]
    a = 1e-6 / (1 + rows**2 + cols**2) ** 1.3 * rng.uniform(0.8, 1.2, (n, n))
    a[0, 0] = A00
    return a, rng.normal(0, 1e-6, (n, n)), rng.normal(0, 0.1, (n, n)) + np.diag([25.0] + [0.0] * (n - 1))


@pytest.mark.parametrize("a00", [0.0, 1e-30, -1e-20, 1e-17])
def test_without_the_effect_the_exponential_is_the_line(a00):
    np.testing.assert_allclose(exponential(MEAN, GAIN, a00, NOISE), linear(MEAN, GAIN, NOISE), rtol=1e-12)


def test_a_small_effect_is_the_parabola():
    a00 = -1e-9
    rest = exponential(MEAN, GAIN, a00, NOISE) - quadratic(MEAN, GAIN, a00, NOISE)
    third = 2 / 3 * a00**2 * GAIN * MEAN**3  # the next term of the expansion
    np.testing.assert_allclose(rest[-10:], third[-10:], rtol=1e-3)


def test_growth_has_no_seam_where_the_series_ends():
    x = np.concatenate([-np.geomspace(1e-12, 2.0, 400)[::-1], [0.0], np.geomspace(1e-12, 2.0, 400)])
    exact = [sum(value**k / math.factorial(k + 1) for k in range(30)) for value in x]
    np.testing.assert_allclose(growth(x), exact, rtol=4e-16 * 4)


def test_variance_over_poisson_as_published():
    """Table 5.3 of the specification."""
    for a00, shares in (
        (-3e-6, (0.997, 0.971, 0.915, 0.864, 0.773)),
        (-1.2e-6, (0.999, 0.988, 0.965, 0.942, 0.899)),
    ):
        signal = np.array([1e3, 1e4, 3e4, 5e4, 9e4])
        np.testing.assert_allclose(
            exponential(signal / GAIN, GAIN, a00, 0.0) / (signal / GAIN**2), shares, atol=6e-4
        )


@pytest.mark.parametrize("a00", [A00, 1e-6, -1e-10, 0.0])
def test_derivatives_of_the_exponential(a00):
    found = exponential_jacobian(MEAN, GAIN, a00, NOISE)
    step = 1e-6
    np.testing.assert_allclose(
        found[:, 0],
        (exponential(MEAN, GAIN + step, a00, NOISE) - exponential(MEAN, GAIN - step, a00, NOISE))
        / (2 * step),
        rtol=1e-7,
    )
    bright, step = MEAN > 1e3, 1e-9
    by_a00 = (exponential(MEAN, GAIN, a00 + step, NOISE) - exponential(MEAN, GAIN, a00 - step, NOISE)) / (
        2 * step
    )
    np.testing.assert_allclose(found[bright, 1], by_a00[bright], rtol=1e-6)
    np.testing.assert_allclose(found[:, 2], 1 / GAIN**2)


def quadrants(matrix):
    """All four quadrants of an even function of the lags."""
    half = np.concatenate([matrix[:0:-1], matrix])
    return np.concatenate([half[:, :0:-1], half], axis=1)


def by_fourier(*factors):
    whole = quadrants(factors[0])
    for factor in factors[1:]:
        whole = fftconvolve(whole, quadrants(factor))
    centre, n = whole.shape[0] // 2, len(factors[0])
    return whole[centre : centre + n, centre : centre + n]


def test_convolution_against_fourier():
    a, b, _ = matrices()
    found = convolve(a, b)
    assert found.shape == (11, 11)
    np.testing.assert_allclose(found[:6, :6], by_fourier(a, b), rtol=1e-9, atol=1e-24)


def test_full_model_against_fourier():
    a, b, noise = matrices()
    e = (MEAN * GAIN)[:, None, None]
    second = by_fourier(a, a) + a * b
    third = by_fourier(a, a, a) / 3 + 5 / 6 * by_fourier(a, a * b)
    expected = e / GAIN**2 * (a * e + 2 / 3 * second * e**2 + third * e**3) + noise / GAIN**2
    expected[:, 0, 0] += MEAN / GAIN
    np.testing.assert_allclose(full(MEAN, GAIN, a, b, noise), expected, rtol=1e-10, atol=1e-12)


def test_full_model_of_one_lag_is_the_series_of_the_exponential():
    signal = np.array([100.0, 1e3, 5e3])
    found = full(signal / GAIN, GAIN, np.array([[A00]]), None, np.array([[25.0]]))[:, 0, 0]
    np.testing.assert_allclose(found, exponential(signal / GAIN, GAIN, A00, NOISE), rtol=1e-8)


def test_derivatives_of_the_full_model():
    a, b, noise = matrices(4)
    mean, ab = MEAN[::6], a * b
    found = full_jacobian(mean, GAIN, a, ab, noise)
    start = np.concatenate([[GAIN], a.ravel(), ab.ravel(), noise.ravel()])

    def model(parameters):
        return full_of_product(mean, parameters[0], *parameters[1:].reshape(3, 4, 4)).reshape(len(mean), -1)

    for place, value in enumerate(start):
        step = np.zeros_like(start)
        step[place] = 1e-4 * abs(value)
        numeric = (model(start + step) - model(start - step)) / (2 * step[place])
        scale = np.abs(found[:, :, place]).max()
        np.testing.assert_allclose(numeric, found[:, :, place], atol=2e-6 * scale, err_msg=str(place))
