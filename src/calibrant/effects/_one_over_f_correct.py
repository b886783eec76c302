"""Corrections of 1/f noise: reference rows, reference columns, and the dark sky of an image.

Reference rows and the running median of columns are those of the pipelines of infrared arrays; the optimal
weights are least squares at each frequency (Rauscher et al. 2022, JATIS 8, 028002, for two sides).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibrant.effects._one_over_f_background import fourier, residual, row_medians
from calibrant.effects._one_over_f_read import BAD, stream_names, streams
from calibrant.errors import OptionError, SelectionError
from calibrant.frame import DQ
from calibrant.instrument.clock import Border, Clock
from calibrant.product import Product, Table
from calibrant.stats import clipped_stats

CHOICES = {
    "rows": ("parity", "output", "none"),
    "sides": ("median", "optimal", "none"),
    "background": ("median", "fourier", "none"),
}
UNSTABLE = np.uint32(BAD | DQ.BAD_REF_PIXEL)
F4 = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    """Options of `apply`."""

    rows: str
    sides: str
    background: str
    smoothing: int
    by_output: bool

    def check(self, product: Product | None) -> None:
        """See that all is known, and there is a product for what needs one."""
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise OptionError(
                    f"there is no such correction: {value}", where=name, expected=", ".join(known), got=value
                )
            if value in ("optimal", "fourier") and product is None:
                raise OptionError(
                    f"{name}={value} needs what was measured", where=name, do="give a product of measure"
                )
        if self.smoothing < 1:
            raise OptionError("a running median is of one row or more", where="smoothing", got=self.smoothing)


def corrected(
    data: F4,
    dq: Any,
    clock: Clock,
    border: Border,
    choice: Correction,
    product: Product | None,
) -> tuple[F4, list[str]]:
    """Images with their noise taken off, and what could not be done.

    Parameters
    ----------
    data : array of float32 (..., rows, cols)
    dq : array of uint32 (rows, cols) or None
    border : Border
        In the order of readout.
    """
    if tuple(data.shape[-2:]) != clock.shape:
        raise SelectionError(
            "the clock is of another size than the image", expected=clock.shape, got=tuple(data.shape[-2:])
        )
    out, notes = np.array(data, np.float32), missing(border, choice)
    flags = np.zeros(clock.shape, np.uint32) if dq is None else np.asarray(dq)
    bad = np.ascontiguousarray(clock.raw((flags & UNSTABLE) != 0))
    for image in out.reshape(-1, *clock.shape):
        plane = np.array(clock.raw(image))
        _correct(plane, bad, clock, border, choice, product)
        image[:] = clock.image(plane)
    return out, notes


def missing(border: Border, choice: Correction) -> list[str]:
    """What the image has no pixels for."""
    notes = []
    if choice.rows != "none" and not border.bottom + border.top:
        notes.append("no reference rows: levels of outputs were not taken off")
    if choice.sides != "none" and not border.left + border.right:
        notes.append("no reference columns: rows were not corrected by them")
    return notes


def _correct(
    plane: F4, bad: NDArray[np.bool_], clock: Clock, border: Border, choice: Correction, product: Any
) -> None:
    if choice.rows != "none" and border.bottom + border.top > 0:
        reference_rows(plane, bad, clock, border, parity=choice.rows == "parity")
    if choice.sides != "none" and border.left + border.right:
        if choice.sides == "median":
            plane -= running_median(plane, bad, border, choice.smoothing)[:, None]
        else:
            optimal(plane, bad, clock, border, product.tables["weights"])
    if choice.background != "none":
        left, good = residual(plane, bad, border)
        if choice.background == "median":
            plane -= row_medians(left, good, clock, choice.by_output)
        else:
            plane -= fourier(left, good, clock, product)


def reference_rows(plane: F4, bad: NDArray[np.bool_], clock: Clock, border: Border, *, parity: bool) -> None:
    """Take the mean of the reference rows off, of each output, and of even and odd columns, in place.

    Values beyond 3 sigma do not count; the mean is that of the sides at the bottom and at the top, one each.
    """
    for block, wrong in zip(clock.blocks(plane), clock.blocks(bad), strict=True):
        for columns in (slice(0, None, 2), slice(1, None, 2)) if parity else (slice(None),):
            levels = []
            for rows in (slice(0, border.bottom), slice(len(block) - border.top, None)):
                values = block[rows, columns][~wrong[rows, columns]]
                values = values[np.isfinite(values)]
                if values.size:
                    levels.append(float(clipped_stats(values, sigma=3.0).mean))
            if levels:
                block[:, columns] -= np.float32(np.mean(levels))


def running_median(plane: F4, bad: NDArray[np.bool_], border: Border, smoothing: int) -> F4:
    """Median of the reference columns over `smoothing` rows, mean of the two sides, (rows,), adu."""
    found = []
    before = (smoothing - 1) // 2
    for columns in (slice(0, border.left), slice(plane.shape[1] - border.right, None)):
        values = np.where(bad[:, columns], np.nan, plane[:, columns])
        if values.shape[1] == 0 or not np.isfinite(values).any():
            continue
        padded = np.pad(values, ((before, smoothing - 1 - before), (0, 0)), constant_values=np.nan)
        window = np.lib.stride_tricks.sliding_window_view(padded, smoothing, axis=0)
        window = window.reshape(len(plane), -1)
        empty = ~np.isfinite(window).any(axis=1)
        window = np.where(empty[:, None], np.nanmedian(values), window)
        found.append(np.nanmedian(window, axis=1))
    return np.asarray(np.mean(found, axis=0) if found else np.zeros(len(plane)), np.float32)


def optimal(
    plane: F4,
    bad: NDArray[np.bool_],
    clock: Clock,
    border: Border,
    weights: Table,
) -> None:
    """Take off what the reference columns foretell of each output by the weights of each frequency, in place.

    Their level is taken off whole: that of a few reference rows is not that of all rows.

    Parameters
    ----------
    weights : table
        ``output, stream, frequency [Hz], real, imaginary``.
    """
    names = stream_names(border)
    if set(names) != set(map(str, np.unique(weights["stream"]))):
        raise SelectionError(
            "the weights are of other reference columns", expected=", ".join(names),
            got=", ".join(map(str, np.unique(weights["stream"]))), do="measure with images of this kind",
        )  # fmt: skip
    known = np.where(bad, np.nan, plane)
    series = streams(known, border)
    sides = [known[:, : border.left], known[:, plane.shape[1] - border.right :]]
    plane -= np.float32(np.mean([np.nanmedian(side) for side in sides if np.isfinite(side).any()] or [0.0]))
    rows = slice(border.bottom, plane.shape[0] - border.top)
    foretold = filtered(series, weights, names, clock)
    for block, one in zip(clock.blocks(plane), foretold, strict=True):
        block[rows] -= one[:, None].astype(np.float32)


def filtered(series: F4, weights: Table, names: tuple[str, ...], clock: Clock) -> Floats:
    """What streams foretell of the outputs, (outputs, rows): multiplied in frequency, ends mirrored."""
    n = series.shape[1]
    margin = n // 2
    padded = np.pad(series.astype(np.float64), ((0, 0), (margin, margin)), mode="symmetric")
    length = padded.shape[1]
    spectra = scipy.fft.rfft(padded, axis=1)
    frequency = np.fft.rfftfreq(length, 1 / clock.row_frequency)
    found = np.zeros((clock.outputs, len(frequency)), np.complex128)
    for output in range(clock.outputs):
        for stream, spectrum in zip(names, spectra, strict=True):
            these = (weights["output"] == output + 1) & (weights["stream"] == stream)
            at, real, imaginary = (weights[name][these] for name in ("frequency", "real", "imaginary"))
            found[output] += spectrum * (
                np.interp(frequency, at, real) + 1j * np.interp(frequency, at, imaginary)
            )
    return np.asarray(scipy.fft.irfft(found, length, axis=1)[:, margin : margin + n])
