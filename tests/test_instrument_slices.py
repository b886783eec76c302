"""Slice maps: ids, gaps and coordinates from polynomials, whatever way wavelength runs."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.instrument.slices import Line, SliceMap, slice_map

SHAPE = 60, 50
LINES = {
    102: Line((12.0, 0.2, -2.0), (5.0, 0.4, -0.02), 10.0, 0.2, (-0.1, 0.0, 0.1), beta=-0.1),
    101: Line((30.0, 0.1, -2.0), (5.1, 0.4), 10.0, -0.2, beta=0.1),
}


def made(dispersion="rows", shape=SHAPE):
    return slice_map(LINES, shape, dispersion=dispersion, blind=2)


def test_slices_lie_about_their_lines_and_are_named_from_left_to_right():
    found = made()
    assert found.numbers == (102, 101)
    row = 30
    cols = np.flatnonzero(found.ids[row] == 102)
    u = (row - 29.5) / 30
    assert abs(cols.mean() - (12 + 0.2 * u - 2 * u * u)) <= 0.5
    assert len(cols) == 10
    inside = found.mask(101)
    assert np.isfinite(found.alpha[inside]).all() and np.isnan(found.alpha[~inside & (found.ids == 0)]).all()
    assert (np.diff(found.alpha[row, np.flatnonzero(inside[row])]) < 0).all()  # alpha falls there
    assert np.all(found.beta[inside] == 0.1)


def test_smile_is_the_slope_of_lines_of_one_wavelength():
    found = made()
    cols = np.flatnonzero(found.ids[-1] == 102)
    first, second = found.wavelength[-1, cols[4]], found.wavelength[-1, cols[5]]
    per_row = found.wavelength[-1, cols[4]] - found.wavelength[-2, cols[4]]
    centre = per_row * 0.1 * -1  # 0.1 rows per column at the last row, so the column to the right is bluer
    assert second - first == pytest.approx(centre, rel=0.2)


def test_the_other_direction_is_the_transpose():
    rows, cols = made(), made("cols", SHAPE[::-1])
    assert np.array_equal(cols.ids.T, rows.ids)
    turned = cols.turned()
    assert np.array_equal(turned.wavelength, rows.wavelength, equal_nan=True)
    assert turned.numbers == rows.numbers == cols.numbers
    assert np.array_equal(cols.gaps(1).T, rows.gaps(1))
    assert np.shares_memory(turned.ids, cols.ids)


def test_gaps_are_numbered_and_keep_their_distance():
    found = made()
    gaps = found.gap_numbers()
    assert set(np.unique(gaps)) == {0, 1, 2, 3}
    assert [int(gaps[30, c]) for c in (4, 21, 45)] == [1, 2, 3]
    assert not (found.gaps() & found.reference).any()
    assert not (found.gaps() & found.light()).any()
    near = found.gaps() & ~found.gaps(1)
    assert near[30].sum() == 4  # one column beside each edge of each slice


def test_place_across_a_slice():
    place = made().within(102)
    row = place[30]
    assert np.nanmin(row) == pytest.approx(0.05) and np.nanmax(row) == pytest.approx(0.95)


def test_what_cannot_be_is_refused():
    ids = np.zeros((4, 5), np.int32)
    with pytest.raises(ShapeError, match="alpha"):
        SliceMap(ids, alpha=np.zeros((5, 4)))
    with pytest.raises(OptionError, match="dispersion"):
        SliceMap(ids, dispersion="up")
    with pytest.raises(SelectionError, match="no such slice"):
        made().mask(7)
    with pytest.raises(ShapeError, match="does not fit"):
        made().check_fits((2, 10, 10), "frame.fits")
