"""Real frames, as their cameras wrote them, against astropy."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from calibrant.files.fits import inspect, open_source, read_header
from calibrant.files.tables import read_table

pytestmark = pytest.mark.real


def test_headers_and_pixels_of_two_cameras(real_data):
    paths = sorted([*real_data.glob("st402/*.FIT"), *real_data.glob("stl1001/*.FIT")])
    assert len(paths) == 90
    for number, path in enumerate(paths):
        header = read_header(path)
        with warnings.catch_warnings(), fits.open(path) as theirs:
            warnings.simplefilter("ignore")  # the cameras' cards are not all after the standard
            for key, value in theirs[0].header.items():
                if key in ("HISTORY", "COMMENT"):
                    assert value in header.lines(key)
                else:
                    assert header[key] == value, (path, key)
            if number % 9 == 0:
                np.testing.assert_array_equal(open_source(path).load(), theirs[0].data)


def test_a_reference_file_of_many_units(real_data):
    [path] = real_data.glob("mrs/*DISTORTION*.fits")
    contents = inspect(path)
    with fits.open(path) as theirs:
        assert [hdu.name for hdu in contents.hdus] == [hdu.name.upper() for hdu in theirs]
        np.testing.assert_array_equal(open_source(path, "Slice_Number").load(), theirs[1].data)
        for hdu, other in zip(contents.hdus[2:], theirs[2:], strict=True):
            table = read_table(contents, hdu)
            assert list(table) == other.columns.names
            for name in table:
                np.testing.assert_array_equal(table[name], other.data[name])
