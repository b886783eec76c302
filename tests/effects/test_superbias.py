"""Superbias and dark ramps: simulated truth is met, cosmic rays are not in it, and ramps lose them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import dark_ramp, ramp, superbias
from calibrant.errors import (
    BudgetError,
    HistoryError,
    OptionError,
    SelectionError,
    ShapeError,
    UnitError,
)  # fmt: skip
from calibrant.files.fits import read, write
from calibrant.frame import DQ, NO_DATA, Exposure, Frame
from calibrant.instrument.clock import Clock
from calibrant.simulate import infrared

SPEC = importlib.util.spec_from_file_location("ramps_of_arrays", Path(__file__).with_name("ramps.py"))
assert SPEC is not None
assert SPEC.loader is not None
ramps = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ramps)

CLOCK = Clock(64, 128, pixel_time=2e-3)
FACTS = {"frame_time": CLOCK.frame_time}
GAIN, NOISE, KTC = 1.8, 5.0, 20.0
INSIDE = (slice(4, -4), slice(4, -4))
RATE = np.random.default_rng(1).uniform(0.2, 3, (64, 128))


def array_of(**changes):
    numbers = {"white": NOISE, "bias_pattern": 50.0, "ktc": KTC, "gain": GAIN, **changes}
    return infrared.Array(infrared.Design.flawless(clock=CLOCK, **numbers))


@pytest.fixture(scope="module")
def darks():
    """Cubes with cosmic rays, and the bias."""
    array = array_of(cosmic_rate=2e-5)
    return ramps.simulated(array, 4, 3, 10, 5, RATE), array.maps.bias


def pulls(found, truth):
    off = (found - truth)[INSIDE]
    return np.median(off), 1.4826 * np.median(np.abs(off - np.median(off)))


@pytest.mark.parametrize("method", ["first", "intercept"])
def test_the_superbias_is_the_truth_within_its_errors(darks, method) -> None:
    cubes, bias = darks
    found = superbias.measure(ramps.exposures(cubes, **FACTS), method=method)
    sigma = np.sqrt(found.planes["variance"])
    truth = bias + (RATE / GAIN * CLOCK.frame_time if method == "first" else 0)
    middle, width = pulls(found.data / sigma, truth / sigma)
    assert abs(middle) < 0.06 and 1.0 < width < 1.16  # of Student with 11 degrees of freedom
    assert found.quantity("noise").value == pytest.approx(np.hypot(KTC / GAIN, NOISE), rel=0.08)
    assert found.quantity("level", "2").value == pytest.approx(np.median(truth[4:-4, 32:64]), abs=8)
    wrong = bias if method == "first" else truth + RATE / GAIN * CLOCK.frame_time
    assert abs(pulls(found.data / sigma, wrong / sigma)[0]) > 0.8, "the dark of one read must show"


def test_the_dark_ramp_is_the_truth_within_its_errors(darks) -> None:
    cubes, _ = darks
    found = dark_ramp.measure(ramps.exposures(cubes, **FACTS))
    assert not found.data[0].any()
    for group in (1, 5, 9):
        sigma = np.sqrt(found.planes["variance"][group])
        truth = RATE / GAIN * CLOCK.frame_time * group
        middle, width = pulls(found.data[group] / sigma, truth / sigma)
        assert abs(middle) < 0.07 and 0.98 < width < 1.16
        assert abs(pulls(found.data[group] / sigma, 1.1 * truth / sigma)[0]) > 0.1
    dark = found.quantity("dark", "2").value
    assert dark == pytest.approx(np.median(RATE[4:-4, 32:64]) / GAIN, rel=0.05)
    assert abs(found.quantity("settling", "2").value) < 1


def test_bands_lengths_flags_and_few_ramps(darks, tmp_path) -> None:
    cubes, _ = darks
    exposures = ramps.exposures(cubes, **FACTS)
    for effect, budget in ((superbias, "200kB"), (dark_ramp, "500kB")):
        whole, parted = effect.measure(exposures), effect.measure(exposures, budget=budget)
        assert whole.identity == parted.identity
        write(whole, tmp_path / f"{effect.NAME}.fits")
        assert read(tmp_path / f"{effect.NAME}.fits").identity == whole.identity
        with pytest.raises(BudgetError):
            effect.measure(exposures, budget="20kB")
    shorter = ramps.exposures([cubes[0], cubes[1][:, :4]], **FACTS)
    found = dark_ramp.measure(shorter)
    assert len(found.data) == 10 and found.planes["count"].max() == 3
    flags = np.zeros(cubes[0].shape, np.uint8)
    flags[:, 0, 10, 20] = DQ.DO_NOT_USE
    flagged = ramps.exposures([cubes[0]], read_dq=[flags], **FACTS)
    for effect in (superbias, dark_ramp):
        assert effect.measure(flagged).planes["dq"][10, 20] & NO_DATA == NO_DATA
    single = superbias.measure(ramps.exposures([cubes[0][:1]], **FACTS))
    notes = " ".join(single.provenance.notes)
    assert np.isnan(single.planes["variance"]).all() and "three or more" in notes and "no pixel" not in notes
    noisy = [cube.copy() for cube in cubes]
    for number, cube in enumerate(noisy):
        cube[:, :, 30, 30] += 400 * number
    found = superbias.measure(ramps.exposures(noisy, **FACTS))
    assert found.planes["dq"][30, 30] & DQ.UNRELIABLE_BIAS and not found.planes["dq"][30, 31]


def test_a_ramp_loses_bias_and_dark_and_keeps_what_was_full(darks) -> None:
    cubes, _ = darks
    exposures = ramps.exposures(cubes, **FACTS)
    bias, dark = superbias.measure(exposures), dark_ramp.measure(exposures)
    light = RATE * 0 + 40.0
    cube = ramps.simulated(array_of(), 1, 2, 8, 9, RATE + light)[0]
    cube[:, 6:, 12, 12] = 65000
    facts = Exposure(detector="A", saturation=60000.0, keys=FACTS)
    frame = Frame(cube, exposure=facts)
    clean = dark_ramp.apply(superbias.apply(frame, bias), dark)
    assert [step.effect for step in clean.history] == ["superbias", "dark_ramp"]
    assert (clean.read_dq[:, 6:, 12, 12] == DQ.SATURATED).all() and not clean.read_dq[:, :6].any()
    times = ramp.pattern(8, CLOCK.frame_time)
    slopes = ramp.measure(clean, times, gain=GAIN, read_noise=NOISE)
    blind = ramp.measure(cube, times, gain=GAIN, read_noise=NOISE)
    sigma = np.sqrt(slopes.planes["variance"])
    assert abs(pulls(slopes.data / sigma, light / GAIN / sigma)[0]) < 0.1
    assert pulls(blind.data / sigma, light / GAIN / sigma)[0] > 0.5, "the dark must show where it stays"
    assert slopes.planes["count"][12, 12] == 10
    first = np.asarray(clean.data)[0, 0][INSIDE]
    assert abs(np.median(first) - light[0, 0] / GAIN * CLOCK.frame_time - 3) < 6
    for effect, product, other in ((superbias, bias, dark), (dark_ramp, dark, bias)):
        with pytest.raises(HistoryError):
            effect.apply(clean, product)
        with pytest.raises(SelectionError):
            effect.apply(frame, other)
        with pytest.raises(ShapeError):
            effect.apply(Frame(cube[..., :64], exposure=facts), product)
        with pytest.raises(ShapeError):
            effect.apply(Frame(cube[0, 0], exposure=facts), product)
        with pytest.raises(UnitError):
            effect.apply(Frame(cube, unit="electron", exposure=facts), product)
        with pytest.raises(SelectionError, match="frame time"):
            effect.apply(Frame(cube, exposure=replace(facts, keys={"frame_time": 1.0})), product)
    with pytest.raises(ShapeError):
        dark_ramp.apply(Frame(np.concatenate([cube, cube], axis=1), exposure=facts), dark)


def test_what_makes_no_sense_is_refused(darks) -> None:
    cubes, _ = darks
    exposures = ramps.exposures(cubes, **FACTS)
    for bad in ({"method": "last"}, {"saturation": 0.0}, {"products": {"dak": None}}):
        with pytest.raises(OptionError):
            superbias.measure(exposures, **bad)
    short = ramps.exposures([cubes[0][:, :1]], **FACTS)
    superbias.measure(short)
    with pytest.raises(SelectionError, match="two groups"):
        superbias.measure(short, method="intercept")
    with pytest.raises(SelectionError, match="two groups"):
        dark_ramp.measure(short)
    full = ramps.exposures([np.full_like(cubes[0], 65535).astype(np.uint16)], **FACTS)
    assert (superbias.measure(full).planes["dq"] & NO_DATA == NO_DATA).all()
    assert (dark_ramp.measure(full).planes["dq"] & NO_DATA == NO_DATA).all()
