"""Ramps of infrared arrays as files, one for each exposure and detector, and the truth of each detector.

Every random number is drawn from the seed, the detector, the campaign, the exposure and the integration
together: whatever else is taken, a file is the same. A file is written group by group, in the
memory of one read.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from calibrant.errors import OptionError
from calibrant.files.encode import Unit, image_unit, table_unit
from calibrant.files.fits import write
from calibrant.files.ramp_writing import Stream, write_ramp
from calibrant.frame import DQ, MICROSECOND, iso_time
from calibrant.instrument.clock import Clock
from calibrant.product import Product, Quantity
from calibrant.simulate.infrared import Array, Design, Exposure
from calibrant.times import parse_time

FILE = Path(__file__).with_suffix(".toml")
HIGHEST = 65535  # of a converter with 16 bits
DAY_ZERO = "2000-01-01T00:00:00"  # of the days in the table of groups
PAUSE = 60.0  # s, between exposures
MAPS, NOISE = range(2)
"""What random numbers are for: the streams of one seed."""
F4 = NDArray[np.float32]
Progress = Callable[[int, int, str], None]


class Sensor(BaseModel):
    """One detector: axes of its readout in the file, e-/adu, adu, adu^2/Hz at 1 Hz."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fast: int
    slow: int
    gain: float
    white: float
    pink_common: float
    pink_own: float


class Plan(BaseModel):
    """What the TOML file of this module says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    bunit: str
    border: int
    outputs: int
    dark: float
    dark_scatter: float
    hot: tuple[float, float]
    dead: float
    low_response: tuple[float, float]
    open: float
    adjacent: float
    response_scatter: float
    cards: dict[str, str]
    kinds: dict[str, str]
    patterns: dict[str, tuple[int, int]]
    detectors: dict[str, Sensor]


@dataclass(frozen=True)
class Set:
    """What is taken with each detector.

    Attributes
    ----------
    files, integrations, groups : int
    pattern : str
        Name of the read pattern.
    rows, cols : int
        Of the array, its reference pixels included.
    light : float
        electron/s in a good pixel; 0 for darks.
    start : str
        ISO 8601, UTC, of the first exposure.
    campaign : str
        Written as CAMPAIGN, where there is one: the epoch of trends. Another one is the same array with other
        noise.
    noise : float
        White noise is that many times the usual one.
    changes : mapping
        Further numbers of the `Design`.
    """

    files: int = 5
    integrations: int = 1
    groups: int = 20
    pattern: str = "RAPID"
    rows: int = 256
    cols: int = 256
    light: float = 0.0
    start: str = "2022-07-12T00:00:00"
    campaign: str = ""
    noise: float = 1.0
    changes: dict[str, Any] = field(default_factory=dict)


class Taken(NamedTuple):
    """Files that were written: ramps, and the truth of each detector."""

    raw: tuple[Path, ...]
    truth: tuple[Path, ...]


def load() -> Plan:
    """The detectors, patterns and cards that the TOML file beside this module describes."""
    return Plan.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


def simulate(
    out: str | Path,
    *,
    seed: int = 1,
    detectors: Sequence[str] | None = None,
    what: Set | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Taken:
    """Write ramps into `out`, and the truth of each detector into ``out/truth``.

    The same seed gives the same bytes.

    Parameters
    ----------
    detectors : sequence of str, optional
        Names; the first one of the file if not given, ``all`` for all.

    Raises
    ------
    OptionError
        For an unknown detector or pattern, or numbers that are too small.
    OutputExistsError
        If a file is in the way and `overwrite` is False.
    """
    plan, what = load(), what or Set()
    chosen = _chosen(plan, detectors)
    _check(plan, what, seed)
    folder = Path(out)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    raw: list[Path] = []
    truths: list[Path] = []
    for name in chosen:
        camera = _Camera(plan, name, what, seed)
        for number in range(what.files):
            path = folder / plan.name.format(number=number + 1, detector=name.lower())
            camera.take(path, number, overwrite)
            raw.append(path)
            if progress is not None:
                progress(len(raw), len(chosen) * what.files, "ramps")
        beside = folder / "truth" / f"{name.lower()}.fits"
        write(camera.truth(), beside, overwrite=overwrite)
        truths.append(beside)
    return Taken(tuple(raw), tuple(truths))


def _chosen(plan: Plan, detectors: Sequence[str] | None) -> list[str]:
    known = list(plan.detectors)
    if not detectors:
        return known[:1]
    if list(detectors) == ["all"]:
        return known
    wanted = [name.upper() for name in detectors]
    for name in wanted:
        if name not in plan.detectors:
            raise OptionError(
                "there is no such detector", where="--detectors", expected=", ".join(known), got=name
            )
    return wanted


def _check(plan: Plan, what: Set, seed: int) -> None:
    if seed < 0 or min(what.files, what.integrations, what.groups) < 1 or min(what.light, what.noise) < 0:
        raise OptionError(
            "ramps cannot be made of this",
            expected="files, integrations and groups of 1 or more; seed, light and noise not negative",
            got=(what.files, what.integrations, what.groups, seed, what.light, what.noise),
        )
    if what.pattern not in plan.patterns:
        raise OptionError(
            "there is no such read pattern",
            where="--pattern",
            expected=", ".join(plan.patterns),
            got=what.pattern,
        )


class _Camera:
    """One detector, what stays of it from exposure to exposure, and what happened so far."""

    def __init__(self, plan: Plan, name: str, what: Set, seed: int) -> None:
        self.plan, self.name, self.what = plan, name, what
        self._entropy = (seed, zlib.crc32(name.encode()))
        sensor = plan.detectors[name]
        clock = Clock(what.rows, what.cols, plan.outputs)
        numbers = {
            "gain": sensor.gain,
            "white": sensor.white * what.noise,
            "pink_common": sensor.pink_common,
            "pink_own": sensor.pink_own,
            "border": (plan.border,) * 4,
            "seed": int(self._rng(MAPS).integers(2**31)),
            **what.changes,
        }
        self.array = Array(Design(clock=clock, **numbers))
        # Noise is made in the order of readout; images are turned as the file's axes say.
        self.turned = replace(clock, fast=sensor.fast, slow=sensor.slow)
        self.dark, self.response, self.dq = _pixels(plan, self.turned, self.array.maps.dq, self._rng(MAPS, 1))
        self._events: list[dict[str, NDArray[Any]]] = []

    @property
    def nframes(self) -> int:
        """Reads averaged into a group."""
        return self.plan.patterns[self.what.pattern][0]

    @property
    def skip(self) -> int:
        """Reads dropped after it."""
        return self.plan.patterns[self.what.pattern][1]

    @property
    def group_time(self) -> float:
        """Seconds from group to group."""
        return self.array.clock.frame_time * (self.nframes + self.skip)

    def _rng(self, *use: int) -> np.random.Generator:
        return np.random.default_rng([*self._entropy, *use])

    def start(self, number: int) -> int:
        """Begin of an exposure, microseconds since 1970 UTC."""
        length = self.what.integrations * (self.what.groups * self.group_time + self.array.clock.frame_time)
        return parse_time(self.what.start, None, "UTC") + round(number * (length + PAUSE) * MICROSECOND)

    def take(self, path: Path, number: int, overwrite: bool) -> None:
        """Write one exposure."""
        what, shape = self.what, self.turned.shape
        whole = (what.integrations, what.groups, *shape)
        # The group from which on a pixel is at the end of the converter: all that flags need to know.
        full = np.full((what.integrations, *shape), what.groups, np.uint16)
        firsts = np.zeros((what.integrations, *shape), np.uint16)

        def groups() -> Iterator[NDArray[np.uint16]]:
            for integration in range(what.integrations):
                yield from self._integration(number, integration, full[integration], firsts[integration])

        def flags() -> Iterator[NDArray[np.uint8]]:
            for late in full:
                for group in range(what.groups):
                    yield np.where(late <= group, np.uint8(DQ.SATURATED), np.uint8(0))

        reference = self.dq & np.uint32(DQ.REFERENCE_PIXEL)
        units: list[Stream | Callable[[], Unit]] = [
            Stream("SCI", whole, "u2", groups, (("BUNIT", self.plan.bunit, "unit of the counts"),)),
            lambda: image_unit(reference, name="PIXELDQ"),
            Stream("GROUPDQ", whole, "u1", flags),
        ]
        if self.nframes > 1:
            units.append(lambda: image_unit(firsts, name="ZEROFRAME"))
        units.append(lambda: table_unit(self._table(number), "GROUP"))
        write_ramp(path, self._cards(path, number), units, overwrite)

    def _integration(
        self, number: int, integration: int, full: NDArray[np.uint16], first: NDArray[np.uint16]
    ) -> Iterator[NDArray[np.uint16]]:
        """Groups from one reset on, as the file holds them; `full` and `first` are filled on the way."""
        what = self.what
        # The array is the same in every campaign, its noise is not.
        epoch = [zlib.crc32(what.campaign.encode())] if what.campaign else []
        rng = self._rng(NOISE, number, integration, *epoch)
        raw = self.turned.raw(self.dark + np.float32(what.light) * self.response)
        exposure = Exposure(self.array, rng, raw, nframes=self.nframes, skip=self.skip)
        for group in range(what.groups):
            counts = _converted(self.turned.image(next(exposure)))
            if exposure.first is not None and group == 0:
                first[:] = _converted(self.turned.image(exposure.first))
            np.minimum(full, np.where(counts == HIGHEST, np.uint16(group), full), out=full)
            yield counts
        events = dict(exposure.truth().tables["hits"])
        rows, cols = self._turned_places(events["row"], events["col"])
        here = np.full(len(rows), number, np.int32), np.full(len(rows), integration, np.int32)
        self._events.append({"file": here[0], "integration": here[1], **events, "row": rows, "col": cols})

    def _turned_places(
        self, row: NDArray[Any], col: NDArray[Any]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows and columns of the image, of pixels in the order of readout."""
        clock = self.turned
        y = row if clock.slow > 0 else clock.rows - 1 - row
        x = col if clock.fast > 0 else clock.cols - 1 - col
        places = (y, x) if abs(clock.fast) == 1 else (x, y)
        return places[0].astype(np.int32), places[1].astype(np.int32)

    def _cards(self, path: Path, number: int) -> list[tuple[str, Any, str]]:
        what, clock = self.what, self.turned
        begin = iso_time(self.start(number)).rstrip("Z")
        duration = what.integrations * what.groups * self.group_time
        cards: list[tuple[str, Any, str]] = [
            ("DATE-OBS", begin[:10], "UTC date of the begin"),
            ("TIME-OBS", begin[11:], "UTC time of the begin"),
            ("FILENAME", path.name, "name of the file"),
            *((key, value, "") for key, value in self.plan.cards.items()),
            ("DETECTOR", self.name, "detector"),
            ("EXP_TYPE", self.plan.kinds["flat" if what.light else "dark"], "kind of exposure"),
            ("READPATT", what.pattern, "read pattern"),
            ("NINTS", what.integrations, "integrations"),
            ("NGROUPS", what.groups, "groups of an integration"),
            ("NFRAMES", self.nframes, "reads averaged into a group"),
            ("GROUPGAP", self.skip, "reads dropped after it"),
            ("TSAMPLE", clock.pixel_time * 1e6, "[us] time of a pixel"),
            ("TFRAME", clock.frame_time, "[s] time of a read"),
            ("TGROUP", self.group_time, "[s] time of a group"),
            ("EFFEXPTM", duration, "[s] time of exposure"),
            ("NOUTPUTS", clock.outputs, "outputs"),
            ("FASTAXIS", clock.fast, "axis of the pixels in time"),
            ("SLOWAXIS", clock.slow, "axis of the rows in time"),
            *self._window(),
        ]
        return [*cards, ("CAMPAIGN", what.campaign, "epoch")] if what.campaign else cards

    def _window(self) -> list[tuple[str, Any, str]]:
        """Cards of the size; a small array is no window, and has reference pixels on all its sides."""
        rows, cols = self.turned.shape
        if (rows, cols) == (Clock().rows, Clock().cols):
            place: list[tuple[str, Any, str]] = [("SUBARRAY", "FULL", "the whole array")]
            place += [("SUBSTRT1", 1, "first column"), ("SUBSTRT2", 1, "first row")]
        else:
            place = [("SUBARRAY", f"SMALL{rows}X{cols}", "an array of that size, not a window")]
        border, names = self.plan.border, ("BOT", "TOP", "LEFT", "RIGHT")
        sides = [(f"REF{side}", border, "reference pixels") for side in names]
        return [*place, ("SUBSIZE1", cols, "columns"), ("SUBSIZE2", rows, "rows"), *sides]

    def _table(self, number: int) -> dict[str, NDArray[Any]]:
        """When groups end, as the files of space telescopes say it."""
        what = self.what
        ints, groups = (axis.ravel() for axis in np.indices((what.integrations, what.groups)))
        # A frame is read to reset before each integration; a group ends when its last read does.
        frames = (groups * (self.nframes + self.skip) + self.nframes) + 0.0
        length = what.groups * (self.nframes + self.skip) + 1
        seconds = (ints * length + frames) * self.array.clock.frame_time
        ends = [self.start(number) + round(one * MICROSECOND) for one in seconds.tolist()]
        zero = parse_time(DAY_ZERO, None, "UTC")
        since = np.array(ends) - zero
        day = 86_400 * MICROSECOND
        return {
            "integration_number": (ints + 1).astype(np.int16),
            "group_number": (groups + 1).astype(np.int16),
            "end_day": (since // day).astype(np.int16),
            "end_milliseconds": (since % day // 1000).astype(np.int32),
            "end_submilliseconds": (since % 1000).astype(np.int16),
            "group_end_time": np.array([iso_time(end).rstrip("Z") for end in ends]),
        }

    def truth(self) -> Product:
        """What an analysis of the files should find: planes as they lie in the files, hits of all of them."""
        whole, image = self.array.truth(), self.turned.image
        planes = {name: np.ascontiguousarray(image(plane)) for name, plane in whole.planes.items()}
        planes |= {"dark": self.dark, "response": self.response, "dq": self.dq}
        names = ("file", "integration", "read", "row", "col", "charge")
        hits = {name: np.concatenate([one[name] for one in self._events]) for name in names}
        gain = self.array.design.gain
        return replace(
            whole,
            keys={"detector": self.name, "readpatt": self.what.pattern},
            planes=planes,
            units={**whole.units, "dark": "electron/s", "response": "", "hits.charge": "electron"},
            tables={**whole.tables, "hits": hits},
            quantities=(
                *whole.quantities,
                Quantity("light", self.what.light, unit="electron/s"),
                Quantity("light", self.what.light / gain, unit="adu/s", place="adu"),
                Quantity("nframes", float(self.nframes)),
                Quantity("skip", float(self.skip)),
                Quantity("group_time", self.group_time, unit="s"),
            ),
        )


def _converted(plane: F4) -> NDArray[np.uint16]:
    return np.clip(np.rint(plane), 0, HIGHEST).astype(np.uint16)


def _pixels(
    plan: Plan, clock: Clock, reference: NDArray[np.uint32], rng: np.random.Generator
) -> tuple[F4, F4, NDArray[np.uint32]]:
    """Dark current [electron/s], response and flags of all pixels, as they lie in the file."""
    dq = np.array(clock.image(reference))
    lit = dq & np.uint32(DQ.REFERENCE_PIXEL) == 0
    dark = (plan.dark * np.exp(plan.dark_scatter * rng.standard_normal(dq.shape))).astype(np.float32)
    response = (1.0 + plan.response_scatter * rng.standard_normal(dq.shape)).astype(np.float32)
    heights = plan.hot[1] * rng.lognormal(0.0, 1.0, dq.shape)
    # Each pixel is drawn once: it cannot be bad in two ways.
    drawn, edge = rng.random(dq.shape), 0.0
    faults = (
        (plan.hot[0], DQ.HOT), (plan.dead, DQ.DEAD), (plan.low_response[0], DQ.LOW_QE), (plan.open, DQ.OPEN)
    )  # fmt: skip
    found = {}
    for fraction, flag in faults:
        found[flag] = lit & (drawn >= edge) & (drawn < edge + fraction)
        dq[found[flag]] |= np.uint32(flag)
        edge += fraction
    dark[found[DQ.HOT]] = heights[found[DQ.HOT]]
    response[found[DQ.LOW_QE]] *= plan.low_response[1]
    response[found[DQ.DEAD]] = 0.0
    beside = _beside(found[DQ.OPEN]) & lit & (dq == 0)
    response[beside] *= plan.adjacent
    dq[beside] |= np.uint32(DQ.ADJ_OPEN)
    response[found[DQ.OPEN]] = 0.0
    dark[~lit], response[~lit] = 0.0, 0.0
    return dark, response, dq


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The four neighbours of pixels."""
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return near
