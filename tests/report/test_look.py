"""Limits and stretches against NumPy and astropy."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.visualization import AsinhStretch, LogStretch, SqrtStretch, ZScaleInterval

from calibrant.errors import OptionError
from calibrant.report.plots.look import Look, display_limits, norm, ticks

STRETCHES = {"log": LogStretch(1000.0), "sqrt": SqrtStretch(), "asinh": AsinhStretch(0.1)}


@pytest.fixture
def plane(rng):
    image = rng.normal(1000.0, 20.0, (300, 400))
    image[rng.random(image.shape) < 0.01] = 30_000.0
    return image


def limits(plane, **options):
    return display_limits(plane, plane[np.isfinite(plane)], Look(**options))


def test_median_limits_are_those_of_the_notebook(plane):
    low, high = limits(plane, limits="median")
    assert low == pytest.approx(np.median(plane) - 2 * np.std(plane))
    assert high == pytest.approx(np.median(plane) + 5 * np.std(plane))


def test_median_limits_of_integers_do_not_overflow():
    plane = np.full((2000, 2000), 65_000, np.uint16)
    plane[:1000] = 64_000
    low, high = limits(plane, limits="median", low=-1, high=1)
    assert (low, high) == (pytest.approx(64_000), pytest.approx(65_000))


def test_percentile_and_minmax_limits(plane):
    assert limits(plane, limits="percentile", low=1, high=90) == tuple(np.percentile(plane, [1, 90]))
    assert limits(plane, limits="percentile") == tuple(np.percentile(plane, [0.5, 99.5]))
    assert limits(plane, limits="minmax") == (plane.min(), plane.max())
    assert limits(plane, limits=(3, 4.5)) == (3.0, 4.5)


def test_zscale_agrees_with_astropy(plane):
    mine, other = limits(plane, limits="zscale"), ZScaleInterval().get_limits(plane)
    # Samples differ, so the slopes do by their own noise.
    assert np.allclose(mine, other, atol=0.15 * (other[1] - other[0]))
    assert mine[1] < 1200, "the outliers must not set the limits"


def test_limits_of_few_good_pixels_exist(rng):
    plane = np.full((500, 500), np.nan)
    plane[123, 77:80] = 4.0, 5.0, 6.0
    low, high = limits(plane, limits="zscale")
    assert 4.0 <= low < high <= 6.0


@pytest.mark.parametrize("value", [0.0, 7.0, -3e7, 65_535.0])
@pytest.mark.parametrize("name", ["zscale", "median", "percentile", "minmax"])
def test_constant_images_get_a_range(value, name):
    low, high = limits(np.full((20, 30), value), limits=name)
    assert low < value < high


def test_limits_of_a_mask_show_the_few():
    plane = np.zeros((100, 100))
    plane[3, 4] = 1.0
    assert limits(plane, limits="percentile") == (0.0, 1.0)


def test_no_good_pixel_gives_a_range():
    assert display_limits(np.full((3, 3), np.nan), np.array([]), Look()) == (0.0, 1.0)


@pytest.mark.parametrize("stretch", sorted(STRETCHES))
def test_stretches_agree_with_astropy(stretch):
    scale = norm((100.0, 900.0), stretch)
    values = np.linspace(100.0, 900.0, 41)
    expected = STRETCHES[stretch]((values - 100.0) / 800.0)
    assert np.allclose(scale(values), expected, atol=1e-12)
    assert np.allclose(scale.inverse(expected), values)


@pytest.mark.parametrize("stretch", ["linear", *STRETCHES])
def test_masked_pixels_stay_masked_and_order_is_kept_outside(stretch):
    scale = norm((-5.0, 10.0), stretch)
    shown = scale(np.ma.masked_array([-100.0, -5, 0, 10, 1000, 3], [0, 0, 0, 0, 0, 1]))
    assert shown.mask.tolist() == [False] * 5 + [True]
    assert np.all(np.diff(shown[:5].filled()) > 0)


@pytest.mark.parametrize(
    ("limits", "stretch", "power"),
    [
        ((985.2, 1011.7), "linear", 0),
        ((0.0, 3.2e-5), "linear", -5),
        ((-5.3e7, -4.6e7), "linear", 7),
        ((900.0, 61_000.0), "log", 0),
        ((-170.0, 1700.0), "asinh", 0),
        ((0.93, 1.06), "sqrt", 0),
        ((0.999999, 1.000001), "linear", 0),
    ],
)
def test_numbers_on_the_bar_tell_the_truth(limits, stretch, power):
    scale = norm(limits, stretch)
    places, words, exponent = ticks(scale, 6)
    assert exponent == power
    assert len(places) >= 3
    assert len(set(words)) == len(words)
    assert all(limits[0] <= place <= limits[1] for place in places)
    read = [float(word.replace("−", "-")) * 10.0**exponent for word in words]
    gaps = np.diff(places).min()
    assert np.allclose(read, places, atol=0.051 * gaps)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"limits": "zscal"}, "zscale"),
        ({"stretch": "ln"}, "linear"),
        ({"cmap": "gry"}, "gray"),
        ({"limits": (5, 5)}, "low < high"),
        ({"limits": (np.nan, 5)}, "low < high"),
        ({"limits": "percentile", "high": 101}, "0 and 100"),
        ({"limits": "zscale", "low": 1}, "percentile"),
    ],
)
def test_mistakes_are_named(options, word):
    with pytest.raises(OptionError, match=word):
        Look(**options)
