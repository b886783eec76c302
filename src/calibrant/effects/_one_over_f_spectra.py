"""Cross-spectral matrices of the outputs, on two scales of time, read by read.

Differences of two reads of one ramp are laid out in the order of time, overheads as gaps. Segments of some
rows give the spectrum above a few periods of the segment; means of rows give it below, and the means of
even less odd columns give the noise that alternates from column to column. Nothing is deconvolved:
`_one_over_f_response` says what a given noise gives in these very estimates, gaps, tapers and differences
included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibrant.errors import SelectionError, ShapeError
from calibrant.instrument.clock import Border, Clock
from calibrant.stack.kernels_spectra import cross, lay

SEGMENT = 16  # rows of a segment of the fast scale
PIECE = 4  # segments that are transformed at once: they stay in the cache
PER_OCTAVE = 4  # bins
CLIP = 8.0  # sigmas beyond which a difference is a cosmic ray or a bad pixel
FIRST = 4  # frequency of the fast scale that is used first, in units of one over the length of its segment
BESIDE = 1.6  # of these frequencies from a multiple of the row frequency: nearer ones are not used
SAMPLES = 1 << 14  # values of an output of which level and width are taken

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """The estimate of one scale of time, binned.

    Attributes
    ----------
    name : str
        ``pixels``, ``rows`` or ``alternating``.
    frequency : array (bins,)
        Hz, mean of each bin.
    edges : array (bins + 1,)
        Index of the first frequency of each bin, and of the one after the last.
    matrix : array (bins, streams, streams), complex
        One-sided cross-spectral density of the difference of two reads, DN^2/Hz.
    overlap : array (bins, bins)
        Covariance of the powers of a white noise of power 1: neighbours share what the taper smears.
    """

    name: str
    frequency: Floats
    edges: NDArray[np.int64]
    matrix: NDArray[np.complex128]
    overlap: Floats

    @property
    def modes(self) -> Floats:
        """Independent complex numbers that each bin was averaged of, (bins,)."""
        return np.asarray(1 / np.diag(self.overlap))


@dataclass(frozen=True)
class Spectra:
    """What `Accumulator.result` gives.

    Attributes
    ----------
    clock : Clock
        Of the pixels that took part: reference pixels count as overheads.
    pixels, rows, alternating : Scale
        Of the outputs.
    tracked : Scale
        As `rows`, up to half the row frequency, with the reference streams after the outputs.
    good : array (outputs,)
        Part of the pixels that were good; the others took the mean of their row and have no white noise.
    """

    clock: Clock
    pixels: Scale
    rows: Scale
    alternating: Scale
    tracked: Scale
    good: Floats
    frames: int

    @property
    def scales(self) -> tuple[Scale, Scale, Scale]:
        """All three."""
        return self.pixels, self.rows, self.alternating


def segment_length(clock: Clock) -> int:
    """Ticks of a transform of the fast scale: its rows, and zeros up to a length with small factors."""
    return int(scipy.fft.next_fast_len(segment_rows(clock) * clock.row_ticks, True))


def segment_rows(clock: Clock) -> int:
    """Rows of a segment of the fast scale."""
    return min(SEGMENT, clock.rows)


def pixel_taper(clock: Clock) -> NDArray[np.float32]:
    """Sine taper of a segment, (rows, ticks), 0 in the overheads; its squares add up to 1."""
    ticks = segment_rows(clock) * clock.row_ticks
    taper = np.sin(np.pi * (np.arange(ticks) + 0.5) / ticks).reshape(-1, clock.row_ticks)
    taper[:, clock.width :] = 0
    return (taper / math.sqrt((taper**2).sum())).astype(np.float32)


def row_taper(clock: Clock) -> NDArray[np.float32]:
    """Hann taper of the rows of a frame: a constant has no power from frequency 2 on. Squares add to 1."""
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(clock.rows) / clock.rows)
    return (taper / math.sqrt((taper**2).sum())).astype(np.float32)


def log_edges(first: int, last: int) -> NDArray[np.int64]:
    """Whole numbers from `first` to `last`, a quarter of an octave apart, none twice."""
    octaves = max(math.log2(last / first), 0.0)
    edges = first * 2 ** np.linspace(0, octaves, max(round(octaves * PER_OCTAVE), 1) + 1)
    return np.unique(np.rint(edges).astype(np.int64))


def pixel_edges(clock: Clock) -> NDArray[np.int64]:
    """Bins of the fast scale: logarithmic from both ends, as alternating noise is folded at the upper one."""
    half = segment_length(clock) // 2
    low = log_edges(FIRST, half // 2)
    edges = np.unique(np.concatenate([low, half + 1 - log_edges(FIRST, half // 2 + 1)]))
    used = np.concatenate([[0], np.cumsum(pixel_kept(clock))])
    return np.asarray(edges[np.unique(used[edges], return_index=True)[1]])


def pixel_kept(clock: Clock) -> NDArray[np.bool_]:
    """Frequencies of the fast scale that are used, (length / 2 + 1,).

    Overheads between rows put a little of the slow noise at all multiples of the row frequency. Its mean is
    known, but it is one and the same slow noise everywhere, so that errors would not be independent.
    """
    spacing = segment_length(clock) / clock.row_ticks
    multiple = np.arange(segment_length(clock) // 2 + 1) / spacing
    nearest = np.rint(multiple)
    return np.asarray((np.abs(multiple - nearest) * spacing > BESIDE) | (nearest == 0))


def row_edges(clock: Clock, highest: float | None = None) -> NDArray[np.int64]:
    """Bins of the scale of rows, up to where the fast scale begins."""
    if highest is None:
        highest = (FIRST - 0.5) / (segment_length(clock) * clock.pixel_time)
    last = math.floor(highest / clock.row_frequency * clock.rows) + 1
    return log_edges(2, max(min(last, clock.rows // 2), 3))


def inner(clock: Clock, border: Border) -> tuple[Clock, int]:
    """The clock of the pixels inside the border, and the columns that each output skips at the start.

    Reference pixels have a noise of their own. Columns that an output lacks are left out of all of them, as
    the outputs are compared at the same moments; what is left out counts as overhead.

    Parameters
    ----------
    clock : Clock
    border : Border
        Reference pixels of a plane in the order of readout.
    """
    before, after = border.left, 0
    if clock.alternate and clock.outputs % 2 == 0:
        before = max(before, border.right)
    else:
        after = border.right
    skipped, rows = before + after, border.bottom + border.top
    if clock.width - skipped < 2 or clock.rows - rows < 8:
        raise SelectionError(
            "too few pixels are left inside the reference pixels",
            where="one_over_f",
            expected="two columns in each output and 8 rows",
            got=f"{clock.width - skipped} columns, {clock.rows - rows} rows",
        )
    more, ticks = clock.frame_overhead
    used = replace(
        clock,
        rows=clock.rows - rows,
        cols=clock.outputs * (clock.width - skipped),
        row_overhead=clock.row_overhead + skipped,
        frame_overhead=(more + rows, ticks),
    )
    return used, before


@dataclass
class Accumulator:
    """Adds up spectra, difference by difference, in the memory of one frame.

    Attributes
    ----------
    array : Clock
        Of rows and columns as they are given to `add`.
    good : array (rows, columns of all outputs), bool, optional
        Pixels that take part; reference pixels do not, whatever it says.
    pattern : bool
        Whether what all differences have in common (dark current, glow) is taken out.
    border : Border
        Reference pixels, in the order of readout.
    """

    array: Clock
    good: NDArray[np.bool_] | None = None
    pattern: bool = True
    border: Border = field(default_factory=Border)
    frames: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        clock, skipped = inner(self.array, self.border)
        self.clock = clock
        start, self._step = self.array.directions
        self._start = start + skipped * self._step
        self._lines = slice(self.border.bottom, self.border.bottom + clock.rows)
        shape = self.array.rows, self.array.cols
        if self.good is None:
            self.good = np.ones(shape, np.bool_)
        if self.good.shape != shape:
            raise ShapeError(
                "good pixels are of the frame", where="one_over_f", expected=shape, got=self.good.shape
            )
        self._laid = np.zeros((clock.outputs, clock.rows, clock.row_ticks), np.float32)
        self._total = np.zeros_like(self._laid) if self.pattern else None
        self._means = np.zeros((clock.outputs, clock.rows, 2), np.float32)
        self._counts = np.zeros(clock.outputs, np.int64)
        self._taper, self._row_taper = pixel_taper(clock), row_taper(clock)
        rows, length = segment_rows(clock), segment_length(clock)
        self._padded = np.zeros((clock.outputs, PIECE, length), np.float32)
        self._ticks = rows * clock.row_ticks
        self._fast = np.zeros((_pairs(clock.outputs), 2, length // 2 + 1), np.float64)
        self._slow: dict[str, NDArray[Any]] = {}
        self._series: dict[str, NDArray[Any]] = {}

    def add(
        self,
        first: NDArray[Any],
        second: NDArray[Any],
        references: NDArray[Any] | None = None,
        flagged: NDArray[np.bool_] | None = None,
    ) -> None:
        """The difference of two reads of one ramp.

        Parameters
        ----------
        first, second : array (rows, cols)
            Of any number type, DN, in the order of readout; the second is read after the first.
        references : array (streams, rows inside the border), optional
            Differences of reference streams, one number for each row, DN.
        flagged : array (rows, cols), bool, optional
            Pixels that are not good in this difference alone.
        """
        self._check(first, second)
        assert self.good is not None
        lines, good = self._lines, self.good if flagged is None else self.good & ~flagged
        first, second, good = first[lines], second[lines], good[lines]
        levels = self._levels(first, second, good)
        self._laid_out(first, second, good, levels)
        if self._total is not None:
            self._total += self._laid
        self._fast += self._segments(self._laid)
        series = {"rows": self._means[:, :, 0], "alternating": self._means[:, :, 1]}
        if references is not None:
            series["rows"] = np.concatenate([series["rows"], np.asarray(references, np.float32)])
        for name, one in series.items():
            self._slow[name] = self._slow.get(name, 0) + self._rows(one)
            if self.pattern:
                self._series[name] = self._series.get(name, 0) + one
        self.frames += 1

    def _laid_out(
        self, first: NDArray[Any], second: NDArray[Any], good: NDArray[np.bool_], levels: Floats
    ) -> None:
        lay(
            first, second, good, self._start, self._step, levels, self.clock.width,
            self._laid, self._means, self._counts,
        )  # fmt: skip

    @property
    def laid(self) -> NDArray[np.float32]:
        """The last difference in the order of time, (outputs, rows, ticks), adu; levels are taken off."""
        return self._laid

    def result(self) -> Spectra:
        """The matrices of all that was added.

        Raises
        ------
        SelectionError
            If nothing was added, or a single difference where the pattern is to be taken out.
        """
        if self.frames < 1 + self.pattern:
            raise SelectionError(
                "spectra need more differences of reads",
                where="one_over_f",
                expected=f"at least {1 + self.pattern}",
                got=self.frames,
            )
        clock, n = self.clock, self.frames
        fast, slow, free = self._fast, dict(self._slow), n - self.pattern
        if self._total is not None:
            fast = fast - n * self._segments(self._total / np.float32(n))
            slow = {name: sums - n * self._rows(self._series[name] / n) for name, sums in slow.items()}
        segments = clock.rows // segment_rows(clock)
        matrix = _square(fast[:, 0] + 1j * fast[:, 1], clock.outputs) * (
            2 * clock.pixel_time / free / segments
        )
        pixels = binned(
            "pixels", matrix, pixel_edges(clock), 1 / (segment_length(clock) * clock.pixel_time),
            np.pad(self._taper.ravel().astype(np.float64), (0, segment_length(clock) - self._ticks)),
            free * segments, pixel_kept(clock),
        )  # fmt: skip
        scale = 2 / clock.row_frequency / free
        spacing = clock.row_frequency / clock.rows
        taper = self._row_taper.astype(np.float64)
        short, full = row_edges(clock), row_edges(clock, clock.row_frequency / 2)
        rows, alternating, tracked = (
            binned(name, slow[name] * scale, edges, spacing, taper, free)
            for name, edges in (("rows", short), ("alternating", short), ("rows", full))
        )
        good = self._counts / (n * clock.rows * clock.width)
        return Spectra(clock, pixels, rows, alternating, tracked, good, n)

    def _check(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        assert self.good is not None
        for read in (first, second):
            if read.shape != self.good.shape:
                raise ShapeError(
                    "reads are of one shape", where="one_over_f", expected=self.good.shape, got=read.shape
                )

    def _levels(self, first: NDArray[Any], second: NDArray[Any], good: NDArray[np.bool_]) -> Floats:
        """Median and limit of each output, of a sample of its pixels."""
        clock, found = self.array, np.zeros((self.array.outputs, 2))
        every = max(int(math.sqrt(clock.rows * clock.width / SAMPLES)), 1)
        for i in range(clock.outputs):
            part = slice(None, None, every), slice(i * clock.width, (i + 1) * clock.width, every)
            values = second[part].astype(np.float32) - first[part].astype(np.float32)
            values = values[good[part] & np.isfinite(values)]
            level = float(np.median(values)) if values.size else 0.0
            width = 1.4826 * float(np.median(np.abs(values - level))) if values.size else 0.0
            found[i] = level, CLIP * width if width > 0 else np.inf
        return found

    def _segments(self, laid: NDArray[np.float32]) -> Floats:
        """Sums of cross products over the segments of a frame, (pairs, 2, frequencies)."""
        outputs, rows = self.clock.outputs, segment_rows(self.clock)
        count = self.clock.rows // rows
        pieces = laid[:, : count * rows].reshape(outputs, count, self._ticks)
        sums = np.zeros(self._fast.shape, np.float32)
        taper = self._taper.ravel()
        for begin in range(0, count, PIECE):
            part = pieces[:, begin : begin + PIECE]
            padded = self._padded[:, : part.shape[1]]
            np.multiply(part, taper, out=padded[:, :, : self._ticks])
            spectra = scipy.fft.rfft(padded, axis=-1)
            parts = np.empty((*spectra.shape[:2], 2, spectra.shape[2]), np.float32)
            parts[:, :, 0], parts[:, :, 1] = spectra.real, spectra.imag
            cross(parts, sums)
        return sums.astype(np.float64)

    def _rows(self, series: NDArray[Any]) -> NDArray[np.complex128]:
        """Cross products of the streams of one frame, (frequencies, streams, streams)."""
        spectra = scipy.fft.rfft(series.astype(np.float64) * self._row_taper, axis=-1).T
        return np.asarray(spectra[:, :, None] * spectra[:, None, :].conj())


def _pairs(streams: int) -> int:
    return streams * (streams + 1) // 2


def _square(upper: NDArray[np.complex128], streams: int) -> NDArray[np.complex128]:
    """Hermitian matrices (frequencies, streams, streams) of their upper triangles (pairs, frequencies)."""
    full = np.empty((upper.shape[1], streams, streams), np.complex128)
    for one, i, j in zip(upper, *np.triu_indices(streams), strict=True):
        full[:, j, i], full[:, i, j] = one.conj(), one
    return full


def binned(
    name: str,
    matrix: NDArray[Any],
    edges: NDArray[np.int64],
    spacing: float,
    taper: Floats,
    looks: int,
    kept: NDArray[np.bool_] | None = None,
) -> Scale:
    """Means over bins of frequencies, and how they vary together.

    Periodograms of white noise k frequencies apart have the covariance |V(k)|^2, V the transform of the
    squared taper (Percival and Walden 1993, chapter 6).
    """
    inside = np.zeros((len(edges) - 1, len(taper)))
    for b, (first, last) in enumerate(pairwise(edges)):
        inside[b, first:last] = kept[first:last] if kept is not None else 1.0
    inside /= inside.sum(axis=1, keepdims=True)
    weights = inside[:, : len(matrix)]
    kernel = np.abs(np.fft.fft(taper**2)) ** 2
    smeared = np.fft.ifft(np.fft.fft(inside) * np.fft.fft(kernel)).real[:, : len(matrix)]
    overlap = smeared @ weights.T / looks
    means = np.tensordot(weights, matrix, 1)
    return Scale(name, spacing * (weights @ np.arange(len(matrix))), edges, means, (overlap + overlap.T) / 2)
