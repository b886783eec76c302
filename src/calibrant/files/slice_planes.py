"""Slice and wavelength maps that lie in image files, and tables of resolving power."""

from __future__ import annotations

from collections.abc import Callable
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
TEXTS = (".txt", ".csv", ".dat")
F8 = NDArray[np.float64]


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


def read_resolution(path: str | Path, band: int | str) -> Callable[[F8], F8]:
    """The resolving power of one band, from a table.

    Parameters
    ----------
    path : path
        FITS: a row for each band: its name, a wavelength [um], and quadratics in the distance from it, of
        which the last three columns are the mean. Text: columns of wavelength [um] and resolving power.
    band : int or str
        Row, from 0; or name of the band. Text holds one band, whatever its name.

    Returns
    -------
    callable
        Wavelengths [um] -> resolving powers, float64, of their shape.

    Raises
    ------
    FileError
        If there is no such table or band.
    """
    if Path(path).suffix.lower() in TEXTS:
        return _from_text(Path(path))
    contents = inspect(path)
    table = next((unit for unit in contents.hdus if unit.is_table), None)
    columns = [] if table is None else list(read_table(contents, table).values())
    numbers = [np.asarray(column, np.float64) for column in columns if column.dtype.kind in "fiu"]
    names = [str(name).strip() for column in columns[:1] if column.dtype.kind in "US" for name in column]
    row = names.index(band) if band in names else band
    if len(numbers) < 1 + QUADRATIC or not isinstance(row, int) or not 0 <= row < len(numbers[0]):
        raise FileError(
            "this is no table of resolving powers, or it lacks the band",
            where=str(path),
            expected=f"one of {', '.join(names)}" if names else "a wavelength and quadratics for each band",
            got=f"band {band or 'unknown'} of {len(numbers)} columns of numbers",
        )
    at, *rest = (float(column[row]) for column in numbers)
    return Resolution(at, tuple(rest[-QUADRATIC:]))


def _from_text(path: Path) -> Callable[[F8], F8]:
    try:
        lines = path.read_text(encoding="utf-8").replace(",", " ").splitlines()
        pairs = [[float(word) for word in line.split()[:2]] for line in lines if line.strip()[:1].isdigit()]
        wave, power = np.array(sorted(pairs), np.float64).T
    except FileNotFoundError:
        raise FileError("there is no such file", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise FileError(
            "no table of resolving powers can be read",
            where=str(path),
            expected="lines of a wavelength in um and a resolution",
            got=error,
        ) from None

    def resolving(wavelength: F8) -> F8:
        return np.asarray(np.interp(wavelength, wave, power), np.float64)

    return resolving


def _plane(contents: Contents, names: tuple[str, ...]) -> NDArray[Any] | None:
    unit = next((one for name in names if (one := contents.find(name)) is not None and one.is_image), None)
    return None if unit is None else FitsSource.of(contents, unit).load()
