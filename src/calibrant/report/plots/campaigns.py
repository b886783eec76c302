"""Campaigns: frames on a row with a zoom, per cent changes, numbers of the joint model, levels of gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import FAINT, INK, SMALL, TEXT, dress
from calibrant.report.plots.pixels import unit_text
from calibrant.report.plots.sheets import charts, hide_numbers, sheet, styles, table_of, titled

ZOOM = 64
"""Pixels on a side of what is shown larger."""
SIZE = 3.0
"""Inches: side of a picture."""
PANELS = {
    "gain": "gain",
    "edge": "edge shift\n(pixels)",
    "structure": "structure shift\n(pixels)",
    "dispersion": "dispersion shift\n(pixels)",
    "pedestal": "pedestal",
}
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
    for panel, (what, label) in zip(axes, PANELS.items(), strict=True):
        for place, name in enumerate(names):
            here = table["campaign"] == name
            x = np.array([numbers.index(n) for n in table["slice"][here]], float)
            x += APART * (place - (len(names) - 1) / 2)
            panel.errorbar(
                x, table[what][here], table[f"{what}_sigma"][here], color=drawn[name].colour,
                marker=drawn[name].marker, markersize=3.4, linestyle="none", elinewidth=0.9,
            )  # fmt: skip
        dress(panel, "slice", f"{label}\n({unit})" if what == "pedestal" else label, grid=True)
        panel.set_xlabel("")
    axes[-1].set_xlabel("slice, in order across the detector", fontsize=TEXT, color=INK)
    axes[-1].set_xticks(range(len(numbers)), numbers, rotation=90 if len(numbers) > 12 else 0)
    hide_numbers(axes)
    return figure


def gap_levels(product: Product) -> Figure:
    """The level of each gap by campaign, as it is and without what slices spill into it."""
    table = table_of(product, "gaps", "gap", "campaign", "level", "background")
    names = list(dict.fromkeys(table["campaign"].tolist()))
    drawn = styles(names)
    key = [
        Line2D([], [], color=s.colour, marker=s.marker, markersize=4, linewidth=0.9, label=n)
        for n, s in drawn.items()
    ]
    unit = unit_text(product.units.get("gaps.level", ""))
    figure, axes = sheet(titled(product, "levels of gaps"), (), (2.4, 2.4), key)
    for panel, what, sigma, label in (
        (axes[0], "level", "sigma", "median"),
        (axes[1], "background", "background_sigma", "without spill"),
    ):
        for name in names:
            here = table["campaign"] == name
            panel.errorbar(
                table["gap"][here], table[what][here], table[sigma][here], color=drawn[name].colour,
                marker=drawn[name].marker, markersize=3.6, linewidth=0.9,
            )  # fmt: skip
        dress(panel, "", f"{label} ({unit})", grid=True)
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
