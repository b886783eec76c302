"""Fringes: spectrum with peaks and continuum, the fit of a column, depths, thicknesses, and two sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, FAINT, INK, dress, key_above
from calibrant.report.plots.cuts import along, fit_range, inside
from calibrant.report.plots.panels import product_facts
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    LOW,
    TALL,
    Columns,
    Style,
    charts,
    hide_numbers,
    parts,
    residual_lines,
    sheet,
    styles,
    table_of,
    titled,
)

WIDE = (7.2, 2.2)
FRINGES = 10
"""Peaks in the part that is shown larger."""
MICRON = "wavelength [µm]"
DATA, MODEL, CONTINUUM = CURVES[0], CURVES[1], CURVES[2]
UM = 1e4  # micrometres in a centimetre
KINDS = {"depth": Style(CURVES[0], "o"), "depth_intrinsic": Style(CURVES[1], "s")}
WORDS = {"depth": "as observed", "depth_intrinsic": "of the plate itself"}


def fringe_spectrum(product: Product) -> Figure:
    """One column against wavelength with its peaks and the continuum through them; a part larger.

    Parameters
    ----------
    product : Product
        Kind ``fringe`` with the table ``example``.
    """
    table = _example(product)
    figure, axes = charts(
        titled(product, "spectrum and continuum"), (*product_facts(product), _where(product)), (2, 1), WIDE
    )
    used = table["used"].astype(bool)
    unit = label("signal", product.units.get("example.value"))
    continuum_charts(
        [row[0] for row in axes], {**table, "value": np.where(used, table["value"], np.nan)}, unit
    )
    key_above(axes[0][0], 3)
    return figure


def continuum_charts(axes: Sequence[Axes], table: Columns, unit: str) -> None:
    """A spectrum with its peaks and the continuum through them, whole and, in the second chart, a part.

    Parameters
    ----------
    axes : two Axes
    table : mapping
        wavelength [um], value and continuum (NaN where nothing is known), peak.
    unit : str
        What stands at the axis of the signal.
    """
    wave, value, level = (np.asarray(table[name], float) for name in ("wavelength", "value", "continuum"))
    known = np.isfinite(value) & np.isfinite(wave)
    peak = np.asarray(table["peak"], bool) & known
    for axis, limits in zip(
        axes, (None, _part({"wavelength": wave[known], "peak": peak[known]})), strict=True
    ):
        dress(axis, MICRON, unit, grid=True)
        axis.plot(wave, value, color=DATA, linewidth=0.9, label="spectrum")
        axis.plot(wave, level, color=CONTINUUM, linewidth=1.2, label="continuum")
        axis.plot(wave[peak], value[peak], "o", color=MODEL, markersize=3.2, label="peaks")
        shown = known if limits is None else known & inside(wave, limits)
        if limits is not None:
            axis.set_xlim(*limits)
        fit_range(axis, np.append(value[shown], level[shown]), 0.0, 100.0)


def fringe_fit(product: Product) -> Figure:
    """Transmission of one column with its fit, a part larger with errors, and the residual in sigmas.

    Parameters
    ----------
    product : Product
        Kind ``fringe`` with the table ``example``.
    """
    table = _example(product)
    used = table["used"].astype(bool)
    level = table["continuum"]
    figure, axes = charts(
        titled(product, "fit of one column"), (*product_facts(product), _where(product)), (3, 1), WIDE
    )
    for k in (0, 1):
        axis = axes[k][0]
        dress(axis, MICRON, "signal / continuum", grid=True)
        axis.errorbar(
            table["wavelength"][used], (table["value"] / level)[used],
            (table["sigma"] / level)[used] if k else None, color=DATA, fmt=".", markersize=4 if k else 2.5,
            elinewidth=0.8, label="spectrum",
        )  # fmt: skip
        axis.plot(table["wavelength"], table["model"] / level, color=MODEL, linewidth=1.0, label="fit")
        axis.axhline(1.0, color=FAINT, linewidth=0.7, linestyle="--", zorder=1)
    axes[1][0].set_xlim(*_part(table))
    shown = used & inside(table["wavelength"], _part(table))
    fit_range(axes[1][0], (table["value"] / level)[shown], 0.0, 100.0)
    sigma = table["sigma"]
    told = np.isfinite(sigma).any()
    rest = (table["value"] - table["model"]) / (sigma if told else 1.0)
    below = axes[2][0]
    unit = "sigma" if told else product.units.get("example.value")
    dress(below, MICRON, label("less fit", unit), grid=True)
    for some, fill, text in ((used, "full", "used"), (~used, "none", "left out")):
        below.plot(
            table["wavelength"][some], rest[some], "o", color=DATA, markersize=2.4, fillstyle=fill, label=text
        )
    residual_lines(below, float(np.nanmax(np.abs(rest[used]), initial=0.0)) if told else 1.0)
    if not told:
        fit_range(below, rest[used], 0.0, 100.0)
    key_above(axes[0][0], 2)
    return figure


def fringe_depths(products: Product | Mapping[str, Product]) -> Figure:
    """Depth against wavelength, slice by slice, as observed and of the plate itself, each with its error.

    Parameters
    ----------
    products : Product, or a mapping of names to them
        Kind ``fringe`` with the table ``fringes``; a column of charts for each.
    """
    several = {"": products} if isinstance(products, Product) else dict(products)
    first = next(iter(several.values()))
    facts = product_facts(first) if len(several) == 1 else ()
    figure, axes = charts(
        titled(first, "depth against wavelength"), facts, (2, len(several)), (5.6 / len(several) + 1.0, 2.6)
    )
    for k, (name, product) in enumerate(several.items()):
        table = table_of(product, "fringes", "wavelength", "depth", "depth_sigma", "R", "R_sigma")
        above, below = axes[0][k], axes[1][k]
        dress(above, MICRON, "depth" if k == 0 else "", grid=True)
        dress(below, MICRON, "reflectivity R" if k == 0 else "", grid=True)
        for what, look in KINDS.items():
            if np.isfinite(table[what]).any():
                _points(above, table["wavelength"], table[what], table[f"{what}_sigma"], look, WORDS[what])
        _points(below, table["wavelength"], table["R"], table["R_sigma"], Style(CURVES[2], "D"), "")
        if not np.isfinite(table["R"]).any():
            below.text(
                0.5, 0.5, "not known without a resolution", transform=below.transAxes, ha="center", color=INK
            )
        above.set_title(name, loc="right", fontsize=9, color=INK)
        for axis in (above, below):
            axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    if len(several) > 1:
        for row in axes:
            top = max(axis.get_ylim()[1] for axis in row)
            for axis in row:
                axis.set_ylim(top=top)
    key_above(axes[0][0], 2)
    return figure


def _points(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    sigma: NDArray[np.float64],
    look: Style,
    text: str,
) -> None:
    axes.errorbar(
        x, y, sigma, color=look.colour, marker=look.marker, markersize=3.0, linestyle="none", elinewidth=0.8,
        label=text or "_", alpha=0.8,
    )  # fmt: skip


def fringe_columns(product: Product) -> Figure:
    """Optical thickness and phase of each column, slices told by colour.

    Parameters
    ----------
    product : Product
        Kind ``fringe`` with the table ``columns``.
    """
    slices = parts(
        table_of(product, "columns", "slice", "col", "D", "D_sigma", "phase", "phase_sigma"), "slice"
    )
    looks = styles(slices)
    pivot = next((q.value for q in product.quantities if q.name == "pivot"), float("nan"))
    key = [look.entry(f"slice {name}") for name, look in looks.items()]
    figure, axes = sheet(titled(product, "columns"), product_facts(product), (2.6, 2.6), key)
    dress(axes[0], "", "thickness D [µm]", grid=True)
    dress(axes[1], f"{along(product)[1]} [pixel]", f"phase at {pivot:g} cm⁻¹ [cycle]", grid=True)
    for name, rows in slices.items():
        for axis, what in zip(axes, ("D", "phase"), strict=True):
            axis.errorbar(
                rows["col"], rows[what], rows[f"{what}_sigma"], color=looks[name].colour,
                marker=looks[name].marker, markersize=2.6, linestyle="none", elinewidth=0.7,
            )  # fmt: skip
    for axis in axes:
        axis.ticklabel_format(axis="y", useOffset=False)
    every = np.concatenate([rows["D"] for rows in slices.values()])
    fit_range(axes[0], every, 1.0, 99.0)
    phases = np.concatenate([rows["phase"] for rows in slices.values()])
    if np.ptp(phases) < 0.5:
        fit_range(axes[1], phases, 1.0, 99.0)
    else:  # they turn over
        axes[1].set_ylim(-0.03, 1.03)
    hide_numbers(axes)
    return figure


# --- two sources ------------------------------------------------------------------------------------------


def transmissions(product: Product, names: Sequence[str] | None = None) -> Figure:
    """The same column of two sources over its continuum, with the fits; a part larger.

    Parameters
    ----------
    product : Product
        Kind ``fringe_comparison`` with the table ``transmissions``.
    names : two str, optional
        What the first and the second source are called.
    """
    names = names or _names(product)
    table = table_of(product, "transmissions", "wavelength", "first", "second", "first_fit", "second_fit")
    place = f"slice {int(table['slice'][0])}, {along(product)[1]} {int(table['col'][0])}"
    figure, axes = charts(
        titled(product, "fringe transmissions"), (*product_facts(product), place), (2, 1), WIDE
    )
    looks = {"first": Style(CURVES[0], "o", "-"), "second": Style(CURVES[1], "s", "--")}
    low = min(float(np.nanmin(table[f"{which}_fit"])) for which in looks)
    for k, (axis,) in enumerate(axes):
        dress(axis, MICRON, "signal / continuum", grid=True)
        axis.axhline(1.0, color=FAINT, linewidth=0.8, linestyle="--", zorder=1)
        for (which, look), text in zip(looks.items(), names, strict=True):
            axis.plot(
                table["wavelength"], table[f"{which}_fit"], color=look.colour, linestyle=look.line,
                linewidth=1.1, label=text,
            )  # fmt: skip
            if k:
                axis.errorbar(
                    table["wavelength"], table[which], table[f"{which}_sigma"], color=look.colour,
                    marker=look.marker, markersize=3, linestyle="none", elinewidth=0.8,
                )  # fmt: skip
        axis.set_ylim(low - 0.15 * (1 - low), 1 + 0.2 * (1 - low))
    wave, middle = table["wavelength"], len(table["wavelength"]) // 2
    half = max(1, round(0.05 * len(wave)))
    axes[1][0].set_xlim(*sorted((wave[middle - half], wave[min(middle + half, len(wave) - 1)])))
    key_above(axes[0][0], 2)
    return figure


def _names(product: Product) -> list[str]:
    """Of the first and the second: what is held against a source comes second, over it."""
    return [str(product.keys.get(key, word)) for key, word in (("against", "first"), ("source", "second"))]


def contrast_ratio(product: Product) -> Figure:
    """Ratio of contrasts and difference of phases of two sources against wavenumber, with each cause's model.

    Parameters
    ----------
    product : Product
        Kind ``fringe_comparison`` with the tables ``wavelengths``, ``causes`` and ``models``.
    """
    seen = table_of(product, "wavelengths", "wavelength", "R_ratio", "R_ratio_sigma", "phase", "phase_sigma")
    curves = parts(table_of(product, "models", "cause", "wavelength", "ratio", "phase"), "cause")
    ranks = {
        str(c): float(b)
        for c, b in zip(product.tables["causes"]["cause"], product.tables["causes"]["bic"], strict=True)
    }
    looks = {name: Style(CURVES[i + 1], line=("-", "--", ":")[i]) for i, name in enumerate(curves)}
    least = min(ranks.values())
    key: list[Line2D] = [Style(CURVES[0], "o").entry("measured")]
    key += [look.entry(f"{n.replace('_', ' ')}: BIC +{ranks[n] - least:.0f}") for n, look in looks.items()]
    facts = (*product_facts(product), *product.provenance.notes[:1])
    figure, axes = sheet(titled(product, "ratio of contrasts"), facts, (TALL, LOW + 0.5), key)
    first, second = _names(product)
    dress(axes[0], "", f"{second} / {first}:\nratio of reflectivities", grid=True)
    dress(axes[1], "wavenumber [cm⁻¹]", f"{second} − {first}:\nphase [cycle]", grid=True)
    wavenumber = UM / seen["wavelength"]
    for axis, what, column in ((axes[0], "R_ratio", "ratio"), (axes[1], "phase", "phase")):
        for name, rows in curves.items():
            order = np.argsort(rows["wavelength"])
            curve = rows[column] - (np.round(rows[column] - seen[what]) if what == "phase" else 0.0)
            axis.plot(
                (UM / rows["wavelength"])[order], curve[order], color=looks[name].colour,
                linestyle=looks[name].line, linewidth=1.4, zorder=2,
            )  # fmt: skip
        axis.errorbar(
            wavenumber, seen[what], seen[f"{what}_sigma"], color=CURVES[0], marker="o", markersize=3.6,
            linestyle="none", elinewidth=0.9, zorder=3,
        )  # fmt: skip
    axes[1].axhline(0.0, color=FAINT, linewidth=0.7, zorder=1)
    hide_numbers(axes)
    return figure


def _example(product: Product) -> Columns:
    return table_of(product, "example", "wavelength", "value", "sigma", "continuum", "model", "used", "peak")


def _where(product: Product) -> str:
    table = product.tables["example"]
    return f"slice {int(table['slice'][0])}, {along(product)[1]} {int(table['col'][0])}"


def _part(table: Columns) -> tuple[float, float]:
    """Wavelengths of some fringes about the middle."""
    waves = np.sort(table["wavelength"][table["peak"].astype(bool)])
    if waves.size <= FRINGES:
        return float(np.min(table["wavelength"])), float(np.max(table["wavelength"]))
    first = (waves.size - FRINGES) // 2
    return float(waves[first]), float(waves[first + FRINGES])
