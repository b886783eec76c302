"""Slopes of all pixels of a ramp: band by band of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ramp_read import Reads
from calibrant.errors import OptionError, ShapeError
from calibrant.frame import Frame
from calibrant.stack.plan import plan_bands
from calibrant.stack.run import default_runner, parse_budget

Plane = NDArray[Any]
Array = NDArray[np.float64]
Facts = tuple[Plane, Plane, float]
TABLE = 1025  # linear steps: variances to 1e-4
FALL = 32768.0  # adu that no ramp falls: a 16-bit counter that began anew
NEVER = 1e31  # float32
PLANES = ("data", "variance", "variance_read", "variance_photon", "chi2")


@dataclass(frozen=True, eq=False)
class Fit:
    """The task of the runner: all planes of one band of rows.

    Attributes
    ----------
    values : ndarray or Reads
        (reads, rows, cols).
    design, reads, unit
        As of `design_of`.
    gain, read_noise : ndarray
        (rows, cols), perhaps broadcast.
    """

    values: Plane | Reads
    design: Array
    reads: Array
    unit: float
    gain: Plane
    read_noise: Plane
    saturation: float
    thresholds: tuple[float, float]
    fixsen: bool
    dq: Plane | Reads | None
    marks: Plane | None
    table: Plane = field(default_factory=lambda: np.empty((3, TABLE), np.float32))
    uses_blas = False

    def limits(self) -> Array:
        """Numbers of the fit, for the kernels."""
        one, two = (min(limit, NEVER) for limit in self.thresholds)
        middle = 1.0 / self.design.shape[1]  # where photon noise of a ramp meets its read noise
        return np.array([min(self.saturation, NEVER), one, two, FALL, self.unit, middle])

    def __call__(self, band: tuple[int, int]) -> tuple[slice, dict[str, Plane]]:
        from calibrant.stack import kernels_ramp as kernels  # brings numba, as late as it can

        rows, fit = slice(*band), self.limits()
        values, offset = self._read(rows)
        gain = np.array(self.gain[rows], np.float32, order="C").ravel()  # never read-only: one kernel for all
        rn2 = np.ascontiguousarray(self.read_noise[rows], np.float32).ravel() ** 2
        pixels = rn2.size
        dq = _pixels(None if self.dq is None else self.dq[:, rows])
        marks = _pixels(None if self.marks is None else self.marks[:, rows])
        out, flags = np.empty((len(PLANES), pixels), np.float32), np.zeros(pixels, np.uint8)
        count = np.full(pixels, self.design.shape[1], np.uint16)
        kernels.fit_pixels(
            values, offset, dq, self.design, self.reads, fit, self.table, rn2, gain, self.fixsen, out, flags,
            count, marks,
        )  # fmt: skip
        if self.marks is not None:
            self.marks[:, rows] |= marks.reshape(self.marks[:, rows].shape)
        made: dict[str, Plane] = dict(zip(PLANES, out, strict=True))
        return rows, made | {"count": count, "flags": flags}

    def _read(self, rows: slice) -> tuple[Plane, int]:
        """Reads as (reads, pixels), and where those of the band begin: no copy where none is needed."""
        kind, cols = kind_of(self.values), self.values.shape[2]
        if type(self.values) is np.ndarray and self.values.dtype == kind and self.values.flags.c_contiguous:
            return self.values.reshape(len(self.values), -1), rows.start * cols
        return np.ascontiguousarray(self.values[:, rows], kind).reshape(len(self.values), -1), 0


def _pixels(flags: Plane | None) -> Plane:
    if flags is None:
        return np.empty((0, 0), np.uint8)
    return np.array(flags, np.uint8, order="C").reshape(len(flags), -1)


def kind_of(values: Plane | Reads) -> np.dtype[Any]:
    """Type that the kernels see: uint16 as it is, all else float32."""
    return np.dtype(np.uint16 if values.dtype.kind == "u" and values.dtype.itemsize == 2 else np.float32)


def refuse_inverse(gain: float, stated: float | None, whose: str, tolerance: float = 0.02) -> None:
    """See that a gain is not the reciprocal of the one stated, within a relative tolerance.

    Raises
    ------
    OptionError
        If it is: it would be in adu/e-.
    """
    if stated is None or not stated > 0 or not gain > 0 or abs(math.log(stated)) < max(0.1, 2 * tolerance):
        return
    if abs(math.log(gain * stated)) < tolerance:
        raise OptionError(
            f"the gain is the reciprocal of that of {whose}: it seems to be in adu/e-",
            where="gain", expected=f"e-/adu, about {stated:g}", got=f"{gain:g}", do=f"give {1 / gain:g}",
        )  # fmt: skip


def facts_of(frame: Frame, values: Plane, gain: Any, read_noise: Any, saturation: float | None) -> Facts:
    """Gain [e-/adu] and read noise [adu] as planes, and saturation [adu]; the frame's own where not given.

    Raises
    ------
    OptionError, ShapeError
        If one is unknown, has no meaning or the wrong shape.
    """
    known, shape = frame.exposure, values.shape[1:]
    stated = known.gain
    gain = stated if gain is None else gain
    known_gain = np.asarray(math.nan if gain is None else gain, np.float64)
    known_gain = known_gain[np.isfinite(known_gain)]
    scalar = float(np.median(known_gain)) if known_gain.size else math.nan
    refuse_inverse(scalar, stated, "the header")
    if read_noise is None and known.read_noise is not None and scalar > 0:
        read_noise = known.read_noise / scalar
    if saturation is None:
        whole = values.dtype.kind in "iu" and values.dtype.itemsize <= 2
        top = float(np.iinfo(values.dtype).max) if whole else math.inf
        saturation = top if known.saturation is None else min(known.saturation, top)
    if not saturation > 0:
        raise OptionError(
            "the saturation must be positive", where="saturation", expected="adu", got=saturation
        )
    return (
        plane_of("gain", gain, shape, "> 0 e-/adu"),
        plane_of("read_noise", read_noise, shape, "> 0 adu, of a single read"),
        float(saturation),
    )


def plane_of(name: str, given: Any, shape: tuple[int, ...], expected: str) -> Plane:
    """A number or a map as a map. Single pixels of a map may be unknown: they have no slope."""
    if given is None or not (np.asarray(given, np.float64) > 0).any() or (np.asarray(given) <= 0).all():
        raise OptionError(
            f"ramps need the {name}", where=name, expected=expected, got=given, do=f"give {name}=..."
        )
    plane = np.asarray(given, np.float32)
    if plane.ndim == 0 and not np.isfinite(plane):
        raise OptionError(f"the {name} must be finite", where=name, expected=expected, got=given)
    if plane.shape not in ((), shape):
        raise ShapeError(f"the map of {name} does not fit the ramp", expected=shape, got=plane.shape)
    return np.broadcast_to(np.where(plane > 0, plane, np.float32(np.nan)), shape)


def fit_bands(
    fit: Fit,
    *,
    runner: Any = None,
    budget: str | int = "512MB",
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Plane]:
    """All planes (rows, cols); `flags` are uint8 bits of DQ."""
    from calibrant.stack import kernels_ramp_solve as kernels

    kernels.tabulate(fit.design, fit.limits(), fit.table)
    hands = default_runner(runner)
    reads, rows, cols = fit.values.shape
    outputs = dict.fromkeys(PLANES, "f4") | {"count": "u2", "flags": "u1"}
    size = kind_of(fit.values).itemsize
    flags = (fit.dq is not None) + (fit.marks is not None)
    plan = plan_bands(
        (rows, cols),
        per_pixel_read=size,
        per_pixel_work=reads * (size + 2 * flags) + 13,
        per_pixel_out=sum(np.dtype(kind).itemsize for kind in outputs.values()),
        per_worker=1100 * (4 * fit.design.shape[1] + 20),  # lanes of the sweep, and the table
        fixed=0,
        budget=parse_budget(budget),
        workers=hands.workers,
    )
    planes: dict[str, Plane] = {name: np.empty((rows, cols), kind) for name, kind in outputs.items()}
    for band, made in hands.map(fit, plan.bands()):
        for name, plane in planes.items():
            plane[band] = made[name].reshape(-1, cols)
        if progress is not None:
            progress(band.stop, rows, "ramp")
    return planes


def flagged(flags: Plane, frame: Frame) -> Plane:
    """Flags as uint32, with those of the frame."""
    dq = flags.astype(np.uint32)
    if frame.dq is not None:
        dq |= np.asarray(frame.dq if isinstance(frame.dq, np.ndarray) else frame.dq.load(), np.uint32)
    return dq
