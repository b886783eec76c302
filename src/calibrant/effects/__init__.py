"""Effects: one effect, one file, two verbs: measure and apply."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibrant.effects import (
        amplifier_offsets,
        bad_pixels,
        bias,
        brighter_fatter,
        campaigns,
        charge_transfer,
        cosmic_rays,
        crosstalk,
        dark,
        dark_components,
        dark_library,
        dark_ramp,
        dark_scaling,
        dark_slope,
        defects,
        flat,
        flat_structure,
        flatness,
        fringe,
        fringe_frame,
        gain,
        illumination,
        linearity,
        one_over_f,
        overscan,
        pedestal,
        ramp,
        ramp_linearity,
        read_noise,
        reference_pixels,
        row_parity,
        sky_flat,
        stray_light,
        superbias,
        trace,
    )

__all__ = [
    "amplifier_offsets",
    "bad_pixels",
    "bias",
    "brighter_fatter",
    "campaigns",
    "charge_transfer",
    "cosmic_rays",
    "crosstalk",
    "dark",
    "dark_components",
    "dark_library",
    "dark_ramp",
    "dark_scaling",
    "dark_slope",
    "defects",
    "flat",
    "flat_structure",
    "flatness",
    "fringe",
    "fringe_frame",
    "gain",
    "illumination",
    "linearity",
    "one_over_f",
    "overscan",
    "pedestal",
    "ramp",
    "ramp_linearity",
    "read_noise",
    "reference_pixels",
    "row_parity",
    "sky_flat",
    "stray_light",
    "superbias",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Load an effect when it is first used."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
