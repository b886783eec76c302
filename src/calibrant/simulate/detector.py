"""Detector: from light to the charge that its pixels hold: photon, charge, pixel.

The chain goes on in `readout`: signal, image.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError
from calibrant.frame import DQ
from calibrant.simulate import structure
from calibrant.simulate.boundaries import Boundaries, collect
from calibrant.simulate.chain import Chain
from calibrant.simulate.cosmic_rays import Hits
from calibrant.simulate.structure import F4, Shape

MEGAPIXEL = 1 << 20


@dataclass(frozen=True)
class Design:
    """Numbers that a data sheet of the detector would hold; `Detector.simulated` draws the planes from them.

    Attributes
    ----------
    gain : float
        e-/adu.
    read_noise : float
        Electrons.
    level : float
        Bias level, adu.
    bias_structure : float
        Scale of the structure of the bias, adu.
    full_well : float
        Electrons that a pixel holds.
    dark : float
        Median dark current at `reference_temperature`, electron/s.
    doubling : float
        Kelvin by which the temperature must rise to double the dark current.
    hot_fraction : float
        Fraction of the pixels with the log-normal tail of dark current.
    filters : tuple of str
    vignette, prnu : float
        Loss of light in the corners; sigma of the pixel response.
    shutter : float
        Seconds between the exposure of the centre and of the corners.
    noisy, telegraph, dead : float
        Pixels of each sort per 2**20 pixels.
    bad_columns : bool
        One hot and one dead column, each from a row upwards.
    cosmic_rate : float
        Particles per pixel and second (5e-8 is 1.6 per cm2 and minute for 13.5 micron pixels).
    bleeding : bool
        Whether charge above the full well runs along the columns; otherwise it is lost.
    bad_column : float
        Dark current of the hot one, as a multiple of `dark`.
    overscan, prescan : int
        Columns read after the last pixel of each row of an amplifier, and before the first.
    parallel : int
        Rows read after the last one of each amplifier.
    amplifiers : int
        1 or 2: left and right half, read out towards their own sides; the second has more gain and noise.
    """

    gain: float = 1.5
    read_noise: float = 7.5
    level: float = 1000.0
    bias_structure: float = 1.0
    full_well: float = 85_000.0
    dark: float = 0.05
    reference_temperature: float = -15.0
    doubling: float = 6.0
    hot_fraction: float = 0.003
    filters: tuple[str, ...] = ("R", "V")
    vignette: float = 0.30
    prnu: float = 0.008
    shutter: float = 0.010
    noisy: float = 200.0
    telegraph: float = 60.0
    dead: float = 60.0
    bad_columns: bool = True
    bad_column: float = 40.0
    cosmic_rate: float = 5e-8
    bleeding: bool = True
    overscan: int = 32
    prescan: int = 0
    parallel: int = 0
    amplifiers: int = 1

    def __post_init__(self) -> None:
        if self.amplifiers not in (1, 2):
            raise OptionError("amplifiers must be 1 or 2", where="amplifiers", got=self.amplifiers)
        for name in ("gain", "full_well", "doubling"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be positive", where=name, got=getattr(self, name))

    @classmethod
    def flawless(cls, **changes: Any) -> Design:
        """A design without defects, cosmic rays, shutter pattern and bleeding: what a noise model knows."""
        none = dict.fromkeys(("hot_fraction", "noisy", "telegraph", "dead", "cosmic_rate", "shutter"), 0.0)
        return cls(bad_columns=False, bleeding=False).changed(**none).changed(**changes)

    def changed(self, **changes: Any) -> Design:
        """A copy with other numbers.

        Raises
        ------
        OptionError
            For a name that a design does not have.
        """
        names = [field.name for field in fields(self)]
        for name in changes:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise OptionError(
                    "the design of a detector has no such number",
                    where=name,
                    do=f"did you mean {near[0]}?" if near else "known are " + ", ".join(names),
                )
        return replace(self, **changes)


@dataclass(frozen=True)
class Amplifier:
    """One output of the detector.

    Attributes
    ----------
    start, stop : int
        Its columns of the data section.
    level : float
        adu.
    gain : float
        e-/adu.
    read_noise : float
        adu.
    reverse : bool
        Whether its columns are read from the right.
    bottom, top : int
        Its rows of the data section; to the last one if `top` is None.
    downwards : bool
        Whether its rows are read from the top.
    """

    name: str
    start: int
    stop: int
    level: float
    gain: float
    read_noise: float
    reverse: bool = False
    bottom: int = 0
    top: int | None = None
    downwards: bool = False

    @property
    def window(self) -> tuple[slice, slice]:
        """Its pixels of the data section, (rows, columns)."""
        return slice(self.bottom, self.top), slice(self.start, self.stop)

    @property
    def turns(self) -> tuple[slice, slice]:
        """Slices that turn its pixels from their places on the detector to the order of readout, and back."""
        rows, cols = (slice(None, None, -1 if turned else 1) for turned in (self.downwards, self.reverse))
        return rows, cols


@dataclass(frozen=True, eq=False)
class Detector:
    """The truth about a detector. All planes are (rows, cols) of the data section, without overscan.

    Attributes
    ----------
    design : Design
    amplifiers : tuple of Amplifier
    row_level : array
        (rows,), adu: what each row adds to the bias, in the overscan too.
    structure : array
        Bias beyond level and `row_level`, adu: what the overscan does not see.
    dark : array
        electron/s at the reference temperature.
    throughput : mapping of str to array
        Filter -> response to light, median 1 before defects.
    read_noise : array
        adu; noisy pixels included, telegraph pixels by their amplitude apart.
    telegraph : array
        adu: amplitude of the pixels that jump between two levels from frame to frame, 0 elsewhere.
    shutter : array
        Seconds by which the shutter exposes longer than asked.
    dq : array of uint32
        True defects.
    boundaries : Boundaries, optional
        By which charge moves the borders of pixels; None: it does not.
    chain : Chain, optional
        Faults of its amplifiers; None: none.
    """

    design: Design
    amplifiers: tuple[Amplifier, ...]
    row_level: F4
    structure: F4
    dark: F4
    throughput: Mapping[str, F4]
    read_noise: F4
    telegraph: F4
    shutter: F4
    dq: NDArray[np.uint32]
    boundaries: Boundaries | None = None
    chain: Chain | None = None

    @classmethod
    def simulated(
        cls, shape: Shape, rng: np.random.Generator, design: Design | None = None, **changes: Any
    ) -> Detector:
        """Draw a detector of `shape` (rows, cols); `changes` are fields of `Design`."""
        design = (design or Design()).changed(**changes)
        amplifiers = _amplifiers(design, shape[1])
        dark, dq = structure.dark_rate(shape, design.dark, design.hot_fraction, rng)
        clean = cls(
            design=design,
            amplifiers=amplifiers,
            row_level=structure.row_level(shape[0], 1.5 * design.bias_structure),
            structure=structure.bias_structure(shape, design.bias_structure, rng),
            dark=dark,
            throughput=structure.throughput(shape, design.filters, design.vignette, design.prnu, rng),
            read_noise=by_amplifier(shape, amplifiers, "read_noise"),
            telegraph=np.zeros(shape, np.float32),
            shutter=structure.shutter_delay(shape, design.shutter),
            dq=dq,
        )
        found = damage(shape, design, amplifiers, rng)
        planes = {name: plane * found.response for name, plane in clean.throughput.items()}
        return replace(damaged(clean, found), throughput=planes)

    @property
    def shape(self) -> Shape:
        """Rows and columns of the data section."""
        return self.dq.shape[0], self.dq.shape[1]

    @property
    def gain(self) -> F4:
        """Gain of each pixel, (rows, cols), e-/adu."""
        return by_amplifier(self.shape, self.amplifiers, "gain")

    @property
    def bias(self) -> F4:
        """Mean of a bias frame whose level has settled, (rows, cols), adu.

        Telegraph pixels stand at half their amplitude.
        """
        level = by_amplifier(self.shape, self.amplifiers, "level") + self.row_level[:, np.newaxis]
        return level + self.structure + 0.5 * self.telegraph

    def dark_at(self, temperature: float | None = None) -> F4:
        """Dark current at a temperature in degrees Celsius, (rows, cols), electron/s.

        It doubles every `Design.doubling` kelvin; None means the reference temperature.
        """
        if temperature is None:
            return self.dark
        steps = (temperature - self.design.reference_temperature) / self.design.doubling
        return self.dark * np.float32(2.0**steps)

    def flat(self, filter: str) -> F4:
        """Response to light in `filter`, (rows, cols), dimensionless.

        Raises
        ------
        SelectionError
            If the detector has no such filter.
        """
        if filter not in self.throughput:
            raise SelectionError(
                "the simulated detector has no such filter", where=filter, got=", ".join(self.throughput)
            )
        return self.throughput[filter]


def by_amplifier(shape: Shape, amplifiers: Sequence[Amplifier], name: str) -> F4:
    """A plane (rows, cols) that holds one number of each amplifier, such as ``gain``."""
    values = np.empty(shape, np.float32)
    for amplifier in amplifiers:
        values[amplifier.window] = getattr(amplifier, name)
    return values


def _amplifiers(design: Design, cols: int) -> tuple[Amplifier, ...]:
    noise = design.read_noise / design.gain
    if design.amplifiers == 1:
        return (Amplifier("1", 0, cols, design.level, design.gain, noise),)
    half = cols // 2
    return (
        Amplifier("1", 0, half, design.level, design.gain, noise),
        Amplifier("2", half, cols, 1.07 * design.level, 1.04 * design.gain, 1.1 * noise, reverse=True),
    )


@dataclass(frozen=True, eq=False)
class Damage:
    """What is wrong with the pixels of a detector, as planes (rows, cols).

    Attributes
    ----------
    noise, response : array
        Factors on read noise and on the response to light.
    telegraph : array
        adu: amplitude of the pixels that jump.
    dark : array
        electron/s, to be added.
    dq : array of uint32
    """

    noise: F4
    response: F4
    telegraph: F4
    dark: F4
    dq: NDArray[np.uint32]


def damage(shape: Shape, design: Design, amplifiers: Sequence[Amplifier], rng: np.random.Generator) -> Damage:
    """Draw noisy, telegraph and dead pixels and bad columns."""
    megapixels = shape[0] * shape[1] / MEGAPIXEL
    found = Damage(
        noise=np.ones(shape, np.float32),
        response=np.ones(shape, np.float32),
        telegraph=np.zeros(shape, np.float32),
        dark=np.zeros(shape, np.float32),
        dq=np.zeros(shape, np.uint32),
    )
    at = structure.scatter_pixels(shape, round(design.noisy * megapixels), rng)
    found.noise[at] = rng.uniform(4.0, 15.0, len(at[0]))
    found.dq[at] |= np.uint32(DQ.OTHER_BAD_PIXEL)
    at = structure.scatter_pixels(shape, round(design.telegraph * megapixels), rng)
    found.telegraph[at] = rng.uniform(30.0, 200.0, len(at[0]))
    found.dq[at] |= np.uint32(DQ.TELEGRAPH)
    at = structure.scatter_pixels(shape, round(design.dead * megapixels), rng)
    found.response[at] = rng.uniform(0.0, 0.1, len(at[0]))
    found.dq[at] |= np.uint32(DQ.DEAD)
    if design.bad_columns:
        _bad_columns(found, design, amplifiers, rng)
    return found


def damaged(detector: Detector, found: Damage) -> Detector:
    """The detector with damage to all but its throughput, whose planes may not be at hand."""
    return replace(
        detector,
        read_noise=detector.read_noise * found.noise,
        telegraph=detector.telegraph + found.telegraph,
        dark=detector.dark + found.dark,
        dq=detector.dq | found.dq,
    )


def _bad_columns(
    found: Damage, design: Design, amplifiers: Sequence[Amplifier], rng: np.random.Generator
) -> None:
    """One column hot and one dead, in the left and the right half, from a row to the amplifier's end."""
    rows, cols = found.dq.shape
    start, where = rng.integers(rows // 8, rows // 2 + 1, 2), rng.integers(cols // 8, cols // 2 - 1, 2)
    hot = (_to_the_end(amplifiers, start[0], rows), where[0])
    dead = (_to_the_end(amplifiers, start[1], rows), cols - 1 - where[1])
    found.dark[hot] += design.bad_column * design.dark
    found.dq[hot] |= np.uint32(DQ.HOT)
    found.response[dead] *= 0.03
    found.dq[dead] |= np.uint32(DQ.DEAD)


def _to_the_end(amplifiers: Sequence[Amplifier], row: int, rows: int) -> slice:
    """From a row to the last one of the amplifier that it belongs to: charge is not moved across the ends."""
    tops = [rows if amplifier.top is None else amplifier.top for amplifier in amplifiers]
    return slice(int(row), min(top for top in tops if top > row))


def photon(
    detector: Detector, light: NDArray[np.floating] | float, exptime: float, filter: str
) -> NDArray[np.floating]:
    """Photo-electrons that the pixels are expected to collect.

    Parameters
    ----------
    light : array or float
        (rows, cols), electron/s at a response of 1.
    exptime : float
        Seconds asked of the shutter.

    Returns
    -------
    array
        (rows, cols), electrons, without noise: light * response * (exptime + shutter delay).
    """
    opened = np.maximum(np.float32(exptime) + detector.shutter, 0.0)
    return np.asarray(light * detector.flat(filter) * opened)


def charge(
    detector: Detector,
    photons: NDArray[np.floating] | float,
    exptime: float,
    rng: np.random.Generator,
    *,
    temperature: float | None = None,
    hits: Hits | None = None,
) -> F4:
    """Electrons generated: Poisson deviates of photo-electrons and dark current, and tracks of cosmic rays.

    Returns
    -------
    array
        (rows, cols), electrons, whole numbers.
    """
    expected = photons + detector.dark_at(temperature) * np.float32(exptime)
    electrons: F4
    if detector.boundaries is None:
        electrons = rng.poisson(expected).astype(np.float32)
    else:
        electrons = collect(np.broadcast_to(expected, detector.shape), detector.boundaries, rng)
    if hits is not None:
        hits.add_to(electrons)
    return electrons


def pixel(detector: Detector, electrons: F4) -> F4:
    """Electrons that the pixels hold: what exceeds the full well runs up and down the column, half each way.

    Charge that reaches the ends of a column is lost.

    Returns
    -------
    array
        (rows, cols), electrons, nowhere above the full well.
    """
    well = np.float32(detector.design.full_well)
    full = np.flatnonzero((electrons > well).any(axis=0))
    if len(full) == 0:
        return electrons
    held = np.minimum(electrons, well)
    if detector.design.bleeding:
        half = np.maximum(electrons[:, full] - well, 0.0) / 2.0
        columns = _bleed(held[:, full], half, well)
        held[:, full] = _bleed(columns[::-1], half[::-1], well)[::-1]
    return held


def _bleed(held: F4, excess: F4, well: np.float32) -> F4:
    """Push `excess` towards higher rows until each electron has found room; (rows, columns), electrons."""
    filled = held.copy()
    moving = np.zeros(held.shape[1], np.float32)
    for row in range(len(held)):
        total = filled[row] + moving
        np.minimum(total, well, out=filled[row])
        moving = total - filled[row] + excess[row]
    return filled
