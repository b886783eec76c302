"""Robust means over ramps, read by read; and ramps that have a product taken off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.effects.common import check_keys, product_keys
from calibrant.errors import BudgetError, OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp
from calibrant.frame import DQ, NO_DATA, Applied, Frame
from calibrant.product import Product
from calibrant.stats import MAD_TO_STD, finite_median

F4 = NDArray[np.float32]
Plane = NDArray[Any]
FAR = 5.0  # sigmas from the median over ramps: left out
FEW = 3  # ramps, of which a median shows no outlier
ROWS = 16  # amid the image, that tell how far ramps scatter
UNUSABLE = np.uint8(DQ.DO_NOT_USE | DQ.SATURATED)
PATTERN = ("readpatt", "nframes", "groupgap", "frame_time")


class Mean(NamedTuple):
    """Of each pixel: mean, variance of the mean (NaN of a single ramp) and ramps; NaN without any."""

    mean: F4
    variance: F4
    ramps: NDArray[np.uint16]


def robust_mean(stack: F4, scatter: float) -> Mean:
    """Mean over the first axis, what is far from the median left out.

    Parameters
    ----------
    stack : ndarray
        float32, NaN where there is nothing.
    scatter : float
        Typical standard deviation: that of few numbers is known too badly to tell what is far.
    """
    good = np.isfinite(stack)
    if len(stack) >= FEW:
        middle = _median(stack)
        apart = np.abs(stack - middle)
        own = MAD_TO_STD * _median(apart)
        good &= apart <= FAR * np.fmax(own, np.float32(scatter))
    n = good.sum(axis=0, dtype=np.uint16)
    some, many = np.maximum(n, 1), np.maximum(n, 2) - np.float32(1)
    mean = np.where(good, stack, 0).sum(axis=0, dtype=np.float64) / some
    square = (np.where(good, stack - mean, 0) ** 2).sum(axis=0) / many
    return Mean(
        np.where(n > 0, mean, np.nan).astype(np.float32),
        np.where(n > 1, square / some, np.nan).astype(np.float32),
        n,
    )


def _median(stack: F4) -> F4:
    """Over the first axis, NaN left out: the mean of the two middle ones; NaN without any."""
    order = np.sort(stack, axis=0)
    n = np.maximum(np.isfinite(order).sum(axis=0), 1)
    low, high = (np.take_along_axis(order, ((n - 1 + more) // 2)[None], axis=0)[0] for more in (0, 1))
    middle: F4 = (low + high) * np.float32(0.5)
    return middle


def scatter_of(stack: F4) -> float:
    """Typical robust standard deviation over the first axis; 0 of a single ramp."""
    if len(stack) < 2:
        return 0.0
    apart = (stack - _median(stack)) ** 2
    known = finite_median(apart)
    found = known / 0.4549 * len(stack) / (len(stack) - 1)  # 0.4549: median of chi squared of one
    return float(np.sqrt(found)) if np.isfinite(found) else 0.0


def good_reads(ramp: Ramp, rows: slice, saturation: float, groups: slice = slice(None)) -> F4:
    """Some rows as float32 (integrations, groups, rows, cols); NaN where a read is full or flagged."""
    values = ramp.values(rows, groups=groups).astype(np.float32, copy=False)
    bad = values >= np.float32(saturation)
    flags = ramp.read_dq(rows, groups=groups)
    if flags is not None:
        bad |= (flags & UNUSABLE) != 0
    values[bad] = np.nan
    return values


def top_of(exposures: Exposures, ramps: Sequence[Ramp], saturation: float | None) -> float:
    """The count from which on reads are full: as given, or as header and instrument file say.

    Raises
    ------
    OptionError
        If it is not positive.
    """
    stated = exposures.instrument.nominal(exposures[0])[2] if saturation is None else saturation
    if stated is not None and not stated > 0:
        raise OptionError("the saturation must be positive", where="saturation", got=stated)
    return min(65535.0 if ramps[0].dtype == np.uint16 else np.inf, np.inf if stated is None else stated)


def middle_rows(ramps: Sequence[Ramp]) -> slice:
    """Rows amid the image."""
    rows = ramps[0].shape[2]
    begin = max(0, rows // 2 - ROWS // 2)
    return slice(begin, min(rows, begin + ROWS))


def above_first(
    ramps: Sequence[Ramp], rows: slice, saturation: float, groups: int
) -> list[NDArray[np.float32]]:
    """Of each group but the first: (integrations, rows, cols) above the first one of their ramp."""
    values = [good_reads(one, rows, saturation, slice(0, groups)) for one in ramps]
    for one in values:
        one -= one[:, :1].copy()
    return [
        np.concatenate([one[:, group] for one in values if one.shape[1] > group])
        for group in range(1, groups)
    ]


def row_bands(ramps: Sequence[Ramp], groups: int, budget: int, work: int = 0) -> Iterator[slice]:
    """Bands of rows, of which `groups` groups of all ramps fit into the budget with the work on them.

    Parameters
    ----------
    work : int
        Bytes for each group and pixel beside.

    Raises
    ------
    BudgetError
        If not even a row does.
    """
    rows, cols = ramps[0].shape[2:]
    line = sum(one.integrations for one in ramps) * cols * (12 * groups + 40) + groups * cols * work
    if line > budget:
        raise BudgetError(
            "one row of all ramps does not fit", expected=f"{line} bytes", got=budget, do="give more budget"
        )
    step = budget // line
    yield from (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def pattern_keys(exposures: Exposures, ramp: Ramp, kind: str) -> dict[str, Any]:
    """What must match before a product of ramps may be used: detector, window, read pattern."""
    keys = {name: value for name, value in product_keys(exposures, kind).items() if name != "shape"}
    told = {name: ramp.exposure.get(name) for name in PATTERN}
    return keys | {name: value for name, value in told.items() if value is not None}


def edge_of(exposures: Exposures, ramp: Ramp) -> NDArray[np.bool_]:
    """Reference pixels."""
    shape = ramp.shape[2], ramp.shape[3]
    edge = np.ones(shape, bool)
    edge[exposures.instrument.reference(ramp.exposure).active(shape)] = False
    return edge


def flags_of(count: Plane, edge: NDArray[np.bool_], doubtful: NDArray[np.bool_], word: DQ) -> Plane:
    """dq of a product: NO_DATA without a ramp, a word where it is doubtful, reference pixels."""
    dq = np.where(count == 0, np.uint32(NO_DATA | word), np.uint32(0))
    dq[doubtful] |= np.uint32(word)
    dq[edge] |= np.uint32(DQ.REFERENCE_PIXEL | DQ.NON_SCIENCE)
    return dq


def taken_off(frame: Frame, product: Product, plane: F4, variance: F4) -> Frame:
    """The ramp less a plane, or less one for each read; what was saturated stays flagged in `read_dq`.

    Parameters
    ----------
    plane, variance : ndarray
        (rows, cols) or (groups, rows, cols), adu; unknown variances (NaN) count as none.

    Raises
    ------
    ShapeError, UnitError, SelectionError
        If the product does not fit the ramp.
    """
    if frame.unit != "adu":
        raise UnitError(f"a {product.kind} is in adu", where=frame.name, expected="adu", got=repr(frame.unit))
    fits = frame.shape[-plane.ndim :] == plane.shape if plane.ndim == 2 else _reads_fit(frame, plane)
    if len(frame.shape) < 3 or not fits:
        raise ShapeError(
            f"the {product.kind} does not fit the ramp", where=frame.name, expected=plane.shape,
            got=frame.shape, do="take one of the same detector, subarray and read pattern",
        )  # fmt: skip
    check_pattern(frame, product)
    if plane.ndim == 3:
        plane, variance = plane[: frame.shape[-3]], variance[: frame.shape[-3]]
    loaded, flags = frame.load(), saturated(frame)
    error = np.nan_to_num(variance)
    before = np.float32(0) if loaded.systematic is None else np.asarray(loaded.systematic)
    dq = np.zeros(frame.shape[-2:], np.uint32) if loaded.dq is None else np.asarray(loaded.dq)
    return loaded.after(
        Applied(product.kind, product.identity),
        data=np.asarray(loaded.data) - plane,
        systematic=np.broadcast_to(before + error, frame.shape),
        dq=dq | product.planes["dq"],
        read_dq=flags,
        systematic_from=frame.systematic_from | {product.identity},
    )


def _reads_fit(frame: Frame, plane: F4) -> bool:
    return frame.shape[-2:] == plane.shape[1:] and len(frame.shape) > 2 and frame.shape[-3] <= len(plane)


def check_pattern(frame: Frame, product: Product) -> None:
    """That a product of ramps has the keys of a frame, and its frame time.

    Raises
    ------
    SelectionError
    """
    keys = {name: value for name, value in product.keys.items() if name != "groups"}
    check_keys(frame, replace(product, keys=keys))
    ours, theirs = frame.exposure.get("frame_time"), product.keys.get("frame_time")
    if ours is not None and theirs is not None and abs(ours / theirs - 1) > 1e-4:
        raise SelectionError(
            f"the {product.kind} is of another frame time", where=frame.name, expected=ours, got=theirs
        )


def saturated(frame: Frame) -> NDArray[np.uint8]:
    """Flags of the reads, with SATURATED where they are full: once levels are taken off, no number tells."""
    values = frame.data if isinstance(frame.data, np.ndarray) else frame.data.load()
    flags = np.zeros(values.shape, np.uint8)
    if frame.read_dq is not None:
        given = frame.read_dq if isinstance(frame.read_dq, np.ndarray) else frame.read_dq.load()
        flags |= np.asarray(given, np.uint8).reshape(values.shape)
    top = frame.exposure.saturation
    if values.dtype == np.uint16:
        top = min(65535.0, np.inf if top is None else top)
    if top is not None and not frame.history:  # else the level is not that of the counts any more
        flags[values >= top] |= np.uint8(DQ.SATURATED)
    return flags
