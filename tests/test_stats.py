"""Statistics against quadrature, SciPy, astropy and Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.stats import mad_std as astropy_mad_std
from astropy.stats import sigma_clipped_stats
from astropy.visualization import ZScaleInterval
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate
from scipy import stats as scipy_stats
from scipy.special import gammaln, log_ndtr

from calibrant import stats
from calibrant.errors import OptionError


def log_density(x):
    return -0.5 * x * x - 0.5 * math.log(2 * math.pi)


def median_variance_odd(n):
    """Integral of x**2 over the density of the middle order statistic."""
    k = n // 2
    norm = gammaln(n + 1) - 2 * gammaln(k + 1)

    def integrand(x):
        return x * x * np.exp(norm + k * (log_ndtr(x) + log_ndtr(-x)) + log_density(x))

    return 2 * integrate.quad(integrand, 0, 12 / math.sqrt(n) if n > 20 else 9, epsabs=0, epsrel=1e-11)[0]


def median_variance_even(n):
    """The same over the joint density of the two middle ones: mean m, half distance t."""
    k = n // 2
    norm = gammaln(n + 1) - 2 * gammaln(k)
    nodes, weights = np.polynomial.legendre.leggauss(150)
    reach = 12 / math.sqrt(n) if n > 20 else 9
    m = (nodes[:, None] + 1) * reach / 2
    far = 60 / n if n > 20 else 9
    t = (nodes + 1) * far / 2
    logs = (k - 1) * (log_ndtr(m - t) + log_ndtr(-m - t)) + log_density(m - t) + log_density(m + t)
    density = 2 * np.exp(norm + logs) @ (weights * far / 2)
    return 2 * float((density * m[:, 0] ** 2) @ (weights * reach / 2))


@pytest.mark.parametrize("n", [*range(1, 101), 101, 102, 150, 151, 400, 401])
def test_median_factor_is_the_integral(n):
    variance = median_variance_odd(n) if n % 2 else median_variance_even(n)
    assert stats.median_factor(n) == pytest.approx(math.sqrt(n * variance), abs=2e-9)


def test_median_factor_known_values():
    assert stats.median_factor(1) == stats.median_factor(2) == 1.0  # a median of two is their mean
    # Var of the median of 3: 1 - sqrt(3)/pi (Jones 1948).
    assert stats.median_factor(3) == pytest.approx(math.sqrt(3 * (1 - math.sqrt(3) / math.pi)), abs=1e-9)
    assert stats.median_factor(10**9) == pytest.approx(math.sqrt(math.pi / 2), abs=1e-8)


def test_median_factor_of_arrays():
    n = np.array([[0, 1, 3], [100, 101, 5000]], np.uint16)
    factors = stats.median_factor(n)
    assert factors.shape == n.shape and np.isnan(factors[0, 0])
    assert factors[1].tolist() == [stats.median_factor(int(v)) for v in n[1]]


def test_median_factor_in_monte_carlo():
    x = np.random.default_rng(1).standard_normal((200_000, 6))
    assert np.median(x, axis=1).std() * math.sqrt(6) == pytest.approx(stats.median_factor(6), rel=0.01)


def test_std_bias():
    """c4, as the mean of the chi distribution."""
    for n in (2, 3, 10, 400):
        assert stats.std_bias(n) == pytest.approx(scipy_stats.chi(n - 1).mean() / math.sqrt(n - 1), rel=1e-9)
    many = stats.std_bias(np.array([1, 2, 10]))
    assert np.isnan(many[0]) and many[2] == stats.std_bias(10)


def test_clip_factor():
    for k in (0.5, 1.0, 2.0, 3.0, 5.0):
        assert stats.clip_factor(k) == pytest.approx(1 / scipy_stats.truncnorm(-k, k).std(), rel=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: stats.median_factor(0),
        lambda: stats.std_bias(1),
        lambda: stats.clip_factor(0.0),
        lambda: stats.clipped_stats(np.ones(3), centre="mode"),
        lambda: stats.clipped_stats(np.ones(3), sigma=-1.0),
        lambda: stats.mode(np.array([np.nan])),
        lambda: stats.mode(np.ones(3), method="best"),
        lambda: stats.half_sample_mode(np.array([])),
        lambda: stats.percentiles(np.array([np.inf]), 50),
        lambda: stats.zscale(np.full((2, 2), np.nan)),
        lambda: stats.zscale(np.ones((2, 2)), contrast=0.0),
        lambda: stats.robust_line([1, 1, 1], [1, 2, 3]),
        lambda: stats.robust_line([1, 2], [1, 2]),
    ],
)
def test_what_has_no_meaning_is_refused(wrong):
    with pytest.raises(OptionError):
        wrong()


@settings(max_examples=60, deadline=None)
@given(
    a=arrays(
        np.float64,
        st.integers(1, 60),
        elements=st.integers(-20, 20) | st.integers(-2000, 2000) | st.just(math.nan),
    ),
    sigma=st.sampled_from([1.0, 2.0, 3.0]),
    iterations=st.sampled_from([0, 1, 5, None]),
    centre=st.sampled_from(["median", "mean"]),
)
def test_clipped_stats_are_those_of_astropy(a, sigma, iterations, centre):
    ours = stats.clipped_stats(a, sigma=sigma, iterations=iterations, centre=centre)
    good = a[np.isfinite(a)]
    if good.size == 0:
        assert ours.n == 0 and np.isnan(ours.mean)
        return
    kept = clipped(good, sigma, iterations, centre)
    assert ours.n == kept.size
    np.testing.assert_allclose(ours[:3], [kept.mean(), np.median(kept), kept.std()], rtol=1e-9, atol=1e-7)


def clipped(values, sigma, iterations, centre):
    """The values that stay, said in NumPy; values within rounding of a limit stay, as ties do."""
    kept, passes = values, 0
    while iterations is None or passes < iterations:
        middle = np.median(kept) if centre == "median" else kept.mean()
        stay = kept[np.abs(kept - middle) <= sigma * kept.std() * (1 + 1e-12)]
        if stay.size in (0, kept.size):
            break
        kept, passes = stay, passes + 1
    return kept


def test_clipped_stats_of_an_image():
    rng = np.random.default_rng(2)
    a = rng.normal(1000, 10, (200, 300)).astype(">f4")
    a[::20, ::15] += 500
    a[3, 4] = np.nan
    mask = np.zeros(a.shape, bool)
    mask[:, :50] = True
    theirs = sigma_clipped_stats(a[~mask & np.isfinite(a)].astype("f8"), maxiters=5)
    np.testing.assert_allclose(stats.clipped_stats(a, mask=mask)[:3], theirs, rtol=1e-6)
    integers = rng.poisson(30, 1000).astype(np.uint16)
    np.testing.assert_allclose(stats.clipped_stats(integers)[:3], sigma_clipped_stats(integers), rtol=1e-9)


@pytest.mark.parametrize(("size", "iterations"), [(200_000, None), (200_000, 1), (200_000, 0), (2000, 5)])
@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_corrected_std_is_sigma(size, iterations, sigma):
    rng = np.random.default_rng(3)
    values = [
        stats.clipped_stats(rng.normal(50, 7, size), sigma=sigma, iterations=iterations, correct=True).std
        for _ in range(200_000 // size)
    ]
    assert np.mean(values) == pytest.approx(7, rel=0.01)


def test_corrected_std_of_few_values_without_clips():
    rng = np.random.default_rng(4)
    values = [stats.clipped_stats(rng.normal(0, 1, 5), iterations=0, correct=True).std for _ in range(4000)]
    assert np.mean(values) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 2)])
def test_mad_std(axis):
    a = np.random.default_rng(5).normal(0, 3, (20, 30, 4))
    np.testing.assert_allclose(stats.mad_std(a, axis), astropy_mad_std(a, axis=axis), rtol=1e-12)
    a[0, ::3, 0] = np.nan
    np.testing.assert_allclose(
        stats.mad_std(a, axis), astropy_mad_std(a, axis=axis, ignore_nan=True), rtol=1e-12
    )


def test_mad_std_of_nothing():
    a = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    np.testing.assert_allclose(stats.mad_std(a, 0), [np.nan, stats.MAD_TO_STD])


def test_mad_std_of_one_sided_integers():
    assert stats.mad_std(np.array([1, 2, 3, 60000], np.uint16)) == pytest.approx(stats.MAD_TO_STD)
    assert math.isnan(stats.mad_std(np.array([np.nan])))


def test_percentiles():
    a = np.arange(101.0)
    assert stats.percentiles(a, [0, 50, 99]).tolist() == [0, 50, 99]
    assert stats.percentiles(np.append(a, [np.nan, np.inf]), 50).tolist() == [50]
    image = np.tile(np.arange(1000.0), (1000, 1))  # an even step would see a few columns only
    np.testing.assert_allclose(stats.percentiles(image, [5, 50, 95], samples=5000), [50, 500, 949], atol=8)


@pytest.mark.parametrize("method", ["histogram", "half-sample"])
@pytest.mark.parametrize("dtype", ["f4", "u2"])
def test_mode_of_a_sky_with_stars(method, dtype):
    """Stars on one side move the mean by 90 and the median by half a sigma, the mode hardly."""
    rng = np.random.default_rng(6)
    sky = rng.normal(1000, 12, 40_000)
    sky[:12_000] += rng.exponential(300, 12_000)
    values = np.rint(sky).astype(dtype)
    assert stats.mode(values, method=method) == pytest.approx(1001, abs=3)
    assert np.median(values) > 1005 and values.mean() > 1080


def test_histogram_mode_is_precise():
    """Unbiased, and within a few times the error of the mean."""
    rng = np.random.default_rng(7)
    found = np.array([stats.mode(rng.normal(500, 10, 10_000)) for _ in range(50)])
    assert abs(found.mean() - 500) < 0.2 and found.std() < 0.6
    counts = np.array([stats.mode(rng.poisson(500, 10_000).astype(np.uint16)) for _ in range(50)])
    assert abs(counts.mean() - 499.5) < 0.7


def test_modes_of_few_and_of_equal_values():
    assert stats.mode(np.full(9, 7, np.uint16)) == 7
    assert stats.half_sample_mode(np.array([1.0])) == 1
    assert stats.half_sample_mode(np.array([1.0, 3.0])) == 2
    assert stats.half_sample_mode(np.array([1.0, 2.0, 9.0])) == 1.5
    assert stats.half_sample_mode(np.array([1.0, 8.0, 9.0, np.nan])) == 8.5
    assert stats.half_sample_mode(np.array([90.0, 0.0, 5.0, 5.1, 5.3])) == 5.05
    assert math.isfinite(stats.mode(np.array([1.0, 2.0, 5.0, 9.0])))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(5, 600), contrast=st.sampled_from([0.1, 0.25, 1.0]))
def test_zscale_is_that_of_astropy(seed, size, contrast):
    """All values in the sample: then the two look at the same ones."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1000, 10, size)
    values[rng.random(size) < 0.1] += rng.exponential(1000)
    theirs = ZScaleInterval(n_samples=size, contrast=contrast).get_limits(values)
    np.testing.assert_allclose(stats.zscale(values, contrast=contrast), theirs, rtol=1e-9)


def test_zscale_of_images():
    rng = np.random.default_rng(8)
    image = rng.normal(1000, 10, (600, 500)).astype(np.float32)
    image[100:110, 200:210] = 60000
    image[0] = np.nan
    low, high = stats.zscale(image)
    theirs = ZScaleInterval(n_samples=600).get_limits(image[1:])
    assert low == pytest.approx(theirs[0], abs=10) and high == pytest.approx(theirs[1], abs=10)
    assert stats.zscale(np.full((50, 50), 3.0)) == (3, 3)
    assert stats.zscale(np.array([[1.0, 2.0]])) == (1, 2)


def test_robust_line_and_its_errors():
    """A quarter of outliers on one side does not move it; its uncertainties are those of its scatter."""
    rng = np.random.default_rng(9)
    x = np.linspace(0, 10, 80)
    lines, pulls = [], []
    for _ in range(200):
        y = 3 * x + 2 + rng.normal(0, 0.5, 80)
        clean = stats.robust_line(x, y)
        pulls.append(((clean.slope - 3) / clean.slope_sigma, (clean.intercept - 2) / clean.intercept_sigma))
        y[rng.permutation(80)[:20]] += 40
        lines.append(stats.robust_line(x, y)[:2])
    assert np.abs(np.mean(lines, axis=0) - (3, 2)).max() < 0.05
    assert np.std(pulls, axis=0) == pytest.approx(1, abs=0.15)


def test_robust_line_of_exact_and_of_many_points():
    exact = stats.robust_line([0, 1, 2, np.nan], [1, 3, 5, 7])
    assert exact[:2] == pytest.approx((2, 1)) and exact.slope_sigma == 0
    rng = np.random.default_rng(10)
    x = rng.uniform(0, 1, 5000)
    line = stats.robust_line(x, -x + rng.normal(0, 0.1, 5000))
    assert line.slope == pytest.approx(-1, abs=5 * line.slope_sigma) and line.scatter == pytest.approx(
        0.1, rel=0.1
    )


@pytest.mark.parametrize("size", [1, 2, 7, 10, 1000])
def test_finite_median_is_that_of_numpy(size):
    rng = np.random.default_rng(size)
    for dtype in (np.float32, np.float64, np.uint16, ">i2"):
        values = (rng.normal(500, 200, size)).astype(dtype)
        assert stats.finite_median(values) == pytest.approx(np.median(values.astype(float)), rel=1e-12)
    holes = np.append(values.astype(float), [np.nan, np.inf, -np.inf])
    assert stats.finite_median(holes) == np.median(values.astype(float))
    assert math.isnan(stats.finite_median(np.full(3, np.nan)))
