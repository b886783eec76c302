"""Linearity of pixels: simulated curves are met within their errors, and ramps become straight."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import ramp_linearity, superbias
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.frame import DQ, Applied, Exposure, Frame

SPEC = importlib.util.spec_from_file_location("ramps_of_arrays", Path(__file__).with_name("ramps.py"))
assert SPEC is not None
assert SPEC.loader is not None
ramps = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ramps)

ROWS, COLS, GROUPS, STEP, GAIN = 24, 64, 24, 10.0, 1.8
INSIDE = (slice(4, -4), slice(4, -4))
RNG = np.random.default_rng(0)
C2 = 1.2e-6 * RNG.uniform(0.7, 1.3, (ROWS, COLS))
C3 = 4e-12 * RNG.uniform(0.7, 1.3, (ROWS, COLS))
FULL = RNG.uniform(44000, 48000, (ROWS, COLS))
RATE = RNG.uniform(240, 270, (ROWS, COLS))
BIAS = 8000 + RNG.normal(0, 100, (ROWS, COLS))
FACTS = {"frame_time": STEP}


def curve(u):
    return u + C2 * u**2 + C3 * u**3


def measured(light):
    """Signals whose curve is the light."""
    u = light.copy()
    for _ in range(20):
        u -= (curve(u) - light) / (1 + 2 * C2 * u + 3 * C3 * u**2)
    return np.minimum(u, FULL)


def cube(seed, integrations=3, rate=RATE, noise=5.0):
    rng = np.random.default_rng(seed)
    light = rng.poisson(rate * GAIN * STEP, (integrations, GROUPS, ROWS, COLS)).cumsum(1) / GAIN
    u = np.array([[measured(read) for read in one] for one in light])
    ktc = rng.normal(0, 15, (integrations, 1, ROWS, COLS))
    return (u + BIAS + ktc + rng.normal(0, noise, u.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    return ramp_linearity.measure(ramps.exposures([cube(1), cube(2)], kind="flat", **FACTS))


def test_curves_are_the_truth_within_their_errors(found) -> None:
    planes = {name: plane.astype(float) for name, plane in found.planes.items()}
    for level in (10_000.0, 25_000.0, 38_000.0):
        own = planes["c2"] * level**2 + planes["c3"] * level**3
        error = level**4 * planes["variance_c2"] + level**6 * planes["variance_c3"]
        sigma = np.sqrt(error + 2 * level**5 * planes["covariance"])
        truth = C2 * level**2 + C3 * level**3
        pulls, twin = (((own - factor * truth) / sigma)[INSIDE] for factor in (1.0, 1.2))
        width = 1.4826 * np.median(np.abs(pulls - np.median(pulls)))
        print(f"{level:g} adu: {np.median(pulls):.3f} +- {width:.3f}, sigma {np.median(sigma[INSIDE]):.1f}")
        assert abs(np.median(pulls)) < 0.2 and 0.85 < width < 1.25
        assert abs(np.median(twin)) > 0.6, "a curve that is off must show"
    edge = np.ones((ROWS, COLS), bool)
    edge[INSIDE] = False
    assert np.isnan(planes["c2"][edge]).all() and not found.planes["dq"][INSIDE].any()


def test_saturation_is_known_to_a_group(found) -> None:
    limit = found.planes["saturation"][INSIDE]
    below = FULL[INSIDE] - limit
    assert np.isfinite(limit).all() and below.min() > -300 and below.max() < 2.1 * 270 * STEP
    assert found.quantity("nonlinearity", "1").value == pytest.approx(6, abs=2)


def test_ramps_become_straight(found) -> None:
    darks = ramps.exposures([cube(3, 4, 0 * RATE)], **FACTS)
    bias = superbias.measure(darks)
    rate = 0.5 * RATE
    facts = Exposure(detector="A", keys=FACTS)
    frame = superbias.apply(Frame(cube(4, 2, rate), exposure=facts), bias)
    straight = ramp_linearity.apply(frame, found)
    t = STEP * np.arange(1, GROUPS + 1)

    def bend(data):
        """How far the last read is from the line through the first ones, by its signal."""
        mean = np.asarray(data, float).mean(0)[(slice(None), *INSIDE)]
        early, late = mean[5] - mean[0], mean[-1] - mean[-6]
        return np.median(late / early) - 1

    assert abs(bend(straight.data)) < 0.01 < 0.02 < abs(bend(frame.data))
    last = np.median((np.asarray(straight.data)[:, -1] / (rate * t[-1]))[(slice(None), *INSIDE)])
    assert last == pytest.approx(1, abs=0.004)
    assert straight.systematic.shape == frame.shape and not straight.dq[INSIDE].any()
    bright = ramp_linearity.apply(superbias.apply(Frame(cube(5, 1), exposure=facts), bias), found)
    assert (bright.read_dq[0, -1][INSIDE] == DQ.SATURATED).mean() > 0.95
    with pytest.raises(HistoryError, match="superbias"):
        ramp_linearity.apply(Frame(cube(5, 1), exposure=facts), found)
    with pytest.raises(HistoryError):
        ramp_linearity.apply(straight, found)
    with pytest.raises(SelectionError):
        ramp_linearity.apply(frame, bias)
    small = Frame(cube(5, 1)[..., :32], exposure=facts, history=(Applied("superbias"),))
    with pytest.raises(ShapeError):
        ramp_linearity.apply(small, found)


def test_orders_bands_dead_pixels_and_what_is_refused() -> None:
    data = cube(6)
    data[:, :, 10, 10] = 8000
    data[:, :, 10, 11] = np.nan
    data[:, :, 10, 12] = 65535
    flats = ramps.exposures([data], kind="flat", **FACTS)
    found = ramp_linearity.measure(flats, order=2)
    assert found.identity == ramp_linearity.measure(flats, order=2, budget="3MB").identity
    assert (found.planes["dq"][10, 10:13] & DQ.NO_LIN_CORR).all() and np.nanmax(found.planes["c3"]) == 0
    with pytest.raises(OptionError):
        ramp_linearity.measure(flats, order=5)
    with pytest.raises(SelectionError, match="light"):
        ramp_linearity.measure(ramps.exposures([cube(7), cube(7, rate=0.8 * RATE)], kind="flat", **FACTS))
    with pytest.raises(SelectionError, match="few groups"):
        ramp_linearity.measure(ramps.exposures([data[:, :5]], kind="flat", **FACTS))
    with pytest.raises(SelectionError, match="no light"):
        ramp_linearity.measure(ramps.exposures([np.full_like(data, 8000)], kind="flat", **FACTS))
