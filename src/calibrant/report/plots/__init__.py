"""Pictures: a Frame, a Product or an array becomes a Matplotlib Figure.

Nothing here opens a file, measures, or touches pyplot; `save` alone writes, and only where it is told to.
A module and a function of one name would hide each other, so the modules are called by their families.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibrant.report.plots.amplifiers import amplifier_bars
    from calibrant.report.plots.borders import amplifier_borders
    from calibrant.report.plots.canvas import save
    from calibrant.report.plots.charge import crosstalk_matrix, kernel_map, transfer_trails
    from calibrant.report.plots.deviations import deviation_map, fringe_amplitudes
    from calibrant.report.plots.exercise import noise_regimes, variance_lines
    from calibrant.report.plots.focal import focal_plane
    from calibrant.report.plots.histograms import histogram
    from calibrant.report.plots.html import frame_html, product_html
    from calibrant.report.plots.images import flags, image
    from calibrant.report.plots.linearity import linearity_curves, linearity_residuals
    from calibrant.report.plots.measurements import figures, together
    from calibrant.report.plots.panels import masters, sequence
    from calibrant.report.plots.photon_transfer import a_matrix, noise_curve, variance_curve
    from calibrant.report.plots.series import dark_line, drift, noise_map, trend
    from calibrant.report.plots.structures import structure_matrix, structure_profiles

__all__ = [
    "a_matrix",
    "amplifier_bars",
    "amplifier_borders",
    "crosstalk_matrix",
    "dark_line",
    "deviation_map",
    "drift",
    "figures",
    "flags",
    "focal_plane",
    "frame_html",
    "fringe_amplitudes",
    "histogram",
    "image",
    "kernel_map",
    "linearity_curves",
    "linearity_residuals",
    "masters",
    "noise_curve",
    "noise_map",
    "noise_regimes",
    "product_html",
    "save",
    "sequence",
    "structure_matrix",
    "structure_profiles",
    "together",
    "transfer_trails",
    "trend",
    "variance_curve",
    "variance_lines",
]

_HOMES = {
    "a_matrix": "photon_transfer",
    "amplifier_bars": "amplifiers",
    "amplifier_borders": "borders",
    "crosstalk_matrix": "charge",
    "dark_line": "series",
    "deviation_map": "deviations",
    "drift": "series",
    "figures": "measurements",
    "flags": "images",
    "focal_plane": "focal",
    "frame_html": "html",
    "fringe_amplitudes": "deviations",
    "histogram": "histograms",
    "image": "images",
    "kernel_map": "charge",
    "linearity_curves": "linearity",
    "linearity_residuals": "linearity",
    "masters": "panels",
    "noise_curve": "photon_transfer",
    "noise_map": "series",
    "noise_regimes": "exercise",
    "product_html": "html",
    "save": "canvas",
    "sequence": "panels",
    "structure_matrix": "structures",
    "structure_profiles": "structures",
    "together": "measurements",
    "transfer_trails": "charge",
    "trend": "series",
    "variance_curve": "photon_transfer",
    "variance_lines": "exercise",
}


def __getattr__(name: str) -> Any:
    """Load Matplotlib only when a picture is asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
