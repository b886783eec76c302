"""Raw frames as an instrument describes them: one image, or one assembled of its amplifiers."""

from __future__ import annotations

from typing import Any, cast

from calibrant.errors import SelectionError
from calibrant.files import fits
from calibrant.files.cube import plane_source
from calibrant.files.ramp import find_ramp, ramp_frame
from calibrant.files.slope import slope_planes
from calibrant.files.source import FitsSource
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Instrument
from calibrant.instrument.readout import image_shape, parts_of
from calibrant.instrument.stated import as_stated
from calibrant.stack.source import Source

FORM = "CALFORM"  # card of files of ours: "product" or "frame"


def raw_source(exposure: Exposure, instrument: Instrument) -> Source:
    """The pixels of an exposure's file as a Source; none is read yet.

    Raises
    ------
    SelectionError
        If the exposure has no file.
    FileError
        If the file cannot be used.
    """
    path = _path(exposure)
    if instrument.layout.form == "ramp":
        contents = fits.inspect(path)
        unit = find_ramp(contents, instrument.layout.hdu)
        return fits.open_source(path) if unit is None else FitsSource.of(contents, unit)
    if instrument.layout.form == "slope" and (found := slope_planes(path, instrument.layout.hdu)) is not None:
        return found.data
    if instrument.layout.form in ("single", "slope"):
        return fits.open_source(path, instrument.layout.hdu)
    if instrument.layout.form == "cube" and "plane" in exposure.keys:
        return plane_source(fits.inspect(path), exposure.keys["hdu"], exposure.keys["plane"])
    if _is_ours(path):
        return fits.open_source(path)
    detector, binning = as_stated(instrument.detector(exposure.detector), exposure)
    return fits.assemble(path, image_shape(detector, binning), parts_of(detector, binning))


def raw_frame(exposure: Exposure, instrument: Instrument) -> Frame:
    """The frame of an exposure's file; its planes stay there until they are loaded.

    Raises
    ------
    SelectionError
        If the exposure has no file, or the file holds a product.
    FileError
        If the file cannot be used.
    """
    path = _path(exposure)
    hdu, form = instrument.layout.hdu, instrument.layout.form
    by_amplifiers = form == "amplifiers"
    if form == "cube" and "plane" in exposure.keys:
        source, header = raw_source(exposure, instrument), fits.read_header(path, exposure.keys["hdu"])
        return Frame(cast(Any, source), unit=exposure.unit, header=header.cards)
    if form == "ramp":
        hdu = None  # of an image among ramps
        if not _is_ours(path) and (frame := ramp_frame(path, instrument.layout.hdu)) is not None:
            return frame
    if form == "slope" and (found := slope_planes(path, hdu)) is not None:
        return found.frame(exposure.unit)
    ours = (by_amplifiers or hdu is not None) and _is_ours(path)
    if by_amplifiers and not ours:
        source = raw_source(exposure, instrument)
        return Frame(cast(Any, source), unit=exposure.unit, header=fits.read_header(path, 0).cards)
    read = fits.read(path, hdu=None if ours else hdu)
    if not isinstance(read, Frame):
        raise SelectionError(
            f"the file holds a product (a {read.kind}), not an exposure", where=path, do="leave it out"
        )
    return read


def _path(exposure: Exposure) -> str:
    if exposure.path is None:
        raise SelectionError("the exposure has neither a file nor a frame", where=exposure.identifier)
    return exposure.path


def _is_ours(path: str) -> bool:
    """Whether a file was written by us: then it says itself which image it is, already assembled."""
    return fits.read_header(path, 0).get(FORM) is not None
