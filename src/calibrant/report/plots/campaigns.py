"""Campaigns: frames and rows of them with a zoom, per cent changes, numbers of the joint model, gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from calibrant.product import Product, Quantity
from calibrant.report.plots.canvas import FAINT, INK, SMALL, TEXT, dress, key_above, write
from calibrant.report.plots.cuts import BESIDE, LINES, along, fit_range, inside, larger, shade_gaps
from calibrant.report.plots.panels import quantity_text
from calibrant.report.plots.pixels import label, unit_text
from calibrant.report.plots.sheets import (
    Columns,
    Style,
    charts,
    headed,
    hide_numbers,
    sheet,
    styles,
    table_of,
    titled,
)

ZOOM = 64
"""Pixels on a side of what is shown larger."""
SIZE = 3.0
"""Inches: side of a picture."""
PANELS = {
    "gain": "gain",
    "edge": "edge shift\n[pixel]",
    "structure": "structure shift\n[pixel]",
    "dispersion": "dispersion shift\n[pixel]",
    "pedestal": "pedestal",
}
ROW = (7.2, 2.1)
"""Inches: of a chart of one row."""
NUMBERS = {
    "gain": "gain",
    "edge": "edge shift",
    "structure": "structure shift",
    "dispersion": "dispersion shift",
    "pedestal": "pedestal",
    "core_change": "change of cores",
    "edge_change": "change of edges",
    "gap_background": "background of gaps",
}
"""Lines of the table of the joint model."""
CHANGED = "#D55E00"
HEIGHT = 1.25
"""Inches: of a panel of the joint model."""
APART = 0.18
"""Of a step: between the marks of campaigns."""
Planes = dict[str, NDArray[Any]]


def campaign_frames(product: Product) -> Figure:
    """The campaigns on a row in one scale, and beneath each a part of it, larger."""
    planes = _planes(product, "frame_")
    unit = unit_text(product.units.get(f"frame_{next(iter(planes))}", ""))
    every = np.concatenate([plane[np.isfinite(plane)] for plane in planes.values()])
    low, high = np.percentile(every, (1, 99.5))
    return _pictures(product, planes, (float(low), float(high)), "viridis", unit, "frames of the campaigns")


def campaign_rows(product: Product, after: Product | None = None, row: int | None = None) -> Figure:
    """One row of all campaigns, a part larger, and by how many per cent they differ from the reference.

    Parameters
    ----------
    product : Product
        Kind ``campaigns``.
    after : Product, optional
        The same of frames without their stray light: their changes are drawn beneath.
    row : int, optional
        Along the dispersion; the middle one if not given.
    """
    step, across = along(product)
    cuts = [_row_of(one, row) for one in (product, after) if one is not None]
    names = [name.removeprefix("frame_") for name in product.planes if name.startswith("frame_")]
    looks = {n: Style(look.colour, line=LINES[i % 4]) for i, (n, look) in enumerate(styles(names).items())}
    title = titled(product, f"{step} {int(cuts[0]['row'][0])}")
    figure, axes = charts(title, _facts(product), (2 + len(cuts), 1), ROW, (0.85, 0.8))
    above, below = [one[0] for one in axes[:2]], [one[0] for one in axes[2:]]
    for axis, limits in zip(above, (None, larger(cuts[0])), strict=True):
        dress(axis, f"{across} [pixel]", label("signal", product.units.get(f"frame_{names[0]}")), grid=True)
        _curves(axis, cuts[0], "frame_", looks, limits)
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    base = product.provenance.options.get("reference", "the reference")
    for axis, cut, words in zip(below, cuts, ("as they are", "without stray light"), strict=False):
        dress(axis, f"{across} [pixel]", f"above {base} [%]", grid=True)
        _curves(axis, cut, "change_", looks, None)
        axis.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
        if len(cuts) > 1:
            axis.set_title(words, loc="right", fontsize=TEXT, color=INK)
            axis.set_ylim(below[0].get_ylim())
    key_above(axes[0][0], 4)
    return figure


def _row_of(product: Product, row: int | None) -> Columns:
    """One row of all planes across the slices, wavelength along rows."""
    turned = along(product)[0] == "column"
    planes = {
        name: np.asarray(plane).T if turned else np.asarray(plane) for name, plane in product.planes.items()
    }
    ids = planes["slices"]
    chosen = len(ids) // 2 if row is None else row
    lit = np.flatnonzero((ids > 0).any(axis=0))
    here = inside(np.arange(ids.shape[1], dtype=np.float64), (lit[0] - BESIDE, lit[-1] + BESIDE))
    cut = {name: plane[chosen][here] for name, plane in planes.items()}
    return {**cut, "slice": cut["slices"], "col": np.flatnonzero(here), "row": np.full(here.sum(), chosen)}


def _curves(
    axes: Axes, cut: Columns, prefix: str, looks: dict[str, Style], limits: tuple[float, float] | None
) -> None:
    """What of each campaign stands in the planes of a prefix, with the band of its sigma where it has one."""
    shade_gaps(axes, cut)
    drawn = {name: look for name, look in looks.items() if f"{prefix}{name}" in cut}
    shown = limits or (cut["col"][0] - 0.5, cut["col"][-1] + 0.5)
    lit = cut["slice"] > 0 if prefix == "change_" else np.ones(len(cut["col"]), bool)
    here = inside(cut["col"], shown)
    every = []
    for name, look in drawn.items():
        values = np.where(lit, cut[f"{prefix}{name}"], np.nan).astype(float)
        every.append(values[here])
        axes.plot(cut["col"], values, color=look.colour, linestyle=look.line, linewidth=1.1, label=name)
        if prefix == "change_":
            low, high = (values + sign * cut[f"sigma_{name}"] for sign in (-1, 1))
            axes.fill_between(cut["col"], low, high, color=look.colour, alpha=0.25, linewidth=0)
    axes.set_xlim(*shown)
    fit_range(axes, np.concatenate(every), 1.0, 99.0)


def campaign_changes(product: Product) -> Figure:
    """By how many per cent each pixel of the slices differs from the reference, with a part of it, larger."""
    planes = _planes(product, "change_")
    inside = product.planes["slices"] > 0
    planes = {name: np.where(inside, plane, np.nan) for name, plane in planes.items()}
    every = np.concatenate([np.abs(plane[np.isfinite(plane)]) for plane in planes.values()])
    most = float(np.percentile(every, 95)) if every.size else 1.0
    base = product.provenance.options.get("reference", "the reference")
    return _pictures(product, planes, (-most, most), "RdBu_r", f"per cent above {base}", "per cent change")


def campaign_model(product: Product) -> Figure:
    """The joint model, slice by slice: gain, shifts of edges, structure and dispersion, pedestal."""
    table = table_of(product, "model", "slice", "campaign", *PANELS)
    names = list(dict.fromkeys(table["campaign"].tolist()))
    numbers = list(dict.fromkeys(table["slice"].tolist()))
    drawn = styles(names)
    key = [
        Line2D([], [], color=s.colour, marker=s.marker, markersize=4, linestyle="none", label=n)
        for n, s in drawn.items()
    ]
    unit = unit_text(product.units.get("model.pedestal", ""))
    figure, axes = sheet(
        titled(product, "joint model by slice"), _facts(product), [HEIGHT] * len(PANELS), key
    )
    for panel, (what, text) in zip(axes, PANELS.items(), strict=True):
        for place, name in enumerate(names):
            here = table["campaign"] == name
            x = np.array([numbers.index(n) for n in table["slice"][here]], float)
            x += APART * (place - (len(names) - 1) / 2)
            panel.errorbar(
                x, table[what][here], table[f"{what}_sigma"][here], color=drawn[name].colour,
                marker=drawn[name].marker, markersize=3.4, linestyle="none", elinewidth=0.9,
            )  # fmt: skip
        dress(panel, "slice", f"{text}\n[{unit}]" if what == "pedestal" else text, grid=True)
        panel.set_xlabel("")
    axes[-1].set_xlabel("slice, in order across the detector", fontsize=TEXT, color=INK)
    axes[-1].set_xticks(range(len(numbers)), numbers, rotation=90 if len(numbers) > 12 else 0)
    hide_numbers(axes)
    return figure


def campaign_table(product: Product) -> Figure:
    """The numbers of the joint model, mean of the slices, and changes and levels: what changed stands out.

    Parameters
    ----------
    product : Product
        Kind ``campaigns`` with the table ``trend``.
    """
    table = table_of(product, "trend", "campaign", *NUMBERS)
    changed = _changed(product)
    units = {q.name: q.unit for q in product.quantities}
    first, wide, line = 1.6, 2.3, 0.26
    tall = line * (len(NUMBERS) + 1) + 0.2
    width = 0.3 + first + wide * len(table["campaign"])
    figure = headed(titled(product, "joint model, mean of the slices"), _facts(product), width, tall)
    for k, name in enumerate(table["campaign"]):
        left = 0.15 + first + k * wide
        write(figure, left, tall, str(name), TEXT, bold=True)
        for i, (what, words) in enumerate(NUMBERS.items(), 1):
            top = tall - i * line
            if k == 0:
                write(figure, 0.15, top, words, TEXT)
            bold = what in changed.get(str(name), ())
            told = Quantity(
                "", float(table[what][k]), float(table[f"{what}_sigma"][k]) or None, units.get(what, "")
            )
            text = quantity_text(told).strip() if np.isfinite(told.value) else "–"
            write(figure, left, top, text, TEXT, CHANGED if bold else INK, bold=bold)
    return figure


def _changed(product: Product) -> dict[str, list[str]]:
    """What of the joint model changed in each campaign, by its notes."""
    found = {}
    for note in product.provenance.notes:
        told, sign, _ = note.partition(" changed:")
        if sign:
            campaign, _, words = told.partition(": ")
            found[campaign.split(" against ")[0]] = words.split(" and ")
    return found


def gap_levels(product: Product) -> Figure:
    """The level of each gap by campaign, as it is and without what slices spill into it."""
    table = table_of(product, "gaps", "gap", "campaign", "level", "background")
    names = list(dict.fromkeys(table["campaign"].tolist()))
    drawn = styles(names)
    key = [
        Line2D([], [], color=s.colour, marker=s.marker, markersize=4, linewidth=0.9, label=n)
        for n, s in drawn.items()
    ]
    figure, axes = sheet(titled(product, "levels of gaps"), (), (2.4, 2.4), key)
    for panel, what, sigma, text in (
        (axes[0], "level", "sigma", "median"),
        (axes[1], "background", "background_sigma", "without spill"),
    ):
        for name in names:
            here = table["campaign"] == name
            panel.errorbar(
                table["gap"][here], table[what][here], table[sigma][here], color=drawn[name].colour,
                marker=drawn[name].marker, markersize=3.6, linewidth=0.9,
            )  # fmt: skip
        dress(panel, "", label(text, product.units.get("gaps.level")), grid=True)
        values = table[what][np.isfinite(table[what])]
        panel.set_ylim(min(0.0, 1.05 * float(values.min())), 1.08 * float(values.max()))
    axes[-1].set_xlabel("gap, in order across the detector", fontsize=TEXT, color=INK)
    hide_numbers(axes)
    return figure


def _facts(product: Product) -> tuple[str, ...]:
    return tuple(
        note.split(" changed:")[0] + " changed" for note in product.provenance.notes if " changed:" in note
    )


def _planes(product: Product, prefix: str) -> Planes:
    return {n.removeprefix(prefix): p for n, p in product.planes.items() if n.startswith(prefix)}


def _pictures(
    product: Product, planes: Planes, limits: tuple[float, float], colours: str, unit: str, what: str
) -> Figure:
    rows, cols = next(iter(planes.values())).shape
    top, left = max((rows - ZOOM) // 2, 0), max((cols - ZOOM) // 3, 0)
    figure, axes = charts(
        titled(product, what), _facts(product), (2, len(planes)), (SIZE, SIZE), (0.55, 1.35)
    )
    drawn: Any = None
    for (name, plane), whole, part in zip(planes.items(), *axes, strict=True):
        box = slice(top, top + ZOOM), slice(left, left + ZOOM)
        for panel, shown, extent in (
            (whole, plane, (-0.5, cols - 0.5, -0.5, rows - 0.5)),
            (part, plane[box], _extent(plane[box].shape, top, left)),
        ):
            dress(panel, "column", "")
            drawn = panel.imshow(
                shown, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto",
                interpolation="nearest", extent=extent,
            )  # fmt: skip
            panel.set_facecolor("#BDBDBD")
        _frame_of(whole, top, left, plane[box].shape)
        whole.set_title(name, fontsize=TEXT, color=INK)
    for row in axes:
        row[0].set_ylabel("row", fontsize=TEXT, color=INK)
    assert drawn is not None
    above = axes[1][0].inset_axes((0.0, 1.07, 1.0, 0.045))
    bar = figure.colorbar(drawn, cax=above, orientation="horizontal", ticklocation="top")
    bar.set_label(unit, fontsize=TEXT, color=INK)
    above.tick_params(labelsize=SMALL, labelcolor=INK, color=FAINT)
    return figure


def _extent(shape: tuple[int, ...], top: int, left: int) -> tuple[float, float, float, float]:
    return left - 0.5, left + shape[1] - 0.5, top - 0.5, top + shape[0] - 0.5


def _frame_of(axes: Axes, top: int, left: int, shape: tuple[int, ...]) -> None:
    """The outline of what is shown larger."""
    x, y = left - 0.5, top - 0.5
    wide, tall = shape[1], shape[0]
    axes.plot([x, x + wide, x + wide, x, x], [y, y, y + tall, y + tall, y], color="#D55E00", linewidth=1.1)
