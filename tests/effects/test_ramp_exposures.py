"""Slopes of ramps in files and of several exposures: as of arrays, whatever the bands, and as the truth."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import ramp
from calibrant.errors import BudgetError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ
from calibrant.instrument.clock import Clock
from calibrant.simulate import infrared, infrared_files

SPEC = importlib.util.spec_from_file_location("ramps_of_arrays", Path(__file__).with_name("ramps.py"))
assert SPEC is not None
assert SPEC.loader is not None
ramps = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ramps)

CLOCK = Clock(64, 128, pixel_time=2e-3)
FACTS = {"frame_time": CLOCK.frame_time}
GAIN, NOISE = 1.8, 5.0
GIVEN = {"gain": GAIN, "read_noise": NOISE}
INSIDE = (slice(4, -4), slice(4, -4))


def cubes(files=2, integrations=2, groups=12, seed=5, rate=0.0, **changes):
    numbers = {"clock": CLOCK, "white": NOISE, "bias_pattern": 50.0, "ktc": 20.0, "gain": GAIN, **changes}
    array = infrared.Array(infrared.Design.flawless(**numbers))
    return ramps.simulated(array, files, integrations, groups, seed, rate)


def same(one, other) -> None:
    for name, plane in one.planes.items():
        np.testing.assert_array_equal(other.planes[name], plane, err_msg=name)


def test_exposures_are_fitted_as_an_array_of_all_ramps() -> None:
    made = cubes(rate=3.0)
    exposures = ramps.exposures(made, **FACTS)
    found = ramp.measure(exposures, **GIVEN)
    whole = ramp.measure(np.concatenate(made), ramp.pattern(12, CLOCK.frame_time), **GIVEN)
    for name in ramp.KIND.planes:
        if name != "dq":
            np.testing.assert_array_equal(found.planes[name], whole.planes[name], err_msg=name)
    assert (found.planes["dq"][INSIDE] == whole.planes["dq"][INSIDE]).all()
    assert (found.planes["dq"][:4] & DQ.REFERENCE_PIXEL).all()
    same(found, ramp.measure(exposures, **GIVEN, budget="600kB"))
    with pytest.raises(BudgetError):
        ramp.measure(exposures, **GIVEN, budget="20kB")


def test_slopes_of_simulated_light_have_pulls_of_unit_width() -> None:
    rate = np.random.default_rng(1).uniform(1, 30, (64, 128))
    found = ramp.measure(ramps.exposures(cubes(rate=rate, cosmic_rate=2e-5), **FACTS), **GIVEN)

    def pulls(truth):
        off = (found.data - truth)[INSIDE] / np.sqrt(found.planes["variance"][INSIDE])
        return np.median(off), 1.4826 * np.median(np.abs(off - np.median(off)))

    middle, width = pulls(rate / GAIN)
    assert abs(middle) < 0.06 and 0.95 < width < 1.05
    assert abs(found.quantity("reduced_chi2").value - 1) < 0.03
    assert abs(pulls(rate / GAIN * 1.05)[0]) > 0.5, "slopes that are off must show"


def test_files_are_read_in_bands_with_flags_of_groups(tmp_path) -> None:
    what = infrared_files.Set(files=2, groups=6, rows=64, cols=64, light=20.0)
    infrared_files.simulate(tmp_path, seed=3, detectors=["NRCA1"], what=what)
    exposures = Exposures.scan(tmp_path, instrument="nircam").where("kind=flat")
    found = ramp.measure(exposures, read_noise=8.0)
    same(found, ramp.measure(exposures, read_noise=8.0, budget="300kB"))
    counts = np.concatenate([one.values() for one in exposures.ramps()])
    times = ramp.pattern(6, exposures[0].get("frame_time"))
    whole = ramp.measure(counts, times, gain=2.05, read_noise=8.0, saturation=65535.0)
    np.testing.assert_array_equal(found.data, whole.data)
    assert found.provenance.options["gain"] == pytest.approx(2.05)


def test_maps_different_lengths_and_what_is_refused() -> None:
    long, short = cubes(1, groups=12, rate=3.0)[0], cubes(1, groups=5, seed=6, rate=3.0)[0]
    exposures = ramps.exposures([long, short], **FACTS)
    found = ramp.measure(exposures, **GIVEN)
    assert found.planes["count"].max() == 2 * 11 + 2 * 4
    noise = np.full(CLOCK.shape, NOISE, np.float32)
    same(found, ramp.measure(exposures, gain=GAIN, read_noise=noise))
    marked = np.zeros(long.shape, np.uint8)
    marked[:, 3] = DQ.DO_NOT_USE
    flagged = ramps.exposures([long], read_dq=[marked], **FACTS)
    assert ramp.measure(flagged, **GIVEN).planes["count"][INSIDE].max() == 2 * 9
    with pytest.raises(OptionError, match="times"):
        ramp.measure(exposures, ramp.pattern(12, 1.0), **GIVEN)
    with pytest.raises(OptionError, match="times"):
        ramp.measure(long, **GIVEN)
    with pytest.raises(OptionError, match="read_nose"):
        ramp.measure(exposures, products={"read_nose": found})
    with pytest.raises(SelectionError, match="size"):
        ramp.measure(ramps.exposures([long, long[..., :64]], **FACTS), **GIVEN)
    with pytest.raises(SelectionError, match="two groups"):
        ramp.measure(ramps.exposures([long[:, :1]], **FACTS), **GIVEN)
