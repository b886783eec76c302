"""Binary tables of FITS files as columns."""

from __future__ import annotations

import gzip
import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError
from calibrant.files.header import HDU, Contents
from calibrant.files.pool import file_pool
from calibrant.files.reading import truncated, unreadable

_FORM = re.compile(r"\s*(\d*)([LXBIJKAEDCMPQ])")
_DTYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16"}
_SKIPPED = {"X": lambda count: -(-count // 8), "P": lambda count: 8 * count, "Q": lambda count: 16 * count}
_Column = tuple[str, str, int, float, float]  # name, letter of TFORM, repeat, TSCAL, TZERO


def read_table(contents: Contents, hdu: HDU) -> dict[str, NDArray[Any]]:
    """The columns of a binary table by name, in native byte order; text as str.

    Columns of bits and of variable length are left out.

    Raises
    ------
    FileError
        If the unit is no table, or the file ends early.
    """
    if not hdu.is_table:
        raise FileError(f"unit {hdu.index} is not a table", where=contents.path)
    columns = _columns(contents.path, hdu)
    rows, width = hdu.header.integer("NAXIS2"), hdu.header.integer("NAXIS1")
    layout = np.dtype([(f"f{n}", *_field(form, repeat)) for n, (_, form, repeat, _, _) in enumerate(columns)])
    if layout.itemsize != width:
        raise FileError("the columns do not fill the table", where=contents.path, expected=width, got=layout)
    table = np.frombuffer(read_bytes(contents, hdu.offset, rows * width), layout)
    return {
        column[0]: _values(table[f"f{n}"], *column[1:])
        for n, column in enumerate(columns)
        if column[1] not in _SKIPPED
    }


def read_bytes(contents: Contents, offset: int, size: int) -> bytes:
    """Bytes of the (unpacked) file.

    Raises
    ------
    FileError
        If there are fewer.
    """
    pool = file_pool()
    if contents.gzipped:
        try:
            with gzip.open(contents.path, "rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except (OSError, EOFError) as error:
            raise unreadable(contents.path, error) from None
    else:
        file = pool.take(contents.path, contents.stamp)
        try:
            data = os.pread(file, size, offset)
        finally:
            pool.give_back(contents.path, contents.stamp)
    if len(data) < size:
        raise truncated(contents.path, offset + size, offset + len(data))
    return data


def _columns(path: str, hdu: HDU) -> list[_Column]:
    columns = []
    for number in range(1, hdu.header.integer("TFIELDS") + 1):
        form = _FORM.match(str(hdu.header.get(f"TFORM{number}", "")))
        if form is None:
            raise FileError(f"column {number} of unit {hdu.index} has no TFORM of a table", where=path)
        name = str(hdu.header.get(f"TTYPE{number}") or f"col{number}")
        scale, zero = hdu.header.get(f"TSCAL{number}", 1), hdu.header.get(f"TZERO{number}", 0)
        columns.append((name, form[2], int(form[1] or 1), _number(scale, 1), _number(zero, 0)))
    return columns


def _number(value: Any, default: float) -> float:
    return value if isinstance(value, (int, float)) else default


def _field(form: str, repeat: int) -> tuple[Any, ...]:
    if form == "A":
        return (f"S{repeat}",) if repeat else ("V0",)
    if form in _SKIPPED:
        return (f"V{_SKIPPED[form](repeat)}",)
    dtype = "u1" if form == "L" else _DTYPES[form]
    return (dtype,) if repeat == 1 else (dtype, (repeat,))


def _values(raw: NDArray[Any], form: str, repeat: int, scale: float, zero: float) -> NDArray[Any]:
    if form == "A":
        text = [value.decode("utf-8", "replace") for value in raw.tolist()] if repeat else [""] * len(raw)
        return np.array(text, dtype=np.str_)
    if form == "L":
        truth: NDArray[Any] = raw == ord("T")
        return truth
    values: NDArray[Any] = raw.astype(raw.dtype.newbyteorder("="))
    bits = 8 * values.dtype.itemsize
    if scale == 1 and values.dtype.kind == "i" and zero == 1 << (bits - 1):
        unsigned = np.dtype(f"u{bits // 8}").type
        flipped: NDArray[Any] = values.view(unsigned) ^ unsigned(1 << (bits - 1))
        return flipped
    if scale == 1 and form == "B" and zero == -128:
        signed: NDArray[Any] = (values ^ np.uint8(0x80)).view(np.int8)
        return signed
    return values if scale == 1 and zero == 0 else values * scale + zero
