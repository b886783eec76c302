"""The parts of a report: numbers in words, tables that fit paper, charts and their drawing, pictures."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from calibrant.product import Product, Quantity
from calibrant.registry.records import Item, Point
from calibrant.report import words
from calibrant.report.charts import Chart, Series, charts, together
from calibrant.report.page import page
from calibrant.report.pictures import Gallery, packed
from calibrant.report.svg import HEIGHT, WIDTH, axes, svg
from calibrant.report.tables import WIDE, Numbers, tables


@pytest.mark.parametrize(
    ("value", "sigma", "told"),
    [
        (5.14991, 0.00181, "5.1499 ± 0.0018"),
        (23955.4, 3013.4, "23955 ± 3013"),
        (-0.0068, 0.01296, "−0.007 ± 0.013"),
        (-2.83e-6, 1.5e-7, "(−2.83 ± 0.15)×10⁻⁶"),
        (1.5, None, "1.5"),
        (1.5, float("nan"), "1.5"),
        (1.5, 0.0, "1.5 ± 0"),
        (float("nan"), 0.1, "no number"),
        (float("-inf"), 0.1, "−∞"),
        (None, None, "—"),
        (1e9, 1e7, "(1.000 ± 0.010)×10⁹"),
    ],
)
def test_values_to_the_second_digit_of_their_sigma(value, sigma, told):
    assert words.with_sigma(value, sigma) == told


def test_limits_in_words():
    assert words.limits(0.9, 1.1) == "0.9 … 1.1" and words.limits(None, 3.0) == "≤ 3"
    assert words.limits(-0.5, float("inf")) == "≥ −0.5" and words.limits(None, None) == ""


def test_keys_have_units():
    told = dict(words.keys({"temperature": -99.998, "exptime": 120.0, "binning": (1, 2), "mode": None}))
    assert told == {"temperature": "−100.0 °C", "exptime": "120 s", "binning": "1 × 2"}


# --- tables ---


def amplifiers(name="gain", count=8):
    quantities = [Quantity(f"q{k}", k + 0.5, 0.1, "adu", place) for place in ("A", "B") for k in range(count)]
    return Numbers(
        name, "gain", [Quantity("whole", 1.0), *quantities], {("q1", "B"): Item("q1", 1.5, 2.0, 3.0)}
    )


def test_a_table_has_no_more_columns_than_paper_holds():
    ((kind, found),) = tables([amplifiers()])
    assert kind == "gain" and [len(table.heads) for table in found] == [0, WIDE, 8 - WIDE]
    assert found[0].lines[0].name == "whole" and found[0].lines[0].unit == "dimensionless"


def test_a_mark_stands_at_its_own_place():
    ((_, found),) = tables([amplifiers()])
    marks = {name: [cell.mark for cell in cells] for name, cells in found[1].rows}
    assert marks["B"][1] == "fail" and marks["A"] == [""] * WIDE and found[1].limits[1] == "2 … 3"


def test_products_of_one_kind_are_rows_and_one_quantity_of_places_columns():
    several = [
        Numbers(
            f"bias_{d}", "bias", [Quantity("level", d, 0.1, "adu"), Quantity("noise", 5.0, 0.1, "adu", "A")]
        )
        for d in range(3)
    ]
    ((_, found),) = tables(several)
    assert [name for name, _ in found[0].rows] == ["bias_0", "bias_1", "bias_2"]
    assert found[1].title == "bias: noise" and found[1].heads[2] == "bias 2 [ADU]"


# --- charts ---


def curve(x, y, **facts):
    return Series("a", np.asarray(x, float), np.asarray(y, float), **facts)


def chart(*series, **facts):
    return Chart("key", "A title", "x [s]", "y [ADU]", series or [curve([1, 2, 3], [4, 5, 6])], **facts)


def test_what_is_drawn_is_where_it_belongs():
    one = chart(curve([1, 10, 100], [1, 10, 100]), xlog=True, ylog=True)
    x, y = axes(one)
    at = x.at(np.array([1.0, 10.0, 100.0]))
    assert at[1] - at[0] == pytest.approx(at[2] - at[1]) and x.start < at[0] < at[2] < x.end
    assert {1.0, 10.0, 100.0} <= set(x.ticks()) and y.at(np.array([100.0]))[0] < y.at(np.array([1.0]))[0]
    drawn = str(svg(one))
    dots = re.findall(r"M([\d.]+) ([\d.]+)h0", drawn)
    assert [float(one) for one, _ in dots] == pytest.approx(at, abs=0.06)
    assert all(0 < float(a) < WIDTH and 0 < float(b) < HEIGHT for a, b in dots)


def test_usual_bars_are_seen_and_one_large_one_is_cut():
    sigma = np.array([1.0, 1.0, 1.0, 500.0])
    one = chart(curve([0, 1, 2, 3], [10, 11, 12, 13], sigma=sigma))
    assert one.reach("y") == (9.0, 14.0)
    assert "nan" not in str(svg(one))


@pytest.mark.parametrize("y", [[5.0, 5.0], [0.0, 0.0], [1e-30, 2e-30], [1e30, 2e30]])
def test_odd_ranges_have_axes(y):
    drawn = str(svg(chart(curve([0, 1], y))))
    assert "nan" not in drawn and "inf" not in drawn and drawn.count('class="number"') >= 4


def test_words_of_a_chart_cannot_leave_it():
    evil = replace(chart(), title='"><script>', xlabel="<b>", series=[replace(curve([1], [2]), name="<i>")])
    assert "<script>" not in str(svg(evil)) and "<b>" not in str(svg(evil))


def test_points_without_a_number_or_a_logarithm_are_not_drawn():
    table = {
        "amplifier": np.array(["A"] * 4), "mean": np.array([np.nan, -5.0, 10.0, 1000.0]),
        "residual": np.array([1.0, 2.0, 3.0, np.nan]), "used": np.array([True, True, False, True]),
    }  # fmt: skip
    (one,) = charts(Product("gain", tables={"ptc": table}), "gain")
    assert one.series[0].x.tolist() == [10.0] and not one.xlog


def test_charts_need_their_columns():
    assert charts(Product("gain", tables={"ptc": {"mean": np.zeros(3)}}), "gain") == []
    assert charts(Product("bias", tables={"frames": {"level": np.full(3, np.nan)}}), "bias") == []
    assert charts(Product("whatever"), "whatever") == []


def test_products_of_one_kind_share_a_chart():
    both = together(
        [("bias", chart()), ("bias", chart(replace(curve([1], [2]), name="b"))), ("dark", chart())]
    )
    assert [one.names for one in both] == [["a", "b"], ["a"]]
    assert both[0].title == "Bias: a title" and both[1].title == "a: a title"


def test_many_curves_are_parted():
    many = together([("flat", chart(replace(curve([1], [2]), name=f"f{k}"))) for k in range(40)])
    assert [len(one.names) for one in many] == [18, 18, 4] and many[1].title == "Flat: a title, f18 to f35"


def test_a_history_is_drawn_over_time():
    table = {
        "detector": np.array(["S", "S"]), "epoch": np.array([0, 864_000_000_000]),
        "place": np.array(["", ""]),
        "quantity": np.array(["noise", "noise"]), "value": np.array([5.0, 6.0]),
        "sigma": np.array([0.1, 0.1]),
    }  # fmt: skip
    (one,) = charts(Product("read_noise_trend", tables={"trend": table}), "trend")
    assert one.time and one.series[0].x.tolist() == [0.0, 864_000.0] and "1970" in str(svg(one))


class Registry:
    """Knows two epochs of one detector, a withdrawn one, and one of another."""

    url, revision = "nowhere", 7

    def trend(self, kind, name, **_):
        told = [("S00", 0, 5.0, False), ("S00", 10**12, 5.5, False), ("S00", 2 * 10**12, 99.0, True),
                ("S09", 10**12, 77.0, False)]  # fmt: skip
        return [
            Point("sha256:x", epoch, "camera", {"detector": detector}, "", value, 0.1, "adu", gone)
            for detector, epoch, value, gone in told
        ]


def test_trends_of_a_registry_leave_out_what_was_withdrawn():
    from calibrant.report.matter import Run

    one = Product(
        "bias", "camera", {"detector": "S00"}, quantities=(Quantity("read_noise", 5.5, 0.1, "adu"),)
    )
    html = page([one], run=Run(registry=Registry()))
    assert "Bias: read noise over the epochs of the registry" in html and "revision 7" in html
    assert '"y":[5.0,5.5]' in html and "99.0" not in html


# --- pictures ---


def test_packed_pictures_are_small_and_not_too_wide():
    noise = np.random.default_rng(1).integers(0, 255, (50, 3000, 3), np.uint8)
    raw = io.BytesIO()
    Image.fromarray(noise).save(raw, "PNG")
    content, width, height = packed(raw.getvalue())
    assert (width, height) == (1500, 25) and len(content) < len(raw.getvalue()) / 4


def test_a_broken_picture_is_told():
    gallery = Gallery()
    assert gallery._image("a picture", lambda: b"no png", small=True) is None
    assert "a picture could not be drawn" in gallery.failed[0]
