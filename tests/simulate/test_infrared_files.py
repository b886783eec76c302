"""Simulated ramps as files: what is in them, against their truth."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from calibrant.cli.app import app
from calibrant.errors import OutputExistsError, ShapeError
from calibrant.exposures import Exposures
from calibrant.files.encode import image_unit
from calibrant.files.fits import read
from calibrant.files.ramp_writing import Stream, write_ramp
from calibrant.frame import DQ
from calibrant.simulate.infrared import Design
from calibrant.simulate.infrared_files import Set, load, simulate

QUIET = dict.fromkeys(
    ("pink_own", "pink_common", "alternating", "pedestal", "pedestal_common", "picture_frame", "ktc",
     "telegraph", "telegraph_reference", "cosmic_rate", "ipc", "ipc_diagonal"), 0.0,
)  # fmt: skip
SMALL = {"rows": 48, "cols": 64}


def taken(folder, detector="NRCA2", **changes):
    numbers = {"files": 1, "groups": 4, **SMALL, **changes}
    made = simulate(folder, seed=3, detectors=[detector], what=Set(**numbers))
    exposures = Exposures.from_paths([str(path) for path in made.raw], "nircam")
    return exposures, read(made.truth[0])


@pytest.mark.parametrize("detector", ["NRCA1", "NRCA2", "NRCBLONG"])
def test_files_agree_with_their_truth(tmp_path, detector):
    """Noise and bias lie where the truth says, in the orientation of the file."""
    changes = {**QUIET, "bias_pattern": 400.0, "white": (2.0, 4.0, 8.0, 16.0)}
    exposures, truth = taken(tmp_path, detector, groups=60, changes=changes)
    (one,) = exposures.ramps()
    assert one.shape == (1, 60, 48, 64) and one.exposure.detector == detector
    values = one.values()[0].astype(float)
    np.testing.assert_allclose(values.mean(axis=0), truth.planes["bias"], atol=6 * 16 / np.sqrt(60))
    spread = values.std(axis=0, ddof=1) / np.hypot(truth.planes["white"], 12**-0.5)
    assert np.median(spread) == pytest.approx(1, abs=0.03) and np.percentile(spread, 99.9) < 1.5
    for number, amp in enumerate(exposures.instrument.readouts(exposures[0])):
        plane = truth.planes["white"][amp.data]
        assert plane.max() == pytest.approx(2.0 ** (number + 1))
    border = exposures.instrument.reference(exposures[0])
    active = np.zeros((48, 64), bool)
    active[border.active((48, 64))] = True
    np.testing.assert_array_equal(one.dq() & DQ.REFERENCE_PIXEL != 0, ~active)
    np.testing.assert_array_equal(truth.planes["dq"] & DQ.REFERENCE_PIXEL != 0, ~active)


def test_a_twin_that_is_turned_does_not_agree(tmp_path):
    exposures, truth = taken(tmp_path, changes={**QUIET, "bias_pattern": 400.0})
    values = exposures.ramps()[0].values()[0].astype(float).mean(axis=0)
    bias = truth.planes["bias"]
    assert np.abs(values - bias).max() < 30
    for turned in (bias[::-1], bias[:, ::-1]):
        assert np.abs(values - turned).max() > 1000


def test_light_hot_and_dead_pixels_climb_as_the_truth_says(tmp_path):
    exposures, truth = taken(tmp_path, rows=128, cols=128, light=500.0, groups=30, changes=QUIET)
    values = exposures.ramps()[0].values()[0].astype(float)
    step = truth.quantity("group_time").value
    gain = truth.quantity("gain").value
    rate = (truth.planes["dark"] + 500.0 * truth.planes["response"]) / gain
    slope = (values[-1] - values[0]) / 29 / step
    lit = truth.planes["dq"] & DQ.REFERENCE_PIXEL == 0
    sigma = np.hypot(np.sqrt(rate * gain * 29 * step) / gain, 2 * truth.planes["white"]) / 29 / step
    assert (np.abs(slope - rate)[lit] < 6 * sigma[lit]).all()
    assert exposures[0].kind == "flat"
    names = [DQ.HOT, DQ.DEAD, DQ.LOW_QE, DQ.OPEN, DQ.ADJ_OPEN]
    present = [int((truth.planes["dq"] & flag != 0).sum()) for flag in names]
    assert all(present[:3]), present


def test_hits_are_where_the_truth_says(tmp_path):
    changes = {**QUIET, "cosmic_rate": 1.0, "white": 1.0}
    exposures, truth = taken(tmp_path, groups=8, changes=changes)
    steps = np.diff(exposures.ramps()[0].values()[0].astype(float), axis=0)
    hits = truth.tables["hits"]
    strong = (hits["charge"] > 300) & (hits["read"] > 0)
    found = steps[hits["read"][strong] - 1, hits["row"][strong], hits["col"][strong]]
    gain = truth.quantity("gain").value
    assert strong.sum() > 10
    assert (found > 0.9 * hits["charge"][strong] / gain - 20).all()


def test_groups_that_are_averages(tmp_path):
    exposures, truth = taken(
        tmp_path, pattern="MEDIUM8", integrations=2, light=20_000.0, files=2, changes=QUIET
    )
    one = exposures.ramps()[0]
    assert (one.exposure.get("nframes"), one.exposure.get("groupgap")) == (8, 2)
    assert one.exposure.get("group_time") == pytest.approx(10 * one.exposure.get("frame_time"))
    assert truth.quantity("group_time").value == pytest.approx(one.exposure.get("group_time"))
    assert exposures.instrument.clock(one.exposure).frame_time == pytest.approx(
        one.exposure.get("frame_time")
    )
    first, values = one.first().astype(float), one.values().astype(float)
    # The first read is 3.5 frames before the mean of eight.
    climb = np.median((values[:, 1] - values[:, 0]) / 10)
    assert np.median(values[:, 0] - first) == pytest.approx(3.5 * climb, rel=0.1)
    times = one.times()
    frames = times / one.exposure.get("frame_time")
    np.testing.assert_allclose(frames, [[0, 10, 20, 30], [41, 51, 61, 71]], atol=1e-3)
    starts = [exposure.start for exposure in exposures]
    assert starts[1] - starts[0] > 60e6


def test_what_the_converter_cannot_hold_is_flagged_from_there_on(tmp_path):
    exposures, _ = taken(tmp_path, light=1.8e6, groups=6, changes=QUIET)
    one = exposures.ramps()[0]
    values, flags = one.values(), one.read_dq()
    full = values == 65535
    assert full.any() and not full.all()
    np.testing.assert_array_equal(flags == DQ.SATURATED, np.maximum.accumulate(full, axis=1))


def test_the_same_seed_gives_the_same_bytes_whatever_else_is_taken(tmp_path):
    what = Set(files=2, groups=3, **SMALL)
    alone = simulate(tmp_path / "a", seed=5, detectors=["NRCB4"], what=what)
    both = simulate(tmp_path / "b", seed=5, detectors=["nrca1", "NRCB4"], what=what)
    for one, other in zip(alone.raw, both.raw[2:], strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert read(alone.truth[0]).identity == read(both.truth[1]).identity
    assert both.raw[0].read_bytes() != both.raw[1].read_bytes()
    other = simulate(tmp_path / "c", seed=6, detectors=["NRCB4"], what=what)
    assert other.raw[0].read_bytes() != alone.raw[0].read_bytes()


def test_files_are_sound_for_others(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    made = simulate(tmp_path, what=Set(files=1, groups=3, rows=17, cols=20, pattern="BRIGHT2"))
    with fits.open(made.raw[0], checksum=True) as units:
        assert [unit.name for unit in units] == ["PRIMARY", "SCI", "PIXELDQ", "GROUPDQ", "ZEROFRAME", "GROUP"]
        assert all(unit.verify_datasum() == unit.verify_checksum() == 1 for unit in units)
        assert units["SCI"].data.dtype == np.uint16 and units["SCI"].data.shape == (1, 3, 17, 20)
        assert units["GROUPDQ"].data.dtype == np.uint8 and units["PIXELDQ"].data.dtype == np.uint32
        np.testing.assert_array_equal(
            units["SCI"].data, Exposures.scan(made.raw[0], "auto").ramps()[0].values()
        )


def test_planes_must_fit_what_was_announced(tmp_path):
    planes = [np.zeros((4, 5), np.uint16)] * 2
    for shape, sentence in (((3, 4, 5), "other planes"), ((2, 4, 6), "another size")):
        with pytest.raises(ShapeError, match=sentence):
            write_ramp(tmp_path / "a.fits", [], [Stream("SCI", shape, "u2", lambda: planes)])
    assert not list(tmp_path.iterdir())
    write_ramp(tmp_path / "a.fits", [], [Stream("SCI", (2, 4, 5), "u2", lambda: planes)])
    with pytest.raises(OutputExistsError):
        write_ramp(tmp_path / "a.fits", [], [lambda: image_unit(planes[0])])


# --- the command ---


def run(*words):
    return CliRunner().invoke(app, ["simulate", "infrared", *map(str, words)])


def test_the_command(tmp_path):
    options = ("--files", 2, "--groups", 3, "--rows", 32, "--cols", 32, "--detectors", "NRCA1, NRCB4")
    epoch = ("--campaign", "CV3", "--start", "2015-11-01T00:00:00", "--noise", 1.5)
    told = run("-o", tmp_path, *options, *epoch, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["files"] == 6 == len(list(tmp_path.rglob("*.fits")))
    found = Exposures.scan(tmp_path, "auto").where(kind="dark")
    assert sorted(found.values("detector")) == ["NRCA1", "NRCB4"]
    assert found[0].campaign == "CV3" and found[0].time.startswith("2015-11-01")
    truth = read(tmp_path / "truth" / "nrca1.fits")
    assert truth.quantity("white", place="1").value == pytest.approx(1.5 * load().detectors["NRCA1"].white)
    listed = CliRunner().invoke(app, ["ls", str(tmp_path)])
    assert listed.exit_code == 0 and "NRCB4" in listed.stdout and "1x3x32x32" in listed.stdout
    assert run("-o", tmp_path, *options).exit_code == 2, "nothing is overwritten unasked"


def test_another_campaign_is_the_same_array_with_other_noise(tmp_path):
    small = Set(files=1, groups=2, rows=32, cols=32, changes={"bias_pattern": 500.0, "ktc": 0.0})
    first, same, other = (
        simulate(tmp_path / name, seed=4, detectors=["NRCA1"], what=replace(small, campaign=campaign))
        for name, campaign in (("a", "CV3"), ("b", "CV3"), ("c", "flight"))
    )
    ramps = [Exposures.from_paths([str(one.raw[0])], "nircam").ramps()[0] for one in (first, same, other)]
    reads = [ramp.values()[0, 0].astype(float) for ramp in ramps]
    assert np.array_equal(reads[0], reads[1])
    assert 5 < np.std(reads[2] - reads[0]) < 15
    assert np.corrcoef(reads[0].ravel(), reads[2].ravel())[0, 1] > 0.99
    biases = [read(one.truth[0]).planes["bias"] for one in (first, other)]
    assert np.array_equal(*biases)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--detectors", "NRCC1"), "no such detector"),
        (("--pattern", "RAPIDO"), "no such read pattern"),
        (("--groups", 0), "ramps cannot be made of this"),
        (("--cols", 30), "clock cannot share the columns"),
        (("--rows", 8), "no active pixel is left"),
        (("--start", "yesterday"), "yesterday"),
    ],
)
def test_mistakes_leave_one_sentence(tmp_path, options, sentence):
    told = run("-o", tmp_path / "raw", *options)
    assert told.exit_code == 2, told.output
    assert sentence in told.stderr and told.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.fits"))


def test_all_detectors_have_a_design():
    plan = load()
    assert len(plan.detectors) == 10
    for sensor in plan.detectors.values():
        Design(gain=sensor.gain, white=sensor.white)
