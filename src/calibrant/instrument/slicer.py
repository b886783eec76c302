"""Slices as an instrument file tells them: the geometry beside it, bands by name, resolution."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from calibrant.errors import ConfigError, SelectionError
from calibrant.frame import Exposure
from calibrant.instrument.rules import Model
from calibrant.instrument.slices import F8, Line, SliceMap, slice_map


@dataclass(frozen=True)
class Resolution:
    """Resolving power, R = a + b (wavelength - at) + c (wavelength - at)^2 ..., wavelength in micrometres."""

    at: float
    coefficients: tuple[float, ...]

    def __call__(self, wavelength: F8 | float) -> F8:
        """Resolving power at wavelengths [um], of their shape."""
        away = np.asarray(wavelength, np.float64) - self.at
        return np.asarray(np.polynomial.polynomial.polyval(away, self.coefficients), np.float64)

    def width(self, wavelength: F8 | float) -> F8:
        """Full width at half maximum of the line spread, um."""
        return np.asarray(wavelength, np.float64) / self(wavelength)


class SliceRules(Model):
    """The table ``[slices]`` of an instrument file.

    Attributes
    ----------
    geometry : str
        Name of a JSON file beside the instruments of the package, or a path: slices as `Line` has them.
    shape : list of int
        Rows, columns of the detector.
    dispersion : str
        ``rows`` or ``cols``.
    blind : int
        Reference pixels at both ends of each line across the slices.
    bands : table
        Name -> first and last number of its slices. Slices of other bands shine on the same detector: they
        are negative in its map.
    resolution : table
        Band -> wavelength in um, and coefficients of the resolving power about it.
    lamp, point, background : str
        Sources by name: the one that fills all slices, and is measured unless another one is asked for; the
        one that traces follow; what shines without any.
    subtract : list of str
        Sources (``*`` and ``?`` stand for letters) whose background is to be subtracted.
    """

    geometry: str
    shape: tuple[int, int]
    dispersion: Literal["rows", "cols"] = "rows"
    blind: int = 0
    bands: dict[str, tuple[int, int]] = Field(default={})
    resolution: dict[str, tuple[float, ...]] = Field(default={})
    lamp: str = ""
    point: str = ""
    background: str = "background"
    subtract: tuple[str, ...] = ()

    def has_background(self, source: str | None) -> bool:
        """Whether the background of a source is to be subtracted."""
        return source is not None and any(fnmatchcase(source, one) for one in self.subtract)

    def band(self, exposure: Exposure) -> str:
        """The band of an exposure; of files that name channels and sub-bands, both together.

        Raises
        ------
        SelectionError
            If no geometry is known of it.
        """
        if not self.bands:
            return ""
        band, channel = exposure.get("band"), exposure.get("channel")
        for name in (band, f"{channel}{band}"):
            if name in self.bands:
                return str(name)
        raise SelectionError(
            "no geometry of this band comes with the instrument",
            where=exposure.path or exposure.identifier,
            expected=", ".join(self.bands),
            got=str(band) if channel is None else f"{channel}{band}",
            do="give its distortion file (--slices)",
        )

    def slice_map(self, exposure: Exposure) -> SliceMap:
        """The slices of the band of an exposure."""
        return _map(self.geometry, self.shape, self.dispersion, self.blind, self._range(self.band(exposure)))

    def _range(self, band: str) -> tuple[str, int, int] | None:
        return (band, *self.bands[band]) if band else None

    def resolving_power(self, exposure: Exposure) -> Resolution:
        """The resolving power in the band of an exposure.

        Raises
        ------
        ConfigError
            If the instrument does not say it.
        """
        band = self.band(exposure)
        if band not in self.resolution:
            raise ConfigError(
                "the instrument does not say the resolving power of this band",
                where=exposure.path or exposure.identifier,
                got=band or "no bands",
                do="give a table of resolutions (--resolution)",
            )
        at, *coefficients = self.resolution[band]
        return Resolution(at, tuple(coefficients))


def lines_of(geometry: str) -> Mapping[int, Line]:
    """The slices of a geometry file: of the package by its name, or any by its path.

    Raises
    ------
    ConfigError
        If there is no such file, or it does not describe slices.
    """
    try:
        beside = files("calibrant") / "instruments" / geometry
        text = (beside if beside.is_file() else Path(geometry)).read_text(encoding="utf-8")
        told = json.loads(text)["slices"]
        return {int(number): _line(one) for number, one in told.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("the geometry of the slices cannot be read", where=geometry, got=error) from None


def _line(told: dict[str, Any]) -> Line:
    numbers: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    return Line(**numbers)


def of_band(slices: SliceMap, name: str, first: int, last: int) -> SliceMap:
    """A map in which only slices of some numbers count: others are light that belongs to no slice."""
    ids = slices.ids
    other = (ids > 0) & ((ids < first) | (ids > last))
    planes: dict[str, Any] = {
        what: None if (plane := getattr(slices, what)) is None else np.where(other, np.nan, plane)
        for what in ("alpha", "beta", "wavelength")
    }
    return replace(slices, ids=np.where(other, -ids, ids).astype(np.int32), name=name, **planes)


@lru_cache(maxsize=8)
def _map(
    geometry: str,
    shape: tuple[int, int],
    dispersion: str,
    blind: int,
    band: tuple[str, int, int] | None,
) -> SliceMap:
    whole = slice_map(lines_of(geometry), shape, dispersion=dispersion, blind=blind, name=geometry)
    return whole if band is None else of_band(whole, *band)
