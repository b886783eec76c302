"""Pairs of darks: the published numbers come out of them, by plain NumPy."""

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.simulate.dark_pair import load, noisy_pair, pair

# As they were published, highest power first.
PUBLISHED = {
    "add": (235.82480370850152,),
    "mult": (1.4510501785354721,),
    "poly1": (1.2535862923342835, 129.03443681032883),
    "poly2": (-0.00010518865504002474, 1.4888327725011952, 58.913645957805009),
    "poly3": (1.203598772902105e-08, -0.00015978889457175823, 1.5420174307729337, 47.513171648014264),
}
STD = {"add": 104.15115, "mult": 91.49142342107493, "poly1": 67.495304, "poly2": 55.21877}
SEEDS = (1, 2, 3)


def fits(dark1, dark2):
    """Least squares of every model, without a line of ours."""
    x, y = (np.asarray(dark, np.float64).ravel() for dark in (dark1, dark2))
    found = {"add": [y.mean() - x.mean()], "mult": [(x @ y) / (x @ x)]}
    residuals = {"add": y - x - found["add"][0], "mult": y - found["mult"][0] * x}
    for degree in (1, 2, 3):
        name = f"poly{degree}"
        found[name] = np.polyfit(x, y, degree)
        residuals[name] = y - np.polyval(found[name], x)
    return found, residuals


@pytest.fixture(scope="module", params=SEEDS)
def darks(request):
    return pair(np.random.default_rng(request.param))


def test_the_design_holds_the_published_coefficients():
    assert load().coefficients == PUBLISHED and load().shape == (62, 341)


def test_coefficients_of_float_frames(darks):
    found, residuals = fits(darks.dark1, darks.dark2)
    for name, values in PUBLISHED.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-8, err_msg=name)
    for name, value in STD.items():
        assert residuals[name].std() == pytest.approx(value, rel=1e-7)
    assert residuals["mult"].std() == pytest.approx(STD["mult"], rel=1e-8)
    assert residuals["mult"].mean() == pytest.approx(45.878361, rel=1e-7)
    assert abs(residuals["poly1"].mean()) < 1e-9
    assert residuals["poly3"].std() <= STD["poly2"]


def test_coefficients_of_whole_frames(darks):
    first, second = darks.whole
    assert first.dtype == second.dtype == np.int32
    found, residuals = fits(first, second)
    for name, values in PUBLISHED.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, err_msg=name)
    for name, value in STD.items():
        assert residuals[name].std() == pytest.approx(value, rel=1e-4)
    assert abs(int(first.sum()) - 8_903_328) <= 1 and abs(int(second.sum()) - 13_889_136) <= 1
    moved = np.abs(first - darks.dark1)
    assert moved.max() < 10 and np.mean(moved > 0.5) < 0.005


def test_plain_rounding_would_not_do(darks):
    """The twin: to the nearest number, the cubic coefficient is off by more than is allowed."""
    worst = max(
        abs(fits(np.rint(one.dark1), np.rint(one.dark2))[0]["poly3"][0] / PUBLISHED["poly3"][0] - 1)
        for one in (pair(np.random.default_rng(seed)) for seed in SEEDS)
    )
    assert worst > 1e-4


@pytest.mark.parametrize("model", PUBLISHED)
def test_one_pixel_that_is_off_is_seen(darks, model):
    """The twin: a hot pixel of dark2 that is 2 adu higher moves every model by more than is allowed."""
    second = darks.dark2.copy()
    second[np.unravel_index(np.argmax(darks.dark1), second.shape)] += 2.0
    found, _ = fits(darks.dark1, second)
    assert np.abs(np.array(found[model]) / PUBLISHED[model] - 1).max() > 1e-7


def test_moments(darks):
    x, y = darks.dark1.ravel(), darks.dark2.ravel()
    assert x.sum() == pytest.approx(8_903_328, rel=1e-12)
    assert y.sum() == pytest.approx(13_889_136, rel=1e-10)
    assert x @ x == pytest.approx(5_817_954_545, rel=1e-12)
    u = (x - x.mean()) / x.std()
    for power, value in ((3, 4.4571445), (4, 35.0887447), (5, 309.675441)):
        assert np.mean(u**power) == pytest.approx(value, rel=1e-8)
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(0.9855069, abs=1e-7)


def test_they_look_like_darks(darks):
    assert darks.dark1.min() > 0 and darks.dark2.min() > 0
    assert 4000 < darks.dark1.max() < 7000
    assert 0.01 < darks.hot.mean() < 0.02
    assert np.median(darks.dark1[darks.hot]) > 2 * np.median(darks.dark1[~darks.hot])
    quiet = darks.noise[darks.dark1 < 300].std()
    assert darks.noise[darks.dark1 > 1500].std() > 2 * quiet


def test_what_the_design_says_of_residuals(darks):
    design = load()
    _, residuals = fits(darks.dark1, darks.dark2)
    for name, (mean, std) in design.moments.residuals(design.coefficients).items():
        assert residuals[name].mean() == pytest.approx(mean, rel=1e-9, abs=1e-8)
        assert residuals[name].std() == pytest.approx(std, rel=1e-8)


def test_one_seed_gives_one_pair():
    first, again = (pair(np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.dark2, again.dark2)
    assert not np.array_equal(first.dark2, pair(np.random.default_rng(8)).dark2)


def test_moments_that_no_frame_has():
    design = load().model_copy(update={"std_mult": 40.0})
    with pytest.raises(OptionError, match="varies more than the second dark"):
        pair(np.random.default_rng(1), design)


def test_a_noisy_pair_attenuates_least_squares():
    one = noisy_pair(np.random.default_rng(3), (200, 300), slope=1.3, offset=100.0, sigma_from=90.0)
    x, y = one.dark_from.ravel(), one.dark_to.ravel()
    found = np.polyfit(x, y, 1)[0]
    assert found == pytest.approx(1.3 * (1 - 90.0**2 / x.var()), abs=0.01)
    assert abs(found - 1.3) > 0.05
    np.testing.assert_allclose(one.true_to, 1.3 * one.true_from + 100.0)
    assert (one.dark_from - one.true_from).std() == pytest.approx(90.0, rel=0.02)
    assert (one.dark_to - one.true_to).std() == pytest.approx(80.0, rel=0.02)


def test_a_noisy_pair_with_noise_of_its_own_in_each_pixel():
    sigma = np.full((60, 80), 5.0)
    sigma[30:] = 50.0
    one = noisy_pair(np.random.default_rng(3), (60, 80), sigma_to=sigma, outliers=0.01)
    pulls = (one.dark_to - one.true_to) / one.sigma_to
    assert 0.005 < np.mean(pulls > 8) < 0.02
    calm = pulls[np.abs(pulls) < 8]
    assert calm.std() == pytest.approx(1.0, abs=0.05)
