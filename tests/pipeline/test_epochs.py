"""Calibrations of several epochs in one folder, and the level of calibrated frames against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import gain
from calibrant.errors import ConfigError
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.frame import MICROSECOND, Exposure, Frame
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.matching import DAY, groups
from calibrant.pipeline.plan import make_plan
from calibrant.pipeline.run import reduce
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts

TOGETHER = {"gap.flat": "10000"}
LATE = "20241125"  # flats of less light, of a third epoch that no visit is near to


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A corner detector in two bands: their visits are of the first and of the second epoch."""
    taken = simulate(
        load("comcam"), folder := tmp_path_factory.mktemp("raft"), seed=1, detectors=(0,), bands=("r", "y"),
        counts=Counts(biases=5, darks=2, flats=3),
    )  # fmt: skip
    for path in taken.raw:
        if LATE in path.name:
            path.unlink()
    return folder


@pytest.fixture(scope="module")
def truth(raw):
    return read(raw / "truth" / "R22_S00.fits")


@pytest.fixture(scope="module")
def done(raw, tmp_path_factory):
    return reduce(raw, out=tmp_path_factory.mktemp("apart"), instrument="comcam")


@pytest.fixture(scope="module")
def merged(raw, tmp_path_factory):
    """The same folder as if nothing had happened between the two."""
    return reduce(raw, out=tmp_path_factory.mktemp("merged"), instrument="comcam", changes=TOGETHER)


def flats_of(done):
    return {frame["filter"]: frame["masters"]["flat"] for frame in done.summary.frames}


def share(done, truth, band, epoch):
    """How much of the difference between the epochs stands in the flat that the visit was divided by."""
    flat = done.workshop.product(flats_of(done)[band]).data
    own, other = (truth.planes[f"flat_{band}_{number}"] for number in (epoch, 3 - epoch))

    def within(plane):  # amplifiers, whose gains differ: 2 rows of 8
        boxes = plane.reshape(2, plane.shape[0] // 2, 8, -1)
        return boxes - np.median(boxes, axis=(1, 3), keepdims=True)

    found, change = within(flat / own), within(other / own)
    good = np.abs(found) < 0.1  # no hits, no dead pixels
    return float((found * change)[good].sum() / (change**2)[good].sum())


def test_each_epoch_has_a_flat_and_a_frame_uses_the_nearest(done):
    assert flats_of(done) == {"r": "flat_r_2024-11-08", "y": "flat_y_2024-11-15"}
    counts = {entry["name"]: entry["frames"] for entry in done.summary.masters if entry["kind"] == "flat"}
    assert counts == {f"flat_{band}_2024-11-{day}": 3 for band in "ry" for day in ("08", "15")}
    assert any(
        "flat: between 2024-11-08, 2024-11-15 lie more than 3 days" in n for n in done.summary.warnings
    )
    biases = [entry for entry in done.summary.masters if entry["kind"] == "bias"]
    assert [(entry["name"], entry["frames"]) for entry in biases] == [("bias", 10)]  # a bias lives longer


@pytest.mark.parametrize(("band", "epoch"), [("r", 1), ("y", 2)])
def test_the_flat_is_that_of_its_epoch(done, merged, truth, band, epoch):
    assert share(done, truth, band, epoch) == pytest.approx(0, abs=0.05)
    assert share(merged, truth, band, epoch) == pytest.approx(0.5, abs=0.1)  # the twin: dust of both in one


def test_pairs_do_not_mix_epochs(done, merged):
    """The gain of flats of one epoch is the nominal one; in pairs over two the dust counts as noise."""
    found = {
        which: [
            quantity["value"]
            for entry in which.summary.masters
            for quantity in entry["quantities"]
            if quantity["name"] == "pair_gain"
        ]
        for which in (done, merged)
    }
    assert np.allclose(found[done], 1.353, rtol=0.02)
    assert len(found[merged]) == 2


def level(done, truth, band, epoch):
    """A calibrated frame over its scene, and what it should be: the median response of the detector."""
    entry = next(frame for frame in done.summary.frames if frame["filter"] == band)
    frame = read(done.workshop.ledger.folder / entry["file"]).load()
    scene = next(
        plane
        for name, plane in truth.planes.items()
        if name.startswith("scene") and name.removeprefix("scene_")[:20] in entry["name"]
    )
    good = frame.dq == 0
    middle = np.median(truth.planes[f"flat_{band}_{epoch}"][good])
    return float(frame.data[good].sum() / scene[good].sum()), float(middle)


@pytest.mark.parametrize(("band", "epoch"), [("r", 1), ("y", 2)])
def test_frames_are_the_scene_times_the_median_response_of_the_detector(done, truth, band, epoch):
    found, expected = level(done, truth, band, epoch)
    assert expected < 0.98  # a corner of the raft: not 1, the flat of a detector knows nothing of the others
    assert found == pytest.approx(expected, abs=0.003)


def test_a_gain_that_forgets_the_flat_would_be_seen(raw, truth, tmp_path, monkeypatch):
    """The twin: the harmonic mean of the gains is another number than the one that the flat implies."""
    right = gain.even_gain
    monkeypatch.setattr(gain, "even_gain", lambda product, flat=None: right(product))
    found, expected = level(reduce(raw, out=tmp_path / "out", instrument="comcam"), truth, "r", 1)
    assert abs(found - expected) > 0.005


def flat_at(*days):
    return [
        Exposure(kind="flat", start=None if day is None else round(day * DAY), duration=1.0, filter="r")
        for day in days
    ]


@pytest.mark.parametrize(
    ("days", "gap", "expected"),
    [
        ((0, 1, 2.9), 3, [["", 3]]),
        ((0, 3, 6), 3, [["", 3]]),  # the gap itself is none
        ((0, 3.01), 3, [["1970-01-01", 1], ["1970-01-04", 1]]),
        ((9, 0, 9.5, 0.5, 20), 3, [["1970-01-01", 2], ["1970-01-10", 2], ["1970-01-21", 1]]),
        ((9, None, 0), 3, [["1970-01-01", 2], ["1970-01-10", 1]]),
        ((None, None), 3, [["", 2]]),
        ((0, 1000), None, [["", 2]]),
    ],
)
def test_where_a_series_is_cut(days, gap, expected):
    frames = [Frame(np.ones((2, 2), np.float32), exposure=one) for one in flat_at(*days)]
    exposures = Exposures.from_frames(frames, "generic-ccd")
    (group,) = groups(exposures, "flat", ("filter",))
    cut = group.epochs(gap)
    assert [[piece.when, len(piece.members)] for piece in cut] == expected
    assert sum(len(piece.members) for piece in cut) == len(days)
    assert all(piece.keys == group.keys for piece in cut)  # an epoch is no key: frames of any time may use it
    assert MICROSECOND * 86_400 == DAY


def test_the_plan_takes_the_nearest_epoch(raw):
    exposures = Exposures.scan(raw, "comcam")
    plan = make_plan(exposures, recipes.load("comcam", {"gap.bias": "3", "gap.dark": "3"}))
    for target in plan.targets:
        for name in target.uses.values():
            own = abs(plan.job(name).epoch - target.exposure.mid)
            same = [j for j in plan.jobs if (j.kind, j.keys) == (plan.job(name).kind, plan.job(name).keys)]
            assert len(same) == 2
            assert own == min(abs(job.epoch - target.exposure.mid) for job in same)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gap.flta": "3"}, "did you mean 'flat'"),
        ({"gap.flat": "0.5"}, "greater than or equal to 1"),
        ({"gap.flat": "often"}, "gap.flat"),
        ({"minimum.bais": "3"}, "did you mean 'bias'"),
    ],
)
def test_mistakes_in_a_gap_are_explained(change, words):
    with pytest.raises(ConfigError, match=words):
        recipes.load("ccd", change)
