"""Slice and wavelength maps that lie in image files, and tables of resolving power."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError
from calibrant.files.header import Contents, inspect
from calibrant.files.source import FitsSource
from calibrant.files.tables import read_table
from calibrant.instrument.slicer import Resolution
from calibrant.instrument.slices import SliceMap

IDS = ("REGIONS", "SLICE_NUMBER", "SLICE", "SLICEMAP")
PLANES = {
    "alpha": ("ALPHA", "ALPHAMAP"),
    "beta": ("BETA", "BETAMAP"),
    "wavelength": ("WAVELENGTH", "WAVE", "LAMBDA", "LAMBDAMAP"),
}
QUADRATIC = 3


def read_slice_planes(path: str | Path, *, level: int = 0, dispersion: str = "rows") -> SliceMap | None:
    """The slices that a file itself maps; None if it maps none.

    Parameters
    ----------
    level : int
        Which plane of a cube of slices counts: those of several throughputs, the lowest first.
    dispersion : str
        ``rows`` or ``cols``.

    Returns
    -------
    SliceMap or None
        Of the units REGIONS or SLICE, with WAVELENGTH, ALPHA and BETA where they are there. Zeros of the
        wavelength mean that there is none.

    Raises
    ------
    FileError
        If the cube has no such plane.
    """
    contents = inspect(path)
    ids = _plane(contents, IDS)
    if ids is None:
        return None
    if ids.ndim > 2:
        if not 0 <= level < len(ids):
            raise FileError(
                "there is no such plane of slices",
                where=str(path),
                expected=f"0 to {len(ids) - 1}",
                got=level,
            )
        ids = ids[level]
    numbers: NDArray[np.int32] = ids.astype(np.int32)
    found = {what: _plane(contents, names) for what, names in PLANES.items()}
    wavelength = found["wavelength"]
    lit = numbers > 0 if wavelength is None else (numbers > 0) & (wavelength > 0)
    planes = {
        what: None if plane is None else np.where(lit, plane.astype(np.float64), np.nan)
        for what, plane in found.items()
    }
    return SliceMap(
        numbers, planes["alpha"], planes["beta"], planes["wavelength"], dispersion, name=Path(path).name
    )


def read_resolution(path: str | Path, row: int) -> Resolution:
    """The resolving power of one band of a table: name, wavelength, then quadratics for low, high and mean.

    Parameters
    ----------
    row : int
        Of the band, from 0: 1A, 1B, 1C, 2A ...

    Raises
    ------
    FileError
        If there is no such table or row.
    """
    contents = inspect(path)
    table = next((unit for unit in contents.hdus if unit.is_table), None)
    columns = [] if table is None else list(read_table(contents, table).values())
    numbers = [np.asarray(column, np.float64) for column in columns if column.dtype.kind in "fiu"]
    if len(numbers) < 1 + QUADRATIC or not 0 <= row < len(numbers[0]):
        raise FileError(
            "this is no table of resolving powers, or it lacks the row",
            where=str(path),
            expected="a wavelength and quadratics for each band",
            got=f"{len(numbers)} columns of numbers; row {row}",
        )
    at, *rest = (float(column[row]) for column in numbers)
    return Resolution(at, tuple(rest[-QUADRATIC:]))


def _plane(contents: Contents, names: tuple[str, ...]) -> NDArray[Any] | None:
    unit = next((one for name in names if (one := contents.find(name)) is not None and one.is_image), None)
    return None if unit is None else FitsSource.of(contents, unit).load()
