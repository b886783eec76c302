"""Charge moves the borders of pixels: flats correlate and stars grow, as the displacements imply."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.simulate.boundaries import Boundaries, collect, implied_a, steps_for

A00 = -3e-6
PHYSICS = Boundaries.dipole(A00)
SHAPE = (512, 512)


@cache
def measured(level: float, pairs: int, seed: int = 1) -> np.ndarray:
    """Covariances of lags 0 and 1 of flats, by differences of pairs: a plain sum, in electron^2."""
    rng, found = np.random.default_rng(seed), []
    light = np.full(SHAPE, level, np.float32)
    for _ in range(pairs):
        one, two = (collect(light, PHYSICS, rng).astype(np.float64) for _ in range(2))
        d = one - two
        d -= d.mean()
        n = d.size
        products = [
            [(d * d).sum() / n, (d[:, 1:] * d[:, :-1]).sum() / n],
            [
                (d[1:] * d[:-1]).sum() / n,
                0.5 * ((d[1:, 1:] * d[:-1, :-1]).sum() + (d[1:, :-1] * d[:-1, 1:]).sum()) / n,
            ],
        ]
        found.append(0.5 * np.array(products))
    return np.mean(found, axis=0)


def second_order(level: float) -> np.ndarray:
    """Covariances of lags 0 to 5 of the model: mu delta + a mu^2 + 2/3 (a * a) mu^3 + 1/3 (a * a * a) mu^4.

    Astier et al. (2019), eq. 20 without b, which is zero here: an electron acts alike at every level.
    """
    a = PHYSICS.area
    n = a.shape[0]

    def times(one, two):
        size = (4 * n, 4 * n)
        whole = np.fft.irfft2(np.fft.rfft2(one, size) * np.fft.rfft2(two, size), size)
        first = n // 2
        return whole[first : first + n, first : first + n]

    aa = times(a, a)
    whole = a * level**2 + (2 / 3) * aa * level**3 + (1 / 3) * times(aa, a) * level**4
    middle = n // 2
    whole[middle, middle] += level
    return whole[middle : middle + 6, middle : middle + 6]


# -- the displacements ------------------------------------------------------------------------------------


def test_what_a_pixel_loses_others_gain():
    assert PHYSICS.area.sum() == pytest.approx(0.0, abs=1e-18)
    a = implied_a(PHYSICS, 12)
    assert a[0, 0] == pytest.approx(A00) and (a.ravel()[1:] > 0).all()


def test_neighbours_in_a_column_gain_more_than_those_in_a_row():
    a = implied_a(PHYSICS, 2)
    assert 1.3 < a[1, 0] / a[0, 1] < 1.8
    round_cloud = implied_a(Boundaries.dipole(A00, cloud=(0.2, 0.2)), 2)
    assert round_cloud[1, 0] == pytest.approx(round_cloud[0, 1])


def test_the_effect_decays_as_that_of_a_dipole():
    a = implied_a(PHYSICS, 12)
    slope = np.log(a[6, 0] / a[3, 0]) / np.log(6 / 3)
    # Displacements fall as r^-2, areas as r^-3, faster where the silicon ends.
    assert -3.5 < slope < -2.5
    assert np.log(a[11, 0] / a[9, 0]) / np.log(11 / 9) < slope
    assert a[9, 9] < 2e-3 * a[1, 1]


def test_displacements_are_the_gradient_of_a_potential():
    """Around four corners nothing is left but what the mean over a border's length takes."""
    b = PHYSICS
    # Far from the charge the field is smooth: curl = d(rows)/dcol - d(cols)/drow.
    r = b.reach
    rows, cols = b.rows[r + 5 : r + 13, r + 4 : r + 13], b.cols[r + 4 : r + 13, r + 5 : r + 13]
    curl = np.diff(rows, axis=1) - np.diff(cols, axis=0)
    assert np.abs(curl).max() < 0.05 * np.abs(np.diff(rows, axis=0)).max()


def test_beyond_the_reach_is_nothing():
    a = implied_a(Boundaries.dipole(A00, reach=2), 6)
    assert (a[4:] == 0).all() and (a[:, 4:] == 0).all() and a[0, 0] == pytest.approx(A00)


def test_shifts_are_the_sum_over_all_charges():
    rng = np.random.default_rng(2)
    charge = np.zeros((60, 50), np.float32)
    places = [(30, 25), (27, 22), (35, 30)]
    for place in places:
        charge[place] = rng.uniform(1e3, 5e4)
    rows, cols = PHYSICS.shifts(charge)
    assert rows.shape == (59, 50) and cols.shape == (60, 49)
    r = PHYSICS.reach
    for i, j in ((30, 25), (26, 24), (36, 31)):
        upper = sum(charge[p] * PHYSICS.rows[i - p[0] + r + 1, j - p[1] + r] for p in places)
        side = sum(charge[p] * PHYSICS.cols[i - p[0] + r, j - p[1] + r + 1] for p in places)
        assert rows[i, j] == pytest.approx(upper, rel=1e-3, abs=1e-7)
        assert cols[i, j] == pytest.approx(side, rel=1e-3, abs=1e-7)


def test_a_uniform_charge_moves_nothing_up_to_the_edges():
    rows, cols = PHYSICS.shifts(np.full((40, 70), 5e4, np.float32))
    assert np.abs(rows).max() < 1e-5 and np.abs(cols).max() < 1e-5


# -- flats ------------------------------------------------------------------------------------------------


def test_no_light_is_lost():
    level = 4e4
    flat = collect(np.full(SHAPE, level, np.float32), PHYSICS, np.random.default_rng(3))
    assert (flat == np.rint(flat)).all()
    pixels = flat.size
    # The sum is Poisson: shifts change who collects an electron, not whether.
    assert abs(flat.sum(dtype=np.float64) - level * pixels) < 5 * np.sqrt(level * pixels)


@pytest.mark.parametrize(("level", "pairs"), [(45_000.0, 4), (90_000.0, 2)])
def test_flats_correlate_as_the_areas_imply(level, pairs):
    found, model = measured(level, pairs), second_order(level)[:2, :2]
    n = pairs * SHAPE[0] * SHAPE[1]
    sigma = found[0, 0] / np.sqrt(n) * np.array([[np.sqrt(2), 1.0], [1.0, np.sqrt(0.5)]])
    assert (np.abs(found - model) < 4 * sigma + 0.002 * np.abs(model)).all(), (found - model) / sigma


def test_first_order_at_half_full_well():
    """The slope of C/mu^2 towards faint light is a; at half full well the next order is known to be small."""
    level = 20_000.0
    found, a = measured(level, 6), implied_a(PHYSICS, 2)
    n = 6 * SHAPE[0] * SHAPE[1]
    x = 2 * A00 * level
    assert found[0, 0] / level == pytest.approx(np.expm1(x) / x, abs=4 * np.sqrt(2 / n) + 5e-4)
    for lag in ((1, 0), (0, 1)):
        # The next order, 2/3 (a * a)/a mu, takes less than 10 % here.
        assert found[lag] / level**2 == pytest.approx(a[lag], abs=4 / np.sqrt(n) / level + 0.1 * a[lag])
        assert found[lag] / level > 5 / np.sqrt(n)


def test_twin_another_strength_would_be_seen():
    """The same flats against boundaries that move 5 % more."""
    level, pairs = 90_000.0, 2
    found = measured(level, pairs)[0, 0]
    sigma = found * np.sqrt(2 / (pairs * SHAPE[0] * SHAPE[1]))
    x = 2 * 1.05 * A00 * level
    assert abs(found - level * np.expm1(x) / x) > 4 * sigma + 0.002 * found


def test_without_charge_light_is_poisson():
    nothing = PHYSICS.scaled(1e-9)
    flat = collect(np.full(SHAPE, 5e4, np.float32), nothing, np.random.default_rng(4), steps=3)
    assert flat.var() / flat.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / flat.size))


def test_more_steps_change_nothing():
    """The mean of the pixels about a bright one, by few steps and by many."""
    light = np.full((48, 48), 100.0, np.float32)
    light[24, 24] = 8e4
    means = []
    for steps in (8, 16):
        rng = np.random.default_rng(5)
        means.append(np.mean([collect(light, PHYSICS, rng, steps=steps)[24, 24] for _ in range(60)]))
    sigma = np.sqrt(8e4 / 60) * np.sqrt(2)
    assert means[0] == pytest.approx(means[1], abs=4 * sigma)
    # Half of the area is lost in the mean of the exposure; the dim pixels around add little to what is moved.
    assert 0.1 * A00 * 8e4 > means[0] / 8e4 - 1 > 0.5 * A00 * 8e4


def test_steps_follow_the_light():
    assert steps_for(np.full((2, 2), 100.0), PHYSICS) == 2
    assert steps_for(np.full((2, 2), 3e4), PHYSICS) < steps_for(np.full((2, 2), 8e4), PHYSICS)


# -- stars ------------------------------------------------------------------------------------------------


def growth(peak: float, boundaries: Boundaries, seed: int = 6) -> np.ndarray:
    """Relative growth of the second moments, along rows and columns, of stars of a Gaussian of 1.8 pixels."""
    rng, size = np.random.default_rng(seed), 32
    offset = np.arange(size) - (size - 1) / 2
    star = np.exp(-0.5 * (offset[:, np.newaxis] ** 2 + offset**2) / 1.8**2)
    light = np.tile(peak * star, (14, 14)).astype(np.float32)
    counts = collect(light, boundaries, rng).reshape(14, size, 14, size).sum(axis=(0, 2), dtype=np.float64)

    def moments(image):
        lines = [image.sum(axis=axis) for axis in (1, 0)]
        return np.array([(line * offset**2).sum() / line.sum() for line in lines])

    return moments(counts) / moments(star) - 1


def test_bright_stars_are_wider_in_proportion_to_their_light():
    middle, bright = growth(25_000.0, PHYSICS), growth(50_000.0, PHYSICS)
    assert (bright > 0.007).all() and (bright < 0.02).all()
    assert bright / middle == pytest.approx([2.0, 2.0], rel=0.15)
    # Borders between rows move more: stars grow more along the columns.
    assert bright[0] > bright[1]


def test_stars_keep_their_width_if_boundaries_do_not_move():
    assert np.abs(growth(50_000.0, PHYSICS.scaled(1e-9))).max() < 0.001


# -- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"a00": 1e-6}, {"height": 0.0}, {"thickness": 0.1}, {"reach": 0}])
def test_what_no_silicon_does_is_refused(options):
    with pytest.raises(OptionError):
        Boundaries.dipole(**options)


def test_one_step_is_refused():
    with pytest.raises(OptionError, match="2 steps"):
        collect(np.ones((8, 8)), PHYSICS, np.random.default_rng(0), steps=1)
