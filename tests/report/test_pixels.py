"""What a picture shows of a frame: plane, blanks, flags, units."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import ShapeError
from calibrant.frame import DQ, NO_DATA, Frame
from calibrant.report.plots.pixels import FLAG_CLASSES, block_mean, block_or, flag_classes, shown, unit_text


def test_the_first_plane_of_a_cube_is_shown_and_told(rng):
    cube = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    what = shown(Frame(cube))
    assert np.array_equal(what.values, cube[0, 0])
    assert what.note == "plane 0, 0 of 2 × 5"
    assert shown(cube[0, 0]).note == ""


def test_a_lazy_plane_is_read():
    class OnDisk:
        shape = (2, 3)

        def load(self):
            return np.arange(6.0).reshape(2, 3)

    assert shown(Frame(OnDisk())).values.sum() == 15


def test_good_pixels_leave_out_what_is_blank_or_not_to_be_used():
    values = np.array([[1.0, np.nan, 3.0, 4.0, np.inf, 6.0]])
    dq = np.array([[0, 0, DQ.DO_NOT_USE, NO_DATA, 0, DQ.HOT]], np.uint32)
    what = shown(Frame(values, dq=dq))
    assert what.good.tolist() == [1.0, 6.0]
    assert what.blank.tolist() == [[False, True, False, True, True, False]]


def test_flags_are_ignored_where_they_leave_nothing():
    dq = np.full((1, 3), DQ.DO_NOT_USE, np.uint32)
    assert shown(Frame(np.array([[1.0, 2.0, np.nan]]), dq=dq)).good.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "bad", [np.zeros(5), np.zeros((0, 4)), np.zeros((2, 2), complex), np.array([["a"]])], ids=str
)
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(ShapeError, match="rows and columns"):
        shown(bad)


def test_block_mean_ignores_blanks_and_keeps_hot_pixels():
    values = np.ones((4, 6))
    values[0, 0], values[3, 5] = np.nan, 9.0
    blank = ~np.isfinite(values)
    blank[0:2, 2:4] = True
    mean = block_mean(values, blank, 2)
    assert mean.shape == (2, 3)
    assert mean[0, 0] == 1.0
    assert np.isnan(mean[0, 1])
    assert mean[1, 2] == 3.0


def test_block_or_loses_no_flag():
    dq = np.zeros((5, 7), np.uint32)
    dq[4, 6], dq[0, 1], dq[1, 0] = DQ.HOT, DQ.DEAD, DQ.SATURATED
    blocks = block_or(dq, 3)
    assert blocks.shape == (2, 3)
    assert blocks[0, 0] == DQ.DEAD | DQ.SATURATED
    assert blocks[1, 2] == DQ.HOT
    assert np.count_nonzero(blocks) == 2


def test_every_bit_has_a_class_and_the_graver_one_wins():
    dq = np.array([list(DQ)], np.uint32)
    index, found = flag_classes(dq, 0xFFFFFFFF)
    assert (index >= 0).all()
    assert sum(n for _, n in found) == 32
    both = np.array([[DQ.SATURATED | DQ.HOT, DQ.HOT | DQ.JUMP_DET, 0]], np.uint32)
    index, _ = flag_classes(both, 0xFFFFFFFF)
    assert [FLAG_CLASSES[i].name for i in index[0, :2]] == ["saturated", "hot or warm"]
    assert index[0, 2] == -1


def test_only_the_bits_asked_for_are_classed():
    dq = np.array([[DQ.SATURATED | DQ.HOT, DQ.SATURATED]], np.uint32)
    index, found = flag_classes(dq, DQ.HOT)
    assert index.tolist() == [[2, -1]]
    assert [(kind.name, n) for kind, n in found] == [("hot or warm", 1)]


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("adu", "ADU"),
        ("electron/s", "e⁻/s"),
        ("electron/adu", "e⁻/ADU"),
        ("adu2/s2", "ADU²/s²"),
        ("", ""),
        (None, ""),
        ("1/s", "1/s"),
        ("%", "%"),
        ("adu s-1", "ADU s⁻¹"),
    ],
)
def test_units_as_words(unit, text):
    assert unit_text(unit) == text
