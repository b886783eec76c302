"""Was the dark of a frame removed before it reached us? Asked of the pixels, with no word of the header."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.frame import Frame
from calibrant.product import Product
from calibrant.stack.source import Source, load
from calibrant.stats import MAD_TO_STD

HALF = 2  # pixels: neighbours up to this far make the local level of a hot pixel
HOT = 15.0  # sigmas of the dark's own distribution
MOST = 4000  # hot pixels; more say nothing more
FEWEST = 5
FULL = 0.9  # of the brightest value of the dark: hot pixels above it may be saturated, and say nothing
LOW = 1.0  # percent of the live pixels that lie below the floor of a frame
BROAD = 25.0  # percent of the live pixels: dead columns and borders are fewer, a lost bias lowers more
JUMP = 100.0  # adu: a level this far below that of the bias has lost it; camera pedestals jump by less
CERTAIN = 5.0  # sigmas
CLEAR = 2.0  # sigmas of the slope from the half between dark there and dark gone
RULE = 3  # counts up when verdicts may change: those that were kept are asked again


@dataclass(frozen=True)
class DarkVerdict:
    """What the pixels say about dark and bias.

    Attributes
    ----------
    removed : frozenset of str
        ``{"bias", "dark"}``, ``{"bias"}``, ``{"dark"}`` or empty: what is missing from the frame.
    certain : bool
        Whether level or hot pixels speak clearly; else `removed` is empty for want of evidence.
    floor, dark_floor : float
        First percentile of the frame, and of a dark of its exposure time, adu.
    slope, slope_sigma : float
        Of the frame's hot pixels on those of the dark: 1 if the dark is still in the frame, 0 if not;
        NaN without hot pixels.
    expected : float
        What the slope would be with the dark still there: 1, or the ratio of the times.
    hot : int
        Hot pixels that were used.
    reason : str
        A sentence.
    """

    removed: frozenset[str]
    certain: bool
    floor: float
    dark_floor: float
    slope: float
    slope_sigma: float
    expected: float
    hot: int
    reason: str

    def __bool__(self) -> bool:
        return "dark" in self.removed


def dark_removed(
    frame: Frame | Source | NDArray[Any],
    dark: Product,
    *,
    exptime: float | None = None,
    bias: Product | float | None = None,
    jump: float = JUMP,
) -> DarkVerdict:
    """Recognise a frame whose dark was removed already, by its level and by its hot pixels.

    Light and dark current only add. A frame whose live pixels lie far below the level of the dark (and of
    the bias in it) has lost its bias; a frame that does not show the dark's hot pixels has lost its dark
    current. Both are tested; neither looks at a header. A few low pixels alone take nothing away: where the
    hot pixels do not agree, a quarter of the live pixels must be low, since columns die and amplifiers fade.

    Parameters
    ----------
    frame : Frame, Source or array
        Raw, adu, (rows, cols).
    dark : Product
        Any dark of the same detector and binning, of whatever exposure time: a rate [adu/s], or with its bias
        [adu] and the key ``exptime``.
    exptime : float, optional
        Of the frame, s; taken from a Frame's exposure if not given. Unknown: taken as that of the dark.
    bias : Product or float, optional
        Bias, or its level, adu: needed for the level test if the dark is a rate.
    jump : float
        By how much the pedestal of such a camera may jump between frames, adu.

    Raises
    ------
    ShapeError
        If frame and dark are of different size.
    SelectionError
        If `dark` is no dark.
    """
    values = _pixels(frame)
    if dark.kind != "dark":
        raise SelectionError("not a dark", expected="a product of kind dark", got=dark.kind)
    pattern = np.asarray(dark.data, np.float32)
    if values.shape != pattern.shape:
        raise ShapeError(
            "frame and dark are of different size", expected=pattern.shape, got=values.shape,
            do="take a dark of the same detector and binning",
        )  # fmt: skip
    if not jump >= 0:
        raise OptionError("a jump of the level cannot be negative", where="jump", got=jump)
    if exptime is None and isinstance(frame, Frame):
        exptime = frame.exposure.duration
    expected = _expected(dark, exptime)
    dark_floor = _dark_floor(dark, pattern, bias, expected)
    floor, quarter = floors(values)
    slope, sigma, hot = hot_slope(values, pattern)
    return _judge((floor, quarter), dark_floor, slope, sigma, expected, hot, jump)


def is_low(values: NDArray[Any], level: float, jump: float = JUMP) -> bool:
    """Whether the darkest live pixels of a frame, or of some of its rows, lie far below a level, adu."""
    return floors(values)[0] < level - jump


def floors(values: NDArray[Any]) -> tuple[float, float]:
    """First percentile and lower quartile of the live pixels of a frame.

    Parameters
    ----------
    values : ndarray
        (rows, cols), adu.

    Returns
    -------
    tuple of float
        adu; NaN where no pixel is alive.
    """
    found = values[live_pixels(values)]
    if not found.size:
        return math.nan, math.nan
    low, quarter = np.percentile(found, (LOW, BROAD))
    return float(low), float(quarter)


def live_pixels(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels that say something of the level: finite, above the floor of the converter, and not constant.

    A pixel counts as constant if it is equal to both its neighbours in the row or in the column, as those of
    borders and of columns that were never read; a live one has noise. An image without noise, which cannot be
    a camera's, counts as alive where it is above zero.
    """
    alive: NDArray[np.bool_] = np.isfinite(values) & (values > 0)
    constant = np.zeros(values.shape, bool)
    for axis in (0, 1):
        if values.shape[axis] < 3:
            continue
        equal = np.moveaxis(constant, axis, 0)  # a view
        same = np.moveaxis(
            values[1:] == values[:-1] if axis == 0 else values[:, 1:] == values[:, :-1], axis, 0
        )
        run = same[1:] & same[:-1]
        for start in range(3):  # the middle one and both its ends
            equal[start : start + len(run)] |= run
    found: NDArray[np.bool_] = alive & ~constant
    return found if found.any() else alive


def _judge(
    level_of: tuple[float, float],
    dark_floor: float,
    slope: float,
    sigma: float,
    expected: float,
    hot: int,
    jump: float,
) -> DarkVerdict:
    floor, quarter = level_of
    low = math.isfinite(dark_floor) and floor < dark_floor - jump
    broad = low and quarter < dark_floor - jump
    # What lies as near to the one as to the other says neither.
    clear = abs(slope - 0.5 * expected) > CLEAR * sigma
    speaks = hot >= FEWEST and expected > CERTAIN * sigma and clear
    cold = speaks and slope < 0.5 * expected
    missing = set()
    if broad or (low and cold):
        missing.add("bias")
    if cold or (broad and not speaks):
        # Without hot pixels to ask, the level speaks for both: programs remove the level alone rarely.
        missing.add("dark")
    level = f"its darkest pixels stand at {floor:.0f} adu and those of the dark at {dark_floor:.0f} adu"
    pixels = (
        f"{hot} hot pixels show {slope / expected:.2f} of their dark current"
        if speaks
        else "its hot pixels are too few or too faint to say"
    )
    return DarkVerdict(
        frozenset(missing),
        # A few low pixels and nothing else may be dead ones, or the unlit edge of a lit frame.
        speaks or broad,
        floor,
        dark_floor,
        slope,
        sigma,
        expected,
        hot,
        f"{level}; {pixels}",
    )


def _pixels(frame: Frame | Source | NDArray[Any]) -> NDArray[np.float32]:
    if isinstance(frame, Frame):
        return np.asarray(frame.load().data, np.float32)
    return np.asarray(frame if isinstance(frame, np.ndarray) else load(frame), np.float32)


def _expected(dark: Product, exptime: float | None) -> float:
    """Slope on the plane of the dark if the frame still holds it."""
    if dark.unit == "adu/s":
        if exptime is None:
            raise OptionError("the exposure time of the frame is not known", do="give exptime")
        return float(exptime)
    own = dark.keys.get("exptime")
    return 1.0 if own is None or exptime is None else float(exptime) / float(own)


def _dark_floor(
    dark: Product, pattern: NDArray[np.float32], bias: Product | float | None, expected: float
) -> float:
    """Level of the darkest pixels of a dark of the frame's time, adu; NaN without a bias level."""
    if dark.unit == "adu/s":
        if bias is None:
            return math.nan
        level = bias.data if isinstance(bias, Product) else bias
        return floors(np.asarray(level + pattern * expected))[0]
    # The floor of a shorter frame is lower by the dark current of the coolest pixels: `jump` covers it.
    return floors(pattern)[0]


def hot_slope(values: NDArray[Any], pattern: NDArray[Any]) -> tuple[float, float, int]:
    """Slope of the hot pixels of a frame on those of a dark, each above its neighbours.

    Parameters
    ----------
    values, pattern : ndarray
        Frame [adu] and dark [adu or adu/s], (rows, cols).

    Returns
    -------
    tuple
        Slope through the origin, its standard error from the scatter of the pixels, and the number of pixels:
        NaN, inf and the number where there are fewer than 5.
    """
    rows, cols = hot_pixels(pattern)
    if rows.size < FEWEST:
        return math.nan, math.inf, int(rows.size)
    x, _ = _above(pattern, rows, cols)
    y, width = _above(values, rows, cols)
    top = float(np.nanmax(values))
    good = np.isfinite(x) & np.isfinite(y) & (x > 0) & ~((values[rows, cols] >= top) & (top > 60000))
    if good.sum() < FEWEST:
        return math.nan, math.inf, int(good.sum())
    return *_through_origin(x[good], y[good], np.maximum(width[good], 1.0)), int(good.sum())


def _through_origin(
    x: NDArray[np.float64], y: NDArray[np.float64], width: NDArray[np.float64]
) -> tuple[float, float]:
    """Robust weighted slope: each pixel is limited by the noise around it and by its own 5 percent."""
    slope = float(np.median(y / x))
    scatter = 1.0
    for _ in range(20):
        error = np.hypot(width, 0.05 * np.abs(slope) * x)
        pull = (y - slope * x) / error
        scatter = max(MAD_TO_STD * float(np.median(np.abs(pull))), 1e-6)
        huber = np.minimum(1.0, 1.5 * scatter / np.maximum(np.abs(pull), 1e-9))
        weight = huber * x / error**2
        now = float((weight * y).sum() / (weight * x).sum())
        if abs(now - slope) < 1e-6 * max(abs(slope), 1e-6):
            break
        slope = now
    error = np.hypot(width, 0.05 * np.abs(slope) * x)
    return slope, scatter / math.sqrt(float((x**2 / error**2).sum()))


def hot_pixels(pattern: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the brightest pixels of a dark that are hot but not saturated."""
    centre = float(np.nanmedian(pattern))
    width = max(MAD_TO_STD * float(np.nanmedian(np.abs(pattern - centre))), 1e-9)
    top = float(np.nanmax(pattern))
    flat = np.flatnonzero((pattern > centre + HOT * width) & (pattern < centre + FULL * (top - centre)))
    flat = flat[np.argsort(pattern.ravel()[flat])[::-1][:MOST]]
    rows, cols = np.unravel_index(flat, pattern.shape)
    inside = (rows >= HALF) & (rows < pattern.shape[0] - HALF)
    inside &= (cols >= HALF) & (cols < pattern.shape[1] - HALF)
    return rows[inside], cols[inside]


def _above(
    plane: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height of pixels above the median of their neighbours, and the scatter of those."""
    steps = [(dr, dc) for dr in range(-HALF, HALF + 1) for dc in range(-HALF, HALF + 1) if (dr, dc) != (0, 0)]
    near = np.stack([plane[rows + dr, cols + dc] for dr, dc in steps]).astype(np.float64)
    local = np.median(near, axis=0)
    width = MAD_TO_STD * np.median(np.abs(near - local), axis=0)
    return plane[rows, cols] - local, width
