"""Calibrant: raw detector frames in, calibrations that can be trusted out.

Everything public is here, and is imported when it is first used: ``import calibrant`` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibrant import effects, errors, instrument, simulate
    from calibrant.comparison import compare
    from calibrant.exposures import Exposures, combine, debug_pixel
    from calibrant.files.fits import read, write
    from calibrant.frame import DQ, Exposure, Frame
    from calibrant.instrument import Instrument
    from calibrant.pipeline.measure import measure
    from calibrant.product import Product, Quantity
    from calibrant.registry.store import Registry
    from calibrant.stack.noise import Noise
    from calibrant.stack.reject import (
        GESD,
        AvSigClip,
        CCDClip,
        LinearFit,
        MinMax,
        PClip,
        Percentile,
        SigmaClip,
        Winsorised,
    )
    from calibrant.web.display import Display

    __version__: str

__all__ = [
    "DQ",
    "GESD",
    "AvSigClip",
    "CCDClip",
    "Display",
    "Exposure",
    "Exposures",
    "Frame",
    "Instrument",
    "LinearFit",
    "MinMax",
    "Noise",
    "PClip",
    "Percentile",
    "Product",
    "Quantity",
    "Registry",
    "SigmaClip",
    "Winsorised",
    "__version__",
    "combine",
    "compare",
    "debug_pixel",
    "effects",
    "errors",
    "instrument",
    "measure",
    "read",
    "simulate",
    "write",
]

_MODULES = ("effects", "errors", "instrument", "simulate")
_HOMES = {
    "DQ": "frame",
    "Display": "web.display",
    "Exposure": "frame",
    "Exposures": "exposures",
    "Frame": "frame",
    "Instrument": "instrument",
    "Noise": "stack.noise",
    "Product": "product",
    "Quantity": "product",
    "Registry": "registry.store",
    "combine": "exposures",
    "compare": "comparison",
    "debug_pixel": "exposures",
    "measure": "pipeline.measure",
    "read": "files.fits",
    "write": "files.fits",
    **dict.fromkeys(
        (
            "AvSigClip",
            "CCDClip",
            "GESD",
            "LinearFit",
            "MinMax",
            "PClip",
            "Percentile",
            "SigmaClip",
            "Winsorised",
        ),
        "stack.reject",
    ),
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"calibrant.{name}")
    if name in _HOMES:
        return getattr(import_module(f"calibrant.{_HOMES[name]}"), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'calibrant' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("calibrant")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"
