"""Structures of flats: profiles by band and detector, and the inventory as a matrix."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import SelectionError
from calibrant.product import Product
from calibrant.report import plots
from calibrant.report.plots.canvas import encode
from calibrant.report.plots.structures import NUMBERED


def inventory(detectors=("0", "1"), bands=("r", "y")):
    found = [("vignetting", "", "", 6.0, 40.0, True), ("fringes", detectors[0], bands[-1], 0.3, 90.0, True)]
    found += [
        ("fringes", detectors[0], bands[0], 0.01, 0.4, False),
        ("dust_shadow", detectors[0], bands[0], 2.0, 9.0, True),
    ]
    found += [("dust_shadow", detectors[0], bands[0], 1.0, 6.0, True)]
    names = ("structure", "detector", "band", "amplitude", "significance", "detected")
    structures = {
        name: np.array(column) for name, column in zip(names, zip(*found, strict=True), strict=True)
    }
    lines = [(d, b, axis) for axis in ("row", "focal-plane radius") for d in detectors for b in bands]
    n = 5
    profiles = {
        name: np.repeat([line[k] for line in lines], n) for k, name in enumerate(("detector", "band", "axis"))
    } | {
        "position": np.tile(np.arange(n) * 2.0, len(lines)), "unit": np.full(n * len(lines), "mm"),
        "level": np.tile(-np.arange(n) * 0.5, len(lines)), "sigma": np.full(n * len(lines), 0.01),
    }  # fmt: skip
    flats = [(d, b) for d in detectors for b in bands]
    return Product(
        "flat_structure",
        tables={
            "structures": structures, "profiles": profiles,
            "flats": {"detector": np.array([f[0] for f in flats]), "band": np.array([f[1] for f in flats])},
        },
    )  # fmt: skip


def test_the_inventory_shows_the_surest_finding_of_each_place(seen):
    figure = plots.structure_matrix(inventory())
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["vignetting", "fringes", "dust shadow"]
    shown = axes.images[0].get_array()
    # columns: r 0, r 1, y 0, y 1; what belongs to all stands in all
    assert shown[0].tolist() == [40.0] * 4
    assert shown[2].tolist() == [9.0, None, None, None]
    assert shown[1].tolist() == [1.0, None, 90.0, None]
    words = seen.said(figure)
    assert "band r" in words and "significance [sigma]" in words and "0.3" in words
    assert len(axes.lines) - 1 == 4 + 1 + 1  # a frame around what was found, and the line between bands


def test_large_inventories_have_dots_instead_of_numbers():
    product = inventory(tuple(map(str, range(9))), tuple("ugrizy"))
    figure = plots.structure_matrix(product)
    assert NUMBERED < 9 * 6
    assert not [t for t in figure.axes[0].texts if t.get_text() == "6"]
    assert len(figure.axes[0].lines[0].get_xdata()) == 54 + 2
    wide, _ = figure.get_size_inches()
    assert wide < 15


def test_profiles_of_several_detectors_have_a_column_for_each_band(seen):
    figure = plots.structure_profiles(inventory())
    assert len(figure.axes) == 4
    words = seen.said(figure)
    for word in ("row [mm]", "focal-plane radius [mm]", "level [%]", "band y", "detector 1"):
        assert word in words
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 5]
    assert len(lines) == 2
    assert lines[0].get_ydata().tolist() == [0.0, -0.5, -1.0, -1.5, -2.0]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_profiles_of_one_detector_have_a_line_for_each_band(seen):
    figure = plots.structure_profiles(inventory(("0",), ("r", "y", "z")))
    assert len(figure.axes) == 2
    words = seen.said(figure)
    assert "band z" in words and "shaded: 1 sigma" in words


def test_a_band_without_a_profile_says_so(seen):
    product = inventory()
    table = product.tables["profiles"]
    keep = ~((table["band"] == "y") & (table["axis"] == "row"))
    cut = Product("flat_structure", tables={"profiles": {k: v[keep] for k, v in table.items()}})
    assert seen.texts(plots.structure_profiles(cut)).count("none") == 1


@pytest.mark.parametrize("make", [plots.structure_matrix, plots.structure_profiles])
def test_same_bytes_and_missing_tables(make):
    assert encode(make(inventory()), dpi=30) == encode(make(inventory()), dpi=30)
    with pytest.raises(SelectionError, match="has no table"):
        make(Product("flat_structure"))


def test_pictures_of_the_kind():
    assert set(plots.figures(inventory())) == {"inventory", "profiles"}
    assert plots.figures(Product("flat_structure")) == {}
