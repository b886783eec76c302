"""Detector: from light to the charge that its pixels hold: photon, charge, pixel.

The chain goes on in `readout`: signal, image.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError
from calibrant.frame import DQ
from calibrant.simulate import structure
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
    overscan : int
        Columns read after the last pixel of each amplifier.
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
    cosmic_rate: float = 5e-8
    bleeding: bool = True
    overscan: int = 32
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
    """

    name: str
    start: int
    stop: int
    level: float
    gain: float
    read_noise: float
    reverse: bool = False


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

    @classmethod
    def simulated(
        cls, shape: Shape, rng: np.random.Generator, design: Design | None = None, **changes: Any
    ) -> Detector:
        """Draw a detector of `shape` (rows, cols); `changes` are fields of `Design`."""
        design = (design or Design()).changed(**changes)
        amplifiers = _amplifiers(design, shape[1])
        dark, dq = structure.dark_rate(shape, design.dark, design.hot_fraction, rng)
        noise = np.empty(shape, np.float32)
        for amplifier in amplifiers:
            noise[:, amplifier.start : amplifier.stop] = amplifier.read_noise
        clean = cls(
            design=design,
            amplifiers=amplifiers,
            row_level=structure.row_level(shape[0], 1.5 * design.bias_structure),
            structure=structure.bias_structure(shape, design.bias_structure, rng),
            dark=dark,
            throughput=structure.throughput(shape, design.filters, design.vignette, design.prnu, rng),
            read_noise=noise,
            telegraph=np.zeros(shape, np.float32),
            shutter=structure.shutter_delay(shape, design.shutter),
            dq=dq,
        )
        return _damaged(clean, rng)

    @property
    def shape(self) -> Shape:
        """Rows and columns of the data section."""
        return self.dq.shape[0], self.dq.shape[1]

    @property
    def gain(self) -> F4:
        """Gain of each column, (cols,), e-/adu."""
        return self._by_column("gain")

    @property
    def bias(self) -> F4:
        """Mean of a bias frame whose level has settled, (rows, cols), adu.

        Telegraph pixels stand at half their amplitude.
        """
        level = self._by_column("level")[np.newaxis, :] + self.row_level[:, np.newaxis]
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

    def _by_column(self, name: str) -> F4:
        values = np.empty(self.shape[1], np.float32)
        for amplifier in self.amplifiers:
            values[amplifier.start : amplifier.stop] = getattr(amplifier, name)
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


def _damaged(detector: Detector, rng: np.random.Generator) -> Detector:
    """The detector with noisy, telegraph and dead pixels and bad columns."""
    design, shape = detector.design, detector.shape
    megapixels = shape[0] * shape[1] / MEGAPIXEL
    noise, telegraph, dq = detector.read_noise.copy(), detector.telegraph.copy(), detector.dq.copy()
    at = structure.scatter_pixels(shape, round(design.noisy * megapixels), rng)
    noise[at] *= rng.uniform(4.0, 15.0, len(at[0])).astype(np.float32)
    dq[at] |= np.uint32(DQ.OTHER_BAD_PIXEL)
    at = structure.scatter_pixels(shape, round(design.telegraph * megapixels), rng)
    telegraph[at] = rng.uniform(30.0, 200.0, len(at[0])).astype(np.float32)
    dq[at] |= np.uint32(DQ.TELEGRAPH)
    at = structure.scatter_pixels(shape, round(design.dead * megapixels), rng)
    response = rng.uniform(0.0, 0.1, len(at[0])).astype(np.float32)
    dq[at] |= np.uint32(DQ.DEAD)
    planes = {name: plane.copy() for name, plane in detector.throughput.items()}
    for plane in planes.values():
        plane[at] *= response
    dark = detector.dark.copy()
    if design.bad_columns:
        _bad_columns(dark, planes, dq, design.dark, rng)
    return replace(detector, read_noise=noise, telegraph=telegraph, dark=dark, throughput=planes, dq=dq)


def _bad_columns(
    dark: F4, planes: Mapping[str, F4], dq: NDArray[np.uint32], median: float, rng: np.random.Generator
) -> None:
    """One column hot and one dead from a row upwards, in the left and the right half, in place."""
    rows, cols = dark.shape
    start, where = rng.integers(rows // 8, rows // 2 + 1, 2), rng.integers(cols // 8, cols // 2 - 1, 2)
    hot, dead = (slice(start[0], None), where[0]), (slice(start[1], None), cols - 1 - where[1])
    dark[hot] += 40.0 * median
    dq[hot] |= np.uint32(DQ.HOT)
    for plane in planes.values():
        plane[dead] *= 0.03
    dq[dead] |= np.uint32(DQ.DEAD)


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
    electrons: F4 = rng.poisson(expected).astype(np.float32)
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
