"""Slices of an image slicer, orders of an echelle, fibres: which pixel belongs to which, and what it sees.

Whatever runs along the detector is told by one axis, ``dispersion``; who works on slices asks for views in
which wavelength runs along axis 0 (`SliceMap.upright`), and is then tied to no instrument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

from calibrant.errors import OptionError, SelectionError, ShapeError

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
AXES = {"rows": 0, "cols": 1}


@dataclass(frozen=True, eq=False)
class SliceMap:
    """Which slice each pixel belongs to, and where it looks.

    Attributes
    ----------
    ids : ndarray
        int32, (rows, cols): number of the slice; 0 in gaps between slices, negative where there is light that
        belongs to no slice.
    alpha, beta : ndarray or None
        float64, (rows, cols): position along and across slices, arcsec; NaN where there is no slice.
    wavelength : ndarray or None
        float64, (rows, cols), micrometres; NaN where there is none.
    dispersion : str
        ``rows`` if wavelength runs from row to row, ``cols`` if from column to column.
    reference : ndarray or None
        bool, (rows, cols): pixels that are blind, and so neither slice nor gap.
    name : str
        For messages: the band, or the file it came from.
    """

    ids: NDArray[np.int32]
    alpha: F8 | None = None
    beta: F8 | None = None
    wavelength: F8 | None = None
    dispersion: str = "rows"
    reference: Bools | None = None
    name: str = "slice map"

    def __post_init__(self) -> None:
        if self.dispersion not in AXES:
            raise OptionError(
                "unknown direction of dispersion",
                where=self.name,
                expected="rows or cols",
                got=self.dispersion,
            )
        if self.ids.ndim != 2:
            raise ShapeError("a slice map has two axes", where=self.name, got=self.ids.shape)
        for what in ("alpha", "beta", "wavelength", "reference"):
            plane = getattr(self, what)
            if plane is not None and plane.shape != self.ids.shape:
                raise ShapeError(
                    f"the {what} map does not fit the slices",
                    where=self.name,
                    expected=self.ids.shape,
                    got=plane.shape,
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.ids.shape[0], self.ids.shape[1]

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the slices in the order in which they lie across the detector."""
        upright = self.upright(self.ids)
        found = [int(number) for number in np.unique(upright) if number > 0]
        cols = np.arange(upright.shape[1])
        inside = {n: np.count_nonzero(upright == n, axis=0) for n in found}
        return tuple(sorted(found, key=lambda n: float(cols @ inside[n] / inside[n].sum())))

    def upright(self, plane: NDArray[Any]) -> NDArray[Any]:
        """A view of a plane (..., rows, cols) in which wavelength runs along the rows."""
        return plane if self.dispersion == "rows" else np.swapaxes(plane, -1, -2)

    def turned(self) -> SliceMap:
        """The map with wavelength along the rows: views, no copies."""
        return self if self.dispersion == "rows" else self.transposed()

    def transposed(self) -> SliceMap:
        """The map with rows and columns exchanged: views, no copies."""
        return SliceMap(
            ids=self.ids.T,
            alpha=None if self.alpha is None else self.alpha.T,
            beta=None if self.beta is None else self.beta.T,
            wavelength=None if self.wavelength is None else self.wavelength.T,
            dispersion="cols" if self.dispersion == "rows" else "rows",
            reference=None if self.reference is None else self.reference.T,
            name=self.name,
        )

    def mask(self, number: int) -> Bools:
        """Pixels of one slice, (rows, cols).

        Raises
        ------
        SelectionError
            If there is no such slice.
        """
        if number not in self.numbers:
            raise SelectionError(
                "there is no such slice",
                where=self.name,
                expected=", ".join(map(str, self.numbers)),
                got=str(number),
            )
        inside: Bools = self.ids == number
        return inside

    def light(self) -> Bools:
        """Pixels that see light: those of slices, and those with a negative number; (rows, cols)."""
        lit: Bools = self.ids != 0
        return lit

    def gaps(self, margin: int = 0) -> Bools:
        """Pixels between slices, at least `margin` pixels across from any light; (rows, cols).

        Blind pixels are none of them.
        """
        light = self.light()
        if margin > 0:
            across = np.ones((1, 2 * margin + 1) if self.dispersion == "rows" else (2 * margin + 1, 1), bool)
            light = binary_dilation(light, across)
        return ~light if self.reference is None else ~(light | self.reference)

    def gap_numbers(self, margin: int = 0) -> NDArray[np.int32]:
        """Each gap with a number from 1 on, in order across the detector; 0 elsewhere; (rows, cols)."""
        numbers, count = label(self.upright(self.gaps(margin)), np.ones((3, 3)))
        if count:
            cols = np.broadcast_to(np.arange(numbers.shape[1]), numbers.shape)
            inside = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
            place = np.bincount(numbers.ravel(), cols.ravel(), count + 1)[1:] / inside
            order = np.zeros(count + 1, np.int32)
            order[1 + np.argsort(place)] = np.arange(1, count + 1)
            numbers = order[numbers]
        return self.upright(numbers.astype(np.int32))

    def within(self, number: int) -> F8:
        """Place of each pixel across its slice, from 0 to 1 at its edges; NaN outside; (rows, cols)."""
        upright = self.upright(self.mask(number))
        cols = np.arange(upright.shape[1])
        width = upright.sum(axis=1)
        first = np.where(width > 0, upright.argmax(axis=1), 0)
        place = (cols - first[:, None] + 0.5) / np.maximum(width, 1)[:, None]
        return self.upright(np.where(upright, place, np.nan))

    def check_fits(self, shape: Sequence[int], name: str) -> None:
        """Refuse an image of another size.

        Raises
        ------
        ShapeError
            If the last two axes of `shape` are not those of the map.
        """
        if tuple(shape[-2:]) != self.shape:
            raise ShapeError(
                "the slice map does not fit the image",
                where=name,
                expected=f"{self.shape[0]} x {self.shape[1]}, as {self.name}",
                got=" x ".join(map(str, shape)),
                do="give the map of the same detector, without binning or trimming",
            )


@dataclass(frozen=True)
class Line:
    """The middle of one slice by polynomials in u, -1 at the first and 1 at the last row of the dispersion.

    Attributes
    ----------
    centre : tuple of float
        Column where alpha is 0: c0 + c1 u + c2 u^2 ...
    wavelength : tuple of float
        Micrometres, along the centre.
    width : float
        Columns.
    scale : float
        Alpha per column, arcsec; negative where alpha falls.
    smile : tuple of float
        Rows by which a line of one wavelength rises from column to column, at u = -1, 0 and 1.
    beta : float
        Arcsec.
    limit : float or None
        Largest |alpha| of the slice, arcsec; None: half the width.
    """

    centre: tuple[float, ...]
    wavelength: tuple[float, ...]
    width: float
    scale: float
    smile: tuple[float, ...] = (0.0, 0.0, 0.0)
    beta: float = 0.0
    limit: float | None = None


def slice_map(
    lines: Mapping[int, Line],
    shape: tuple[int, int],
    *,
    dispersion: str = "rows",
    blind: int = 0,
    name: str = "slice map",
) -> SliceMap:
    """The maps of slices that are known by their middle.

    Parameters
    ----------
    lines : mapping
        Number of the slice -> its `Line`.
    shape : tuple of int
        Rows, columns of the detector.
    dispersion : str
        ``rows`` or ``cols``.
    blind : int
        Reference pixels at both ends of each line across the slices.

    Returns
    -------
    SliceMap
        A pixel belongs to a slice where its centre lies within the limit of alpha.
    """
    rows, cols = shape if dispersion == "rows" else shape[::-1]
    ids = np.zeros((rows, cols), np.int32)
    planes = {what: np.full((rows, cols), np.nan) for what in ("alpha", "beta", "wavelength")}
    row, x = np.arange(rows, dtype=np.float64), np.arange(cols, dtype=np.float64)
    middle = (rows - 1) / 2
    u = (row - middle) / (middle + 0.5)
    for number, line in lines.items():
        away = x - np.polynomial.polynomial.polyval(u, line.centre)[:, None]
        alpha = line.scale * away
        limit = 0.5 * line.width * abs(line.scale) if line.limit is None else line.limit
        here = np.abs(alpha) < limit
        slope = np.interp(u, (-1.0, 0.0, 1.0), line.smile)[:, None]
        at = (row[:, None] - slope * away - middle) / (middle + 0.5)
        ids[here] = number
        planes["alpha"][here] = alpha[here]
        planes["beta"][here] = line.beta
        planes["wavelength"][here] = np.polynomial.polynomial.polyval(at, line.wavelength)[here]
    reference = np.zeros((rows, cols), bool)
    if blind:
        reference[:, :blind] = reference[:, -blind:] = True
        ids[reference] = 0
    upright = SliceMap(
        ids, planes["alpha"], planes["beta"], planes["wavelength"], reference=reference, name=name
    )
    return upright if dispersion == "rows" else upright.transposed()
