"""Numbers of the page against NumPy's."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.stats import zscale, zscale_lines
from calibrant.web import pyramid, statistics
from calibrant.web.pyramid import build
from calibrant.web.statistics import Box, box_numbers, cut, histogram, limits, line_profile

IMAGE = np.random.default_rng(5).normal(100, 5, (1200, 700)).astype(np.float32)


def rows(begin: int, stop: int) -> np.ndarray:
    return IMAGE[begin:stop]


def of(image: np.ndarray) -> statistics.Rows:
    return lambda begin, stop: image[begin:stop]


@pytest.mark.parametrize("shape", [(1200, 700), (9, 4096), (14, 4096), (5000, 3), (600, 1), (1, 1), (24, 25)])
def test_zscale_of_the_lines_it_looks_at_is_that_of_the_image(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(6).normal(0, 1, shape)
    assert zscale(image[zscale_lines(*shape)]) == zscale(image)


def test_limits() -> None:
    found = limits(rows, build(rows, IMAGE.shape))
    assert (found["min"], found["max"]) == (IMAGE.min(), IMAGE.max())
    assert found["step"] == 1
    assert found["median"] == pytest.approx(float(np.median(IMAGE)), abs=1e-5)
    assert found["sigma"] == pytest.approx(5, rel=0.01)
    assert tuple(found["zscale"]) == zscale(IMAGE)
    assert found["percentiles"]["99.5"] == pytest.approx(float(np.percentile(IMAGE, 99.5)))
    assert set(found["percentiles"]) >= {"0.5", "1", "2.5", "97.5", "99", "99.5"}


def test_limits_of_a_large_image_come_from_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "LOOKED_AT", 10_000)
    found = limits(rows, build(rows, IMAGE.shape))
    assert found["step"] > 1 and found["step"] % 2 == 1
    assert found["median"] == pytest.approx(100, abs=0.5)


def test_limits_of_nothing() -> None:
    blank = np.full((30, 40), np.nan)
    found = limits(of(blank), build(of(blank), blank.shape))
    assert found["zscale"] is None and found["median"] is None and found["percentiles"]["1"] is None


def test_zscale_where_few_pixels_are_finite() -> None:
    blank = np.full((1000, 1000), np.nan)
    blank[:3, :3] = np.arange(9).reshape(3, 3)
    low, high = limits(of(blank), build(of(blank), blank.shape))["zscale"]
    assert 0 <= low < high <= 8


@pytest.mark.parametrize(("few", "expected"), [(1.0, [0.0, 1.0]), (0.0, [-0.5, 0.5])])
def test_zscale_where_most_pixels_agree(few: float, expected: list[float]) -> None:
    image = np.zeros((1000, 1000))
    image[:2, :2] = few
    assert limits(of(image), build(of(image), image.shape))["zscale"] == expected


def test_a_box() -> None:
    image = IMAGE.copy()
    image[700, 50] = np.nan
    found = box_numbers(of(image), Box((500, 900), (10, 60)))
    part = image[500:900, 10:60].astype(np.float64)
    assert (found["n"], found["not_finite"], found["pixels"]) == (part.size - 1, 1, part.size)
    for name, expected in (
        ("mean", np.nanmean(part)), ("median", np.nanmedian(part)), ("std", np.nanstd(part)),
        ("min", np.nanmin(part)), ("max", np.nanmax(part)), ("sum", np.nansum(part)),
    ):  # fmt: skip
        assert found[name] == pytest.approx(expected), name
    assert image[tuple(found["max_at"])] == found["max"]
    assert image[tuple(found["min_at"])] == found["min"]


def test_a_large_box_says_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "COUNTED", 1000)
    found = box_numbers(rows, Box((3, 1200), (1, 700)))
    assert found["step"] > 1
    assert found["n"] == IMAGE[3:, 1:].size  # all of it; only the median is of a part
    assert IMAGE[tuple(found["max_at"])] == np.float32(found["max"]) == IMAGE[3:, 1:].max()
    assert found["mean"] == pytest.approx(IMAGE[3:, 1:].astype(np.float64).mean())
    part = IMAGE[3 :: found["step"], 1 :: found["step"]]
    assert found["median"] == pytest.approx(float(np.median(part)))


def test_histogram_counts_everything_once() -> None:
    found = histogram(rows, Box.whole(IMAGE.shape), 64, 90.0, 110.0)
    assert sum(found["counts"]) + found["below"] + found["above"] == IMAGE.size
    expected, _ = np.histogram(IMAGE, 64, (90.0, 110.0))
    np.testing.assert_array_equal(found["counts"], expected)


def test_bins_of_whole_numbers_hold_whole_units() -> None:
    image = np.repeat(np.arange(100, 400, dtype=np.uint16), 10).reshape(60, 50)
    found = histogram(of(image), Box.whole(image.shape), 100, None, None)
    assert set(found["counts"]) == {30}  # no comb
    assert found["edges"][0] == 99.5


@pytest.mark.parametrize(("bins", "low", "high"), [(0, None, None), (5000, None, None), (10, 3.0, 1.0)])
def test_senseless_histograms_are_refused(bins: int, low: float | None, high: float | None) -> None:
    with pytest.raises(OptionError):
        histogram(rows, Box.whole(IMAGE.shape), bins, low, high)


@pytest.mark.parametrize("value", [np.nan, 3.0, 0.0, -2.0])
def test_histogram_of_one_value(value: float) -> None:
    image = np.full((20, 20), value, np.float32)
    found = histogram(of(image), Box.whole(image.shape), 10, None, None)
    assert sum(found["counts"]) == (0 if np.isnan(value) else 400)


def test_cuts() -> None:
    assert cut(rows, IMAGE.shape, row=600) == IMAGE[600].astype(float).tolist()
    assert cut(rows, IMAGE.shape, col=3) == IMAGE[:, 3].astype(float).tolist()


def test_a_cut_along_a_column_keeps_no_bands() -> None:
    tracemalloc.start()
    found = cut(lambda begin, stop: np.ones((stop - begin, 1000), np.float32), (20 * 512, 1000), col=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [1.0] * 20 * 512
    assert peak < 5 * 512 * 1000 * 4


def test_a_line_along_a_row_is_the_row() -> None:
    found = line_profile(rows, IMAGE.shape, (600, 10), (600, 40), 1)
    np.testing.assert_array_equal(np.float32(found["values"]), IMAGE[600, 10:41])
    assert found["cols"][0] == 10 and found["cols"][-1] == 40


def test_a_wide_line_averages_across() -> None:
    found = line_profile(rows, IMAGE.shape, (510, 20), (515, 20), 3)
    np.testing.assert_allclose(found["values"], IMAGE[510:516, 19:22].mean(axis=1), rtol=1e-6)


def test_a_line_leaves_the_image() -> None:
    found = line_profile(rows, IMAGE.shape, (-3, 5), (2, 5), 1)
    assert found["values"][:3] == [None] * 3
    assert found["values"][3:] == IMAGE[0:3, 5].astype(float).tolist()
    assert line_profile(rows, IMAGE.shape, (4, 4), (4, 4), 1)["values"] == [float(IMAGE[4, 4])]
