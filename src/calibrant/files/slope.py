"""Slope images of test campaigns (LVL2): a cube of the slope, its standard deviation, and flags."""

from __future__ import annotations

from dataclasses import dataclass

from calibrant.errors import FileError
from calibrant.files.header import inspect
from calibrant.files.layouts import ErrorPlane, FlagPlane
from calibrant.files.source import FitsSource
from calibrant.frame import Exposure, Frame

PLANES = (2, 3)
"""Numbers of planes that such a cube has."""


@dataclass(frozen=True, eq=False)
class SlopePlanes:
    """The planes of one slope image in a file; no pixel is read yet.

    Attributes
    ----------
    data : FitsSource
        Slope, (rows, cols).
    error : FitsSource
        Its standard deviation, of the same unit.
    flags : FitsSource or None
        Not zero where a pixel is bad.
    cards : str
        The header.
    """

    data: FitsSource
    error: FitsSource
    flags: FitsSource | None
    cards: str

    def frame(self, unit: str) -> Frame:
        """The image with its variance; both stay in the file until they are asked for."""
        return Frame(
            data=self.data,
            variance=ErrorPlane(self.error, "sigma"),
            dq=None if self.flags is None else FlagPlane(self.flags, mask=True),
            unit=unit,
            exposure=Exposure(shape=self.data.shape, path=self.data.name),
            header=self.cards,
        )


def slope_planes(path: str, hdu: int | str | None = None) -> SlopePlanes | None:
    """The planes of a slope image; None if the file is a plain image, or has its errors in other units.

    Raises
    ------
    FileError
        If the file cannot be used, or its cube has another number of planes.
    """
    contents = inspect(path)
    unit = contents.image(hdu)
    if len(unit.shape) != 3:
        return None
    if unit.shape[0] not in PLANES:
        raise FileError(
            "the cube is no slope image",
            where=path,
            expected="planes of slope, uncertainty and, if there are three, flags",
            got=f"{unit.shape[0]} planes",
        )
    cube = FitsSource.of(contents, unit)
    flags = cube.plane(2) if unit.shape[0] == max(PLANES) else None
    return SlopePlanes(cube.plane(0), cube.plane(1), flags, contents.header(unit.index).cards)
