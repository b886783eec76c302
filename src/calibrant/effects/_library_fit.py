"""Rates and activation energies of every pixel: frames read band by band, sums kept, one solution each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._levels import bands, level, read_sample
from calibrant.effects._library_law import Law
from calibrant.errors import SelectionError
from calibrant.frame import DQ
from calibrant.stack import kernels_arrhenius, kernels_library
from calibrant.stack.band import Scratch
from calibrant.stack.plan import Plan, plan_bands
from calibrant.stack.run import Serial, Threads, default_runner, parse_budget
from calibrant.stack.source import ArraySource, Encoding, Source, decode

Array = NDArray[np.float64]
Plane = NDArray[Any]
BAD = np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)
SAMPLE = 1 << 16  # pixels: sets the level of a dark to noise / 200
LARGEST = 3e38  # float32
CAMERA = Encoding(">i2", zero=32768.0)  # uint16 as FITS files have it
CACHED = 12 << 20  # bytes of all darks that are worked on together
PLANES = (
    "data", "energy", "variance", "energy_variance", "covariance", "bias_response", "energy_response",
    "law_chi2",
)  # fmt: skip
"""Of the kernel's law, in its order."""


@dataclass(frozen=True, eq=False)
class Darks:
    """The frames in the order of the kernels: by temperature, then by time.

    Attributes
    ----------
    order : ndarray
        Index of each in the series.
    times, shifts : ndarray
        s, and adu above the line of its temperature.
    member : ndarray
        Index of its temperature.
    """

    order: NDArray[np.intp]
    times: Array
    shifts: Array
    member: NDArray[np.intp]


def in_order(times: Array, shifts: Array, groups: Sequence[Sequence[int]]) -> Darks:
    """Frames of a series, whose `groups` are those of each temperature."""
    member = np.empty(times.size, np.intp)
    for number, frames in enumerate(groups):
        member[list(frames)] = number
    order = np.lexsort((times, member))
    return Darks(order, times[order], shifts[order], member[order])


@dataclass(frozen=True)
class Rules:
    """How values are weighed and judged.

    Attributes
    ----------
    read_noise, gain : float
        adu, e-/adu.
    known : bool
        Whether the zero level is: a bias is subtracted.
    limit : float
        Sigmas beyond which a value is left out.
    saturation : float or None
        adu from which values are left out.
    pivot : float
        adu, subtracted before sums are made where no bias is.
    """

    read_noise: float
    gain: float
    known: bool
    limit: float
    saturation: float | None
    pivot: float


@dataclass(frozen=True, eq=False)
class Design:
    """What all pixels share, for the kernels.

    Attributes
    ----------
    frames, groups, fit : ndarray
        As of `calibrant.stack.kernels_library`.
    x : ndarray
        1/kT of the groups less that of the reference, 1/eV.
    pivot : float
        As of `Rules`.
    freedom : int
        Parameters of a pixel.
    """

    frames: Array
    groups: Array
    fit: Array
    x: Array
    law: Law
    pivot: float
    freedom: int


def design_of(darks: Darks, law: Law, x: Array, rules: Rules) -> Design:
    """Weights from the median law, and all sums that do not depend on the pixel.

    The model is ``value - shift = zero + rate_g t``, with one zero level for all groups.

    Raises
    ------
    SelectionError
        If the frames do not determine it.
    """
    many, free, gain = law.fitted.size, not rules.known, rules.gain
    times, member = darks.times, darks.member
    expected = np.maximum(law.fitted, 0.0)[member] * times / gain
    rn2 = max(rules.read_noise, 1e-3) ** 2
    w = 1.0 / (rn2 + expected)

    def add(values: Array) -> Array:
        return np.bincount(member, values, many).astype(np.float64)

    st, stt = add(w * times), add(w * times**2)
    seen = stt > 0
    inverse = np.where(seen, 1.0 / np.where(seen, stt, 1.0), 0.0)
    c = st * inverse
    det = float(w.sum() - (st * c).sum())
    if free and det <= 1e-9 * w.sum():
        raise SelectionError(
            "these darks do not tell their zero level from their dark current: no temperature has two times",
            expected="a bias, or darks of several exposure times at one temperature or more",
            got="one exposure time at each temperature",
            do="give a bias, or add darks of other times",
        )
    one = 1.0 / det if free else 0.0
    lever = 1.0 - c[member] * times
    left = 1.0 - w * times**2 * inverse[member] - w * lever**2 * one
    zero = (w * lever * one) ** 2
    longest = np.array([times[member == g].max(initial=0.0) for g in range(many)])
    slow = np.where(longest > 0, 2 * rn2 * gain / np.maximum(longest, 1e-9), LARGEST)
    groups = np.array([
        law.fitted, c, inverse, add(w**2 * times**2) * inverse**2, add(w**2 * times**3) * inverse**2,
        add(zero * times), np.minimum(slow + 3 * law.fitted, LARGEST),
    ])  # fmt: skip
    full = LARGEST if rules.saturation is None else rules.saturation
    fit = np.array([rn2, gain, float(free), one, float(zero.sum()), min(rules.limit, 1e15), full])
    stress = np.where(left > 1e-6, 1.0 / np.maximum(left, 1e-6), 0.0)
    frames = np.array([times, w, darks.shifts, member, stress, _ends(times, member)], np.float64)
    return Design(frames, groups, fit, x, law, rules.pivot, int(seen.sum()) + free)


def _ends(times: Array, member: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each frame the one after the last of its setting, of which the kernels take a few at a time."""
    at = np.arange(times.size)
    ends = np.append(np.flatnonzero((np.diff(times) != 0) | (np.diff(member) != 0)) + 1, times.size)
    end = ends[np.searchsorted(ends, at, "right")]
    begin = np.append(0, ends)[np.searchsorted(ends, at, "right")]
    most = kernels_library.TOGETHER
    return np.asarray(np.minimum(end, begin + ((at - begin) // most + 1) * most))


@dataclass(frozen=True, eq=False)
class Bands:
    """The task of the runner: all planes of one band of rows.

    They are written `into` whole planes where those are in reach, and else returned.
    """

    sources: tuple[Source, ...]
    plain: tuple[bool, ...]  # sources whose numbers are values as they are
    design: Design
    dtype: str
    bias: NDArray[np.float32] | None
    bias_variance: NDArray[np.float32] | None
    outputs: dict[str, str]
    into: dict[str, Plane] | None = None
    cube: tuple[Plane, NDArray[np.intp]] | None = None  # all frames where they lie together, and their order
    scratch: Scratch = field(default_factory=Scratch)
    uses_blas = False

    def __call__(self, band: tuple[int, int]) -> tuple[slice, dict[str, Plane]]:
        rows, d, get = slice(*band), self.design, self.scratch.get
        values, place, begin = self._values(rows)
        n, pixels = place.size, (rows.stop - rows.start) * self.sources[0].shape[1]
        made = self._planes(rows, pixels)
        zero, bad, pivot = get("shared", (3, pixels), np.float32)
        rates, var, mean = get("rates", (3, d.groups.shape[1], pixels), np.float32)
        chi2, count, zero_var = made["chi2"], made["count"], made["bias_propagated"]
        count[:], zero_var[:] = n, 0
        pivot[:] = d.pivot if self.bias is None else self.bias[rows].ravel()
        if self.bias_variance is not None:
            zero_var[:] = self.bias_variance[rows].ravel()
        kernels_library.fit_lines(
            values,
            place,
            begin,
            pivot,
            d.frames,
            d.groups,
            d.fit,
            zero,
            rates,
            zero_var,
            var,
            mean,
            chi2,
            bad,
        )
        most = max(2, n // 4)
        kernels_library.mend(
            values,
            place,
            begin,
            pivot,
            d.frames,
            d.fit,
            bad,
            most,
            zero,
            rates,
            chi2,
            zero_var,
            var,
            mean,
            count,
        )
        law = tuple(made[name] for name in PLANES)
        kernels_arrhenius.arrhenius(
            rates, var, mean, zero_var, d.x, d.law.fitted, d.law.scale, d.law.energy, law, made["kind"]
        )
        freedom = count.astype(np.float32) - d.freedom
        np.divide(chi2, freedom, out=chi2, where=freedom > 0)
        chi2[freedom <= 0] = np.nan
        if self.bias is None:
            np.add(zero, pivot, out=made["bias"])
        return rows, made if self.into is None else {}

    def _planes(self, rows: slice, pixels: int) -> dict[str, Plane]:
        """Where the planes of a band go, (pixels,)."""
        if self.into is None:
            return {name: np.empty(pixels, kind) for name, kind in self.outputs.items()}
        return {name: plane[rows].reshape(-1) for name, plane in self.into.items()}

    def _values(self, rows: slice) -> tuple[Plane, NDArray[np.intp], int]:
        """All frames, the row of each in them, and the column of the band's first pixel."""
        if self.cube is not None:
            return *self.cube, rows.start * self.sources[0].shape[1]
        return self._read(rows), np.arange(len(self.sources)), 0

    def _read(self, rows: slice) -> Plane:
        """All frames of a band, (frames, pixels): integers as they are, else float32 with NaN."""
        cols = self.sources[0].shape[1]
        shape = (len(self.sources), rows.stop - rows.start, cols)
        values = self.scratch.get("values", shape, np.dtype(self.dtype))
        for source, plain, out in zip(self.sources, self.plain, values, strict=True):
            if plain:
                source.read_into(rows, out)
            else:
                _read_decoded(source, rows, out)
        return values.reshape(len(values), -1)


def _cube_of(sources: Sequence[Source], dtype: str) -> tuple[Plane, NDArray[np.intp]] | None:
    """Frames that are planes of one array in memory: (planes, pixels) of it, and the plane of each frame.

    They are worked on where they are: a copy of each band would take as long as the lines.
    """
    arrays = [source.array for source in sources if isinstance(source, ArraySource) and not source.has_dq]
    base = arrays[0].base if arrays else None
    if len(arrays) < len(sources) or not isinstance(base, np.ndarray) or base.ndim != 3:
        return None
    alike = all(
        a.base is base and a.shape == base.shape[1:] and a.strides == base.strides[1:] for a in arrays
    )
    if not alike or not base.flags.c_contiguous or base.dtype != np.dtype(dtype):
        return None
    start = base.__array_interface__["data"][0]
    places = [(a.__array_interface__["data"][0] - start) // base.strides[0] for a in arrays]
    return base.reshape(len(base), -1), np.array(places, np.intp)


def _read_decoded(source: Source, rows: slice, out: Plane) -> None:
    """Rows of a source as values; what is flagged becomes NaN."""
    if source.encoding == CAMERA and out.dtype == np.uint16 and not source.has_dq:
        source.read_into(rows, out.view(CAMERA.dtype))
        kernels_library.turn(out.reshape(-1))
        return
    raw = np.empty(out.shape, np.dtype(source.encoding.dtype))
    dq = np.zeros(out.shape, np.uint32) if source.has_dq else None
    source.read_into(rows, raw, dq)
    out[:] = decode(raw, source.encoding)
    if dq is not None:
        out[(dq & BAD) != 0] = np.nan


def fit_pixels(
    sources: Sequence[Source],
    design: Design,
    *,
    bias: NDArray[np.float32] | None,
    bias_variance: NDArray[np.float32] | None,
    runner: Any = None,
    budget: str | int = "512MB",
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[dict[str, Plane], Plan]:
    """All planes, (rows, cols), and the plan that they were made by.

    Raises
    ------
    BudgetError
        If not even a row of all frames fits; before a pixel is read.
    """
    hands = default_runner(runner)
    rows, cols = sources[0].shape
    dtype = _type_of(sources)
    many = design.groups.shape[1]
    outputs = dict.fromkeys((*PLANES, "chi2", "bias_propagated"), "f4") | {"count": "u2", "kind": "u1"}
    if bias is None:
        outputs["bias"] = "f4"
    size = np.dtype(dtype).itemsize
    work = len(sources) * size + 12 * many + 24 + 36
    out = sum(np.dtype(t).itemsize for t in outputs.values())
    # Values should still lie in the cache when they have been read.
    near = max(cols, CACHED // max(1, len(sources) * size)) * hands.workers * (size + work)
    plan = plan_bands(
        (rows, cols),
        per_pixel_read=size,
        per_pixel_work=work,
        per_pixel_out=out,
        per_worker=0,
        fixed=0,
        budget=min(parse_budget(budget), rows * cols * out + near),
        workers=hands.workers,
    )
    planes: dict[str, Plane] = {name: np.empty((rows, cols), t) for name, t in outputs.items()}
    plain = Encoding(np.dtype(dtype).str)
    as_they_are = tuple(not source.has_dq and source.encoding == plain for source in sources)
    # Threads write their rows where they belong; from elsewhere they have to travel.
    into = planes if isinstance(hands, Serial | Threads) else None
    cube = None if into is None else _cube_of(sources, dtype)
    task = Bands(tuple(sources), as_they_are, design, dtype, bias, bias_variance, outputs, into, cube)
    for band, made in hands.map(task, plan.bands()):
        for name, values in made.items():
            planes[name][band] = values.reshape(-1, cols)
        if progress is not None:
            progress(band.stop, rows, "dark library")
    return planes, plan


def _type_of(sources: Sequence[Source]) -> str:
    """uint16 where every frame is one of small integers without flags, else float32."""
    for source in sources:
        empty = np.zeros((1, 1), np.dtype(source.encoding.dtype))
        if source.has_dq or decode(empty, source.encoding).dtype != np.uint16:
            return "=f4"
    return "=u2"


@dataclass(frozen=True, eq=False)
class _Level:
    """The task of the runner: the median of a sample of one dark, less that of the bias."""

    rows: tuple[slice, ...]
    less: NDArray[np.float32] | None
    uses_blas = False

    def __call__(self, source: Source) -> float:
        values = read_sample(source, self.rows)
        return level(values if self.less is None else values - self.less)


def levels_of(sources: Sequence[Source], bias: NDArray[np.float32] | None, runner: Any) -> Array:
    """Median of each dark, less its bias, adu: of the same pixels in all, so that their pattern cancels."""
    rows = tuple(bands(sources[0].shape, SAMPLE))
    less = None if bias is None else np.concatenate([bias[band] for band in rows])
    return np.array(list(default_runner(runner).map(_Level(rows, less), sources)))


def thin(plane: Plane) -> Plane:
    """A quarter of a million pixels of a plane or more, evenly spread: enough for medians."""
    step = max(1, math.isqrt(plane.size >> 18))
    return plane[::step, ::step]
