"""Frames whose dark was removed before they reached us: known by card and by level, and treated rightly."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.files.fits import read
from calibrant.pipeline.run import reduce
from calibrant.simulate.observe import ccd_night

PEDESTAL = 100.0


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A camera without overscan and bias frames; its dark sky leaves pixels unlit."""
    folder = tmp_path_factory.mktemp("plain") / "raw"
    truth = ccd_night(
        folder,
        seed=5,
        shape=(128, 160),
        overscan=0,
        biases=0,
        darks={4.0: 5, 120.0: 5},
        flats={"R": [30000.0]},
        science={"R": 3},
        sky=1e-4,
        stars=20,
        galaxy=False,
        hot_fraction=0.02,
        dark=0.5,
        cosmic_rate=0.0,
    )
    return folder, truth


@pytest.fixture
def camera(plain, tmp_path):
    import shutil

    return shutil.copytree(plain[0], tmp_path / "raw"), plain[1]


def take_dark_away(edit, path, truth, exptime, **cards):
    """As camera software does it: the dark with its bias goes, a pedestal is left."""
    dark = truth.planes["bias"] + truth.planes["dark"] * exptime
    edit(path, lambda data: data - dark + PEDESTAL, **cards)


def warned(summary, name):
    return [note for note in summary.warnings if name in note and "has no dark left" in note]


def departures(out, summary, truth):
    """Median departure from the truth of unflagged, faint pixels, and the noise, electron, by frame."""
    found = {}
    for entry in summary.frames:
        frame = read(out / entry["file"]).load()
        light = truth.planes[f"scene_{entry['name']}"]
        good = (frame.dq == 0) & (light < 2000)
        found[entry["name"]] = np.median((frame.data - light)[good]), entry["noise"]
    return found


@pytest.mark.parametrize("told", ["by its level", "by a card"])
def test_a_removed_dark_is_not_removed_again(told, camera, tmp_path, edit):
    folder, truth = camera
    cards = {"HISTORY": "Auto-Dark Subtraction"} if told == "by a card" else {}
    take_dark_away(edit, folder / "spiral-R-002.fit", truth, 120.0, **cards)
    found = reduce(folder, out=tmp_path / "out").summary
    steps = {entry["name"]: entry["steps"] for entry in found.frames}
    assert "dark" in steps["spiral-R-001"] and "dark" in steps["spiral-R-003"]
    assert "dark" not in steps["spiral-R-002"]
    assert "no_dark" not in steps["spiral-R-002"]
    assert "pedestal" in steps["spiral-R-002"]
    assert len(warned(found, "spiral-R-002")) == (told == "by its level")
    assert not warned(found, "spiral-R-001")
    for name, (level, noise) in departures(tmp_path / "out", found, truth).items():
        assert abs(level) < 0.3 * noise, name


def test_a_card_that_is_wrong_is_not_believed(camera, tmp_path, edit):
    """The card says that the dark is gone; the level and the hot pixels say that it is there."""
    folder, truth = camera
    edit(folder / "spiral-R-002.fit", HISTORY="Auto-Dark Subtraction")
    found = reduce(folder, out=tmp_path / "out").summary
    entry = next(entry for entry in found.frames if entry["name"] == "spiral-R-002")
    assert "dark" in entry["steps"]
    assert any("still has its dark, although its header says" in note for note in found.warnings)
    for level, noise in departures(tmp_path / "out", found, truth).values():
        assert abs(level) < 0.3 * noise


def test_a_flat_whose_dark_was_removed(camera, tmp_path, edit):
    folder, truth = camera
    take_dark_away(edit, folder / "flat-R-001.fit", truth, 4.0)
    found = reduce(folder, out=tmp_path / "out").summary
    assert warned(found, "flat-R-001.fit")
    flat = read(tmp_path / "out" / "masters" / "flat_R.fits")
    good = (flat.planes["dq"] == 0) & (truth.planes["dq"] == 0)
    # A hundred counts of pedestal on twenty thousand are half a per cent: they cannot be told from light.
    assert np.std((flat.data - truth.planes["flat_R"])[good]) < 0.012


def test_the_dark_of_such_a_frame_is_not_missing(camera, tmp_path, edit):
    """Its exposure time has no dark, and it needs none."""
    folder, truth = camera
    take_dark_away(edit, folder / "spiral-R-002.fit", truth, 120.0, EXPTIME=77.0)
    found = reduce(folder, out=tmp_path / "out").summary
    assert len(found.frames) == 3 and not found.missing


def test_verdicts_are_remembered(camera, tmp_path, edit, monkeypatch):
    from calibrant.pipeline import judge

    folder, truth = camera
    take_dark_away(edit, folder / "spiral-R-002.fit", truth, 120.0)
    first = reduce(folder, out=tmp_path / "out").summary

    def refuse(*a, **k):
        raise AssertionError("the pixels were asked again")

    monkeypatch.setattr(judge.pedestal, "dark_removed", refuse)
    again = reduce(folder, out=tmp_path / "out").summary
    assert again.warnings == first.warnings
    assert all(entry["reused"] for entry in again.frames)
