"""Camera: the files that describe a mosaic of detectors to the simulator. Cameras are data, not code."""

from __future__ import annotations

import difflib
import math
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from calibrant.errors import SelectionError
from calibrant.instrument.rules import Model
from calibrant.simulate import cameras
from calibrant.simulate.detector import Design
from calibrant.simulate.structure import Shape


class Size(Model):
    """Pixels of one amplifier.

    Attributes
    ----------
    rows, cols : int
        That see light.
    prescan, overscan, parallel : int
        Columns before, columns after and rows after them.
    flats : bool
        Whether the truth holds each flat, or only the parts that it is made of.
    """

    rows: int = Field(ge=8)
    cols: int = Field(ge=8)
    prescan: int = 0
    overscan: int = 8
    parallel: int = 0
    flats: bool = True


class Segment(Model):
    """An amplifier: its name, its HDU, and its place among the others (rows 0 and 1 from the bottom)."""

    name: str
    hdu: str
    row: int = Field(ge=0, le=1)
    col: int = Field(ge=0)


class Amplifiers(Model):
    """The amplifiers in the order of their HDUs, and whether their columns are read from the right."""

    reverse: bool = False
    segments: tuple[Segment, ...]


class Scatter(Model):
    """How amplifiers, nights and frames differ: relative for gain and read noise, adu for levels."""

    gain: float = 0.0
    read_noise: float = 0.0
    level: float = 0.0
    night: float = 0.0
    frame: float = 0.0


class Structure(Model):
    """Sizes of the structures of flats in mm, and the strengths that do not depend on the band.

    Attributes
    ----------
    vignetting, field : float
        Loss of light, and the distance from the axis where it is reached.
    axis : tuple of float
        Row, column of the optical axis on the raft.
    dust : int
        Specks in the light path; their radii and depths are drawn between limits.
    ring_periods : tuple of float
        Shortest and longest distance of tree rings.
    edge, coating, fringe : float
        Scale of the roll-off, of the blotches of the coating, distance of fringes.
    prnu : float
        Sigma of the response pixel by pixel.
    """

    vignetting: float
    field: float
    axis: tuple[float, float]
    dust: int
    dust_radius: tuple[float, float]
    dust_depth: tuple[float, float]
    ring_periods: tuple[float, float]
    edge: float
    coating: float
    fringe: float
    prnu: float


class Passband(Model):
    """What is seen through a filter: the sky, the flats, and the amplitudes of chromatic structure.

    Attributes
    ----------
    filter : str
        Name of the piece of glass, as headers give it.
    sky : float
        electron/s per pixel.
    stars : float
        Factor on the light of stars and galaxy.
    exptime, level : float
        Of a flat: seconds, electrons.
    tree_rings, coating : float
        rms.
    edges : float
        Loss at the edge of a detector.
    fringes, sky_fringes : float
        Amplitude in the light of the lamp and of the sky.
    """

    filter: str
    sky: float
    stars: float
    exptime: float = Field(gt=0)
    level: float = Field(gt=0)
    tree_rings: float = 0.0
    edges: float = 0.0
    coating: float = 0.0
    fringes: float = 0.0
    sky_fringes: float = 0.0


class Science(Model):
    """Visits: what is observed, and when.

    Attributes
    ----------
    galaxy : int
        Detector that has the galaxy.
    ra, dec : float
        Of the middle of the raft, degrees.
    dither : float
        Sigma of the pointing as a fraction of a detector.
    first, evening, cadence : int, str, float
        A visit of number `first` would begin at `evening` UTC, the next ones `cadence` seconds apart.
    """

    exptime: float
    object: str
    galaxy: int
    ra: float
    dec: float
    dither: float
    first: int
    evening: str
    cadence: float


class Epoch(Model):
    """From a day on, what differs in the light path of flats.

    Attributes
    ----------
    day : str
        First day of observing, YYYYMMDD.
    lost : int
        How many of the camera's specks of dust are gone.
    dust : tuple
        Specks beside them: row, column, radius in mm, depth.
    tilt : tuple of float
        Gradient of the lamp's light per 100 mm of rows and of columns.
    """

    day: str
    lost: int = 0
    dust: tuple[tuple[float, float, float, float], ...] = ()
    tilt: tuple[float, float] = (0.0, 0.0)


class Faults(Model):
    """How strong the faults of a detector's charge and amplifiers are; each amplifier draws its own.

    Attributes
    ----------
    a00 : float
        Relative change of a pixel's area by an electron in it, 1/electron; see `Boundaries.dipole`.
    nonlinearity : float
        Fraction of the signal that is missing at full well.
    crosstalk, far : float
        Part of its signal that an amplifier gives to the next one, and to those far away.
    deferred_serial, deferred_parallel : float
        Part of the charge of the pixel farthest from the amplifier that falls a pixel behind.
    pedestal : float
        Sigma over the amplifiers, adu.
    """

    a00: float = Field(default=-3e-6, lt=0)
    nonlinearity: float = 0.0
    crosstalk: float = 0.0
    far: float = 0.0
    deferred_serial: float = 0.0
    deferred_parallel: float = 0.0
    pedestal: float = 0.0


class Lamp(Model):
    """The lamp of a laboratory: electron/s in a pixel, and what its photodiode makes of an electron."""

    rate: float = Field(gt=0)
    photodiode: float = Field(gt=0)
    scatter: float = 0.0


class Series(Model):
    """Exposures of one purpose.

    Attributes
    ----------
    object : str
        As headers give it.
    kind : str
        ``flat`` or ``light``.
    scene : str
        Of a light frame: ``spots`` (in one amplifier after the other), ``stars`` (alike, on a grid) or
        ``sky`` (a field of stars, dithered, with a sky and fringes that vary).
    levels : tuple of float
        Electrons: of flats, or of the brightest pixel of spots and stars.
    span : tuple of float
        First and last level and how many, log-spaced, instead.
    repeat : int
        Exposures of each level.
    exptime : float
        Seconds; flats have that of the lamp.
    """

    object: str
    kind: Literal["flat", "light"]
    scene: Literal["", "spots", "stars", "sky"] = ""
    band: str
    levels: tuple[float, ...] = (0.0,)
    span: tuple[float, float, int] | None = None
    repeat: int = Field(default=1, ge=1)
    exptime: float = 0.0

    @property
    def steps(self) -> tuple[float, ...]:
        """Its levels, electrons."""
        if self.span is None:
            return self.levels
        first, last, count = self.span
        return tuple(round(first * (last / first) ** (k / max(1, count - 1)), 1) for k in range(count))


class NightPlan(Model):
    """What is taken on one day of observing: frames of each kind (flats in each band), series, and visits.

    Attributes
    ----------
    afternoon : str
        UTC time at which calibrations begin; series follow.
    light : float
        Of the flats, as a fraction of what their band has.
    visits : mapping of str to int
        Band -> sequence number.
    """

    day: str
    afternoon: str = "18:00"
    biases: int = 0
    darks: int = 0
    flats: int = 0
    light: float = Field(default=1.0, gt=0)
    series: tuple[Series, ...] = ()
    visits: dict[str, int] = Field(default={})


class Darks(Model):
    """Exposure time of darks, seconds."""

    exptime: float


class Camera(Model):
    """A mosaic of detectors on a square grid, as its file in ``simulate/cameras`` says.

    Attributes
    ----------
    name : str
        Of its instrument file.
    camera, telescope, prefix, raft, run : str
        As headers give them.
    slots : tuple of str
        Detectors by their number, row by row from the bottom.
    pitch : float
        mm between the centres of neighbours.
    extent : tuple of float
        mm, rows and columns of the pixels of one detector.
    scale : float
        arcsec/mm.
    faults : Faults, optional
        None: charge moves no boundaries, and amplifiers are perfect but for their noise.
    lamp : Lamp, optional
        None: its flats are those of a telescope, with the exposure time of their band.
    """

    name: str
    title: str = ""
    camera: str
    telescope: str
    prefix: str
    raft: str
    run: str
    slots: tuple[str, ...]
    pitch: float
    extent: tuple[float, float]
    scale: float
    readout_time: float
    temperature: float
    sizes: dict[str, Size]
    amplifiers: Amplifiers
    detector: dict[str, float]
    scatter: Scatter
    structure: Structure
    bands: dict[str, Passband]
    science: Science
    epochs: tuple[Epoch, ...]
    nights: tuple[NightPlan, ...]
    darks: Darks
    faults: Faults | None = None
    lamp: Lamp | None = None

    @cached_property
    def side(self) -> int:
        """Detectors in a row."""
        return math.isqrt(len(self.slots))

    def centre(self, detector: int) -> tuple[float, float]:
        """Row and column of the middle of a detector on the raft, mm from the middle of the raft."""
        row, col = divmod(detector, self.side)
        middle = (self.side - 1) / 2.0
        return (row - middle) * self.pitch, (col - middle) * self.pitch

    def size(self, name: str) -> Size:
        """One of its sizes by name.

        Raises
        ------
        SelectionError
            If it has no such size.
        """
        return self.sizes[known(name, self.sizes, "size")]

    def shape(self, size: Size) -> Shape:
        """Rows and columns of an assembled detector."""
        return 2 * size.rows, (1 + max(segment.col for segment in self.amplifiers.segments)) * size.cols

    def design(self, size: Size) -> Design:
        """The numbers of its detectors, before the scatter of amplifiers."""
        scans = {"prescan": size.prescan, "overscan": size.overscan, "parallel": size.parallel}
        changes = {**self.detector, **scans, "prnu": self.structure.prnu, "filters": tuple(self.bands)}
        return Design().changed(**changes)

    def epoch(self, day: str) -> int:
        """Number, from 1, of the epoch that a day belongs to."""
        return max(1, sum(epoch.day <= day for epoch in self.epochs))


def known(name: str, names: Any, what: str) -> str:
    """The name, if it is one of `names`.

    Raises
    ------
    SelectionError
        With the nearest name, if it is not.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    raise SelectionError(
        f"the simulated camera has no such {what}",
        where=name,
        expected=", ".join(names),
        do=f"did you mean {near[0]}?" if near else None,
    )


def load(name: str) -> Camera:
    """A camera by name.

    Raises
    ------
    SelectionError
        If there is none.
    """
    return Camera.model_validate(cameras.table(known(name, cameras.names(), "name")))
