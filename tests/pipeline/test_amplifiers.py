"""Amplifiers of different gain: after the flat they are alike, and the gain brings no steps back."""

from __future__ import annotations

import numpy as np
import pytest

import calibrant as cal
from calibrant.pipeline.run import reduce
from calibrant.simulate import raft
from calibrant.simulate.camera import load


@pytest.fixture(scope="module")
def ratio(tmp_path_factory):
    """A calibrated visit over its true scene, electrons over electrons; and the true gains."""
    folder = tmp_path_factory.mktemp("raft")
    camera = load("comcam")
    raft.simulate(camera, folder / "raw", seed=3, detectors=[5], bands=["r"])
    reduce(folder / "raw", out=folder / "out", instrument="comcam")
    (path,) = (folder / "out" / "calibrated").glob("*.fits")
    truth = cal.read(next((folder / "raw" / "truth").glob("*.fits")))
    gains = [quantity.value for quantity in truth if quantity.name == "gain" and quantity.place]
    return cal.read(path).load().data / truth.planes[f"scene_{path.stem}"], np.array(gains)


def by_amplifier(plane):
    rows, cols = plane.shape
    return np.array(
        [
            np.nanmedian(plane[i * rows // 2 : (i + 1) * rows // 2, k * cols // 8 : (k + 1) * cols // 8])
            for i in range(2)
            for k in range(8)
        ]
    )


def test_amplifiers_are_alike(ratio):
    levels, gains = by_amplifier(ratio[0]), ratio[1]
    assert np.std(gains) / np.mean(gains) > 0.01  # else there would be nothing to see
    assert np.std(levels) / np.mean(levels) < 0.004
    assert abs(np.mean(levels) - 1) < 0.03  # the flat's own mean stands for the response of the detector
