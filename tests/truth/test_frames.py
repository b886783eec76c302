"""Calibrated frames against the light that fell: their two variances together give pulls of unit width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import bias, dark, flat
from calibrant.stack.pixel import PixelStep, apply_steps

FRAMES = (3, 5, 10, 30)


def calibrate(frame, zero, current, response, *, shared=True, noise=1.0):
    """Bias, noise, dark, flat, in one pass."""
    exposure = frame.exposure
    steps = [
        bias.step(exposure, zero),
        PixelStep("read_noise", read_noise=noise * exposure.read_noise / exposure.gain, gain=exposure.gain),
        dark.step(exposure, current, after=(zero,) if shared else ()),
        flat.step(exposure, response),
    ]
    return apply_steps(frame, steps)


def masters(one, n, method="mean", dark_times=300.0, light=12000.0):
    zero = bias.measure(one.series("bias", n), method=method)
    current = dark.measure(one.series("dark", n, dark_times), products={"bias": zero}, method=method)
    lamps = one.series("flat", n, 3.0, light)
    return zero, current, flat.measure(lamps, products={"bias": zero, "dark": current}, method=method)


def light_of(one, level):
    """What the calibrated frame should be: the light through a flat whose median is 1."""
    return np.full(one.shape, level * np.median(one.flat))


@pytest.mark.parametrize("n", FRAMES)
@pytest.mark.parametrize("method", ["mean", "median"])
@pytest.mark.parametrize("time", [300.0, 100.0])
def test_pulls_of_calibrated_frames(camera, measure_pulls, n, method, time):
    one = camera(100 + n)
    zero, current, response = masters(one, n, method)
    frame = calibrate(one.expose("light", time, 400.0), zero, current, response)
    variance = frame.variance + frame.systematic
    mean, width = measure_pulls(frame.data, light_of(one, 400.0), variance)
    assert abs(mean) < 0.1
    assert abs(width - 1) < 0.05


@pytest.mark.parametrize("perturbed", ["noise", "light", "shared"])
def test_pulls_see_what_is_wrong(camera, measure_pulls, perturbed):
    """Twins: other noise, other light, and a bias error counted as if frame and dark did not share it."""
    n = 3
    one = camera(120)
    zero, current, response = masters(one, n)
    # A dark frame: nothing but bias and dark, so that their errors rule.
    level = 0.0 if perturbed == "shared" else 400.0
    frame = calibrate(
        one.expose("light", 300.0, level),
        zero,
        current,
        response,
        shared=perturbed != "shared",
        noise=2.0 if perturbed == "noise" else 1.0,
    )
    truth = light_of(one, level) + (5 * np.sqrt(np.median(frame.variance)) if perturbed == "light" else 0)
    mean, width = measure_pulls(frame.data, truth, frame.variance + frame.systematic)
    assert abs(mean) >= 0.1 or abs(width - 1) >= 0.05


def test_an_error_of_the_bias_cancels_in_a_frame_of_the_time_of_its_dark(camera):
    """raw - b - t (d - b)/t holds no b: the systematic variance is that of the dark frames alone."""
    one = camera(130)
    zero = bias.measure(one.series("bias", 3))
    current = dark.measure(one.series("dark", 5, 60.0), products={"bias": zero})
    raw = one.expose("light", 60.0)
    done = dark.apply(bias.apply(raw, zero), current)
    alone = current.planes["propagated"] * 60.0**2
    np.testing.assert_allclose(done.systematic, alone, rtol=1e-4)
    worse = replace(zero, planes={**zero.planes, "data": zero.data + 7})
    again = dark.apply(
        bias.apply(raw, worse), dark.measure(one.series("dark", 5, 60.0), products={"bias": worse})
    )
    assert abs(np.median(again.data) - np.median(done.data)) < 0.5  # seven counts of error are gone


@pytest.mark.parametrize("times", [60.0, (30.0, 60.0, 60.0, 200.0, 200.0)])
def test_frames_with_darks_that_hold_their_bias(camera, measure_pulls, times):
    one = camera(140)
    whole = dark.measure(one.series("dark", 5, times))
    raw = one.expose("light", 60.0, 300.0)
    step = dark.step(raw.exposure, whole, read_noise=one.read_noise, gain=one.gain)
    frame = apply_steps(raw, [step])
    truth = 300.0 * one.flat
    quiet = one.dark < 2
    mean, width = measure_pulls(frame.data[quiet], truth[quiet], (frame.variance + frame.systematic)[quiet])
    assert abs(mean) < 0.1
    assert abs(width - 1) < 0.05
