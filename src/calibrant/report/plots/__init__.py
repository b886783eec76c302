"""Pictures: a Frame, a Product or an array becomes a Matplotlib Figure.

Nothing here opens a file, measures, or touches pyplot; `save` alone writes, and only where it is told to.
A module and a function of one name would hide each other, so the modules are called by their families.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibrant.report.plots.canvas import save
    from calibrant.report.plots.histograms import histogram
    from calibrant.report.plots.html import frame_html, product_html
    from calibrant.report.plots.images import flags, image
    from calibrant.report.plots.panels import masters, sequence
    from calibrant.report.plots.series import dark_line, drift, noise_map, trend

__all__ = [
    "dark_line",
    "drift",
    "flags",
    "frame_html",
    "histogram",
    "image",
    "masters",
    "noise_map",
    "product_html",
    "save",
    "sequence",
    "trend",
]

_HOMES = {
    "dark_line": "series",
    "drift": "series",
    "flags": "images",
    "frame_html": "html",
    "histogram": "histograms",
    "image": "images",
    "masters": "panels",
    "noise_map": "series",
    "product_html": "html",
    "save": "canvas",
    "sequence": "panels",
    "trend": "series",
}


def __getattr__(name: str) -> Any:
    """Load Matplotlib only when a picture is asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
