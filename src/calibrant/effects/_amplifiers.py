"""The amplifiers of prepared exposures: where their pixels lie, and reading them with flags as NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import Assembly, turns, window
from calibrant.effects.common import Wrapping
from calibrant.exposures import Exposures
from calibrant.frame import DQ
from calibrant.instrument import Readout
from calibrant.instrument.sections import Section
from calibrant.stack.source import Source, decode

UNUSABLE = DQ.DO_NOT_USE | DQ.SATURATED
BACKWARDS = {"lower-left": (False, False), "lower-right": (False, True), "upper-left": (True, False)}


@dataclass(frozen=True)
class Region:
    """The pixels of one amplifier in the image that a Source of the exposures gives.

    Attributes
    ----------
    name : str
        Empty for the whole image of a single nameless amplifier.
    window : Section
        Rows, columns of the image, ascending, with given ends.
    order : Section
        Slices that turn `window` so that the pixel read first is [0, 0].
    readout : Readout
        Nominal values and raw sections.
    """

    name: str
    window: Section
    order: Section
    readout: Readout

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns of the amplifier."""
        rows, cols = self.window
        return rows.stop - rows.start, cols.stop - cols.start

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """The amplifier's pixels, (rows, cols), as a view, as they lie in the image."""
        return image[(..., *self.window)]

    def in_order(self, image: NDArray[Any]) -> NDArray[Any]:
        """The amplifier's pixels as a view, the first one that is read at [0, 0]."""
        return self.of(image)[(..., *self.order)]


def regions(exposures: Exposures) -> tuple[Region, ...]:
    """The amplifiers of the images that `exposures.sources()` give, assembled if a step does that.

    Raises
    ------
    ShapeError
        If the amplifiers do not tile the image.
    SelectionError
        No exposures.
    """
    raw = exposures.shape[-2], exposures.shape[-1]
    readouts = exposures.instrument.readouts(exposures[0])
    assembly = Assembly.of(readouts, raw)
    assembled = any(isinstance(step, Wrapping) for step in exposures.steps)
    found = []
    for readout, amp in zip(readouts, assembly.amplifiers, strict=True):
        order = in_order(amp.place, readout.corner)
        if assembled:
            found.append(Region(amp.name, window(amp.place, assembly.shape), order, readout))
        else:
            found.append(Region(amp.name, window(amp.data, raw), _unturned(order, amp.place), readout))
    return tuple(found)


def _unturned(order: Section, place: Section) -> Section:
    """The order in the raw image: what is turned when it is put in its place was read the right way round."""
    rows, cols = (
        slice(None, None, -1 if (way.step == -1) != (axis.step == -1) else None)
        for way, axis in zip(order, place, strict=True)
    )
    return rows, cols


def in_order(section: Section, corner: str) -> Section:
    """Slices that turn an amplifier so that the pixel read first is [0, 0].

    From the corner that the instrument file states, or from a section that runs backwards.
    """
    rows, cols = turns(section)
    up, left = BACKWARDS.get(corner, (True, True))
    return (
        slice(None, None, -1 if rows.step == -1 or up else None),
        slice(None, None, -1 if cols.step == -1 or left else None),
    )


def read(source: Source, rows: slice | None = None, saturation: float | None = None) -> NDArray[np.float32]:
    """Rows of an image, float32 in the unit of the source; NaN where flagged unusable or saturated.

    Parameters
    ----------
    source : Source
    rows : slice, optional
        All of them if not given; ends must be given.
    saturation : float, optional
        In the unit of the source: values from which on a pixel is left out.
    """
    rows = slice(0, source.shape[0]) if rows is None else rows
    shape = rows.stop - rows.start, source.shape[1]
    raw = np.empty(shape, np.dtype(source.encoding.dtype))
    dq = np.zeros(shape, np.uint32) if source.has_dq else None
    source.read_into(rows, raw, dq)
    values: NDArray[np.float32] = decode(raw, source.encoding).astype(np.float32)
    if dq is not None:
        values[(dq & np.uint32(UNUSABLE)) != 0] = np.nan
    if saturation is not None:
        values[values >= saturation] = np.nan
    return values
