"""Read noise: where it comes from, and the variance that it gives, against scatter of simulated frames."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import gain, read_noise
from calibrant.errors import ConfigError, HistoryError, OptionError, SelectionError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.product import Product, Quantity

SHAPE = (60, 80)
NOISE, GAIN = 6.0, 1.6


def instrument(**detector):
    return Instrument(name="cam", detectors={"0": Detector(**detector)})


def frame(signal=0.0, seed=1, unit="adu", **facts):
    rng = np.random.default_rng(seed)
    data = rng.poisson(np.full(SHAPE, signal * GAIN)) / GAIN + rng.normal(0, NOISE, SHAPE)
    return Frame(data.astype(np.float32), unit=unit, exposure=Exposure(shape=SHAPE, **facts))


def exposures(*frames, camera=None):
    return Exposures.from_frames(frames or [frame()], camera or instrument())


def bias(frames=10, noisy=20.0):
    rng = np.random.default_rng(7)
    sigma = np.full(SHAPE, NOISE)
    sigma[5, 5] = noisy
    plane = (rng.normal(0, sigma, (frames, *SHAPE))).std(axis=0, ddof=1)
    return Product(
        "bias",
        planes={
            "data": np.zeros(SHAPE, np.float32),
            "read_noise": plane.astype(np.float32),
            "count": np.full(SHAPE, frames, np.uint16),
        },
        quantities=(Quantity("read_noise", NOISE, 0.01, "adu"),),
    )


def test_given_before_bias_before_nominal():
    camera = instrument(gain=2.0, read_noise=10.0)
    nominal = read_noise.measure(exposures(camera=camera))
    assert nominal.quantity("read_noise").value == pytest.approx(5.0)  # electrons over e-/adu
    from_bias = read_noise.measure(exposures(camera=camera), products={"bias": bias()})
    assert from_bias.quantity("read_noise").value == NOISE
    assert from_bias.provenance.parents == (bias().identity,)
    given = read_noise.measure(exposures(camera=camera), products={"bias": bias()}, read_noise=3.0)
    assert given.quantity("read_noise").value == 3.0 and not given.planes
    header = read_noise.measure(exposures(frame(gain=4.0, read_noise=8.0), camera=camera))
    assert header.quantity("read_noise").value == pytest.approx(2.0)


def test_the_map_keeps_noisy_pixels_and_not_the_chance_of_ten_frames():
    plane = read_noise.measure(exposures(), products={"bias": bias()}).planes["read_noise"]
    assert plane[5, 5] > 10
    assert np.count_nonzero(plane != np.float32(NOISE)) < 0.005 * plane.size
    raw = bias().planes["read_noise"]
    assert np.std(raw) > 1.0  # the twin: what the raw map would have put into the weights


def test_the_uncertainty_of_the_overscan_adds():
    product = read_noise.measure(exposures(), read_noise=4.0, level_sigma=3.0)
    assert product.quantity("read_noise").value == pytest.approx(5.0)


def test_amplifiers_with_their_own_noise_make_a_plane():
    halves = tuple(
        Amplifier(name=n, data=s, place=s, gain=2.0, read_noise=r)
        for n, s, r in (("A", "[1:40,1:60]", 8.0), ("B", "[41:80,1:60]", 12.0))
    )
    product = read_noise.measure(exposures(camera=instrument(amplifiers=halves)))
    assert product.quantity("read_noise", "B").value == 6.0
    assert np.unique(product.planes["read_noise"][:, :40]) == 4.0
    assert np.unique(product.planes["read_noise"][:, 40:]) == 6.0


@pytest.mark.parametrize("signal", [0.0, 30.0, 3000.0])
def test_the_variance_is_the_scatter_of_frames_and_a_wrong_noise_is_not(signal):
    frames = [frame(signal, seed, gain=GAIN) for seed in range(40)]
    product = read_noise.measure(exposures(*frames[:1]), read_noise=NOISE)
    planes = [np.asarray(read_noise.apply(one, product).variance) for one in frames]
    scatter = np.var([one.data for one in frames], axis=0, ddof=1).mean()
    # Photon noise is taken from the noisy data: right on average, save near zero, where it is held at 0.
    expected = scatter if signal else NOISE**2 + NOISE / np.sqrt(2 * np.pi) / GAIN
    assert np.mean(planes) == pytest.approx(expected, rel=0.01)
    wrong = read_noise.measure(exposures(*frames[:1]), read_noise=1.3 * NOISE)
    off = np.mean([np.asarray(read_noise.apply(one, wrong).variance) for one in frames])
    assert off - scatter > 0.9 * (1.3**2 - 1) * NOISE**2


def test_without_a_gain_the_frame_says_what_is_missing():
    done = read_noise.apply(frame(100.0), read_noise.measure(exposures(), read_noise=NOISE))
    assert np.allclose(done.variance, NOISE**2)
    assert "lacks the photon noise" in done.history[-1].note


def test_the_gain_may_be_a_product():
    product = read_noise.measure(exposures(), read_noise=NOISE)
    gains = Product("gain", quantities=(Quantity("gain", GAIN, None, "electron/adu", "A"),))
    done = read_noise.apply(frame(100.0), product, gain=gains)
    np.testing.assert_allclose(done.variance, NOISE**2 + np.maximum(done.data, 0) / GAIN, rtol=1e-5)


def test_amplifiers_of_different_gain_have_their_own_photon_noise():
    """Each half's variance is its own scatter; one mean gain for both would miss by half."""
    rng = np.random.default_rng(4)
    gains, halves = {"A": 1.0, "B": 3.0}, (("A", "[1:40,1:60]"), ("B", "[41:80,1:60]"))
    camera = instrument(
        amplifiers=tuple(Amplifier(name=n, data=s, place=s, gain=gains[n]) for n, s in halves)
    )
    per_pixel = np.where(np.arange(80) < 40, 1.0, 3.0)
    counts = rng.poisson(5000, SHAPE) / per_pixel + rng.normal(0, NOISE, SHAPE)
    one = Frame(counts.astype(np.float32), exposure=Exposure(shape=SHAPE))
    product = read_noise.measure(exposures(one, camera=camera), read_noise=NOISE)
    known = gain.nominal(exposures(one, camera=camera))
    done = read_noise.apply(one, product, gain=known)
    np.testing.assert_allclose(done.data, one.data, rtol=1e-6)
    np.testing.assert_allclose(done.variance, NOISE**2 + one.data / per_pixel, rtol=1e-5)
    mean = read_noise.apply(one, product, gain=gain.mean_gain(known))
    for half in (slice(0, 40), slice(40, 80)):
        scatter = counts[:, half].var(ddof=1)
        assert np.mean(done.variance[:, half]) == pytest.approx(scatter, rel=0.08)
        assert np.mean(mean.variance[:, half]) != pytest.approx(scatter, rel=0.25)
    assert [line.effect for line in done.history] == ["read_noise.equalise", "read_noise"]
    with pytest.raises(SelectionError, match=r"read_noise\.steps"):
        read_noise.step(one.exposure, product, gain=known)


def test_bad_input():
    with pytest.raises(ConfigError, match="no read noise is known"):
        read_noise.measure(exposures())
    with pytest.raises(ConfigError, match="no gain is known"):
        read_noise.measure(exposures(camera=instrument(read_noise=5.0)))
    with pytest.raises(OptionError, match="not below 0"):
        read_noise.measure(exposures(), read_noise=-1.0)
    with pytest.raises(OptionError, match="not below 0"):
        read_noise.measure(exposures(), read_noise=float("nan"))
    product = read_noise.measure(exposures(), read_noise=NOISE)
    with pytest.raises(HistoryError):
        read_noise.apply(read_noise.apply(frame(), product), product)
    with pytest.raises(UnitError):
        read_noise.apply(frame(unit="electron"), product)
    with pytest.raises(SelectionError, match="says nothing of the read noise"):
        read_noise.step(Exposure(), Product("flat"))
    with pytest.raises(SelectionError, match="says nothing of the gain"):
        read_noise.step(Exposure(), product, gain=Product("flat"))


def test_a_dead_amplifier_does_not_take_the_noise_of_the_others():
    halves = (("A", "[1:40,1:60]"), ("B", "[41:80,1:60]"))
    camera = instrument(amplifiers=tuple(Amplifier(name=n, data=s, place=s) for n, s in halves))
    one = frame(100.0)
    stated = gain.nominal(exposures(one, camera=camera), gain={"A": 1.0, "B": 2.0})
    known = Product(
        "gain",
        tables=stated.tables,
        quantities=(Quantity("gain", np.nan, None, "", "A"), Quantity("gain", 2.0, None, "", "B")),
    )
    done = read_noise.apply(one, read_noise.measure(exposures(), read_noise=NOISE), gain=known)
    assert np.isnan(done.variance[:, :40]).all() and done.dq[:, :40].all()
    np.testing.assert_allclose(
        done.variance[:, 40:], NOISE**2 + np.maximum(one.data[:, 40:], 0) / 2, rtol=1e-5
    )
    step = read_noise.step(
        one.exposure, Product("bias", quantities=(Quantity("read_noise", 6.0),)), gain=known
    )
    assert step.gain == 2.0
