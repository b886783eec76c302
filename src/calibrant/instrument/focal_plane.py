"""The focal plane: where the detectors of a mosaic stand."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import Field, field_validator

from calibrant.errors import ConfigError
from calibrant.instrument.rules import Model

Gap = Annotated[int, Field(ge=0)]


class FocalPlane(Model):
    """Detectors side by side in rows, all of one size.

    Attributes
    ----------
    rows : list of list of str
        Names of the detectors: rows from the bottom, each from the left.
    gap : list of int
        Pixels between neighbours: between rows, between columns.
    pixel : float
        Side of a pixel, mm.
    """

    rows: tuple[tuple[str, ...], ...]
    gap: tuple[Gap, Gap] = (0, 0)
    pixel: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @field_validator("rows")
    @classmethod
    def _each_once(cls, rows: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
            raise ValueError("rows of a focal plane name detectors, as many in each row")
        name, count = Counter(name for row in rows for name in row).most_common(1)[0]
        if count > 1:
            raise ValueError(f"detector {name!r} stands in {count} places of the focal plane")
        return rows

    @property
    def names(self) -> tuple[str, ...]:
        """Detectors from the lower left: along the first row, then the next."""
        return tuple(name for row in self.rows for name in row)

    def where(self, name: str) -> tuple[int, int]:
        """Row and column of a detector, from the lower left.

        Raises
        ------
        ConfigError
            If it does not stand in the focal plane.
        """
        for index, row in enumerate(self.rows):
            if name in row:
                return index, row.index(name)
        raise ConfigError(
            f"the focal plane has no detector {name!r}", where="focal_plane", expected=", ".join(self.names)
        )

    def offset(
        self, name: str, shape: tuple[int, int], gap: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """First row and column of a detector in the mosaic.

        Parameters
        ----------
        shape : tuple of int
            Rows, columns of one assembled detector, binned as the mosaic is.
        gap : tuple of int, optional
            Rows, columns between neighbours in pixels of the mosaic; those of the camera if not given.

        Raises
        ------
        ConfigError
            If the detector does not stand in the focal plane.
        """
        (row, col), (between_rows, between_cols) = self.where(name), self.gap if gap is None else gap
        return row * (shape[0] + between_rows), col * (shape[1] + between_cols)

    def shape(self, shape: tuple[int, int], gap: tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows, columns of the mosaic; parameters as of `offset`."""
        first, second = self.offset(self.rows[-1][-1], shape, gap)
        return first + shape[0], second + shape[1]
