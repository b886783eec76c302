"""FITS section strings against what they mean, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrant.errors import ConfigError, ShapeError
from calibrant.sections import Section, parse_section

end = st.integers(1, 40)


@given(x1=end, x2=end, y1=end, y2=end)
def test_a_section_is_the_pixels_that_fits_means(x1, x2, y1, y2):
    image = np.arange(40 * 40).reshape(40, 40)
    columns = range(x1, x2 + 1) if x1 <= x2 else range(x1, x2 - 1, -1)
    rows = range(y1, y2 + 1) if y1 <= y2 else range(y1, y2 - 1, -1)
    expected = [[image[y - 1, x - 1] for x in columns] for y in rows]
    section = parse_section(f"[{x1}:{x2},{y1}:{y2}]")
    np.testing.assert_array_equal(section.of(image), expected)
    assert parse_section(section.text) == section
    assert section.shape == np.shape(expected)


def test_stars_mean_the_whole_axis():
    section = parse_section("[*, -*]").within((30, 20))
    assert section == Section(slice(0, 30), slice(0, 20), flip_rows=True)
    assert parse_section("[-*,*]").text == "[-*,*]"


def test_a_single_number_is_one_pixel():
    assert parse_section("[3,5]") == Section(slice(4, 5), slice(2, 3))


@pytest.mark.parametrize(
    "text", ["", "[1:2]", "1:2,3:4", "[a:b,1:2]", "[1:2,3:4,5:6]", "[0:5,1:2]", "[1:2,-3:4]"]
)
def test_what_is_no_section_is_refused(text):
    with pytest.raises(ConfigError):
        parse_section(text)


def test_a_section_outside_the_image_is_refused_with_its_text():
    with pytest.raises(ShapeError, match=r"\[1:21,1:5\].*outside"):
        parse_section("[1:21,1:5]").within((30, 20))
