"""What a picture shows: one plane of a frame, which of its pixels hold data, and its flags by class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ShapeError
from calibrant.frame import DQ, NO_DATA, Frame

UNIT_TEXTS: Mapping[str, str] = {"adu": "ADU", "electron": "e⁻"}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class FlagClass:
    """Bits that are shown in one colour."""

    name: str
    bits: int
    colour: str


# Colours of Okabe and Ito: told apart with every kind of colour vision. Earlier classes win where bits meet.
FLAG_CLASSES: tuple[FlagClass, ...] = (
    FlagClass("saturated", DQ.SATURATED | DQ.AD_FLOOR, "#D55E00"),
    FlagClass("dead, open or insensitive", DQ.DEAD | DQ.OPEN | DQ.ADJ_OPEN | DQ.LOW_QE | DQ.RC, "#0072B2"),
    FlagClass("hot or warm", DQ.HOT | DQ.WARM, "#E69F00"),
    FlagClass("cosmic ray", DQ.JUMP_DET, "#F0E442"),
    FlagClass(
        "unreliable calibration",
        DQ.UNRELIABLE_BIAS | DQ.UNRELIABLE_DARK | DQ.UNRELIABLE_FLAT | DQ.UNRELIABLE_SLOPE | DQ.NO_FLAT_FIELD,
        "#009E73",
    ),
    FlagClass("noisy or otherwise bad", DQ.OTHER_BAD_PIXEL | DQ.TELEGRAPH, "#CC79A7"),
    FlagClass("other flag", 0xFFFFFFFF, "#56B4E9"),
)


@dataclass(frozen=True, eq=False)
class Shown:
    """One plane, ready to be drawn.

    Attributes
    ----------
    values : array
        (rows, cols), float32 or float64 or an integer type, in `unit`.
    blank : array
        bool, (rows, cols): pixels without data (not finite, or flagged as no data).
    dq : array or None
        uint32, (rows, cols).
    unit : str or None
        Canonical unit; None for a bare array, whose unit nobody knows.
    note : str
        What the reader must know, e.g. which plane of a cube this is.
    """

    values: NDArray[Any]
    blank: NDArray[np.bool_]
    dq: NDArray[np.uint32] | None
    unit: str | None
    note: str = ""

    @property
    def good(self) -> NDArray[Any]:
        """The values that limits and histograms are made of, 1-D: not blank and not flagged DO_NOT_USE.

        Where flags leave nothing, they are ignored: a picture of bad pixels is better than none.
        """
        use = ~self.blank
        if self.dq is not None:
            trusted = use & ((self.dq & np.uint32(DQ.DO_NOT_USE)) == 0)
            use = trusted if trusted.any() else use
        return np.asarray(self.values[use])


def shown(what: Frame | NDArray[Any], dq: NDArray[Any] | None = None, unit: str | None = None) -> Shown:
    """The plane of a frame or array that a picture shows: of a cube, the first one.

    Parameters
    ----------
    what : Frame or array
        (rows, cols), or a cube whose last two axes are rows and columns, of real numbers.
    dq : array, optional
        uint32 flags of an array, (rows, cols); a frame brings its own.
    unit : str, optional
        Unit of an array.

    Raises
    ------
    ShapeError
        If there are fewer than two axes, or no pixel at all.
    """
    if isinstance(what, Frame):
        plane, dq, unit, name = what.data, _array(what.dq), what.unit, what.name
    else:
        plane, name = np.asarray(what), "array"
    # Of a cube in a file only the plane that is shown is read: a ramp may be larger than the memory.
    axes = tuple(plane.shape)
    alone = len(axes) > 2 and 0 not in axes and hasattr(plane, "plane")
    array = np.asarray(_array(cast(Any, plane).plane(*(0,) * (len(axes) - 2)) if alone else plane))
    array = array.reshape(*(1,) * (len(axes) - 2), *array.shape) if alone else array
    if array.ndim < 2 or array.size == 0 or array.dtype.kind not in "buif":
        raise ShapeError(
            "a picture needs rows and columns of real numbers",
            where=name,
            expected="(rows, cols), or a cube of them",
            got=f"{array.shape} of {array.dtype}",
        )
    first = (0,) * (array.ndim - 2)
    values = np.asarray(array[first])
    note = "" if not first else f"plane {', '.join(map(str, first))} of {' × '.join(map(str, axes[:-2]))}"
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    return Shown(values, _blank(values, dq), None if dq is None else np.asarray(dq, np.uint32), unit, note)


def _array(plane: Any) -> Any:
    """A plane in memory; a lazy one is read."""
    return plane if plane is None or isinstance(plane, np.ndarray) else plane.load()


def _blank(values: NDArray[Any], dq: NDArray[Any] | None) -> NDArray[np.bool_]:
    blank = ~np.isfinite(values)
    if dq is not None:
        blank |= (np.asarray(dq, np.uint32) & np.uint32(NO_DATA)) == np.uint32(NO_DATA)
    return np.asarray(blank)


def unit_text(unit: str | None) -> str:
    """A canonical unit as it stands on an axis: ``ADU/s``, ``e⁻``, ``ADU²/s²``; empty where there is none."""
    if not unit:
        return ""
    return re.sub(
        r"([A-Za-zµ]+)(-?\d+)?",
        lambda word: UNIT_TEXTS.get(word[1], word[1]) + (word[2] or "").translate(RAISED),
        unit,
    )


def label(quantity: str, unit: str | None) -> str:
    """``quantity [unit]``, or the quantity alone where it has no unit."""
    text = unit_text(unit)
    return f"{quantity} [{text}]" if text else quantity


def block_mean(values: NDArray[Any], blank: NDArray[np.bool_], factor: int) -> NDArray[np.float64]:
    """Mean of the good pixels of blocks of `factor` x `factor`; NaN where a block has none.

    A hot pixel keeps its share of the mean, so it stays visible, where picking every n-th pixel would drop it
    and turn fine column patterns into false coarse ones.
    """
    rows, cols = (size // factor * factor for size in values.shape)
    cut = np.where(blank, 0.0, values)[:rows, :cols].astype(np.float64)
    use = ~blank[:rows, :cols]
    total, count = (_blocks(part, factor).sum(axis=(1, 3)) for part in (cut, use))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def block_or(flags: NDArray[np.uint32], factor: int) -> NDArray[np.uint32]:
    """Flags of blocks of `factor` x `factor`: every bit of its pixels; odd edges make a block too."""
    rows, cols = (-(-size // factor) * factor for size in flags.shape)
    whole = np.zeros((rows, cols), np.uint32)
    whole[: flags.shape[0], : flags.shape[1]] = flags
    return np.asarray(np.bitwise_or.reduce(np.bitwise_or.reduce(_blocks(whole, factor), axis=3), axis=1))


def _blocks(plane: NDArray[Any], factor: int) -> NDArray[Any]:
    rows, cols = plane.shape
    return plane.reshape(rows // factor, factor, cols // factor, factor)


def flag_classes(
    dq: NDArray[np.uint32], bits: int
) -> tuple[NDArray[np.int8], tuple[tuple[FlagClass, int], ...]]:
    """Sort flagged pixels into classes of display.

    Parameters
    ----------
    dq : array
        uint32, (rows, cols).
    bits : int
        The bits of `DQ` to look at.

    Returns
    -------
    index : array
        int8, (rows, cols): place in `FLAG_CLASSES`, -1 where no bit is set.
    found : tuple of (FlagClass, int)
        Classes that occur, with their number of pixels.
    """
    # DO_NOT_USE says what to do, not what is wrong: it is a class by itself only where it stands alone.
    index = np.full(dq.shape, -1, np.int8)
    for place in reversed(range(len(FLAG_CLASSES))):
        index[(dq & np.uint32(FLAG_CLASSES[place].bits & bits)) != 0] = place
    counts = np.bincount(index[index >= 0].ravel(), minlength=len(FLAG_CLASSES))
    return index, tuple((kind, int(n)) for kind, n in zip(FLAG_CLASSES, counts, strict=True) if n)
