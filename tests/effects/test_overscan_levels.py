"""Levels of overscan strips, against known curves and plain NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from calibrant.effects._overscan_levels import LevelModel, strip_levels
from calibrant.errors import OptionError, ShapeError
from calibrant.stats import median_factor

ROWS, COLS, NOISE = 600, 32, 5.0


def drift(rows=ROWS):
    x = np.linspace(-1, 1, rows)
    return 1000 + 12 * x - 7 * x**2 + 4 * x**3


def strip(seed=1, level=None, noise=NOISE, cols=COLS):
    level = drift() if level is None else level
    return level[:, None] + np.random.default_rng(seed).normal(0, noise, (level.size, cols))


@pytest.mark.parametrize("centre", ["median", "mean"])
def test_line_levels_are_numpys_when_nothing_is_rejected(centre):
    data = strip()
    found = strip_levels(data, LevelModel(fit="line", centre=centre, reject=None))
    np.testing.assert_allclose(found.level, getattr(np, centre)(data, axis=1), rtol=1e-12)


@pytest.mark.parametrize("centre", ["median", "mean"])
def test_constant_is_the_centre_of_the_strip(centre):
    data = strip(level=np.full(ROWS, 500.0))
    found = strip_levels(data, LevelModel(fit="constant", centre=centre, reject=None))
    np.testing.assert_allclose(found.level, getattr(np, centre)(data))


def test_polynomial_of_an_exact_cubic_is_exact():
    data = np.repeat(drift()[:, None], COLS, axis=1)
    found = strip_levels(data, LevelModel(fit="polynomial", order=3))
    np.testing.assert_allclose(found.level, drift(), atol=1e-6)
    too_low = strip_levels(data, LevelModel(fit="polynomial", order=2, side="both"))
    assert np.abs(too_low.level - drift()).max() > 0.5


@pytest.mark.parametrize("fit", ["spline", "cubic"])
def test_spline_goes_through_the_bins(fit):
    data = np.repeat(drift()[:, None], COLS, axis=1)
    found = strip_levels(data, LevelModel(fit=fit, bins=12, reject=None))
    edges = np.linspace(0, ROWS, 13).astype(int)
    middles = [(a + b - 1) / 2 for a, b in pairwise(edges)]
    means = [drift()[a:b].mean() for a, b in pairwise(edges)]
    ends = "natural" if fit == "spline" else "not-a-knot"
    rows = np.arange(ROWS)
    inside = (rows >= middles[0]) & (rows <= middles[-1])
    np.testing.assert_allclose(
        found.level[inside], CubicSpline(middles, means, bc_type=ends)(rows)[inside], atol=1e-9
    )
    assert np.abs(found.level - drift()).max() < 1.0


@pytest.mark.parametrize(
    ("fit", "options"), [("line", {}), ("polynomial", {"order": 3}), ("spline", {"bins": 10})]
)
def test_sigma_is_the_scatter_of_the_level(fit, options):
    flat = np.full(ROWS, 700.0)
    errors = [
        strip_levels(strip(seed, flat), LevelModel(fit=fit, reject=None, **options)) for seed in range(40)
    ]
    scatter = np.sqrt(np.mean([(e.level - 700.0) ** 2 for e in errors]))
    assert errors[0].sigma == pytest.approx(scatter, rel=0.12)
    if fit == "line":
        assert errors[0].sigma == pytest.approx(median_factor(COLS) * NOISE / COLS**0.5, rel=0.03)


@pytest.mark.parametrize("side", ["high", "both"])
def test_read_noise_is_the_true_one_although_pixels_are_clipped(side):
    found = [strip_levels(strip(seed), LevelModel(reject=3.0, side=side)).read_noise for seed in range(20)]
    assert np.mean(found) == pytest.approx(NOISE, rel=0.005)


def bleeding(data):
    """A trail of 6 rows that fills the strip, and one that only reaches the pixels next to the data."""
    data = data.copy()
    data[300:306] += 400 * np.exp(-np.arange(data.shape[1]) / 40)
    data[100:140, :6] += 60
    return data


@pytest.mark.parametrize("fit", ["line", "polynomial", "spline", "constant"])
def test_bleeding_trails_do_not_pull_the_level(fit):
    clean, dirty = strip(), bleeding(strip())
    model = LevelModel(fit=fit, bins=10)
    off = strip_levels(dirty, model).level - strip_levels(clean, model).level
    assert np.abs(off).max() < (4.0 if fit == "line" else 0.5)  # a line's neighbours have their own noise
    blind = LevelModel(fit=fit, bins=10, reject=None)
    worst = np.abs(strip_levels(dirty, blind).level - strip_levels(clean, blind).level).max()
    assert worst > 4 * np.abs(off).max() or fit == "constant"


def test_one_sided_rejection_keeps_what_lies_below():
    data = strip(level=np.full(ROWS, 100.0))
    data[50, :] -= 30  # a real dip of the level is no charge
    assert strip_levels(data, LevelModel(side="high")).level[50] == pytest.approx(70, abs=4)
    assert strip_levels(data, LevelModel(side="both")).level[50] == pytest.approx(100, abs=4)


def test_the_ramp_of_the_first_rows_is_kept():
    ramp = 1000 + 30 * np.exp(-np.arange(ROWS) / 15)
    found = strip_levels(strip(level=ramp), LevelModel())
    assert np.abs(found.level - ramp).max() < 5


def test_lines_without_pixels_take_their_neighbours():
    data = strip(level=np.arange(ROWS, dtype=float))
    data[200:203] = np.nan
    found = strip_levels(data, LevelModel(reject=None))
    assert found.level[201] == pytest.approx(201, abs=4)
    assert found.rejected == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"fit": "akima"},
        {"centre": "mode"},
        {"side": "low"},
        {"order": -1},
        {"bins": 3},
        {"reject": 0},
        {"skip": (-1, 0)},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(OptionError):
        LevelModel(**wrong)


def test_an_empty_strip_is_refused():
    with pytest.raises(ShapeError, match="no pixel left"):
        strip_levels(np.empty((10, 0)), LevelModel())


def test_too_few_lines_for_a_curve():
    data = np.full((50, 4), np.nan)
    data[:2] = 1.0
    with pytest.raises(OptionError, match="lower the order"):
        strip_levels(data, LevelModel(fit="polynomial", order=3))
    with pytest.raises(OptionError, match="too few filled bins"):
        strip_levels(data, LevelModel(fit="spline"))
