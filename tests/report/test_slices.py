"""Pictures of slices: what stands in the tables is drawn, gaps shaded, with wavelength either way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import campaigns, flatness, fringe, row_parity, stray_light, trace
from calibrant.errors import SelectionError
from calibrant.exposures.sources import less
from calibrant.pipeline.measurements_slices import SLICED
from calibrant.product import Product
from calibrant.report.plots import figures
from calibrant.report.plots.campaigns import campaign_rows, campaign_table
from calibrant.report.plots.canvas import encode
from calibrant.report.plots.cuts import cuts_of, larger
from calibrant.report.plots.fringes import fringe_columns, fringe_depths, transmissions
from calibrant.report.plots.stray import stray_rows
from calibrant.simulate.slicer import Place, Scene, make

PICTURES = {
    "parity": {"rows"},
    "stray": {"map", "rows"},
    "flat": {"rows", "profiles", "slices"},
    "ratio": {"rows", "ratio"},
    "trace": {"image"},
    "alphas": {"image"},
    "spectrum": {"spectrum"},
    "continuum": {"spectrum"},
    "lines": {"lines"},
    "fringe": {"spectrum", "fit", "depths", "columns"},
    "both": {"transmissions", "contrast"},
}


def lines_of_an_etalon():
    wave = np.linspace(5.0, 5.3, 700)
    centres = 1e4 / (1890.0 + 5.0 * np.arange(20))
    value = 1 + sum(30 * np.exp(-0.5 * ((wave - at) / 7e-4) ** 2) for at in centres)
    found = fringe.lines(wave, value, np.full(wave.shape, 0.3))
    return replace(found, keys={"detector": "demo"})


@pytest.fixture(scope="module")
def products() -> dict[str, Product]:
    """Of the small slicer, whose wavelength runs along the columns."""
    scene, rng = Scene.load("slicer-demo"), np.random.default_rng(1)
    slices = scene.slices
    slices = replace(slices, ids=np.where(slices.ids <= 3, slices.ids, -slices.ids))

    def seen(source, place=None):
        return make(scene, source, "FM", rng, place).frame

    dark = seen("background")
    extended, point = (
        less(frame, dark) for frame in (seen("extended-800K"), seen("point", Place(0.0, scene.lines[2].beta)))
    )
    lamp = seen("internal")
    made = {"parity": row_parity.measure(lamp, slices=slices), "stray": stray_light.measure(lamp, slices)}
    clean = stray_light.apply(lamp, made["stray"])
    made |= {"flat": flatness.measure(clean, slices)}
    made |= {"ratio": flatness.ratio(clean, extended, slices, transmissions=[(20.0, 0.5)])}
    made |= {"trace": trace.measure(point, slices, numbers=[2])}
    made |= {"alphas": trace.measure(point, slices, method="alpha")}
    made |= {"spectrum": trace.extract(point, slices, made["trace"], width=5.0)}
    (own,) = (one for one in SLICED if one.name == "trace")
    made |= {"continuum": own.further(point, slices, made["trace"], width=5.0)}
    made |= {"lines": lines_of_an_etalon()}
    made |= {"fringe": fringe.measure(clean, slices, resolution=3000.0)}
    made |= {"both": fringe.compare(made["fringe"], fringe.measure(extended, slices, resolution=3000.0))}
    return made


@pytest.mark.parametrize("name", PICTURES)
def test_each_kind_has_its_pictures_with_words_and_units(products, name, seen):
    made = figures(products[name])
    assert set(made) == PICTURES[name]
    for word, maker in made.items():
        figure = maker()
        assert len(encode(figure, dpi=30)) > 3000
        said = seen.said(figure)
        assert "detector demo" in said, word
        shown = [axes for axes in figure.axes if axes.lines or axes.images or axes.collections]
        assert all(axes.get_xlabel() or axes.get_ylabel() for axes in shown if axes in figure.axes), word


def test_peaks_and_continuum_of_a_trace_are_drawn(products):
    table = products["continuum"].tables["spectrum"]
    whole, part = figures(products["continuum"])["spectrum"]().axes
    curve, level, peaks = (line.get_ydata() for line in whole.lines)
    assert np.array_equal(curve, table["value"], equal_nan=True)
    assert np.array_equal(level, table["continuum"], equal_nan=True)
    assert np.array_equal(peaks, table["value"][table["peak"]]) and len(peaks) > 20
    assert np.ptp(part.get_xlim()) < 0.5 * np.ptp(whole.get_xlim())


def test_spacing_of_lines_is_drawn(products):
    axes = figures(products["lines"])["lines"]().axes
    steps = axes[1].containers[0][0].get_ydata()
    assert len(steps) >= 17 and steps == pytest.approx(5.0, abs=0.02)
    assert np.abs(axes[0].containers[0][0].get_ydata()).max() < 0.02


def test_wavelength_along_the_columns_is_said(products, seen):
    assert "row [pixel]" in seen.said(figures(products["flat"])["rows"]())
    assert "column 127" in seen.said(figures(products["flat"])["rows"]())
    figure = figures(products["trace"])["image"]()
    assert "centre − trace [rows]" in seen.said(figure)
    image = figure.axes[0].images[0].get_array()
    assert image.shape[0] == 512 and image.shape[1] < 60


def test_gaps_are_shaded_where_the_map_has_none_of_the_slices(products):
    cut = next(iter(cuts_of(products["stray"], "value").values()))
    axes = stray_rows(products["stray"]).axes[1]
    shaded = np.zeros(len(cut["col"]), bool)
    for patch in axes.patches:
        low, high = patch.get_x(), patch.get_x() + patch.get_width()
        shaded |= (cut["col"] > low) & (cut["col"] < high)
    assert np.array_equal(shaded, cut["slice"] == 0)
    before, after = axes.lines[1].get_ydata(), axes.lines[2].get_ydata()
    known = np.isfinite(before)
    assert known.sum() > 50 and np.allclose((before - after)[known], cut["stray"][known], atol=1e-3)
    first, last = larger(cut)
    assert last - first <= 64


def test_observed_and_intrinsic_depths_are_told_apart(products, seen):
    product = products["fringe"]
    figure = fringe_depths({"lamp": product, "again": product})
    assert {"as observed", "of the plate itself", "lamp", "again"} <= {*seen.texts(figure), "lamp", "again"}
    assert "as observed" in seen.said(figure) and "of the plate itself" in seen.said(figure)
    table = product.tables["fringes"]
    line = figure.axes[0].containers[1][0]
    assert np.array_equal(line.get_ydata(), table["depth_intrinsic"])
    unknown = {name: np.full(len(v), np.nan) if "intrinsic" in name or name in ("R", "R_sigma") else v
               for name, v in table.items()}  # fmt: skip
    told = fringe_depths(replace(product, tables={**product.tables, "fringes": unknown}))
    assert "not known without a resolution" in seen.said(told)


def test_phases_that_turn_over_are_drawn_whole(products):
    table = products["fringe"].tables["columns"]
    turned = {**table, "phase": np.linspace(0, 1, len(table["phase"]))}
    product = replace(products["fringe"], tables={**products["fringe"].tables, "columns": turned})
    assert fringe_columns(product).axes[1].get_ylim() == (-0.03, 1.03)


def test_two_sources_have_their_names(products, seen):
    named = replace(products["both"], keys={**products["both"].keys, "source": "lamp", "against": "sky"})
    lines = {line.get_label(): line.get_ydata() for line in transmissions(named).axes[0].lines}
    drawn = {"sky": "first_fit", "lamp": "second_fit"}  # the lamp is held against the sky
    for name, column in drawn.items():
        assert np.array_equal(lines[name], named.tables["transmissions"][column])
    assert {"first", "second"} <= set(seen.texts(transmissions(products["both"])))
    with pytest.raises(SelectionError, match="no table 'transmissions'"):
        transmissions(products["fringe"])


def campaign_product(names=("A", "B"), turned=False):
    """Two campaigns of made-up planes: B is a tenth stronger."""
    ids = np.zeros((40, 50), np.int32)
    ids[:, 5:20], ids[:, 25:45] = 1, 2
    light = np.where(ids > 0, 100.0, 5.0).astype(np.float32)
    planes = {f"frame_{name}": light * np.float32(1 + 0.1 * k) for k, name in enumerate(names)}
    planes |= {"change_B": np.full(ids.shape, 10.0, np.float32), "sigma_B": np.ones(ids.shape, np.float32)}
    planes = {name: plane.T if turned else plane for name, plane in {**planes, "slices": ids}.items()}
    trend = {"campaign": np.array(names)}
    for what in ("gain", "edge", "structure", "dispersion", "pedestal", "core_change", "edge_change"):
        trend |= {what: np.array([1.0, 1.1]), f"{what}_sigma": np.array([0.0, 0.01])}
    trend |= {"gap_background": np.array([5.0, np.nan]), "gap_background_sigma": np.array([0.1, np.nan])}
    options = {"reference": "A", "dispersion": "cols" if turned else "rows"}
    product = Product(campaigns.NAME, "slicer", {"detector": "x"}, planes=planes, tables={"trend": trend})
    notes = ("B against A: gain and structure changed: gain changed (1.1 +- 0.01), edge kept (0)",)
    return replace(product, provenance=replace(product.provenance, options=options, notes=notes))


@pytest.mark.parametrize("turned", [False, True])
def test_a_row_of_all_campaigns_and_their_changes_before_and_after(turned, seen):
    product = campaign_product(turned=turned)
    figure = campaign_rows(product, product)
    assert len(figure.axes) == 4 and "without stray light" in seen.said(figure)
    assert ("column 20" if turned else "row 20") in seen.said(figure)
    change = figure.axes[2].lines[0].get_ydata()
    assert np.nanmax(change) == np.nanmin(change) == 10.0 and np.isnan(change).sum() == 15
    assert len(campaign_rows(product, row=3).axes) == 3


def test_what_changed_stands_out_in_the_table():
    figure = campaign_table(campaign_product())
    bold = {text.get_text() for text in figure.texts if text.get_color() == "#D55E00"}
    assert bold == {"1.100 ± 0.010"}
    assert sum(text.get_color() == "#D55E00" for text in figure.texts) == 2
    assert "–" in {text.get_text() for text in figure.texts}
