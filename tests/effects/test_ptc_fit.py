"""The fit of a photon transfer curve: which levels it uses, what it says, and what it does with bad ones."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects._gain_lines import straight_lines
from calibrant.effects._ptc_fit import fit
from calibrant.effects._ptc_models import exponential, full, linear
from calibrant.errors import OptionError, ShapeError

GAIN, A00, NOISE = 0.8, -3e-6, 5.0


def curve(signal, n=1e6, seed=0, a00=A00):
    """Levels of a sensor: means, and variances by the law that variances of n normal values follow."""
    rng = np.random.default_rng(seed)
    mean = np.asarray(signal) / GAIN
    return mean, exponential(mean, GAIN, a00, NOISE) * rng.chisquare(n - 1, len(mean)) / (n - 1)


def levels(count=40, top=9e4):
    return np.geomspace(100, top, count)


def saturated(signal, well, **options):
    """Beyond the full well the mean crawls and the variance collapses."""
    mean, variance = curve(signal, **options)
    over = signal > well
    mean = np.where(over, well / GAIN + 0.05 * (mean - well / GAIN), mean)
    return mean, np.where(
        over, variance * np.clip(0.7 * (1 - 1.2 * (signal - well) / well), 0.02, 1), variance
    )


def near(found, truth, sigma, most=4.5):
    assert abs(found - truth) < most * sigma, f"{found} +- {sigma}, not {truth}"


def right(found):
    near(found.gain, GAIN, found.gain_sigma)
    near(found.a00, A00, found.a00_sigma)
    near(found.read_noise, NOISE, found.read_noise_sigma)


def test_what_is_said():
    mean, variance = curve(levels())
    found = fit(mean, variance, 1e6)
    right(found)
    assert found.used.all() and 0.4 < found.chi2 < 1.8
    assert found.gain_sigma / GAIN == pytest.approx(3.5e-4, rel=0.1)
    assert found.a00_sigma / -A00 == pytest.approx(4.2e-3, rel=0.1)
    assert found.read_noise_sigma / NOISE == pytest.approx(2.4e-3, rel=0.1)
    assert found.turnoff == pytest.approx(mean[-1])
    assert found.full_well == pytest.approx(found.turnoff * found.gain)
    assert any("does not turn off" in note for note in found.notes)
    np.testing.assert_allclose(
        found.model_variance, exponential(mean, found.gain, found.a00, found.read_noise)
    )


def test_levels_come_in_any_order():
    mean, variance = curve(levels())
    shuffle = np.random.default_rng(2).permutation(40)
    here, there = fit(mean, variance, 1e6), fit(mean[shuffle], variance[shuffle], 1e6)
    assert here.gain == pytest.approx(there.gain, rel=1e-12)
    np.testing.assert_array_equal(here.model_variance[shuffle], there.model_variance)


@pytest.mark.parametrize("n", [1e6, 1e9])
def test_good_levels_are_never_rejected_for_their_number_of_pixels(n):
    """Real sensors stray from any model by more than the noise of 1e9 pixels."""
    mean, variance = curve(levels(), n)
    found = fit(mean, variance * (1 + 0.002 * np.random.default_rng(5).normal(size=40)), n)
    assert found.used.all()
    near(found.gain, GAIN, found.gain_sigma)
    assert any("enlarged" in note for note in found.notes)


def test_chance_alone_enlarges_no_sigma():
    found = [fit(*curve(levels(), seed=seed), 1e6) for seed in range(60)]
    assert 15 < sum(one.chi2 > 1 for one in found) < 45
    assert sum(any("enlarged" in note for note in one.notes) for one in found) <= 2


@pytest.mark.parametrize(("off", "kept"), [(0.005, True), (0.02, False)])
def test_a_level_is_off_the_curve_by_more_than_one_per_cent(off, kept):
    """Of 1e9 pixels, 0.5 % is a hundred sigmas."""
    mean, variance = curve(levels(), 1e9)
    variance[20] *= 1 + off
    assert fit(mean, variance, 1e9).used[20] == kept


@pytest.mark.parametrize("seed", range(5))
def test_turn_off_at_the_full_well(seed):
    signal = np.geomspace(100, 1.6e5, 40)
    mean, variance = saturated(signal, 1e5, seed=seed)
    found = fit(mean, variance, 1e6)
    right(found)
    good = signal <= 1e5
    np.testing.assert_array_equal(found.used, good)
    assert found.turnoff == mean[good].max()
    assert found.turnoff_sigma == pytest.approx((mean[~good].min() - mean[good].max()) / 2)
    assert not any("does not turn off" in note for note in found.notes)


@pytest.mark.parametrize("seed", range(5))
def test_outliers_are_left_out_with_and_without_saturation(seed):
    places = np.random.default_rng(seed).choice(33, 3, replace=False)
    for top, well in ((9e4, 1e6), (1.6e5, 1e5)):
        signal = levels(40, top)
        mean, variance = saturated(signal, well, seed=seed)
        variance[places] *= [1.05, 10.0, 0.2]
        found = fit(mean, variance, 1e6)
        right(found)
        assert not found.used[places].any()
        assert found.used.sum() == (signal <= well).sum() - 3
        assert any("3 of" in note for note in found.notes)


def test_without_rejection_the_outliers_would_matter():
    """The twin."""
    mean, variance = curve(levels())
    variance[[5, 20, 30]] *= [1.05, 10.0, 0.2]
    with pytest.raises(AssertionError):
        found = fit(mean, variance, 1e6, sigma_clip=1e9)
        assert abs(found.gain / GAIN - 1) < 0.0015


def test_max_signal():
    mean, variance = curve(levels())
    found = fit(mean, variance, 1e6, max_signal=3e4)
    assert found.turnoff <= 3e4 and not found.used[mean > 3e4].any()
    right(found)


@pytest.mark.parametrize("count", [3, 4])
def test_few_levels(count):
    found = fit(*curve(levels(count)), 1e6)
    right(found)
    assert np.isnan(found.chi2) == (count == 3)


@pytest.mark.parametrize(
    ("mean", "variance"),
    [
        (np.full(9, np.nan), np.full(9, np.nan)),
        ([1.0, 2.0], [3.0, 4.0]),
        ([], []),
        (np.linspace(1, 9, 9), np.linspace(9, 1, 9)),
        (np.full(9, 5.0), np.full(9, 7.0)),
        (np.linspace(0, 100, 9), np.zeros(9)),
        (np.linspace(0, 100, 9), np.full(9, -1.0)),
        (np.full(9, np.inf), np.full(9, np.inf)),
        (np.zeros(9), np.arange(9.0)),
        (-np.arange(9.0), np.arange(9.0)),
    ],
    ids=[
        "dead",
        "two",
        "none",
        "falling",
        "one level",
        "no variance",
        "negative",
        "infinite",
        "dark",
        "below bias",
    ],
)
@pytest.mark.parametrize("model", ["exponential", "quadratic", "full"])
def test_what_cannot_be_fitted_is_nan_with_a_reason(mean, variance, model):
    covariance = np.zeros((len(mean), 3, 3))
    found = fit(mean, variance, 1e5, model=model, covariance=covariance)
    assert np.isnan([found.gain, found.read_noise, found.a00, found.turnoff, found.full_well]).all()
    assert found.notes and not found.used.any()
    assert found.model_variance.shape == (len(mean),) and found.model_covariance.shape == (len(mean), 3, 3)


def test_levels_that_are_nan_are_left_out():
    mean, variance = curve(levels())
    mean[3], variance[17] = np.nan, np.nan
    found = fit(mean, variance, 1e6)
    right(found)
    assert not found.used[[3, 17]].any() and found.used.sum() == 38
    assert np.isnan(found.model_variance[3]) and np.isfinite(found.model_variance[17])


def test_a_negative_noise_is_said():
    mean = levels() / GAIN
    variance = exponential(mean, GAIN, A00, 0.0) - 30.0 / GAIN**2
    found = fit(mean, variance, 1e6)
    assert found.n00 == pytest.approx(-30.0, rel=1e-3)
    assert found.read_noise == pytest.approx(np.sqrt(30.0), rel=1e-3)
    assert any("negative" in note for note in found.notes)


def test_a_line_and_a_parabola():
    mean = np.linspace(100, 1e4, 30)
    found = fit(mean, linear(mean, GAIN, NOISE), 1e5, model="linear")
    assert (found.gain, found.read_noise) == pytest.approx((GAIN, NOISE), rel=1e-9)
    assert np.isnan(found.a00) and found.chi2 == pytest.approx(0.0, abs=1e-9)
    bent = fit(mean, linear(mean, GAIN, NOISE) + A00 * mean**2, 1e5, model="quadratic")
    assert (bent.gain, bent.read_noise, bent.a00) == pytest.approx((GAIN, NOISE, A00), rel=1e-6)


def test_no_effect_at_all():
    found = fit(*curve(levels(), a00=0.0), 1e6)
    near(found.a00, 0.0, found.a00_sigma)
    near(found.gain, GAIN, found.gain_sigma)


def test_charge_that_attracts_charge_is_doubted():
    found = fit(*curve(levels(), a00=2e-6), 1e6)
    near(found.a00, 2e-6, found.a00_sigma)
    assert any("a00 is positive" in note for note in found.notes)
    assert not any("a00 is positive" in note for note in fit(*curve(levels(), a00=0.0), 1e6).notes)


def test_bootstrap_agrees_with_the_sigmas_of_the_fit():
    mean, variance = curve(levels())
    plain, drawn = fit(mean, variance, 1e6), fit(mean, variance, 1e6, bootstrap=200)
    assert drawn.gain == plain.gain
    for name in ("gain_sigma", "a00_sigma", "read_noise_sigma"):
        assert getattr(drawn, name) == pytest.approx(getattr(plain, name), rel=0.4)
    assert any("200 draws" in note for note in drawn.notes)
    again = fit(mean, variance, 1e6, bootstrap=200)
    assert again.gain_sigma == drawn.gain_sigma


def test_bootstrap_sees_what_the_noise_of_variances_does_not_tell():
    mean, variance = curve(levels())
    variance = variance * (1 + 0.01 * np.random.default_rng(1).normal(size=40))
    found = fit(mean, variance, 1e6, bootstrap=100)
    assert found.gain_sigma / GAIN > 5 * 3.5e-4
    near(found.gain, GAIN, found.gain_sigma)


def test_words_of_the_caller_that_cannot_be_meant():
    mean, variance = curve(levels())
    with pytest.raises(OptionError, match="unknown model"):
        fit(mean, variance, 1e6, model="cubic")
    with pytest.raises(OptionError, match="needs covariances"):
        fit(mean, variance, 1e6, model="full")
    with pytest.raises(ShapeError):
        fit(mean, variance[1:], 1e6)
    with pytest.raises(ShapeError):
        fit(mean, variance, 1e6, covariance=np.zeros((40, 3, 4)))


# --- covariances ---


def pushed(n=4):
    """Matrices of a sensor whose charges push each other: all charge that one loses its neighbours win."""
    rows, cols = np.mgrid[:n, :n]
    a = 4e-7 / (rows**2 + 1.4 * cols**2 + 1e-9) ** 1.3
    weight = np.where(rows > 0, 2, 1) * np.where(cols > 0, 2, 1)
    a[0, 0] = 0.0
    a[0, 0] = -(weight * a).sum()
    return a, np.where(rows + cols == 0, 2e-7, -4e-7), np.where(rows + cols == 0, 25.0, 0.05)


def covariances(n=4, pixels=1e6, seed=0, count=40):
    a, b, noise = pushed(n)
    rng = np.random.default_rng(seed)
    mean = levels(count) / GAIN
    truth = full(mean, GAIN, a, b, noise)
    number = np.full(truth.shape, 2 * pixels)  # of lags (i, j) and (i, -j) together
    number[:, 0], number[:, :, 0] = pixels, pixels
    error = truth[:, :1, :1] / np.sqrt(number)
    error[:, 0, 0] *= np.sqrt(2.0)
    return mean, truth + error * rng.standard_normal(truth.shape), number, (a, b, noise)


@pytest.mark.parametrize("seed", range(3))
def test_full_model(seed):
    mean, covariance, number, (a, b, _) = covariances(seed=seed)
    found = fit(mean, covariance[:, 0, 0], 1e6, model="full", covariance=covariance, covariance_pixels=number)
    near(found.gain, GAIN, found.gain_sigma)
    near(found.a00, a[0, 0], found.a00_sigma)
    near(found.read_noise, NOISE, found.read_noise_sigma)
    assert 0.8 < found.chi2 < 1.2
    assert np.abs((found.a - a) / found.a_sigma).max() < 4.5
    assert 0.6 < np.std((found.a - a) / found.a_sigma) < 1.5
    known = np.isfinite(found.b)
    np.testing.assert_array_equal(known, np.abs(found.a) >= 5 * found.a_sigma)
    assert np.abs((found.b - b) / found.b_sigma)[known].max() < 4.5
    assert found.noise[0, 0] == pytest.approx(found.n00)
    np.testing.assert_allclose(found.model_covariance[:, 0, 0], found.model_variance)


def test_sigmas_of_variances_and_covariances_in_the_full_model():
    """The one lag of a variance scatters by sqrt(2) more than another would."""
    chi2 = []
    for seed in range(10):
        mean, covariance, _, _ = covariances(n=1, seed=seed)
        found = fit(mean, covariance[:, 0, 0], 1e6, model="full", covariance=covariance)
        chi2.append(found.chi2)
    assert np.mean(chi2) == pytest.approx(1, abs=0.3)


def test_pixels_of_the_variance_stand_for_those_of_its_lag():
    mean, covariance, number, _ = covariances()
    other = number.copy()
    other[:, 0, 0] = 10
    one, same = (
        fit(mean, covariance[:, 0, 0], 1e6, model="full", covariance=covariance, covariance_pixels=counts)
        for counts in (number, other)
    )
    assert one.gain == same.gain and one.chi2 == same.chi2


def test_full_model_of_another_gain_is_told_apart():
    """The twin."""
    mean, covariance, number, _ = covariances()
    found = fit(mean, covariance[:, 0, 0], 1e6, model="full", covariance=covariance, covariance_pixels=number)
    with pytest.raises(AssertionError):
        near(found.gain, GAIN + 10 * found.gain_sigma, found.gain_sigma)


def test_matrices_beside_the_exponential():
    mean, covariance, number, (a, _, _) = covariances()
    found = fit(mean, covariance[:, 0, 0], 1e6, covariance=covariance, covariance_pixels=number)
    assert found.model == "exponential" and found.b is None
    assert np.abs((found.a - a) / found.a_sigma).max() < 4.5
    assert found.model_covariance.shape == covariance.shape


def test_three_levels_still_give_the_lags():
    mean, covariance, number, (a, _, _) = covariances(count=3)
    found = fit(mean, covariance[:, 0, 0], 1e6, covariance=covariance, covariance_pixels=number)
    assert found.a[0, 1] == pytest.approx(a[0, 1], rel=0.3)
    whole = fit(mean, covariance[:, 0, 0], 1e6, model="full", covariance=covariance, covariance_pixels=number)
    assert np.isnan(whole.gain) and "full model needs 4" in whole.notes[0]


def test_a_lag_that_was_not_measured_stops_nothing_else():
    mean, covariance, number, (a, _, _) = covariances()
    covariance[:, 2, 3] = np.nan
    found = fit(mean, covariance[:, 0, 0], 1e6, covariance=covariance, covariance_pixels=number)
    assert np.isnan(found.a[2, 3]) and found.a[1, 0] == pytest.approx(a[1, 0], rel=0.15)
    near(found.gain, GAIN, 0.01)


def test_one_covariance_that_was_not_measured_counts_for_nothing():
    mean, covariance, number, (a, _, _) = covariances()
    covariance[7, 2, 3] = np.nan
    found = fit(mean, covariance[:, 0, 0], 1e6, model="full", covariance=covariance, covariance_pixels=number)
    assert np.abs((found.a - a) / found.a_sigma).max() < 4.5 and 0.8 < found.chi2 < 1.2


@pytest.mark.parametrize("well", [1e6, 1e5])
def test_full_model_finds_the_turn_off_where_the_exponential_leaves_the_curve_too_early(well):
    """A strong b, which eq. 16 does not have."""
    a, _, noise = pushed()
    signal = np.geomspace(100, 1.6e5 if well < 1e6 else 9e4, 40)
    over = signal > well
    mean = np.where(over, well / GAIN + 0.05 * (signal - well) / GAIN, signal / GAIN)
    b = np.where(a < 0, -3e-6, 3e-6)
    covariance = full(signal / GAIN, GAIN, a, b, noise) * np.where(over, 0.6, 1.0)[:, None, None]
    curve_alone, whole = (
        fit(mean, covariance[:, 0, 0], 1e8, model=model, covariance=covariance)
        for model in ("exponential", "full")
    )
    np.testing.assert_array_equal(whole.used, ~over)
    assert whole.gain == pytest.approx(GAIN, rel=1e-4) and whole.turnoff == mean[~over].max()
    assert curve_alone.turnoff < 0.9 * whole.turnoff
    assert curve_alone.gain == pytest.approx(GAIN, rel=3e-3)


@pytest.mark.soak
def test_pulls_of_the_full_model():
    pulls = []
    for seed in range(200):
        mean, covariance, number, (a, _, _) = covariances(seed=1000 + seed)
        found = fit(
            mean, covariance[:, 0, 0], 1e6, model="full", covariance=covariance, covariance_pixels=number
        )
        own = [
            (found.gain - GAIN) / found.gain_sigma,
            (found.n00 - 25) / (2 * found.read_noise * found.read_noise_sigma),
        ]
        pulls.append([*own, *((found.a - a) / found.a_sigma).ravel()])
    width = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert np.abs(width - 1).max() < 4.5 / np.sqrt(2 * 200)
    assert np.abs(np.mean(pulls, axis=0)).max() < 4.5 / np.sqrt(200)


# --- straight lines ---


@pytest.mark.parametrize(
    ("top", "unweighted", "weighted"),
    [(1e4, 3.1, 1.8), (3e4, 9.4, 5.3), (5e4, 16.1, 9.0), (9e4, 30.4, 17.0)],
)
def test_the_bias_of_straight_lines_is_said(top, unweighted, weighted):
    """Levels at even distance; what a weighted line makes of them hangs on their number."""
    mean = np.linspace(0, top, 20) / GAIN
    variance = exponential(mean, GAIN, A00, NOISE)
    found = straight_lines(mean, variance, np.full(20, 1e6), fit(mean, variance, 1e6).gain)
    said = dict(zip(found["line"], found["bias_percent"], strict=True))
    assert said["unweighted"] == pytest.approx(unweighted, rel=0.03)
    assert said["weighted"] == pytest.approx(weighted, rel=0.15)
    assert 0 < abs(said["quadratic"]) < 0.15 * said["unweighted"]


def test_without_the_effect_straight_lines_have_no_bias():
    mean = np.linspace(0, 9e4, 20) / GAIN
    found = straight_lines(mean, linear(mean, GAIN, NOISE), np.full(20, 1e6), GAIN)
    np.testing.assert_allclose(found["bias_percent"], 0.0, atol=1e-6)
    np.testing.assert_allclose(found["read_noise"], NOISE, rtol=1e-6)


def test_straight_lines_where_there_are_none():
    found = straight_lines(np.arange(5.0), np.arange(5.0)[::-1] + 1, np.full(5, 1e4), GAIN)
    assert np.isnan(found["gain"]).all()
