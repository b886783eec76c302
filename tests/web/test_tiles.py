"""Tiles: little-endian, row 0 first, smaller at the edges, and named by their content."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.frame import DQ, Frame
from calibrant.web.shelf import Shelf, Unknown
from calibrant.web.tiles import Place, Tile, tile

IMAGE = np.random.default_rng(4).integers(0, 60000, (1100, 700), np.uint16)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    found = Shelf()
    found.add(Frame(IMAGE, dq=(IMAGE > 59000).astype(np.uint32) * np.uint32(DQ.SATURATED)))
    return found


def get(shelf: Shelf, **at: object) -> Tile:
    where = {"plane": "data", "read": 0, "level": 0, "ty": 0, "tx": 0, **at}
    return tile(shelf, Place(shelf.entries()[0].id, **where))


def array(found: Tile) -> np.ndarray:
    return np.frombuffer(found.body, f"<{found.encoding}").reshape(found.shape)


def test_level_0_is_the_image(shelf: Shelf) -> None:
    inner, edge = get(shelf), get(shelf, ty=2, tx=1)
    assert (inner.encoding, inner.shape, edge.shape) == ("u2", (512, 512), (76, 188))
    np.testing.assert_array_equal(array(inner), IMAGE[:512, :512])
    np.testing.assert_array_equal(array(edge), IMAGE[1024:, 512:])


def test_levels_above_are_float(shelf: Shelf) -> None:
    mean, peak = get(shelf, level=1), get(shelf, level=1, of="peak")
    assert mean.encoding == peak.encoding == "f4" and mean.shape == (512, 350)
    blocks = IMAGE[:1024].reshape(512, 2, 350, 2)
    np.testing.assert_allclose(array(mean), blocks.mean(axis=(1, 3)), rtol=1e-6)
    assert np.isin(array(peak), IMAGE).all()


def test_flags_are_joined_above(shelf: Shelf) -> None:
    flags, above = get(shelf, plane="dq"), get(shelf, plane="dq", level=1)
    assert flags.encoding == above.encoding == "u4"
    np.testing.assert_array_equal(array(flags) > 0, IMAGE[:512, :512] > 59000)
    assert np.all(array(above)[:256, :256] >= array(flags)[::2, ::2])


def test_the_name_is_of_the_content(shelf: Shelf) -> None:
    other = Shelf()
    other.add(IMAGE)
    assert get(shelf).etag == get(other).etag != get(shelf, tx=1).etag


@pytest.mark.parametrize(
    "at",
    [
        {"read": 1}, {"read": -1}, {"level": 9}, {"level": -1}, {"ty": 3}, {"tx": 2}, {"ty": -1},
        {"plane": "x"}, {"plane": "read_dq"}, {"level": 1, "tx": 1},
    ],
)  # fmt: skip
def test_what_there_is_not(shelf: Shelf, at: dict) -> None:
    with pytest.raises(Unknown):
        get(shelf, **at)


def test_a_level_shows_mean_or_peak(shelf: Shelf) -> None:
    with pytest.raises(OptionError):
        get(shelf, of="median")
