"""Several images on one page: masters, and the steps of a frame."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError, SelectionError
from calibrant.frame import DQ, Frame
from calibrant.product import Product, Quantity
from calibrant.report.plots import masters, sequence
from calibrant.report.plots.panels import product_facts, product_title, quantity_text


def images(figure):
    return [axes for axes in figure.axes if axes.images and axes.get_xlabel() == "column [pixel]"]


def no_overlap(figure):
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
    boxes += [axes.get_tightbbox(renderer) for axes in images(figure)]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 < one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0 < one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(other) for other in boxes[:i])


def test_masters_have_their_own_limits_units_and_facts(bias, dark, seen):
    figure = masters([bias, dark], limits="percentile", low=1, high=99, title="Night one")
    first, second = images(figure)
    assert first.images[0].get_clim() == pytest.approx(tuple(np.percentile(bias.data, [1, 99])))
    assert second.images[0].get_clim() == pytest.approx(tuple(np.percentile(dark.data, [1, 99])))
    words = seen.said(figure)
    for told in (
        "Night one",
        "Master bias of 10 frames",
        "Master dark of 6 frames",
        "−5.2 °C",
        "level 1000.300 ± 0.012 ADU",
        "read noise 6.7020 ± 0.0051 ADU",
        "signal [ADU]",
        "signal [ADU/s]",
        "60 × 80",
    ):
        assert told in words
    assert "(A)" not in words, "single places are left to the tables"
    assert "binned" not in words


def test_flags_and_numbers_are_shown_where_there_is_no_image(bias, defects, seen):
    gain = Product("gain", quantities=(Quantity("gain", 1.94, 0.01, "electron/adu", "A"),))
    figure = masters([bias, defects, gain])
    words = seen.said(figure)
    assert len(images(figure)) == 2
    assert "Defects" in words
    assert "hot or warm: 1" in words
    assert "gain (A) 1.940 ± 0.010 e⁻/ADU" in words
    no_overlap(figure)


def test_a_name_of_its_own_keeps_the_number_of_inputs(bias, seen):
    words = seen.texts(masters({"bias_1x1_-5C": bias}))
    assert "bias_1x1_-5C" in words
    assert any(word.startswith("Master bias of 10 frames · detector 0") for word in words)


def test_another_plane(bias, dark, seen):
    figure = masters(bias, plane="read_noise")
    assert "read noise [ADU]" in seen.said(figure)
    assert "variance [ADU²]" in seen.said(masters(bias, plane="variance"))
    with pytest.raises(OptionError, match="read_noise"):
        masters([bias, dark], plane="rd_noise")


def test_flags_of_a_master_keep_its_limits_clean(dark):
    planes = {"data": dark.data.copy(), "dq": np.zeros(dark.data.shape, np.uint32)}
    planes["data"][3, 4], planes["dq"][3, 4] = 1e9, DQ.DO_NOT_USE | DQ.HOT
    figure = masters(Product("dark", planes=planes), limits="minmax")
    assert images(figure)[0].images[0].get_clim()[1] < 100


@pytest.mark.parametrize("count", [1, 3, 4, 7])
@pytest.mark.parametrize("shape", [(64, 64), (40, 120), (120, 40)])
def test_pages_of_any_number_have_no_overlap(rng, count, shape):
    steps = [(f"step {i}", Frame(rng.normal(100, 5, shape))) for i in range(count)]
    figure = sequence(steps, title="raw to calibrated")
    assert len(images(figure)) == count
    wide, tall = figure.get_size_inches()
    assert wide <= 14.2
    assert 0.2 < tall / wide < 5
    no_overlap(figure)


def test_a_sequence_keeps_its_order(rng, seen):
    raw = rng.normal(1300, 10, (50, 60))
    steps = {"raw": Frame(raw), "after bias": Frame(raw - 1000), "after flat": Frame(raw, unit="electron")}
    figure = sequence(steps, limits="median")
    words = seen.texts(figure)
    assert [word for word in words if word in steps] == list(steps)
    assert images(figure)[1].images[0].get_clim()[0] == pytest.approx(
        np.median(raw) - 1000 - 2 * raw.std(), abs=1e-3
    )
    assert "signal [e⁻]" in words


def test_nothing_to_draw_is_said():
    with pytest.raises(SelectionError, match="nothing to draw"):
        sequence([])
    with pytest.raises(SelectionError, match="nothing to draw"):
        masters([])


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Quantity("read_noise", 6.7023, 0.0312, "adu"), "read noise 6.702 ± 0.031 ADU"),
        (Quantity("rate", -3.2e-5, 1.2e-6, "adu/s"), "rate (−3.20 ± 0.12)×10⁻⁵ ADU/s"),
        (Quantity("level", 1234.5, 120.0, "adu"), "level 1234 ± 120 ADU"),
        (Quantity("hot_fraction", 0.012345), "hot fraction 0.01235"),
        (Quantity("level", 54321.6, None, "adu", "A"), "level (A) 54322 ADU"),
        (Quantity("level", 5.0, 0.0, "adu"), "level 5 ADU"),
        (Quantity("x", 0.0, 3e-8), "x (0.0 ± 3.0)×10⁻⁸"),
        (Quantity("x", 2.5e9, 1.2e8), "x (2.50 ± 0.12)×10⁹"),
    ],
)
def test_numbers_as_words(quantity, text):
    assert quantity_text(quantity) == text


def test_titles_and_facts_of_bare_products():
    assert product_title(Product("read_noise")) == "Read noise"
    assert product_facts(Product("flat", keys={"filter": "V", "binning": [1, 2], "mode": None})) == (
        "filter V",
        "binned 1 × 2",
    )
