"""The exercise: lines through noise and variance, to the accuracy that they can have."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import _gain_lines as lines
from calibrant.errors import SelectionError, ShapeError
from calibrant.simulate import pixels

GAIN, NOISE, N = 0.8, 5.0, 1000
EVEN, LOG = np.linspace(0, 1e4, 101), np.logspace(0, 4, 50)
COUNTS = [40, pytest.param(1000, marks=pytest.mark.soak)]


def levels(signal, seed, gain=GAIN):
    return lines.pixel_levels(pixels(signal, NOISE, gain, N, np.random.default_rng(seed)))


def estimates(signal, count, gain=GAIN):
    """What each estimator gives in so many repeats: name -> (repeats,)."""
    rows = []
    for seed in range(count):
        found = levels(signal, seed, gain)
        bright = lines.noise_against_signal(*found, bright=1000 / GAIN)
        plain = lines.variance_against_mean(*found, weighted=False)
        line = lines.variance_against_mean(*found)
        rows.append(
            {
                "log_slope": bright.slope,
                "slope": plain.slope,
                "plain_gain": plain.gain,
                "plain_intercept": plain.intercept,
                "gain": line.gain,
                "intercept": line.intercept,
                "read_noise": line.read_noise,
                "read_noise_at_gain": np.sqrt(max(line.intercept, 0.0)) * GAIN,
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def judge(found, expected):
    """Mean and scatter as in table 5.2 of the specification: (mean, scatter) of one repeat for each name."""
    for name, (mean, scatter) in expected.items():
        values = found[name]
        repeats = len(values)
        # the table itself is the mean of 1000 repeats
        error = scatter * np.sqrt(1 / repeats + 1 / 1000)
        assert abs(values.mean() - mean) < 4.5 * error, (name, values.mean(), mean, error)
        assert 1 - 3.5 / np.sqrt(2 * repeats) - 0.06 < values.std(ddof=1) / scatter, (name, values.std())
        assert values.std(ddof=1) / scatter < 1 + 3.5 / np.sqrt(2 * repeats) + 0.12, (name, values.std())


TABLE = {
    "even": (
        EVEN,
        {
            "log_slope": (0.4964, 0.0039),
            "slope": (1.249, 0.012),
            "plain_gain": (0.801, 0.008),
            "plain_intercept": (37, 50),
            "gain": (0.8003, 0.0037),
            "intercept": (39.1, 1.7),
            "read_noise": (5.00, 0.11),
        },
    ),
    "logarithmic": (
        LOG,
        {
            "log_slope": (0.4959, 0.0086),
            "slope": (1.249, 0.027),
            "plain_gain": (0.801, 0.017),
            "plain_intercept": (38, 18),
            "gain": (0.8006, 0.0073),
            "intercept": (39.1, 0.54),
            "read_noise_at_gain": (5.00, 0.034),
        },
    ),
    "twenty": (
        np.linspace(500, 1e4, 20),
        {
            "log_slope": (0.4964, 0.0086),
            "slope": (1.250, 0.028),
            "plain_gain": (0.800, 0.018),
            "plain_intercept": (34, 126),
            "gain": (0.800, 0.010),
            "intercept": (37.7, 36),
        },
    ),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", TABLE)
def test_estimators_reach_the_table(name, count):
    signal, expected = TABLE[name]
    judge(estimates(signal, count), expected)


@pytest.mark.parametrize("count", COUNTS)
def test_another_gain_is_noticed(count):
    """The twin: ten sigmas of the mean of the repeats, 0.2 per cent of the gain where they are many."""
    signal, expected = TABLE["even"]
    with pytest.raises(AssertionError):
        judge(estimates(signal, count, GAIN + 10 * 0.0037 * np.sqrt(1 / count + 1 / 1000)), expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmas_are_the_scatter(weighted):
    found = [lines.variance_against_mean(*levels(EVEN, seed), weighted=weighted) for seed in range(200)]
    for name, truth in (("slope", 1 / GAIN), ("intercept", (NOISE / GAIN) ** 2), ("gain", GAIN)):
        pulls = [(getattr(one, name) - truth) / getattr(one, f"{name}_sigma") for one in found]
        assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.2), name


def test_the_line_without_noise():
    mean = EVEN / GAIN
    variance = mean / GAIN + (NOISE / GAIN) ** 2
    for weighted in (False, True):
        found = lines.variance_against_mean(mean, variance, N, weighted=weighted)
        assert (found.gain, found.read_noise) == pytest.approx((GAIN, NOISE), rel=1e-9)
        assert (found.slope, found.intercept) == pytest.approx((1.25, 39.0625), rel=1e-9)
    assert found.gain_sigma / GAIN == pytest.approx(np.sqrt(2 / (N * len(EVEN))), rel=0.1)


def test_slopes_of_the_two_regimes():
    signal = np.logspace(-1, 5, 200)
    mean = signal / GAIN
    found = lines.noise_against_signal(mean, (signal + NOISE**2) / GAIN**2, N)
    np.testing.assert_allclose(found.local[20:-20], lines.local_slope(signal, NOISE)[20:-20], atol=2e-3)
    assert found.local[0] == pytest.approx(0, abs=0.01) and found.local[-1] == pytest.approx(0.5, abs=0.001)
    assert found.intercept == pytest.approx(-0.5 * np.log10(GAIN), abs=0.005)
    np.testing.assert_allclose(
        lines.local_slope([10, 25, 100, 1000, 1e4], NOISE), [0.143, 0.25, 0.4, 0.488, 0.4988], atol=6e-4
    )


def test_the_dark_has_no_logarithm():
    found = levels(EVEN, 0)
    mean = found.mean.copy()
    mean[:3] = [-0.2, 0.0, np.nan]
    slope = lines.noise_against_signal(mean, found.variance, found.pixels)
    assert np.isnan(slope.local[:3]).all() and np.isfinite(slope.local[10:]).all()
    assert not slope.used[:3].any() and np.isfinite(slope.slope)


def test_the_ratio_and_its_bias():
    """(1 + R^2/S)/g: right in the light, three and a half times too much at ten electrons."""
    signal = np.array([10.0, 100.0, 1000.0, 1e4])
    mean, variance = signal / GAIN, (signal + NOISE**2) / GAIN**2
    found = lines.variance_over_mean(mean, variance)
    np.testing.assert_allclose(1 / found.gains, [4.375, 1.5625, 1.28125, 1.253125])
    assert found.ratio == pytest.approx(np.mean([4.375, 1.5625, 1.28125, 1.253125]))
    clean = lines.variance_over_mean(mean, variance, read_noise=NOISE / GAIN)
    assert clean.gain == pytest.approx(GAIN)
    assert lines.variance_over_mean(mean, variance, least=5000).gain == pytest.approx(1 / 1.253125)
    dark = lines.variance_over_mean([-1.0, 0.0, *mean], [39.0, 39.0, *variance])
    assert dark.gain == found.gain and np.isnan(dark.gains[:2]).all()


def test_where_the_regimes_meet():
    found = lines.crossing(GAIN, NOISE)
    assert found == pytest.approx((25.0, 31.25, 8.84), rel=1e-3)


def test_what_another_gain_changes():
    told = lines.what_gain_changes([0.4, 0.8, 1.6], NOISE, 1e4)
    np.testing.assert_allclose(told["mean"], [25000, 12500, 6250])
    np.testing.assert_allclose(told["variance_slope"], [2.5, 1.25, 0.625])
    np.testing.assert_allclose(told["log_intercept"], [0.19897, 0.04846, -0.10206], atol=1e-5)
    for name in ("log_slope", "signal_to_noise"):
        assert np.ptp(told[name]) < 1e-12
    for name in ("mean", "noise", "floor", "log_intercept", "variance_slope"):
        assert (np.diff(told[name]) < 0).all()
    measured = [lines.noise_against_signal(*levels(EVEN, 1, gain)).slope for gain in (0.4, 0.8, 1.6)]
    assert np.ptp(measured) < 1e-9  # the same electrons: the gain is not seen in it at all


def test_levels_of_images():
    found = lines.pixel_levels([[1.0, 2.0, 3.0, np.nan], [[4.0, 4.0], [6.0, 6.0]], [7.0]])
    np.testing.assert_allclose(found.mean, [2.0, 5.0, np.nan])
    np.testing.assert_allclose(found.variance, [1.0, 4 / 3, np.nan])
    np.testing.assert_array_equal(found.pixels, [3, 4, 1])


def test_what_has_no_line():
    with pytest.raises(SelectionError):
        lines.variance_against_mean([1.0], [1.0], 100)
    with pytest.raises(SelectionError):
        lines.variance_against_mean([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], 100)
    with pytest.raises(SelectionError):
        lines.variance_against_mean([5.0, 5.0], [3.0, 3.0], 100)
    with pytest.raises(SelectionError):
        lines.noise_against_signal([1.0, 2.0], [1.0, 1.0], 100)
    with pytest.raises(SelectionError):
        lines.variance_over_mean([-1.0, 0.0], [1.0, 1.0])
    with pytest.raises(ShapeError):
        lines.variance_against_mean([1.0, 2.0], [1.0, 2.0, 3.0], 100)


def test_a_line_below_zero_has_no_read_noise():
    mean = np.linspace(100, 1000, 10)
    found = lines.variance_against_mean(mean, mean - 20, N)
    assert found.intercept == pytest.approx(-20) and np.isnan(found.read_noise)
