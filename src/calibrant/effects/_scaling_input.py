"""Two darks to be compared: pixels, noise and facts, seen to fit each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_fit import LARGEST, Vector
from calibrant.effects._scaling_lines import Law, Noise
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, NO_DATA, Exposure, Frame
from calibrant.product import Input, Product

Dark = Frame | NDArray[Any] | Exposures
Mask = NDArray[np.bool_]
CHECKED = ("binning", "detector", "duration")  # must agree


@dataclass(frozen=True)
class NoiseModel:
    """Noise of a pixel: variance = read_noise^2 + max(value - zero, 0) / gain [adu2].

    Attributes
    ----------
    gain : float
        e-/adu.
    read_noise : float
        adu.
    zero : float
        Level without any charge, adu.

    Raises
    ------
    OptionError
        If the gain is not positive, or the read noise negative.
    """

    gain: float
    read_noise: float
    zero: float = 0.0

    def __post_init__(self) -> None:
        if not (self.gain > 0 and self.read_noise >= 0 and math.isfinite(self.zero)):
            raise OptionError(
                "a noise model has a positive gain and a read noise",
                where="noise",
                got=f"gain {self.gain:g}, read noise {self.read_noise:g}",
            )

    def __call__(self, value: NDArray[Any]) -> Vector:
        """Variance of pixels of that value [adu2], of their shape."""
        signal = np.maximum(np.asarray(value, np.float64) - self.zero, 0.0) / self.gain
        return np.asarray(np.maximum(self.read_noise**2 + signal, 1e-12))


@dataclass(frozen=True, eq=False)
class Pair:
    """Two darks of one shape.

    Attributes
    ----------
    x, y : ndarray
        The dark scaled from, and the one scaled to; float64, (rows, cols), `unit`.
    good : ndarray of bool
        Pixels with a value in both that no flag forbids.
    raw : tuple of ndarray
        The darks in the number type of their files.
    includes_bias : bool
        Whether the zero level is still in the dark scaled from.
    noise : Noise or None
        Variances of all pixels, raveled; None if not known.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    good: Mask
    noise: Noise | None
    unit: str
    exposures: tuple[Exposure, Exposure]
    inputs: tuple[Input, ...]
    parents: tuple[str, ...] = ()
    instrument: str = ""
    raw: tuple[NDArray[Any], NDArray[Any]] = (np.zeros((0, 0)), np.zeros((0, 0)))
    includes_bias: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.x.shape[0], self.x.shape[1]


def split(dark_from: Dark, dark_to: Dark | None) -> tuple[Dark, Dark]:
    """The two darks: as given, or those of Exposures of two, in their order of time.

    Raises
    ------
    SelectionError
        If there are not two.
    """
    if dark_to is not None:
        return dark_from, dark_to
    if not isinstance(dark_from, Exposures) or len(dark_from) != 2:
        raise SelectionError(
            "two darks are needed: one to scale, and one to scale it to",
            got=f"{len(dark_from)} exposures" if isinstance(dark_from, Exposures) else "one dark",
            do="give both, or exposures of exactly two",
        )
    timed = all(exposure.start is not None for exposure in dark_from)
    ordered = dark_from.sort("start") if timed else dark_from
    return ordered.take([0]), ordered.take([1])


def pair(
    dark_from: Dark,
    dark_to: Dark,
    *,
    sigma: tuple[Any, Any] = (None, None),
    noise: NoiseModel | None = None,
    other_time: bool = False,
) -> Pair:
    """The darks as arrays, with what is known of their noise.

    Parameters
    ----------
    dark_from, dark_to : Frame, ndarray (rows, cols) or Exposures of one
    sigma : tuple
        Standard deviations of their pixels: number or array (rows, cols), [unit of the darks]; None takes the
        variance of the frame, else `noise`.
    other_time : bool
        Whether darks of different exposure time may be compared.

    Raises
    ------
    ShapeError, SelectionError, UnitError, HistoryError, OptionError
        If they do not fit each other, hold nothing, or sigmas make no sense.
    """
    frames = [_frame(dark, word) for dark, word in ((dark_from, "first"), (dark_to, "second"))]
    for frame in frames:
        if frame.did("dark"):
            raise HistoryError("the dark was subtracted from this frame", where=frame.name, do="take it raw")
    _check_alike(frames[0], frames[1], other_time)
    raw = [_image(frame) for frame in frames]
    planes = [_valued(plane) for plane in raw]
    if planes[0].shape != planes[1].shape:
        raise ShapeError(
            "the darks differ in shape",
            where=frames[1].name,
            expected=planes[0].shape,
            got=planes[1].shape,
            do="take darks of one binning",
        )
    good, notes = _good(frames, planes)
    notes += _unlike((dark_from, dark_to), frames)
    if np.array_equal(planes[0], planes[1], equal_nan=True):
        notes.append("both darks are the same image: there is nothing to learn from it")
    inputs = [_inputs(dark) for dark in (dark_from, dark_to)]
    names = {e.instrument for e in (frames[0].exposure, frames[1].exposure)} | {
        dark.instrument.name for dark in (dark_from, dark_to) if isinstance(dark, Exposures)
    }
    made = Pair(
        planes[0], planes[1], good, _noise(frames, planes, sigma, noise), frames[0].unit,
        (frames[0].exposure, frames[1].exposure), (*inputs[0], *inputs[1]),
        _parents(dark_from) + _parents(dark_to), max(names), (raw[0], raw[1]),
        not (frames[0].did("bias") or frames[0].did("pedestal")), notes,
    )  # fmt: skip
    for word, plane in (("first", made.x), ("second", made.y)):
        _check_varied(plane[good], word)
    return made


def _frame(dark: Dark, word: str) -> Frame:
    if isinstance(dark, Frame):
        return dark
    if isinstance(dark, Exposures):
        if len(dark) != 1:
            raise SelectionError(f"the {word} dark is one exposure", expected=1, got=len(dark))
        return dark.frame(0)
    array = np.asarray(dark)
    if array.dtype.kind not in "iuf":
        raise ShapeError(f"the {word} dark is no array of numbers", got=array.dtype)
    return Frame(array)


def _image(frame: Frame) -> NDArray[Any]:
    """The pixels in the number type of the file: float32 would lose the eighth digit."""
    data = frame.data if isinstance(frame.data, np.ndarray) else frame.data.load()
    while data.ndim > 2 and data.shape[0] == 1:
        data = data[0]
    if data.ndim != 2:
        raise ShapeError(
            "a dark to be scaled is one image", where=frame.name, expected="(rows, columns)",
            got=data.shape, do="choose one of the cube",
        )  # fmt: skip
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _valued(plane: NDArray[Any]) -> NDArray[np.float64]:
    """The values as float64, NaN where there is none that can be computed with."""
    values = np.array(plane, np.float64)
    values[~(np.abs(values) < LARGEST)] = np.nan
    return values


def _unlike(darks: tuple[Dark, Dark], frames: list[Frame]) -> list[str]:
    """What the instrument wants to agree before a dark serves a frame, and does not, in words.

    Numbers are left out: darks of two temperatures are what scaling is for.
    """
    instruments = [dark.instrument for dark in darks if isinstance(dark, Exposures)]
    notes = []
    for instrument, key in ((one, key) for one in instruments[:1] for key in one.match.get("dark", ())):
        first, second = (frame.exposure.get(key) for frame in frames)
        words = isinstance(first, str) and isinstance(second, str)
        if words and key not in CHECKED and first != second:
            notes.append(
                f"the first image is of {key} {first}, the second of {key} {second}: "
                f"{instrument.name} takes no dark for a frame of another {key}"
            )
    return notes


def _check_alike(one: Frame, other: Frame, other_time: bool) -> None:
    """Same binning, unit and exposure time, where they are known."""
    if one.unit != other.unit:
        raise UnitError("the darks are in different units", expected=one.unit, got=other.unit)
    for key in CHECKED:
        first, second = one.exposure.get(key), other.exposure.get(key)
        if key == "duration":
            known = first is not None and second is not None
            alike = other_time or not known or math.isclose(first, second, rel_tol=1e-3, abs_tol=1e-6)
        else:
            alike = first == second
        if not alike:
            word = {"duration": "exposure time [s]"}.get(key, key)
            raise SelectionError(
                f"the darks differ in {word}", where=other.name, expected=first, got=second,
                do="take two of the same kind; a dark library predicts other times",
            )  # fmt: skip


def _good(frames: list[Frame], planes: list[NDArray[np.float64]]) -> tuple[Mask, list[str]]:
    good = np.isfinite(planes[0]) & np.isfinite(planes[1])
    notes = []
    if (lost := int((~good).sum())) > 0:
        notes.append(f"pixels without a value in one of the darks are left out: {lost}")
    for frame in frames:
        if frame.dq is not None:
            dq = frame.dq if isinstance(frame.dq, np.ndarray) else frame.dq.load()
            good &= (dq & np.uint32(NO_DATA | DQ.SATURATED)) == 0
    if not good.any():
        raise SelectionError("no pixel has a value in both darks", where=frames[1].name)
    return good, notes


def _check_varied(values: Vector, word: str) -> None:
    if values.size and values.min() == values.max():
        what = "zero everywhere" if values[0] == 0 else f"constant ({values[0]:g})"
        raise SelectionError(f"the {word} dark is {what}: nothing can be fitted", do="take another dark")


def _noise(
    frames: list[Frame], planes: list[NDArray[np.float64]], sigma: tuple[Any, Any], model: NoiseModel | None
) -> Noise | None:
    found = []
    for frame, plane, given in zip(frames, planes, sigma, strict=True):
        if given is not None:
            found.append(_squared(given, plane.shape))
        elif frame.variance is not None:
            variance = replace(frame, data=frame.variance, variance=None, systematic=None)
            found.append(np.asarray(_image(variance), np.float64).ravel())
        elif model is not None:
            found.append(model(plane).ravel())
    law: Law | None = model if all(given is None for given in sigma) else None
    if any(frame.variance is not None for frame in frames):
        law = None
    return Noise(found[0], found[1], True, law) if len(found) == 2 else None


def _squared(given: Any, shape: tuple[int, ...]) -> Vector:
    sigma = np.asarray(given, np.float64)
    if sigma.shape not in ((), shape) or not (sigma > 0).all():
        raise OptionError(
            "a sigma is a positive number, or an array of the shape of the dark", where="sigma",
            expected=shape, got=sigma.shape,
        )  # fmt: skip
    return sigma.ravel() ** 2


def _inputs(dark: Dark) -> tuple[Input, ...]:
    if isinstance(dark, Exposures):
        return tuple(dark.inputs())
    if isinstance(dark, Frame) and dark.exposure.path is not None:
        return (Input(dark.exposure.path.replace("\\", "/").rsplit("/", 1)[-1]),)
    return ()


def _parents(dark: Dark) -> tuple[str, ...]:
    if isinstance(dark, Exposures):
        return tuple(dark.parents)
    if isinstance(dark, Frame):
        return tuple(step.product for step in dark.history if step.product is not None)
    return ()


def noise_of(products: Mapping[str, Product]) -> NoiseModel | None:
    """The noise model of the products ``gain`` [e-/adu] and ``read_noise`` [adu], if both are there."""
    found = []
    for name in ("gain", "read_noise"):
        values = [q.value for q in products.get(name, ()) if q.name == name and math.isfinite(q.value)]
        found.append(float(np.median(values)) if values else None)
    gain, read_noise = found
    return None if gain is None or read_noise is None else NoiseModel(gain, read_noise)


def block_labels(inside: Mask, blocks: tuple[int, int]) -> NDArray[np.intp]:
    """Block of each pixel inside, (n,): rectangles over the rows and columns there are; no gaps from 0."""
    parts = []
    for axis, wanted in enumerate(blocks):
        places = np.flatnonzero(inside.any(axis=1 - axis))
        first, size = int(places[0]), int(places[-1] - places[0]) + 1
        part = np.clip(np.arange(inside.shape[axis]) - first, 0, size - 1)
        parts.append(part * min(wanted, size) // size)
    grid = parts[0][:, None] * blocks[1] + parts[1]
    _, labels = np.unique(grid[inside], return_inverse=True)
    return np.asarray(labels, np.intp)


def flags(pair: Pair) -> NDArray[np.uint32]:
    """NO_DATA where a pixel of the pair is not good, uint32, (rows, cols)."""
    return np.where(pair.good, np.uint32(0), np.uint32(NO_DATA))
