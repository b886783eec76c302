"""What is missing is listed, all of it, before pixels are read; going on without it is said everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import MissingCalibrationError, SelectionError
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.frame import DQ
from calibrant.pipeline.plan import make_plan
from calibrant.pipeline.recipe import load
from calibrant.pipeline.run import reduce

OFF = {"steps_options.cosmic_rays.enabled": "false"}


def remove(folder, pattern):
    for path in folder.glob(pattern):
        path.unlink()


@pytest.fixture
def no_pixels(monkeypatch):
    """Fail if a run reads the pixels of a file."""
    from calibrant.files.source import FitsSource

    def refuse(self, *a, **k):
        raise AssertionError(f"pixels of {self.name} were read")

    monkeypatch.setattr(FitsSource, "read_into", refuse)
    monkeypatch.setattr(FitsSource, "load", refuse)


def test_all_that_is_missing_is_listed_before_pixels_are_read(night, tmp_path, no_pixels, edit):
    remove(night, "flat-V-*")
    remove(night, "flat-R-*")
    edit(night / "spiral-R-002.fit", EXPTIME=900.0)
    with pytest.raises(MissingCalibrationError) as caught:
        reduce(night, out=tmp_path / "out")
    sentence = str(caught.value)
    assert sentence.count("\n") == 0
    for name in ("spiral-R-001.fit", "spiral-R-002.fit", "spiral-V-001.fit"):
        assert name in sentence
    assert "no flat" in sentence
    assert "no dark (for 900 s; there are 60 s, 120 s) for spiral-R-002.fit" in sentence
    assert not [path for path in (tmp_path / "out").rglob("*.fits")]  # noqa: C416
    assert not (tmp_path / "out" / "summary.json").exists()


def test_one_filter_without_flats(night, tmp_path, no_pixels):
    remove(night, "flat-V-*")
    with pytest.raises(MissingCalibrationError, match=r"no flat \(.*V.*\) for spiral-V-001.fit") as caught:
        reduce(night, out=tmp_path / "out")
    assert "spiral-R" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_dark_is_scaled_down_only(night, tmp_path, no_pixels, edit):
    for path in night.glob("spiral-*"):
        edit(path, EXPTIME=130.0)
    with pytest.raises(MissingCalibrationError, match=r"no dark \(for 130 s; there are 60 s, 120 s\)"):
        reduce(night, out=tmp_path / "out")


def test_frames_shorter_than_the_darks_use_the_rate_of_all(night, tmp_path, edit):
    edit(night / "spiral-R-001.fit", EXPTIME=90.0)
    found = reduce(night, out=tmp_path / "out", changes=OFF).summary
    used = {entry["name"]: entry["masters"]["dark"] for entry in found.frames}
    assert used == {"spiral-R-001": "dark", "spiral-R-002": "dark_120s", "spiral-V-001": "dark_120s"}


@pytest.mark.parametrize(
    ("lost", "flag", "step"),
    [("flat-*", DQ.NO_FLAT_FIELD, "no_flat"), ("dark-*", DQ.UNRELIABLE_DARK, "no_dark")],
)
def test_going_on_without_is_said_in_the_frames_and_in_the_summary(night, tmp_path, lost, flag, step):
    remove(night, lost)
    found = reduce(night, out=tmp_path / "out", changes=OFF, allow_missing=True).summary
    kind = step.removeprefix("no_")
    assert {lack["frame"].rsplit("/")[-1] for lack in found.missing if lack["kind"] == kind} >= {
        "spiral-R-001.fit",
        "spiral-R-002.fit",
        "spiral-V-001.fit",
    }
    for entry in found.frames:
        frame = read(tmp_path / "out" / entry["file"]).load()
        assert np.all(frame.dq & flag)
        assert entry["flagged"][flag.name] == frame.dq.size
        assert step in entry["steps"] and kind not in entry["steps"]
        assert not frame.did(kind)
        assert f"there was no {kind} for this frame" in entry["notes"]


def test_complete_frames_carry_no_such_flag(done):
    for entry in done.summary.frames:
        assert "NO_FLAT_FIELD" not in entry["flagged"]
        assert entry["flagged"].get("UNRELIABLE_DARK", 0) < 100
        assert not {"no_flat", "no_dark"} & set(entry["steps"])


def test_a_step_that_is_switched_off_is_neither_made_nor_missing(night, tmp_path):
    remove(night, "flat-*")
    off = {**OFF, "steps_options.flat.enabled": "false", "steps_options.dark.enabled": "false"}
    found = reduce(night, out=tmp_path / "out", changes=off).summary
    assert {entry["kind"] for entry in found.masters} == {"bias", "defects"}
    for entry in found.frames:
        assert entry["steps"] == ["overscan", "bias", "read_noise", "defects", "gain"]
        assert "NO_FLAT_FIELD" not in entry["flagged"]


def test_a_folder_without_science_frames_gives_masters_and_one_sentence(night, tmp_path):
    remove(night, "spiral-*")
    found = reduce(night, out=tmp_path / "out").summary
    assert {entry["kind"] for entry in found.masters} == {"bias", "dark", "flat"}
    assert found.frames == []
    assert found.warnings[-1] == "there are no science frames: only masters were made"
    assert (tmp_path / "out" / "masters" / "flat_V.fits").exists()


def test_few_frames_are_warned_of(night, tmp_path):
    for count in range(4, 11):
        (night / f"bias-{count:03d}.fit").unlink()
    remove(night, "spiral-*")
    warnings = reduce(night, out=tmp_path / "out").summary.warnings
    assert any("made of 3 frames; at least 10 are advised for a bias" in note for note in warnings)


def test_a_master_of_another_temperature_does_not_fit(night, edit):
    for path in night.glob("spiral-V*"):
        edit(path, CCD_TEMP=-25.0)
    plan = make_plan(Exposures.scan(night), load("ccd"))
    (dark,) = {lack.why for lack in plan.missing if lack.kind == "dark"}
    assert dark.startswith("temperature is -15") and dark.endswith("not -25")
    with pytest.raises(MissingCalibrationError, match=r"spiral-V-001.fit"):
        plan.refuse_missing()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, "there are no FITS images"),
        (lambda folder: (folder / "a.fit").write_bytes(b""), "1 files? could not be used, first: .*empty"),
    ],
)
def test_nothing_to_reduce(tmp_path, make, sentence):
    folder = tmp_path / "raw"
    folder.mkdir()
    make(folder)
    with pytest.raises(SelectionError, match=sentence):
        reduce(folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_kinds_are_refused_with_what_to_do(raw, tmp_path, edit):
    folder = tmp_path / "raw"
    folder.mkdir()
    for count, path in enumerate(sorted(raw.glob("bias-*"))[:2]):
        (folder / f"x{count}.fit").write_bytes(path.read_bytes())
        edit(folder / f"x{count}.fit", IMAGETYP="whatever")
    with pytest.raises(SelectionError, match=r"2 files of unknown kind; name the instrument, give a table"):
        reduce(folder, out=tmp_path / "out")
    table = tmp_path / "kinds.csv"
    table.write_text("file,kind\nx*.fit,bias\n")
    assert reduce(folder, out=tmp_path / "out", kinds=table).summary.masters[0]["kind"] == "bias"


def test_a_second_reduction_does_not_ask_for_what_was_allowed_to_be_missing(night, tmp_path):
    remove(night, "flat-V-*")
    first = reduce(night, out=tmp_path / "out", changes=OFF, allow_missing=True)
    again = reduce(night, out=tmp_path / "out", changes=OFF, allow_missing=True)
    assert all(entry["reused"] for entry in again.summary.frames)
    assert again.summary.missing == first.summary.missing
