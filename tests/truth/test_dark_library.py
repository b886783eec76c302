"""Rates and energies of simulated darks have errors of the stated width; a law that is bent shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import dark_library

SPEC = importlib.util.spec_from_file_location(
    "darks_of_a_grid", Path(__file__).parents[1] / "effects" / "darks.py"
)
DARKS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(DARKS)


def measured(camera, **changes):
    return dark_library.measure(DARKS.series(camera.grid()), **{**DARKS.KNOWN, **changes})


def pulls(product, camera):
    rate = (product.data - camera.rate) / np.sqrt(product.planes["variance"])
    energy = (product.planes["energy"] - camera.energy) / np.sqrt(product.planes["energy_variance"])
    return rate, energy


def test_pulls_of_rates_and_energies():
    camera = DARKS.Library(seed=21, shape=(160, 160))
    product = measured(camera)
    for z in pulls(product, camera):
        assert abs(z.mean()) < 0.06 and z.std() == pytest.approx(1.0, abs=0.03)
    for time, celsius in ((450, -5), (600, -20), (60, 0), (300, -15)):
        found = dark_library.predict(product, time, celsius)
        z = (found.data - camera.bias - camera.dark(time, celsius)) / np.sqrt(found.variance)
        assert abs(z.mean()) < 0.1 and z.std() == pytest.approx(1.0, abs=0.03)


def test_the_twin_whose_dark_is_not_arrhenius_fails():
    """A floor that does not know the temperature (a glow) bends the law."""

    class Glowing(DARKS.Library):
        def dark(self, time, temperature):
            return super().dark(time, temperature) + 0.3 * time

    camera = Glowing(seed=22, shape=(160, 160))
    product = measured(camera)
    camera.rate = camera.rate + 0.3
    energy = pulls(product, camera)[1]
    assert abs(energy.mean()) > 0.5
    assert np.nanmean(product.planes["law_chi2"]) > 1.5


def test_the_twin_with_another_noise_fails():
    camera = DARKS.Library(seed=23, shape=(160, 160))
    z = pulls(measured(camera, read_noise=DARKS.KNOWN["read_noise"] / 2, gain=DARKS.GAIN * 4), camera)
    assert z[0].std() > 1.3
