"""The fused pixel kernel: decodes rows and runs a list of small operations on each while it is in the cache.

One function, `run`, is called from outside. It is an interpreter: a program is an array of operations
(`ops`: code, planes, bits), their constants, and a tuple of planes of a fixed length, so that numba compiles
it once for every list of steps and every kind of raw data. What comes in one order in almost every list is
one operation (`START` and `CHECK` with an offset, `LIGHT`), which loads and stores each pixel once.

Why it looks as it does:

* Planes and raw bytes come as read-only arrays: a plane may be a read-only map, and one type means one
  compile.
* Flags travel in the same tuple as float32 views of their uint32 bits, amplifier numbers of curves as views
  of four uint8; nothing computes with them as floats.
* Every loop runs over contiguous rows with selects in place of branches, so that it becomes vector code. No
  `fastmath`: NaN carries meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

PLANES = 16
"""Length of the tuple of planes; longer programs are cut by the caller."""

BLOCK = 16384
"""Pixels that an operation works on before the next one begins: their planes fit the second cache."""

# Operation codes.
START, CHECK, ADD, NOISE, FIRST_NOISE, DIVIDE, DIVIDE_SYSTEMATIC, SCALE, SCALE_VARIANCE = range(9)
SCALE_SYSTEMATIC, FLAG, SET_VARIANCE, SET_SYSTEMATIC, ADD_SYSTEMATIC = range(9, 14)
FINISH_VARIANCE, FINISH_SYSTEMATIC, CURVE, CURVE_VARIANCE, CURVE_SYSTEMATIC, LIGHT = range(14, 20)

OPERANDS, CONSTANTS = 4, 3
"""Planes and constants of an operation; the first constant of a division is its scale."""

CURVE_HEAD = 6
"""Numbers before the table of an amplifier in a row of curves: start, 1/spacing, low, high, saturation, none.

The table is of pairs: the value at a node, and how far the next one is above it.
"""

RUN = 64
"""Pixels that are looked at together in search of the next amplifier."""

# Codes of the raw numbers.
KEEP, I2, U2, I4, F4 = range(5)

# Bits of `calibrant.frame.DQ`, written here because a cached kernel does not see an edit in another file.
DO_NOT_USE, SATURATED, NO_DATA = 1, 2, 513

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def _jit(function: _Kernel) -> _Kernel:
    """Compile as a function that only other kernels call: without its doors to Python and C."""
    compiler = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return cast("_Kernel", compiler(function))


def _joined(function: _Kernel) -> _Kernel:
    """Compile as a part of the caller: layers of calls would each be optimised again."""
    return cast("_Kernel", njit(nogil=True, error_model="numpy", inline="always")(function))


def _door(function: _Kernel) -> _Kernel:
    """Compile on first use, keep on disk, and let other threads run meanwhile."""
    compiler = njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
    return cast("_Kernel", compiler(function))


@_jit
def _decode_halves(stored: Any, swap: Any, flip: Any, scale: Any, zero: Any, out: Any) -> None:
    """16-bit integers; flip = 0x8000 reads them as signed: (v ^ 0x8000) - 0x8000 extends the sign."""
    for k in range(out.shape[0]):
        v = stored[k]
        v = np.uint16((v >> 8) | (v << 8)) if swap else v
        out[k] = np.float32((np.int32(v) ^ flip) - flip) * scale + zero


@_jit
def _decode_words(stored: Any, swap: Any, integers: Any, scale: Any, zero: Any, bits: Any, out: Any) -> None:
    """32-bit numbers. float32 does not hold them while they are scaled: float64, as in `source.decode`."""
    for k in range(out.shape[0]):
        v = stored[k]
        bits[k] = (
            np.uint32((v >> 24) | ((v >> 8) & 0xFF00) | ((v << 8) & 0xFF0000) | (v << 24)) if swap else v
        )
    if integers:
        for k in range(out.shape[0]):
            value = np.float64(bits[k]) - np.float64(bits[k] >> 31) * 4294967296.0  # two's complement
            out[k] = np.float32(value * scale + zero)
    elif scale != 1.0 or zero != 0.0:
        for k in range(out.shape[0]):
            out[k] = np.float32(np.float64(out[k]) * scale + zero)


@_jit
def _start(flags: Any, offset: Any, limit: Any, factor: Any, bits: Any, data: Any, dq: Any) -> None:
    """First flags: those given, saturation, and data that are no numbers; infinities become NaN.

    Then offset * factor is added.
    """
    given = flags.view(np.uint32)
    for k in range(data.shape[0]):
        x = data[k]
        nothing = x - x  # 0 for numbers, NaN for NaN and infinities
        x += nothing
        data[k] = x + offset[k] * factor
        saturated = np.uint32(SATURATED) if x >= limit else np.uint32(0)
        dq[k] = given[k] | saturated | (np.uint32(0) if nothing == np.float32(0) else bits)


@_jit
def _check(offset: Any, limit: Any, factor: Any, bits: Any, data: Any, dq: Any) -> None:
    """The same later on, on top of the flags that stand."""
    for k in range(data.shape[0]):
        x = data[k]
        nothing = x - x
        x += nothing
        data[k] = x + offset[k] * factor
        saturated = np.uint32(SATURATED) if x >= limit else np.uint32(0)
        dq[k] |= saturated | (np.uint32(0) if nothing == np.float32(0) else bits)


@_jit
def _finish_errors(data: Any, other: Any) -> None:
    """An error plane is NaN where the data are."""
    for k in range(data.shape[0]):
        other[k] += data[k] - data[k]


@_jit
def _add(plane: Any, factor: Any, other: Any) -> None:
    for k in range(other.shape[0]):
        other[k] += plane[k] * factor


@_jit
def _copy(plane: Any, factor: Any, out: Any) -> None:
    for k in range(out.shape[0]):
        out[k] = plane[k] * factor


@_jit
def _noise(data: Any, read_noise: Any, inverse_gain: Any, variance: Any) -> None:
    for k in range(data.shape[0]):
        x = data[k]
        signal = np.float32(0) if x < np.float32(0) else x  # NaN stays
        variance[k] = read_noise[k] * read_noise[k] + signal * inverse_gain


@_jit
def _inverse(f: Any) -> Any:
    """1/f, and NaN for zero and for what is no number."""
    # A condition before the division would keep the loop from vector code. 1/0 is infinite, 1/infinity 0.
    i = np.float32(1) / f
    good = (i - i == np.float32(0)) & (i != np.float32(0))
    return i if good else np.float32(np.nan)


@_jit
def _divide(divisor: Any, scale: Any, bits: Any, data: Any, variance: Any, dq: Any) -> None:
    """Multiply the data by scale/divisor, the variance by its square, and flag what is NaN after it."""
    bad_divisor, bad = bits, bits & np.uint32(DO_NOT_USE)
    for k in range(data.shape[0]):
        i = _inverse(divisor[k])
        y = data[k] * (i * scale)
        nothing = y - y
        data[k] = y + nothing
        variance[k] = variance[k] * ((i * scale) * (i * scale)) + nothing
        dq[k] |= (np.uint32(0) if i == i else bad_divisor) | (
            np.uint32(0) if nothing == np.float32(0) else bad
        )


@_jit
def _light(planes: Any, constants: Any, bits: Any, data: Any, variance: Any, dq: Any) -> None:
    """From counts above the bias to light: first noise, an offset, flags and a division, in this order."""
    read_noise, offset, flags, divisor = planes
    scale, inverse_gain, factor = constants
    given = flags.view(np.uint32)
    bad_divisor, bad = bits, bits & np.uint32(DO_NOT_USE)
    for k in range(data.shape[0]):
        x = data[k]
        signal = np.float32(0) if x < np.float32(0) else x  # NaN stays
        v = read_noise[k] * read_noise[k] + signal * inverse_gain
        x += offset[k] * factor
        i = _inverse(divisor[k])
        y = x * (i * scale)
        nothing = y - y
        data[k] = y + nothing
        variance[k] = v * ((i * scale) * (i * scale)) + nothing
        dq[k] |= (given[k] | (np.uint32(0) if i == i else bad_divisor)) | (
            np.uint32(0) if nothing == np.float32(0) else bad
        )


@_jit
def _divide_systematic(divisor: Any, divisor_variance: Any, scale: Any, data: Any, systematic: Any) -> None:
    # After `_divide`: the data are divided and scaled already.
    for k in range(data.shape[0]):
        i = _inverse(divisor[k])
        own = data[k] * data[k] * divisor_variance[k]
        systematic[k] = (systematic[k] * (scale * scale) + own) * (i * i)


@_jit
def _scale(factor: Any, other: Any) -> None:
    for k in range(other.shape[0]):
        other[k] *= factor


@_jit
def _flag(plane: Any, dq: Any) -> None:
    bits = plane.view(np.uint32)
    for k in range(dq.shape[0]):
        dq[k] |= bits[k]


@_jit
def _run_end(index: Any, k: Any) -> Any:
    """Where the pixels of one amplifier end: inside such a run a loop has constants."""
    here = index[k]
    while k + RUN <= index.shape[0]:  # many at a time: one by one, this costs as much as the curve
        some = index[k : k + RUN]
        other = np.uint8(0)
        for j in range(RUN):
            other |= some[j] ^ here
        if other:
            break
        k += RUN
    while k < index.shape[0] and index[k] == here:
        k += 1
    return k


@_jit
def _places(head: Any, bits: Any, nodes: Any, data: Any, dq: Any, place: Any, part: Any) -> None:
    """Where between the nodes of a curve each value lies; flags of values outside its limits."""
    start, inverse, low, high, limit = head
    last = np.float32(nodes - 1)
    for k in range(data.shape[0]):
        x = data[k]
        saturated = np.uint32(SATURATED) if x >= limit else np.uint32(0)
        dq[k] |= saturated | (bits if (x < low) | (x > high) else np.uint32(0))
        u = (x - start) * inverse
        u = u if u > np.float32(0) else np.float32(0)  # NaN too: a place must be a number
        u = u if u < last else last
        i = np.int32(u)
        place[k] = np.uint32(i)
        part[k] = u - np.float32(i)


@_jit
def _look_up(pairs: Any, place: Any, found: Any) -> None:
    """Value and difference of each place as one number of 64 bits: this loop cannot become vector code."""
    for k in range(place.shape[0]):
        found[k] = pairs[place[k]]


@_jit
def _add_between(found: Any, part: Any, data: Any) -> None:
    for k in range(data.shape[0]):
        data[k] += found[2 * k] + part[k] * found[2 * k + 1]


@_jit
def _curve(index: Any, curves: Any, width: Any, bits: Any, spare: Any, data: Any, dq: Any) -> None:
    """Add each amplifier's table at the values, linear in between, the end values outside."""
    amplifier = index.view(np.uint8)[: data.shape[0]]
    begin = 0
    while begin < data.shape[0]:
        end = _run_end(amplifier, begin)
        own = curves[int(amplifier[begin]) * width : (int(amplifier[begin]) + 1) * width]
        head, pairs = (own[0], own[1], own[2], own[3], own[4]), own[CURVE_HEAD:].view(np.uint64)
        n = end - begin
        place, part, found = spare[0, :n].view(np.uint32), spare[1, :n], spare.reshape(-1)[-2 * n :]
        _places(head, bits, pairs.shape[0], data[begin:end], dq[begin:end], place, part)
        _look_up(pairs, place, found.view(np.uint64))
        _add_between(found, part, data[begin:end])
        begin = end


@_jit
def _curve_errors(index: Any, curves: Any, width: Any, data: Any, other: Any) -> None:
    """An error plane times (1 + slope)^2, before the data take the curve."""
    amplifier = index.view(np.uint8)
    for k in range(data.shape[0]):
        own = curves[int(amplifier[k]) * width : (int(amplifier[k]) + 1) * width]
        pairs = own[CURVE_HEAD:]
        last = pairs.shape[0] // 2 - 1
        u = (data[k] - own[0]) * own[1]
        if u >= np.float32(0) and u <= np.float32(last):
            i = min(np.int32(u), np.int32(last - 1))
            stretch = np.float32(1) + pairs[2 * i + 1] * own[1]
            other[k] *= stretch * stretch


@_jit
def _operand(plane: Any, row: Any, scratch: Any) -> Any:
    """A row of a plane: (rows, cols), (1, cols) for every row, or (rows, 1) spread over the columns."""
    here = row if plane.shape[0] > 1 else 0
    if plane.shape[1] == 1:
        for k in range(scratch.shape[0]):
            scratch[k] = plane[here, 0]
        return scratch
    return plane[here]


@_joined
def _operate(
    code: Any,
    operands: Any,
    constants: Any,
    bits: Any,
    spare: Any,
    data: Any,
    variance: Any,
    systematic: Any,
    dq: Any,
) -> None:
    """One operation on one row."""
    plane, second = operands[0], operands[1]
    c = constants[0]
    if code == START:
        _start(plane, second, c, constants[1], bits, data, dq)
    elif code == CHECK:
        _check(second, c, constants[1], bits, data, dq)
    elif code == LIGHT:
        _light(operands, constants, bits, data, variance, dq)
    elif code == ADD:
        _add(plane, c, data)
    elif code == NOISE:
        _noise(data, plane, c, spare[0])
        _add(spare[0], np.float32(1), variance)
    elif code == FIRST_NOISE:
        _noise(data, plane, c, variance)
    elif code == DIVIDE:
        _divide(plane, c, bits, data, variance, dq)
    elif code == DIVIDE_SYSTEMATIC:
        _divide_systematic(plane, second, c, data, systematic)
    elif code == SCALE:
        _scale(c, data)
    elif code == SCALE_VARIANCE:
        _scale(c, variance)
    elif code == SCALE_SYSTEMATIC:
        _scale(c, systematic)
    elif code == FLAG:
        _flag(plane, dq)
    elif code == SET_VARIANCE:
        _copy(plane, c, variance)
    elif code == SET_SYSTEMATIC:
        _copy(plane, c, systematic)
    elif code == ADD_SYSTEMATIC:
        _add(plane, c, systematic)
    elif code == FINISH_VARIANCE:
        _finish_errors(data, variance)
    elif code == FINISH_SYSTEMATIC:
        _finish_errors(data, systematic)
    elif code == CURVE:
        _curve(plane, second, int(c), bits, spare, data, dq)
    elif code == CURVE_VARIANCE:
        _curve_errors(plane, second, int(c), data, variance)
    elif code == CURVE_SYSTEMATIC:
        _curve_errors(plane, second, int(c), data, systematic)


@_joined
def _decode(raw: Any, form: Any, r: Any, first: Any, values: Any, bits: Any) -> None:
    """Stored numbers of one row, from a column on, to float32 values, which are written as bits in part."""
    halves, words = raw
    code, swap, scale, zero = form
    if code in (I2, U2):
        flip = np.int32(0x8000) if code == I2 else np.int32(0)
        stored = halves[r, first : first + values.shape[0]]
        _decode_halves(stored, swap, flip, np.float32(scale), np.float32(zero), values)
    elif code != KEEP:
        _decode_words(words[r, first : first + values.shape[0]], swap, code == I4, scale, zero, bits, values)


@_joined
def _run_block(
    raw: Any, form: Any, program: Any, start: Any, stop: Any, first: Any, scratch: Any, out: Any
) -> None:
    """Every operation on some rows, one operation after the other; the first decodes them, too."""
    ops, consts, planes = program
    data, words, variance, systematic, dq = out
    for i in range(ops.shape[0]):
        # Once for a block, not for a row: picking an array from a tuple costs as much as a row's operation.
        w, x, y, z = planes[ops[i, 1]], planes[ops[i, 2]], planes[ops[i, 3]], planes[ops[i, 4]]
        code, bits = ops[i, 0], np.uint32(ops[i, 5])
        constants = consts[i, 0], consts[i, 1], consts[i, 2]
        for r in range(start, stop):
            if i == 0:
                _decode(raw, form, r, 0, data[r], words[r])
            v = variance[r if variance.shape[0] > 1 else 0]
            s = systematic[r if systematic.shape[0] > 1 else 0]
            operands = (
                _operand(w, first + r, scratch[0]),
                _operand(x, first + r, scratch[1]),
                _operand(y, first + r, scratch[2]),
                _operand(z, first + r, scratch[3]),
            )
            _operate(code, operands, constants, bits, scratch[OPERANDS:], data[r], v, s, dq[r])


@_door
def run(raw: Any, form: Any, program: Any, first: Any, out: Any) -> None:
    """Decode the rows of a band and run a program on each.

    Parameters
    ----------
    raw : tuple of ndarray
        The stored numbers as bits, read-only: uint16 and uint32, (rows, columns); the one that does not
        apply is empty.
    form : tuple
        Code of the numbers, whether their bytes are swapped, scale and zero: value = stored * scale + zero.
    program : tuple
        ops int64 (n, 6), at least one: code, `OPERANDS` planes, bits; consts float32 (n, `CONSTANTS`);
        planes: `PLANES` read-only float32 arrays.
    first : int
        Row of the planes that belongs to row 0 of the band.
    out : tuple
        data float32 (rows, columns), the same as uint32 bits, variance and systematic float32 (rows or 1,
        columns), dq uint32 (rows, columns); an error plane of one row is scratch.
    """
    rows, cols = out[0].shape
    block = max(1, BLOCK // max(1, cols))
    scratch = np.empty((OPERANDS + 4, cols), np.float32)
    for start in range(0, rows, block):
        _run_block(raw, form, program, start, min(start + block, rows), first, scratch, out)


@_jit
def _levelled(level: Any, columns: Any, limit: Any, given: Any, values: Any, flags: Any) -> None:
    """Values less their levels, and their flags: those given, saturation, and no value at all."""
    for k in range(values.shape[0]):
        x = values[k]
        y = (x - level) - columns[k]
        values[k] = y
        saturated = np.uint32(SATURATED) if x >= limit else np.uint32(0)
        flags[k] = given[k] | saturated | (np.uint32(0) if y == y else np.uint32(NO_DATA))


@_jit
def _put(values: Any, turned: Any, out: Any) -> None:
    if turned:
        last = np.uint64(out.shape[0] - 1)  # a signed index could be negative, and would not be vector code
        for k in range(np.uint64(out.shape[0])):
            out[k] = values[last - k]
    else:
        for k in range(out.shape[0]):
            out[k] = values[k]


@_door
def take(raw: Any, form: Any, amplifiers: Any, levels: Any, given: Any, out: Any) -> None:
    """Decode amplifiers in rows of a raw image, subtract their levels, and put them at their places.

    Parameters
    ----------
    raw, form : tuple
        As of `run`; rows of the whole raw image.
    amplifiers : ndarray
        int64, (amplifiers, 6): first column and number of columns in the raw image, row and column of the
        result where the amplifier begins, whether its rows and columns run backwards there.
    levels : tuple of ndarray
        float32: (amplifiers, rows), subtracted first, (amplifiers, columns or more), and (amplifiers,): the
        raw value that is saturated, NaN for none.
    given : ndarray
        uint32, flags of the raw rows, or one row of zeros that stands for all.
    out : tuple of ndarray
        data float32 and dq uint32, (rows, columns) of the result; dq may have no rows.
    """
    by_row, by_column, limits = levels
    data, dq = out
    rows = by_row.shape[1]
    values, flags = np.empty(by_column.shape[1], np.float32), np.empty(by_column.shape[1], np.uint32)
    for a in range(amplifiers.shape[0]):
        first, cols, top, left, up, back = amplifiers[a]
        v, f, column = values[:cols], flags[:cols], by_column[a, :cols]
        for r in range(rows):
            _decode(raw, form, r, first, v, v.view(np.uint32))
            own = given[r if given.shape[0] > 1 else 0, first : first + cols]
            _levelled(by_row[a, r], column, limits[a], own, v, f)
            at = top + (rows - 1 - r if up else r)
            _put(v, back, data[at, left : left + cols])
            if dq.shape[0] > 0:
                _put(f, back, dq[at, left : left + cols])
