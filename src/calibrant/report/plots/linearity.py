"""Linearity: what is left of a straight line before and after the correction, and the correction itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrant.product import Product
from calibrant.report.plots.canvas import FAINT, INK, SMALL, dress
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    Columns,
    Style,
    absent,
    drawable,
    hide_numbers,
    hollow,
    points,
    sheet,
    styles,
    titled,
    typical,
    typical_facts,
)

HALF = 2.4
VALID = Style(FAINT, line="--")


def linearity_residuals(product: Product) -> Figure:
    """Deviation from the straight line in per cent of the signal, before and after the correction.

    Parameters
    ----------
    product : Product
        Kind ``linearity`` with the table ``linearity``: mean [adu], residual_before and residual_after [%],
        used. Hollow points were left out of the fit; dashed lines mark the validity.

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplifier has a residual.
    """
    names = "residual_before", "residual_after"
    found = drawable(product, "linearity", *names, "mean", "used")
    looks = styles(found)
    dots = {name: replace(look, line="") for name, look in looks.items()}
    key = [look.entry(name) for name, look in dots.items()] if len(looks) > 1 else []
    facts = (
        *typical_facts(product, "nonlinearity", "residual_rms", "valid_high", "turnoff", "shutter_offset"),
        hollow(found, names[0]),
        absent(product, "linearity", found),
    )
    figure, axes = sheet(
        titled(product, "deviation from a straight line"),
        facts,
        (HALF, HALF),
        [*key, VALID.entry("validity")],
    )
    for one, name in zip(axes, names, strict=True):
        dress(one, "", f"{name.replace('_', ' ')} [%]", grid=True)
        one.set_xscale("log")
        for amplifier, rows in found.items():
            points(one, rows["mean"], rows[name], looks[amplifier], rows["used"].astype(bool))
        _frame(one, product, found, name)
    axes[-1].set_xlabel(label("mean above the bias", "adu"))
    hide_numbers(axes)
    return figure


def _frame(axes: Axes, product: Product, found: Mapping[str, Columns], name: str) -> None:
    """A line at zero, the validity, and a range that holds what was fitted; what lies beyond is counted."""
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    for end in ("valid_low", "valid_high"):
        edge = typical(product, end)
        if np.isfinite(edge) and edge > 0:
            axes.axvline(edge, color=VALID.colour, linewidth=0.9, linestyle=VALID.line, zorder=1)
    residual, used = (np.concatenate([rows[key] for rows in found.values()]) for key in (name, "used"))
    fitted = np.abs(residual[used.astype(bool) & np.isfinite(residual)])
    reach = max(1.15 * float(np.max(fitted, initial=0.0)), 1e-3)
    axes.set_ylim(-reach, reach)
    beyond = int(np.sum(np.abs(residual[np.isfinite(residual)]) > reach))
    if beyond:
        axes.text(
            0.5, 0.97, f"{beyond} beyond the axes", transform=axes.transAxes, ha="center", va="top",
            fontsize=SMALL, color=FAINT,
        )  # fmt: skip


def linearity_curves(product: Product) -> Figure:
    """The correction of each amplifier against its measured signal, to the end of its validity.

    Parameters
    ----------
    product : Product
        Kind ``linearity`` with the table ``curve``: measured, correction, and sigma if known [adu].

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplifier has a correction.
    """
    found = drawable(product, "curve", "correction", "measured")
    shaded = "shaded: 1 sigma" if "sigma" in product.tables["curve"] else ""
    looks = styles(found)
    key = [Style(look.colour, line=look.line).entry(name) for name, look in looks.items()]
    facts = (
        *typical_facts(product, "nonlinearity", "valid_low", "valid_high"),
        shaded,
        absent(product, "curve", found),
    )
    figure, axes = sheet(
        titled(product, "correction"), facts, (HALF, HALF),
        [*(key if len(key) > 1 else []), VALID.entry("validity")],
    )  # fmt: skip
    dress(axes[0], "", label("correction", "adu"), grid=True)
    dress(axes[1], label("measured above the bias", "adu"), "correction [% of signal]", grid=True)
    for name, rows in found.items():
        measured, correction = rows["measured"], rows["correction"]
        lit = measured > 0.01 * np.nanmax(measured)
        look = looks[name]
        _shade(axes[0], rows, look)
        axes[0].plot(measured, correction, color=look.colour, linestyle=look.line, linewidth=1.1)
        percent = 100.0 * correction[lit] / measured[lit]
        axes[1].plot(measured[lit], percent, color=look.colour, linestyle=look.line, linewidth=1.1)
    for one in axes:
        one.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
        for edge in (typical(product, "valid_low"), typical(product, "valid_high")):
            if np.isfinite(edge):
                one.axvline(edge, color=VALID.colour, linewidth=0.9, linestyle=VALID.line, zorder=1)
    hide_numbers(axes)
    return figure


def _shade(axes: Axes, rows: Columns, look: Style) -> None:
    if "sigma" in rows:
        sigma = np.nan_to_num(rows["sigma"])
        low, high = rows["correction"] - sigma, rows["correction"] + sigma
        axes.fill_between(rows["measured"], low, high, color=look.colour, alpha=0.15, linewidth=0)
