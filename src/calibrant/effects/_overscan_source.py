"""A raw image with overscan as a Source of the corrected, trimmed and assembled one, in bands of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import AmplifierSections, Assembly, Way, window
from calibrant.effects._overscan_levels import LevelModel, StripLevels, strip_levels
from calibrant.errors import ShapeError
from calibrant.frame import DQ
from calibrant.stack.pixel import MapRunner, raw_rows
from calibrant.stack.source import ArraySource, Encoding, Source, decode

Part = tuple[NDArray[Any], NDArray[np.uint32]]
BAND_PIXELS = 1 << 20  # rows are read in bands of about this many pixels in the pass over the overscan


@dataclass(frozen=True, eq=False)
class AmplifierLevels:
    """Overscan levels of one amplifier in one frame.

    Attributes
    ----------
    serial, parallel : StripLevels or None
        Of the data's rows, and of the data's columns after the serial levels were removed.
    """

    serial: StripLevels | None
    parallel: StripLevels | None

    @property
    def level(self) -> float:
        """Mean serial level plus mean parallel level, adu; NaN where a strip has no good pixel."""
        return sum(float(np.mean(part.level)) for part in (self.serial, self.parallel) if part is not None)

    @property
    def sigma(self) -> float:
        """Standard uncertainty of the level under one pixel, adu."""
        parts = (self.serial, self.parallel)
        return float(np.sqrt(sum(part.sigma**2 for part in parts if part is not None)))


@dataclass(frozen=True, eq=False)
class OverscanSource:
    """A raw source, minus its overscan levels, trimmed and assembled.

    The levels need the whole strip: they are measured in one pass over the file when the first band is
    asked for, and kept (and pickled) with the source.

    Parameters
    ----------
    source : Source
        The raw image.
    assembly : Assembly
    serial, parallel : LevelModel or None
        None leaves that strip alone.
    runner : Runner, optional
        Threads that share the amplifiers when their levels are measured.

    Raises
    ------
    ShapeError
        If the raw image is not of the shape that the assembly describes.
    """

    source: Source
    assembly: Assembly
    serial: LevelModel | None
    parallel: LevelModel | None = None
    runner: MapRunner | None = None

    def __post_init__(self) -> None:
        if tuple(self.source.shape) != self.assembly.raw:
            raise ShapeError(
                "the image has not the size that the instrument file describes",
                where=self.source.name,
                expected=f"{self.assembly.raw[0]} x {self.assembly.raw[1]} (rows x columns)",
                got=" x ".join(map(str, self.source.shape)),
            )

    @property
    def name(self) -> str:
        """Of the raw source."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns of the assembled image."""
        return self.assembly.shape

    @property
    def encoding(self) -> Encoding:
        """float32, unscaled."""
        return Encoding("=f4")

    @property
    def has_dq(self) -> bool:
        """Always: saturated pixels, and amplifiers whose overscan has no good pixel, are flagged."""
        return True

    def read_into(self, rows: slice, data: NDArray[np.float32], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (float32, adu above the overscan level) and `dq` with assembled rows."""
        from calibrant.stack.pixel_program import take  # brings numba, as late as it can

        bands: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for number, ((data_rows, _), (place_rows, _), (turned, _)) in enumerate(self._ways):
            low, high = max(rows.start, place_rows.start), min(rows.stop, place_rows.stop)
            if low < high:
                end = data_rows.stop + place_rows.start
                first = end - high if turned else data_rows.start + low - place_rows.start
                bands.setdefault((first, first + high - low), []).append((number, low - rows.start))
        for (first, last), members in bands.items():
            numbers, tops = np.array(members).T
            amplifiers = self._amplifiers[numbers]
            amplifiers[:, 2] = tops
            by_row, by_column, limits = self._levels
            levels = by_row[numbers, first:last], by_column[numbers], limits[numbers]
            take(self._stored(first, last), self.source.encoding, amplifiers, levels, (data, dq))

    def load(self) -> NDArray[np.float32]:
        """The whole corrected image."""
        data = np.empty(self.assembly.shape, np.float32)
        self.read_into(slice(0, data.shape[0]), data)
        return data

    @cached_property
    def _ways(self) -> list[Way]:
        return [self.assembly.ways[amp.name] for amp in self.assembly.amplifiers]

    @cached_property
    def _amplifiers(self) -> NDArray[np.int64]:
        """For the kernel, see `calibrant.stack.pixel_kernels.take`; the rows of their places are left 0."""
        return np.array(
            [(c.start, _span(c), 0, to.start, *turned) for (_, c), (_, to), turned in self._ways], np.int64
        )

    @cached_property
    def _levels(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Levels of all raw rows and of the columns of each amplifier, and its saturation."""
        amplifiers, ways = self.assembly.amplifiers, self.assembly.ways
        by_row = np.zeros((len(amplifiers), self.assembly.raw[0]), np.float32)
        by_column = np.zeros((len(amplifiers), int(self._amplifiers[:, 1].max())), np.float32)
        for number, amp in enumerate(amplifiers):
            (rows, cols), _, _ = ways[amp.name]
            found = self.levels[amp.name]
            if found.serial is not None:
                by_row[number, rows] = found.serial.level
            if found.parallel is not None:
                by_column[number, : _span(cols)] = found.parallel.level
        limits = [np.nan if amp.saturation is None else amp.saturation for amp in amplifiers]
        return by_row, by_column, np.array(limits, np.float32)

    def _stored(self, low: int, high: int) -> tuple[NDArray[Any], NDArray[np.uint32]]:
        """Raw rows as they are stored, and their flags; one row of zeros where there are none."""
        flags = np.zeros((high - low if self.source.has_dq else 1, self.assembly.raw[1]), np.uint32)
        return raw_rows(self.source, slice(low, high), flags), flags

    @cached_property
    def levels(self) -> dict[str, AmplifierLevels]:
        """Levels of every amplifier by name."""
        strips, amplifiers = _Strips(self), self.assembly.amplifiers
        found = map(strips, amplifiers) if self.runner is None else self.runner.map(strips, amplifiers)
        return {amp.name: levels for amp, levels in zip(amplifiers, found, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "runner": None}  # threads stay where they are


class _Strips:
    """The overscan pixels of one raw image: where they lie in memory, or gathered in one pass over it."""

    uses_blas = False  # spares the runner the care for threads of linear algebra

    def __init__(self, source: OverscanSource) -> None:
        self.of = source
        models = {"overscan": source.serial, "parallel": source.parallel}
        self.sections = {
            (amp.name, kind): window(section, source.assembly.raw)
            for amp in source.assembly.amplifiers
            for kind, model in models.items()
            if model is not None and (section := getattr(amp, kind)) is not None
        }
        inner = source.source
        if isinstance(inner, ArraySource):
            flags = np.zeros((1, 1), np.uint32) if inner.dq is None else inner.dq
            flags = np.broadcast_to(flags, inner.array.shape)
            self.parts = {key: (inner.array[at], flags[at]) for key, at in self.sections.items()}
        else:
            self.parts = self._gathered(np.dtype(inner.encoding.dtype))

    def _gathered(self, dtype: np.dtype[Any]) -> dict[tuple[str, str], Part]:
        """Stored numbers and flags of each section."""
        parts: dict[tuple[str, str], Part] = {}
        for key, (rows, cols) in self.sections.items():
            shape = _span(rows), _span(cols)
            parts[key] = np.empty(shape, dtype), np.zeros(shape, np.uint32)
        height, width = self.of.assembly.raw
        step = max(1, BAND_PIXELS // width)
        for low in range(0, height if parts else 0, step):
            high = min(low + step, height)
            band = self.of._stored(low, high)
            for key, (rows, cols) in self.sections.items():
                first, last = max(low, rows.start), min(high, rows.stop)
                for part, plane in zip(parts[key], band, strict=True):
                    if first < last and len(plane) == high - low:
                        at = slice(first - low, last - low), cols
                        part[first - rows.start : last - rows.start] = plane[at]
        return parts

    def _values(self, amp: AmplifierSections, kind: str) -> NDArray[np.float32]:
        """Pixels of a section as float32; NaN where flagged or saturated."""
        stored, flags = self.parts[amp.name, kind]
        values = decode(stored, self.of.source.encoding).astype(np.float32)
        if self.of.source.has_dq:
            values[(flags & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) != 0] = np.nan
        if amp.saturation is not None:
            values[values >= amp.saturation] = np.nan
        return values

    def __call__(self, amp: AmplifierSections) -> AmplifierLevels:
        """Levels of an amplifier."""
        raw = self.of.assembly.raw
        serial, parallel = None, None
        (data_rows, data_cols), _, _ = self.of.assembly.ways[amp.name]
        by_row: NDArray[np.float64] | None = None
        if (amp.name, "overscan") in self.parts and self.of.serial is not None:
            over_rows, over_cols = self.sections[amp.name, "overscan"]
            after = over_cols.start >= data_cols.stop
            found = _levels(self._values(amp, "overscan"), self.of.serial, away=after)
            by_row = np.full(raw[0], np.nan)
            by_row[over_rows] = found.level
            serial = _part(found, by_row[data_rows])
        if (amp.name, "parallel") in self.parts and self.of.parallel is not None:
            par_rows, par_cols = self.sections[amp.name, "parallel"]
            below = self._values(amp, "parallel").astype(np.float64)
            if by_row is not None:
                below = below - _held(by_row)[par_rows, None]
            found = _levels(below.T, self.of.parallel, away=par_rows.start >= data_rows.stop)
            by_col = np.full(raw[1], np.nan)
            by_col[par_cols] = found.level
            parallel = _part(found, by_col[data_cols])
        return AmplifierLevels(serial, parallel)


def _levels(strip: NDArray[np.floating], model: LevelModel, away: bool) -> StripLevels:
    """Levels of a strip whose pixels run away from the data (or towards them), the skipped ones left out."""
    ordered = strip if away else strip[:, ::-1]
    near, far = model.skip
    ordered = ordered[:, near : ordered.shape[1] - far]
    if ordered.shape[1] > 0 and not np.isfinite(ordered).any():
        # A dead or saturated amplifier costs its own pixels, never the frame.
        return StripLevels(np.full(len(ordered), np.nan), float("nan"), float("nan"), 1.0)
    return strip_levels(ordered, model)


def _part(levels: StripLevels, level: NDArray[np.float64]) -> StripLevels:
    return StripLevels(level, levels.sigma, levels.read_noise, levels.rejected)


def _held(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lines without a level take the nearest that has one: parallel rows may lie beyond the serial strip."""
    known = np.flatnonzero(np.isfinite(level))
    if known.size == 0:
        return np.zeros(level.size)
    return np.interp(np.arange(level.size), known, level[known])


def _span(axis: slice) -> int:
    return int(axis.stop - axis.start)
