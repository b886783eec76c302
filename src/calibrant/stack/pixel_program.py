"""From a list of pixel steps to a program of the fused kernel, and a band of rows through it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.frame import DQ, NO_DATA
from calibrant.stack import pixel_kernels as kernel
from calibrant.stack.pixel_step import PLANE_NAMES, Curve, Operand, PixelStep
from calibrant.stack.source import Encoding, decode

_KEPT = (kernel.KEEP, False, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Band:
    """The planes of a band of rows: data, variance and systematic float32, dq uint32, (rows, cols) each."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    systematic: NDArray[np.float32] | None
    dq: NDArray[np.uint32]

    @classmethod
    def empty(cls, shape: tuple[int, int], *, variance: bool, systematic: bool) -> Band:
        """Uninitialised planes."""
        return cls(
            np.empty(shape, np.float32),
            np.empty(shape, np.float32) if variance else None,
            np.empty(shape, np.float32) if systematic else None,
            np.empty(shape, np.uint32),
        )

    def rows(self, rows: slice) -> Band:
        """Views of some rows."""
        return Band(
            self.data[rows],
            None if self.variance is None else self.variance[rows],
            None if self.systematic is None else self.systematic[rows],
            self.dq[rows],
        )


@dataclass(frozen=True, eq=False)
class Program:
    """Steps as the kernel runs them: parts of (ops, constants, planes)."""

    parts: tuple[tuple[NDArray[np.int64], NDArray[np.float32], tuple[NDArray[np.float32], ...]], ...]

    def run(self, raw: NDArray[Any] | None, encoding: Encoding, first: int, band: Band) -> None:
        """Decode `raw` ((rows, cols), in `encoding`) and run the steps; `first` is its row in the planes.

        None: the values are in the band already.
        """
        stored, form = (_NOTHING, _KEPT) if raw is None else raw_form(raw, encoding)
        spare = np.empty((1, band.data.shape[1]), np.float32)
        out = (
            band.data,
            band.data.view(np.uint32),
            spare if band.variance is None else band.variance,
            spare if band.systematic is None else band.systematic,
            band.dq,
        )
        for part in self.parts:
            kernel.run(stored, form, part, first, out)
            form = _KEPT

    def run_flagged(
        self,
        raw: NDArray[Any],
        encoding: Encoding,
        first: int,
        data: NDArray[np.float32],
        dq: NDArray[np.uint32],
    ) -> None:
        """The same for a program without errors."""
        self.run(raw, encoding, first, Band(data, None, None, dq))


def raw_form(
    raw: NDArray[Any], encoding: Encoding
) -> tuple[tuple[NDArray[np.uint16], NDArray[np.uint32]], tuple[int, bool, float, float]]:
    """Stored numbers as the kernel takes them: bits of 16 and of 32, (code, swapped, scale, zero).

    Numbers of 8 and 64 bits, and integers with a blank, are rare: they are decoded before.

    Raises
    ------
    OptionError
        If they are no real numbers.
    """
    codes = {"i2": kernel.I2, "u2": kernel.U2, "i4": kernel.I4, "f4": kernel.F4}
    dtype = np.dtype(encoding.dtype)
    if dtype.kind not in "biuf":
        raise OptionError("pixels must be real numbers", expected="integers or floats", got=dtype)
    code = codes.get(f"{dtype.kind}{dtype.itemsize}")
    if code is None or (dtype.kind in "iu" and encoding.blank is not None):
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is flagged
            raw = decode(raw, encoding).astype(np.float32)
        encoding, dtype, code = Encoding("=f4"), np.dtype(np.float32), kernel.F4
    stored = np.require(raw, dtype, ["C", "A"])
    halves = _read_only(stored.view(np.uint16) if dtype.itemsize == 2 else np.empty((0, 0), np.uint16))
    words = _read_only(stored.view(np.uint32) if dtype.itemsize == 4 else np.empty((0, 0), np.uint32))
    return (halves, words), (code, not dtype.isnative, float(encoding.scale), float(encoding.zero))


def take(
    rows: tuple[NDArray[Any], NDArray[np.uint32]],
    encoding: Encoding,
    amplifiers: NDArray[np.int64],
    levels: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    out: tuple[NDArray[np.float32], NDArray[np.uint32] | None],
) -> None:
    """Decode amplifiers in raw rows, subtract their levels, and put them at their places.

    Parameters
    ----------
    rows : tuple
        Stored numbers, (rows, columns of the raw image), in `encoding`; uint32 flags, or one row of zeros.
    amplifiers, levels : ndarray
        As of `calibrant.stack.pixel_kernels.take`.
    out : tuple
        data float32 and dq uint32 (or None), (rows, columns) of the result.
    """
    stored, form = raw_form(rows[0], encoding)
    dq = np.empty((0, out[0].shape[1]), np.uint32) if out[1] is None else out[1]
    kernel.take(stored, form, amplifiers, levels, rows[1], (out[0], dq))


def compile_steps(
    steps: Sequence[PixelStep],
    shape: tuple[int, ...],
    *,
    variance: NDArray[Any] | bool = False,
    systematic: NDArray[Any] | bool = False,
    dq: NDArray[Any] | None = None,
    keep_dq: bool = False,
) -> Program:
    """The program of `steps` for images of `shape`.

    Parameters
    ----------
    variance, systematic : array or bool
        The plane at the start; True: it starts with the first step that makes it; False: leave it, and all
        operations on it, out.
    dq : array, optional
        Flags at the start; None: no flags.
    keep_dq : bool
        Start from the flags that stand in the band.
    """
    build = _Builder((shape[0], shape[1]))
    build.start(steps, dq, keep_dq=keep_dq)
    build.variance.start(variance)
    build.systematic.start(systematic)
    for step in steps:
        build.step(step)
    return build.program()


@dataclass
class _ErrorPlane:
    """Where an error plane stands while a program is written."""

    build: _Builder
    set_code: int
    wanted: bool = False
    begun: bool = False  # before, it is zero everywhere, and operations on it are left out

    def start(self, plane: NDArray[Any] | bool) -> None:
        self.wanted = plane is not False
        if not isinstance(plane, bool):
            self.set(plane)
            self.build.dirty = True

    def set(self, plane: Operand, factor: float = 1.0) -> None:
        self.build.add(self.set_code, plane, c=factor)
        self.begun = True


@dataclass
class _Operation:
    """One operation of a program: places of its planes (0: a row of zeros) and constants, as far as used."""

    code: int
    planes: list[int]
    consts: list[float]
    bits: int = 0

    @property
    def row(self) -> list[int]:
        """As the kernel takes it."""
        return [self.code, *self.planes, *[0] * (kernel.OPERANDS - len(self.planes)), self.bits]

    @property
    def constants(self) -> list[float]:
        """As the kernel takes them."""
        return [*self.consts, *[_NO_FACTOR] * (kernel.CONSTANTS - len(self.consts))]


_NO_FACTOR = -1.0  # of the row of zeros: less zero changes no number, plus zero makes 0 of -0
_NO_OPERATION = _Operation(-1, [0], [_NO_FACTOR])


class _Builder:
    """Writes a program operation by operation, leaving out and joining what it can."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.ops: list[_Operation] = []
        self.planes: list[NDArray[np.float32]] = []
        self.places: dict[tuple[int, type], int] = {}  # of the planes above, by the arrays of the steps
        self.parts: list[Any] = []
        self.variance = _ErrorPlane(self, kernel.SET_VARIANCE)
        self.systematic = _ErrorPlane(self, kernel.SET_SYSTEMATIC)
        self.dirty = False  # data may have become infinite, or errors be numbers where the data are NaN
        self.divisions: list[_Operation] = []  # that can take a following scale
        self.checked = False  # whether the saturation of the next step was looked at already

    def add(
        self,
        code: int,
        plane: Operand | None = None,
        second: Operand | None = None,
        *,
        c: float = 1.0,
        bits: int = 0,
        dtype: type[np.generic] = np.float32,
    ) -> None:
        self._put(code, (self._hold(plane, dtype), self._hold(second, dtype)), c, bits)

    def _put(self, code: int, where: tuple[int, ...], c: float, bits: int = 0) -> _Operation:
        self.ops.append(_Operation(code, [*where], [c], int(bits)))
        return self.ops[-1]

    def _hold(self, plane: Operand | None, dtype: type[np.generic]) -> int:
        """Place of a plane in the tuple; 0 is a row of zeros, for operations without one."""
        if not self.planes:
            self.planes.append(_plane(0.0, self.shape, np.float32))
        if plane is None:
            return 0
        key = (id(plane), dtype)
        if key not in self.places:
            self.places[key] = len(self.planes)
            self.planes.append(_plane(plane, self.shape, dtype))
        return self.places[key]

    def start(self, steps: Sequence[PixelStep], dq: NDArray[Any] | None, *, keep_dq: bool) -> None:
        if not keep_dq:
            limit = steps[0].saturation if steps else None
            self.checked = True
            self.add(kernel.START, dq, c=math.nan if limit is None else limit, bits=NO_DATA, dtype=np.uint32)
        else:
            self.add(kernel.CHECK, c=math.nan, bits=NO_DATA)

    def step(self, step: PixelStep) -> None:
        if len(self.planes) + _planes_of(step) > kernel.PLANES:
            self._end_part()
        if step.saturation is not None and not self.checked:
            self.divisions = []
            self.add(kernel.CHECK, c=step.saturation, bits=DQ.DO_NOT_USE)
        self.checked = False
        if step.curve is not None:
            self._curve(step.curve)
        self._offset(step)
        self._noise(step)
        self._divisor(step)
        self._scale(step.scale)
        if step.dq is not None:
            self.add(kernel.FLAG, step.dq, dtype=np.uint32)

    def _curve(self, curve: Curve) -> None:
        self.divisions, self.dirty = [], True
        # Not by `_hold`: it would take another object for this one, once this one is gone.
        index, packed = len(self.planes), _packed(curve)
        self.planes += [_amplifiers(curve.index, self.shape), packed.reshape(1, -1)]
        width = float(packed.shape[1])
        for plane, code in (
            (self.variance, kernel.CURVE_VARIANCE),
            (self.systematic, kernel.CURVE_SYSTEMATIC),
        ):
            if plane.begun:
                self._put(code, (index, index + 1), width)
        self._put(kernel.CURVE, (index, index + 1), width, curve.flag)

    def _offset(self, step: PixelStep) -> None:
        if step.offset is not None:
            self.divisions, self.dirty = [], True
            self._add_offset(step.offset, -step.offset_factor)
        if step.offset_variance is not None and self.systematic.wanted:
            factor = step.offset_factor**2
            if self.systematic.begun:
                self.add(kernel.ADD_SYSTEMATIC, step.offset_variance, c=factor)
            else:
                self.systematic.set(step.offset_variance, factor)

    def _add_offset(self, offset: Operand, factor: float) -> None:
        """As an operation, or in the loop of the check before it."""
        last = self.ops[-1] if self.ops else None
        if last is None or last.code not in (kernel.START, kernel.CHECK) or len(last.consts) > 1:
            self.add(kernel.ADD, offset, c=factor)
            return
        last.planes[1] = self._hold(offset, np.float32)
        last.consts.append(factor)

    def _noise(self, step: PixelStep) -> None:
        if step.makes_variance and self.variance.wanted:
            self.divisions = []
            inverse_gain = 0.0 if step.gain is None else 1.0 / step.gain
            code = kernel.NOISE if self.variance.begun else kernel.FIRST_NOISE
            self.add(code, step.read_noise, c=inverse_gain)
            self.variance.begun = True

    def _divisor(self, step: PixelStep) -> None:
        if step.divisor is None:
            return
        bits = int(DQ.DO_NOT_USE | step.divisor_flag)
        divisor = self._hold(step.divisor, np.float32)
        noise, offset, flags = self._before_division()
        if noise is None:
            self.divisions = [self._put(kernel.DIVIDE, (divisor,), 1.0, bits)]
        else:
            planes = noise.planes[0], offset.planes[0], flags.planes[0], divisor
            self.divisions = [self._put(kernel.LIGHT, planes, 1.0, bits)]
            self.divisions[0].consts += [noise.consts[0], offset.consts[0]]
        if self.systematic.wanted and step.divisor_variance is not None and not self.systematic.begun:
            self.systematic.set(0.0)
        if self.systematic.begun:
            self.add(kernel.DIVIDE_SYSTEMATIC, step.divisor, step.divisor_variance)
            self.divisions.append(self.ops[-1])
        self.dirty = False

    def _before_division(self) -> tuple[_Operation | None, _Operation, _Operation]:
        """Noise, offset and flags that end the program, taken out of it; no noise: all are left in it.

        What is done to the systematic variance alone may stand between them.
        """
        alone = kernel.SET_SYSTEMATIC, kernel.ADD_SYSTEMATIC
        rest = [op for op in self.ops if op.code not in alone]
        found = []
        for code in (kernel.FLAG, kernel.ADD, kernel.FIRST_NOISE):
            found.append(rest.pop() if rest and rest[-1].code == code else _NO_OPERATION)
        flags, offset, noise = found
        if noise is _NO_OPERATION:
            return None, offset, flags
        self.ops = [op for op in self.ops if not any(op is one for one in found)]
        return noise, offset, flags

    def _scale(self, scale: float) -> None:
        if scale == 1.0:
            return
        if self.divisions:
            for division in self.divisions:
                division.consts[0] *= scale
            return
        self.dirty = True
        self.add(kernel.SCALE, c=scale)
        if self.variance.begun:
            self.add(kernel.SCALE_VARIANCE, c=scale**2)
        if self.systematic.begun:
            self.add(kernel.SCALE_SYSTEMATIC, c=scale**2)

    def _end_part(self) -> None:
        padding = [_plane(0.0, (1, 1), np.float32)] * (kernel.PLANES - len(self.planes))
        ops = np.array([op.row for op in self.ops], np.int64).reshape(-1, kernel.OPERANDS + 2)
        consts = np.array([op.constants for op in self.ops], np.float32).reshape(-1, kernel.CONSTANTS)
        self.parts.append((ops, consts, (*self.planes, *padding)))
        self.ops, self.planes, self.places, self.divisions = [], [], {}, []

    def program(self) -> Program:
        if self.dirty:
            self.add(kernel.CHECK, c=math.nan, bits=DQ.DO_NOT_USE)
            if self.variance.begun:
                self.add(kernel.FINISH_VARIANCE)
            if self.systematic.begun:
                self.add(kernel.FINISH_SYSTEMATIC)
        if not self.planes:
            self._hold(None, np.float32)
        self._end_part()
        return Program(tuple(self.parts))


def _planes_of(step: PixelStep) -> int:
    """The most planes that a step needs: its own, two of a curve, and two rows of zeros."""
    own = sum(getattr(step, name) is not None for name in PLANE_NAMES)
    return 2 + own + (0 if step.curve is None else 2)


def _plane(value: Any, shape: tuple[int, int], dtype: type[np.generic]) -> NDArray[np.float32]:
    """A plane as the kernel takes it: read-only float32 (flags: their bits), contiguous, two axes.

    A number becomes one row, which stays in the cache.
    """
    with np.errstate(over="ignore"):
        plane = np.require(np.atleast_2d(np.asarray(value)), dtype, ["C", "A"])
    if plane.shape == (1, 1):
        plane = np.full((1, shape[1]), plane[0, 0], dtype)
    return _read_only(plane.view(np.float32))


def _amplifiers(index: NDArray[np.uint8] | int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Amplifier numbers as a plane: four to a float32; at least two of these, since one would be spread."""
    numbers = np.atleast_2d(np.asarray(index, np.uint8))
    numbers = np.broadcast_to(numbers, (numbers.shape[0], shape[1]))
    room = max(8, -(-shape[1] // 4) * 4)
    if room > shape[1]:
        numbers = np.pad(numbers, ((0, 0), (0, room - shape[1])), mode="edge")
    return _read_only(np.require(numbers, np.uint8, ["C", "A"]).view(np.float32))


def _packed(curve: Curve) -> NDArray[np.float32]:
    """Curves as the kernel takes them, a row each: numbers (`CURVE_HEAD`), then pairs of value and step."""
    limit = np.full(len(curve.table), np.nan) if curve.saturation is None else curve.saturation
    unused = np.zeros(len(curve.table))  # an even number, so that pairs lie at whole words
    head = np.stack([curve.start, 1.0 / curve.spacing, curve.low, curve.high, limit, unused], axis=1)
    table = curve.table.astype(np.float32)
    steps = np.diff(table, axis=1, append=table[:, -1:])
    pairs = np.stack([table, steps], axis=2).reshape(len(table), -1)
    return _read_only(np.hstack([head.astype(np.float32), pairs]))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


_NOTHING = _read_only(np.empty((0, 0), np.uint16)), _read_only(np.empty((0, 0), np.uint32))
