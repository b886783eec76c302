"""Read noise of ramps against the truth: unbiased, where the published estimators are low."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import read_noise
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame

NOISE, FILES, GROUPS = 6.0, 5, 20
SIDES = [128, pytest.param(512, marks=pytest.mark.soak)]
WITHIN = 5e-3
METHODS = ("stack", "ramp", "residual")


def darks(side, noise=NOISE, jumps=0.0):
    rng = np.random.default_rng(62)
    frames = []
    for number in range(FILES):
        reads = noise * rng.standard_normal((1, GROUPS, side, side), np.float32)
        reads += np.float32(0.2) * np.arange(GROUPS, dtype=np.float32)[:, None, None]
        if jumps:
            hit = (rng.random(reads.shape) < jumps) * rng.uniform(50, 2000, reads.shape)
            reads += hit.cumsum(axis=1).astype(np.float32)
        keys = {"nframes": 1, "groups": GROUPS}
        facts = Exposure(kind="dark", detector="A", identifier=f"dark{number}", keys=keys)
        frames.append(Frame(reads, exposure=facts))
    return Exposures.from_frames(frames, "hxrg-generic")


def ratio(exposures, **options):
    """Measured by true noise, and its error."""
    found = read_noise.measure(exposures, box=0, **options).quantity("read_noise")
    return found.value / NOISE, found.sigma / NOISE


@pytest.mark.parametrize("side", SIDES)
def test_noise_is_unbiased_where_the_published_is_low(side, capsys):
    ramps = darks(side)
    ours = {method: ratio(ramps, method=method) for method in METHODS}
    low = {method: ratio(ramps, method=method, as_published=True) for method in METHODS[:2]}
    with capsys.disabled():
        print("\n  method    published  ours")
        for method, (value, sigma) in ours.items():
            told = f"{100 * (low[method][0] - 1):+.2f} %" if method in low else ""
            print(f"  {method:8s}  {told:9s}  {100 * (value - 1):+.2f} +- {100 * sigma:.2f} %")
    for method, (value, _) in ours.items():
        assert abs(value - 1) < WITHIN, method
    assert low["stack"][0] == pytest.approx(1 - 0.028, abs=4e-3)
    assert low["ramp"][0] == pytest.approx(1 - 0.080, abs=4e-3)


@pytest.mark.parametrize("method", METHODS)
def test_twin_with_one_per_cent_more_noise_is_seen(method):
    value, _ = ratio(darks(128, noise=1.01 * NOISE), method=method)
    assert abs(value - 1) >= WITHIN


@pytest.mark.parametrize("method", METHODS)
def test_errors_are_as_large_as_they_say(method):
    found = read_noise.measure(darks(128), method=method, box=0)
    pulls = (found.planes["read_noise"] - NOISE) / np.sqrt(found.planes["read_noise_variance"])
    squares = (found.planes["read_noise"] - NOISE) ** 2
    assert squares.mean() / found.planes["read_noise_variance"].mean() == pytest.approx(1.0, abs=0.05)
    assert abs(np.median(pulls)) < 0.1


@pytest.mark.parametrize("method", ["stack", "residual"])
def test_jumps_leave_the_noise(method):
    value, _ = ratio(darks(128, jumps=2e-3), method=method)
    assert abs(value - 1) < 3e-2
