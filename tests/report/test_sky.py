"""The grid of the sky: places against astropy, and headers of every sort without a warning."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS

from calibrant.errors import HeaderError
from calibrant.frame import Frame
from calibrant.report.plots import image
from calibrant.report.plots.sky import solution

SHAPE = (120, 200)


def tangent(cards, x, y):
    """Gnomonic projection by hand (Calabretta and Greisen 2002), degrees; pixels from 0."""
    dx, dy = x + 1 - cards["CRPIX1"], y + 1 - cards["CRPIX2"]
    xi = math.radians(cards["CD1_1"] * dx + cards["CD1_2"] * dy)
    eta = math.radians(cards["CD2_1"] * dx + cards["CD2_2"] * dy)
    dec0 = math.radians(cards["CRVAL2"])
    bottom = math.cos(dec0) - eta * math.sin(dec0)
    ra = cards["CRVAL1"] + math.degrees(math.atan2(xi, bottom))
    dec = math.atan2(math.sin(dec0) + eta * math.cos(dec0), math.hypot(xi, bottom))
    return ra, math.degrees(dec)


def test_places_are_right(seen):
    wcs = solution(seen.header(seen.sky), SHAPE)
    for x, y in [(0, 0), (199, 0), (50, 119), (99.5, 59.5)]:
        world = wcs.wcs_pix2world([[x, y]], 0)[0]
        assert world == pytest.approx(tangent(seen.sky, x, y), abs=1e-9)


def test_the_grid_is_drawn_where_the_sky_is(field, seen):
    figure = image(field)
    axes = figure.axes[0]
    assert isinstance(axes, WCSAxes)
    words = (axes.coords[0].get_axislabel(), axes.coords[1].get_axislabel())
    assert words == ("right ascension (FK5 J2000)", "declination")
    page = seen.inside(figure, axes, seen.pixels(figure)).astype(int)
    rows, cols = np.nonzero(page[..., 2] - page[..., 0] > 60)
    assert rows.size > 500
    x, y = (cols + 0.5) * 200 / page.shape[1] - 0.5, (rows + 0.5) * 120 / page.shape[0] - 0.5
    sky = np.array([tangent(seen.sky, *place) for place in zip(x, y, strict=True)])
    # Every dot lies on a whole second of right ascension or on whole five seconds of declination.
    across = np.abs((sky[:, 0] * 240 + 0.5) % 1 - 0.5) * 15 * math.cos(math.radians(47.2))
    up = np.abs((sky[:, 1] * 3600 + 2.5) % 5 - 2.5)
    assert np.mean(np.minimum(across, up) < 0.2) > 0.98
    plain = seen.pixels(image(Frame(field.data), sky=False)).astype(int)
    assert not (plain[..., 2] - plain[..., 0] > 60).any()
    ra, dec = tangent(seen.sky, 30, 70)
    pixel = axes.wcs.world_to_pixel(SkyCoord(ra, dec, unit="deg", frame="fk5"))
    assert pixel == pytest.approx((30, 70), abs=1e-6)


def test_no_grid_if_unwanted_or_unknown(field):
    assert not isinstance(image(field, sky=False).axes[0], WCSAxes)
    assert not isinstance(image(Frame(field.data)).axes[0], WCSAxes)


def without(cards, *names):
    return {name: value for name, value in cards.items() if name not in names}


@pytest.mark.parametrize(
    "change",
    [
        {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"},
        {"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0},
        {"CTYPE2": "GLAT-TAN"},
        {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"},
        {"CRVAL1": "unknown"},
        {"NAXIS1": 232},
        {"CTYPE1": ""},
    ],
    ids=str,
)
def test_a_header_without_a_solution_gives_no_grid(field, seen, change):
    header = seen.header({**seen.sky, **change})
    if change != {"CRVAL1": "unknown"}:
        assert solution(header, SHAPE) is None
    if change.get("CTYPE1") == "LINEAR":
        with pytest.raises(HeaderError, match="solve the field"):
            image(Frame(field.data, header=header), sky=True)
    seen.pixels(image(Frame(field.data, header=header)), 40)


@pytest.mark.parametrize(
    "extra",
    [
        {"EPOCH": 2000.0},
        {"NAXIS": 2, "WCSAXES": 3, "CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT3": 1e6, "CRPIX3": 1.0},
        {"CUNIT1": "DEG", "CUNIT2": "degrees"},
        {"DATE-OBS": "yesterday", "MJD-OBS": "57000.5", "OBSGEO-X": "nan"},
        {"CROTA2": 3.0, "CDELT1": -1.7e-4, "CDELT2": 1.7e-4},
        {"PV1_1": 1.0, "PV1_2": 0.0, "PV2_1": 1.0},
        {"CRVAL1": "202.47", "CRVAL2": "4.72E1"},
        {"TELESCOP": "it's $5", "ROTATION": 3.0, "PLTSOLVD": True},
    ],
    ids=str,
)
def test_odd_cards_give_a_grid_without_a_warning(field, seen, extra, caplog, capsys):
    frame = Frame(field.data, header=seen.header({**seen.sky, **extra}))
    assert isinstance(image(frame).axes[0], WCSAxes)
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": -1e-5, "AP_ORDER": 2, "BP_ORDER": 2}


@pytest.mark.parametrize("ending", ["", "-SIP"])
def test_distortion_is_applied_even_if_its_name_is_missing(seen, ending, caplog):
    cards = {**seen.sky, **SIP, "CTYPE1": "RA---TAN" + ending, "CTYPE2": "DEC--TAN" + ending}
    with caplog.at_level(logging.INFO):
        wcs = solution(seen.header(cards), SHAPE)
    assert not caplog.records
    x = 180.0
    straight = x + 1e-5 * (x + 1 - 100.5) ** 2
    assert wcs.all_pix2world([[x, 59.5]], 0)[0] == pytest.approx(tangent(seen.sky, straight, 59.5), abs=1e-9)


def test_galactic_axes_are_named(field, seen):
    cards = {**without(seen.sky, "RADECSYS", "EQUINOX"), "CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR"}
    cards |= {"CRVAL1": 30.0, "CRVAL2": 0.0}
    axes = image(Frame(field.data, header=seen.header(cards))).axes[0]
    assert axes.coords[0].get_axislabel() == "galactic longitude"


def test_swapped_axes_keep_their_names(field, seen):
    cards = {**seen.sky, "CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 47.2, "CRVAL2": 202.47}
    axes = image(Frame(field.data, header=seen.header(cards))).axes[0]
    assert axes.coords[0].get_axislabel() == "declination"
    assert axes.coords[1].get_axislabel() == "right ascension (FK5 J2000)"


def test_agrees_with_astropy_on_the_whole_header(seen):
    cards = without(seen.sky, "DATE-OBS", "RADECSYS")
    theirs = WCS({**cards, "RADESYS": "FK5"})
    mine = solution(seen.header(cards), SHAPE)
    pixels = np.random.default_rng(1).uniform(0, 100, (20, 2))
    assert np.allclose(mine.all_pix2world(pixels, 0), theirs.all_pix2world(pixels, 0))
