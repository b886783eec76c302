"""The light: world coordinates, stars, the galaxy."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from calibrant.errors import SelectionError
from calibrant.simulate.scene import Psf, Scene, Stars, TanWcs

SHAPE = (256, 300)


def test_coordinates_agree_with_astropy_both_ways():
    ours = TanWcs(ra=359.9, dec=-63.0, row=90.5, col=201.25, scale=1.7, angle=31.0)
    theirs = WCS(fits.Header(ours.cards().items()))
    rng = np.random.default_rng(1)
    row, col = rng.uniform(-500, 1500, (2, 50))
    ra, dec = ours.to_sky(row, col)
    expected = theirs.all_pix2world(col, row, 0)
    np.testing.assert_allclose(ra, expected[0], atol=1e-9)
    np.testing.assert_allclose(dec, expected[1], atol=1e-9)
    back = ours.to_pixel(ra, dec)
    np.testing.assert_allclose(back, (row, col), atol=1e-6)


def test_north_is_up_and_east_to_the_left():
    wcs = TanWcs(angle=0.0)
    ra, dec = wcs.to_sky(np.array([0.0, 10.0]), np.array([-10.0, 0.0]))
    assert ra[0] > wcs.ra and dec[1] > wcs.dec
    leaning = TanWcs(angle=20.0)
    row, col = leaning.to_pixel(leaning.ra, leaning.dec + 0.01)
    assert row > 0 and col < 0, "north turned from up towards the left"


@pytest.mark.parametrize("place", [(100.0, 120.0), (100.37, 120.81)])
def test_a_star_keeps_its_light_and_its_place(place):
    psf = Psf(fwhm=3.5, beta=3.0)
    star = Stars(*(np.array([value]) for value in (*place, 5000.0)))
    plane = star.light(SHAPE, psf, (0.0, 0.0), least=1e-6).astype(float)
    assert plane.sum() == pytest.approx(5000.0, rel=0.002)
    y, x = np.indices(SHAPE)
    near = np.hypot(y - place[0], x - place[1]) < 30
    assert (plane * y)[near].sum() / plane[near].sum() == pytest.approx(place[0], abs=0.02)
    assert (plane * x)[near].sum() / plane[near].sum() == pytest.approx(place[1], abs=0.02)


def test_the_profile_halves_at_half_the_fwhm():
    psf = Psf(fwhm=4.0, beta=2.5)
    at = psf.value(np.array([0.0, 2.0**2]))
    assert at[1] / at[0] == pytest.approx(0.5)


def test_luminosities_follow_their_power_law():
    flux = Stars.drawn(SHAPE, 20_000, np.random.default_rng(2), faintest=10.0, slope=0.75).flux
    assert np.mean(flux > 100.0) == pytest.approx(10.0**-0.75, rel=0.05)
    assert flux.min() >= 10.0


def test_dither_moves_stars_and_galaxy_together():
    scene = Scene.spiral(SHAPE, ("R",), np.random.default_rng(3))
    still, moved = scene.light("R"), scene.light("R", (3.0, -5.0))
    np.testing.assert_allclose(moved[20:-20, 20:-20], still[17:-23, 25:-15], rtol=2e-3, atol=0.05)


def test_filters_show_different_colours_and_unknown_ones_are_refused():
    scene = Scene.spiral(SHAPE, ("R", "B"), np.random.default_rng(4))
    assert np.median(scene.light("R")) > 1.5 * np.median(scene.light("B"))
    with pytest.raises(SelectionError, match="R, B"):
        scene.light("Z")


def test_sky_alone():
    bare = Scene.spiral(SHAPE, ("R",), np.random.default_rng(5), stars=0, galaxy=False, sky=2.0)
    assert np.ptp(bare.light("R")) == 0.0
    assert bare.light("R")[0, 0] == 18.0
