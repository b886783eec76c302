"""Dark scaling in curves: histograms, profiles, residuals of each model, and what tells models apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, FAINT, INK, SMALL, dress
from calibrant.report.plots.pixels import RAISED, label
from calibrant.report.plots.sheets import (
    TALL,
    Columns,
    Style,
    charts,
    drawable,
    hide_numbers,
    parts,
    sheet,
    short,
    styles,
    table_of,
)

PALE = "#BDBDBD"
ENDS, UNLIKE = (("left", 0), ("right", -1)), 8.0
"""First and last edge of a histogram, and how much wider than most it may be to share their axis."""
WRITTEN = 3
"""Largest degree whose polynomial is written above its residuals."""
FRACTION = 3.0
"""Largest fraction of the second dark that is drawn."""
BEFORE, AFTER = Style(FAINT, "o"), Style(CURVES[0], "o")
SPREAD = 0.1
"""Part of the best held-out error above which models are not close to it."""
POINTS = 4000
"""Of a long vector that are drawn: the least and the largest value of each stretch."""


def chosen(product: Product) -> str:
    """The model that was chosen, or the first one."""
    models = table_of(product, "models", "model", "chosen")
    names, marks = [str(name) for name in models["model"]], np.asarray(models["chosen"], bool)
    return names[int(np.argmax(marks))] if marks.any() else names[0]


def equation(product: Product, model: str) -> str:
    """The model in numbers: ``y = 1.254 x + 129``."""
    rows = parts(table_of(product, "coefficients", "model", "power", "value"), "model")[model]
    terms = [(float(value), int(power)) for value, power in zip(rows["value"], rows["power"], strict=True)]
    if model == "add":
        terms.insert(0, (1.0, 1))
    text = ""
    for value, power in terms:
        number = "" if (value, power) == (1.0, 1) else _number(abs(value))
        raised = str(power).translate(RAISED) if power > 1 else ""
        sign = ("−" if value < 0 else "") if not text else (" − " if value < 0 else " + ")
        text += f"{sign}{number} x{raised}".replace("  ", " ") if power else f"{sign}{number}"
    return f"y = {text.strip()}"


def _number(value: float) -> str:
    """Four digits; powers of ten as they are written by hand."""
    text = f"{value:.4g}"
    found = re.fullmatch(r"(.+)e([+-]\d+)", text)
    return f"{found[1]}×10{str(int(found[2])).translate(RAISED)}" if found else text


def facts_of(product: Product) -> tuple[str, ...]:
    """What every picture says: pixels, the cut, and the model that was chosen."""
    models = table_of(product, "models", "model", "n", "std", "rms")
    name = chosen(product)
    row = [str(one) for one in models["model"]].index(name)
    hot = product.provenance.options.get("hot")
    return (
        f"{int(models['n'][row]):,} pixels".replace(",", "\u2009"),
        f"hot pixels cut: {hot}" if hot else "",
        f"chosen: {name}, rms {label(short(float(models['rms'][row])), unit_of(product))}"
        .replace("[", "").replace("]", ""),
    )  # fmt: skip


def unit_of(product: Product) -> str:
    """The unit of the darks."""
    return product.units.get("dark_to", "")


def least_squares(models: Iterable[str]) -> list[str]:
    """Those whose rank says all: add, mult, polynomials."""
    return [name for name in models if name in ("add", "mult") or re.fullmatch(r"poly\d+", name)]


def stairs(axes: Axes, rows: Columns, style: Style, wide: float = 1.2) -> None:
    """Counts per bin of a histogram in a table: left, right, count."""
    edges = np.append(rows["left"], rows["right"][-1:])
    axes.stairs(
        rows["count"], edges, baseline=None, color=style.colour, linestyle=style.line or "-", linewidth=wide
    )


def _copies(names: Iterable[str], looks: Sequence[str] = CURVES) -> dict[str, Style]:
    """Black for the dark to be matched, grey for the first one, colours for the rest."""
    own = {"dark_to": Style(INK, line="-"), "dark_from": Style(PALE, line="-")}
    rest = [name for name in names if name not in own]
    colours = [colour for colour in looks if colour != "#000000"]
    marked = {name: Style(colours[i % len(colours)], line="-") for i, name in enumerate(rest)}
    return {name: own.get(name, marked.get(name, Style(INK))) for name in names}


def dark_histograms(product: Product) -> Figure:
    """Numbers of pixels by value: both darks, and copies of the first one times several factors.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the table ``histograms``: series, left, right, count.

    Raises
    ------
    SelectionError
        If the product has no such table.
    """
    found = drawable(product, "histograms", "left", "right", "count", by="series")
    looks = _copies(found)
    figure, (axes,) = sheet(
        "Dark scaling: histograms of the darks and of scaled copies",
        facts_of(product),
        (TALL,),
        [look.entry(_said(name)) for name, look in looks.items()],
    )
    dress(axes, label("value of a pixel", unit_of(product)), "pixels per bin", grid=True)
    for name, rows in found.items():
        stairs(axes, rows, looks[name], 2.2 if name == "dark_to" else 1.2)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    return figure


def _said(name: str) -> str:
    return name.replace(" x ", " × ")


def dark_profiles(product: Product) -> Figure:
    """Means of the columns of both darks and of scaled copies, and what the copies leave.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the table ``profiles``: series, column, value.

    Raises
    ------
    SelectionError
        If the product has no such table.
    """
    every = drawable(product, "profiles", "value", "column", by="series")
    models = {str(name) for name in table_of(product, "models", "model")["model"]} - {chosen(product)}
    found = {name: rows for name, rows in every.items() if name not in models}
    looks = _copies(found)
    figure, axes = sheet(
        "Dark scaling: means of the columns",
        (*facts_of(product), "below: dark_to less each of the others"),
        (TALL, 2.0),
        [look.entry(_said(name)) for name, look in looks.items()],
    )
    unit = unit_of(product)
    dress(axes[0], "", label("mean of the column", unit), grid=True)
    dress(axes[1], "column [pixel]", label("difference", unit), grid=True)
    for name, rows in found.items():
        wide = 1.6 if name in ("dark_to", chosen(product)) else 0.9
        axes[0].plot(rows["column"], rows["value"], color=looks[name].colour, linewidth=wide)
        if name not in ("dark_to", "dark_from") and "dark_to" in found:
            rest = found["dark_to"]["value"] - rows["value"]
            axes[1].plot(rows["column"], rest, color=looks[name].colour, linewidth=wide)
    axes[1].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    axes[1].margins(x=0.0)
    hide_numbers(axes)
    return figure


def residual_histograms(product: Product) -> Figure:
    """What each model leaves: histograms of the residuals, and of the residuals over the second dark.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the tables ``residual_histograms`` and ``fractional_histograms``.

    Raises
    ------
    SelectionError
        If the product has no such table.
    """
    sides = [
        drawable(product, table, "left", "right", "count", by="series")
        for table in ("residual_histograms", "fractional_histograms")
    ]
    models = parts(table_of(product, "models", "model", "std", "fractional", "skewness"), "model")
    names = [name for name in models if name in sides[0]]
    figure, rows = charts(
        "Dark scaling: residuals of each model",
        (*facts_of(product), "left: dark_to less the scaled dark; right: over dark_to"),
        (len(names), 2),
        (4.2, 1.05),
        (0.8, 0.42),
    )
    spans = [_span(side, limit) for side, limit in zip(sides, (np.inf, FRACTION), strict=True)]
    for name, pair in zip(names, rows, strict=True):
        told = {column: short(float(models[name][column][0])) for column in ("std", "skewness", "fractional")}
        texts = (
            f"{name}: {equation(product, name)}" if models[name]["rank"][0] <= WRITTEN else name,
            f"std {told['std']}, skewness {told['skewness']}; mean below {told['fractional']}",
        )
        for axes, side, text, span in zip(pair, sides, texts, spans, strict=True):
            dress(axes, "", "pixels", grid=True)
            axes.set_title(text, fontsize=SMALL, color=INK, loc="left", pad=3, parse_math=False)
            if name in side:
                stairs(axes, side[name], Style(CURVES[0]))
            axes.axvline(0.0, color=INK, linewidth=0.7)
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.7)
            if span is not None:
                axes.set_xlim(span)
    rows[-1][0].set_xlabel(label("residual", unit_of(product)), fontsize=SMALL + 1, color=INK)
    rows[-1][1].set_xlabel("residual / dark_to", fontsize=SMALL + 1, color=INK)
    return figure


def _span(side: Mapping[str, Columns], limit: float) -> tuple[float, float] | None:
    """What all models need, within a limit: a dark near zero makes fractions without end.

    None where one model needs so much more than most that it would hide them.
    """
    low, high = (np.array([float(rows[end][at]) for rows in side.values()]) for end, at in ENDS)
    reach = np.maximum(-low, high)
    if limit > reach.max() > UNLIKE * np.median(reach):
        return None
    return max(float(low.min()), -limit), min(float(high.max()), limit)


def degrees(product: Product) -> Figure:
    """What tells the degrees apart: the mean fractional residual as published, and the held-out error.

    An offset alone stands at -1, a factor alone at 0. What is near the best is drawn once more below, as the
    difference over the same blocks with its own error.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the table ``models``: model, rank, fractional, rms, cv, cv_gap, and
        their sigmas; chosen.

    Raises
    ------
    SelectionError
        If fewer than two models have a degree.
    """
    models = parts(table_of(product, "models", "model", "rank", "fractional", "rms", "cv", "cv_gap"), "model")
    names = least_squares(models)
    if len(names) < 2:
        raise SelectionError("one degree is no series to draw", got=", ".join(models))
    own = Style(CURVES[0], "o")
    others = {name: _next_colour(look) for name, look in styles(n for n in models if n not in names).items()}
    rms = Style(FAINT, "_")
    key = [own.entry("least squares"), *(look.entry(name) for name, look in others.items())]
    key += [rms.entry("rms of the fit"), Style(CURVES[1], "*").entry("chosen")]
    figure, axes = sheet(
        "Dark scaling: degree of the model",
        (*facts_of(product), "below: over the same blocks; the simplest within one sigma of zero is chosen"),
        (1.9, 1.9, 1.9),
        key,
    )
    unit = unit_of(product)
    dress(axes[0], "", "mean of residual\n/ dark_to", grid=True)
    dress(axes[1], "", label("held-out error", unit), grid=True)
    dress(axes[2], "", label("held-out error\nabove the best", unit), grid=True)
    for one, column in zip(axes, ("fractional", "cv", "cv_gap"), strict=True):
        if column == "cv":
            for name in (*names, *others):
                one.plot(models[name]["rank"], models[name]["rms"], "_", color=rms.colour, markersize=13)
        else:
            one.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
        _series(one, models, names, column, own, others)
        best = models[chosen(product)]
        one.plot(best["rank"], best[column], "*", color=CURVES[1], markersize=11, zorder=4)
    _near(axes[2], models, names)
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    ranks = sorted({int(models[name]["rank"][0]) for name in (*names, *others)})
    axes[2].set_xticks(ranks, [{-1: "add", 0: "mult"}.get(rank, str(rank)) for rank in ranks])
    axes[2].set_xlabel("degree of the polynomial", fontsize=SMALL + 1, color=INK)
    hide_numbers(axes)
    return figure


def _next_colour(look: Style) -> Style:
    """The next colour, since the first one is that of least squares."""
    index = CURVES.index(look.colour)
    return Style(CURVES[(index + 2) % len(CURVES)], "D", "")


def _series(
    axes: Axes,
    models: Mapping[str, Columns],
    names: Sequence[str],
    column: str,
    own: Style,
    others: Mapping[str, Style],
) -> None:
    """Points of one column against the rank, with their errors where there are some."""
    every = {**dict.fromkeys(names, own), **others}
    for name, look in every.items():
        row = models[name]
        bars = row.get(f"{column}_sigma")
        axes.errorbar(
            row["rank"], row[column], bars, marker=look.marker, color=look.colour, linestyle="none",
            markersize=5, elinewidth=0.9, capsize=2, fillstyle="full" if look is own else "none",
        )  # fmt: skip


def _near(axes: Axes, models: Mapping[str, Columns], names: Sequence[str]) -> None:
    """Only what is close to the best: some times the median error of those within a tenth of it."""
    gaps = np.array([float(models[name]["cv_gap"][0]) for name in names])
    sigmas = np.array([float(models[name]["cv_gap_sigma"][0]) for name in names])
    least = np.nanmin([float(models[name]["cv"][0]) for name in names])
    near = np.isfinite(gaps + sigmas) & (gaps < SPREAD * least)
    if near.any():
        reach = float(np.max(gaps[near] + sigmas[near])) or SPREAD * float(least)
        axes.set_ylim(-0.25 * reach, 1.3 * reach)


def vectors(product: Product) -> Figure:
    """Both darks pixel by pixel: all of them, and over them those that the cut of hot pixels left.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the planes dark_from, dark_to and used.

    Raises
    ------
    SelectionError
        If the product has no such planes.
    """
    missing = {"dark_from", "dark_to", "used"} - set(product.planes)
    if missing:
        raise SelectionError(f"the {product.kind} has no plane {sorted(missing)[0]!r}")
    used = np.asarray(product.planes["used"], bool).ravel()
    every, kept = Style(CURVES[1], line="-"), Style(CURVES[0], line="-")
    figure, axes = sheet(
        "Dark scaling: hot pixels cut, pixel by pixel",
        (*facts_of(product), f"{int((~used).sum())} pixels left out"),
        (2.2, 2.2),
        [every.entry("all"), kept.entry("fitted")],
    )
    for one, name in zip(axes, ("dark_from", "dark_to"), strict=True):
        values = np.asarray(product.planes[name], np.float64).ravel()
        dress(one, "", label(name, unit_of(product)), grid=True)
        for shown, look, wide in ((values, every, 0.8), (np.where(used, values, np.nan), kept, 0.6)):
            one.plot(*_ends(shown), color=look.colour, linewidth=wide)
    axes[1].set_xlabel("pixel, row by row", fontsize=SMALL + 1, color=INK)
    axes[1].margins(x=0.0)
    hide_numbers(axes)
    return figure


def _ends(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A long vector as the least and the largest value of each stretch, so that no peak is lost."""
    if values.size <= 8 * POINTS:
        return np.arange(values.size, dtype=np.float64), values
    step = -(-values.size // POINTS)
    padded = np.append(values, np.full(-values.size % step, np.nan)).reshape(-1, step)
    there = np.isfinite(padded)
    low = np.where(there, padded, np.inf).min(axis=1)
    high = np.where(there, padded, -np.inf).max(axis=1)
    both = np.stack([low, high], axis=1)
    both[~np.isfinite(both)] = np.nan
    return np.repeat(np.arange(padded.shape[0]) * step + step / 2, 2), both.ravel()


def cuts(product: Product) -> Figure:
    """Skewness and tails of the residuals of each model, before and after the cut of hot pixels.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the table ``cuts``: cut, model, skewness, left_tail, right_tail.

    Raises
    ------
    SelectionError
        If the product has no such table.
    """
    rows = table_of(product, "cuts", "cut", "model", "skewness", "left_tail", "right_tail")
    models = list(dict.fromkeys(str(name) for name in rows["model"]))
    place = np.array([models.index(str(name)) for name in rows["model"]])
    after = np.asarray(rows["cut"]).astype(str) != "none"
    key = [Style(FAINT, "o").entry("no cut"), Style(CURVES[0], "o").entry("after the cut")]
    key += [Style(INK, "<").entry("left tail"), Style(INK, ">").entry("right tail")]
    figure, axes = sheet(
        "Dark scaling: residuals before and after the cut",
        (*facts_of(product), "tails: more than 5 robust sigmas from the median"),
        (2.0, 2.0),
        key,
    )
    dress(axes[0], "", "skewness", grid=True)
    dress(axes[1], "", "pixels in the tail", grid=True)
    for mask, look, shift in ((~after, BEFORE, -0.12), (after, AFTER, 0.12)):
        axes[0].plot(place[mask] + shift, rows["skewness"][mask], "o", color=look.colour, markersize=5)
        for column, marker in (("left_tail", "<"), ("right_tail", ">")):
            axes[1].plot(place[mask] + shift, rows[column][mask], marker, color=look.colour, markersize=5)
    axes[0].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    axes[1].set_ylim(bottom=0)
    axes[1].set_xticks(range(len(models)), models, rotation=35 if len(models) > 8 else 0)
    hide_numbers(axes)
    return figure
