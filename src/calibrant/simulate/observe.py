"""Observe: one exposure in memory, or a whole night as raw files with the truth beside them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.files.fits import write, write_raw
from calibrant.frame import iso_time
from calibrant.product import Product
from calibrant.simulate import detector as physics
from calibrant.simulate import readout, truth
from calibrant.simulate.cosmic_rays import Hits, cosmic_rays
from calibrant.simulate.detector import Design, Detector
from calibrant.simulate.night import CAMERA, Night, Visit, plan
from calibrant.simulate.scene import Scene, TanWcs
from calibrant.simulate.structure import F4, Shape

Progress = Callable[[int, int, str], None]

SMALLEST = 8  # rows and columns that hold a bad column and a star
MARGIN = 6.0  # sigmas of read noise

IMAGETYP = {"bias": "Bias Frame", "dark": "Dark Frame", "flat": "Flat Field", "light": "Light Frame"}


@dataclass(frozen=True, eq=False)
class Shot:
    """One raw exposure, and what truly happened to it.

    Attributes
    ----------
    images : tuple of array
        uint16, adu, one per amplifier with its overscan, as the file holds them.
    counts : array
        uint16, adu, (rows, cols): the data section alone, amplifiers put together.
    hits : Hits
        Cosmic rays.
    saturated : array of bool
        (rows, cols): pixels at the full well or at the end of the converter, and all that bleeding reached.
    """

    images: tuple[NDArray[np.uint16], ...]
    counts: NDArray[np.uint16]
    hits: Hits
    saturated: NDArray[np.bool_]

    @property
    def image(self) -> NDArray[np.uint16]:
        """The image of the first amplifier, overscan included: all there is if there is one amplifier."""
        return self.images[0]


def expose(
    detector: Detector,
    rng: np.random.Generator,
    *,
    light: NDArray[np.floating] | float | None = None,
    exptime: float = 0.0,
    filter: str = "",
    temperature: float | None = None,
    offset: float = 0.0,
) -> Shot:
    """Take one exposure: photon, charge, pixel, signal, image.

    Parameters
    ----------
    light : array, float or None
        electron/s at a response of 1, (rows, cols); None leaves the shutter closed (bias, dark).
    exptime : float
        Seconds.
    filter : str
        Which throughput the light passes; needed if there is light.
    temperature : float, optional
        Degrees Celsius; None is the reference temperature of the design.
    offset : float
        Departure of the bias level from its settled value, adu.

    Returns
    -------
    Shot
    """
    photons = 0.0 if light is None else physics.photon(detector, light, exptime, filter)
    if exptime > 0:
        expected = detector.design.cosmic_rate * exptime * detector.dq.size
        hits = cosmic_rays(detector.shape, expected, rng)
        electrons = physics.charge(detector, photons, exptime, rng, temperature=temperature, hits=hits)
    else:
        hits, electrons = Hits.none(), np.zeros(detector.shape, np.float32)
    held = physics.pixel(detector, electrons)
    voltages = readout.signal(detector, held, rng, offset=offset, lit=light is not None)
    images = tuple(map(readout.image, voltages))
    counts = readout.trimmed(detector, images)
    # The last pixel of a bleeding trail holds less than a full well, yet its charge is not its own.
    full = (held >= detector.design.full_well) | (held != electrons) | (counts == readout.HIGHEST)
    return Shot(images, counts, hits, full)


def ccd_night(
    out: str | Path,
    *,
    seed: int,
    shape: Shape = (512, 512),
    biases: int = 10,
    darks: Mapping[float, int] | None = None,
    flats: Mapping[str, int | Sequence[float]] | None = None,
    science: Mapping[str, int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Product:
    """Write a night of raw CCD frames into `out`, and its truth into ``out/truth/truth.fits``.

    The same seed and options give the same bytes. One frame is in memory at a time.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the data section.
    biases, darks, flats, science
        As of `Night`; None is its default. An empty mapping leaves the kind out.
    options
        Further fields of `Night` (``exptime``, ``temperature``, ``drift``, ...) and of `Design` (``gain``,
        ``read_noise``, ``overscan``, ``cosmic_rate``, ...).

    Returns
    -------
    Product
        The truth, of kind ``truth``; see `calibrant.simulate.truth`.

    Raises
    ------
    OptionError
        For an option that neither knows, or fewer than 8 rows or columns.
    OutputExistsError
        If a file is in the way and `overwrite` is False.
    """
    if min(shape) < SMALLEST:
        raise OptionError(
            "the detector is too small",
            where="shape",
            expected=f"{SMALLEST} rows and columns",
            got=tuple(shape),
        )
    counts = {"biases": biases, "darks": darks, "flats": flats, "science": science}
    night, changes = _night({name: value for name, value in counts.items() if value is not None}, options)
    root = np.random.default_rng(seed)
    rng_detector, rng_scene, rng_plan = root.spawn(3)
    detector = Detector.simulated(shape, rng_detector, filters=night.filters, **changes)
    scene = Scene.spiral(
        shape, night.filters, rng_scene, stars=night.stars, galaxy=night.galaxy, sky=night.sky
    )
    visits = list(plan(night, detector.design, rng_plan))
    folder = Path(out)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    record = truth.Record(detector, scene, night.temperature, seed)
    for done, (visit, rng) in enumerate(zip(visits, root.spawn(len(visits)), strict=True)):
        light = _light(visit, scene)
        shot = expose(
            detector,
            rng,
            light=light,
            exptime=visit.exptime,
            filter=visit.filter,
            temperature=visit.temperature,
            offset=visit.offset,
        )
        _write(folder / visit.name, visit, shot, detector, night, scene.wcs, overwrite)
        record.add(visit, shot.hits, shot.saturated, light)
        if progress is not None:
            progress(done + 1, len(visits), visit.name)
    product = record.product(first_frame=night.first_frame, drift=night.drift)
    write(product, folder / "truth" / "truth.fits", overwrite=overwrite)
    return product


def _night(counts: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[Night, dict[str, Any]]:
    """The plan of the night, and what is left of the options for the design of the detector."""
    of_night = {item.name for item in fields(Night)}
    of_design = {item.name for item in fields(Design)} - {"filters"}
    for name in options:
        if name not in of_night | of_design:
            near = difflib.get_close_matches(name, sorted(of_night | of_design), 1)
            raise OptionError(
                "neither the night nor the detector has such an option",
                where=name,
                do=f"did you mean {near[0]}?" if near else "see Night and Design",
            )
    own = {name: value for name, value in options.items() if name in of_night}
    return Night(**counts, **own), {name: value for name, value in options.items() if name in of_design}


def _light(visit: Visit, scene: Scene) -> F4 | float | None:
    if visit.kind == "flat":
        return visit.level / visit.exptime
    return scene.light(visit.filter, visit.shift) if visit.kind == "light" else None


def cards(visit: Visit, detector: Detector, night: Night, wcs: TanWcs) -> dict[str, Any]:
    """The header of a frame, as the program of a camera would write it."""
    design = detector.design
    header: dict[str, Any] = {
        "DATE-OBS": iso_time(visit.start).rstrip("Z"),
        "EXPTIME": visit.exptime,
        "EXPOSURE": visit.exptime,
        "IMAGETYP": IMAGETYP[visit.kind],
        "SET-TEMP": night.temperature,
        "CCD-TEMP": visit.temperature,
        "XPIXSZ": 13.5,
        "YPIXSZ": 13.5,
        "XBINNING": 1,
        "YBINNING": 1,
        "READOUTM": "1 MHz",
        "EGAIN": round(design.gain, 6),
        "RDNOISE": round(design.read_noise, 6),
        # As makers state it: so far below the wall that read noise does not hide that a pixel has met it.
        "SATURATE": int(readout.saturation(detector) - MARGIN * design.read_noise / design.gain),
        "INSTRUME": CAMERA,
        "TELESCOP": "Simulated 0.7 m",
    }
    if visit.filter:
        header["FILTER"] = visit.filter
    if visit.kind == "light":
        header["OBJECT"] = night.object
        header["AIRMASS"] = 1.1
        header.update(wcs.moved(*visit.shift).cards())
    return header


def _write(
    path: Path, visit: Visit, shot: Shot, detector: Detector, night: Night, wcs: TanWcs, overwrite: bool
) -> None:
    header = cards(visit, detector, night, wcs)
    if len(shot.images) == 1:
        header.update(readout.sections(detector, detector.amplifiers[0]))
        write_raw(path, shot.image, header, overwrite=overwrite)
        return
    extensions = [
        (
            f"AMP{amplifier.name}",
            image,
            {
                "EGAIN": round(amplifier.gain, 6),
                "RDNOISE": round(amplifier.read_noise * amplifier.gain, 6),
                **readout.sections(detector, amplifier),
            },
        )
        for amplifier, image in zip(detector.amplifiers, shot.images, strict=True)
    ]
    write_raw(path, None, header, extensions, overwrite=overwrite)
