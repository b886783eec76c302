"""Amplifiers of an assembled image in the order of reading, and a Source that is less their crosstalk."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import in_order
from calibrant.effects._assembly import Assembly, window
from calibrant.errors import SelectionError, ShapeError
from calibrant.instrument.sections import Section
from calibrant.product import Product
from calibrant.stack.source import Encoding, Source, decode

NAME = "crosstalk"
Band = tuple[int, int]  # first row, and the one after the last
Planes = dict[Band, NDArray[np.float32]]
Flags = dict[Band, NDArray[np.uint32]]


@dataclass(frozen=True, eq=False)
class Network:
    """Amplifiers of an assembled image, and what each sees of the others.

    Attributes
    ----------
    windows : tuple of Section
        Rows and columns of each amplifier in the image.
    orders : tuple of Section
        Slices that turn a window so that the pixel read first is [0, 0]; they turn it back, too.
    matrix : ndarray
        float32, (amplifiers, amplifiers), [source][target].
    shape : tuple of int
        Of the image.

    Raises
    ------
    ShapeError
        If the amplifiers are of different sizes.
    """

    windows: tuple[Section, ...]
    orders: tuple[Section, ...]
    matrix: NDArray[np.float32]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        sizes = {(rows.stop - rows.start, cols.stop - cols.start) for rows, cols in self.windows}
        if len(sizes) != 1:
            raise ShapeError(
                "amplifiers that are read together have one size",
                where=NAME,
                got=", ".join(f"{rows} x {cols}" for rows, cols in sorted(sizes)),
            )

    @classmethod
    def of(cls, product: Product) -> Network:
        """The amplifiers as the product states them.

        Raises
        ------
        SelectionError
            If the product is no crosstalk, or names an amplifier that is not there.
        """
        if product.kind != NAME:
            raise SelectionError("not a crosstalk", expected=f"a product of kind {NAME}", got=product.kind)
        amplifiers, pairs = product.tables["amplifiers"], product.tables[NAME]
        assembly = Assembly.from_table(amplifiers)
        places = {amp.name: place for place, amp in enumerate(assembly.amplifiers)}
        unknown = sorted({str(name) for key in ("source", "target") for name in pairs[key]} - set(places))
        if unknown:
            raise SelectionError(
                "the crosstalk names an amplifier that the detector has not", where=NAME, got=unknown[0]
            )
        matrix = np.zeros((len(places), len(places)), np.float32)
        for source, target, value in zip(pairs["source"], pairs["target"], pairs["coefficient"], strict=True):
            matrix[places[str(source)], places[str(target)]] = value
        return cls(
            tuple(window(amp.place, assembly.shape) for amp in assembly.amplifiers),
            tuple(
                in_order(amp.place, str(corner))
                for amp, corner in zip(assembly.amplifiers, amplifiers["corner"], strict=True)
            ),
            matrix,
            assembly.shape,
        )

    def read_rows(self, amplifier: int, rows: slice) -> tuple[int, int]:
        """Rows of an amplifier, counted as they are read, that lie in `rows` of the image; empty: (0, 0)."""
        own = self.windows[amplifier][0]
        low, high = max(rows.start, own.start), min(rows.stop, own.stop)
        if low >= high:
            return 0, 0
        if self.orders[amplifier][0].step == -1:
            return own.stop - high, own.stop - low
        return low - own.start, high - own.start

    def image_rows(self, amplifier: int, low: int, high: int) -> slice:
        """Rows of the image where the rows low .. high of an amplifier, as they are read, lie."""
        own = self.windows[amplifier][0]
        if self.orders[amplifier][0].step == -1:
            return slice(own.stop - high, own.stop - low)
        return slice(own.start + low, own.start + high)


@dataclass(frozen=True, eq=False)
class CrosstalkSource:
    """An assembled source less its crosstalk, corrected when it is read.

    Raises
    ------
    ShapeError
        If the source is not of the size that the product describes.
    """

    source: Source
    network: Network

    has_dq = True
    encoding = Encoding("=f4")

    def __post_init__(self) -> None:
        if tuple(self.source.shape) != self.network.shape:
            raise ShapeError(
                "the crosstalk does not fit the image",
                where=self.source.name,
                expected=self.network.shape,
                got=tuple(self.source.shape),
                do="use a crosstalk of this detector, after the overscan",
            )

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns."""
        return self.source.shape

    @cached_property
    def _factors(self) -> NDArray[np.float32]:
        from calibrant.stack.kernels_amplifiers import factors_of

        return factors_of(self.network.matrix)

    @cached_property
    def _turned(self) -> list[tuple[bool, bool]]:
        """Whether rows and columns of each amplifier run backwards in the image."""
        return [(rows.step == -1, cols.step == -1) for rows, cols in self.network.orders]

    @cached_property
    def _local(self) -> threading.local:
        return threading.local()  # what one thread read last: the mirrored rows, which it may want next

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "network": self.network}

    def together(self, rows: int) -> list[tuple[slice, ...]]:
        """Bands that hold the rows of all amplifiers that are read at the same time."""
        network = self.network
        own = network.windows[0][0]
        groups = []
        for low in range(0, own.stop - own.start, rows):
            high = min(low + rows, own.stop - own.start)
            bands = [network.image_rows(amplifier, low, high) for amplifier in range(len(network.windows))]
            groups.append(tuple(slice(*ends) for ends in sorted({(b.start, b.stop) for b in bands})))
        return groups

    def read_into(self, rows: slice, data: NDArray[np.float32], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (float32, in the unit of the source) and `dq` with corrected rows."""
        from calibrant.stack.kernels_amplifiers import subtract  # brings numba, as late as it can

        bands: dict[Band, list[int]] = {}
        for target in range(len(self.network.windows)):
            low, high = self.network.read_rows(target, rows)
            if low < high:
                bands.setdefault((low, high), []).append(target)
        # All before the first is corrected: a band may hold rows that another one needs as they came.
        planes = self._held(bands, rows, dq) or self._read_planes(bands, rows, data, dq)
        for (low, high), targets in bands.items():
            tops = [self.network.image_rows(target, low, high).start - rows.start for target in targets]
            lefts = [self.network.windows[target][1].start for target in targets]
            turned = [self._turned[target] for target in targets]
            places = np.column_stack([tops, lefts, turned]).astype(np.int64)
            subtract(planes[low, high], self._factors, np.array(targets), places, data)

    def load(self) -> NDArray[np.float32]:
        """The whole corrected image."""
        data = np.empty(self.network.shape, np.float32)
        self.read_into(slice(0, data.shape[0]), data)
        return data

    def _held(self, bands: Mapping[Band, Any], rows: slice, dq: NDArray[np.uint32] | None) -> Planes:
        """Planes that this thread read last, with the flags of `rows`, if they are those that are wanted."""
        last: tuple[Planes, Flags] = getattr(self._local, "last", ({}, {}))
        planes, flags = last
        if planes.keys() != bands.keys() or (rows.start, rows.stop) not in flags:
            return {}
        if dq is not None:
            dq[...] = flags[rows.start, rows.stop]
        return dict(planes)

    def _read_planes(
        self,
        bands: Mapping[Band, Any],
        rows: slice,
        data: NDArray[np.float32],
        dq: NDArray[np.uint32] | None,
    ) -> Planes:
        """Rows of every amplifier in the order of reading; `data` and `dq` are filled as they come."""
        self._read(rows, data, dq)
        held = {(rows.start, rows.stop): data}
        flags: Flags = {}
        planes = {}
        for low, high in bands:
            own = [self.network.image_rows(number, low, high) for number in range(len(self.network.windows))]
            for at in own:
                inside = rows.start <= at.start and at.stop <= rows.stop
                if not inside and (at.start, at.stop) not in held:
                    values = np.empty((high - low, self.shape[1]), np.float32)
                    marks = np.empty(values.shape, np.uint32)
                    self._read(at, values, marks)
                    held[at.start, at.stop], flags[at.start, at.stop] = values, marks
            planes[low, high] = self._in_order(own, rows, held)
        self._local.last = planes, flags
        return planes

    def _in_order(
        self, own: Sequence[slice], rows: slice, held: Mapping[Band, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Rows of the image as planes, turned so that pixels read at the same moment are at one place."""
        from calibrant.stack.kernels_amplifiers import turn

        cols = self.network.windows[0][1]
        planes = np.empty((len(own), own[0].stop - own[0].start, cols.stop - cols.start), np.float32)
        for number, (plane, at) in enumerate(zip(planes, own, strict=True)):
            first = at.start if (at.start, at.stop) in held else rows.start
            values = held.get((at.start, at.stop), held[rows.start, rows.stop])
            begin = at.start - first, self.network.windows[number][1].start
            turn(values, begin, plane, (0, 0, *plane.shape), self._turned[number])
        return planes

    def _read(self, rows: slice, data: NDArray[np.float32], dq: NDArray[np.uint32] | None) -> None:
        flags = dq if self.source.has_dq else None
        if dq is not None and flags is None:
            dq[...] = 0
        if self.source.encoding == self.encoding:
            self.source.read_into(rows, data, flags)
            return
        stored = np.empty(data.shape, np.dtype(self.source.encoding.dtype))
        self.source.read_into(rows, stored, flags)
        data[...] = decode(stored, self.source.encoding)
