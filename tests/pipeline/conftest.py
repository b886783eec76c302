"""A small simulated night, reduced once; copies of it for tests that change something."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from calibrant.files.fits import read
from calibrant.pipeline.run import reduce
from calibrant.simulate.observe import ccd_night

SHAPE = (96, 128)
NIGHT = {
    "shape": SHAPE,
    "biases": 10,
    "darks": {60.0: 4, 120.0: 5},
    "flats": {"R": 5, "V": 5},
    "science": {"R": 2, "V": 1},
}


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Raw files of a night, with the truth in truth/; never changed."""
    folder = tmp_path_factory.mktemp("night") / "raw"
    ccd_night(folder, seed=7, **NIGHT)
    return folder


@pytest.fixture(scope="session")
def truth(raw):
    return read(raw / "truth" / "truth.fits")


@pytest.fixture(scope="session")
def done(raw, tmp_path_factory):
    """The reduction of `raw`; its folder is never changed."""
    return reduce(raw, out=tmp_path_factory.mktemp("done") / "out")


@pytest.fixture
def night(raw, tmp_path):
    """A copy of the raw files, to be changed."""
    return Path(shutil.copytree(raw, tmp_path / "raw"))


@pytest.fixture
def reduced(night, done, tmp_path):
    """A copy of the raw files, a copy of their results, and what the first reduction told."""
    out = Path(shutil.copytree(done.workshop.ledger.folder, tmp_path / "out"))
    return night, out, done


@pytest.fixture
def edit():
    """Change pixels or cards of a raw file; a card of None is removed, all of its lines."""

    def change(path, pixels=None, **cards):
        with fits.open(path) as units:
            header, data = units[0].header, units[0].data
        for name, value in cards.items():
            key = name.replace("_", "-")
            if value is None:
                header.remove(key, ignore_missing=True, remove_all=True)
            else:
                header[key] = value
        new = data if pixels is None else np.clip(np.rint(pixels(data.astype(float))), 0, 65535)
        for key in ("BZERO", "BSCALE"):
            header.remove(key, ignore_missing=True)
        fits.PrimaryHDU(new.astype(np.uint16), header).writeto(path, overwrite=True)

    return change
