"""Light frames and the darks around them: the calm window of a frame, and a dark in between two others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from calibrant.effects._scaling_input import block_labels
from calibrant.effects._unlit import darkest_rows
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.frame import MICROSECOND, Applied, Exposure, Frame
from calibrant.stats import weighted_line

Window = tuple[slice, slice]
Where = NDArray[np.bool_] | Window | str | None
PASSES = 10  # of the search for unlit cells
CELLS = (10, 20)  # rows and columns of cells
PIXELS = 60_000  # of the image that is filtered; larger ones are thinned
BORDER = 100.0  # times the largest value, outside the image: no window hangs over its edge by half


def calm_window(image: NDArray[Any]) -> Window:
    """The window of an image with the lowest median: where the least light falls.

    Parameters
    ----------
    image : ndarray
        (rows, cols), any unit; NaN counts as bright.

    Returns
    -------
    tuple of slice
        Rows and columns; a fifth of the rows and a tenth of the columns, less at an edge.
    """
    rows, cols = image.shape
    size = max(rows // 5, 2), max(cols // 10, 1)
    steps = _thinning(rows, cols)
    thin = np.asarray(image[:: steps[0], :: steps[1]], np.float64)
    if not np.isfinite(thin).any():
        raise ShapeError("no pixel of the light frame has a value", got=image.shape)
    border = BORDER * max(float(np.nanmax(np.abs(thin))), 1.0)
    window = tuple(max(n // step, 1) for n, step in zip(size, steps, strict=True))
    filtered = median_filter(
        np.where(np.isfinite(thin), thin, border), size=window, mode="constant", cval=border
    )
    at = np.unravel_index(int(np.argmin(filtered)), thin.shape)
    found = []
    for place, step, n, whole in zip(at, steps, size, image.shape, strict=True):
        start = max(int(place) * step - n // 2, 0)
        found.append(slice(start, min(int(place) * step - n // 2 + n, whole)))
    return found[0], found[1]


def _thinning(rows: int, cols: int) -> tuple[int, int]:
    """Every how many rows and columns are enough."""
    step = max(int(np.ceil(np.sqrt(rows * cols / PIXELS))), 1)
    return min(step, max(rows // 10, 1)), min(step, max(cols // 10, 1))


def unlit_cells(dark: NDArray[np.float64], light: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels of a light frame that no light reaches: cells at the lowest level that many agree upon.

    The level is that of the frame less its dark, which is scaled on the cells found before: in the frame as
    it is, the dark's own pattern leads astray, since faint light may hide where the dark is low. The single
    lowest window would lie too low by the noise that made it the lowest.

    Parameters
    ----------
    dark, light : ndarray
        (rows, cols), adu.
    """
    rows, cols = light.shape
    labels = block_labels(np.ones(light.shape, np.bool_), CELLS).reshape(light.shape)
    order = np.argsort(labels, axis=None, kind="stable")
    counts = np.bincount(labels.ravel())
    width, start = int(counts.max()), np.cumsum(counts) - counts
    table = np.full((counts.size, width), np.nan)
    sorted_labels = labels.ravel()[order]
    place = sorted_labels, np.arange(rows * cols) - start[sorted_labels]
    left, mask = light - dark, np.zeros(light.shape, np.bool_)
    for _ in range(PASSES):
        table[place] = left.ravel()[order]
        again = darkest_rows(table)[labels] & np.isfinite(left)
        if (again == mask).all() or again.sum() < 3 or np.ptp(dark[again]) == 0:
            break
        mask = again
        slope, offset = weighted_line(dark[mask], light[mask])
        left = light - offset - slope * dark
    return mask


def window_mask(where: Where, dark: NDArray[np.float64], image: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The pixels to fit, (rows, cols): a mask, a window of rows and columns, ``calm`` or ``unlit``.

    Raises
    ------
    OptionError
        If it is none of these, or does not fit, or is empty.
    """
    shape = image.shape
    if where is None:
        return np.ones(shape, np.bool_)
    mask = np.zeros(shape, np.bool_)
    if isinstance(where, np.ndarray):
        if where.shape != shape or where.dtype != np.bool_:
            raise OptionError(
                "a mask of pixels does not fit", where="where", expected=f"bool {shape}",
                got=f"{where.dtype} {where.shape}",
            )  # fmt: skip
        mask = where
    elif isinstance(where, str) and where == "calm":
        mask[calm_window(image)] = True
    elif isinstance(where, str) and where == "unlit":
        mask = unlit_cells(dark, image)
    elif isinstance(where, tuple) and len(where) == 2 and all(isinstance(part, slice) for part in where):
        _check_within(where, shape)
        mask[where] = True
    else:
        raise OptionError(
            "the pixels to fit are a mask, a window, 'calm' or 'unlit'", where="where",
            expected="bool (rows, cols), (slice, slice) or a word", got=where,
        )  # fmt: skip
    if not mask.any():
        raise OptionError("no pixel lies in the window", where="where", expected=f"within {shape}", got=where)
    return mask


def _check_within(window: tuple[slice, slice], shape: tuple[int, ...]) -> None:
    """That a window does not reach beyond the image: it was meant for another one."""
    for word, part, size in zip(("rows", "columns"), window, shape, strict=True):
        if max(part.start or 0, part.stop or 0) > size:
            raise OptionError(
                "the window reaches beyond the image", where="where", expected=f"{word} 0 to {size}",
                got=f"{part.start or 0} to {part.stop}",
            )  # fmt: skip


def interpolate(
    before: Frame,
    after: Frame,
    at: Exposure | Frame | int,
    *,
    outside: Literal["refuse", "nearest"] = "refuse",
) -> Frame:
    """The dark at a time between two darks: (1 - w) before + w after, w = (t - t1) / (t2 - t1).

    Parameters
    ----------
    before, after : Frame
        Darks of one shape, unit and exposure time, with known times; in any order.
    at : Exposure, Frame or int
        When: the middle of an exposure, or microseconds since 1970 UTC.
    outside : {"refuse", "nearest"}
        What happens beyond both darks: an error, or the nearest dark, with a line in the history.

    Returns
    -------
    Frame
        data float32; variance (1 - w)^2 v1 + w^2 v2 where both are known, `systematic` in the same way with
        the standard deviations added (its sources may be the same); flags of both. The history says w.

    Raises
    ------
    SelectionError
        If a time is unknown, both are the same, the exposure times differ, or `at` lies outside.
    ShapeError, UnitError
        If the darks do not fit each other.
    """
    wanted = at if isinstance(at, int) else (at.exposure if isinstance(at, Frame) else at).mid
    first, second = before.exposure.mid, after.exposure.mid
    if wanted is None or first is None or second is None or first == second:
        raise SelectionError("interpolation needs two darks at different times, and the time of the frame")
    if first > second:
        return interpolate(after, before, wanted, outside=outside)
    if before.shape != after.shape:
        raise ShapeError("the darks differ in shape", expected=before.shape, got=after.shape)
    if before.unit != after.unit:
        raise UnitError("the darks are in different units", expected=before.unit, got=after.unit)
    times = before.exposure.duration, after.exposure.duration
    if times[0] is not None and times[1] is not None and abs(times[0] - times[1]) > 1e-3 * times[0]:
        raise SelectionError("the darks differ in exposure time [s]", expected=times[0], got=times[1])
    w = (wanted - first) / (second - first)
    if not 0.0 <= w <= 1.0:
        if outside == "refuse":
            beyond = min(abs(wanted - first), abs(wanted - second)) / MICROSECOND
            raise SelectionError(
                "the frame was not taken between the darks", expected="a time between theirs",
                got=f"{beyond:g} s beyond", do="take darks around it, or ask for the nearest",
            )  # fmt: skip
        near = after if w > 1 else before
        note = "outside both darks: the nearest, not extrapolated"
        return near.load().after(Applied("dark_interpolation", None, {"weight": float(w > 1)}, note))
    return _mixed(before.load(), after.load(), w, wanted)


def _mixed(one: Frame, other: Frame, w: float, at: int) -> Frame:
    """(1 - w) one + w other, with errors."""

    def known(a: Any, b: Any) -> bool:
        return a is not None and b is not None

    def f4(values: Any) -> NDArray[np.float32]:
        return np.ascontiguousarray(values, dtype=np.float32)

    a, b = 1.0 - w, w
    variance = systematic = None
    if known(one.variance, other.variance):
        variance = f4(a * a * np.asarray(one.variance) + b * b * np.asarray(other.variance))
    if known(one.systematic, other.systematic):
        both = a * np.sqrt(np.asarray(one.systematic)) + b * np.sqrt(np.asarray(other.systematic))
        systematic = f4(both**2)
    flags = [np.asarray(frame.dq) for frame in (one, other) if frame.dq is not None]
    length = round((one.exposure.duration or 0.0) * MICROSECOND / 2)
    return one.after(
        Applied("dark_interpolation", None, {"weight": w}),
        data=f4(a * np.asarray(one.data, np.float64) + b * np.asarray(other.data, np.float64)),
        variance=variance,
        systematic=systematic,
        dq=np.bitwise_or.reduce(flags) if flags else None,
        exposure=replace(one.exposure, start=at - length, path=None),
        systematic_from=one.systematic_from | other.systematic_from,
        extra={},
    )
