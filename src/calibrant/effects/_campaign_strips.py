"""The pixels of one slice and of the gaps beside it, in the slice's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from calibrant.errors import SelectionError
from calibrant.instrument.slices import SliceMap

WINGS = 3  # pixels beside a slice that still see its light
LEAST = 5  # pixels that a row of a slice must have
SMOOTH = 4  # degree of polynomials along the dispersion, of what a map tells row by row
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Strip:
    """Pixels of a slice and its wings, wavelength along the rows; n pixels.

    Attributes
    ----------
    number : int
    row, col : ndarray
        int64, (n,).
    across : ndarray
        float64, (n,): columns from the middle of the slice, stretched to one scale along the slice.
    along : ndarray
        float64, (n,): row in which the middle of the slice has the pixel's wavelength.
    inside : ndarray
        bool, (n,): whether the pixel belongs to the slice, not to a gap.
    wavenumber : ndarray or None
        float64, (rows,): along the middle, 1/cm; None if the map has no wavelengths.
    rows : int
        Of the detector along the dispersion.
    """

    number: int
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    across: F8
    along: F8
    inside: Bools
    wavenumber: F8 | None
    rows: int


def strip(slices: SliceMap, number: int) -> Strip:
    """The pixels of one slice of a map whose wavelength runs along the rows.

    Raises
    ------
    SelectionError
        If wavelengths of a slice rise and fall, or the slice has hardly any row.
    """
    own: Bools = slices.ids == number
    rows = np.flatnonzero(own.sum(axis=1) >= LEAST)
    if len(rows) <= SMOOTH:
        raise SelectionError("a slice has hardly any pixels", where=f"slice {number} of {slices.name}")
    near = binary_dilation(own, np.ones((1, 2 * WINGS + 1), bool)) & slices.gaps()
    near[np.setdiff1d(np.arange(len(own)), rows)] = False
    kept = own.copy()
    kept[np.setdiff1d(np.arange(len(own)), rows)] = False
    row, col = np.nonzero(kept | near)
    centre, scale = _middle(slices, own, rows)
    away = col - centre[row]
    along, wavenumber = row.astype(np.float64), None
    if slices.wavelength is not None:
        middle, slope = _lines(slices.wavelength, own, rows, centre)
        if not _one_way(slices.wavelength, own):
            raise SelectionError(
                "wavelengths along a slice rise and fall",
                where=f"slice {number} of {slices.name}",
                expected="one direction",
                do="leave the slice out, or correct its map",
            )
        along = _rows_of(slices.wavelength[row, col], middle[row] + slope[row] * away, own[row, col], middle)
        with np.errstate(divide="ignore"):
            wavenumber = 1e4 / middle
    return Strip(number, row, col, away * scale[row], along, own[row, col], wavenumber, len(own))


def _one_way(wavelength: F8, own: Bools) -> bool:
    """Whether wavelengths of a slice rise in all columns, or fall; 0 and NaN are no wavelengths."""
    with np.errstate(invalid="ignore"):
        known = own & (wavelength > 0)
        steps = np.diff(wavelength, axis=0)[known[1:] & known[:-1]]
    return bool(np.all(steps > 0) or np.all(steps < 0))


def _rows_of(told: F8, straight: F8, inside: Bools, middle: F8) -> F8:
    """Row in which the middle has the wavelength of the map, or beside the slice that of a straight line.

    Beyond the first and last row the scale is that at the end.
    """
    rows = np.arange(len(middle), dtype=np.float64)
    order = 1 if middle[-1] > middle[0] else -1
    wave = np.where(inside & np.isfinite(told) & (told > 0), told, straight)
    found: F8 = np.interp(order * wave, order * middle[::order], rows[::order])
    for end, beyond in ((0, order * wave < order * middle[0]), (-1, order * wave > order * middle[-1])):
        step = middle[1] - middle[0] if end == 0 else middle[-1] - middle[-2]
        found[beyond] = rows[end] + (wave[beyond] - middle[end]) / step
    return found


def _middle(slices: SliceMap, own: Bools, rows: NDArray[np.int64]) -> tuple[F8, F8]:
    """Column of the middle of a slice, and its scale relative to the mean one; both (rows,)."""
    cols = np.broadcast_to(np.arange(own.shape[1], dtype=np.float64), own.shape)
    if slices.alpha is None:
        count = own.sum(axis=1)
        centre = np.where(own, cols, 0.0).sum(axis=1) / np.maximum(count, 1)
        return _smoothed(centre, rows, len(own)), np.ones(len(own))
    at_zero, slope = _lines(slices.alpha, own, rows, _smoothed_centre(cols, own, rows))
    scale = np.abs(slope) / np.abs(slope[rows]).mean()
    return _smoothed_centre(cols, own, rows) - at_zero / slope, scale


def _smoothed_centre(cols: F8, own: Bools, rows: NDArray[np.int64]) -> F8:
    count = own.sum(axis=1)
    return _smoothed(np.where(own, cols, 0.0).sum(axis=1) / np.maximum(count, 1), rows, len(own))


def _lines(plane: F8, own: Bools, rows: NDArray[np.int64], centre: F8) -> tuple[F8, F8]:
    """Value at `centre` and slope per column of a plane in each row of a slice, smooth along the rows."""
    good = own & np.isfinite(plane) & (plane != 0)
    value, slope = np.full(len(own), np.nan), np.full(len(own), np.nan)
    for row in rows:
        cols = np.flatnonzero(good[row])
        if len(cols) >= LEAST:
            slope[row], value[row] = np.polyfit(cols - float(centre[row]), plane[row, cols], 1).astype(
                np.float64
            )
    known = rows[np.isfinite(value[rows])]
    if len(known) <= SMOOTH:
        raise SelectionError("the map of a slice has no values", do="give a map with wavelengths, or none")
    return _smoothed(value, known, len(own)), _smoothed(slope, known, len(own))


def _smoothed(values: F8, rows: NDArray[np.int64], count: int) -> F8:
    u = 2 * np.arange(count) / max(count - 1, 1) - 1
    fitted = np.polynomial.polynomial.polyfit(u[rows], values[rows], SMOOTH)
    return np.asarray(np.polynomial.polynomial.polyval(u, fitted), np.float64)
