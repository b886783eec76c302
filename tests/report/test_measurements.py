"""Pictures of measurements: what stands in the tables is drawn, with units, whatever is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.errors import SelectionError
from calibrant.product import Product, Quantity
from calibrant.report import plots
from calibrant.report.plots.canvas import encode

AMPS = ("A", "B", "C", "D")
"""The last one is dead."""
PLACES = {
    "name": np.array(AMPS),
    "place": np.array(["[1:40,1:30]", "[80:41,1:30]", "[1:40,60:31]", "[80:41,60:31]"]),
    "rows": np.full(4, 60),
    "cols": np.full(4, 80),
}
LEVELS = np.array([100.0, 1000.0, 10_000.0, 40_000.0, 50_000.0])


def stacked(make, names=AMPS):
    """A table of the columns that `make` gives for each amplifier."""
    parts = [make(name) for name in names]
    columns = {"amplifier": np.repeat(names, len(next(iter(parts[0].values()))))}
    return columns | {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def curve(name):
    gain = 1.4 + 0.05 * AMPS.index(name) if name in AMPS else 1.4
    model = LEVELS / gain - 1e-6 * LEVELS**2 + 25.0
    used = LEVELS < 45_000
    residual = np.array([0.5, -1.0, 2.0, -0.3, np.nan])
    sigma = 0.01 * model
    variance = np.where(used, model + np.nan_to_num(residual) * sigma, 0.7 * model)
    if name == "D":
        variance, used = np.full(5, np.nan), np.zeros(5, bool)
    return {
        "mean": LEVELS, "variance": variance, "sigma": sigma, "used": used,
        "model": np.where(used, model, np.nan), "residual": np.where(used, residual, np.nan),
    }  # fmt: skip


def matrix(name):
    i, j = (plane.ravel() for plane in np.indices((3, 3)))
    a = np.where(i + j == 0, -3e-6, 4e-7 / (1.0 + i**2 + j**2))
    return {"i": i, "j": j, "a": a if name != "D" else np.full(9, np.nan), "sigma": np.full(9, 5e-8)}


def quantities(**values):
    """For each amplifier that number a little changed; NaN for the dead one."""
    return tuple(
        Quantity(key, number * (1 + 0.02 * k) if name != "D" else np.nan, 0.01 * abs(number), unit, name)
        for key, (number, unit) in values.items()
        for k, name in enumerate(AMPS)
    )


def gain_product(names=AMPS):
    places = {"amplifiers": PLACES} if len(names) > 1 else {}
    told = quantities(
        gain=(1.4, "electron/adu"), read_noise=(7.0, "electron"), a00=(-3e-6, "1/electron"), chi2=(1.1, "")
    )
    if len(names) == 1:
        told = tuple(replace(q, place="") for q in told if q.place == "A")
    return Product(
        "gain", "camera", {"detector": "0"},
        tables={"ptc": stacked(curve, names), "a_matrix": stacked(matrix, names), **places},
        quantities=told,
    )  # fmt: skip


def linearity_product():
    def rows(name):
        before = -1.5 * LEVELS / 5e4 if name != "D" else np.full(5, np.nan)
        return {
            "mean": LEVELS, "residual_before": before, "residual_after": 0.01 * before,
            "used": np.array([False, True, True, True, True]),
        }  # fmt: skip

    def nodes(name):
        measured = np.linspace(0, 5e4, 17)
        return {
            "measured": measured,
            "correction": 3e-7 * measured**2 if name != "D" else measured * np.nan,
            "sigma": 1e-3 * measured,
        }

    return Product(
        "linearity", "camera", {"detector": "0"},
        tables={"linearity": stacked(rows), "curve": stacked(nodes), "amplifiers": PLACES},
        quantities=quantities(nonlinearity=(1.5, "%"), valid_low=(100.0, "adu"), valid_high=(5e4, "adu")),
    )  # fmt: skip


def crosstalk_product():
    pairs = [(s, t) for s in AMPS for t in AMPS if s != t]
    values = np.array([np.nan if "D" in pair else (4e-4 if pair == ("A", "B") else 2e-6) for pair in pairs])
    table = {
        "source": np.array([s for s, _ in pairs]), "target": np.array([t for _, t in pairs]),
        "coefficient": values, "sigma": np.full(len(pairs), 3e-6),
    }  # fmt: skip
    return Product("crosstalk", "camera", tables={"crosstalk": table, "amplifiers": PLACES})


def transfer_product():
    def rows(name):
        deferred = np.tile([12.0, 2.0, 0.1], 2) if name != "D" else np.full(6, np.nan)
        return {
            "direction": np.repeat(["serial", "parallel"], 3), "pixel": np.tile([1, 2, 3], 2),
            "deferred": deferred, "sigma": np.full(6, 0.1),
        }  # fmt: skip

    return Product(
        "charge_transfer", "camera", {"detector": "0"}, tables={"trail": stacked(rows), "amplifiers": PLACES},
        quantities=quantities(cti_serial=(5e-6, ""), chi2_serial=(1.0, "")),
    )  # fmt: skip


def kernel_product():
    row, col = np.indices((7, 7)) - 3
    kernel = -1e-6 / (1.0 + row**2 + 2.0 * col**2)
    a = matrix("A")
    return Product(
        "brighter_fatter", "camera", planes={"data": kernel, "variance": np.full((7, 7), 1e-16)},
        units={"data": "1/electron"}, tables={"a_matrix": a},
        quantities=(Quantity("a00", -3e-6, 1e-7, "1/electron"),),
    )  # fmt: skip


def borders_product():
    rows = [("offset", "A", "B", 3.0), ("offset", "A", "C", -2.0), ("gain_ratio", "A", "B", 0.02)]
    table = {
        "quantity": np.array([r[0] for r in rows]), "one": np.array([r[1] for r in rows]),
        "other": np.array([r[2] for r in rows]), "step": np.array([r[3] for r in rows]),
        "sigma": np.array([0.1, 0.2, 0.001]), "used": np.array([True, False, True]),
    }  # fmt: skip
    return Product(
        "amplifier_offsets", "camera", tables={"interfaces": table, "amplifiers": PLACES},
        quantities=quantities(offset=(2.0, "adu"), gain_ratio=(1.01, "")),
    )  # fmt: skip


MADE = {
    "noise_curve": (gain_product, ["noise [ADU]", "mean above the bias [ADU]", "residual [sigma]", "e⁻/ADU"]),
    "variance_curve": (gain_product, ["variance [ADU²]", "straight line", "nothing of D", "the fit (3)"]),
    "a_matrix": (gain_product, ["a [10⁻⁶/e⁻]", "median of 3 amplifiers", "−3.00", "distance [pixel]"]),
    "amplifier_bars": (gain_product, ["gain [e⁻/ADU]", "read noise [e⁻]", "a00 [10⁻⁶/e⁻]", "D\nnone"]),
    "linearity_residuals": (linearity_product, ["residual before [%]", "residual after [%]", "validity"]),
    "linearity_curves": (linearity_product, ["correction [ADU]", "correction [% of signal]", "1 sigma"]),
    "crosstalk_matrix": (crosstalk_product, ["target: sees the ghost", "coefficient [10⁻⁶]", "400"]),
    "transfer_trails": (transfer_product, ["serial, deferred [ADU]", "parallel, deferred [ADU]"]),
    "kernel_map": (kernel_product, ["kernel [10⁻⁶/e⁻]", "rows from the charge [pixel]", "along the row"]),
    "amplifier_borders": (borders_product, ["offset [ADU]", "steps [%]", "+3.00 ±0.10", "red: left out"]),
}  # fmt: skip


def assert_apart(figure):
    """No heading, key, label or axes lies over another, and none beyond the page."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
    boxes += [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 + 1 and one.x1 <= figure.bbox.x1 + 1
        assert figure.bbox.y0 <= one.y0 + 1 and one.y1 <= figure.bbox.y1 + 1
        for other in boxes[:i]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            tall = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert wide < 2 or tall < 2, (one, other)


@pytest.mark.parametrize("name", MADE)
def test_what_is_measured_is_drawn_with_its_units(name, seen):
    make, words = MADE[name]
    figure = getattr(plots, name)(make())
    told = seen.said(figure)
    for word in words:
        assert word in told
    assert_apart(figure)


@pytest.mark.parametrize("name", MADE)
def test_one_product_gives_the_same_bytes(name):
    make = MADE[name][0]
    draw = getattr(plots, name)
    assert encode(draw(make()), dpi=30) == encode(draw(make()), dpi=30)


@pytest.mark.parametrize("name", MADE)
def test_a_product_without_tables_is_told_in_a_sentence(name):
    with pytest.raises(SelectionError, match="has no") as found:
        getattr(plots, name)(Product("thing"))
    assert "\n" not in str(found.value)


def test_points_are_those_of_the_table_and_hollow_where_left_out():
    axes = plots.variance_curve(gain_product()).axes[0]
    full, hollow = axes.lines[0], axes.lines[1]
    rows = curve("A")
    assert full.get_fillstyle() == "full" and hollow.get_fillstyle() == "none"
    assert np.array_equal(full.get_ydata(), rows["variance"][rows["used"]])
    assert hollow.get_xdata().tolist() == [50_000.0]
    assert np.array_equal(axes.lines[2].get_ydata(), rows["model"][rows["used"]])


def test_the_detector_may_be_known_by_its_amplifiers_alone():
    product = gain_product()
    places = {key: PLACES[key] for key in ("name", "place")}
    bare = replace(product, tables={**product.tables, "amplifiers": places})
    assert encode(plots.amplifier_bars(bare), dpi=30) == encode(plots.amplifier_bars(product), dpi=30)


def test_residuals_stay_within_the_axes():
    product = gain_product()
    table = dict(product.tables["ptc"])
    table["residual"] = np.where(table["used"], 11.0, np.nan)
    figure = plots.noise_curve(replace(product, tables={**product.tables, "ptc": table}))
    assert figure.axes[1].get_ylim()[1] > 11


def test_residuals_beyond_the_axes_are_counted(seen):
    product = linearity_product()
    table = dict(product.tables["linearity"])
    table["residual_before"] = np.where(table["used"], table["residual_before"], 50.0)
    figure = plots.linearity_residuals(replace(product, tables={**product.tables, "linearity": table}))
    assert figure.axes[0].get_ylim()[1] < 2
    assert "4 beyond the axes" in seen.said(figure)


def test_one_amplifier_without_a_name(seen):
    product = gain_product(("",))
    for make in plots.figures(product).values():
        figure = make()
        assert "median" not in seen.said(figure)
        assert_apart(figure)
    assert set(plots.figures(product)) == {"curve", "variance", "matrix"}


def test_the_kernel_and_its_matrix_need_no_amplifier(seen):
    product = kernel_product()
    assert set(plots.figures(product)) == {"kernel", "matrix"}
    assert "amplifiers" not in seen.said(plots.a_matrix(product))
    assert "a00 (−3.00 ± 0.10)×10⁻⁶ 1/e⁻" in seen.said(plots.kernel_map(product))


def test_bars_stand_on_the_median_or_on_zero():
    def bottoms(values):
        told = tuple(Quantity("x", v, 0.1, "adu", n) for v, n in zip(values, AMPS, strict=False))
        axes = plots.amplifier_bars(Product("gain", quantities=told)).axes[0]
        return {round(bar.get_y(), 6) for bar in axes.patches}

    assert bottoms([100.0, 101.0, 102.0]) == {101.0}
    assert bottoms([1.0, 2.0, 3.0]) == {0.0}
    assert bottoms([-1.0, 2.0, 3.0]) == {0.0}


def test_an_amplifier_hardly_known_does_not_press_the_others_flat():
    told = [Quantity("x", 100.0 + k, 1.0, "adu", str(k)) for k in range(5)]
    told.append(Quantity("x", 103.0, 1e6, "adu", "bad"))
    low, high = plots.amplifier_bars(Product("gain", quantities=tuple(told))).axes[0].get_ylim()
    assert high - low < 20


def test_each_kind_has_its_pictures():
    wanted = {
        gain_product: {"curve", "variance", "matrix", "amplifiers", "checks"},
        linearity_product: {"residuals", "correction", "amplifiers"},
        crosstalk_product: {"matrix"},
        transfer_product: {"trails", "amplifiers", "checks"},
        borders_product: {"borders", "amplifiers"},
    }
    for make, words in wanted.items():
        made = plots.figures(make())
        assert set(made) == words
        assert all(callable(one) for one in made.values())
    assert plots.figures(Product("overscan")) == {}


def test_one_level_has_no_curve_of_noise():
    product = gain_product()
    table = {**product.tables["ptc"], "mean": np.full(20, 9000.0)}
    assert "curve" not in plots.figures(replace(product, tables={"ptc": table}))


def test_nothing_but_dead_amplifiers_has_no_picture():
    product = gain_product()
    dead = {
        name: stacked(lambda _: curve("D")) if name == "ptc" else table
        for name, table in product.tables.items()
    }
    del dead["a_matrix"]
    none = tuple(replace(q, value=np.nan) for q in product.quantities)
    product = replace(product, tables=dead, quantities=none)
    assert plots.figures(product) == {}
    with pytest.raises(SelectionError, match="nothing to draw"):
        plots.noise_curve(product)
    with pytest.raises(SelectionError, match="no quantity of an amplifier"):
        plots.amplifier_bars(product)


def test_a_missing_column_is_named():
    product = gain_product()
    table = {key: values for key, values in product.tables["ptc"].items() if key != "model"}
    with pytest.raises(SelectionError, match="no column 'model'"):
        plots.noise_curve(replace(product, tables={"ptc": table}))


def test_deviations_go_both_ways_from_their_middle(rng, seen):
    flat = Product("sky_flat", planes={"data": rng.normal(1.0, 0.01, (40, 50)).astype(np.float32)})
    low, high = plots.deviation_map(flat).axes[0].images[0].get_clim()
    assert low + high == pytest.approx(2.0)
    fringe = Product(
        "fringe_frame",
        planes={"data": rng.normal(0, 3, (40, 50)).astype(np.float32)},
        units={"data": "electron/s", "frames.level": "adu", "frames.amplitude": "adu"},
        tables={
            "frames": {"level": np.array([9.0, 12]), "amplitude": np.array([8.0, 11]), "sigma": np.ones(2)}
        },
    )
    figure = plots.deviation_map(fringe)
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high and 6 < high < 10
    assert "signal [e⁻/s]" in seen.said(figure)
    assert set(plots.figures(fringe)) == {"map", "amplitudes"}
    words = seen.said(plots.fringe_amplitudes(fringe))
    assert "level of the sky [ADU]" in words and "amplitude of the fringes [ADU]" in words
    with pytest.raises(SelectionError, match="no plane"):
        plots.deviation_map(Product("fringe"))


def test_flags_of_defects(defects, seen):
    (make,) = plots.figures(defects).values()
    assert "hot or warm: 1" in seen.said(make())
