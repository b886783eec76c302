"""Ramps against the truth: pulls of slopes, and what is found of jumps; twins that are off must fail."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import ramp
from calibrant.frame import DQ

GAIN, NOISE = 1.8, 8.0
COUNTS = [4000, pytest.param(400_000, marks=pytest.mark.soak)]
PATTERNS = {
    "single": {"groups": 12, "frame_time": 10.0},
    "averaged": {"groups": 8, "frame_time": 10.0, "nframes": 4, "skip": 1},
}


def simulated(pattern, rate, pixels, seed, jumps=None, after=0):
    """Frames with photon and read noise, averaged to groups; jumps [adu] before the frame `after`."""
    rng = np.random.default_rng(seed)
    n, skip = pattern.get("nframes", 1), pattern.get("skip", 0)
    frames = (n + skip) * pattern["groups"]
    light = rng.poisson(rate * GAIN * pattern["frame_time"], (frames, pixels)).cumsum(0) / GAIN
    if jumps is not None:
        light[after:] += jumps
    light += NOISE * rng.standard_normal(light.shape)
    groups = light.reshape(pattern["groups"], n + skip, pixels)[:, :n].mean(1)
    return (groups + 500).astype(np.float32).reshape(pattern["groups"], 1, pixels)


def pulls(found, rate):
    return ((found.data - rate) / np.sqrt(found.planes["variance"])).ravel()


@pytest.mark.parametrize("pixels", COUNTS)
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("rate", [0.5, 5.0, 100.0])
@pytest.mark.parametrize("method", ["optimal", "fixsen"])
def test_pulls_of_slopes_have_unit_width(name, rate, pixels, method) -> None:
    data = simulated(PATTERNS[name], rate, pixels, 3)
    times = ramp.pattern(**PATTERNS[name])
    options = {"read_noise": NOISE, "thresholds": None, "method": method}
    found = ramp.measure(data, times, gain=GAIN, **options)
    width = pulls(found, rate).std()
    error = 1 / np.sqrt(2 * pixels)
    print(f"{name} {method} {rate:g} adu/s: width {width:.4f} +- {error:.4f}")
    assert abs(width - 1) < 4 * error + 0.01
    # The mean slope, not the mean pull: the variance of a low slope follows its noise.
    off = (found.data - rate).mean() / found.data.std()
    assert abs(off) < 4 / np.sqrt(pixels) + (0.003 if method == "optimal" else 0.02)
    assert abs(found.quantity("reduced_chi2").value - 1) < 6 * error
    twin = ramp.measure(data, times, gain=GAIN, **(options | {"read_noise": NOISE * 1.2}))
    brighter = ramp.measure(data, times, gain=GAIN * 1.4, **options)
    worst = max(abs(pulls(one, rate).std() - 1) for one in (twin, brighter))
    assert worst > 4 * error + 0.01


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_the_bias_of_weights_is_removed(rate) -> None:
    """Against the same ramps with the weights of the true rate, which are not biased."""
    pattern, pixels = PATTERNS["single"], 100_000
    data = simulated(pattern, rate, pixels, 4)
    found = ramp.measure(data, ramp.pattern(**pattern), gain=GAIN, read_noise=NOISE, thresholds=None)
    d = np.diff(data[:, 0].astype(float), axis=0) / 10.0
    n = len(d)

    def weights(a):
        c = np.eye(n) * (2 * NOISE**2 + 10 * a / GAIN) - NOISE**2 * (np.eye(n, k=1) + np.eye(n, k=-1))
        u = np.linalg.solve(c, np.ones(n))
        return u / u.sum(), c / 100

    w, c = weights(rate)
    bias = np.full(n, 1 / n) @ c @ (weights(rate * 1.001)[0] - w) / (0.001 * rate)
    apart = found.data.ravel() - w @ d
    error = apart.std() / np.sqrt(pixels)
    sigma = np.sqrt(w @ c @ w)
    print(f"{rate:g}: left {apart.mean() / sigma:.5f} +- {error / sigma:.5f} sigma, of {bias / sigma:.5f}")
    limit = 4 * error + 0.0015 * sigma
    assert abs(apart.mean()) < limit
    assert abs(apart.mean() + bias) > limit, "the bias that was removed must show where it is left in"


@pytest.mark.parametrize("pixels", [1500, pytest.param(100_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", PATTERNS)
def test_completeness_and_purity_of_jumps(name, pixels) -> None:
    pattern, rate = PATTERNS[name], 5.0
    n = pattern.get("nframes", 1) + pattern.get("skip", 0)
    times = ramp.pattern(**pattern)
    step = (times.mean[1] - times.mean[0]) * rate
    sigma = np.sqrt(2 * NOISE**2 / pattern.get("nframes", 1) + step / GAIN)
    after = 4 * n - (1 if n > 1 else 0)  # between two groups
    none = ramp.measure(simulated(pattern, rate, pixels, 5), times, gain=GAIN, read_noise=NOISE)
    false = none.quantity("jumps").value
    print(f"{name}: {false:.5f} of the pixels without a jump are flagged")
    assert false < 0.001 + 3 * np.sqrt(0.001 / pixels)
    share = []
    for amplitude in (2, 4, 6, 10, 30, 1000):
        data = simulated(pattern, rate, pixels, 6, amplitude * sigma, after)
        marks = np.zeros(data.shape, np.uint8)
        found = ramp.measure(data, times, gain=GAIN, read_noise=NOISE, marks=marks)
        hit = (marks[:, 0] & DQ.JUMP_DET) != 0
        share.append(hit[4].mean())
        # A pair that is dropped has the jump in one of its two differences.
        pure = hit[4].sum() / max((hit[4] | hit[:3].any(0) | hit[6:].any(0)).sum(), 1)
        width = pulls(found, rate).std()
        print(f"{name}: {amplitude:5} sigma: found {share[-1]:.4f}, purity {pure:.4f}, pulls {width:.3f}")
        assert amplitude < 6 or pure > 0.98
        # Jumps at the limit are left in or out by their noise; large ones cost nothing but a difference.
        # A group of several frames may hold the jump: good neighbours go with it, those that are far off.
        loss = 0.01 if pattern.get("nframes", 1) == 1 else 0.04
        assert amplitude < 10 or abs(width - 1) < 4 / np.sqrt(2 * pixels) + loss
    assert share[0] < 0.3 and share[2] > 0.75 and min(share[3:]) > 0.999
    blind = ramp.measure(data, times, gain=GAIN, read_noise=NOISE, thresholds=None)
    assert abs(pulls(blind, rate).mean()) > 5, "jumps that stay in must show"
