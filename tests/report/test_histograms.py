"""Histograms against np.histogram."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError, SelectionError, UnitError
from calibrant.frame import DQ, Exposure, Frame
from calibrant.report.plots import histogram
from calibrant.report.plots.histograms import bin_edges


def curves(figure):
    return [patch.get_data() for patch in figure.axes[0].patches if hasattr(patch, "get_data")]


def test_counts_are_those_of_numpy(rng, seen):
    frames = [Frame(rng.normal(1000, 7, (90, 80)), exposure=Exposure(path=f"n/b{i}.fit")) for i in (1, 2)]
    figure = histogram(frames, bins=50, span=(980, 1020), title="Biases")
    for frame, curve in zip(frames, curves(figure), strict=True):
        counts, edges = np.histogram(frame.data, 50, (980, 1020))
        assert np.array_equal(curve.values, counts)
        assert np.allclose(curve.edges, edges)
    outside = np.count_nonzero((frames[0].data < 980) | (frames[0].data > 1020))
    words = seen.said(figure)
    assert f"b1.fit ({outside} outside)" in words
    assert "signal [ADU]" in words
    assert "Biases" in words
    assert figure.axes[0].get_yscale() == "log"
    assert histogram(frames, log=False).axes[0].get_yscale() == "linear"


def test_flagged_and_empty_pixels_do_not_count(rng):
    data = rng.normal(5, 1, (20, 30))
    dq = np.zeros(data.shape, np.uint32)
    data[0, 0], data[0, 1], dq[0, 1], dq[0, 2] = np.nan, 1e6, DQ.DO_NOT_USE, DQ.HOT
    (curve,) = curves(histogram(Frame(data, dq=dq), span=(-100, 2e6)))
    assert curve.values.sum() == data.size - 2


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_whole_numbers_get_whole_bins(rng, kind):
    """Bins of 1.5 counts would hold one value and two in turns: a comb that no detector made."""
    data = rng.normal(1000, 40, (200, 200)).round().astype(kind)
    edges = bin_edges([data.ravel()], 200)
    widths = np.diff(edges)
    assert (widths == np.rint(widths)).all()
    assert np.ptp(widths) == 0
    assert edges[0] % 1 == 0.5
    assert len(widths) <= 200


def test_the_range_is_robust():
    data = np.append(np.linspace(0.0, 1.0, 99_999), 1e9)
    edges = bin_edges([data], 100)
    assert -0.1 < edges[0] < 0.01
    assert 0.99 < edges[-1] < 1.1


@pytest.mark.parametrize(
    "values", [np.full(50, 3.7), np.full(50, 65_535, np.uint16), np.array([]), np.full(9, -1e30)]
)
def test_bins_exist_for_dull_values(values):
    edges = bin_edges([values], 20)
    assert (np.diff(edges) > 0).all()
    assert np.histogram(values, edges)[0].sum() == values.size


def test_names_of_curves(rng, seen):
    data = rng.normal(0, 1, (5, 6))
    assert "raw (" in seen.said(histogram({"raw": data}, span=(0, 1)))
    assert "frame 1" in seen.said(histogram([data, data]))
    assert "pixels" in seen.said(histogram(data))


def test_many_long_names_hide_no_curve(rng):
    named = {
        f"a-very-long-name-of-a-file-that-goes-on-{i:02d}.fits": rng.normal(i, 1, (9, 9)) for i in range(9)
    }
    figure = histogram(named, title="Many")
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    axes = figure.axes[0]
    key = axes.get_legend().get_window_extent(renderer)
    assert not key.overlaps(axes.get_window_extent(renderer))
    assert not key.overlaps(figure.texts[0].get_window_extent(renderer))
    assert key.x1 <= figure.bbox.x1
    styles = {(curve.get_edgecolor(), str(curve.get_linestyle())) for curve in axes.patches}
    assert len(styles) == 9


def test_mistakes_are_named(rng):
    data = rng.normal(0, 1, (5, 6))
    with pytest.raises(UnitError, match="one unit"):
        histogram([Frame(data), Frame(data, unit="electron")])
    with pytest.raises(OptionError, match="span"):
        histogram(data, span=(1, 1))
    with pytest.raises(OptionError, match="bins"):
        histogram(data, bins=0)
    with pytest.raises(SelectionError, match="nothing to count"):
        histogram([])
