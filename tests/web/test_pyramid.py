"""Levels of the pyramid: means are means, hot pixels survive, memory is that of a band."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from calibrant.web import pyramid
from calibrant.web.pyramid import BAND, build, halved, level_shape, levels_of, reduced


def of(image: np.ndarray, **options: object) -> pyramid.Pyramid:
    return build(lambda begin, stop: image[begin:stop], image.shape, **options)


def blocks(image: np.ndarray, level: int) -> np.ndarray:
    """Pixels of each block of 2**level: (rows, cols, pixels)."""
    size = 1 << level
    rows, cols = (length // size for length in image.shape)
    cut = image[: rows * size, : cols * size].reshape(rows, size, cols, size)
    return cut.swapaxes(1, 2).reshape(rows, cols, -1)


def test_every_level_has_half_the_pixels_rounded_up() -> None:
    assert level_shape((1001, 7), 1) == (501, 4)
    found = of(np.zeros((1301, 1003), np.float32))
    assert sorted(found.levels) == list(range(1, levels_of((1301, 1003))))
    for level, (mean, peak) in found.levels.items():
        assert mean.shape == peak.shape == level_shape((1301, 1003), level)


def test_means_are_means_of_blocks() -> None:
    image = np.random.default_rng(1).normal(1000, 30, (1536, 1024)).astype(np.float32)
    found = of(image)
    for level in (1, 2, 3):
        expected = blocks(image, level).astype(np.float64).mean(axis=2)
        np.testing.assert_allclose(found.levels[level][0], expected, rtol=1e-6)


@pytest.mark.parametrize("value", [5000.0, -5000.0])
def test_a_hot_or_dead_pixel_survives_to_the_top(value: float) -> None:
    image = np.random.default_rng(2).normal(0, 10, (1500, 1300)).astype(np.float32)
    image[777, 555] = value
    for level, (mean, peak) in of(image).levels.items():
        assert peak[777 >> level, 555 >> level] == np.float32(value)
        assert abs(mean[777 >> level, 555 >> level]) < abs(value) / 2  # the mean alone would lose it


def test_what_is_not_finite_is_left_out() -> None:
    image = np.ones((600, 600), np.float32)
    image[0, 0], image[1, 1], image[0, 1] = np.nan, np.inf, 3.0
    image[100:102, 100:102] = np.nan
    mean, peak = of(image).levels[1]
    assert (mean[0, 0], peak[0, 0]) == (2.0, 3.0)
    assert np.isnan(mean[50, 50]) and np.isnan(peak[50, 50])
    assert np.count_nonzero(np.isnan(mean)) == 1
    found = of(image)
    assert (found.low, found.high) == (1.0, 3.0)


def test_nothing_but_nan() -> None:
    found = of(np.full((700, 300), np.nan, np.float32))
    assert math.isnan(found.low) and math.isnan(found.high)
    assert all(np.isnan(mean).all() and np.isnan(peak).all() for mean, peak in found.levels.values())


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (513, 511)])
def test_odd_sizes(shape: tuple[int, int]) -> None:
    found = of(np.full(shape, 7, np.uint16))
    assert (found.low, found.high) == (7.0, 7.0)
    for mean, peak in found.levels.values():
        assert np.all(mean == 7) and np.all(peak == 7)


def test_the_largest_floats_do_not_overflow() -> None:
    top = np.finfo(np.float32).max
    mean, peak = halved(*[np.full((4, 4), top)] * 2, False)
    assert np.all(mean == top) and np.all(peak == top)


def test_flags_are_joined() -> None:
    flags = np.zeros((1100, 900), np.uint32)
    flags[700, 801], flags[701, 800], flags[3, 3] = 1 << 31, 4, 1
    for level, (both, _) in of(flags, flags=True).levels.items():
        assert both[700 >> level, 800 >> level] & ((1 << 31) | 4) == (1 << 31) | 4
        assert np.bitwise_or.reduce(both, axis=None) == (1 << 31) | 5


def test_levels_that_are_not_kept_are_made_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(3).normal(0, 1, (2048, 1024)).astype(np.float32)
    image[::17, ::13] = np.nan
    whole = of(image)
    for level in (1, 2, 3):
        for made, kept in zip(reduced(image, level), whole.levels[level], strict=True):
            np.testing.assert_array_equal(made, kept)
    monkeypatch.setattr(pyramid, "KEPT", 1 << 16)
    assert sorted(of(image).levels) == [3]


def test_memory_is_that_of_a_band_and_the_levels() -> None:
    """16 k x 4 k pixels, 256 MB, from rows that are made as they are asked for."""
    rows, cols = 1 << 14, 1 << 12
    tracemalloc.start()
    found = build(lambda begin, stop: np.full((stop - begin, cols), begin, np.float32), (rows, cols))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    band = BAND * cols * 4
    assert peak < found.nbytes + 6 * band
    assert (found.low, found.high) == (0.0, rows - BAND)
