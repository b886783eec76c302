"""Series: points and lines are those of the product, never measured here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.product import Product, Quantity
from calibrant.report.plots import dark_line, drift, noise_map, trend
from calibrant.report.plots.series import Line


def points(figure):
    return figure.axes[0].lines[0].get_xydata()


def line(figure):
    return figure.axes[0].lines[-1].get_xydata()


def test_drift_shows_the_levels_and_the_measured_slope(bias, seen):
    figure = drift(bias)
    level = bias.tables["frames"]["level"]
    assert np.allclose(points(figure), np.column_stack([np.arange(10), level]))
    (x0, y0), (x1, y1) = line(figure)
    assert (y1 - y0) / (x1 - x0) == pytest.approx(0.05)
    assert (y0 + y1) / 2 == pytest.approx(level.mean())
    words = seen.said(figure)
    assert "drift 0.0500 ± 0.0030 ADU per frame" in words
    assert "level [ADU]" in words
    assert "frame" in seen.texts(figure)


def test_drift_against_time(bias, seen):
    figure = drift(bias, against="time")
    assert points(figure)[:, 0] == pytest.approx(np.arange(10) * 0.5)
    assert "time since the first frame [min]" in seen.said(figure)
    assert len(figure.axes[0].lines) == 1
    frames = {**bias.tables["frames"], "start": np.full(10, -1)}
    with pytest.raises(SelectionError, match="times"):
        drift(replace(bias, tables={"frames": frames}), against="time")
    with pytest.raises(OptionError, match="number or time"):
        drift(bias, against="temperature")


def test_dark_levels_lie_on_their_line(dark, seen):
    figure = dark_line(dark)
    assert points(figure)[:, 0].tolist() == [10, 20, 30, 60, 150, 300]
    assert line(figure) == pytest.approx(np.array([[10, 0.4 + 3.5], [300, 0.4 + 105.0]]))
    words = seen.said(figure)
    assert "dark time [s]" in words
    assert "median level [ADU]" in words
    assert "slope 0.3500 ± 0.0020 ADU/s" in words


def test_darks_of_one_time_are_shown_frame_by_frame_with_the_level_of_the_rate(dark, seen):
    one = replace(
        dark,
        tables={"frames": {"time": np.full(5, 60.0), "median": np.full(5, 21.0)}},
        quantities=(Quantity("rate", 0.35, None, "adu/s"),),
    )
    figure = dark_line(one)
    assert points(figure)[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert line(figure) == pytest.approx(np.array([[0, 21.0], [4, 21.0]]))
    words = seen.said(figure)
    assert "level of each frame" in words and "dark time 60 s" in words and "frame" in seen.texts(figure)
    holding = replace(one, keys={"includes_bias": True}, quantities=())
    assert len(dark_line(holding).axes[0].lines) == 1


def test_the_map_of_read_noise(bias, seen):
    figure = noise_map(bias)
    words = seen.said(figure)
    assert "read noise [ADU]" in words
    assert "read noise 6.7020 ± 0.0051 ADU" in words
    image, histogram = figure.axes[0], figure.axes[-1]
    assert np.array_equal(image.images[0].get_array(), bias.planes["read_noise"])
    counts = histogram.patches[0].get_data().values
    assert counts.sum() >= 0.998 * 60 * 80
    assert histogram.lines[0].get_xdata()[0] == 6.702
    with pytest.raises(SelectionError, match="no map"):
        noise_map(Product("bias", planes={"data": bias.data}))


def test_missing_tables_are_named(dark):
    with pytest.raises(SelectionError, match=r"frames\.median, frames\.time|frames\.time, frames\.median"):
        drift(dark)
    with pytest.raises(SelectionError, match="no tables"):
        dark_line(Product("dark"))


def test_trend_leaves_out_what_is_not_finite():
    figure = trend(
        [0, 1, 2], [5, np.nan, 7], xlabel="t [s]", ylabel="y", sigma=[1, 1, 2], line=Line(5, 1, "fit")
    )
    assert points(figure).tolist() == [[0, 5], [2, 7]]
    with pytest.raises(ShapeError):
        trend([1, 2], [1], xlabel="", ylabel="")
    with pytest.raises(SelectionError, match="no point"):
        trend([1], [np.nan], xlabel="", ylabel="")


@pytest.mark.parametrize("make", [drift, noise_map])
def test_no_words_overlap(bias, make):
    figure = make(bias)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    boxes += [axes.get_window_extent(renderer) for axes in figure.axes]
    boxes += [axes.get_legend().get_window_extent(renderer) for axes in figure.axes if axes.get_legend()]
    for i, one in enumerate(boxes):
        assert one.x1 <= figure.bbox.x1
        assert one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(other) for other in boxes[:i])
