"""Whether an instrument file fits a real file: its HDUs, and its sections against their images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from calibrant.errors import FileError, HeaderError
from calibrant.exposures.scan import ramp_keys, scan
from calibrant.files.header import HDU, Contents, inspect
from calibrant.files.ramp import RampFile
from calibrant.frame import Exposure
from calibrant.instrument import Detector, Finding, Instrument, load, locate
from calibrant.instrument.readout import ROLES
from calibrant.instrument.sections import binned as in_binned
from calibrant.instrument.sections import bounds, is_inside, parse_section, section_shape
from calibrant.instrument.stated import as_stated

Place = tuple[str | int, ...]
Remark = tuple[Place, str, str]


def fit(instrument: str | Path, path: str | os.PathLike[str]) -> list[Finding]:
    """What of an instrument file does not fit a raw file; an empty list if all does.

    Parameters
    ----------
    instrument : str or path
        Name, or TOML file.
    path : str or path
        A raw file of this camera, whose headers are read.

    Raises
    ------
    ConfigError
        If the instrument cannot be used at all; `calibrant.instrument.check` says why.
    FileError
        If the raw file cannot be used.
    """
    camera, contents = load(instrument), inspect(path)
    found = [
        locate(instrument, place, f"{contents.path}: {what}", do)
        for place, what, do in _remarks(camera, contents)
    ]
    if not found:  # whatever else would stop a run, in the words of that run
        problems = scan([contents.path], camera)[1].problems
        found = [locate(instrument, ("name",), problem.sentence) for problem in problems]
    return found


def _remarks(camera: Instrument, contents: Contents) -> Iterator[Remark]:
    exposure = camera.exposure(contents.header(), contents.path)
    detector, binning = camera.detector(exposure.detector), exposure.binning
    names = [name for name, one in camera.detectors.items() if one is detector]
    here: Place = ("detectors", *names[:1])
    if camera.layout.form == "single":
        try:
            image = contents.image(camera.layout.hdu)
        except FileError as error:
            yield ("layout", "hdu"), error.what, f"it has {error.got}"
            return
        images = [image] * len(detector.amplifiers)
        yield from _of_shape((*here, "shape"), detector, image, binning)
    elif camera.layout.form == "ramp":
        yield from _of_ramp(camera, contents, exposure)
        return
    else:
        images = []
        for index, amp in enumerate(detector.amplifiers):
            try:
                images.append(contents.image(amp.hdu))
            except FileError as error:
                yield (*here, "amplifiers", index, "hdu"), error.what, f"it has {error.got}"
                return
        headers = {amp.name: image.header for amp, image in zip(detector.amplifiers, images, strict=True)}
        try:
            exposure = camera.with_amplifiers(exposure, headers)
        except HeaderError as error:
            yield here, error.what, error.do or ""
            return
        detector, binning = as_stated(detector, exposure)
        for image in images[:1] if detector.shape is not None else ():
            yield from _of_shape((*here, "shape"), detector, image, binning)
    for index, image in enumerate(images):
        yield from _of_sections((*here, "amplifiers", index), detector, index, image, binning)


def _of_ramp(camera: Instrument, contents: Contents, exposure: Exposure) -> Iterator[Remark]:
    """Whether the file has a ramp, and the clock of the instrument suits it."""
    try:
        planes = RampFile.of(contents, camera.layout.hdu)
    except FileError as error:
        yield ("layout",), error.what, f"it has {error.got}"
        return
    if camera.readout is None:
        return
    facts = replace(exposure, shape=planes.shape, keys=ramp_keys(exposure, planes.shape))
    try:
        clock, stated = camera.clock(facts), facts.get("frame_time")
    except HeaderError as error:
        yield ("readout",), f"{error.what}: {error.got}", "outputs and shape are those of the detector"
        return
    if stated is not None and abs(clock.frame_time - stated) > clock.pixel_time:
        what = f"a frame takes {clock.frame_time:g} s by this clock, {stated:g} s by the header"
        yield ("readout",), what, "pixel_time, outputs and overheads make the time of a frame"


def _of_shape(place: Place, detector: Detector, image: HDU, binning: tuple[int, int]) -> Iterator[Remark]:
    if detector.shape is None:
        return
    expected = detector.shape[0] // binning[0], detector.shape[1] // binning[1]
    if image.shape[-2:] != expected:
        rows, cols = image.shape[-2:]
        what = (
            f"the image of {_named(image)} is {rows} x {cols} rows x cols, not {expected[0]} x {expected[1]}"
        )
        yield place, what, "shape is that of one HDU's image, unbinned, overscan included"


def _of_sections(
    here: Place, detector: Detector, index: int, image: HDU, binning: tuple[int, int]
) -> Iterator[Remark]:
    amp, shape = detector.amplifiers[index], (image.shape[-2], image.shape[-1])
    for role in ROLES:
        text = getattr(amp, role)
        if text is None:
            continue
        section = in_binned(parse_section(text), binning)
        if not is_inside(section, shape):
            r0, r1, c0, c1 = bounds(section, shape)
            what = (
                f"{role} {text} (rows {r0} to {r1}, columns {c0} to {c1}) reaches outside the "
                f"{shape[0]} x {shape[1]} rows x cols of {_named(image)}"
            )
            yield (*here, role), what, "sections count from 1, columns first, in the image of this HDU"
    if amp.place is not None:
        data, place = parse_section(amp.data), parse_section(amp.place)
        if section_shape(data, shape) != section_shape(place, shape):
            what = f"place {amp.place} has another size than data {amp.data}"
            yield (*here, "place"), what, "each pixel of the data has its place"


def _named(image: HDU) -> str:
    return f"HDU {image.index} {image.name}".strip()
