"""Raft: a mosaic camera of many amplifiers, one file for each exposure and detector, the truth beside them.

Every random number is drawn from the seed, the detector and the exposure together: whatever else is taken, a
file is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.files.fits import write, write_raw
from calibrant.frame import MICROSECOND, iso_time
from calibrant.product import Table
from calibrant.simulate import bench, flat_structure, readout, structure
from calibrant.simulate import detector as physics
from calibrant.simulate import scene as sky
from calibrant.simulate.boundaries import Boundaries
from calibrant.simulate.camera import Camera, Faults, Size, known
from calibrant.simulate.chain import Chain
from calibrant.simulate.detector import Amplifier, Design, Detector
from calibrant.simulate.flat_structure import Flats, Grid
from calibrant.simulate.night import Visit
from calibrant.simulate.observe import MARGIN, expose
from calibrant.simulate.raft_plan import Counts, Planned, plan
from calibrant.simulate.structure import F4
from calibrant.simulate.truth import Record

Progress = Callable[[int, int, str], None]

TAI_UTC = 37  # seconds since 2017
MJD_1970 = 40587.0
DAY = 86_400 * MICROSECOND
HALF = 0.5  # of the pixels: a frame with more saturated ones is not in the table of them
SKY = 0.3  # scatter of the logarithm of sky and fringes from exposure to exposure of a series
IMGTYPE = {"bias": "BIAS", "dark": "DARK", "flat": "FLAT", "light": "OBJECT"}
DUST, DETECTOR, SCENE, FRAME, NIGHT, EXPOSURE, FAULTS, BENCH, LAMP = range(9)
"""What random numbers are for: the streams of one seed."""


class Taken(NamedTuple):
    """Files that were written: raw frames, and the truth of each detector."""

    raw: tuple[Path, ...]
    truth: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Sensor:
    """One detector of the raft, and the parts of its flats."""

    number: int
    grid: Grid
    detector: Detector
    parts: dict[str, F4]
    scene: sky.Scene


def simulate(
    camera: Camera,
    out: str | Path,
    *,
    seed: int,
    size: str = "small",
    detectors: Sequence[int] | None = None,
    bands: Sequence[str] | None = None,
    counts: Counts | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Taken:
    """Write the raw frames of a mosaic camera into `out`, and the truth of each detector into ``out/truth``.

    The same seed and options give the same bytes, and fewer detectors or bands the same files, but fewer. One
    detector and one of its frames are in memory at a time.

    Parameters
    ----------
    camera : Camera
        As `calibrant.simulate.camera.load` gives it.
    size : str
        One of the camera's sizes.
    detectors, bands : sequence, optional
        Numbers, and names; all if not given.
    counts : Counts, optional
        Frames of each kind; those of the camera's file if not given.

    Returns
    -------
    Taken
        Paths of raw frames and truths, in the order of writing.

    Raises
    ------
    SelectionError
        For a size, detector or band that the camera does not have.
    OptionError
        For a negative seed, or more calibrations than fit into an afternoon.
    OutputExistsError
        If a file is in the way and `overwrite` is False.
    """
    if seed < 0:
        raise OptionError("a seed cannot be negative", where="seed", got=seed)
    layout, everyone = camera.size(size), range(len(camera.slots))
    numbers = list(everyone) if detectors is None else list(dict.fromkeys(detectors))
    for number in numbers:
        known(str(number), [str(one) for one in everyone], "detector")
    exposures = plan(camera, counts or Counts(), bands)
    folder = Path(out)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    raw, truths = [], []
    for number in numbers:
        sensor = make_sensor(camera, layout, number, seed)
        record = _record(camera, layout, sensor, seed, bands)
        for planned in exposures:
            visit = _visit(camera, sensor, planned, seed)
            raw.append(folder / visit.name)
            _take(raw[-1], camera, sensor, planned, visit, record, seed, overwrite)
            if progress is not None:
                progress(len(raw), len(numbers) * len(exposures), "frames")
        truths.append(folder / "truth" / f"{camera.raft}_{camera.slots[number]}.fits")
        write(record.product(), truths[-1], overwrite=overwrite)
    return Taken(tuple(raw), tuple(truths))


def make_sensor(camera: Camera, size: Size, number: int, seed: int) -> Sensor:
    """One detector of the raft as the seed makes it."""
    rng = np.random.default_rng((seed, DETECTOR, number))
    rng_amplifiers, rng_bias, rng_pixels, rng_damage, rng_flats = rng.spawn(5)
    design, shape = camera.design(size), camera.shape(size)
    grid = Grid(shape, camera.extent, camera.centre(number))
    specks = flat_structure.specks(camera, np.random.default_rng((seed, DUST)))
    parts = flat_structure.parts(camera, grid, specks, rng_flats)
    amplifiers = _amplifiers(camera, size, design, rng_amplifiers)
    dark, dq = structure.dark_rate(shape, design.dark, design.hot_fraction, rng_pixels)
    found = physics.damage(shape, design, amplifiers, rng_damage)
    parts["pixels"] *= found.response
    level = structure.row_level(size.rows, 1.5 * design.bias_structure)
    clean = Detector(
        design=design,
        amplifiers=amplifiers,
        row_level=np.concatenate([level, level[::-1]]),
        structure=_bias_structure(shape, amplifiers, design.bias_structure, rng_bias),
        dark=dark,
        throughput=Flats(parts, camera.bands, len(camera.epochs)),
        read_noise=physics.by_amplifier(shape, amplifiers, "read_noise"),
        telegraph=np.zeros(shape, np.float32),
        shutter=structure.shutter_delay(shape, design.shutter),
        dq=dq,
    )
    rng_faults = np.random.default_rng((seed, FAULTS, number))
    faulty = _with_faults(physics.damaged(clean, found), camera.faults, size, rng_faults)
    return Sensor(number, grid, faulty, parts, _scene(camera, grid, number, seed))


def _with_faults(detector: Detector, faults: Faults | None, size: Size, rng: np.random.Generator) -> Detector:
    """The detector with moving boundaries and a chain, if its camera has faults."""
    if faults is None:
        return detector
    chain = Chain.drawn(
        [detector.design.full_well / amplifier.gain for amplifier in detector.amplifiers],
        rng,
        cti_serial=faults.deferred_serial / (size.prescan + size.cols),
        cti_parallel=faults.deferred_parallel / size.rows,
        **faults.model_dump(include={"nonlinearity", "crosstalk", "far", "pedestal"}),
    )
    return replace(detector, chain=chain, boundaries=Boundaries.dipole(faults.a00))


def _amplifiers(
    camera: Camera, size: Size, design: Design, rng: np.random.Generator
) -> tuple[Amplifier, ...]:
    scatter, found = camera.scatter, []
    for segment in camera.amplifiers.segments:
        gain = design.gain * (1.0 + scatter.gain * rng.standard_normal())
        noise = design.read_noise * (1.0 + scatter.read_noise * rng.standard_normal())
        found.append(
            Amplifier(
                name=segment.name,
                start=segment.col * size.cols,
                stop=(segment.col + 1) * size.cols,
                level=float(design.level + scatter.level * rng.standard_normal()),
                gain=float(gain),
                read_noise=float(noise / gain),
                reverse=camera.amplifiers.reverse,
                bottom=segment.row * size.rows,
                top=(segment.row + 1) * size.rows,
                downwards=segment.row == 1,
            )
        )
    return tuple(found)


def _bias_structure(
    shape: structure.Shape, amplifiers: Sequence[Amplifier], amplitude: float, rng: np.random.Generator
) -> F4:
    """Each amplifier has a structure of its own, in the order of its readout."""
    plane = np.empty(shape, np.float32)
    for amplifier in amplifiers:
        own = plane[amplifier.window]
        own[:] = structure.bias_structure((own.shape[0], own.shape[1]), amplitude, rng)[amplifier.turns]
    return plane


def _scene(camera: Camera, grid: Grid, number: int, seed: int) -> sky.Scene:
    """Sky, stars, and a galaxy on one of the detectors; the coordinates are those of the whole raft."""
    rng, science = np.random.default_rng((seed, SCENE, number)), camera.science
    bands = {
        name: sky.Band(band.sky, band.stars, band.stars, band.stars, band.stars)
        for name, band in camera.bands.items()
    }
    plain = sky.Scene.spiral(grid.shape, (), rng, galaxy=number == science.galaxy)
    step = grid.extent[1] / grid.shape[1]
    row, col = (
        (0.5 - centre / length) * pixels - 0.5
        for centre, length, pixels in zip(grid.centre, grid.extent, grid.shape, strict=True)
    )
    wcs = sky.TanWcs(science.ra, science.dec, row, col, camera.scale * step, 0.0)
    # The last star is the one that always bleeds, in one place: nine of them would look like a fault.
    stars = sky.Stars(plain.stars.row[:-1], plain.stars.col[:-1], plain.stars.flux[:-1])
    return replace(plain, bands=bands, wcs=wcs, stars=stars)


def _visit(camera: Camera, sensor: Sensor, planned: Planned, seed: int) -> Visit:
    """The exposure as one detector has it."""
    day, number, scatter = int(planned.day), sensor.number, camera.scatter
    night = np.random.default_rng((seed, NIGHT, day, number)).normal(0.0, scatter.night)
    rng = np.random.default_rng((seed, EXPOSURE, day, planned.sequence))
    temperature, lamp = rng.normal(0.0, 0.02), rng.normal(0.0, 0.003)
    shift = rng.normal(0.0, camera.science.dither, 2) * sensor.grid.shape
    frame = np.random.default_rng((seed, EXPOSURE, day, planned.sequence, number)).normal(0.0, scatter.frame)
    moving = planned.kind == "light" and planned.scene in ("", "sky")
    level = float(planned.level * (1.0 + lamp)) if planned.kind == "flat" else planned.level
    diode, sky, fringes = np.random.default_rng((seed, LAMP, day, planned.sequence)).standard_normal(3)
    return Visit(
        name=f"{identifier(camera, planned)}_{camera.raft}_{camera.slots[number]}.fits",
        kind=planned.kind,
        exptime=planned.exptime,
        filter=f"{planned.band}_{planned.epoch}" if planned.band else "",
        level=level,
        offset=float(night + frame),
        temperature=round(float(camera.temperature + temperature), 3),
        shift=(float(shift[0]), float(shift[1])) if moving else (0.0, 0.0),
        start=planned.start,
        object=planned.object,
        photodiode=_photodiode(camera, planned, level, float(diode)),
        sky=float(np.exp(SKY * sky)) if planned.scene == "sky" else 1.0,
        fringes=float(np.exp(SKY * fringes)) if planned.scene == "sky" else 1.0,
    )


def _photodiode(camera: Camera, planned: Planned, level: float, noise: float) -> float:
    if camera.lamp is None or planned.kind != "flat":
        return 0.0
    return round(camera.lamp.photodiode * level * (1.0 + camera.lamp.scatter * noise), 6)


def identifier(camera: Camera, planned: Planned) -> str:
    """Of the exposure, as headers and names of files have it."""
    return f"{camera.prefix}_{planned.day}_{planned.sequence:06d}"


def _take(
    path: Path,
    camera: Camera,
    sensor: Sensor,
    planned: Planned,
    visit: Visit,
    record: Record,
    seed: int,
    overwrite: bool,
) -> None:
    light, falling = _light(camera, sensor, planned, visit, seed)
    shot = expose(
        sensor.detector,
        np.random.default_rng((seed, FRAME, int(planned.day), planned.sequence, sensor.number)),
        light=falling,
        exptime=visit.exptime,
        filter=visit.filter,
        temperature=visit.temperature,
        offset=visit.offset,
    )
    rows, cols = sensor.grid.shape
    extensions = [
        (
            segment.hdu,
            image,
            {
                **readout.sections(sensor.detector, amplifier),
                "DETSIZE": f"[1:{cols},1:{rows}]",
                "GAIN": round(amplifier.gain, 4),
                "RDNOISE": round(amplifier.read_noise * amplifier.gain, 3),
            },
        )
        for segment, amplifier, image in zip(
            camera.amplifiers.segments, sensor.detector.amplifiers, shot.images, strict=True
        )
    ]
    write_raw(path, None, cards(camera, sensor, planned, visit), extensions, overwrite=overwrite)
    # At real size the planes of a whole series would not fit into memory, nor a list of all pixels.
    kept = light if record.flats or not planned.scene else None
    listed = shot.saturated if shot.saturated.mean() < HALF else np.zeros_like(shot.saturated)
    record.add(visit, shot.hits, listed, kept)


def _light(
    camera: Camera, sensor: Sensor, planned: Planned, visit: Visit, seed: int
) -> tuple[F4 | float | None, NDArray[np.floating] | float | None]:
    """Light of an exposure, electron/s at a response of 1, and as it meets the response to the lamp."""
    if planned.kind == "flat":
        return visit.level / visit.exptime, visit.level / visit.exptime
    if planned.kind != "light":
        return None, None
    if planned.scene in ("spots", "stars"):
        # Too many for the truth, which holds what they are made of.
        return None, np.float32(visit.level / visit.exptime) * _shown(sensor, planned, seed)
    band, fringes = camera.bands[planned.band], sensor.parts["fringes"]
    light = sensor.scene.light(planned.band, visit.shift)
    light += np.float32((visit.sky - 1.0) * band.sky)
    light += np.float32(visit.fringes * band.sky * band.sky_fringes) * fringes
    # The lamp's tilt and its fringes are in the flats, not in the light of the sky.
    lamp = sensor.parts[f"lamp_{planned.epoch}"] * (1.0 + np.float32(band.fringes) * fringes)
    return light, light / lamp


def _shown(sensor: Sensor, planned: Planned, seed: int) -> F4:
    """A scene of the laboratory, 1 where it is brightest."""
    shape = sensor.grid.shape
    if planned.scene == "stars":
        return bench.stars(shape, star_places(sensor, seed))
    rng = np.random.default_rng((seed, BENCH, sensor.number, planned.amplifier + 1))
    return bench.spots(shape, sensor.detector.amplifiers[planned.amplifier].window, rng)


def star_places(sensor: Sensor, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of the stars of the laboratory, the same in all exposures."""
    windows = [amplifier.window for amplifier in sensor.detector.amplifiers]
    rng = np.random.default_rng((seed, BENCH, sensor.number, 0))
    return bench.places(sensor.grid.shape, windows, rng)


def cards(camera: Camera, sensor: Sensor, planned: Planned, visit: Visit) -> dict[str, Any]:
    """The primary header of a frame; its times are TAI."""
    design, tai = sensor.detector.design, planned.start + TAI_UTC * MICROSECOND
    header: dict[str, Any] = {
        "INSTRUME": camera.camera,
        "TELESCOP": camera.telescope,
        "ORIGIN": "calibrant simulate",
        "OBSID": identifier(camera, planned),
        "DAYOBS": planned.day,
        "SEQNUM": planned.sequence,
        "IMGTYPE": IMGTYPE[planned.kind],
        "RAFTBAY": camera.raft,
        "CCDSLOT": camera.slots[sensor.number],
        "RUNNUM": camera.run,
        "EXPTIME": visit.exptime,
        "DARKTIME": visit.exptime,
        "TIMESYS": "TAI",
        "DATE-BEG": iso_time(tai).rstrip("Z"),
        "DATE-END": iso_time(tai + round(visit.exptime * MICROSECOND)).rstrip("Z"),
        "MJD-BEG": round(MJD_1970 + tai / DAY, 9),
        "CCDTEMP": visit.temperature,
        "SATURATE": int(readout.saturation(sensor.detector) - MARGIN * design.read_noise / design.gain),
    }
    if planned.band:
        header["FILTER"], header["FILTBAND"] = camera.bands[planned.band].filter, planned.band
    if planned.kind == "light" and planned.scene in ("", "sky"):
        science = camera.science
        header |= {"OBJECT": science.object, "RA": science.ra, "DEC": science.dec, "AIRMASS": 1.1}
    if visit.object:
        header["OBJECT"] = visit.object
    if visit.photodiode:
        header["PDFLUX"] = visit.photodiode
    return header


def _record(camera: Camera, size: Size, sensor: Sensor, seed: int, bands: Sequence[str] | None) -> Record:
    names = list(camera.bands if bands is None else dict.fromkeys(bands))
    throughput = Flats(sensor.parts, {name: camera.bands[name] for name in names}, len(camera.epochs))
    tables: dict[str, Table] = {"bands": _bands(camera, names)}
    if any(series.scene == "stars" for night in camera.nights for series in night.series):
        tables["bench_stars"] = dict(zip(("row", "col"), star_places(sensor, seed), strict=True))
    return Record(
        replace(sensor.detector, throughput=throughput),
        sensor.scene,
        camera.temperature,
        seed,
        name=str(sensor.number),
        instrument=camera.name,
        parts=sensor.parts,
        tables=tables,
        flats=size.flats,
    )


def _bands(camera: Camera, names: Sequence[str]) -> Table:
    """Strength of the structure in each band, with which `flat_structure.flat` makes a flat of its parts."""
    rows = [flat_structure.amplitudes(camera.bands[name]) for name in names]
    columns = (*flat_structure.CHROMATIC, "edges")
    return {
        "band": np.array(names),
        **{column: np.array([row[column] for row in rows], np.float64) for column in columns},
        "sky_fringes": np.array([camera.bands[name].sky_fringes for name in names], np.float64),
    }
