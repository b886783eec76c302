"""What is wrong with ramps is told, or refused, by every measurement of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import (
    bad_pixels,
    dark_ramp,
    dark_slope,
    one_over_f,
    ramp,
    read_noise,
    reference_pixels,
    superbias,
)
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.instrument.clock import Clock
from calibrant.simulate import infrared

SPEC = importlib.util.spec_from_file_location("ramps_of_arrays", Path(__file__).with_name("ramps.py"))
assert SPEC is not None
assert SPEC.loader is not None
ramps = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ramps)

CLOCK = Clock(48, 64, pixel_time=2e-3)
FACTS = {"frame_time": CLOCK.frame_time}
GAIN = {"gain": 1.8}
MEASURES = {
    "stack": lambda given: read_noise.measure(given, method="stack"),
    "ramp": lambda given: read_noise.measure(given, method="ramp"),
    "residual": lambda given: read_noise.measure(given, method="residual"),
    "slope": lambda given: ramp.measure(given, **GAIN, read_noise=5.0),
    "dark_slope": lambda given: dark_slope.measure(given, **GAIN),
    "dark_ramp": dark_ramp.measure,
    "superbias": lambda given: superbias.measure(given, method="intercept"),
    "bad_pixels": lambda given: bad_pixels.measure(given, **GAIN),
    "one_over_f": one_over_f.measure,
    "reference_pixels": reference_pixels.measure,
}
every = pytest.mark.parametrize("measure", [pytest.param(one, id=name) for name, one in MEASURES.items()])


def cubes(files=3, groups=8):
    array = infrared.Array(infrared.Design.flawless(clock=CLOCK, white=5.0, bias_pattern=50.0, gain=1.8))
    return [np.round(cube).clip(0, 65535) for cube in ramps.simulated(array, files, 1, groups, 3, rate=0.1)]


def notes(product):
    return " / ".join(product.provenance.notes)


@every
def test_wrapped_counters_are_told(measure):
    """A pixel that fills past 65535 and goes on from 0; without a fall nothing is said."""
    whole = [cube.astype(np.uint16) for cube in cubes()]
    assert "around" not in notes(measure(ramps.exposures(whole, **FACTS)))
    around = [cube.copy() for cube in whole]
    around[1][0, :, 20, 30] = (np.arange(8) * 12_000 + 9_000) % 65536
    product = measure(ramps.exposures(around, **FACTS))
    if product.kind != "superbias":  # that looks at first and last groups, or at first ones
        assert "file1: 1 pixel wraps around" in notes(product)


@every
def test_groups_without_numbers_are_told(measure):
    empty = [cube.astype(np.float32) for cube in cubes()]
    assert "no number" not in notes(measure(ramps.exposures(empty, **FACTS)))
    empty[2][0, 3:5] = np.nan
    empty[0][0, 0, 10] = np.nan  # a row of one group is not the whole of it
    product = measure(ramps.exposures(empty, **FACTS))
    if product.kind != "superbias":
        assert "file2: integration 0 has no number in groups 3-4" in notes(product)
    assert "file0: integration" not in notes(product)


@every
def test_saturation_throughout_is_told(measure):
    """Of all pixels, without a flag: there is a product without numbers, and a word on it."""
    full = [np.full_like(cube, 65535, np.uint16) for cube in cubes()]
    try:
        told = notes(measure(ramps.exposures(full, **FACTS)))
    except SelectionError as error:
        told = str(error)
    words = "no pixel", "no active pixel", "pixels have no read noise", "at least 2, got 0"
    assert any(word in told for word in words), told


def test_a_wrapped_pixel_is_saturated_from_there_on():
    values = cubes(1)[0].astype(np.uint16)
    values[0, :, 20, 30] = (np.arange(8) * 12_000 + 9_000) % 65536
    (one,) = ramps.exposures([values], **FACTS).ramps()
    found = one.values()[0, :, 20, 30]
    assert found.tolist() == [9000, 21000, 33000, 45000, 57000, 65535, 65535, 65535]
    one.values(slice(16, 24))
    assert one.seen.wraps == 1, "rows read twice count once"
    assert values[0, 5, 20, 30] == 69_000 - 65_536, "what was given is left as it is"


def test_a_gain_in_adu_per_electron_is_refused():
    """Given, or in the header of a detector whose instrument file knows better."""
    frames = [
        Frame(cube.astype(np.float32), exposure=Exposure(
            kind="dark", instrument="nircam", detector="NRCA1", identifier="a", gain=0.5, keys=FACTS
        ))
        for cube in cubes(2)
    ]  # fmt: skip
    given = Exposures.from_frames(frames, "nircam")
    for measure in (dark_slope.measure, ramp.measure, bad_pixels.measure):
        with pytest.raises(OptionError, match="adu/e-"):
            measure(given)
        measure(given, gain=2.0)
        with pytest.raises(OptionError, match="give 2"):
            measure(given, gain=0.5)
