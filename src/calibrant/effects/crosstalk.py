"""Crosstalk: what each amplifier sees of the others that are read at the same moment.

``corrected[target] = raw[target] - sum over sources of c[source][target] * raw[source]``, pixels in the order
of reading; see docs/effects/crosstalk.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import in_order
from calibrant.effects._assembly import Assembly, window
from calibrant.errors import SelectionError, ShapeError
from calibrant.frame import Applied, Exposure, Frame
from calibrant.instrument import Readout
from calibrant.instrument.sections import Section
from calibrant.product import Kind, Product
from calibrant.stack.source import ArraySource, Encoding, Source, decode

NAME = "crosstalk"
REACH = "amplifier"
NEEDS: tuple[str, ...] = ("overscan",)
FORBIDS: tuple[str, ...] = ("linearity", "dark", "flat", "gain")
KIND = Kind(
    "crosstalk",
    quantities={
        "crosstalk": "Largest coefficient that an amplifier receives; the place is its name.",
    },
)
MATCH_AS = "bias"  # it belongs to the electronics, as the bias does


def amplifiers_table(readouts: tuple[Readout, ...], raw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Table ``amplifiers`` of a Product: their sections, and the corner that each is read from.

    Parameters
    ----------
    readouts : tuple of Readout
        Of the exposure.
    raw : tuple of int
        Rows, columns of the raw image.
    """
    corners = np.array([readout.corner for readout in readouts])
    return {**Assembly.of(readouts, raw).table(), "corner": corners}


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
    def _listed(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        from calibrant.stack.kernels_amplifiers import listed

        return listed(self.network.matrix)

    def read_into(self, rows: slice, data: NDArray[np.float32], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (float32, in the unit of the source) and `dq` with corrected rows."""
        count = len(self.network.windows)
        bands: dict[tuple[int, int], list[int]] = {}
        for target in range(count):
            low, high = self.network.read_rows(target, rows)
            if low < high:
                bands.setdefault((low, high), []).append(target)
        self._read(rows, data, dq)
        # All before the first is corrected: a band may hold rows that another one needs as they came.
        planes = {band: self._planes(*band, rows, data) for band in bands}
        for (low, high), targets in bands.items():
            for target, corrected in zip(targets, self._corrected(planes[low, high], targets), strict=True):
                at = self.network.image_rows(target, low, high)
                cols = self.network.windows[target][1]
                order = self.network.orders[target]
                data[at.start - rows.start : at.stop - rows.start, cols] = corrected[order]

    def load(self) -> NDArray[np.float32]:
        """The whole corrected image."""
        data = np.empty(self.network.shape, np.float32)
        self.read_into(slice(0, data.shape[0]), data)
        return data

    def _corrected(self, planes: NDArray[np.float32], targets: list[int]) -> NDArray[np.float32]:
        from calibrant.stack.kernels_amplifiers import subtract

        out = np.empty((len(targets), *planes.shape[1:]), np.float32)
        subtract(planes, *self._listed, np.array(targets), out)
        return out

    def _planes(self, low: int, high: int, rows: slice, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows low .. high of every amplifier in the order of reading; `data` holds `rows` as they came."""
        cols = self.network.windows[0][1]
        planes = np.empty((len(self.network.windows), high - low, cols.stop - cols.start), np.float32)
        held = {(rows.start, rows.stop): data}
        for amplifier, plane in enumerate(planes):
            at = self.network.image_rows(amplifier, low, high)
            inside = rows.start <= at.start and at.stop <= rows.stop
            key = (rows.start, rows.stop) if inside else (at.start, at.stop)
            if key not in held:
                held[key] = np.empty((high - low, self.shape[1]), np.float32)
                self._read(at, held[key], None)
            own = held[key][at.start - key[0] : at.stop - key[0], self.network.windows[amplifier][1]]
            plane[...] = own[self.network.orders[amplifier]]
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


@dataclass(frozen=True, eq=False)
class Crosstalk:
    """The correction as a step of `Exposures.through`, after that of the overscan."""

    product: Product

    effect = NAME

    @property
    def parents(self) -> tuple[str, ...]:
        """Identity of the product, for the provenance of what is made of the corrected pixels."""
        return (self.product.identity,)

    @cached_property
    def network(self) -> Network:
        """The product, as the pixels are worked on."""
        return Network.of(self.product)

    def wrap(self, source: Source, exposure: Exposure) -> CrosstalkSource:
        """The source, corrected when it is read."""
        return CrosstalkSource(source, self.network)

    def apply(self, frame: Frame) -> Frame:
        """A whole frame at once; as `calibrant.effects.crosstalk.apply`."""
        return apply(frame, self.product)

    def __call__(self, exposure: Exposure) -> Crosstalk:
        """Itself: it is the same for every exposure."""
        return self


def step(exposure: Exposure, product: Product, **options: Any) -> Crosstalk:
    """The correction of an exposure, to be read lazily."""
    del exposure, options
    return Crosstalk(product)


def apply(frame: Frame, product: Product) -> Frame:
    """The frame less its crosstalk.

    Parameters
    ----------
    frame : Frame
        Assembled, adu above the level of the overscan. Where its data are still a Source, they stay one.
    product : Product
        Table ``crosstalk``: source, target, coefficient [adu/adu], sigma; table ``amplifiers`` as of
        `amplifiers_table`. Coefficients that are NaN are left out.

    Returns
    -------
    Frame
        float32. Errors are as before: what comes from the other amplifiers adds less than 1e-6 of their
        variance.

    Raises
    ------
    HistoryError
        If the overscan is not gone yet, or crosstalk or a later step was done already.
    SelectionError, ShapeError
        If the product does not belong to the frame.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    network = Network.of(product)
    used = int(np.count_nonzero(np.nan_to_num(network.matrix)))
    done = Applied(NAME, product.identity, {"coefficients": used})
    if isinstance(frame.data, Source) and frame.dq is None:
        return frame.after(done, data=CrosstalkSource(frame.data, network))
    frame = frame.load()
    raw = ArraySource(np.asarray(frame.data), None if frame.dq is None else np.asarray(frame.dq), frame.name)
    data = CrosstalkSource(raw, network).load()
    return frame.after(done, data=data)
