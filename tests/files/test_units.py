"""Words for units, as cameras and pipelines write them."""

import pytest
from astropy import units as u

from calibrant.errors import UnitError
from calibrant.files.units import CANONICAL, parse_unit, square

WORDS = {
    "adu": ["adu", "ADU", "DN", "dn", "counts", "COUNTS", "count", "ct", " Adu ", "Data Number"],
    "electron": ["electron", "electrons", "ELECTRONS", "e-", "e", "photoelectrons"],
    "adu/s": ["adu/s", "DN/s", "counts / sec", "ADU s-1", "DN.s^-1", "ct s**-1", "cps", "counts per second"],
    "electron/s": ["electron/s", "ELECTRONS/S", "e-/s", "e-/sec", "electron s-1", "e/s", "electron s**(-1)"],
    "": ["1", "dimensionless", "none", "normalized"],
}


@pytest.mark.parametrize(("unit", "word"), [(unit, word) for unit, words in WORDS.items() for word in words])
def test_words_for_units(unit, word):
    assert parse_unit(word) == unit


@pytest.mark.parametrize("unit", CANONICAL)
def test_astropy_reads_what_we_write(unit):
    if unit:
        assert parse_unit(unit) == unit
        assert u.Unit(square(unit)) == u.Unit(unit) ** 2
        assert parse_unit(u.Unit(unit).to_string()) == unit
    else:
        assert square(unit) == ""


def test_no_unit_is_none():
    assert parse_unit(None) is None
    assert parse_unit("   ") is None


@pytest.mark.parametrize("word", ["m", "s", "adus/m", "Jy/beam", "electron2", "adu/s/s", "per second", "/s"])
def test_other_units_are_refused_with_the_known_ones(word):
    with pytest.raises(
        UnitError, match=r"a\.fits: the unit .* is unknown: expected adu \(DN, counts\), electron"
    ):
        parse_unit(word, "a.fits")
