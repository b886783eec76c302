"""Which slices an exposure shows: by a file that is named, by its own planes, or by its instrument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibrant.errors import ConfigError, FileError, OptionError, SelectionError
from calibrant.files.distortion import channels_of, read_distortion
from calibrant.files.slice_planes import read_resolution, read_slice_planes
from calibrant.frame import Exposure
from calibrant.instrument import Instrument
from calibrant.instrument.slices import SliceMap

Resolving = float | tuple[list[float], list[float]] | None
UNKNOWN = "none"
PLACES = 33  # along the wavelengths, at which a resolving power is told


@dataclass(frozen=True)
class Maps:
    """Where slices and resolving powers come from.

    Attributes
    ----------
    slices : str or None
        A distortion file, or one with planes of slices; by default the exposure's own planes, else the
        geometry of the instrument.
    channel : int or None
        Of a distortion file with several; by default that of the band.
    level : int
        Which plane of a cube of slices: those of several throughputs, the lowest first.
    dispersion : str or None
        ``rows`` or ``cols``; by default as the instrument has it.
    resolution : float, str or None
        wavelength / FWHM; or a table: FITS with a row for each band, or text with columns of wavelength [um]
        and resolution; ``none`` if it is not known. By default the instrument's.
    """

    slices: str | None = None
    channel: int | None = None
    level: int = 0
    dispersion: Literal["rows", "cols"] | None = None
    resolution: float | str | None = None

    def slice_map(self, exposure: Exposure, instrument: Instrument) -> SliceMap:
        """The slices that an exposure shows.

        Raises
        ------
        FileError
            If the file that is named holds no slices.
        ConfigError, SelectionError
            If no file is named, and the instrument knows no slices, or not those of the band.
        """
        own = None if instrument.slices is None else instrument.slices.dispersion
        dispersion = self.dispersion or own or "rows"
        if self.slices is None:
            found = None
            if exposure.path is not None:
                found = read_slice_planes(exposure.path, level=self.level, dispersion=dispersion)
            return instrument.slice_map(exposure) if found is None else found
        known = channels_of(self.slices)
        if known:
            blind = 0 if instrument.slices is None else instrument.slices.blind
            return read_distortion(self.slices, channel=self._channel(exposure, known), blind=blind)
        found = read_slice_planes(self.slices, level=self.level, dispersion=dispersion)
        if found is None:
            raise FileError(
                "this file says nothing of slices",
                where=self.slices,
                expected="a distortion file, or planes REGIONS or SLICE, WAVELENGTH, ALPHA",
            )
        return found

    def _channel(self, exposure: Exposure, known: tuple[int, ...]) -> int | None:
        """As it is named, or as the band begins with it; None for all of the file."""
        if self.channel is not None:
            return self.channel
        stated = str(exposure.get("channel") or exposure.get("band") or "")
        single = stated[:1].isdigit() and not stated[1:2].isdigit()  # "12A" and "34" are two channels
        return int(stated[0]) if single and int(stated[0]) in known else None

    def resolving(self, exposure: Exposure, instrument: Instrument, slices: SliceMap) -> Resolving:
        """wavelength / FWHM, or (wavelengths [um], those powers); None if it is not known.

        Raises
        ------
        FileError
            If the table cannot be read, or lacks the band.
        OptionError
            If it is not positive.
        """
        if self.resolution == UNKNOWN:
            return None
        number = _number(self.resolution)
        if number is not None:
            if not 0 < number < math.inf:
                raise OptionError("a resolution is positive", where="resolution", got=self.resolution)
            return number
        try:
            power = (
                instrument.resolution(exposure)
                if self.resolution is None
                else read_resolution(str(self.resolution), f"{exposure.get('band') or ''}")
            )
        except (ConfigError, SelectionError):
            return None
        if slices.wavelength is None or not np.isfinite(slices.wavelength).any():
            return None
        places = np.linspace(np.nanmin(slices.wavelength), np.nanmax(slices.wavelength), PLACES)
        return places.tolist(), np.asarray(power(places)).tolist()


def _number(value: float | str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None
