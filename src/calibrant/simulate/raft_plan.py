"""Plan of a mosaic camera: which exposures are taken on which day of observing, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, product

from calibrant.errors import OptionError
from calibrant.frame import MICROSECOND
from calibrant.simulate.camera import Camera, NightPlan, known

NOON = 12  # hour, UTC, at which the day of observing begins


@dataclass(frozen=True)
class Counts:
    """How many frames a day of calibrations has; None leaves it to the camera's file.

    Attributes
    ----------
    biases, darks, flats : int or None
        Flats in each band.
    visits : bool
        Whether science visits are taken.
    """

    biases: int | None = None
    darks: int | None = None
    flats: int | None = None
    visits: bool = True

    def __post_init__(self) -> None:
        for name in ("biases", "darks", "flats"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise OptionError("a number of frames cannot be negative", where=name, got=value)


@dataclass(frozen=True)
class Planned:
    """One exposure of the whole camera.

    Attributes
    ----------
    day : str
        Of observing, YYYYMMDD.
    sequence : int
        Number within the day.
    kind : str
        ``bias``, ``dark``, ``flat`` or ``light``.
    exptime : float
        Seconds.
    band : str
    level : float
        Electrons asked of a flat, or of the brightest pixel of a scene.
    epoch : int
        From 1; see `Epoch`.
    start : int
        Microseconds since 1970 UTC.
    object, scene : str
        Of a series; see `Series`.
    amplifier : int
        Number of the one that is lit, from 0; -1: all.
    """

    day: str
    sequence: int
    kind: str
    exptime: float
    band: str = ""
    level: float = 0.0
    epoch: int = 1
    start: int = 0
    object: str = ""
    scene: str = ""
    amplifier: int = -1


def plan(camera: Camera, counts: Counts, bands: Sequence[str] | None = None) -> list[Planned]:
    """All exposures in their order.

    Bands that are left out leave gaps in the numbers and times: those of the others stay what they are.

    Raises
    ------
    SelectionError
        For a band that the camera does not have.
    OptionError
        If calibrations would not be finished before the first visit.
    """
    chosen = {known(band, camera.bands, "band") for band in (camera.bands if bands is None else bands)}
    found: list[Planned] = []
    for night in camera.nights:
        found += _calibrations(camera, night, counts)
        if counts.visits:
            found += _visits(camera, night)
    return [item for item in found if not item.band or item.band in chosen]


def _calibrations(camera: Camera, night: NightPlan, counts: Counts) -> Iterator[Planned]:
    """Biases, darks, flats in each band, and series, one after the other from the afternoon on."""
    clock, epoch = _time(night.day, night.afternoon), camera.epoch(night.day)
    latest = _time(night.day, camera.science.evening)
    frames = chain(_frames(camera, night, counts), _series(camera, night))
    for sequence, planned in enumerate(frames, 1):
        end = clock + round((planned.exptime + camera.readout_time) * MICROSECOND)
        if end > latest or sequence >= camera.science.first:
            raise OptionError(
                "so many calibrations are not finished before the night begins",
                where=night.day,
                got=f"exposure {sequence}",
                do="ask for fewer biases, darks or flats",
            )
        yield replace(planned, day=night.day, sequence=sequence, epoch=epoch, start=clock)
        clock = end


def _frames(camera: Camera, night: NightPlan, counts: Counts) -> Iterator[Planned]:
    """Biases, darks and flats of a day."""

    def number(name: str) -> int:
        # A night without calibrations stays without: counts are those of a day that has some.
        usual, asked = int(getattr(night, name)), getattr(counts, name)
        return usual if asked is None or not usual else int(asked)

    yield from [Planned("", 0, "bias", 0.0)] * number("biases")
    yield from [Planned("", 0, "dark", camera.darks.exptime)] * number("darks")
    for name, band in camera.bands.items():
        lit = Planned("", 0, "flat", night.light * band.exptime, name, night.light * band.level)
        yield from [lit] * number("flats")


def _series(camera: Camera, night: NightPlan) -> Iterator[Planned]:
    """Each exposure of the series of a day; exposures of one level follow each other."""
    for series in night.series:
        lit = range(len(camera.amplifiers.segments)) if series.scene == "spots" else [-1]
        for level, amplifier in product(series.steps, lit):
            lamp = camera.lamp if series.kind == "flat" else None
            exptime = series.exptime if lamp is None else round(level / lamp.rate, 4)
            name = camera.amplifiers.segments[amplifier].name if amplifier >= 0 else ""
            yield from [
                Planned(
                    "",
                    0,
                    series.kind,
                    exptime,
                    series.band,
                    level,
                    object=f"{series.object} {name}".strip(),
                    scene=series.scene,
                    amplifier=amplifier,
                )
            ] * series.repeat


def _visits(camera: Camera, night: NightPlan) -> Iterator[Planned]:
    science, epoch = camera.science, camera.epoch(night.day)
    for band, sequence in sorted(night.visits.items(), key=lambda item: item[1]):
        late = round((sequence - science.first) * science.cadence * MICROSECOND)
        start = _time(night.day, science.evening) + late
        yield Planned(night.day, sequence, "light", science.exptime, band, 0.0, epoch, start)


def _time(day: str, clock: str) -> int:
    """Microseconds UTC of a time of day; before noon it belongs to the next date."""
    moment = datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M").replace(tzinfo=UTC)
    if moment.hour < NOON:
        moment += timedelta(days=1)
    return round(moment.timestamp()) * MICROSECOND
