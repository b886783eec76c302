"""Pixel steps in one pass: `apply_steps` on a frame, `PreparedSource` while rows are read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, ShapeError
from calibrant.frame import Applied, Frame, Lazy, Plane
from calibrant.stack.pixel_step import Curve, PixelStep
from calibrant.stack.source import ArraySource, Encoding, Grouped, Source

__all__ = ["Curve", "PixelStep", "PreparedSource", "apply_steps"]

if TYPE_CHECKING:
    from calibrant.stack.pixel_program import Band, Program

_BAND_PIXELS = 1 << 18  # rows are taken in bands of this many pixels: 1 MB of each plane


class MapRunner(Protocol):
    """The part of a `stack.run.Runner` that a pass over bands needs: threads, or none."""

    def map(self, task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results of `task` for each of `items`, in any order."""
        ...


def apply_steps(frame: Frame, steps: Sequence[PixelStep], *, runner: MapRunner | None = None) -> Frame:
    """Run a list of pixel steps on a frame, in one pass over bands of rows.

    Parameters
    ----------
    frame : Frame
        Of two axes. The data may be raw numbers of any type and byte order, or a Source that still is in its
        file: they are decoded in the same pass.
    steps : sequence of PixelStep
        In the order of work. An empty list only decodes. A Source with flags gives the first ones, if the
        frame has none of its own.
    runner : Runner, optional
        Maps the bands over threads; None works in this one. The tasks write into one set of planes, so a
        runner of processes does not serve.

    Returns
    -------
    Frame
        data float32; dq uint32 (always there); `variance` only if the frame had it or a step makes noise,
        and `systematic` only if the frame had it or a step carries a variance: None stays "unknown".
        Pixels that end as NaN or infinite are NaN in every plane and flagged DO_NOT_USE; those that came so,
        NON_SCIENCE too. The history has a line for each step, and `systematic_from` the products whose
        variance was added. Planes in `extra` are carried as they are.

    Raises
    ------
    ShapeError
        If a plane does not fit; names the frame, the step and the plane.
    UnitError
        If a step cannot be done to the unit that the data have reached.

    Notes
    -----
    Variances of products are added as independent of each other. A product that is applied twice is
    correlated with itself, which this sum does not know: its history line says so.
    """
    from calibrant.stack.pixel_program import Band, compile_steps  # brings numba, as late as it can

    source = _source_of(frame.data, frame.name)
    unit = check_steps(steps, source.shape, frame.name, frame.unit)
    with_variance = frame.variance is not None or any(step.makes_variance for step in steps)
    with_systematic = frame.systematic is not None or any(step.makes_systematic for step in steps)
    flagged = source.has_dq and frame.dq is None
    program = compile_steps(
        steps,
        source.shape,
        keep_dq=flagged,
        variance=with_variance if frame.variance is None else _loaded(frame.variance),
        systematic=with_systematic if frame.systematic is None else _loaded(frame.systematic),
        dq=None if frame.dq is None else np.asarray(_loaded(frame.dq), np.uint32),
    )
    rows, cols = source.shape
    out = Band.empty((rows, cols), variance=with_variance, systematic=with_systematic)
    grouped = source if isinstance(source, Grouped) else None
    task = _BandTask(program, source, grouped, out, flagged)
    groups: list[tuple[slice, ...]] = [(band,) for band in bands(rows, cols)]
    if grouped is not None:
        groups = grouped.together(max(1, _BAND_PIXELS // cols))
    for _ in map(task, groups) if runner is None else runner.map(task, groups):
        pass
    return frame.after(
        *_history(frame, steps),
        data=out.data,
        variance=out.variance,
        systematic=out.systematic,
        dq=out.dq,
        unit=unit,
        systematic_from=frame.systematic_from
        | {step.product for step in steps if step.makes_systematic and step.product is not None},
    )


@dataclass(frozen=True, eq=False)
class _BandTask:
    """Runs the program on bands, into the planes that all share."""

    program: Program
    source: Source
    grouped: Grouped | None  # the same source, if it is one: asked once, since the question takes long
    out: Band
    flagged: bool

    uses_blas = False  # spares the runner the care for threads of linear algebra

    def __call__(self, group: tuple[slice, ...]) -> None:
        source, flags = self.source, self.out.dq if self.flagged else None
        if self.grouped is not None:
            self.grouped.read_together(group, self.out.data, flags)
        for band in group:
            rows = self._read(band, None if flags is None else flags[band])
            self.program.run(rows, source.encoding, band.start, self.out.rows(band))

    def _read(self, band: slice, flags: NDArray[np.uint32] | None) -> NDArray[Any] | None:
        """Stored numbers; None where values as they are needed were read to where they are needed."""
        source = self.source
        if source.encoding != PreparedSource.encoding or isinstance(source, ArraySource):
            return raw_rows(source, band, flags)
        if self.grouped is None:
            source.read_into(band, self.out.data[band], flags)
        return None

    def __reduce__(self) -> Any:
        # Another process would fill planes of its own, and leave ours empty without a word.
        raise OptionError(
            "the bands of one frame are worked on in threads",
            where="runner",
            do="give each process whole frames, or use threads here",
        )


def check_steps(steps: Sequence[PixelStep], shape: tuple[int, ...], name: str, unit: str) -> str:
    """Check that every step fits an image of `shape` and `unit`; returns the unit after the last.

    Raises
    ------
    ShapeError, UnitError
        Naming the image `name` and the step.
    """
    for step in steps:
        step.check_shape(shape, name)
        unit = step.unit_after(unit, name)
    return unit


def bands(rows: int, cols: int) -> list[slice]:
    """Slices of rows that cover an image, each of about 2**18 pixels."""
    step = max(1, _BAND_PIXELS // max(cols, 1))
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


@dataclass(frozen=True, eq=False)
class PreparedSource:
    """A Source that decodes rows and runs pixel steps on them when they are read.

    What it gives is ready to be combined: native float32 values with flags. Errors are not carried: a
    combination makes them from its noise model and its scatter.

    Parameters
    ----------
    source : Source
        Of raw numbers.
    steps : tuple of PixelStep
        In the order of work; their planes have the shape of the source (or broadcast to it).
    scale : float
        Multiplies the result, for frames that are brought to one level.
    saturation : float, optional
        In raw units: decoded values that reach it are flagged SATURATED.
    unit : str
        Of the raw values.

    Raises
    ------
    ShapeError, UnitError
        If a step does not fit the source; names both.
    """

    source: Source
    steps: tuple[PixelStep, ...] = ()
    scale: float = 1.0
    saturation: float | None = None
    unit: str = "adu"

    has_dq = True
    encoding = Encoding("=f4")

    def __post_init__(self) -> None:
        check_steps(self._all_steps, self.source.shape, self.source.name, self.unit)

    @property
    def name(self) -> str:
        """The name of the raw source."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns."""
        return self.source.shape

    @property
    def unit_after(self) -> str:
        """Unit of the values that are read."""
        return check_steps(self.steps, self.shape, self.name, self.unit)

    @property
    def _all_steps(self) -> tuple[PixelStep, ...]:
        first = PixelStep("saturation", saturation=self.saturation)
        return (first, *self.steps, PixelStep("scale", scale=self.scale))

    @cached_property
    def _program(self) -> Program:
        from calibrant.stack.pixel_program import compile_steps

        return compile_steps(
            self._all_steps,
            self.shape,
            keep_dq=self.source.has_dq,
        )

    @cached_property
    def _local(self) -> threading.local:
        return threading.local()  # buffers of one thread: rows are read by many at a time

    def __getstate__(self) -> dict[str, Any]:
        # The program and the buffers are made anew where the source is unpickled.
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def read_into(self, rows: slice, data: NDArray[Any], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (float32, (rows, cols), C-contiguous) and, if given, `dq` with the rows asked for.

        NaN and flags mark pixels without a value, as in `apply_steps`.
        """
        first, stop, _ = rows.indices(self.shape[0])
        flags = self._buffer("dq", np.dtype(np.uint32), stop - first) if dq is None else dq
        raw = raw_rows(self.source, slice(first, stop), flags, self._buffer)
        self._program.run_flagged(raw, self.source.encoding, first, data, flags)

    def load(self) -> NDArray[np.float32]:
        """All rows, float32."""
        data = np.empty(self.shape, np.float32)
        for band in bands(self.shape[0], self.shape[1]):
            self.read_into(band, data[band])
        return data

    def _buffer(self, name: str, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
        """Scratch (rows, cols) that the thread keeps between reads; it grows to the largest band."""
        held = getattr(self._local, name, None)
        if held is None or held.shape[0] < rows:
            held = np.empty((rows, self.shape[1]), dtype)
            setattr(self._local, name, held)
        return cast("NDArray[Any]", held[:rows])


def _source_of(data: Plane, name: str) -> Source:
    """The data of a frame as rows to be read."""
    if len(data.shape) != 2:
        raise ShapeError(
            "pixel steps work on images", where=name, expected="(rows, cols)", got=tuple(data.shape)
        )
    if isinstance(data, Source):
        return data
    return ArraySource(_loaded(data), name=name)


def _loaded(plane: Plane) -> NDArray[Any]:
    return plane.load() if isinstance(plane, Lazy) else plane


def raw_rows(
    source: Source,
    rows: slice,
    dq: NDArray[np.uint32] | None = None,
    buffer: Callable[[str, np.dtype[Any], int], NDArray[Any]] | None = None,
) -> NDArray[Any]:
    """Stored numbers of some rows: a view where they lie in memory, else read into a buffer.

    Parameters
    ----------
    source : Source
    rows : slice
        With given ends.
    dq : ndarray, optional
        uint32, (rows, cols): filled with the flags of the source, if it has any.
    buffer : callable, optional
        Name, dtype, rows -> scratch (rows, cols) to read into.
    """
    own_dq = dq if source.has_dq else None
    if isinstance(source, ArraySource):
        if own_dq is not None:
            own_dq[...] = cast("NDArray[Any]", source.dq)[rows]
        return source.array[rows]
    dtype = np.dtype(source.encoding.dtype)
    count = rows.stop - rows.start
    raw = np.empty((count, source.shape[1]), dtype) if buffer is None else buffer("raw", dtype, count)
    source.read_into(rows, raw, own_dq)
    return raw


def _history(frame: Frame, steps: Sequence[PixelStep]) -> list[Applied]:
    """The lines of the steps; one that adds a product's variance again says that the sum is not exact."""
    seen = set(frame.systematic_from)
    lines = []
    for step in steps:
        line = step.applied
        if step.makes_systematic and step.product is not None:
            if step.product in seen:
                again = "the variance of this product was added before: its errors are correlated"
                line = replace(line, note=f"{line.note}; {again}" if line.note else again)
            seen.add(step.product)
        lines.append(line)
    return lines
