"""Sky coordinates survive trimming: the same star lies at the same place of the sky, says astropy."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from calibrant.effects._trimmed_cards import trimmed_cards


def header(matrix: str) -> fits.Header:
    cards = fits.Header()
    cards["NAXIS"], cards["NAXIS1"], cards["NAXIS2"] = 2, 120, 100
    cards["CTYPE1"], cards["CTYPE2"] = "RA---TAN", "DEC--TAN"
    cards["CRVAL1"], cards["CRVAL2"] = 202.47, 47.19
    cards["CRPIX1"], cards["CRPIX2"] = (61.5, "reference column"), 49.25
    if matrix == "CDELT":
        cards["CDELT1"], cards["CDELT2"] = -2e-4, 2e-4
    else:
        for key, value in (("1_1", -2e-4), ("1_2", 3e-5), ("2_1", 3e-5), ("2_2", 2e-4)):
            cards[f"{matrix}{key}"] = value if matrix == "CD" else value / 2e-4
        if matrix == "PC":
            cards["CDELT1"], cards["CDELT2"] = 2e-4, 2e-4
    cards["BIASSEC"], cards["TRIMSEC"] = "[1:10,1:100]", "[11:110,5:94]"
    cards["OBJECT"] = "M51"
    return cards


@pytest.mark.parametrize("matrix", ["CD", "PC", "CDELT"])
@pytest.mark.parametrize("flipped", [(False, False), (True, False), (False, True), (True, True)])
def test_the_sky_stays_where_it_is(matrix: str, flipped: tuple[bool, bool]) -> None:
    old = header(matrix)
    rows, cols = slice(4, 94), slice(10, 110)
    origin = (93 if flipped[0] else 4, 109 if flipped[1] else 10)
    text = trimmed_cards(old.tostring(padding=False, endcard=False), origin, flipped, (90, 100))
    new = fits.Header.fromstring(text)
    assert (new["NAXIS1"], new["NAXIS2"]) == (100, 90)
    assert "BIASSEC" not in new
    assert "TRIMSEC" not in new
    assert new["OBJECT"] == "M51"
    assert new.comments["CRPIX1"] == "reference column"
    index = np.arange(100 * 120).reshape(100, 120)[rows, cols]
    index = index[:: -1 if flipped[0] else 1, :: -1 if flipped[1] else 1]
    row, col = np.array([0, 7, 89]), np.array([0, 50, 99])
    old_row, old_col = np.divmod(index[row, col], 120)
    before = WCS(old).pixel_to_world_values(old_col, old_row)
    after = WCS(new).pixel_to_world_values(col, row)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-10)


def test_cards_without_numbers_are_left_alone() -> None:
    text = "CRPIX1  = 'none'".ljust(80) + "COMMENT CRPIX1".ljust(80)
    assert trimmed_cards(text, (1, 1), (False, False), (5, 5)) == text


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("flipped", [(False, False), (True, False), (False, True)])
def test_physical_pixels_stay_what_they_are(flipped: tuple[bool, bool], written: bool) -> None:
    """As IRAF has it: pixel = LTM * physical + LTV, both from 1."""
    old = fits.Header({"LTV1": -7.0, "LTV2": 3.0})
    if written:
        old["LTM1_1"], old["LTM2_2"] = 1.0, 1.0
    origin = (93 if flipped[0] else 4, 109 if flipped[1] else 10)
    text = trimmed_cards(old.tostring(padding=False, endcard=False), origin, flipped, (90, 100))
    new = fits.Header.fromstring(text)
    for number, axis, pixel in ((1, 1, 17), (2, 0, 6)):
        index = origin[axis] - (pixel - 1) if flipped[axis] else origin[axis] + pixel - 1
        physical = index + 1 - old[f"LTV{number}"]
        found = (pixel - new[f"LTV{number}"]) / new.get(f"LTM{number}_{number}", 1.0)
        assert found == physical
