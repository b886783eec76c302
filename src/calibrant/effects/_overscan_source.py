"""A raw image with overscan as a Source of the corrected, trimmed and assembled one, in bands of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import AmplifierSections, Assembly, turns, window
from calibrant.effects._overscan_levels import LevelModel, StripLevels, strip_levels
from calibrant.errors import ShapeError
from calibrant.frame import DQ, NO_DATA
from calibrant.stack.source import Encoding, Source, decode

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

    Raises
    ------
    ShapeError
        If the raw image is not of the shape that the assembly describes.
    """

    source: Source
    assembly: Assembly
    serial: LevelModel | None
    parallel: LevelModel | None = None

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
        raw: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.uint32]]] = {}
        for amp in self.assembly.amplifiers:
            place_rows, place_cols = window(amp.place, self.assembly.shape)
            low, high = max(rows.start, place_rows.start), min(rows.stop, place_rows.stop)
            if low >= high:
                continue
            band = _raw_rows(amp, self.assembly, low, high)
            if band not in raw:
                raw[band] = self._read(*band)
            self._fill(
                amp, band, raw[band], (slice(low - rows.start, high - rows.start), place_cols), data, dq
            )

    def load(self) -> NDArray[np.float32]:
        """The whole corrected image."""
        data = np.empty(self.assembly.shape, np.float32)
        self.read_into(slice(0, data.shape[0]), data)
        return data

    def _fill(
        self,
        amp: AmplifierSections,
        band: tuple[int, int],
        raw: tuple[NDArray[np.float32], NDArray[np.uint32]],
        to: tuple[slice, slice],
        data: NDArray[np.float32],
        dq: NDArray[np.uint32] | None,
    ) -> None:
        data_rows, data_cols = window(amp.data, self.assembly.raw)
        values, flags = raw[0][:, data_cols], raw[1][:, data_cols]
        if dq is not None and amp.saturation is not None:
            flags = flags | np.where(values >= amp.saturation, np.uint32(DQ.SATURATED), np.uint32(0))
        levels = self.levels[amp.name]
        if levels.serial is not None:
            first = band[0] - data_rows.start
            values = values - levels.serial.level[first : first + len(values), None].astype(np.float32)
        if levels.parallel is not None:
            values = values - levels.parallel.level.astype(np.float32)
        flips = turns(amp.place)
        data[to] = values[flips]
        if dq is not None:
            dq[to] = np.where(np.isnan(values), flags | np.uint32(NO_DATA), flags)[flips]

    def _read(self, low: int, high: int) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """Raw rows as float32, and their flags."""
        encoding = self.source.encoding
        stored = np.empty((high - low, self.assembly.raw[1]), np.dtype(encoding.dtype))
        flags = np.zeros(stored.shape, np.uint32)
        self.source.read_into(slice(low, high), stored, flags if self.source.has_dq else None)
        return decode(stored, encoding).astype(np.float32), flags

    @cached_property
    def levels(self) -> dict[str, AmplifierLevels]:
        """Levels of every amplifier by name."""
        strips = _Strips(self)
        return {amp.name: strips.levels(amp) for amp in self.assembly.amplifiers}


class _Strips:
    """The overscan pixels of one raw image, gathered in one pass over its rows."""

    def __init__(self, source: OverscanSource) -> None:
        self.of = source
        raw = source.assembly.raw
        self.rows: dict[str, NDArray[np.float32]] = {}
        self.cols: dict[str, NDArray[np.float32]] = {}
        for amp in source.assembly.amplifiers:
            if source.serial is not None and amp.overscan is not None:
                self.rows[amp.name] = np.full(
                    (raw[0], _span(window(amp.overscan, raw)[1])), np.nan, np.float32
                )
            if source.parallel is not None and amp.parallel is not None:
                parallel = window(amp.parallel, raw)
                self.cols[amp.name] = np.full((_span(parallel[0]), _span(parallel[1])), np.nan, np.float32)
        if not self.rows and not self.cols:
            return
        step = max(1, BAND_PIXELS // raw[1])
        for low in range(0, raw[0], step):
            self._gather(low, min(low + step, raw[0]))

    def _gather(self, low: int, high: int) -> None:
        values, flags = self.of._read(low, high)
        values[(flags & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) != 0] = np.nan
        raw = self.of.assembly.raw
        for amp in self.of.assembly.amplifiers:
            if amp.saturation is not None:
                limited = np.where(values >= amp.saturation, np.float32(np.nan), values)
            else:
                limited = values
            if amp.name in self.rows and amp.overscan is not None:
                self.rows[amp.name][low:high] = limited[:, window(amp.overscan, raw)[1]]
            if amp.name in self.cols and amp.parallel is not None:
                strip_rows, strip_cols = window(amp.parallel, raw)
                first, last = max(low, strip_rows.start), min(high, strip_rows.stop)
                if first < last:
                    self.cols[amp.name][first - strip_rows.start : last - strip_rows.start] = limited[
                        first - low : last - low, strip_cols
                    ]

    def levels(self, amp: AmplifierSections) -> AmplifierLevels:
        raw = self.of.assembly.raw
        serial, parallel = None, None
        data_rows, data_cols = window(amp.data, raw)
        by_row: NDArray[np.float64] | None = None
        if amp.name in self.rows and amp.overscan is not None and self.of.serial is not None:
            over_rows, over_cols = window(amp.overscan, raw)
            strip = self.rows[amp.name][over_rows]
            after = over_cols.start >= data_cols.stop
            found = _levels(strip, self.of.serial, away=after)
            by_row = np.full(raw[0], np.nan)
            by_row[over_rows] = found.level
            serial = _part(found, by_row[data_rows])
        if amp.name in self.cols and amp.parallel is not None and self.of.parallel is not None:
            par_rows, par_cols = window(amp.parallel, raw)
            below = self.cols[amp.name].astype(np.float64)
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


def _raw_rows(amp: AmplifierSections, assembly: Assembly, low: int, high: int) -> tuple[int, int]:
    """Raw rows that hold the assembled rows low .. high of an amplifier."""
    data, place = window(amp.data, assembly.raw)[0], window(amp.place, assembly.shape)[0]
    if amp.place[0].step == -1:
        return data.stop - (high - place.start), data.stop - (low - place.start)
    return data.start + (low - place.start), data.start + (high - place.start)
