"""Sky: the coordinate grid of a frame whose header has a celestial solution."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS
from matplotlib.figure import Figure

from calibrant.errors import HeaderError
from calibrant.files.sky import solution
from calibrant.report.plots.canvas import FAINT, INK, SMALL, TEXT, Box

FRAMES = {"RA": ("right ascension", "declination"), "GLON": ("galactic longitude", "galactic latitude"),
          "ELON": ("ecliptic longitude", "ecliptic latitude")}  # fmt: skip


def required(header: str | None, shape: tuple[int, int], name: str) -> WCS:
    """As `solution`, where the user has asked for the grid.

    Raises
    ------
    HeaderError
        If there is no solution.
    """
    wcs = solution(header, shape)
    if wcs is None:
        raise HeaderError(
            "the header has no celestial coordinates that fit the image",
            where=name,
            expected="CTYPE1, CRVAL1, CRPIX1, CD1_1 ... of a solved field",
            do="solve the field first, or draw without sky",
        )
    return wcs


def sky_axes(figure: Figure, box: Box, wcs: WCS) -> Any:
    """Axes in pixel coordinates with a grid, tick labels and names of sky coordinates."""
    axes = WCSAxes(figure, box.on(figure), wcs=wcs)
    figure.add_axes(axes)
    axes.grid(False)
    axes.minorticks_off()
    axes.set_facecolor("white")
    axes.coords.frame.set_color(FAINT)
    axes.coords.frame.set_linewidth(0.7)
    longitude, latitude = _names(wcs)
    for coordinate, name in zip(
        (axes.coords[wcs.wcs.lng], axes.coords[wcs.wcs.lat]), (longitude, latitude), strict=True
    ):
        coordinate.set_axislabel(name, fontsize=TEXT, color=INK, minpad=0.6)
        coordinate.set_ticklabel(size=SMALL, color=INK, exclude_overlapping=True)
        coordinate.set_ticks(number=5)
        coordinate.display_minor_ticks(False)
        coordinate.tick_params(direction="out", color=FAINT, length=3, width=0.7)
        coordinate.grid(color="#6FB7FF", linestyle=(0, (1, 2.5)), linewidth=0.9, alpha=0.9)
    return axes


def _names(wcs: WCS) -> tuple[str, str]:
    kind = wcs.wcs.ctype[wcs.wcs.lng].split("-")[0]
    first, second = FRAMES.get(kind, ("longitude", "latitude"))
    system = wcs.wcs.radesys.strip()
    equinox = wcs.wcs.equinox
    dated = system.startswith("FK") and np.isfinite(equinox)
    where = (
        f" ({system} {'B' if system == 'FK4' else 'J'}{equinox:g})"
        if dated
        else f" ({system})"
        if system
        else ""
    )
    return first + (where if kind == "RA" else ""), second
