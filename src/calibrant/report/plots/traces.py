"""Traces: on the image they were found in, with the centre of each row, and the spectra along them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrant.product import Product
from calibrant.report.plots.canvas import FAINT, INK, SMALL, TEXT, dress, key_above
from calibrant.report.plots.cuts import along, fit_range
from calibrant.report.plots.fringes import WIDE, continuum_charts
from calibrant.report.plots.grids import RISING
from calibrant.report.plots.look import NO_DATA_COLOUR
from calibrant.report.plots.panels import product_facts
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import TALL, Columns, charts, parts, sheet, styles, table_of, titled

SIZE = (4.2, 5.0)
BESIDE = 10
"""Columns shown beside a trace."""
LINE = "#D55E00"


def trace_image(product: Product) -> Figure:
    """The traces on the image, and how far the centre of each row lies from its trace.

    Parameters
    ----------
    product : Product
        Kind ``trace`` with the plane ``image``.
    """
    table = table_of(product, "trace", "slice", "row", "col", "sigma", "used", "centre")
    slices = parts(table, "slice")
    centred = bool(np.isfinite(table["centre"]).any())
    step, across = along(product)
    notes = tuple(f"slice {name}" for name in slices) if len(slices) == 1 else (f"{len(slices)} slices",)
    figure, axes = charts(
        titled(product, "on the image"), (*product_facts(product), *notes), (1, 1 + centred), SIZE, (1.5, 0.8)
    )
    _image(figure, axes[0][0], product, table, slices)
    axes[0][0].set_xlabel(f"{across} [pixel]", fontsize=TEXT, color=INK)
    axes[0][0].set_ylabel(f"{step} [pixel]", fontsize=TEXT, color=INK)
    if centred:
        _offsets(axes[0][1], slices)
        dress_offsets(axes[0][1], across, step)
    return figure


def _image(figure: Figure, axes: Axes, product: Product, table: Columns, slices: dict[str, Columns]) -> None:
    dress(axes)
    image = np.asarray(product.planes["image"], float)
    image = image.T if along(product)[0] == "column" else image
    known = table["col"][np.isfinite(table["col"])]
    first = max(int(known.min()) - BESIDE, 0)
    last = min(int(known.max()) + BESIDE + 1, image.shape[1])
    part = image[:, first:last]
    low, high = np.nanpercentile(part, (5.0, 99.5))
    drawn = axes.imshow(
        np.ma.masked_invalid(part), origin="lower", aspect="auto", cmap=RISING, vmin=low, vmax=high,
        interpolation="nearest", extent=(first - 0.5, last - 0.5, -0.5, len(image) - 0.5),
    )  # fmt: skip
    axes.set_facecolor(NO_DATA_COLOUR)
    for name, rows in slices.items():
        axes.plot(rows["col"], rows["row"], color="white", linewidth=2.2)
        axes.plot(
            rows["col"],
            rows["row"],
            color=LINE,
            linewidth=1.1,
            label="trace" if name == next(iter(slices)) else "_",
        )
    axes.set_xlim(first - 0.5, last - 0.5)
    axes.set_ylim(-0.5, len(image) - 0.5)
    if axes is figure.axes[-1]:  # room for the colours
        place = axes.get_position()
        axes.set_position((place.x0, place.y0, 0.8 * place.width, place.height))
    beside = axes.inset_axes((1.03, 0.0, 0.035, 1.0))
    bar = figure.colorbar(drawn, cax=beside)
    bar.set_label(label("signal", product.units.get("image")), fontsize=TEXT, color=INK)
    beside.tick_params(labelsize=SMALL, labelcolor=INK, color=FAINT)
    key_above(axes)


def _offsets(axes: Axes, slices: dict[str, Columns]) -> None:
    looks = styles(slices)
    for name, rows in slices.items():
        used = rows["used"].astype(bool)
        away = rows["centre"] - rows["col"]
        for some, fill, text in ((used, "full", "used"), (~used & np.isfinite(away), "none", "left out")):
            axes.plot(
                away[some], rows["row"][some], "o", color=looks[name].colour, markersize=2.4, fillstyle=fill,
                linestyle="none", label=text if len(slices) == 1 else "_",
            )  # fmt: skip
        axes.fill_betweenx(
            rows["row"], -rows["sigma"], rows["sigma"], color=LINE, alpha=0.4, linewidth=0,
            label="sigma of the trace" if len(slices) == 1 else "_",
        )  # fmt: skip
    used = np.concatenate([rows["used"].astype(bool) for rows in slices.values()])
    away = np.concatenate([rows["centre"] - rows["col"] for rows in slices.values()])[used]
    reach = 1.3 * float(np.nanmax(np.abs(away), initial=1e-3))
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.5, max(float(rows["row"].max()) for rows in slices.values()) + 0.5)


def dress_offsets(axes: Axes, across: str, step: str) -> None:
    """Axes of the offsets, after what is drawn in them."""
    dress(axes, f"centre − trace [{across}s]", f"{step} [pixel]", grid=True)
    axes.axvline(0.0, color=INK, linewidth=0.8, zorder=1)
    key_above(axes, 3)


def spectrum(product: Product) -> Figure:
    """The light along traces against wavelength, or against the row where there are no wavelengths.

    Of one slice with its peaks and the continuum through them, and a part larger.

    Parameters
    ----------
    product : Product
        Kind ``spectrum``.
    """
    slices = parts(table_of(product, "spectrum", "slice", "row", "wavelength", "value", "sigma"), "slice")
    looks = styles(slices)
    waves = any(np.isfinite(rows["wavelength"]).any() for rows in slices.values())
    key = [look.entry(f"slice {name}") for name, look in looks.items()] if len(slices) > 1 else []
    told = f"slice {next(iter(slices))}" if len(slices) == 1 else ""
    only = next(iter(slices.values()))
    if told and waves and np.isfinite(only.get("continuum", [np.nan])).any():
        title = titled(product, "spectrum and continuum")
        figure, grid = charts(title, (*product_facts(product), told), (2, 1), WIDE)
        continuum_charts([row[0] for row in grid], only, label("signal", product.units.get("spectrum.value")))
        key_above(grid[0][0], 3)
        return figure
    figure, (axes,) = sheet(titled(product, "along the trace"), (*product_facts(product), told), (TALL,), key)
    dress(
        axes, "wavelength [µm]" if waves else f"{along(product)[0]} [pixel]",
        label("signal", product.units.get("spectrum.value")), grid=True,
    )  # fmt: skip
    for name, rows in slices.items():
        x = rows["wavelength"] if waves else rows["row"]
        axes.plot(x, rows["value"], color=looks[name].colour, linewidth=0.9)
        if np.isfinite(rows["sigma"]).any():
            low, high = rows["value"] - rows["sigma"], rows["value"] + rows["sigma"]
            axes.fill_between(x, low, high, color=looks[name].colour, alpha=0.3, linewidth=0)
    fit_range(axes, np.concatenate([rows["value"] for rows in slices.values()]), 0.2, 99.8)
    return figure
