"""Linearity: what is left of a straight line before and after the correction, and the correction itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrant.product import Product
from calibrant.report.plots.canvas import FAINT, INK, dress
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    Style,
    absent,
    drawable,
    hide_numbers,
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
    left_out = sum(
        int(np.sum(~rows["used"].astype(bool) & np.isfinite(rows[names[0]]))) for rows in found.values()
    )
    facts = (
        *typical_facts(product, "nonlinearity", "residual_rms", "valid_high", "turnoff", "shutter_offset"),
        f"hollow: left out of the fit ({left_out})" if left_out else "",
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
        most = 0.0
        for amplifier, rows in found.items():
            used = rows["used"].astype(bool)
            points(one, rows["mean"], rows[name], looks[amplifier], used)
            most = max(most, float(np.nanmax(np.abs(rows[name][used]), initial=0.0)))
        _frame(one, product, most)
    axes[-1].set_xlabel(label("mean above the bias", "adu"))
    hide_numbers(axes)
    return figure


def _frame(axes: Axes, product: Product, most: float) -> None:
    """A line at zero, the validity, and a range that holds what was fitted."""
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    for name in ("valid_low", "valid_high"):
        edge = typical(product, name)
        if np.isfinite(edge) and edge > 0:
            axes.axvline(edge, color=VALID.colour, linewidth=0.9, linestyle=VALID.line, zorder=1)
    reach = max(1.15 * most, 1e-3)
    axes.set_ylim(-reach, reach)


def linearity_curves(product: Product) -> Figure:
    """The correction of each amplifier against its measured signal, to the end of its validity.

    Parameters
    ----------
    product : Product
        Kind ``linearity`` with the table ``curve``: measured and correction [adu].

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplifier has a correction.
    """
    found = drawable(product, "curve", "correction", "measured")
    looks = styles(found)
    key = [Style(look.colour, line=look.line).entry(name) for name, look in looks.items()]
    facts = (
        *typical_facts(product, "nonlinearity", "valid_low", "valid_high"),
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
