"""The errors that pixel steps give are those that a Monte Carlo of the detector has."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.frame import Frame
from calibrant.stack.pixel import PixelStep, apply_steps

SHAPE = (400, 500)
GAIN, READ_NOISE, TIME = 1.7, 4.2, 120.0


def observe(seed, *, read_noise=READ_NOISE, dark_rate=0.5):
    """Raw adu of sky, dark and bias through a flat, with the truth in electrons."""
    rng = np.random.default_rng(seed)
    sky = rng.uniform(50, 3000, SHAPE)  # electrons at unit response
    flat = rng.normal(1.0, 0.08, SHAPE).clip(0.5)
    dark = rng.uniform(0, 2 * dark_rate, SHAPE)  # adu/s
    bias = 1000 + rng.normal(0, 3, SHAPE)
    electrons = rng.poisson(sky * flat + dark * TIME * GAIN)
    raw = electrons / GAIN + bias + rng.normal(0, read_noise, SHAPE)
    return raw, sky, bias, dark, flat


def calibrate(raw, bias, dark, flat, errors=None):
    errors = errors or {}
    return apply_steps(
        Frame(raw),
        [
            PixelStep("bias", "b", offset=bias, offset_variance=errors.get("bias")),
            PixelStep("read_noise", read_noise=READ_NOISE, gain=GAIN),
            PixelStep("dark", "d", offset=dark, offset_factor=TIME, offset_variance=errors.get("dark")),
            PixelStep("flat", "f", divisor=flat, divisor_variance=errors.get("flat")),
            PixelStep("gain", scale=GAIN, unit="electron"),
        ],
    )


def width(frame, truth, variance):
    pulls = (frame.data - truth) / np.sqrt(variance)
    assert abs(pulls.mean()) < 0.05  # not 0: the variance is made of the same photons as the data
    return pulls.std()


def test_pulls_of_the_independent_variance():
    raw, sky, bias, dark, flat = observe(1)
    frame = calibrate(raw, bias, dark, flat)
    assert frame.systematic is None
    assert width(frame, sky, frame.variance) == pytest.approx(1.0, abs=0.03)


def test_a_detector_that_is_noisier_than_said_is_seen():
    """The twin of the test above must fail: 20 % more read noise, or photon noise without the dark's."""
    raw, sky, bias, dark, flat = observe(1, read_noise=4.2 * 4)
    frame = calibrate(raw, bias, dark, flat)
    assert width(frame, sky, frame.variance) > 1.03
    raw, sky, bias, dark, flat = observe(1, dark_rate=5.0)
    frame = calibrate(raw, bias, dark, flat)
    dark_removed_first = (frame.data.clip(0) * flat + (READ_NOISE * GAIN) ** 2) / flat**2
    assert width(frame, sky, dark_removed_first) > 1.03


def test_pulls_with_the_errors_of_the_calibrations():
    """Masters with errors of their own: variance and systematic together are the error."""
    raw, sky, bias, dark, flat = observe(2)
    rng = np.random.default_rng(3)
    sigma = {"bias": 6.0, "dark": 0.08, "flat": 0.02}
    frame = calibrate(
        raw,
        bias + rng.normal(0, sigma["bias"], SHAPE),
        dark + rng.normal(0, sigma["dark"], SHAPE),
        flat + rng.normal(0, sigma["flat"], SHAPE),
        {name: value**2 for name, value in sigma.items()},
    )
    assert width(frame, sky, frame.variance + frame.systematic) == pytest.approx(1.0, abs=0.03)
    assert width(frame, sky, frame.variance) > 1.1  # the systematic part is not a trifle here
    assert frame.systematic_from == {"b", "d", "f"}


def test_systematic_is_the_formula_of_error_propagation():
    """Derivatives of (raw - bias - t dark) / flat * gain, written out."""
    raw, bias, dark, flat = 5000.0, 1000.0, 2.0, 0.8
    steps_variance = {"bias": 4.0, "dark": 0.01, "flat": 0.0004}
    frame = calibrate(np.full((1, 1), raw), bias, dark, flat, steps_variance)
    counts = raw - bias - TIME * dark
    slope = {"bias": GAIN / flat, "dark": TIME * GAIN / flat, "flat": counts * GAIN / flat**2}
    expected = sum(slope[name] ** 2 * variance for name, variance in steps_variance.items())
    assert frame.systematic[0, 0] == pytest.approx(expected, rel=1e-6)
    assert frame.data[0, 0] == pytest.approx(counts / flat * GAIN, rel=1e-6)
    noise = (READ_NOISE**2 + (raw - bias) / GAIN) * (GAIN / flat) ** 2
    assert frame.variance[0, 0] == pytest.approx(noise, rel=1e-6)


def test_negative_counts_have_no_photon_noise():
    frame = apply_steps(Frame(np.full((1, 1), -50.0)), [PixelStep("noise", read_noise=3.0, gain=2.0)])
    assert frame.variance[0, 0] == 9.0
