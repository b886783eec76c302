"""The exercise: noise against signal with its two regimes, and variance against mean with lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.report.plots.canvas import CURVES, INK, dress
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import LOW, TALL, Style, hide_numbers, sheet

F8 = NDArray[np.float64]
MEASURED = Style(CURVES[0], "o")
BOTH = Style(CURVES[1], line="-")
LINES = tuple(Style(colour, line=line) for colour, line in zip(CURVES[1:4], ("-", "--", ":"), strict=True))
FLOOR, SHOT, MEET = Style(INK, line="--"), Style(INK, line=":"), Style(CURVES[1], "D")


class Levels(Protocol):
    """Mean [adu], variance [adu2] and number of pixels of each level."""

    mean: F8
    variance: F8
    pixels: F8


class Line(Protocol):
    """Variance against mean: slope [adu/adu], intercept [adu2], and what follows [electron/adu, electron]."""

    slope: float
    intercept: float
    gain: float
    gain_sigma: float
    read_noise: float
    read_noise_sigma: float


class Meeting(Protocol):
    """Where photon noise equals readout noise: charge [electron], mean and noise [adu]."""

    signal: float
    mean: float
    noise: float


class Slope(Protocol):
    """d log noise / d log signal of the bright levels."""

    slope: float
    slope_sigma: float
    intercept: float


def noise_regimes(levels: Levels, meeting: Meeting, slope: Slope | None = None, *, title: str = "") -> Figure:
    """Noise against signal on logarithmic axes, with both regimes and where they meet.

    Parameters
    ----------
    levels : Levels
        As `calibrant.effects.gain.pixel_levels` returns them; levels without signal are left out.
    meeting : Meeting
        As of `calibrant.effects.gain.crossing`.
    slope : Slope, optional
        As of `calibrant.effects.gain.noise_against_signal`; said above the plot.
    title : str

    Raises
    ------
    SelectionError
        If no level has signal and noise.
    """
    mean, variance, pixels = (
        np.asarray(column, np.float64) for column in (levels.mean, levels.variance, levels.pixels)
    )
    lit = (mean > 0) & (variance > 0)
    if not lit.any():
        raise SelectionError("no level has signal and noise to draw")
    facts = (
        f"bright levels: slope {slope.slope:.4f} ± {slope.slope_sigma:.4f}" if slope is not None else "",
        f"regimes meet at {meeting.signal:.3g} e⁻",
    )
    key = [
        MEASURED.entry("measured"), FLOOR.entry("read noise"), SHOT.entry("photon noise"),
        BOTH.entry("both"), MEET.entry("crossing"),
    ]  # fmt: skip
    figure, (axes,) = sheet(title or "Noise against signal", facts, key=key)
    dress(axes, label("mean above the bias", "adu"), label("noise", "adu"), grid=True)
    noise = np.sqrt(variance[lit])
    # Of n normal pixels the standard deviation is known to 1 / sqrt(2 (n - 1)) of itself.
    sigma = noise / np.sqrt(2.0 * np.maximum(np.broadcast_to(pixels, mean.shape)[lit] - 1.0, 1.0))
    axes.errorbar(mean[lit], noise, sigma, fmt="o", markersize=3.2, color=MEASURED.colour, elinewidth=0.7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    # At the crossing each regime alone has the noise of both over the root of two.
    floor = meeting.noise / np.sqrt(2.0)
    ends = np.array([0.7 * min(mean[lit].min(), meeting.mean), 1.4 * mean.max()])
    axes.axhline(floor, color=FLOOR.colour, linestyle=FLOOR.line, linewidth=1.0)
    axes.plot(
        ends, floor * np.sqrt(ends / meeting.mean), color=SHOT.colour, linestyle=SHOT.line, linewidth=1.1
    )
    grown = np.geomspace(ends[0], ends[1], 200)
    axes.plot(grown, floor * np.sqrt(1.0 + grown / meeting.mean), color=BOTH.colour, linewidth=1.1)
    axes.plot([meeting.mean], [meeting.noise], "D", markersize=6, color=MEET.colour)
    axes.set_xlim(*ends)
    axes.set_ylim(0.6 * min(noise.min(), floor), 1.5 * noise.max())
    return figure


def variance_lines(levels: Levels, lines: Mapping[str, Line], *, title: str = "") -> Figure:
    """Variance against mean, with straight lines: the slope of each is 1/gain.

    Parameters
    ----------
    levels : Levels
        As of `noise_regimes`.
    lines : mapping of str to Line
        Words for the key -> lines, as `calibrant.effects.gain.variance_against_mean` returns them; three at
        most.
    title : str

    Raises
    ------
    SelectionError
        If no level has a variance.
    """
    mean, variance, pixels = (
        np.asarray(column, np.float64) for column in (levels.mean, levels.variance, levels.pixels)
    )
    good = np.isfinite(mean) & np.isfinite(variance)
    if not good.any():
        raise SelectionError("no level has a variance to draw")
    facts = [
        f"{word}: gain {line.gain:.4f} ± {line.gain_sigma:.4f} e⁻/ADU, read noise {_noise(line)}"
        for word, line in lines.items()
    ]
    key = [MEASURED.entry("measured"), *(s.entry(word) for s, word in zip(LINES, lines, strict=False))]
    figure, (axes, below) = sheet(title or "Variance against mean", facts, (TALL, LOW), key)
    dress(axes, "", label("variance", "adu2"), grid=True)
    dress(below, label("mean above the bias", "adu"), label("less the last line", "adu2"), grid=True)
    # Var(s^2) = 2 s^4 / (n - 1) of n normal pixels.
    sigma = variance * np.sqrt(2.0 / np.maximum(np.broadcast_to(pixels, mean.shape) - 1.0, 1.0))
    ends = np.array([0.0, 1.03 * mean[good].max()])
    last = ([None, *lines.values()])[-1]
    for one, base in ((axes, None), (below, last)):
        under = np.zeros(2) if base is None else base.intercept + base.slope * ends
        level = 0.0 if base is None else base.intercept + base.slope * mean[good]
        one.errorbar(
            mean[good], variance[good] - level, sigma[good], fmt="o", markersize=3.2, color=MEASURED.colour,
            elinewidth=0.6,
        )  # fmt: skip
        for style, line in zip(LINES, lines.values(), strict=False):
            drawn = line.intercept + line.slope * ends - under
            one.plot(ends, drawn, color=style.colour, linestyle=style.line, linewidth=1.4, zorder=3)
    axes.margins(x=0.02)
    hide_numbers((axes, below))
    return figure


def _noise(line: Line) -> str:
    if not np.isfinite(line.read_noise):
        return "unknown: the intercept is negative"
    return f"{line.read_noise:.2f} ± {line.read_noise_sigma:.2f} e⁻"
