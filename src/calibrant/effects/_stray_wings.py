"""Light of the slices themselves that spills over their edges into the gaps, and is no stray light.

A slice of brightness A that ends at e shows ``A (1 + erf((e - x) / (sqrt(2) s))) / 2`` at x, for a blur of
sigma s. Edges lie anywhere between pixels: to set them at pixels' borders is an error of 10 % of A beside
a slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Bools = NDArray[np.bool_]
WIDEST = 2.5  # pixels, of sigma
REACH = 5.0  # sigmas
EVERY = 8  # rows: the blur is one number for all
INNER = 2  # pixels of a slice beside its edge, which tell what spills
LONG = 32  # rows of an edge that tell where it runs between pixels
BENDS = 4  # degree of its polynomial
STEP = 0.05  # pixels, of sigma: for its error
CLIP = 5.0


@dataclass(frozen=True, eq=False)
class Edges:
    """Where slices end: of each row of each edge its row, last column inside, and place.

    Attributes
    ----------
    row, col : ndarray
        int64.
    side : ndarray
        int64: 1 where the gap follows, -1 where it precedes.
    place : ndarray
        float64, columns: of the edge, within half a pixel of the border of its last pixel.
    """

    row: I8
    col: I8
    side: I8
    place: F8

    def every(self, step: int) -> Edges:
        """Of every `step` th row, numbered anew."""
        here = self.row % step == step // 2
        return Edges(self.row[here] // step, self.col[here], self.side[here], self.place[here])


def edges(inside: Bools) -> Edges:
    """The edges of slices, smooth along rows although pixels are not.

    Parameters
    ----------
    inside : ndarray
        bool, (rows, cols), wavelength along rows: pixels whose middle is in a slice.
    """
    found: list[tuple[I8, I8, I8, F8]] = []
    for side in (1, -1):
        last = inside & ~_beside(inside, side)
        marks = label(last, np.ones((3, 3), int))[0]
        for number, box in enumerate(find_objects(marks), 1):
            row, col = np.nonzero(marks[box] == number)
            row, col = row + box[0].start, col + box[1].start
            border = col + 0.5 * side
            place = border.astype(np.float64)
            if row.size >= LONG:
                at = 2 * (row - row[0]) / (row[-1] - row[0]) - 1
                poly = np.polynomial.polynomial
                place += np.clip(poly.polyval(at, poly.polyfit(at, border, BENDS)) - border, -0.5, 0.5)
            found.append((row, col, np.full(row.size, side), place))
    if not found:
        none = np.zeros(0, np.int64)
        return Edges(none, none, none, np.zeros(0))
    rows, cols, sides, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Edges(rows, cols, sides, places)


def _beside(inside: Bools, side: int) -> Bools:
    """Whether the next pixel is inside, too; at the border of the detector no edge is seen."""
    made = np.ones_like(inside)
    if side > 0:
        made[:, :-1] = inside[:, 1:]
    else:
        made[:, 1:] = inside[:, :-1]
    return made


def spill(light: F8, inside: Bools, ends: Edges, sigma: float) -> tuple[F8, F8]:
    """What a blur across the slices brings from them into the gaps, and how far that may be off.

    Parameters
    ----------
    light : ndarray
        float64, (rows, cols): as seen, without what is not from the slices.
    inside : ndarray
        bool: pixels of slices.
    ends : Edges
        Of `inside`.
    sigma : float
        Of the blur, pixels.

    Returns
    -------
    tuple of ndarray
        float64, (rows, cols), 0 inside slices. A is the mean of what the two pixels beside the edge say; the
        second is what is missing if that next to it is right.
    """
    made, doubt, cols = np.zeros(light.shape), np.zeros(light.shape), light.shape[1]
    bright: list[F8] = []
    for step in range(INNER):
        at = ends.col - step * ends.side
        seen = light[ends.row, np.clip(at, 0, cols - 1)]
        good = (at >= 0) & (at < cols) & np.isfinite(seen)
        bright.append(np.where(good, seen / ndtr((ends.place - at) * ends.side / sigma), np.nan))
    outer, inner = (np.where(np.isfinite(a), a, b) for a, b in (bright, bright[::-1]))
    mean, half = np.nan_to_num(0.5 * (outer + inner)), np.nan_to_num(0.5 * (outer - inner))
    for side in (1, -1):
        here = np.nonzero(ends.side == side)[0]
        for step in range(1, int(np.ceil(REACH * sigma)) + 1):
            at = ends.col[here] + step * side
            on = (at >= 0) & (at < cols)
            own, where = here[on], at[on]
            part = ndtr((ends.place[own] - where) * side / sigma)
            made[ends.row[own], where] += mean[own] * part  # an edge of a side has a pixel for itself
            doubt[ends.row[own], where] += half[own] * part
    made[inside] = doubt[inside] = 0.0
    return made, doubt


def blur(light: F8, inside: Bools, gaps: Bools, ends: Edges) -> tuple[float, float]:
    """The sigma, in pixels, that explains best how the gaps brighten towards the slices, and its error.

    Parameters
    ----------
    light, inside, ends : ndarray, ndarray, Edges
        As of `spill`; in the gaps what is seen there.
    gaps : ndarray
        bool: good pixels between slices.

    Returns
    -------
    tuple of float
        0, 0 if no blur explains more than none does. The error is from the scatter of gaps, and from what
        is in doubt of the light beside edges.
    """
    rows = slice(EVERY // 2, None, EVERY)
    light, inside, near, ends = light[rows], inside[rows], gaps[rows], ends.every(EVERY)
    near = near & (spill(np.ones(light.shape), inside, ends, WIDEST)[0] > 0)
    stretch = np.cumsum(np.diff(near.astype(np.int8), axis=1, prepend=0) == 1, axis=1)
    lane = (stretch + np.arange(len(near))[:, None] * (int(stretch.max(initial=0)) + 1))[near]
    if not lane.size:
        return 0.0, 0.0
    count = np.maximum(np.bincount(lane), 1)

    def left(sigma: float) -> F8:
        rest = light[near] - (spill(light, inside, ends, sigma)[0][near] if sigma > 0 else 0.0)
        # Each stretch of a row has a level of its own: only how it changes across the gap counts.
        made: F8 = rest - (np.bincount(lane, rest) / count)[lane]
        return made

    def cost(sigma: float) -> float:
        return float(np.mean(np.abs(left(sigma))))

    found = minimize_scalar(cost, bounds=(0.2, WIDEST), method="bounded", options={"xatol": 1e-3})
    if not found.fun < cost(0.0):
        return 0.0, 0.0
    sigma = float(found.x)
    slope = (left(sigma - STEP) - left(sigma + STEP)) / (2 * STEP)
    doubt = spill(light, inside, ends, sigma)[1][near]
    weight = float(np.sum(slope**2))
    alike = float(np.abs(slope * doubt).sum()) / weight if weight > 0 else 0.0  # edges may be off alike
    return sigma, float(np.hypot(_error(left(sigma), slope, stretch[near]), alike))


def _error(rest: F8, slope: F8, gap: I8) -> float:
    """Of a number that changes residuals by `-slope`: each gap may be off as a whole (Liang & Zeger 1986)."""
    kept = np.abs(rest) <= CLIP * 1.4826 * np.median(np.abs(rest))
    score = np.bincount(gap[kept], (slope * rest)[kept])
    count = max(np.unique(gap[kept]).size - 1, 1)
    weight = float(np.sum(slope[kept] ** 2))
    return float(np.sqrt(np.sum(score**2) * (count + 1) / count) / weight) if weight > 0 else 0.0
