"""Pictures of dark scaling and of dark libraries: every one of them, of what stands in a product."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects.dark_scaling import measure, measure_all
from calibrant.errors import SelectionError
from calibrant.frame import DQ
from calibrant.product import Product, Quantity
from calibrant.report.plots import figures
from calibrant.report.plots.canvas import encode
from calibrant.report.plots.library import library_law
from calibrant.report.plots.scaling import chosen, degrees, equation
from calibrant.report.plots.scaling_pixels import scaled_dark

CURVES = {"histograms", "profiles", "residuals", "fits", "populations", "degrees"}
PIXELS = {"images", "fitted", "scatter"}
CUT = {"hot", "cuts"}


@pytest.fixture(scope="module")
def darks():
    rng = np.random.default_rng(5)
    x = rng.gamma(3.0, 100.0, (40, 150)) + 40.0
    x[rng.random(x.shape) < 0.01] += 2500.0
    return x, 60.0 + 1.4 * x - 5e-5 * x**2 + rng.normal(0.0, 12.0, x.shape)


@pytest.fixture(scope="module")
def product(darks):
    return measure_all(*darks, ranks=range(-1, 6), factors=(1.4, 1.5, 1.6), hot=2500)


def text_of(figure):
    """All words of a figure."""
    words = [one.get_text() for one in figure.texts]
    for axes in figure.axes:
        words += [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
        words += [one.get_text() for one in axes.get_xticklabels()]
    for legend in figure.legends:
        words += [one.get_text() for one in legend.get_texts()]
    return "\n".join(words)


def test_every_picture_is_made(product):
    makers = figures(product)
    assert set(makers) == CURVES | PIXELS | CUT
    for word, make in makers.items():
        assert encode(make()).startswith(b"\x89PNG"), word


def test_without_a_cut_there_are_no_pictures_of_it(darks):
    assert set(figures(measure_all(*darks, ranks=range(-1, 3), models=()))) == CURVES | PIXELS


def test_one_model_has_no_series_of_degrees(darks):
    one = measure(*darks, model="deming")
    assert set(figures(one)) == (CURVES | PIXELS) - {"degrees"}
    for make in figures(one).values():
        make()
    with pytest.raises(SelectionError, match="one degree"):
        degrees(one)


def test_equations_are_those_of_the_coefficients(product):
    table = product.tables["coefficients"]
    own = {
        str(name): [float(v) for v in table["value"][table["model"] == name]]
        for name in ("add", "mult", "poly1")
    }
    assert equation(product, "add") == f"y = x + {own['add'][0]:.4g}"
    assert equation(product, "mult") == f"y = {own['mult'][0]:.4g} x"
    assert equation(product, "poly1") == f"y = {own['poly1'][0]:.4g} x + {own['poly1'][1]:.4g}"
    assert " x³ " in equation(product, "poly3") and "e-" not in equation(product, "poly3")


def test_copies_of_the_first_dark_are_named(product):
    words = text_of(figures(product)["histograms"]())
    for factor in ("1.4", "1.5", "1.6"):
        assert f"dark_from × {factor}" in words
    assert words.count("dark_from ×") == 5  # the fitted factor, and the ratio of means


def test_the_degrees_begin_with_the_offset_and_the_factor(product):
    figure = degrees(product)
    words = text_of(figure)
    assert "add\nmult\n1\n2\n3\n4\n5" in words and "chosen" in words
    upper = figure.axes[0]
    drawn = {
        float(line.get_xdata()[0]): float(line.get_ydata()[0])
        for line in upper.lines
        if line.get_marker() == "o"
    }
    models = product.tables["models"]
    for name, rank, value in zip(models["model"], models["rank"], models["fractional"], strict=True):
        if str(name) not in ("deming", "robust"):
            assert drawn[float(rank)] == pytest.approx(float(value)), name


def test_the_scaled_dark_is_that_of_the_model(product, darks):
    slope, offset = (
        float(v) for v in product.tables["coefficients"]["value"][
            product.tables["coefficients"]["model"] == "poly1"
        ]
    )  # fmt: skip
    assert scaled_dark(product, "poly1") == pytest.approx(slope * darks[0] + offset)
    with pytest.raises(SelectionError, match="residual_poly7"):
        scaled_dark(product, "poly7")


def test_the_chosen_model_is_that_of_the_table(product):
    models = product.tables["models"]
    assert chosen(product) == str(models["model"][models["chosen"]][0])
    none = {**models, "chosen": np.zeros(len(models["model"]), bool)}
    assert chosen(replace(product, tables={**product.tables, "models": none})) == "add"


def test_darks_with_nan_and_a_wide_range_are_drawn():
    rng = np.random.default_rng(6)
    x = 1000.0 + rng.normal(0.0, 5.0, (60, 60))
    x += np.where(rng.random(x.shape) < 0.02, rng.exponential(2e4, x.shape), 0.0)
    y = 1.5 * x - 400.0 + rng.normal(0.0, 5.0, x.shape)
    x[3, 4] = np.nan
    found = measure_all(x, y, ranks=(-1, 0, 1), hot="5sigma")
    for word, make in figures(found).items():
        assert encode(make()), word
    assert figures(found)["populations"]().axes[0].get_xscale() == "log"


def test_lit_pixels_are_no_population(darks):
    """Of a light frame only the pixels fitted were sorted: light is not drawn as normal pixels."""
    x, y = darks
    lit, unlit = y.copy(), np.ones(y.shape, bool)
    lit[10:30], unlit[10:30] = lit[10:30] + 5000.0, False
    axes = figures(measure_all(x, lit, models=(), ranks=(1,), where=unlit))["populations"]().axes[0]
    drawn = sum(one.get_xdata().size for one in axes.lines if one.get_marker() == ".")
    assert drawn == unlit.sum()


# --- dark libraries ---


def library(temperatures=(-10.0, -5.0, 0.0), *, law=True):
    rng = np.random.default_rng(7)
    shape, at = (30, 40), np.array(temperatures)
    rate = 0.2 * np.exp(rng.normal(0.0, 0.1, shape))
    dq = np.zeros(shape, np.uint32)
    rate[0, :5], dq[0, :5] = 5.0, DQ.HOT
    planes = {"data": rate.astype(np.float32), "dq": dq}
    if law:
        planes |= {"energy": rng.normal(0.7, 0.05, shape), "covariance": np.full(shape, 1e-3)}
    rates = 0.2 * 2 ** (at / 6.0)
    return Product(
        "dark_library", "camera", {"detector": "0"},
        planes=planes,
        units={"data": "adu/s", "energy": "eV"},
        tables={
            "temperatures": {"temperature": at, "rate": rates * (1 + 0.01 * (at == -5.0)), "law": rates},
            "frames": {"temperature": at, "shift": np.zeros(at.size), "time": np.full(at.size, 60.0)},
        },
        quantities=(Quantity("rate", 0.2, 0.001, "adu/s"), Quantity("activation_energy", 0.7, 0.01, "eV")),
    )  # fmt: skip


def test_pictures_of_a_library():
    makers = figures(library())
    assert set(makers) == {"maps", "law", "energies"}
    for word, make in makers.items():
        assert encode(make()), word
    words = text_of(makers["energies"]())
    assert "quiet pixels: 1195" in words and "hot pixels: 5" in words


def test_the_law_has_residuals_where_it_does_not_go_through_all_points():
    assert len(library_law(library()).axes) == 3
    two = library_law(library((-10.0, -5.0)))
    assert len(two.axes) == 2 and "goes through both" in text_of(two)
    residuals = library_law(library()).axes[1].lines[0].get_ydata()
    assert residuals == pytest.approx([0.0, 1.0, 0.0])


def test_a_library_of_one_temperature_is_a_map():
    assert set(figures(library((-5.0,), law=False))) == {"maps"}
