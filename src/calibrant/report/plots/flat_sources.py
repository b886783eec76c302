"""Sources: how even they light the slices, in rows, against alpha, slice by slice, and beside each other."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, INK, dress, key_above
from calibrant.report.plots.cuts import along, cuts_of, fit_range, larger, row_styles, shade_gaps
from calibrant.report.plots.panels import product_facts
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    TALL,
    Style,
    charts,
    hide_numbers,
    parts,
    sheet,
    styles,
    table_of,
    titled,
)

SIZE = (7.2, 2.2)
SMALL_CHART = (3.1, 2.3)
SHOWN = 3
"""Slices whose profiles are drawn."""


def source_rows(product: Product) -> Figure:
    """Three rows against the column, whole and a part larger; of two sources where there are two.

    Parameters
    ----------
    product : Product
        Kind ``flatness``, of `measure` or `ratio`, with the table ``cuts``.
    """
    names = ["value"] if "value" in product.tables.get("cuts", {}) else ["first", "second"]
    rows = cuts_of(product, *names)
    step, across = along(product)
    looks = row_styles(rows)
    figure, axes = charts(
        titled(product, f"signal against {across}"), product_facts(product), (2 * len(names), 1), SIZE
    )
    middle = list(rows.values())[len(rows) // 2]
    for n, name in enumerate(names):
        told = str(product.provenance.options.get(name, "")) or str(product.keys.get("source", ""))
        for k, (axis,) in enumerate(axes[2 * n : 2 * n + 2]):
            unit = product.units.get(f"cuts.{name}")
            dress(axis, f"{across} [pixel]", label("signal", unit), grid=True)
            shade_gaps(axis, middle)
            for row, cut in rows.items():
                axis.plot(
                    cut["col"], cut[name], color=looks[row].colour, linestyle=looks[row].line, linewidth=1.1,
                    label=f"{step} {row}",
                )  # fmt: skip
            fit_range(axis, np.concatenate([cut[name] for cut in rows.values()]).astype(float))
            axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
            axis.set_xlim(*larger(middle) if k else (middle["col"][0] - 0.5, middle["col"][-1] + 0.5))
            axis.set_title(f"{told}{', a part' if k else ''}".strip(", "), loc="right", fontsize=9, color=INK)
        key_above(axes[2 * n][0], 4)
    return figure


def source_profiles(product: Product) -> Figure:
    """The structure in some slices, against the column and against alpha: which does it follow?

    Parameters
    ----------
    product : Product
        Kind ``flatness`` with the tables ``cuts`` and ``profiles``.
    """
    rows = cuts_of(product, "value")
    profiles = parts(table_of(product, "profiles", "slice", "row", "alpha", "value", "sigma"), "slice")
    step, across = along(product)
    looks = row_styles(rows)
    shown = list(profiles)
    shown = [shown[i] for i in sorted({0, len(shown) // 2, len(shown) - 1})]
    figure, axes = charts(
        titled(product, "structure within slices"), product_facts(product), (2, len(shown)), SMALL_CHART
    )
    for k, name in enumerate(shown):
        above, below = axes[0][k], axes[1][k]
        dress(above, f"{across} [pixel], slice {name}", "signal / mean" if k == 0 else "", grid=True)
        dress(below, f"alpha [arcsec], slice {name}", "signal / mean" if k == 0 else "", grid=True)
        above.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for row, cut in rows.items():
            here = np.asarray(cut["slice"]) == int(name)
            _curve(above, cut["col"][here], _relative(cut["value"][here]), looks[row], f"{step} {row}")
            own = {n: v[profiles[name]["row"] == row] for n, v in profiles[name].items()}
            _curve(below, own["alpha"], own["value"], looks[row])
    key_above(axes[0][0], 3)
    return figure


def _curve(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], look: Style, text: str = "") -> None:
    axes.plot(x, y, color=look.colour, linestyle=look.line, linewidth=1.1, label=text or "_")


def _relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = values[np.isfinite(values)]
    return values / known.mean() if known.size else values


def source_slices(product: Product) -> Figure:
    """Structure (rms) and mean of each slice, of the whole and about single rows.

    Parameters
    ----------
    product : Product
        Kind ``flatness`` with the tables ``slices`` and ``rows``.
    """
    table = table_of(product, "slices", "slice", "mean", "rms", "sigma")
    rows = parts(table_of(product, "rows", "slice", "row", "mean", "rms", "sigma"), "row")
    step, _ = along(product)
    looks = {name: Style(look.colour, look.marker) for name, look in styles(rows).items()}
    key = [Style(INK, "o").entry("whole slice"), *(look.entry(f"{step} {n}") for n, look in looks.items())]
    figure, axes = sheet(titled(product, "structure of slices"), product_facts(product), (TALL, 2.0), key)
    dress(axes[0], "", "rms of the structure [%]", grid=True)
    dress(
        axes[1],
        "slice, in order across the detector",
        label("mean", product.units.get("slices.mean")),
        grid=True,
    )
    order = {str(name): n for n, name in enumerate(table["slice"])}
    for i, (look, part) in enumerate(
        [(Style(INK, "o"), table), *zip(looks.values(), rows.values(), strict=True)]
    ):
        x = np.array([order[str(name)] for name in part["slice"]]) + 0.12 * (i - len(rows) / 2)
        axes[0].errorbar(
            x, 100 * part["rms"], 100 * part["sigma"], color=look.colour, marker=look.marker, markersize=3.4,
            linestyle="none", elinewidth=0.9,
        )  # fmt: skip
        axes[1].plot(x, part["mean"], color=look.colour, marker=look.marker, markersize=3.4, linestyle="none")
    for axis in axes:
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    axes[-1].set_xticks(range(len(order)), list(order), rotation=90 if len(order) > 12 else 0)
    hide_numbers(axes)
    return figure


def source_ratio(product: Product) -> Figure:
    """Signal of one source over that of another, slice by slice, beside what was expected.

    Parameters
    ----------
    product : Product
        Kind ``flatness``, of `ratio`.
    """
    table = table_of(product, "slices", "slice", "ratio", "sigma")
    options = product.provenance.options
    key = [Style(CURVES[0], "o").entry("slice"), Style(CURVES[0], line="-").entry("mean")]
    if has_quantity(product, "expected"):
        key.append(Style(CURVES[1], line="--").entry("expected"))
    title = f"{options.get('first', 'first')} over {options.get('second', 'second')}"
    figure, (axes,) = sheet(titled(product, title), product_facts(product), (TALL,), key)
    dress(axes, "slice, in order across the detector", "ratio of signals", grid=True)
    x = np.arange(len(table["slice"]))
    axes.errorbar(
        x, table["ratio"], table["sigma"], color=CURVES[0], marker="o", markersize=3.6, linestyle="none",
        elinewidth=0.9,
    )  # fmt: skip
    for name, colour, line in (("ratio", CURVES[0], "-"), ("expected", CURVES[1], "--")):
        for one in product.quantities:
            if one.name == name and not one.place:
                axes.axhline(one.value, color=colour, linestyle=line, linewidth=1.1)
                half = one.sigma or 0.0
                axes.axhspan(one.value - half, one.value + half, color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(x, [str(name) for name in table["slice"]], rotation=90 if len(x) > 12 else 0)
    return figure


def has_quantity(product: Product, name: str) -> bool:
    """Whether the product has a quantity of the whole of that name."""
    return any(one.name == name and not one.place for one in product.quantities)
