"""Images in files as Sources: bands of rows read straight into the caller's buffer."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ShapeError
from calibrant.files.header import HDU, Contents
from calibrant.files.pool import file_pool
from calibrant.files.reading import Stamp, truncated, unreadable
from calibrant.files.scratch import Packed
from calibrant.sections import Section
from calibrant.stack.source import Encoding, Source, decode

_CHUNK = 1 << 18  # bytes read at once where only part of each row is wanted: stays in the cache


class Flags(Protocol):
    """A dq plane in a file, read as bits of `calibrant.frame.DQ`."""

    def read_into(self, rows: slice, dq: NDArray[np.uint32]) -> None:
        """Fill `dq`, (rows, cols), with the rows asked for."""
        ...


@dataclass(frozen=True, eq=False)
class FitsSource:
    """An image in a FITS file, or a rectangle of it. Picklable; holds no open file.

    Attributes
    ----------
    name : str
        Path of the file.
    shape : tuple of int
        (rows, cols); cubes have their further axes in front, and give their planes by `plane`.
    encoding : Encoding
        Of the stored numbers.
    offset : int
        Bytes before the first row in the (unpacked) file.
    pitch : int
        Stored columns per row; more than ``shape[-1]`` for a trimmed image.
    first : int
        Column at which each row begins.
    stamp : Stamp
        State of the file when it was opened: a file that was changed since is refused.
    packed : Packed or None
        How to unpack it.
    flags : Flags or None
        The dq plane that belongs to it.
    """

    name: str
    shape: tuple[int, ...]
    encoding: Encoding
    offset: int
    pitch: int
    stamp: Stamp
    first: int = 0
    packed: Packed | None = None
    flags: Flags | None = None

    @classmethod
    def of(cls, contents: Contents, hdu: HDU) -> FitsSource:
        """The image of one unit of a file."""
        packed = None
        if hdu.compressed or contents.gzipped:
            size = math.prod(hdu.shape) * hdu.encoding.itemsize
            packed = Packed(contents.path, contents.stamp, hdu.index, size, hdu.compressed)
        offset = 0 if hdu.compressed else hdu.offset
        return cls(
            contents.path, hdu.shape, hdu.encoding, offset, hdu.shape[-1], contents.stamp, packed=packed
        )

    @property
    def has_dq(self) -> bool:
        """Whether the file has flags for it."""
        return self.flags is not None

    def section(self, section: Section) -> FitsSource:
        """A rectangle of the image, not flipped (`MosaicSource` flips).

        Raises
        ------
        ShapeError
            If it reaches outside the image, or the image has more than two axes.
        """
        self._check_plane()
        cut = section.within(self.shape)
        offset = self.offset + cut.rows.start * self.pitch * self.encoding.itemsize
        return replace(self, shape=cut.shape, offset=offset, first=self.first + cut.cols.start, flags=None)

    def plane(self, *index: int) -> FitsSource:
        """One image of a cube, by its indices along the leading axes."""
        number = int(np.ravel_multi_index(index, self.shape[:-2])) if index else 0
        size = math.prod(self.shape[-2:]) * self.encoding.itemsize
        return replace(self, shape=self.shape[-2:], offset=self.offset + number * size, flags=None)

    def stacked(self) -> FitsSource:
        """All images of a cube, one above the other, as one tall image."""
        return replace(self, shape=(math.prod(self.shape[:-1]), self.shape[-1]), flags=None)

    def read_into(self, rows: slice, data: NDArray[Any], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (encoding.dtype, (rows, cols), C-contiguous) and `dq` with the rows asked for.

        Raises
        ------
        FileError
            If the file ends before the last row, or was changed since it was opened.
        """
        self._check_plane()
        begin, stop, _ = rows.indices(self.shape[0])
        if data.shape != (stop - begin, self.shape[1]):
            expected = (stop - begin, self.shape[1])
            raise ShapeError(
                "the buffer does not fit the rows", where=self.name, expected=expected, got=data.shape
            )
        self._fill(begin, data)
        if dq is not None:
            if self.flags is None:
                dq[...] = 0
            else:
                self.flags.read_into(slice(begin, stop), dq)

    def load(self) -> NDArray[Any]:
        """The whole image, decoded, in native byte order."""
        raw = np.empty((math.prod(self.shape[:-1]), self.shape[-1]), self.encoding.dtype)
        self._fill(0, raw)
        return self.decoded(raw).reshape(self.shape)

    def decoded(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Values of stored numbers of this image, as `load` gives them."""
        return decode_exact(raw, self.encoding)

    def _check_plane(self) -> None:
        if len(self.shape) != 2:
            raise ShapeError(
                "rows are read from images of two axes",
                where=self.name,
                got=self.shape,
                do="choose a plane; a ramp is measured, not combined",
            )

    def _fill(self, begin: int, data: NDArray[Any]) -> None:
        # Compared as text: a dtype made of text costs as much as a system call; aliases take the detour.
        own = data.dtype.str == self.encoding.dtype and data.flags.c_contiguous
        target = data if own and self.pitch == data.shape[1] else None
        if self.packed is not None and target is not None and self._is_whole(data, self.packed):
            self.packed.read_whole(_bytes_of(target), self.offset)
            return
        path, stamp = (self.name, self.stamp) if self.packed is None else self.packed.unpacked()
        pool = file_pool()
        file = pool.take(path, stamp)
        try:
            if target is not None:
                self._read(file, target, self.offset + begin * self.pitch * data.itemsize)
            else:
                self._read_parts(file, data, begin)
        finally:
            pool.give_back(path, stamp)

    def _is_whole(self, data: NDArray[Any], packed: Packed) -> bool:
        """Whether all is read at once: then nothing needs to be unpacked to scratch."""
        return data.size == math.prod(self.shape) and (data.nbytes == packed.size or not packed.tiled)

    def _read_parts(self, file: int, data: NDArray[Any], begin: int) -> None:
        """Read full rows a few at a time, and keep the columns wanted."""
        line = self.pitch * self.encoding.itemsize
        offset = self.offset + begin * line
        count = max(1, _CHUNK // line)
        buffer = np.empty((min(count, len(data)), self.pitch), self.encoding.dtype)
        for row in range(0, len(data), count):
            part = buffer[: min(count, len(data) - row)]
            self._read(file, part, offset + row * line)
            data[row : row + len(part)] = part[:, self.first : self.first + data.shape[1]]

    def _read(self, file: int, array: NDArray[Any], offset: int) -> None:
        try:
            got = os.preadv(file, [array.data], offset)
            while got < array.nbytes:  # signals, and bands of gigabytes, come in parts
                count = os.preadv(file, [_bytes_of(array)[got:]], offset + got)
                if count == 0:
                    raise truncated(self.name, offset + array.nbytes, offset + got)
                got += count
        except OSError as error:
            raise unreadable(self.name, error) from None


@dataclass(frozen=True)
class Piece:
    """A part of a mosaic: where it comes from, and where it goes.

    Attributes
    ----------
    source : Source
        The image of the part, already cut to its section.
    row, col : int
        Place of its first row and column in the mosaic.
    flip_rows, flip_cols : bool
        Whether it is laid down backwards.
    """

    source: Source
    row: int
    col: int
    flip_rows: bool = False
    flip_cols: bool = False

    def paste(self, rows: slice, data: NDArray[Any], encoding: Encoding) -> None:
        """Lay those of its rows into `data` that belong to the `rows` of the mosaic."""
        height, width = self.source.shape
        begin, stop = max(rows.start - self.row, 0), min(rows.stop - self.row, height)
        if begin >= stop:
            return
        own = slice(height - stop, height - begin) if self.flip_rows else slice(begin, stop)
        raw = np.empty((stop - begin, width), self.source.encoding.dtype)
        self.source.read_into(own, raw)
        values = raw if self.source.encoding == encoding else decode(raw, self.source.encoding)
        at = self.row + begin - rows.start
        data[at : at + stop - begin, self.col : self.col + width] = values[
            :: -1 if self.flip_rows else 1, :: -1 if self.flip_cols else 1
        ]


@dataclass(frozen=True, eq=False)
class MosaicSource:
    """An image assembled from parts: amplifiers in units of their own, trimmed and flipped sections.

    Pixels that no part covers are 0, or NaN where the values are floating-point.

    Attributes
    ----------
    name : str
        Path of the file.
    shape : tuple of int
        Rows, columns of the assembled image.
    pieces : tuple of Piece
    encoding : Encoding
        The parts' own if all are stored alike, otherwise native float32.
    """

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    encoding: Encoding
    flags: Flags | None = None

    @classmethod
    def of(cls, name: str, shape: tuple[int, int], pieces: tuple[Piece, ...]) -> MosaicSource:
        """Assemble `pieces` into an image of `shape`.

        Raises
        ------
        ShapeError
            If a piece lies outside the image.
        """
        for piece in pieces:
            far = piece.row + piece.source.shape[0], piece.col + piece.source.shape[1]
            if min(piece.row, piece.col) < 0 or far[0] > shape[0] or far[1] > shape[1]:
                raise ShapeError("a part lies outside the mosaic", where=name, expected=shape, got=far)
        encodings = {piece.source.encoding for piece in pieces}
        return cls(name, shape, pieces, encodings.pop() if len(encodings) == 1 else Encoding("=f4"))

    @property
    def has_dq(self) -> bool:
        """Whether the file has flags for it."""
        return self.flags is not None

    def read_into(self, rows: slice, data: NDArray[Any], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (encoding.dtype, (rows, cols)) and `dq` with the rows asked for."""
        begin, stop, _ = rows.indices(self.shape[0])
        data[...] = np.nan if data.dtype.kind == "f" else 0
        for piece in self.pieces:
            piece.paste(slice(begin, stop), data, self.encoding)
        if dq is not None:
            if self.flags is None:
                dq[...] = 0
            else:
                self.flags.read_into(slice(begin, stop), dq)

    def load(self) -> NDArray[Any]:
        """The whole image, decoded, in native byte order."""
        raw = np.empty(self.shape, self.encoding.dtype)
        self.read_into(slice(0, self.shape[0]), raw)
        return decode_exact(raw, self.encoding)


def decode_exact(raw: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """As `calibrant.stack.source.decode`; int8, uint32 and uint64 stored through BZERO stay exact."""
    dtype = np.dtype(encoding.dtype)
    if encoding.blank is None and encoding.scale == 1.0:
        if dtype == np.dtype("u1") and encoding.zero == -128.0:
            return (raw ^ np.uint8(0x80)).view(np.int8)
        for size in (4, 8):
            if dtype == np.dtype(f">i{size}") and encoding.zero == 2.0 ** (8 * size - 1):
                unsigned = np.dtype(f"u{size}").type
                half = unsigned(1 << (8 * size - 1))
                flipped: NDArray[Any] = raw.astype(f"=i{size}").view(unsigned) ^ half
                return flipped
    return decode(raw, encoding)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.view(np.uint8).reshape(-1).data
