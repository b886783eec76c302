"""Amplifiers of an assembled image in the order of reading, and a Source that is less their crosstalk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
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
Group = tuple[NDArray[np.float32], NDArray[np.uint32], list[int]]
"""Values and flags of some rows, and the first row of each amplifier in them."""


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

    def bands(self, low: int, high: int) -> tuple[slice, ...]:
        """Where the rows low .. high of all amplifiers, as they are read, lie in the image; ascending."""
        found = [self.image_rows(amplifier, low, high) for amplifier in range(len(self.windows))]
        return tuple(slice(*ends) for ends in sorted({(band.start, band.stop) for band in found}))

    @property
    def is_regular(self) -> bool:
        """Whether amplifiers side by side have the same rows and are read in one direction.

        Else the rows that are read at one time are not whole rows of the image.
        """
        both = zip(self.windows, self.orders, strict=True)
        ways = sorted({(own.start, own.stop, order.step == -1) for (own, _), (order, _) in both})
        return all(below[1] <= above[0] for below, above in pairwise(ways))


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
    def _local(self) -> threading.local:
        return threading.local()  # what one thread read last: the mirrored rows, which it may want next

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "network": self.network}

    def together(self, rows: int) -> list[tuple[slice, ...]]:
        """Groups of bands that hold the rows of all amplifiers that are read at the same time."""
        network = self.network
        own = network.windows[0][0]
        if not network.is_regular:
            return [(slice(0, self.shape[0]),)]
        return [network.bands(low, high) for low, high in _steps(own.stop - own.start, rows)]

    def read_together(
        self, bands: tuple[slice, ...], data: NDArray[np.float32], dq: NDArray[np.uint32] | None = None
    ) -> None:
        """Fill the rows of a group of `together` in planes of the whole image."""
        for band in bands:
            self._read(band, data[band], None if dq is None else dq[band])
        low, high = max(self.network.read_rows(0, band) for band in bands)
        tops = [self.network.image_rows(number, low, high).start for number in range(len(self._lefts))]
        self._subtract(data, tops, high - low)

    def read_into(self, rows: slice, data: NDArray[np.float32], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (float32, in the unit of the source) and `dq` with corrected rows."""
        for number, left in enumerate(self._lefts):
            low, high = self.network.read_rows(number, rows)
            if low == high:
                continue
            values, flags, tops = self._corrected(low, high)
            first = self.network.image_rows(number, low, high).start - rows.start
            to = slice(first, first + high - low), slice(left, left + self._cols)
            at = slice(tops[number], tops[number] + high - low), to[1]
            data[to] = values[at]
            if dq is not None:
                dq[to] = flags[at]

    def load(self) -> NDArray[np.float32]:
        """The whole corrected image."""
        data = np.empty(self.network.shape, np.float32)
        self.read_together((slice(0, data.shape[0]),), data)
        return data

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """For the kernel, see `calibrant.stack.kernels_amplifiers.subtract`; their rows are left 0."""
        turned = [[axis.step == -1 for axis in order] for order in self.network.orders]
        zeros = np.zeros(len(turned))
        return np.column_stack([zeros, self._lefts, turned]).astype(np.int64)

    @cached_property
    def _lefts(self) -> list[int]:
        """First column of each amplifier."""
        return [cols.start for _, cols in self.network.windows]

    @property
    def _cols(self) -> int:
        cols = self.network.windows[0][1]
        return int(cols.stop - cols.start)

    def _subtract(self, values: NDArray[np.float32], tops: Sequence[int], rows: int) -> None:
        """Correct so many rows of all amplifiers in place; `tops`: the first row of each in `values`."""
        from calibrant.stack.kernels_amplifiers import subtract  # brings numba, as late as it can

        places = self._places.copy()
        places[:, 0] = tops
        subtract(values, self._factors, places, rows, self._cols)

    def _corrected(self, low: int, high: int) -> Group:
        """Rows of all amplifiers, low .. high as they are read, one band of the image above the other."""
        key, group = getattr(self._local, "last", (None, None))
        if group is None or key != (low, high):
            network = self.network
            at, places = 0, {}
            bands = network.bands(low, high)
            values = np.empty((sum(band.stop - band.start for band in bands), self.shape[1]), np.float32)
            flags = np.empty(values.shape, np.uint32)
            for band in bands:
                places[band.start] = at
                to = slice(at, at + band.stop - band.start)
                self._read(band, values[to], flags[to])
                at = to.stop
            tops = [places[network.image_rows(n, low, high).start] for n in range(len(self._lefts))]
            self._subtract(values, tops, high - low)
            group = values, flags, tops
            self._local.last = (low, high), group
        return group

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


def _steps(total: int, step: int) -> list[tuple[int, int]]:
    return [(low, min(low + step, total)) for low in range(0, total, step)]
