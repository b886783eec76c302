"""Header-data units as bytes: images and tables with checksums, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ShapeError
from calibrant.files.cards import BLOCK, CARD, CardLike, format_card

_BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
_TFORM = {"u1": "B", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D", "c8": "C", "c16": "M"}


class Output(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Write all of `data`."""
        ...


_CHUNK = 1 << 20  # bytes: converted at once, so that writing needs no second copy of a plane


@dataclass(frozen=True, eq=False)
class Unit:
    """One header-data unit to be written.

    Attributes
    ----------
    cards : str
        Its cards, 80 characters each, from SIMPLE or XTENSION on, without END.
    data : array or None
        The numbers in native byte order, as they are to be stored; a structured array for a table.
    """

    cards: str
    data: NDArray[Any] | None = None


def image_unit(
    data: NDArray[Any] | None, cards: Iterable[CardLike] = (), *, name: str = "", primary: bool = False
) -> Unit:
    """An image as a unit: unsigned and signed integers through BZERO where FITS has no type for them.

    Parameters
    ----------
    data : array or None
        Of any number of axes; bool, integers, float32, float64. float16 is stored as float32.

    Raises
    ------
    ShapeError
        If the type of the array cannot be stored.
    """
    if data is not None and data.ndim == 0:
        raise ShapeError("a single number is no image", where=name or None, do="give it an axis")
    stored, zero = (None, 0) if data is None else _stored(data)
    bitpix = 8 if stored is None else _BITPIX[stored.dtype.str[1:]]
    shape = () if stored is None else stored.shape
    head: list[CardLike] = (
        [("SIMPLE", True, "FITS standard")] if primary else [("XTENSION", "IMAGE", "image")]
    )
    head += [("BITPIX", bitpix, "bits per value"), ("NAXIS", len(shape), "number of axes")]
    head += [(f"NAXIS{n}", size) for n, size in enumerate(reversed(shape), 1)]
    if primary:
        head += [("EXTEND", True, "extensions may follow")]
    else:
        head += [("PCOUNT", 0, "no parameters"), ("GCOUNT", 1, "one group")]
    if name:
        head += [("EXTNAME", name)]
    if zero:
        head += [("BSCALE", 1, "value = stored + BZERO"), ("BZERO", zero, "stored as signed numbers")]
    return Unit("".join(format_card(*card) for card in (*head, *cards)), stored)


def table_unit(
    columns: Mapping[str, NDArray[Any]],
    name: str,
    units: Mapping[str, str] | None = None,
    cards: Iterable[CardLike] = (),
) -> Unit:
    """Columns of one length as a binary table; text is stored as UTF-8.

    Raises
    ------
    ShapeError
        If the columns differ in length, or a type cannot be stored.
    """
    fields = [_field(column, np.asarray(values)) for column, values in columns.items()]
    lengths = {len(values) for _, values, _, _ in fields}
    if len(lengths) > 1:
        raise ShapeError("the columns of a table differ in length", where=name, got=sorted(lengths))
    layout = np.dtype([(label, values.dtype, values.shape[1:]) for label, values, _, _ in fields])
    table = np.zeros(lengths.pop() if lengths else 0, layout)
    head: list[CardLike] = [("XTENSION", "BINTABLE", "binary table"), ("BITPIX", 8), ("NAXIS", 2)]
    head += [("NAXIS1", layout.itemsize, "bytes per row"), ("NAXIS2", len(table), "rows")]
    head += [("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", len(fields), "columns"), ("EXTNAME", name)]
    for number, (label, values, form, zero) in enumerate(fields, 1):
        table[label] = values
        head += [(f"TTYPE{number}", label), (f"TFORM{number}", form)]
        if zero:
            head += [(f"TZERO{number}", zero, "unsigned numbers")]
        if units and units.get(label):
            head += [(f"TUNIT{number}", units[label])]
    return Unit("".join(format_card(*card) for card in (*head, *cards)), table)


def write_units(out: Output, units: Iterable[Unit], *, sums: bool = True) -> None:
    """Write units one after the other, padded to whole blocks.

    Parameters
    ----------
    sums : bool
        Whether each has DATASUM and CHECKSUM; without them its cards are those of the unit and no others.
    """
    for unit in units:
        out.write(sealed(unit.cards, _sum_of(unit.data)) if sums else _header(unit.cards))
        size = 0
        for chunk in _chunks(unit.data):
            out.write(chunk)
            size += len(chunk)
        out.write(bytes(-size % BLOCK))


def sealed(cards: str, data_sum: int) -> bytes:
    """A header as bytes, with the sums of its data and of the whole unit.

    The comments of the two cards carry no time, unlike others' do: the same content gives the same bytes.
    """
    cards += format_card("CHECKSUM", "0" * 16, "sum of this unit") + format_card(
        "DATASUM", str(data_sum), "sum of its data"
    )
    header = _header(cards)
    total = _folded(data_sum + checksum(np.frombuffer(header, np.uint8)))
    at = len(cards) - 2 * CARD + 11
    header[at : at + 16] = _encoded(total ^ 0xFFFFFFFF)
    return bytes(header)


def _header(cards: str) -> bytearray:
    """Cards and END, padded to whole blocks."""
    header = bytearray(f"{cards}{'END':<{CARD}}".encode("ascii", "replace"))
    return header + b" " * (-len(header) % BLOCK)


def checksum(data: NDArray[np.uint8]) -> int:
    """Sum of 32-bit words in ones' complement (FITS standard 4.0, section 4.4.2.7), zeros filled in."""
    whole = len(data) // 4 * 4
    total = int(data[:whole].view(">u4").sum(dtype=np.uint64))
    if rest := data[whole:].tobytes():
        total += int.from_bytes(rest.ljust(4, b"\0"), "big")
    return _folded(total)


def _folded(total: int) -> int:
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _sum_of(data: NDArray[Any] | None) -> int:
    """The sum of an array as it will be stored; big-endian words are values, so no byte is turned for it."""
    if data is None or data.size == 0:
        return 0
    if data.dtype.names or data.itemsize == 1:
        return _folded(sum(checksum(np.frombuffer(chunk, np.uint8)) for chunk in _chunks(data)))
    flat = np.ascontiguousarray(data).reshape(-1)
    if data.itemsize > 2:
        return _folded(int(flat.view(np.uint32).sum(dtype=np.uint64)))
    halves = flat.view(np.uint16)
    high, low = (int(halves[first::2].sum(dtype=np.uint64)) for first in (0, 1))
    return _folded((high << 16) + low)


def _encoded(value: int) -> bytes:
    """A 32-bit number as 16 letters and digits (FITS standard 4.0, appendix J)."""
    letters = [[0] * 4 for _ in range(4)]
    for place in range(4):
        byte = value >> (24 - 8 * place) & 0xFF
        quarter, rest = divmod(byte, 4)
        four = [quarter + 48 + rest, quarter + 48, quarter + 48, quarter + 48]
        while any(_is_punctuation(letter) for letter in four):
            for pair in (0, 2):
                if _is_punctuation(four[pair]) or _is_punctuation(four[pair + 1]):
                    four[pair] += 1
                    four[pair + 1] -= 1
        for turn in range(4):
            letters[turn][place] = four[turn]
    text = bytes(letter for four in letters for letter in four)
    return text[-1:] + text[:-1]


def _is_punctuation(letter: int) -> bool:
    return 0x3A <= letter <= 0x40 or 0x5B <= letter <= 0x60


def _chunks(data: NDArray[Any] | None) -> Iterator[memoryview]:
    """Big-endian bytes of an array, a megabyte at a time; every chunk but the last is whole words."""
    if data is None or data.size == 0:
        return
    flat = np.ascontiguousarray(data).reshape(-1)
    step = max(1, _CHUNK // data.itemsize) * 4
    order = flat.dtype.newbyteorder(">")
    for begin in range(0, len(flat), step):
        yield flat[begin : begin + step].astype(order).view(np.uint8).data


def _stored(data: NDArray[Any]) -> tuple[NDArray[Any], int]:
    native = data.dtype.newbyteorder("=")
    if native.kind == "b":
        return data.astype(np.uint8), 0
    if native == np.float16:
        return data.astype(np.float32), 0
    if native == np.int8:
        return data.view(np.uint8) ^ np.uint8(0x80), -128
    if native.kind == "u" and native.itemsize > 1:
        half = 1 << (8 * native.itemsize - 1)
        flipped = data.astype(native, copy=False) ^ native.type(half)
        return flipped.view(f"i{native.itemsize}"), half
    if native.str[1:] not in _BITPIX:
        raise ShapeError("an image cannot hold this type", expected="numbers", got=str(data.dtype))
    return data.astype(native, copy=False), 0


def _field(label: str, values: NDArray[Any]) -> tuple[str, NDArray[Any], str, int]:
    """One column: its label, its numbers as stored, its TFORM and TZERO."""
    repeat = int(np.prod(values.shape[1:], dtype=int))
    if values.dtype.kind in "OUS":
        text = [v if isinstance(v, bytes) else str(v).encode() for v in values.ravel().tolist()]
        width = max([1, *map(len, text)])
        return label, np.array(text, f"S{width}").reshape(values.shape), f"{width * repeat}A", 0
    if values.dtype.kind == "b":
        return label, np.where(values, np.uint8(ord("T")), np.uint8(ord("F"))), f"{repeat}L", 0
    stored, zero = _stored(values) if values.dtype.kind != "c" else (values, 0)
    return label, stored, f"{repeat}{_TFORM[stored.dtype.newbyteorder('=').str[1:]]}", zero
