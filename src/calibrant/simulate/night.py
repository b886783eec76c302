"""Night: what is observed, in which order, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from calibrant.frame import MICROSECOND
from calibrant.simulate.detector import Design

CAMERA = "Simulated CCD"
"""Name of the detector in headers and keys."""

READOUT_TIME = 8.0  # seconds between the end of one exposure and the start of the next


@dataclass(frozen=True)
class Night:
    """What is observed in a night.

    Attributes
    ----------
    biases : int
    darks : mapping of float to int
        Exposure time in seconds -> number of frames.
    flats : mapping of str to int or sequence of float
        Filter -> number of frames of a twilight ramp (60 % down to 25 % of the full well), or their median
        levels in electrons.
    science : mapping of str to int
        Filter -> number of frames.
    exptime : float
        Of the science frames, seconds.
    temperature : float
        Set point, degrees Celsius.
    stability : float
        Sigma of the temperature about it, kelvin.
    first_frame : float
        Offset of the first frame of each series, adu.
    drift : float
        Drift of the bias level over the night, adu.
    dither : float
        Sigma of the pointing between science frames, pixels.
    stars : int or None
        As of `Scene.spiral`.
    galaxy : bool
    sky : float
        Factor on the brightness of the sky.
    start : str
        Begin, ISO 8601, UTC.
    object : str
    """

    biases: int = 10
    darks: Mapping[float, int] = field(default_factory=lambda: {120.0: 10, 300.0: 5})
    flats: Mapping[str, int | Sequence[float]] = field(default_factory=lambda: {"R": 6, "V": 6})
    science: Mapping[str, int] = field(default_factory=lambda: {"R": 3, "V": 3})
    exptime: float = 120.0
    temperature: float = -15.0
    stability: float = 0.03
    first_frame: float = -1.0
    drift: float = 0.3
    dither: float = 4.0
    stars: int | None = None
    galaxy: bool = True
    sky: float = 1.0
    start: str = "2024-03-11T01:30:00"
    object: str = "Spiral"

    @property
    def filters(self) -> tuple[str, ...]:
        """Filters of flats and science frames, in order."""
        return tuple(dict.fromkeys([*self.flats, *self.science])) or ("R",)


@dataclass(frozen=True)
class Visit:
    """One exposure of the plan.

    Attributes
    ----------
    name : str
        File name.
    kind : str
        ``bias``, ``dark``, ``flat`` or ``light``.
    exptime : float
        Seconds.
    filter : str
    level : float
        Median electrons asked of a flat; 0 otherwise.
    offset : float
        Of the bias level, adu.
    temperature : float
        Degrees Celsius.
    shift : tuple of float
        Rows and columns by which the pointing moved the image.
    start : int
        Microseconds since 1970 UTC.
    object : str
        As headers give it, of a series in the laboratory.
    photodiode : float
        Reading of the lamp's photodiode, 0 if there is none.
    sky, fringes : float
        Factors on the light of the sky and on its fringes.
    """

    name: str
    kind: str
    exptime: float
    filter: str = ""
    level: float = 0.0
    offset: float = 0.0
    temperature: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    start: int = 0
    object: str = ""
    photodiode: float = 0.0
    sky: float = 1.0
    fringes: float = 1.0

    @property
    def stem(self) -> str:
        """Name without its ending."""
        return self.name.rsplit(".", 1)[0]


def plan(night: Night, design: Design, rng: np.random.Generator) -> Iterator[Visit]:
    """The exposures of a night in their order (biases, darks, flats, science), with the facts of each."""
    series = list(_series(night, design))
    total = max(sum(map(len, series)), 2)
    clock = round(datetime.fromisoformat(night.start).replace(tzinfo=UTC).timestamp() * MICROSECOND)
    done = 0
    for frames in series:
        for number, (name, kind, exptime, band, level) in enumerate(frames):
            first = night.first_frame * 0.15**number if kind != "light" else 0.0
            wander = rng.normal(0.0, 0.03)
            shift = rng.normal(0.0, night.dither, 2) if kind == "light" else np.zeros(2)
            yield Visit(
                name=name,
                kind=kind,
                exptime=exptime,
                filter=band,
                level=level,
                offset=float(first + night.drift * done / (total - 1) + wander),
                temperature=round(float(night.temperature + rng.normal(0.0, night.stability)), 3),
                shift=(float(shift[0]), float(shift[1])),
                start=clock,
            )
            clock += round((exptime + READOUT_TIME) * MICROSECOND)
            done += 1


Planned = tuple[str, str, float, str, float]


def _series(night: Night, design: Design) -> Iterator[list[Planned]]:
    """Each series of like frames: (name, kind, exptime, filter, level)."""
    yield [(f"bias-{i + 1:03d}.fit", "bias", 0.0, "", 0.0) for i in range(night.biases)]
    for exptime, count in night.darks.items():
        stem = f"dark-{exptime:g}s"
        yield [(f"{stem}-{i + 1:03d}.fit", "dark", float(exptime), "", 0.0) for i in range(count)]
    for band, levels in night.flats.items():
        if isinstance(levels, int):
            levels = [float(level) for level in np.linspace(0.60, 0.25, levels) * design.full_well]
        times = np.round(np.linspace(4.0, 12.0, len(levels)), 1)
        yield [
            (f"flat-{band}-{i + 1:03d}.fit", "flat", float(times[i]), band, float(level))
            for i, level in enumerate(levels)
        ]
    stem = night.object.lower().replace(" ", "-")
    for band, count in night.science.items():
        yield [(f"{stem}-{band}-{i + 1:03d}.fit", "light", night.exptime, band, 0.0) for i in range(count)]
