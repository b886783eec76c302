"""What a scene of an image slicer is made of: sources, campaigns, and numbers that hold for all images."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calibrant.errors import OptionError, SelectionError
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.instrument.slicer import Resolution, SliceRules, lines_of
from calibrant.instrument.slices import Line, SliceMap
from calibrant.simulate.slicers import names

F8 = NDArray[np.float64]
Three = tuple[float, float, float]


class Part(BaseModel):
    """A table of a scene: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class Source(Part):
    """A source of light.

    Attributes
    ----------
    level : three floats
        adu/s at the first, middle and last wavelength.
    reflectivity : three floats
        Of the surfaces of the cavity, as this source sees them.
    structure : list of (amplitude, period, phase)
        Waves along slices, relative; arcsec, rad.
    point : bool
        Whether it is a point, whose image is as wide as that of a slice's edge.
    lines : float
        Distance of emission lines in wavenumber, cm^-1; 0: a continuum.
    table : list of (wavelength, height)
        Emission lines one by one: micrometres, and height relative to the level, before the pixel.
    pedestal : bool
        Whether it comes with the pedestal of its campaign.
    """

    level: Three
    reflectivity: Three
    structure: tuple[Three, ...] = ()
    point: bool = False
    lines: float = 0.0
    table: tuple[tuple[float, float], ...] = ()
    pedestal: bool = False


class Campaign(Part):
    """What differs from campaign to campaign.

    Attributes
    ----------
    gain : float
        Of all light, relative.
    pedestal : float
        adu/s, in all pixels that are not blind, where the source has it.
    structure_shift, edge_shift : float
        Pixels across slices, of what is inside and of the edges.
    dispersion_shift : float
        Rows by which each wavelength has moved.
    thickness_change : float
        cm, of the cavity.
    parity : float
        Even rows are brighter, and odd ones fainter, by this part.
    """

    gain: float = 1.0
    pedestal: float = 0.0
    structure_shift: float = 0.0
    edge_shift: float = 0.0
    dispersion_shift: float = 0.0
    thickness_change: float = 0.0
    parity: float = 0.0


class Raster(Part):
    """Where a point source stood: names with beta, and names with alpha, arcsec; in one campaign."""

    campaign: str
    pointings: dict[str, float]
    positions: dict[str, float]


class Scene(Part):
    """Sources, campaigns and the instrument that sees them; `Scene.load` reads a file of the package.

    Attributes
    ----------
    thickness, second_thickness : float
        Optical thickness of two cavities, cm.
    second_reflectivity : float
    phase : float
        Of the first cavity, cycles.
    blur : float
        Sigma across slices, pixels.
    stray, halo : float
        Part of the light that is scattered along lines across slices, and its full width at half maximum.
    ambient : float
        adu/s of light from elsewhere, in all slices.
    electrons, exposed, read_noise : float
        electron/adu, s, adu/s: for the noise.
    bad : float
        Part of the pixels that are bad.
    stripes : int
        Lines of the readout that are lost (NaN).
    """

    instrument: str
    band: str
    start: str
    cards: dict[str, str | int | float] = Field(default={})
    file: str
    thickness: float
    second_thickness: float
    second_reflectivity: float
    phase: float = 0.0
    undulation: float = 0.0
    undulation_period: float = 100.0
    blur: float
    stray: float
    halo: float
    ambient: float
    electrons: float
    exposed: float
    read_noise: float
    bad: float
    stripes: int = 0
    sources: dict[str, Source]
    campaigns: dict[str, Campaign]
    raster: Raster

    @classmethod
    def load(cls, name: str, **changes: Any) -> Scene:
        """The scene of a file in ``simulate/slicers``, with some of its numbers changed.

        Raises
        ------
        OptionError
            If there is none of that name.
        """
        if name not in names():
            raise OptionError("there is no such scene", expected=", ".join(names()), got=name)
        text = (files("calibrant") / "simulate" / "slicers" / f"{name}.toml").read_text(encoding="utf-8")
        return cls.model_validate({**tomllib.loads(text), **changes})

    def with_lines(self, source: str, wavelength: Sequence[float], height: Sequence[float]) -> Scene:
        """The scene with the lines of a table, such as those of a measured etalon, in one of its sources.

        Parameters
        ----------
        source : str
            Name in the scene.
        wavelength, height : sequence of float
            Micrometres; relative to the level of the source.

        Raises
        ------
        SelectionError
            If there is no such source.
        OptionError
            If the two differ in length, or a wavelength is not positive.
        """
        if len(wavelength) != len(height) or not all(value > 0 for value in wavelength):
            raise OptionError(
                "no such lines",
                where=source,
                expected="as many heights as positive wavelengths",
                got=f"{len(wavelength)} and {len(height)}",
            )
        table = tuple(sorted((float(w), float(h)) for w, h in zip(wavelength, height, strict=True)))
        lamp = self.source(source).model_copy(update={"lines": 0.0, "table": table})
        return self.model_copy(update={"sources": {**self.sources, source: lamp}})

    @cached_property
    def rules(self) -> SliceRules:
        """The slices of the instrument."""
        found = load(self.instrument).slices
        assert found is not None
        return found

    @cached_property
    def lines(self) -> dict[int, Line]:
        """The middles of all slices of the detector."""
        return dict(lines_of(self.rules.geometry))

    @cached_property
    def slices(self) -> SliceMap:
        """The slices of the band."""
        return self.rules.slice_map(Exposure(keys={"band": self.band}))

    def resolution(self, number: int) -> Resolution:
        """The resolving power in a slice."""
        for band, (first, last) in self.rules.bands.items():
            if first <= number <= last and band in self.rules.resolution:
                at, *coefficients = self.rules.resolution[band]
                return Resolution(at, tuple(coefficients))
        raise SelectionError("the instrument does not say the resolving power of this slice", got=number)

    def source(self, name: str) -> Source:
        """A source by its name.

        Raises
        ------
        SelectionError
            If there is none.
        """
        return _known(self.sources, name, "source")

    def campaign(self, name: str) -> Campaign:
        """A campaign by its name.

        Raises
        ------
        SelectionError
            If there is none.
        """
        return _known(self.campaigns, name, "campaign")


T = TypeVar("T")


def _known(table: dict[str, T], name: str, what: str) -> T:
    if name not in table:
        raise SelectionError(f"the scene has no such {what}", expected=", ".join(table), got=name)
    return table[name]


def parabola(three: Three, u: F8) -> F8:
    """The parabola through three values at u = -1, 0 and 1."""
    first, middle, last = three
    return middle + 0.5 * (last - first) * u + (0.5 * (first + last) - middle) * u**2
