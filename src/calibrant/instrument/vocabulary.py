"""Words that instrument files share with the rest of the package, and the nearest one to a misspelt word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EFFECTS = (
    "overscan",
    "crosstalk",
    "pedestal",
    "bias",
    "superbias",
    "linearity",
    "ramp_linearity",
    "charge_transfer",
    "amplifier_offsets",
    "read_noise",
    "dark_ramp",
    "ramp",
    "one_over_f",
    "reference_pixels",
    "bad_pixels",
    "dark_slope",
    "row_parity",
    "stray_light",
    "flatness",
    "campaigns",
    "fringe",
    "trace",
    "dark",
    "dark_scaling",
    "dark_library",
    "dark_components",
    "flat",
    "flat_structure",
    "sky_flat",
    "illumination",
    "defects",
    "gain",
    "brighter_fatter",
    "cosmic_rays",
    "fringe_frame",
)
"""Effects that may have been applied before."""
KINDS = ("bias", "dark", "flat", "light", "arc", "neon", "star", "sky", "test", "unknown")
"""Kinds of exposures that are usual; an instrument file may have others."""
MISSPELT = 0.8


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The question whether the nearest known word was meant; empty if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""
