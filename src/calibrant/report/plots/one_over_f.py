"""1/f noise: spectra with the fitted parts, coherence with reference pixels and its weights, the pattern."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, FAINT, INK, dress
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.grids import EITHER
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, shown_plane
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    LOW,
    TALL,
    Columns,
    Style,
    hide_numbers,
    parts,
    residual_lines,
    sheet,
    short,
    styles,
    table_of,
    titled,
    typical,
)

PARTS = {
    "white": Style(CURVES[5], line="-"),
    "common": Style(CURVES[1], line="-"),
    "own": Style(CURVES[2], line="-"),
    "alternating": Style(CURVES[3], line="--"),
}
TOTAL, ROW = Style(INK, line="-"), Style(FAINT, line=":")
DEEP = 30.0  # parts are drawn down to the smallest power measured over this
NOISY = 0.3  # sigma of a coherence from which on its bin is not drawn


def noise_spectra(product: Product) -> Figure:
    """Powers of the outputs, mean of them, with the fitted parts, and how far each lies off the fit.

    The panel at the bottom is the mirror image at the Nyquist frequency, where noise is that alternates from
    column to column: its x axis is the distance from there.

    Parameters
    ----------
    product : Product
        Kind ``one_over_f`` with the tables ``spectra`` and ``clock``; powers and parts are as tapers and
        overheads show them.

    Raises
    ------
    SelectionError
        If it has no such table.
    """
    table = table_of(product, "spectra", "scale", "output", "frequency", "power", "sigma", *PARTS)
    outputs, mirrored = _both_ends(product, table)
    looks = styles(outputs)
    row = typical(product, "row_frequency")
    key = [Style(INK, "o").entry("mean of the outputs"), TOTAL.entry("sum of the parts")]
    key += [look.entry(name) for name, look in PARTS.items()]
    key += [ROW.entry(f"row frequency: {short(row)} Hz")]
    key += [Style(look.colour, "o").entry(f"output {name}") for name, look in looks.items()]
    facts = (*product_facts(product), "single reads, one-sided", _numbers(product))
    figure, axes = sheet(titled(product, "spectra"), facts, (TALL, LOW, LOW), key)
    dress(axes[0], "", label("power", "adu2/Hz"), grid=True)
    dress(axes[1], "", "less fit [sigma]", grid=True)
    dress(axes[2], label("frequency; at the bottom: below Nyquist", "Hz"), "ADU²/Hz\nalternating", grid=True)
    _mean_spectrum(axes[0], list(outputs.values()))
    _mean_spectrum(axes[2], list(mirrored.values()))
    most = 0.0
    for name, look in looks.items():
        rows = outputs[name]
        pulls = (rows["power"] - _total(rows)) / rows["sigma"]
        axes[1].plot(rows["frequency"], pulls, "o", markersize=2.6, color=look.colour)
        most = max(most, float(np.abs(pulls).max()))
    residual_lines(axes[1], most)
    for one in axes[:2]:
        one.axvline(row, color=ROW.colour, linestyle=ROW.line, linewidth=1.2)
    _decades(axes)
    return figure


def _mean_spectrum(axes: Axes, outputs: list[Columns]) -> None:
    """Points and parts, means over the outputs."""
    frequency = outputs[0]["frequency"]
    mean = {name: np.mean([rows[name] for rows in outputs], axis=0) for name in ("power", *PARTS)}
    sigma = np.sqrt(np.sum([rows["sigma"] ** 2 for rows in outputs], axis=0)) / len(outputs)
    for name, look in PARTS.items():
        axes.plot(frequency, mean[name], color=look.colour, linestyle=look.line, linewidth=1.2)
    axes.plot(frequency, _total(mean), color=TOTAL.colour, linewidth=1.1)
    axes.errorbar(frequency, mean["power"], sigma, fmt="o", color=INK, markersize=3, elinewidth=0.8, zorder=3)
    axes.set_yscale("log")
    axes.set_ylim(mean["power"].min() / DEEP, 2 * mean["power"].max())


def coherence(product: Product) -> Figure:
    """What reference columns know of the outputs, what the best correction leaves, and its weights.

    Parameters
    ----------
    product : Product
        Kind ``one_over_f`` with the tables ``coherence`` and ``weights``.

    Raises
    ------
    SelectionError
        If it has no such table.
    """
    table = table_of(product, "coherence", "output", "frequency", "coherence", "sigma", "power", "remaining")
    weights = table_of(product, "weights", "output", "stream", "frequency", "real")
    outputs = parts(table, "output")
    looks = styles(outputs)
    key = [Style(look.colour, "o", "-").entry(f"output {name}") for name, look in looks.items()]
    key += [TOTAL.entry("means of rows"), Style(INK, line=":").entry("after the best correction")]
    lines = dict(zip(parts(weights, "stream"), ("-", "--"), strict=False))
    key += [Style(INK, line=line).entry(f"weight, {name} columns") for name, line in lines.items()]
    title = titled(product, "coherence with reference columns")
    figure, axes = sheet(title, (*product_facts(product), _removable(product)), (TALL, LOW + 0.6, LOW), key)
    for one, what in zip(axes, ("coherence", label("power", "adu2/Hz"), "weight"), strict=True):
        dress(one, label("frequency", "Hz") if one is axes[-1] else "", what, grid=True)
    for name, look in looks.items():
        _output(axes, outputs[name], parts(weights, "output")[name], look, lines)
    axes[0].set_ylim(-0.1, 1.05)
    axes[0].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    axes[1].set_yscale("log")
    axes[2].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    _decades(axes)
    return figure


def _output(axes: list[Axes], rows: Columns, weights: Columns, look: Style, lines: dict[str, str]) -> None:
    """One output in the three panels."""
    sure = rows["sigma"] < NOISY
    axes[0].errorbar(
        rows["frequency"][sure], rows["coherence"][sure], rows["sigma"][sure], fmt="o-", color=look.colour,
        markersize=3, linewidth=1.0, elinewidth=0.7,
    )  # fmt: skip
    axes[1].plot(rows["frequency"], rows["power"], color=look.colour, linewidth=1.1)
    axes[1].plot(rows["frequency"], rows["remaining"], color=look.colour, linewidth=1.3, linestyle=":")
    for name, part in parts(weights, "stream").items():
        axes[2].plot(part["frequency"], part["real"], color=look.colour, linestyle=lines[name], linewidth=1.0)


def picture_frame(product: Product) -> Figure:
    """The pattern of picture-frame noise, in boxes.

    Parameters
    ----------
    product : Product
        Kind ``one_over_f`` with the plane picture_frame.
    """
    what = shown_plane(product, "picture_frame")
    reach = float(np.percentile(np.abs(what.values), 99))
    facts = (*product_facts(product), f"rms {short(typical(product, 'picture_frame'))} ADU, in boxes")
    title = titled(product, "picture frame")
    look = Look((-reach, reach), cmap=EITHER)
    return panels([Picture(what, look, title=title, facts=facts, quantity="pattern, rms 1")])


def _both_ends(product: Product, table: Columns) -> tuple[dict[str, Columns], dict[str, Columns]]:
    """Of each output: its spectrum, and that by the distance from the Nyquist frequency, up to half of it."""
    nyquist = 0.5 / float(table_of(product, "clock", "pixel_time")["pixel_time"][0])
    turned, frequency = np.asarray(table["scale"]) == "alternating", np.asarray(table["frequency"])
    distance = np.where(turned, frequency, nyquist - frequency)
    near = turned | ((np.asarray(table["scale"]) == "pixels") & (distance < nyquist / 2))
    found = (_rows(table, ~turned), _rows({**table, "frequency": distance}, near))
    plain, mirrored = (
        {name: _in_order(rows) for name, rows in parts(one, "output").items()} for one in found
    )
    return plain, mirrored


def _rows(table: Columns, these: NDArray[np.bool_]) -> Columns:
    return {name: np.asarray(values)[these] for name, values in table.items()}


def _in_order(rows: Columns) -> Columns:
    order = np.argsort(rows["frequency"], kind="stable")
    return {name: np.asarray(values)[order] for name, values in rows.items()}


def _total(rows: Columns) -> NDArray[np.float64]:
    return np.asarray(sum(np.asarray(rows[name], np.float64) for name in PARTS))


def _numbers(product: Product) -> str:
    """The fit in a line."""
    told = [f"white noise {short(typical(product, 'white_noise'))} ADU"]
    for name in ("common", "own"):
        if np.isfinite(typical(product, f"knee_{name}")):
            told.append(f"{name} as strong at {short(typical(product, f'knee_{name}'))} Hz")
    return ", ".join(told)


def _removable(product: Product) -> str:
    values = [q.value for q in product.quantities if q.name == "removable"]
    if not values:
        return ""
    return f"{100 * min(values):.0f} to {100 * max(values):.0f} % of the variance of rows can be removed"


def _decades(axes: list[Axes]) -> None:
    for one in axes:
        one.set_xscale("log")
    axes[-1].xaxis.set_major_locator(LogLocator())
    axes[-1].xaxis.set_minor_formatter(NullFormatter())
    hide_numbers(axes)
