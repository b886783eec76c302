"""Detectors as an instrument file describes them: amplifiers, sections, nominal values, layouts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from calibrant.errors import ConfigError
from calibrant.instrument.rules import Keyword, Model
from calibrant.instrument.sections import parse_section

Corner = Literal["lower-left", "lower-right", "upper-left", "upper-right"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Amplifier(Model):
    """One readout amplifier: its sections in the raw, unbinned image, and its nominal values.

    Attributes
    ----------
    data, overscan, parallel_overscan, prescan : str
        FITS section strings in the image of this amplifier's HDU.
    place : str
        Section of the assembled, trimmed image where its data go; as `data` if not given. An HDU that holds
        pixels in the order of reading needs ranges that run backwards where the reading did.
    corner : str
        Of the assembled amplifier: where the first pixel is read.
    gain : float
        e-/adu.
    read_noise : float
        e-.
    saturation : float
        adu, of the raw image.
    full_well : float
        e-.
    hdu : int or str
        Index or EXTNAME, where each amplifier has an HDU of its own.
    """

    name: str
    data: str
    overscan: str | None = None
    parallel_overscan: str | None = None
    prescan: str | None = None
    place: str | None = None
    corner: Corner = "lower-left"
    gain: Positive | None = None
    read_noise: Positive | None = None
    saturation: Positive | None = None
    full_well: Positive | None = None
    hdu: int | str | None = None

    @field_validator("data", "overscan", "parallel_overscan", "prescan", "place")
    @classmethod
    def _is_section(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_section(text)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return text


class HeaderSections(Model):
    """Keywords of the sections, for files that carry their own geometry.

    `place` counts where each amplifier has an HDU of its own: DETSEC, whose ranges run backwards on an axis
    that was read towards its beginning.
    """

    data: tuple[Keyword, ...] = ("TRIMSEC", "DATASEC")
    overscan: tuple[Keyword, ...] = ("BIASSEC",)
    parallel_overscan: tuple[Keyword, ...] = ()
    prescan: tuple[Keyword, ...] = ()
    place: tuple[Keyword, ...] = ()


class Detector(Model):
    """One detector: its size, its amplifiers, and nominal values that hold for all of them.

    Attributes
    ----------
    names : list of str
        Detectors that this table describes, where several are alike; that of the table if not given.
    shape : list of int
        Rows, columns of the raw image, unbinned; overscan included.
    from_header : bool or table
        Sections stand in the header (TRIMSEC or DATASEC, BIASSEC), for the image as it was binned. Where each
        amplifier has an HDU of its own, they stand there, and what they say counts before this file.
    gain, read_noise, saturation, full_well : float
        As of `Amplifier`, for amplifiers that do not give their own.
    """

    names: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None
    from_header: HeaderSections | None = None
    amplifiers: tuple[Amplifier, ...] = ()
    gain: Positive | None = None
    read_noise: Positive | None = None
    saturation: Positive | None = None
    full_well: Positive | None = None

    @field_validator("from_header", mode="before")
    @classmethod
    def _true_means_usual(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @property
    def has_blind(self) -> bool:
        """Whether an amplifier has pixels that see no light."""
        return any(amp.overscan or amp.parallel_overscan or amp.prescan for amp in self.amplifiers)


class Layout(Model):
    """How images sit in the files: one HDU, one for each amplifier, or one cube of several exposures.

    Attributes
    ----------
    form : str
        ``single``; ``amplifiers``: then an image is made of them, where they have overscan the raw images
        side by side, in the order of the file's amplifiers, else their data, each in its place; or ``cube``:
        each plane of an HDU is an exposure, and a single image is a cube of one plane. Rules find the number
        of the plane, from 0, under ``PLANE``, its HDU under ``HDU``, and what the file's binary tables say of
        it under ``TABLE.COLUMN``; or ``ramp``: the groups of one exposure, read up the ramp, as an image of
        the axes integration, group, row and column, or group, row and column; or
        ``slope``: a cube whose planes are the slope, its standard deviation and, where it has three, flags.
    hdu : int or str
        Of the image or cube; the first with two axes if not given.
    also : list of str
        Further cubes whose planes are exposures, in files that have them.
    tables : table of str
        Table -> cube whose planes its rows describe, in their order. Other tables have one row, for all.
    """

    form: Literal["single", "amplifiers", "cube", "ramp", "slope"] = "single"
    hdu: int | str | None = None
    also: tuple[str, ...] = ()
    tables: dict[str, str] = Field(default={})
