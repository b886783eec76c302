"""Unlit pixels of a frame, and the level they stand at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._levels import spread
from calibrant.errors import ShapeError
from calibrant.stats import MAD_TO_STD

Mask = NDArray[np.bool_]
WARM = 8.0  # sigmas: pixels of the dark above this scale with temperature and say nothing of the level
ROW_LIMIT = 2.0  # sigmas of a row's level above the unlit level
RUN = 5  # rows
FLAT_UNLIT = 0.1  # of the flat's level: behind the jaws of a slit, or under a mask
EVEN = 1.12  # noise over white noise; the dark's own pattern noise has no structure
FEWEST = 500  # pixels; fewer set no level


@dataclass(frozen=True)
class Level:
    """The level of the unlit pixels of one frame.

    Attributes
    ----------
    value, sigma : float
        Clipped mean and its standard uncertainty, adu. `sigma` covers the scatter from row to row.
    noise : float
        Standard deviation of one pixel, adu.
    white : float
        The same from differences of neighbours in a row, blind to structure, adu.
    fraction : float
        Of the pixels that were taken as unlit.
    """

    value: float
    sigma: float
    noise: float
    white: float
    fraction: float

    @property
    def even(self) -> bool:
        """Whether the pixels scatter as noise does: light that reaches them makes gradients and edges."""
        return self.noise <= EVEN * self.white


def unlit_level(residual: NDArray[Any], unlit: Mask | None = None, cool: Mask | None = None) -> Level:
    """Level of a frame whose dark pattern was subtracted.

    Parameters
    ----------
    residual : ndarray
        Frame minus the dark's pattern, adu, (rows, cols).
    unlit : ndarray of bool, optional
        Pixels that no light reaches; if not given, the darkest rows are found.
    cool : ndarray of bool, optional
        Pixels without much dark current; all if not given.

    Raises
    ------
    ShapeError
        If fewer than 500 pixels are left.
    """
    use = np.isfinite(residual) if cool is None else cool & np.isfinite(residual)
    if unlit is not None:
        use = use & unlit
    else:
        use = use & darkest_rows(np.where(use, residual, np.nan))[:, None]
    found = spread(residual[use])
    if found.count < FEWEST:
        raise ShapeError(
            "too few unlit pixels to find the level of the frame",
            expected=f"at least {FEWEST}",
            got=found.count,
            do="name a larger unlit region",
        )
    rows = _row_levels(np.where(use, residual, np.nan))
    rows = rows[np.isfinite(rows)]
    sigma = found.std / math.sqrt(found.count)
    if rows.size > 3:
        sigma = max(sigma, float(np.std(rows, ddof=1)) / math.sqrt(rows.size))
    pairs = np.diff(residual, axis=1)[use[:, 1:] & use[:, :-1]]
    white = spread(pairs).std / math.sqrt(2.0)
    return Level(found.mean, sigma, found.std, white, float(use.mean()))


def darkest_rows(residual: NDArray[Any]) -> NDArray[np.bool_]:
    """The rows at the lowest level that a run of rows agrees upon, (rows,).

    From the lowest running mean of 5 rows on, the level is the median of all rows below it and up to 2 sigma
    above, until nothing changes. The lowest of many noisy rows alone would lie too low; a limit on both sides
    would creep up into faintly lit rows. In a frame that is unlit everywhere this ends with nearly all rows.
    """
    rows = _row_levels(residual)
    known = np.isfinite(rows)
    if known.sum() < RUN:
        return known
    steps = np.diff(rows[known])
    sigma = max(MAD_TO_STD * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2), 1e-6)
    level = float(np.convolve(rows[known], np.full(RUN, 1 / RUN), mode="valid").min()) + sigma / math.sqrt(
        RUN
    )
    filled = np.where(known, rows, np.inf)
    taken = filled <= level + ROW_LIMIT * sigma
    for _ in range(50):
        level = float(np.median(rows[taken]))
        now = filled <= level + ROW_LIMIT * sigma
        if (now == taken).all():
            break
        taken = now
    return taken


def _row_levels(residual: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of each row within 4 sigma of its median; NaN where a row has no pixel."""
    out = np.full(residual.shape[0], np.nan)
    good = np.isfinite(residual).any(axis=1)
    if not good.any():
        return out
    values = residual[good].astype(np.float64)
    centred = values - np.nanmedian(values, axis=1)[:, None]
    limit = 4.0 * max(MAD_TO_STD * float(np.nanmedian(np.abs(centred))), 0.5)
    out[good] = np.nanmean(np.where(np.abs(centred) <= limit, values, np.nan), axis=1)
    return out


def cool_pixels(dark: NDArray[Any]) -> Mask:
    """Pixels of a dark without much dark current: not above 8 sigma of its own distribution, (rows, cols)."""
    centre = float(np.nanmedian(dark))
    width = max(MAD_TO_STD * float(np.nanmedian(np.abs(dark - centre))), 0.5)
    cool: Mask = dark <= centre + WARM * width
    return cool


def unlit_by_flat(flat: NDArray[Any], limit: float = FLAT_UNLIT, margin: int = 2) -> Mask | None:
    """Pixels that a flat shows to lie in the dark; None where it shows fewer than 500.

    Parameters
    ----------
    flat : ndarray
        Normalised flat, (rows, cols), dimensionless; NaN and values at the floor count as unlit.
    limit : float
        Fraction of the median below which a pixel is unlit.
    margin : int
        Pixels that a lit one keeps its neighbours from counting as unlit, for the wings of edges.
    """
    lit = np.nan_to_num(flat, nan=0.0) > limit * float(np.nanmedian(flat))
    for axis in (0, 1):
        near = lit.copy()
        for step in range(1, margin + 1):
            near |= _shifted(lit, step, axis) | _shifted(lit, -step, axis)
        lit = near
    return None if (~lit).sum() < FEWEST else ~lit


def _shifted(mask: Mask, step: int, axis: int) -> Mask:
    out = np.zeros_like(mask)
    source, target = [slice(None)] * 2, [slice(None)] * 2
    source[axis], target[axis] = (
        (slice(None, -step), slice(step, None))
        if step > 0
        else (
            slice(-step, None),
            slice(None, step),
        )
    )
    out[tuple(target)] = mask[tuple(source)]
    return out
