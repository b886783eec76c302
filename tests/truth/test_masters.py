"""Masters against the truth of a simulated camera: pulls, scatter, hits; each with a twin that must fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from calibrant.effects import bias, dark, flat

FRAMES = (3, 5, 10, 30)
WAYS = (("mean", "none"), ("median", "none"), ("mean", "auto"))


def good(pull):
    """The demand on pulls: no bias beyond a tenth of a sigma, width right to 5 %."""
    mean, width = pull
    return abs(mean) < 0.1 and abs(width - 1) < 0.05


@pytest.fixture
def night(camera):
    """A camera with its bias from many frames."""

    def make(seed, **changes):
        one = camera(seed, **changes)
        return one, bias.measure(one.series("bias", 10))

    return make


@pytest.mark.parametrize("n", FRAMES)
@pytest.mark.parametrize(("method", "reject"), WAYS)
def test_pulls_of_a_bias(camera, measure_pulls, n, method, reject):
    one = camera(10 + n)
    master = bias.measure(one.series("bias", n), method=method, reject=reject)
    assert good(measure_pulls(master.data, one.bias, master.planes["propagated"]))


@pytest.mark.parametrize("n", FRAMES)
@pytest.mark.parametrize(("method", "reject"), WAYS)
def test_pulls_of_a_dark(night, measure_pulls, n, method, reject):
    one, zero = night(20 + n)
    master = dark.measure(one.series("dark", n, 60), products={"bias": zero}, method=method, reject=reject)
    variance = master.planes["propagated"] + master.planes["systematic"]
    assert good(measure_pulls(master.data, one.dark, variance))


@pytest.mark.parametrize("n", FRAMES)
@pytest.mark.parametrize(("method", "reject"), WAYS)
def test_pulls_of_a_flat(night, measure_pulls, n, method, reject):
    one, zero = night(30 + n)
    lights = np.linspace(9000, 20000, n) if method == "mean" else 15000
    master = flat.measure(
        one.series("flat", n, 2.0, lights), products={"bias": zero}, method=method, reject=reject
    )
    quiet = one.dark < 2  # no dark was given
    truth = one.flat / np.median(one.flat)
    variance = master.planes["propagated"] + master.planes["systematic"]
    assert good(measure_pulls(master.data[quiet], truth[quiet], variance[quiet]))


@pytest.mark.parametrize("times", [(20, 60, 60, 300), (10, 20, 30, 60, 150, 300), (60, 60, 60, 60, 300, 300)])
def test_pulls_of_rates_of_several_times(night, measure_pulls, times):
    one, zero = night(41)
    series = one.series("dark", len(times), times)
    scaled = dark.measure(series, products={"bias": zero})
    variance = scaled.planes["propagated"] + scaled.planes["systematic"]
    assert good(measure_pulls(scaled.data, one.dark, variance))
    fitted = dark.measure(series)
    assert good(measure_pulls(fitted.data, one.dark, fitted.planes["propagated"]))
    assert good(measure_pulls(fitted.planes["bias"], one.bias, fitted.planes["bias_propagated"]))


def test_pulls_see_a_wrong_noise_model(camera, night, measure_pulls):
    """Twins: the noise that is stated is not the noise that is there, or the truth lies 5 sigma off."""
    one = camera(50)
    master = bias.measure(one.series("bias", 10), method="median")
    as_mean = master.planes["propagated"] / 1.176**2 * 1.0
    assert not good(measure_pulls(master.data, one.bias, as_mean))
    shifted = one.bias + 5 * np.sqrt(np.median(master.planes["propagated"]))
    assert not good(measure_pulls(master.data, shifted, master.planes["propagated"]))

    one, zero = night(51)
    noisy = dark.measure(one.series("dark", 10, 60), products={"bias": zero}, read_noise=1.2 * one.read_noise)
    variance = noisy.planes["propagated"] + noisy.planes["systematic"]
    assert not good(measure_pulls(noisy.data, one.dark, variance))
    wrong = flat.measure(one.series("flat", 10, 2.0, 15000), products={"bias": zero}, gain=0.8 * one.gain)
    quiet = one.dark < 2
    pull = measure_pulls(
        wrong.data[quiet], (one.flat / np.median(one.flat))[quiet], wrong.planes["propagated"][quiet]
    )
    assert not good(pull)


def scatter_ratio(master, truth, extra=0.0):
    error = (master.data - truth) ** 2
    return float(error.mean() / (master.planes["variance"] + extra).mean())


@pytest.mark.parametrize("n", FRAMES)
@pytest.mark.parametrize(("method", "reject"), WAYS)
def test_scatter_of_a_bias(camera, n, method, reject):
    """The scatter's own variance is right on the average; single pixels follow Student, not Gauss."""
    one = camera(60 + n, digitised=False)
    master = bias.measure(one.series("bias", n), method=method, reject=reject)
    assert abs(scatter_ratio(master, one.bias) - 1) < 0.03


@pytest.mark.parametrize("n", FRAMES)
def test_scatter_pulls_follow_student(camera, n):
    one = camera(70 + n, digitised=False)
    master = bias.measure(one.series("bias", n), reject="none")
    pull = (master.data - one.bias) / np.sqrt(master.planes["variance"])
    beyond = np.mean(np.abs(pull) > stats.t.ppf(0.975, n - 1))
    assert abs(beyond - 0.05) < 0.005
    if n < 30:  # the twin: a normal distribution has other tails
        assert abs(np.mean(np.abs(pull) > stats.norm.ppf(0.975)) - 0.05) > 0.005


def test_scatter_sees_frames_that_are_not_independent(camera):
    """Twin: with every frame's noise halfway the same, the scatter is too small."""
    one = camera(80)
    one.bias = one.bias + one.rng.normal(0, one.read_noise, one.shape)  # the same in all, not in the truth
    master = bias.measure(one.series("bias", 10))
    truth = camera(80).bias
    assert abs(scatter_ratio(master, truth) - 1) > 0.03


@pytest.mark.parametrize("n", FRAMES)
@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_a_hit_does_not_survive(night, strike, kind, n):
    one, zero = night(90 + n)
    truth = {"bias": one.bias, "dark": one.dark, "flat": one.flat / np.median(one.flat)}[kind]
    time, light = {"bias": (0, 0), "dark": (60, 0), "flat": (2, 15000)}[kind]
    sigma = np.hypot(one.read_noise, np.sqrt((one.dark.max() * time + light) / one.gain))
    series, (rows, cols) = strike(one.series(kind, n, time, light), 50 * sigma)
    measure = {"bias": bias, "dark": dark, "flat": flat}[kind].measure
    products = {} if kind == "bias" else {"bias": zero}
    quiet = (one.dark < 2)[rows, cols]

    def worst(**options):
        master = measure(series, products=products, **options)
        variance = master.planes["propagated"] + master.planes.get("systematic", 0)
        return np.abs((master.data - truth) / np.sqrt(variance))[rows, cols][quiet].max()

    assert worst() < 6
    assert worst(reject="none") > 6  # the twin: without rejection it does


@pytest.mark.parametrize("given", [True, False])
def test_a_hit_in_the_longest_of_several_times(night, strike, given):
    """Single frames of each time: each is held against what the others predict."""
    one, zero = night(99)
    series, (rows, cols) = strike(one.series("dark", 6, (10, 20, 30, 60, 150, 300)), 50 * 12.0)
    products = {"bias": zero} if given else {}
    master = dark.measure(series, products=products)
    variance = master.planes["propagated"] + master.planes.get("systematic", 0)
    quiet = (one.dark < 2)[rows, cols]
    pull = np.abs((master.data - one.dark) / np.sqrt(variance))[rows, cols][quiet]
    assert pull.max() < 6
    assert master.quantity("cosmic_ray_rate").value > 0
