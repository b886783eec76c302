"""Errors against truth: pulls of the propagated variance, ratios of the variance from the scatter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from calibrant.stack.combine import Noise, combine
from calibrant.stack.reject import CCDClip, MinMax, SigmaClip, Winsorised
from calibrant.stack.source import ArraySource

LEVEL, READ_NOISE, GAIN = 2000.0, 6.0, 1.6
SHAPE = 150, 200

WAYS = {
    "mean": {"method": "mean"},
    "median": {"method": "median"},
    "noise limits": {"method": "mean", "reject": CCDClip(3)},
    "median with noise limits": {"method": "median", "reject": CCDClip(4)},
    "min-max": {"method": "mean", "reject": MinMax(1, 1)},
    "clipped mean": {"method": "mean", "reject": SigmaClip(3)},
    "mean clipped about the mean": {"method": "mean", "reject": SigmaClip(2.5, centre="mean")},
    "winsorised": {"method": "mean", "reject": Winsorised()},
}


def combined(way, frames, distortion=1.0):
    """Master of simulated frames: photon noise of a known level, read noise; `distortion` spoils the
    physics."""
    rng = np.random.default_rng(frames)
    electrons = rng.poisson(LEVEL * GAIN, (frames, *SHAPE))
    cube = (electrons / GAIN + distortion * READ_NOISE * rng.standard_normal(electrons.shape)).astype(
        np.float32
    )
    return combine([ArraySource(frame) for frame in cube], noise=Noise(READ_NOISE, GAIN), **WAYS[way])


def able(way, frames):
    reject = WAYS[way].get("reject")
    return reject is None or frames >= reject.least_frames() + (reject.name == "minmax")


@pytest.mark.parametrize("frames", [3, 5, 10, 30])
@pytest.mark.parametrize("way", WAYS)
def test_errors_are_those_that_occur(way, frames):
    if not able(way, frames):
        pytest.skip("the rejection is refused for so few frames")
    result = combined(way, frames)
    error = result.data - LEVEL
    pull = error / np.sqrt(result.propagated)
    assert abs(np.std(pull) - 1) < 0.03
    assert abs(np.mean(pull)) < 0.05
    assert abs(np.mean(error**2) / np.nanmean(result.variance) - 1) < 0.03


def test_the_test_has_teeth():
    # read noise 15 % larger than it is said to be, of which photon noise hides half
    pull = (lambda r: (r.data - LEVEL) / np.sqrt(r.propagated))(combined("mean", 10, distortion=3.0))
    assert np.std(pull) > 1.05


@pytest.mark.parametrize("frames", [3, 5, 10])
def test_pulls_of_the_scatter_are_those_of_student(frames):
    result = combined("mean", frames)
    pull = (result.data - LEVEL) / np.sqrt(result.variance)
    assert stats.kstest(pull.ravel(), stats.t(frames - 1).cdf).pvalue > 1e-3
    assert stats.kstest(pull.ravel(), stats.norm.cdf).pvalue < 1e-3


def test_noise_is_that_of_scaled_frames():
    rng = np.random.default_rng(8)
    scale = np.array([0.5, 1.0, 2.0, 4.0])
    cube = LEVEL / scale[:, None, None] + 5 * rng.standard_normal((4, *SHAPE))
    frames = [ArraySource(frame) for frame in cube.astype(np.float32)]
    result = combine(frames, method="mean", scale=scale, noise=Noise(5.0, np.inf))
    assert abs(np.std((result.data - LEVEL) / np.sqrt(result.propagated)) - 1) < 0.02
    # the same frames, scaled before they came here
    early = [ArraySource((frame * s).astype(np.float32)) for frame, s in zip(cube, scale, strict=True)]
    told = combine(early, method="mean", noise=[Noise(5.0, np.inf, scale=s) for s in scale])
    np.testing.assert_allclose(told.propagated, result.propagated, rtol=1e-6)


def test_weights_of_inverse_variance_have_an_exact_scatter():
    rng = np.random.default_rng(9)
    sigma = np.array([1.0, 2.0, 4.0, 8.0, 3.0])
    cube = LEVEL + sigma[:, None, None] * rng.standard_normal((5, *SHAPE))
    frames = [ArraySource(frame) for frame in cube.astype(np.float32)]
    result = combine(frames, method="weighted", weights=1 / sigma**2)
    error = result.data - LEVEL
    assert abs(np.mean(error**2) / np.mean(result.variance) - 1) < 0.04
    assert abs(np.mean(error**2) * np.sum(1 / sigma**2) - 1) < 0.04


def test_background_counts_as_photons():
    noise = Noise(
        np.full((2, 2), 3.0), 2.0, background=np.full((2, 2), 5.0), background_factor=10.0, scale=2.0
    )
    np.testing.assert_allclose(noise.variance(100.0), 4 * (9 + (50 + 50) / 2))
    frames = [ArraySource(np.full((2, 2), 100.0, np.float32))] * 3
    np.testing.assert_allclose(combine(frames, noise=noise, method="sum").propagated, 3 * 236, rtol=1e-6)
    mixed = [noise, noise, Noise(1.0, np.inf)]
    np.testing.assert_allclose(
        combine(frames, noise=mixed, method="mean").propagated, (2 * 236 + 1) / 9, rtol=1e-6
    )
