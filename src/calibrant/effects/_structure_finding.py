"""One finding of the inventory: what structure, where, how strong; and findings as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRUCTURES = (
    "amplifier_steps",
    "vignetting",
    "dust_shadow",
    "edge_roll_off",
    "tree_rings",
    "chromatic_pattern",
    "fringes",
    "column",
    "periodic_pattern",
    "pixel_response",
)
"""What is looked for, in the order of the inventory."""

EVERY = ""


@dataclass(frozen=True)
class Finding:
    """A structure in one place and band, found or not.

    Attributes
    ----------
    structure : str
        One of `STRUCTURES`.
    detector, band, amplifier : str
        Empty where it belongs to all of them.
    amplitude, sigma : float
        Per cent of the light; what they measure stands in docs/effects/flat_structure.md. NaN if unknown.
    significance : float
        Sigmas.
    detected : bool
    scale : float
        Length, in the unit of the inventory: period, radius or scale; NaN where it has none.
    row, col : float
        Pixels of the detector: the middle; NaN where it has none.
    """

    structure: str
    detector: str = EVERY
    band: str = EVERY
    amplifier: str = EVERY
    amplitude: float = math.nan
    sigma: float = math.nan
    significance: float = 0.0
    detected: bool = False
    scale: float = math.nan
    row: float = math.nan
    col: float = math.nan

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Structure, detector, band, amplifier."""
        return self.structure, self.detector, self.band, self.amplifier


def table(findings: Sequence[Finding], sentences: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """The table ``structures``."""
    columns: dict[str, NDArray[np.generic]] = {
        name: np.array([getattr(f, name) for f in findings], str)
        for name in ("structure", "detector", "band", "amplifier")
    }
    for name in ("amplitude", "sigma", "significance"):
        columns[name] = np.array([getattr(f, name) for f in findings], np.float64)
    columns["detected"] = np.array([f.detected for f in findings], bool)
    for name in ("scale", "row", "col"):
        columns[name] = np.array([getattr(f, name) for f in findings], np.float64)
    columns["sentence"] = np.array(list(sentences), str)
    return columns
