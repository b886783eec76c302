"""Masters of a simulated night of raw files against its truth: overscan, hits, hot pixels, drift and all."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import bias, dark, flat, overscan
from calibrant.exposures import Exposures
from calibrant.files.fits import read, write
from calibrant.simulate.observe import ccd_night


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    truth = ccd_night(
        folder / "raw",
        seed=3,
        shape=(160, 192),
        biases=10,
        darks={60.0: 4, 300.0: 5},
        flats={"V": 5},
        science={},
    )
    found = Exposures.scan(folder / "raw", instrument="auto").where(kind=["bias", "dark", "flat"])
    return truth, found.through(overscan.step(found[0], instrument=found.instrument))


@pytest.fixture(scope="module")
def masters(night):
    _, found = night
    zero = bias.measure(found.where(kind="bias"))
    current = dark.measure(found.where(kind="dark"), products={"bias": zero})
    response = flat.measure(found.where(kind="flat"), products={"bias": zero, "dark": current})
    return {"bias": zero, "dark": current, "flat": response}


def pulls(master, truth, good):
    variance = master.planes["propagated"] + master.planes.get("systematic", np.float32(0))
    return ((master.data - truth) / np.sqrt(variance))[good]


@pytest.mark.parametrize(("kind", "plane"), [("bias", "bias_structure"), ("dark", "dark")])
def test_masters_are_the_truth_within_their_errors(night, masters, kind, plane):
    truth, _ = night
    good = truth.planes["dq"] == 0
    pull = pulls(masters[kind], truth.planes[plane], good)
    assert abs(pull.mean()) < 0.1
    assert abs(pull.std() - 1) < 0.05
    assert np.abs(pull).max() < 6  # no hit is left
    sigma = np.sqrt(np.median(masters[kind].planes["propagated"]))
    shifted = pulls(masters[kind], truth.planes[plane] + 5 * sigma, good)  # the twin
    assert abs(shifted.mean()) > 0.1


def test_the_flat_is_the_truth_up_to_its_shutter(night, masters):
    """The simulated shutter exposes unevenly, which no flat corrects: a quarter of a sigma here."""
    truth, _ = night
    pull = pulls(masters["flat"], truth.planes["flat_V"], truth.planes["dq"] == 0)
    assert abs(pull.mean()) < 0.5
    assert abs(pull.std() - 1) < 0.05


def test_quantities(night, masters):
    truth, _ = night
    known = truth.quantity("read_noise").value
    # Overscan subtraction adds the noise of each row's level: one part in 32.
    assert masters["bias"].quantity("read_noise").value == pytest.approx(known * np.sqrt(33 / 32), rel=0.02)
    assert masters["dark"].quantity("rate").value == pytest.approx(truth.quantity("dark").value, rel=0.02)
    rate = masters["dark"].quantity("cosmic_ray_rate")
    assert abs(rate.value - 1e6 * truth.quantity("cosmic_ray_rate").value) < 4 * rate.sigma


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_masters_survive_their_files(masters, tmp_path, kind):
    write(masters[kind], tmp_path / "master.fits")
    again = read(tmp_path / "master.fits")
    assert again.identity == masters[kind].identity
    assert again.provenance.notes == masters[kind].provenance.notes
