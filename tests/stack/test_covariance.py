"""Covariances with masks: the kernels as Python against NumPy, the compiled ones against float64 sums."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError, ShapeError
from calibrant.stack import kernels_covariance as kernels
from calibrant.stack.covariance import clipped, covariances
from calibrant.stats import clip_factor


def views(plane, i, j):
    """The first and the second pixels of all pairs that are i rows and j columns apart."""
    rows, cols = plane.shape
    if j >= 0:
        return plane[: rows - i, : cols - j], plane[i:, j:]
    return plane[: rows - i, -j:], plane[i:, : cols + j]


def sums(values, weights, i, j):
    """The NumPy form of one lag: product, count, first, second."""
    (a, b), (wa, wb) = views(values, i, j), views(weights, i, j)
    return (a * b).sum(), (wa * wb).sum(dtype=int), (a * wb).sum(), (wa * b).sum()


def direct(difference, mask, lags):
    """The specification, float64 and lag by lag."""
    values = np.where(mask, difference, 0.0).astype(np.float64)
    weights = mask.astype(np.float64)
    cov, count = np.empty((lags, lags)), np.empty((lags, lags))
    for i in range(lags):
        for j in range(lags):
            ways = [sums(values, weights, i, way) for way in ({j, -j} if i else {j})]
            count[i, j] = sum(n for _, n, _, _ in ways)
            cov[i, j] = sum(p - s * t / n for p, n, s, t in ways) / count[i, j]
    return cov + cov[0, 0] / mask.sum(), count


def noise(shape, seed=1, bad=0.05):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(np.float32), rng.random(shape) >= bad


def test_the_kernel_as_python_adds_what_numpy_adds():
    values, mask = noise((7, 11))
    values[~mask] = 0
    lags = 4
    wide, weights = (
        np.pad(plane, ((0, 0), (0, lags + 1))).astype(np.float32) for plane in (values, mask.astype(int))
    )
    forward, backward = np.zeros((2, lags, lags, 4))
    inner = kernels.two_lags
    kernels.two_lags = inner.py_func
    try:
        kernels.correlate.py_func(wide, weights, 7, forward, backward)
    finally:
        kernels.two_lags = inner
    for i in range(lags):
        for j in range(lags):
            np.testing.assert_allclose(forward[i, j], sums(values, mask, i, j), atol=1e-5)
            product, count, second, first = sums(values, mask, i, -j) if i else np.zeros(4)
            np.testing.assert_allclose(backward[i, j], (product, count, first, second), atol=1e-5)


def test_moments_as_python_and_compiled():
    values, _ = noise((5, 1100))
    values[2, 3] = np.nan
    inside = values[(values >= -1) & (values <= 2)].astype(np.float64) - 0.5
    wanted = inside.size, inside.sum(), (inside**2).sum()
    limits = np.float32(0.5), np.float32(-1), np.float32(2)
    np.testing.assert_allclose(kernels.moments.py_func(values, *limits), wanted, rtol=1e-5)
    np.testing.assert_allclose(kernels.moments(values, *limits), wanted, rtol=1e-5)


def test_views_and_bands_do_not_matter():
    large, good = noise((700, 90))
    values, mask = large[:, 20:70], good[:, 20:70]
    cov, count = covariances(values, mask, 10)
    wanted, pairs = direct(values, mask, 10)
    np.testing.assert_array_equal(count, pairs)
    np.testing.assert_allclose(cov, wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(clipped(values, 5.5).variance, values.var(ddof=1), rtol=1e-5)


@pytest.mark.parametrize(("shape", "level"), [((300, 509), 0.0), ((40, 1300), 0.0), ((300, 200), 3e4)])
def test_as_precise_as_float64(shape, level):
    values, mask = noise(shape)
    difference = values + np.float32(level)
    difference[~mask] = np.nan
    cov, count = covariances(difference, mask, 10)
    wanted, pairs = direct(difference.astype(np.float64) - level, mask, 10)
    np.testing.assert_array_equal(count, pairs)
    np.testing.assert_allclose(cov, wanted, rtol=0, atol=1e-6 * wanted[0, 0])
    assert cov[0, 0] == pytest.approx(difference[mask].astype(np.float64).var(ddof=1), rel=1e-6)


def test_directions_are_rows_then_columns_and_both_diagonals_count():
    white, mask = noise((400, 500), bad=0.0)
    down = white + 0.5 * np.roll(white, 1, 0)
    along = white + 0.5 * np.roll(white, 1, 1)
    falling = white + 0.5 * np.roll(white, (1, 1), (0, 1))
    for plane, at, value in ((down, (1, 0), 0.5), (along, (0, 1), 0.5), (falling, (1, 1), 0.25)):
        cov, _ = covariances(plane.astype(np.float32), mask, 3)
        assert cov[at] == pytest.approx(value, abs=0.02)
        cov[at] = cov[0, 0] = 0
        assert np.abs(cov).max() < 0.02


def test_no_bias_by_the_means_of_small_images():
    """White noise of 12 x 12 pixels, a third of them masked: all covariances but the variance are zero."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(4000):
        mask = rng.random((12, 12)) > 0.33
        found.append(covariances(rng.standard_normal((12, 12)).astype(np.float32) + 7, mask, 3)[0])
    mean, error = np.mean(found, 0), np.std(found, 0) / np.sqrt(len(found))
    wanted = np.zeros((3, 3))
    wanted[0, 0] = 1
    assert (np.abs(mean - wanted) < 4 * error + 1e-3).all()
    # Without its last term each would be low by 1 / 96.
    assert ((wanted - 1 / 96 - mean) / error < -4).sum() >= 8


def test_the_number_of_pairs_gives_the_errors():
    rng = np.random.default_rng(6)
    pulls = []
    for _ in range(300):
        mask = rng.random((40, 40)) > 0.3
        cov, count = covariances(rng.standard_normal((40, 40)).astype(np.float32), mask, 4)
        pulls.append(cov * np.sqrt(count))
    width = np.std(pulls, 0)
    width[0, 0] /= np.sqrt(2)
    assert width.mean() == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(width, 1, atol=0.17)


def test_clipping_forgets_outliers_and_not_noise():
    values, _ = noise((600, 500))
    plain = values.var(ddof=1, dtype=np.float64)
    limits = clipped(values, 5.5)
    assert limits.variance == pytest.approx(plain, rel=1e-5) and limits.count == values.size
    values[::50, ::50] = 1e5
    values[0, 1] = np.nan
    limits = clipped(values, 5.5)
    assert limits.variance == pytest.approx(plain, rel=2e-3)
    assert limits.count == values.size - 12 * 10 - 1
    three = clipped(noise((600, 500))[0], 3.0)
    assert three.variance < 0.98 * plain


def test_nothing_to_measure():
    nothing = np.full((20, 20), np.nan, np.float32)
    assert clipped(nothing, 5.5).count == 0
    cov, count = covariances(nothing, np.zeros((20, 20), bool), 3)
    assert np.isnan(cov).all() and not count.any()
    one = np.zeros((20, 20), bool)
    one[3, 3] = True
    cov, count = covariances(np.ones((20, 20), np.float32), one, 3)
    assert count.sum() == 1 and np.isnan(cov[0, 1])
    assert clipped(np.ones((20, 20), np.float32), 5.5).variance == 0


def test_small_images_have_fewer_lags():
    values, mask = noise((4, 3), bad=0.0)
    cov, count = covariances(values, mask, 6)
    assert np.isnan(cov[4:]).all() and np.isnan(cov[:, 3:]).all() and np.isfinite(cov[:4, :3]).all()
    assert count[0, 0] == 12 and count[1, 0] == 9 and count[1, 1] == 2 * 3 * 2


def test_bad_options():
    with pytest.raises(OptionError, match="at least one lag"):
        covariances(*noise((4, 4)), 0)
    with pytest.raises(ShapeError, match="mask"):
        covariances(noise((4, 4))[0], np.ones((4, 5), bool), 1)
    with pytest.raises(OptionError, match="positive"):
        clipped(noise((4, 4))[0], 0.0)


def test_the_factor_of_the_clip():
    assert clip_factor(5.5) - 1 == pytest.approx(6e-7, abs=1e-7)
