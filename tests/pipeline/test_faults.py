"""Faults of headers are told before pixels are read, and a run that made nothing leaves nothing."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import ConfigError, MissingCalibrationError, SelectionError
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.frame import DQ
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.faults import without_faults
from calibrant.pipeline.plan import make_plan
from calibrant.pipeline.run import reduce
from calibrant.simulate.observe import ccd_night

OFF = {"steps_options.cosmic_rays.enabled": "false"}
TIME = {"EXPTIME": None, "EXPOSURE": None, "DARKTIME": None}


@pytest.fixture
def plain(tmp_path):
    """A camera without overscan."""
    folder = tmp_path / "raw"
    ccd_night(
        folder, seed=8, shape=(64, 80), overscan=0, biases=4, darks={60.0: 3}, flats={"R": 2},
        science={"R": 2}, exptime=60.0, sky=20.0, stars=5, galaxy=False,
    )  # fmt: skip
    return folder


def test_a_dark_without_exposure_time_is_left_out(plain, tmp_path, edit):
    edit(plain / "dark-60s-001.fit", **TIME)
    usable, told = without_faults(Exposures.scan(plain), recipes.load("ccd"))
    ((name, sentence),) = told
    assert name.endswith("dark-60s-001.fit") and "EXPTIME" in sentence
    assert len(usable.where(kind="dark")) == 2
    found = reduce(plain, out=tmp_path / "out", changes=OFF).summary
    assert [problem["file"] for problem in found.problems] == [name]
    assert len(found.frames) == 2 and not found.failed


def test_all_science_frames_without_exposure_time(plain, tmp_path, edit):
    for path in plain.glob("spiral*"):
        edit(path, **TIME)
    found = reduce(plain, out=tmp_path / "out", changes=OFF).summary
    assert found.failed and len(found.problems) == 2 and found.science == 2
    assert not any("no science frames" in note for note in found.warnings)


def test_a_bias_of_another_temperature_is_missing(plain, tmp_path, edit):
    edit(plain / "spiral-R-002.fit", CCD_TEMP=-25.0)
    lacks = {lack.kind: lack for lack in make_plan(Exposures.scan(plain), recipes.load("ccd")).missing}
    assert lacks["bias"].frame.endswith("spiral-R-002.fit") and "not -25" in lacks["bias"].why
    with pytest.raises(MissingCalibrationError, match="no bias"):
        reduce(plain, out=tmp_path / "out", changes=OFF)
    found = reduce(plain, out=tmp_path / "out", changes=OFF, allow_missing=True).summary
    entry = next(entry for entry in found.frames if entry["name"] == "spiral-R-002")
    assert "no_bias" in entry["steps"]
    assert np.all(read(tmp_path / "out" / entry["file"]).load().dq & DQ.UNRELIABLE_BIAS)
    assert any(note.startswith("without bias: ") for note in found.warnings)
    other = next(entry for entry in found.frames if entry["name"] == "spiral-R-001")
    assert "no_bias" not in other["steps"]


def test_an_overscan_makes_the_bias_an_advice(night, tmp_path):
    for path in [*night.glob("bias*"), *night.glob("dark*")]:
        path.unlink()
    plan = make_plan(Exposures.scan(night), recipes.load("ccd"))
    assert not [lack for lack in plan.missing if lack.kind == "bias"]
    assert {lack.kind for lack in plan.advised} == {"bias"}


def test_flats_that_nothing_takes_the_bias_from_are_gone_without(plain, tmp_path):
    for path in plain.glob("bias*"):
        path.unlink()
    with pytest.raises(MissingCalibrationError, match="--allow-missing"):
        reduce(plain, out=tmp_path / "out", changes=OFF)
    found = reduce(plain, out=tmp_path / "out", changes=OFF, allow_missing=True).summary
    assert len(found.frames) == 2 and not [one for one in found.masters if one["kind"] == "flat"]
    for entry in found.frames:
        assert "dark" in entry["steps"] and "no_flat" in entry["steps"] and "no_bias" not in entry["steps"]


def test_a_run_that_made_nothing_leaves_nothing(plain, tmp_path):
    for path in [*plain.glob("bias*"), *plain.glob("dark*")]:
        path.unlink()
    with pytest.raises(MissingCalibrationError):
        reduce(plain, out=tmp_path / "deep" / "out", changes=OFF)
    assert not (tmp_path / "deep").exists()


def test_results_are_not_raw_frames(done, tmp_path):
    with pytest.raises(SelectionError, match="holds results of an earlier reduction"):
        reduce(done.workshop.ledger.folder / "calibrated", out=tmp_path / "out")


def test_files_of_unknown_kind_are_named(plain, tmp_path, edit):
    edit(plain / "bias-004.fit", IMAGETYP="strange")
    found = reduce(plain, out=tmp_path / "out", changes=OFF).summary
    assert any("bias-004.fit is: left alone" in note for note in found.warnings)


@pytest.mark.parametrize("word", ["maybe", "1", "yes", "null"])
def test_a_switch_is_true_or_false(word):
    with pytest.raises(ConfigError, match=r"gain\.enabled is true or false"):
        recipes.load("ccd", {"steps_options.gain.enabled": word})
