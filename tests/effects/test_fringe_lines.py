"""Lines of etalons and waves in spectra: real line tables simulated and recovered, astropy's powers."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.timeseries import LombScargle
from scipy.special import erf

from calibrant.effects import fringe
from calibrant.errors import OptionError, SelectionError, ShapeError

ROWS = np.arange(1024)
WAVE = np.polynomial.polynomial.polyval((ROWS - 511.5) / 512, (5.32, 0.447, -0.0267))
STEP = np.gradient(WAVE)


def real(folder, name):
    with fits.open(folder / "mrs" / f"RAL_FTS_ET1{name}_FITPARAMS_07.01.00.fits") as file:
        table = file[1].data
        inside = (table["LAMCEN"] > WAVE[6]) & (table["LAMCEN"] < WAVE[-7]) & (table["HEIGHT"] > 0)
        return table["LAMCEN"][inside].astype(float), table["HEIGHT"][inside].astype(float)


def spectrum(centres, heights, resolution=3500.0, level=0.2, part=0.0):
    """Lines summed over pixels, on a level."""
    made = np.full(ROWS.shape, level)
    for centre, height in zip(centres, heights, strict=True):
        fwhm = centre / resolution
        sigma = fwhm / 2.3548
        ends = [(WAVE + side * STEP / 2 - centre) for side in (-1, 1)]
        gauss = np.diff([sigma * np.sqrt(np.pi / 2) * erf(e / sigma / np.sqrt(2)) for e in ends], axis=0)[0]
        lorentz = np.diff([fwhm / 2 * np.arctan(2 * e / fwhm) for e in ends], axis=0)[0]
        made += height * ((1 - part) * gauss + part * lorentz) / STEP
    return made


def matched(table, centres):
    """The true line of each that was found."""
    nearest = np.abs(np.asarray(table["wavelength"])[:, None] - centres).argmin(axis=1)
    return centres[nearest], nearest


@pytest.mark.parametrize("name", ["A", "B"])
def test_lines_of_real_etalons_are_recovered_within_their_errors(real_data, name):
    centres, heights = real(real_data, name)
    heights = 100 * heights / heights.max() + 5
    rng, pulls = np.random.default_rng(1), []
    light = spectrum(centres, heights)
    sigma = np.sqrt(light / 50 + 0.01)
    for _ in range(8):
        found = fringe.lines(WAVE, light + rng.normal(0, 1, 1024) * sigma, sigma, thres=0.08, min_dist=3)
        table = {
            k: np.asarray(v)[np.asarray(found.tables["lines"]["good"])]
            for k, v in found.tables["lines"].items()
        }
        true, which = matched(table, centres)
        assert len(set(which)) > 0.9 * len(centres)
        pulls.append((table["wavelength"] - true) / table["wavelength_sigma"])
    pulls = np.concatenate(pulls)
    assert abs(np.median(pulls)) < 0.2
    assert 0.8 < 1.4826 * np.median(np.abs(pulls - np.median(pulls))) < 1.25
    assert np.median(table["fwhm"] / table["wavelength"]) == pytest.approx(1 / 3500, rel=0.03)
    even = np.median(np.diff(np.sort(1e4 / centres)))
    spacing = found.quantity("spacing")
    order = np.arange(len(centres))
    slope = np.polyfit(order, np.sort(1e4 / centres), 1)[0]
    if abs(slope / even - 1) < 1e-3:  # the table has all lines
        assert abs(spacing.value - slope) < max(5 * spacing.sigma, 1e-3 * slope)


def test_even_lines_give_the_thickness():
    numbers = 1e4 / WAVE[-8] + 2.925 * np.arange(95)
    light = spectrum(1e4 / numbers, np.full(95, 50.0))
    rng, pulls = np.random.default_rng(2), []
    for _ in range(20):
        sigma = np.sqrt(light / 50 + 0.01)
        found = fringe.lines(WAVE, light + rng.normal(0, 1, 1024) * sigma, sigma)
        spacing = found.quantity("spacing")
        pulls.append((spacing.value - 2.925) / spacing.sigma)
    assert abs(np.mean(pulls)) < 1 and 0.6 < np.std(pulls) < 1.5
    assert found.quantity("D").value == pytest.approx(1e4 / 2 / 2.925, rel=1e-5)
    assert np.ptp(found.tables["lines"]["order"]) == len(found.tables["lines"]["order"]) - 1


def test_a_lost_line_keeps_the_orders_and_wings_need_their_shape():
    numbers = np.delete(1e4 / WAVE[-8] + 5.85 * np.arange(45), [10, 11, 30])
    light = spectrum(1e4 / numbers, np.full(42, 50.0), resolution=2500.0, part=0.4)
    found = {s: fringe.lines(WAVE, light, shape=s) for s in ("gauss", "pseudo_voigt")}
    assert found["gauss"].quantity("spacing").value == pytest.approx(5.85, rel=1e-4)
    voigt = found["pseudo_voigt"].tables["lines"]
    assert np.median(voigt["part"]) == pytest.approx(0.4, abs=0.08)
    assert np.median(voigt["chi2"]) < 0.2 * np.median(found["gauss"].tables["lines"]["chi2"])


def test_lines_that_cannot_be_are_refused():
    with pytest.raises(SelectionError, match="too few"):
        fringe.lines(WAVE, np.ones(1024))
    with pytest.raises(OptionError, match="lines"):
        fringe.lines(WAVE, np.ones(1024), shape="box")
    with pytest.raises(ShapeError):
        fringe.lines(WAVE, np.ones(5))


# --- waves ---


def test_powers_are_those_of_astropy_and_the_thickness_is_found():
    rng = np.random.default_rng(3)
    sigma = rng.uniform(0.01, 0.03, 1024)
    value = 1 + 0.05 * np.cos(4 * np.pi * 1709.6 / WAVE) + rng.normal(0, 1, 1024) * sigma
    found = fringe.lomb_scargle(WAVE, value, sigma, between=(1000.0, 2500.0))
    other = LombScargle(1e4 / WAVE, value, sigma)
    power = other.power(2e-4 * found.thickness)
    assert found.power == pytest.approx(power, abs=1e-9)
    assert found.best == pytest.approx(1709.6, abs=0.5)
    assert found.chance < 1e-20


def test_the_chance_is_that_of_noise():
    rng = np.random.default_rng(4)
    found = [
        fringe.lomb_scargle(WAVE, rng.normal(1, 0.1, 1024), between=(300.0, 3000.0)).chance for _ in range(60)
    ]
    assert 0.3 < np.median(found) < 0.85 and np.mean(np.array(found) < 0.1) < 0.25
    with pytest.raises(SelectionError, match="waves"):
        fringe.lomb_scargle(WAVE, np.ones(1024))
    with pytest.raises(OptionError, match="range"):
        fringe.lomb_scargle(WAVE, rng.normal(size=1024), between=(3.0, 1.0))
    with pytest.raises(ShapeError):
        fringe.lomb_scargle(WAVE, np.ones(4))
