"""Calibrated frames of a night against the light that fell, in units of the errors that they state."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.files.fits import read
from calibrant.frame import DQ
from calibrant.pipeline import run as pipeline
from calibrant.pipeline.run import reduce
from calibrant.simulate.observe import ccd_night

OFF = {"steps_options.cosmic_rays.enabled": "false"}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A night with few calibration frames, whose errors count."""
    folder = tmp_path_factory.mktemp("deep") / "raw"
    truth = ccd_night(
        folder,
        seed=11,
        shape=(160, 192),
        biases=3,
        darks={120.0: 3},
        flats={"R": [2500.0] * 3},
        science={"R": 2},
        dark=0.8,
        shutter=0.0,
    )
    return folder, truth


def pulls(out, reduction, truth, systematic=True):
    """Departures from the truth in sigmas, of pixels without flags that no charge bled into."""
    found = []
    names = list(truth.tables["files"]["name"])
    full = truth.tables["saturated"]
    for entry in reduction.summary.frames:
        frame = read(out / entry["file"]).load()
        good = frame.dq == 0
        bled = full["file"] == names.index(f"{entry['name']}.fit")
        good[full["row"][bled], full["col"][bled]] = False
        assert good.mean() > 0.9
        variance = frame.variance + (frame.systematic if systematic else 0)
        found.append(((frame.data - truth.planes[f"scene_{entry['name']}"]) / np.sqrt(variance))[good])
    return np.concatenate(found)


def told_truly(values):
    return abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.05


@pytest.mark.parametrize("shape_of_night", ["usual", "deep"])
def test_calibrated_frames_are_as_far_from_the_truth_as_they_say(
    shape_of_night, deep, done, raw, truth, tmp_path
):
    if shape_of_night == "usual":
        reduction, known = done, truth
    else:
        folder, known = deep
        reduction = reduce(folder, out=tmp_path / "out", changes=OFF)
    values = pulls(reduction.workshop.ledger.folder, reduction, known)
    assert told_truly(values), (values.mean(), values.std())


def test_variance_alone_is_too_small_where_masters_are_poor(deep, tmp_path):
    reduction = reduce(deep[0], out=tmp_path / "out", changes=OFF)
    values = pulls(tmp_path / "out", reduction, deep[1], systematic=False)
    assert values.std() > 1.05


@pytest.mark.parametrize("perturbed", ["flat", "dark", "gain", "dark scaling"])
def test_the_pulls_see_what_is_wrong(perturbed, deep, tmp_path, monkeypatch):
    """Twins: a step left out, a gain 5 % off, and a dark whose time is taken wrong."""
    folder, truth = deep
    changes = dict(OFF)
    if perturbed in ("flat", "dark"):
        changes[f"steps_options.{perturbed}.enabled"] = "false"
    elif perturbed == "gain":
        real = pipeline.known_noise
        monkeypatch.setattr(pipeline, "known_noise", lambda *a: _other_gain(real(*a)))
    else:
        from calibrant.effects import _steps

        real_time = _steps.dark_time
        monkeypatch.setattr(_steps, "dark_time", lambda exposure, *a, **k: 0.7 * real_time(exposure, *a, **k))
    reduction = reduce(folder, out=tmp_path / "out", changes=changes)
    assert not told_truly(pulls(tmp_path / "out", reduction, truth))


def _other_gain(known):
    from dataclasses import replace

    gain = known["gain"]
    quantities = tuple(replace(q, value=q.value * 1.05) if q.name == "gain" else q for q in gain.quantities)
    return {**known, "gain": replace(gain, quantities=quantities)}


def test_saturated_pixels_are_flagged_though_the_overscan_is_gone(deep, tmp_path):
    folder, truth = deep
    reduction = reduce(folder, out=tmp_path / "out", changes=OFF)
    table, names = truth.tables["saturated"], list(truth.tables["files"]["name"])
    for entry in reduction.summary.frames:
        frame = read(tmp_path / "out" / entry["file"]).load()
        mine = table["file"] == names.index(f"{entry['name']}.fit")
        assert mine.sum() > 20
        flagged = frame.dq[table["row"][mine], table["col"][mine]] & DQ.SATURATED
        # Only the ends of bleeding trails, which hold less than a full well, may pass.
        assert np.mean(flagged != 0) > 0.8
        assert entry["flagged"]["SATURATED"] >= flagged.astype(bool).sum()


def test_masters_of_the_night_are_the_truth(done, truth):
    product = done.workshop.product
    dark = product("dark")
    good = (dark.planes["dq"] == 0) & (truth.planes["dq"] == 0)
    # Rates are told at the temperature of the frames, which wanders by 0.03 K about the set point.
    error = (dark.data - truth.planes["dark"])[good] / np.sqrt(
        dark.planes["propagated"] + dark.planes.get("systematic", 0)
    )[good]
    assert abs(error.mean()) < 0.1
    assert abs(error.std() - 1) < 0.06
    for name in ("R", "V"):
        flat = product(f"flat_{name}")
        good = (flat.planes["dq"] == 0) & (truth.planes["dq"] == 0)
        assert np.std((flat.data - truth.planes[f"flat_{name}"])[good]) < 0.01
    gain = product("flat_R").quantity("pair_gain")
    assert abs(gain.value - 1.5) < 5 * gain.sigma
