"""Brighter-fatter against borders that move: flats become Poisson again, stars as narrow as faint ones.

The simulation moves borders of pixels with the charge, and knows neither covariances nor a kernel.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from calibrant.effects import _brighter_fatter_correct as fixed_point
from calibrant.effects import brighter_fatter
from calibrant.effects._ptc_fit import fit
from calibrant.frame import Frame
from calibrant.product import Product, Provenance
from calibrant.simulate.boundaries import Boundaries, collect, implied_a
from calibrant.stack.covariance import covariances

SOAK = pytest.mark.soak
A00 = -3e-6
FULL_WELL = 1e5  # electrons
LAGS = 10
EDGE = 12  # pixels at the edge of a flat whose correction rests on charge beyond it
TOLERANCE = 0.005


class Steady:
    """In place of random numbers: the mean itself."""

    def poisson(self, mean):
        return mean


@pytest.fixture(scope="module")
def borders():
    return Boundaries.dipole(A00)


def gain_product(matrices):
    """A photon transfer curve's product of a matrices and their errors, by amplifier."""
    rows = [
        (name, i, j, a[i, j], sigma[i, j])
        for name, (a, sigma) in matrices.items()
        for i, j in np.ndindex(a.shape)
    ]
    columns = zip(("amplifier", "i", "j", "a", "sigma"), map(np.array, zip(*rows, strict=True)), strict=True)
    return Product(
        "gain", tables={"a_matrix": dict(columns)}, provenance=Provenance(options={"model": "full"})
    )


@pytest.fixture(scope="module")
def true_kernel(borders):
    a = implied_a(borders, LAGS)
    return brighter_fatter.from_gain(gain_product({"": (a, np.full(a.shape, 1e-9))}))


def flat(borders, level, size, seed):
    return collect(np.full((size, size), level), borders, np.random.default_rng(seed))


def corrected(electrons, kernel, **options):
    frame = Frame(np.asarray(electrons, np.float32), unit="electron")
    return brighter_fatter.apply(frame, kernel, **options).data


def stronger(kernel, factor):
    planes = {"data": kernel.data * factor, "variance": kernel.planes["variance"]}
    return Product(kernel.kind, planes=planes, units=kernel.units)


def noise(pairs):
    """Variance over mean of flats, and its sigma: of differences, in which nothing else remains."""
    inner = np.s_[EDGE:-EDGE, EDGE:-EDGE]
    ratios = [
        np.var(one[inner] - other[inner]) / (one[inner].mean() + other[inner].mean()) for one, other in pairs
    ]
    return float(np.mean(ratios)), np.sqrt(2.0 / (len(pairs) * pairs[0][0][inner].size))


def pairs_of(borders, level, size, count):
    seeds = np.arange(2 * count) + int(level)
    flats = [flat(borders, level, size, seed) for seed in seeds]
    return list(zip(flats[::2], flats[1::2], strict=True))


@pytest.fixture(scope="module")
def half_full(borders):
    return pairs_of(borders, FULL_WELL / 2, 900, 3)


@pytest.mark.parametrize("form", brighter_fatter.FORMS)
def test_flats_of_half_the_full_well_are_poisson_again(half_full, true_kernel, form):
    before, _ = noise(half_full)
    after, sigma = noise(
        [tuple(corrected(one, true_kernel, form=form) for one in pair) for pair in half_full]
    )
    assert before < 0.88
    assert abs(after - 1) < TOLERANCE and sigma < 0.001


@pytest.mark.parametrize("level", [5e3, 2e4])
def test_the_curve_is_straight_below(borders, true_kernel, level):
    pairs = [tuple(corrected(one, true_kernel) for one in pair) for pair in pairs_of(borders, level, 800, 3)]
    assert noise(pairs)[0] == pytest.approx(1.0, abs=TOLERANCE)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_wrong_kernel_is_seen_in_flats(half_full, true_kernel, factor):
    wrong = stronger(true_kernel, factor)
    after, _ = noise([tuple(corrected(one, wrong) for one in pair) for pair in half_full[:1]])
    assert abs(after - 1) > 2 * TOLERANCE


def test_charge_at_the_end_instead_of_during_the_exposure_is_seen(half_full, true_kernel, monkeypatch):
    """The twin in time: half of the light in place of the mean charge, as published."""
    monkeypatch.setattr(fixed_point, "EARLY", np.float32(0.5))
    monkeypatch.setattr(fixed_point, "LATE", np.float32(0.0))
    after, _ = noise([tuple(corrected(one, true_kernel) for one in pair) for pair in half_full])
    assert after - 1 > TOLERANCE


def star(peak, sigma, size=41, centre=(-0.3, 0.2)):
    """Expected electrons of a Gaussian star, integrated over the pixels."""
    edges = np.arange(size + 1) - 0.5 - size // 2
    rows, cols = (np.diff(erf((edges - at) / sigma / np.sqrt(2.0))) for at in centre)
    light = np.outer(rows, cols)
    return peak * light / light.max()


def widths(image):
    """Sigmas along rows and columns, weighted by the Gaussian that fits: (2,)."""
    grid = np.indices(image.shape).reshape(2, -1) - image.shape[0] // 2
    light, centre, square = np.asarray(image, float).ravel(), np.zeros((2, 1)), np.full((2, 1), 4.0)
    for _ in range(80):
        weighed = light * np.exp(-0.5 * ((grid - centre) ** 2 / square).sum(axis=0))
        off = grid - centre
        centre = centre + 2 * (weighed * off).sum(axis=1, keepdims=True) / weighed.sum()
        square = 2 * (weighed * off**2).sum(axis=1, keepdims=True) / weighed.sum()
    return np.sqrt(square.ravel())


def broadening(borders, kernel, peak, sigma, **options):
    """Widths of a bright star over those of a faint one, less one: as collected, and corrected."""
    faint = widths(star(100.0, sigma))
    bright = collect(star(peak, sigma), borders, Steady())
    return widths(bright) / faint - 1, widths(corrected(bright, kernel, **options)) / faint - 1


@pytest.mark.parametrize("form", brighter_fatter.FORMS)
@pytest.mark.parametrize("sigma", [1.5, 2.5])
def test_stars_have_the_width_of_faint_ones(borders, true_kernel, sigma, form):
    before, after = broadening(borders, true_kernel, FULL_WELL / 2, sigma, form=form)
    assert (before > 0.007).all()
    assert np.abs(after).max() < TOLERANCE
    assert np.abs(after).max() < 0.1 * before.min()  # what is asked is little more than the effect itself


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_wrong_kernel_is_seen_in_stars(borders, true_kernel, factor):
    before, after = broadening(borders, stronger(true_kernel, factor), FULL_WELL / 2, 1.5)
    assert np.abs(after).max() > 0.1 * before.min()


def test_what_remains_above_half_the_full_well(borders, true_kernel, capsys):
    before, after = broadening(borders, true_kernel, 0.9 * FULL_WELL, 1.5)
    pairs = pairs_of(borders, 0.9 * FULL_WELL, 500, 1)
    raw, _ = noise(pairs)
    left, sigma = noise([tuple(corrected(one, true_kernel) for one in pair) for pair in pairs])
    with capsys.disabled():
        print(
            f"\nat 90 % of full well: stars {before.max():+.2%} -> {after.max():+.3%},"
            f" flats {raw - 1:+.2%} -> {left - 1:+.2%} +- {sigma:.2%}"
        )
    assert np.abs(after).max() < 0.1 * before.max() and abs(left - 1) < 0.1 * abs(raw - 1)


def test_light_is_conserved(borders, true_kernel):
    bright = collect(star(9e4, 1.5), borders, Steady()).astype(np.float32)
    total = bright.sum(dtype=float)
    assert corrected(bright, true_kernel).sum(dtype=float) == pytest.approx(total, rel=1e-8)
    loose = corrected(bright, true_kernel, form="coulton").sum(dtype=float)
    assert loose == pytest.approx(total, rel=5e-3) and abs(loose / total - 1) > 1e-3


# --- the kernel measured from flats ---------------------------------------------------------------------


def measured_matrix(borders, levels, size, seed, lags=LAGS):
    """a matrix and its errors of pairs of flats of one amplifier."""
    mean, cov, count = [], [], []
    for number, level in enumerate(levels):
        one, other = (flat(borders, level, size, seed + 2 * number + k) for k in (0, 1))
        found, pixels = covariances(one - other, np.ones(one.shape, bool), lags)
        mean.append((one.mean(dtype=float) + other.mean(dtype=float)) / 2)
        cov.append(found / 2)
        count.append(pixels)
    cov, count = np.array(cov), np.array(count)
    found = fit(mean, cov[:, 0, 0], count[:, 0, 0], model="full", covariance=cov, covariance_pixels=count)
    return found.a, found.a_sigma


def measured_kernel(borders, matrices):
    """The kernel of simulated flats, seen to be that of the borders within its errors."""
    kernel = brighter_fatter.from_gain(gain_product(matrices))
    table = kernel.tables["a_matrix"]
    truth = implied_a(borders, LAGS)[table["i"], table["j"]]
    assert 0.7 < np.std((table["a"] - truth) / table["sigma"]) < 1.4
    lags = int(table["i"].max()) + 1
    sigma = np.reshape(table["sigma"], (lags, lags))
    exact = brighter_fatter.from_gain(gain_product({"": (implied_a(borders, lags), sigma)}))
    for name in ("a00", "centre", "sum"):
        measured = kernel.quantity(name)
        assert abs(measured.value - exact.quantity(name).value) < 4 * measured.sigma, name
    return kernel


def test_a_measured_kernel_is_that_of_the_borders(borders):
    levels = np.geomspace(300, 9e4, 10)
    matrices = {
        name: measured_matrix(borders, levels, 400, seed, lags=5)
        for name, seed in zip("ab", (50, 90), strict=True)
    }
    kernel = measured_kernel(borders, matrices)
    assert kernel.quantity("chi2").value == pytest.approx(1.0, abs=4 * np.sqrt(2 / 25))
    # The twin: borders that move half as far again are another truth.
    with pytest.raises(AssertionError):
        measured_kernel(borders.scaled(1.5), matrices)


@SOAK
def test_kernels_of_forty_pairs_correct_as_well(borders, half_full):
    levels = np.geomspace(100, 9e4, 40)
    kernel = measured_kernel(
        borders, {name: measured_matrix(borders, levels, 800, 1000 * k) for k, name in enumerate("abcd")}
    )
    pairs = [tuple(corrected(one, kernel) for one in pair) for pair in half_full]
    _, after = broadening(borders, kernel, FULL_WELL / 2, 1.5)
    print("a00", kernel.quantity("a00"), "flats", noise(pairs), "stars", after)
    assert noise(pairs)[0] == pytest.approx(1.0, abs=TOLERANCE)
    assert np.abs(after).max() < TOLERANCE
