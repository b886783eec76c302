"""The focal plane: detectors in their places, amplifiers in colours, what is missing in grey."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from calibrant.errors import ConfigError, SelectionError
from calibrant.instrument import FocalPlane
from calibrant.product import Product, Quantity
from calibrant.report import plots
from calibrant.report.plots.canvas import encode
from calibrant.report.plots.grids import NOTHING
from calibrant.report.plots.tiles import rising

CAMERA = SimpleNamespace(name="camera", focal_plane=FocalPlane(rows=(("a", "b"), ("c", "d"))))
PLACES = {
    "name": np.array(["1", "2"]),
    "place": np.array(["[1:10,1:20]", "[20:11,1:20]"]),
    "rows": np.full(2, 20),
    "cols": np.full(2, 20),
}


def product(detector, *values, unit="electron/adu"):
    told = tuple(Quantity("gain", v, 0.01, unit, n) for n, v in zip("12", values, strict=False))
    return Product("gain", "camera", {"detector": detector}, tables={"amplifiers": PLACES}, quantities=told)


def tile_at(axes, row, col):
    """Colours of the tile whose lower left corner is there."""
    (found,) = [p for p in axes.patches if (p.get_y(), p.get_x()) == (row, col)]
    return to_hex(found.get_facecolor())


def test_detectors_stand_in_their_places_with_their_numbers(seen):
    figure = plots.focal_plane([product("a", 1.0, 1.2), product("c", 1.4, np.nan)], CAMERA, "gain")
    axes = figure.axes[0]
    # one pixel of gap, a twentieth of a detector; rows from the bottom
    low, high, third = (tile_at(axes, *at) for at in ((0, 0), (0, 10), (21, 0)))
    assert len({low, high, third}) == 3
    assert tile_at(axes, 21, 10) == NOTHING.lower()  # measured, but no number
    assert tile_at(axes, 0, 21) == tile_at(axes, 21, 21) == NOTHING.lower()  # no product
    words = seen.said(figure)
    for told in ("1.000", "1.400", "none", "b\nno product", "gain [e⁻/ADU]", "3 of 4 measured", "of b, d"):
        assert told in words


def test_a_quantity_of_whole_detectors(seen):
    whole = [
        Product("dark", "camera", {"detector": d}, quantities=(Quantity("rate", v, None, "adu/s"),))
        for d, v in (("a", 0.1), ("d", 0.3))
    ]
    words = seen.said(plots.focal_plane(whole, CAMERA, "rate"))
    assert "a\n0.1" in words and "d\n0.3" in words and "rate [ADU/s]" in words


def test_what_cannot_be_drawn_is_said():
    one = product("a", 1.0, 1.1)
    with pytest.raises(SelectionError, match="no focal plane"):
        plots.focal_plane([one], SimpleNamespace(name="camera", focal_plane=None), "gain")
    with pytest.raises(SelectionError, match="no product has the quantity 'noise'"):
        plots.focal_plane([one], CAMERA, "noise")
    with pytest.raises(SelectionError, match="two of 'a'"):
        plots.focal_plane([one, one], CAMERA, "gain")
    with pytest.raises(ConfigError, match="no detector 'z'"):
        plots.focal_plane([product("z", 1.0, 1.1)], CAMERA, "gain")
    with pytest.raises(SelectionError):
        plots.focal_plane([], CAMERA, "gain")


def test_the_same_bytes():
    made = [encode(plots.focal_plane([product("a", 1.0, 1.2)], CAMERA, "gain"), dpi=30) for _ in range(2)]
    assert made[0] == made[1]


def test_detectors_together():
    both = [product("a", 1.0, 1.2), product("c", 1.4, np.nan)]
    (word,) = made = plots.together(both, CAMERA)
    assert word == "focal_plane_gain" and len(made[word]().axes) == 2
    assert plots.together(both[:1], CAMERA) == {}
    assert plots.together(both, SimpleNamespace(name="camera", focal_plane=None)) == {}


def test_one_value_far_off_leaves_the_colours_to_the_others():
    values = np.append(1.0 + 0.01 * np.arange(14), 30.0)
    scale = rising(values)
    assert scale.vmin == 1.0 and scale.vmax < 2.0
    few = rising(np.array([1.0, 2.0, 30.0, np.nan]))
    assert (few.vmin, few.vmax) == (1.0, 30.0)
    same = rising(np.full(3, 5.0))
    assert same.vmin < 5.0 < same.vmax
