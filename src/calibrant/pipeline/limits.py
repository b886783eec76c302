"""Limits: which values `verify` measures of each kind of product, and the tables of a recipe that bound them.

Only names and numbers: nothing is imported here that reads a pixel, so that a recipe is read in no time.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from calibrant.errors import ConfigError

Limits = Mapping[str, tuple[float, float]]
"""Name of a value -> lowest and highest that pass, inclusive; infinite where there is none."""

QUANTITY = "quantity."
"""What stands before the name of a quantity of the product: ``quantity.hot_fraction``, of any kind."""

_SIGMA = "in standard deviations of a pixel"
_COMMON = {
    "level": f"Middle over the frames of their residual level, {_SIGMA} of one frame.",
    "worst_level": f"The residual level that is farthest from zero, {_SIGMA} of one frame.",
    "row_structure": f"Scatter of the rows' medians beyond their noise, {_SIGMA}; negative if below it.",
    "column_structure": "The same of the columns.",
    "outliers": "Fraction of good pixels beyond 5 sigma; middle over the frames.",
}
VALUES: Mapping[str, Mapping[str, str]] = {
    "bias": {
        **_COMMON,
        "noise_ratio": "Noise of the residual over the read noise that the product states.",
        "nominal_ratio": "Noise of the residual over the nominal read noise.",
    },
    "dark": {
        **_COMMON,
        "noise_ratio": "Noise of the residual over that of the model: reading, dark electrons, masters.",
        "rate": "Residual level that grows with the dark time, at the longest time, in sigmas of a pixel.",
    },
    "flat": {
        "normalisation": "Median of the good pixels of the flat.",
        "structure": "Scatter of large boxes of a processed flat beyond their noise, per cent.",
        "noise_ratio": "Noise within the boxes over that of the noise model: photons, read noise, masters.",
        "outliers": "Fraction of good pixels beyond 5 sigma; middle over the frames.",
        "amplifier_step": "Largest step between neighbouring amplifiers of a processed flat, per cent.",
        "unusable": "Fraction of pixels of the flat without a usable response.",
    },
    "defects": {
        "flagged": "Fraction of pixels with any flag.",
        "missed_hot": "Fraction of pixels, unflagged, 10 sigma above their surroundings in most darks.",
        "missed_dead": "Fraction of pixels, unflagged, below half of their surroundings in most flats.",
        "confirmed": "Fraction of the pixels flagged hot or dead that stand out in most frames.",
    },
    "gain": {
        "nominal_gain": "Gain over the nominal one.",
        "nominal_noise": "Read noise over the nominal one.",
        "noise_ratio": "Read noise of the curve over that of bias or overscan.",
        "a00": "Relative change of a pixel's area for each of its electrons, 1/electron.",
        "chi2": "Reduced chi-squared of the curve.",
    },
    "linearity": {
        "nonlinearity": "Largest correction of an amplifier, per cent of the signal.",
        "residual_rms": "Scatter of the corrected levels about the ideal line, per cent.",
    },
    "crosstalk": {"crosstalk": "Largest coefficient of an amplifier."},
    "charge_transfer": {
        "cti_serial": "Inefficiency of a transfer along the rows.",
        "cti_parallel": "Inefficiency of a transfer along the columns.",
    },
    "brighter_fatter": {
        "a00": "Relative change of a pixel's area for each of its electrons, 1/electron.",
        "centre": "Middle of the kernel, 1/electron.",
        "chi2": "Reduced chi-squared of the average over amplifiers.",
    },
}
DIFFERENCE: Mapping[str, str] = {
    "difference": "Median difference to the last certified product, in sigmas of a pixel of both.",
    "difference_width": "Robust width of the differences, in these sigmas.",
    "difference_outliers": "Fraction of pixels beyond 5 of these sigmas.",
    "difference_flags": "Fraction of pixels that are flagged in one of the two only.",
}
"""Values of every kind: the product against the last one that was certified."""

FRAMES: Mapping[str, tuple[str, ...]] = {
    "bias": ("bias",),
    "dark": ("dark",),
    "flat": ("flat",),
    "defects": ("dark", "flat"),
    "gain": ("flat",),  # their headers: what is nominal
}
PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "dark": ("bias",),
    "flat": ("bias", "dark"),
    "defects": ("bias", "dark"),
}


def frames_needed(kind: str) -> tuple[str, ...]:
    """Kinds of raw exposures that a product of `kind` is verified on; none if only its numbers are judged."""
    return FRAMES.get(kind, ())


def products_needed(kind: str) -> tuple[str, ...]:
    """Kinds of other products that prepare these frames, where the instrument has them."""
    return PRODUCTS.get(kind, ())


def names(kind: str) -> tuple[str, ...]:
    """Names of the values that can be measured of a product of `kind`, its own quantities aside."""
    return (*VALUES.get(kind, {}), *DIFFERENCE)


def defaults() -> dict[str, dict[str, Any]]:
    """The tables of ``limits.toml``, that every recipe starts from."""
    return tomllib.loads((resources.files("calibrant.pipeline") / "limits.toml").read_text())


def flattened(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A table whose nested tables became dotted names: ``quantity.gain = [..]`` of TOML has two levels."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat


def check(tables: Mapping[str, Limits], where: str = "") -> None:
    """See that every limit bounds a value that there is, from below and above.

    Raises
    ------
    ConfigError
        With the nearest spelling of an unknown name, or what is wrong with the two numbers.
    """
    for kind, limits in tables.items():
        for name, (low, high) in limits.items():
            if math.isnan(low) or math.isnan(high) or low > high:
                raise ConfigError(
                    f"verify.{kind}.{name}: limits are a lowest and a highest value",
                    where=where or None,
                    expected="[low, high], inf where there is none",
                    got=f"[{low:g}, {high:g}]",
                )
            if not name.startswith(QUANTITY) and name not in names(kind):
                _refuse(kind, name, where)


def _refuse(kind: str, name: str, where: str) -> None:
    near = difflib.get_close_matches(kind, VALUES, 1) if kind not in VALUES else []
    if near and name in names(near[0]):
        unknown, hint = f"kind verify.{kind}", f"did you mean {near[0]!r}?"
    else:
        close = difflib.get_close_matches(name, names(kind), 1)
        known = f"known are: {', '.join(names(kind))}, and {QUANTITY}NAME for a quantity of the product"
        unknown, hint = f"limit verify.{kind}.{name}", f"did you mean {close[0]!r}?" if close else known
    raise ConfigError(f"unknown {unknown}", where=where or None, do=hint)
