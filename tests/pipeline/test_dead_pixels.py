"""Dead columns and borders of zeros do not make a raw frame look like one whose dark was removed."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.files.fits import read
from calibrant.pipeline.run import reduce
from calibrant.simulate.observe import ccd_night

OFF = {"steps_options.cosmic_rays.enabled": "false"}
SKY = 20.0


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A camera without overscan, with biases."""
    folder = tmp_path_factory.mktemp("plain") / "raw"
    ccd_night(
        folder, seed=8, shape=(96, 128), overscan=0, biases=6, darks={60.0: 5}, flats={"R": 3},
        science={"R": 1}, exptime=60.0, sky=SKY, stars=10, galaxy=False, cosmic_rate=0.0,
    )  # fmt: skip
    return folder


def border(data):
    data[:3], data[:, -3:] = 0, 0
    return data


def columns(data):
    data[:, 40:43] = 0
    return data


@pytest.mark.parametrize("spoil", [border, columns])
def test_zeros_do_not_erase_the_sky(plain, spoil, tmp_path, edit):
    import shutil

    folder = shutil.copytree(plain, tmp_path / "raw")
    want = reduce(plain, out=tmp_path / "want", changes=OFF).summary.frames[0]
    for path in [*folder.glob("spiral*"), *folder.glob("flat*")]:
        edit(path, spoil)
    found = reduce(folder, out=tmp_path / "out", changes=OFF).summary
    (entry,) = found.frames
    assert not [note for note in found.warnings if "has no dark left" in note]
    assert entry["steps"] == want["steps"] and "bias" in entry["steps"]
    assert entry["median"] == pytest.approx(want["median"], rel=0.03)
    frame = read(tmp_path / "out" / entry["file"]).load()
    assert np.median(frame.data) > 5 * entry["noise"] ** 0.5
