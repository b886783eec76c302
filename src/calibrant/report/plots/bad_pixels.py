"""Bad pixels by kind, dark slopes, and their history over epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from calibrant.errors import SelectionError
from calibrant.frame import MICROSECOND
from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, INK, SMALL, dress
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, quantity_text, shown_plane
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    TALL,
    Columns,
    Style,
    hide_numbers,
    parts,
    sheet,
    styles,
    table_of,
    titled,
)

BAR = 0.32
"""Inches of a bar with its gap."""
WORDS = {"rc": "RC", "low_qe": "low QE", "adjacent_open": "beside open"}
"""Kinds as they are written on pictures."""
CORE = 12.0
"""Robust sigmas about the middle of a histogram of slopes; what is beyond is counted, not drawn."""


def bad_pixel_kinds(product: Product) -> Figure:
    """How many pixels are bad, of each kind.

    Parameters
    ----------
    product : Product
        Kind ``bad_pixels`` with the table ``kinds`` (kind, pixels, fraction).
    """
    table = table_of(product, "kinds", "kind", "pixels", "fraction")
    names = [WORDS.get(str(name), str(name)) for name in table["kind"]][::-1]
    pixels = np.asarray(table["pixels"], np.float64)[::-1]
    share = 100 * np.asarray(table["fraction"], np.float64)[::-1]
    facts = tuple(quantity_text(q) for q in product.quantities if q.name in ("hot_limit", "noisy_limit"))
    height = max(1.2, BAR * len(names))
    unusable = product.quantity("unusable").value
    facts = (f"unusable {100 * unusable:.3g} %", *facts)
    figure, (axes,) = sheet(titled(product, "bad pixels by kind"), facts, (height,))
    dress(axes, "pixels", "")
    axes.barh(np.arange(len(names)), np.maximum(pixels, 0.3), color=CURVES[0], height=0.62)
    axes.set_yticks(range(len(names)), names)
    axes.set_xscale("log")
    most = float(pixels.max()) if pixels.size else 1.0
    axes.set_xlim(0.5, max(10.0, most * 12))
    axes.minorticks_off()
    for at, (many, part) in enumerate(zip(pixels, share, strict=True)):
        told = f"  {int(many)} ({part:.3g} %)" if many else "  none"
        axes.text(max(many, 0.5), at, told, va="center", ha="left", fontsize=SMALL, color=INK)
    return figure


def dark_slope_map(product: Product) -> Figure:
    """The dark slope of every pixel.

    Parameters
    ----------
    product : Product
        Kind ``dark_slope``.
    """
    what = shown_plane(product, "data")
    picture = Picture(
        what, Look("median", low=-3.0, high=8.0), title=titled(product, "map"),
        facts=product_facts(product), quantity="dark slope",
    )  # fmt: skip
    return panels([picture])


def dark_slope_histogram(product: Product) -> Figure:
    """How many pixels have which slope; what lies far above is counted.

    Parameters
    ----------
    product : Product
        Kind ``dark_slope``.
    """
    values = np.asarray(product.data, np.float64)
    values = values[np.isfinite(values) & ((product.planes["dq"] & np.uint32(1 << 31)) == 0)]
    if values.size == 0:
        raise SelectionError("the dark slope has no number to draw", where=product.kind)
    middle = float(np.median(values))
    width = 1.4826 * float(np.median(np.abs(values - middle))) or max(abs(middle), 1e-6)
    low, high = middle - CORE * width, middle + 3 * CORE * width
    facts = (
        *product_facts(product),
        f"{int((values > high).sum())} pixels beyond, {int((values < low).sum())} below",
    )
    figure, (axes,) = sheet(titled(product, "slopes of the pixels"), facts, (TALL,))
    dress(axes, label("dark slope", "adu/s"), "pixels per bin", grid=True)
    counts, edges = np.histogram(values, 240, (low, high))
    axes.stairs(counts, edges, color=CURVES[0], fill=True, alpha=0.35)
    axes.stairs(counts, edges, color=CURVES[0], linewidth=1.2)
    axes.axvline(middle, color=CURVES[1], linewidth=1.3)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(low, high)
    return figure


def epochs(product: Product, names: Sequence[str]) -> Figure:
    """Quantities of detectors against time, one panel for each; of several places the mean.

    Parameters
    ----------
    product : Product
        With the table ``trend`` (detector, epoch, quantity, place, value, sigma).
    names : sequence of str
        Of the quantities.

    Raises
    ------
    SelectionError
        If none of them is in the table.
    """
    table = table_of(product, "trend", "detector", "epoch", "quantity", "place", "value", "sigma")
    several = parts(table, "quantity")
    drawn = [name for name in names if name in several]
    if not drawn:
        raise SelectionError("the trend holds nothing of this", got=", ".join(names), where=product.kind)
    detectors = list(dict.fromkeys(np.asarray(table["detector"]).astype(str).tolist()))
    looks = styles(detectors)
    key = [Style(look.colour, look.marker, "-").entry(name or "detector") for name, look in looks.items()]
    title = titled(product, "epochs")
    figure, axes = sheet(title, product_facts(product), [1.8] * len(drawn), key)
    for one, name in zip(axes, drawn, strict=True):
        unit = next(iter(q.unit for q in product.quantities if q.name == name), "")
        dress(one, "", label(name.replace("_", " "), product.units.get(f"trend.{name}", unit)), grid=True)
        rows = parts(several[name], "detector")
        for detector, look in looks.items():
            if detector in rows:
                days, value, sigma = _means(rows[detector])
                one.errorbar(
                    days, value, sigma, color=look.colour, marker=look.marker, markersize=4, linewidth=1.0,
                    capsize=2,
                )  # fmt: skip
    hide_numbers(axes)
    axes[-1].xaxis_date()
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(axes[-1].xaxis.get_major_locator()))
    return figure


def _means(rows: Columns) -> tuple[list[float], list[float], list[float]]:
    """Days since 1970, value and sigma of each epoch: of the whole detector, else the mean of its places."""
    days, values, sigmas = [], [], []
    for epoch in np.unique(rows["epoch"]):
        here = rows["epoch"] == epoch
        whole = here & (np.asarray(rows["place"]).astype(str) == "")
        use = whole if whole.any() else here
        sigma = rows["sigma"][use]
        days.append(float(epoch) / (86_400 * MICROSECOND))
        values.append(float(np.mean(rows["value"][use])))
        known = sigma[np.isfinite(sigma)]
        sigmas.append(math.sqrt(float((known**2).sum())) / len(sigma) if known.size else 0.0)
    return days, values, sigmas
