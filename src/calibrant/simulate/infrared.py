"""Infrared arrays read up the ramp: reads in memory, one after the other, with the noise of each part.

A read is, in adu::

    bias + kTC + pedestals + picture frame + telegraph + (IPC of photons and cosmic rays) / gain
    + white + own pink + common pink + alternating columns

Reference pixels see all of it but charge and picture frame, and their white noise is smaller. All parts in
time are stationary, and go on through the whole exposure: no length of it appears in their spectra (unlike
the generator of Rauscher 2015, PASP 127, 1144, whose model of the parts this follows). An `Exposure` holds
one read and the charge, whatever its length. `calibrant.simulate.readout.image` makes whole numbers of reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.instrument.clock import Clock
from calibrant.product import Kind, Product, Provenance, Quantity
from calibrant.simulate._infrared_design import Design, Maps, draw_maps, share
from calibrant.simulate._infrared_pink import Streams, power_law
from calibrant.simulate.cosmic_rays import cosmic_rays

__all__ = ["KIND", "Array", "Clock", "Design", "Exposure", "frames", "ramp"]

F4 = NDArray[np.float32]
SPARSE = 0.3  # electrons per pixel: below it, drawing the electrons is faster than drawing the pixels

KIND = Kind(
    "truth",
    planes={
        "white": "White noise of a single read.",
        "bias": "What a read without charge and noise shows.",
        "picture_frame": "Pattern of the picture-frame noise, rms 1 over active pixels.",
        "telegraph": "Distance of the two levels of pixels that jump.",
        "dq": "Reference pixels and telegraph pixels.",
    },
    quantities={
        "white": "White noise of a single read of an active pixel, of an output.",
        "pink_own": "One-sided PSD of a single read at 1 Hz, of an output alone.",
        "pink_common": "The same, of what all outputs share.",
        "common_gain": "By which an output multiplies what all share.",
        "alternating": "One-sided PSD 1 Hz below the Nyquist frequency, of alternating columns.",
        "exponent": "PSD = value at 1 Hz / f^exponent.",
        "low_cut": "The PSDs are flat below this frequency.",
        "reference_ratio": "White noise of reference pixels over that of active ones.",
    },
)
UNITS = {
    "pink_own": "adu2/Hz", "pink_common": "adu2/Hz", "alternating": "adu2/Hz", "white": "adu",
    "low_cut": "Hz", "pedestal": "adu", "pedestal_common": "adu", "pedestal_time": "s",
    "picture_frame": "adu", "picture_frame_time": "s", "ktc": "electron", "gain": "electron/adu",
    "cosmic_rate": "1/s", "telegraph_time": "s",
}  # fmt: skip
BY_OUTPUT = ("white", "pink_own", "common_gain", "alternating")
WHOLE = (
    "pink_common", "exponent", "low_cut", "reference_ratio", "pedestal", "pedestal_common", "pedestal_time",
    "picture_frame", "picture_frame_time", "ktc", "gain", "telegraph", "telegraph_reference",
    "telegraph_time", "cosmic_rate", "ipc", "ipc_diagonal",
)  # fmt: skip


class Array:
    """An infrared array: its design, and the maps that stay from exposure to exposure.

    Parameters
    ----------
    design : Design, optional
        By default an array of 2048 x 2048 pixels with 4 outputs.
    """

    def __init__(self, design: Design | None = None) -> None:
        self.design = Design() if design is None else design
        self.maps: Maps = draw_maps(self.design, np.random.default_rng(self.design.seed))

    @property
    def clock(self) -> Clock:
        """When pixels are sampled."""
        return self.design.clock

    def truth(self) -> Product:
        """What an analysis of reads should find: planes, quantities per output ("1", "2", ...) or whole.

        The table ``spectrum`` holds the PSD that the filter really makes for a coefficient of 1, in 1/Hz.
        """
        design, clock, maps = self.design, self.clock, self.maps
        law = power_law(design.exponent, design.low_cut, clock.pixel_time)
        frequency = np.geomspace(design.low_cut / 10.0, 0.5 / clock.pixel_time, 400)
        found = [
            Quantity(name, value, unit=UNITS.get(name, ""), place=str(number))
            for name in BY_OUTPUT
            for number, value in enumerate(design.each(name), 1)
        ]
        found += [Quantity(name, float(getattr(design, name)), unit=UNITS.get(name, "")) for name in WHOLE]
        found += [
            Quantity("frame_time", clock.frame_time, unit="s"),
            Quantity("row_frequency", clock.row_frequency, unit="Hz"),
        ]
        return Product(
            kind=KIND.name,
            keys={"detector": "infrared array"},
            planes={name: getattr(maps, name) for name in KIND.planes},
            units={**dict.fromkeys(("white", "bias", "telegraph"), "adu"), "picture_frame": "", "dq": ""}
            | {"spectrum.frequency": "Hz", "spectrum.psd": "1/Hz"},
            tables={"spectrum": {"frequency": frequency, "psd": law.psd(frequency)}},
            quantities=tuple(found),
            provenance=Provenance(effect="simulate", options={"seed": design.seed}),
        )


class Exposure:
    """One exposure, from its reset on: an iterator of groups that never ends by itself.

    Parameters
    ----------
    array : Array
    rng : Generator
    rate : float or array
        Light and dark current, electron/s; an array is (rows, cols), of which reference pixels see nothing.
    nframes, skip : int
        Reads averaged into a group, and reads dropped after it.

    Raises
    ------
    OptionError
        For a rate that is negative or of another shape, or a pattern without reads.
    """

    def __init__(
        self,
        array: Array,
        rng: np.random.Generator,
        rate: float | NDArray[np.floating] = 0.0,
        *,
        nframes: int = 1,
        skip: int = 0,
    ) -> None:
        self.array, self._rng = array, rng
        self.nframes, self.skip = nframes, skip
        design, clock = array.design, array.clock
        self._rate = _electrons(design, rate)
        if nframes < 1 or skip < 0:
            raise OptionError(
                "a group needs reads",
                expected="nframes of 1 or more, skip of 0 or more",
                got=f"{nframes}, {skip}",
            )
        self.reads = 0
        self.first: F4 | None = None  # the first read, where groups are means
        reset = rng.standard_normal((clock.rows, clock.cols), np.float32)
        self._base = array.maps.bias + np.float32(design.ktc / design.gain) * reset
        self._charge = np.zeros_like(reset[design.active])
        self._noise = _Electronics(array, rng)
        self._jumping = np.flatnonzero(array.maps.telegraph)
        self._high = rng.integers(0, 2, len(self._jumping)).astype(bool)
        self._hits: list[tuple[NDArray[Any], ...]] = []
        self._levels: list[NDArray[np.float64]] = []

    def __iter__(self) -> Iterator[F4]:
        return self

    def __next__(self) -> F4:
        """The next group: the mean of its reads, (rows, cols), float32, adu."""
        total = self.read()
        for _ in range(self.nframes - 1):
            total += self.read()
        for _ in range(self.skip):
            self._advance()
            self._noise.take(None, self._rng)
            self.reads += 1
        return total if self.nframes == 1 else total / np.float32(self.nframes)

    def read(self) -> F4:
        """The next single read, (rows, cols), float32, adu: the first is one frame time after the reset."""
        maps = self.array.maps
        self._advance()
        out = self._rng.standard_normal(maps.white.shape, np.float32)
        out *= maps.white
        out += self._base
        out[self.array.design.active] += self._charge / np.float32(self.array.design.gain)
        out.flat[self._jumping] += (self._high - np.float32(0.5)) * maps.telegraph.flat[self._jumping]
        self._levels.append(np.append(float(self.reads), self._noise.take(out, self._rng)))
        if self.reads == 0 and self.nframes > 1:
            self.first = out.copy()
        self.reads += 1
        return out

    def _advance(self) -> None:
        """Let a frame time pass: charge is added, telegraph pixels may jump."""
        design, step, rng = self.array.design, self.array.clock.frame_time, self._rng
        shape = self._charge.shape
        charge = _photons(self._rate, step, shape, rng)
        expected = design.cosmic_rate * step * charge.size
        if expected > 0:
            hits = cosmic_rays(shape, expected, rng, pixel_size=design.pixel_size, thickness=design.thickness)
            hits.add_to(charge)
            rows, cols = hits.row + design.border[0], hits.col + design.border[2]
            self._hits.append((np.full(len(rows), self.reads, np.int32), rows, cols, hits.charge))
        self._charge += share(charge, design.ipc, design.ipc_diagonal)
        # Both levels are equally likely: of jumps at a rate 1 / stay, an odd number has happened with
        # probability (1 - exp(-2 t / stay)) / 2.
        odd = -0.5 * np.expm1(-2.0 * step / design.telegraph_time)
        self._high ^= rng.random(len(self._high)) < odd

    def truth(self) -> Product:
        """Truth of the array, with what happened in this exposure so far.

        Tables: ``hits`` (read before which the charge came, from 0, row, col, charge [electron] before IPC)
        and ``levels`` (read, picture_frame [adu], pedestal_common [adu], pedestal_1 ... [adu]).
        """
        whole, outputs = self.array.truth(), self.array.clock.outputs
        names = ("read", "picture_frame", "pedestal_common", *(f"pedestal_{i + 1}" for i in range(outputs)))
        levels = np.array(self._levels, np.float64).reshape(-1, len(names)).T
        empty = (np.zeros(0, np.int32),) * 3 + (np.zeros(0, np.float32),)
        hits = [np.concatenate(parts) for parts in zip(*self._hits, strict=True)] or empty
        tables = {
            "hits": dict(zip(("read", "row", "col", "charge"), hits, strict=True)),
            "levels": dict(zip(names, levels, strict=True)),
        }
        units = {"hits.charge": "electron", **{f"levels.{name}": "adu" for name in names[1:]}}
        return Product(
            kind=whole.kind,
            keys=whole.keys,
            planes=whole.planes,
            units={**whole.units, **units},
            tables={**whole.tables, **tables},
            quantities=(
                *whole.quantities,
                Quantity("nframes", float(self.nframes)),
                Quantity("skip", float(self.skip)),
                Quantity("group_time", (self.nframes + self.skip) * self.array.clock.frame_time, unit="s"),
            ),
            provenance=whole.provenance,
        )


class _Electronics:
    """The parts of the noise that go on from read to read."""

    def __init__(self, array: Array, rng: np.random.Generator) -> None:
        self._array = array
        design, clock = array.design, array.clock
        law = power_law(design.exponent, design.low_cut, clock.pixel_time)
        self._common = Streams(law, int(design.pink_common > 0), rng)
        self._own, self._alternating = (
            Streams(law, clock.outputs if any(design.each(name)) else 0, rng)
            for name in ("pink_own", "alternating")
        )
        sigma = [design.picture_frame, design.pedestal_common, *[design.pedestal] * clock.outputs]
        times = [design.picture_frame_time, *[design.pedestal_time] * (clock.outputs + 1)]
        self._sigma = np.array(sigma)
        self._memory = np.exp(-clock.frame_time / np.array(times))
        self._levels = self._sigma * rng.standard_normal(len(sigma))

    def take(self, plane: F4 | None, rng: np.random.Generator) -> NDArray[np.float64]:
        """Add the next read to `plane`, or drop it; returns picture frame, common, own pedestals [adu]."""
        design, clock = self._array.design, self._array.clock
        fresh = self._sigma * np.sqrt(1.0 - self._memory**2) * rng.standard_normal(len(self._sigma))
        self._levels = self._memory * self._levels + fresh
        streams = [part.take(clock.frame_ticks, rng) for part in (self._common, self._own, self._alternating)]
        if plane is None:
            return self._levels
        common, own, alternating = streams
        frame, level, *pedestals = self._levels.astype(np.float32)
        gains = design.each("common_gain")
        if frame != 0:
            plane += frame * self._array.maps.picture_frame
        for i, block in enumerate(clock.blocks(plane)):
            total = np.full(clock.frame_ticks, level + pedestals[i], np.float32)
            if len(common):
                total += np.float32(gains[i] * np.sqrt(design.pink_common)) * common[0]
            if len(own):
                total += np.float32(np.sqrt(design.each("pink_own")[i])) * own[i]
            block += clock.sampled(total)
            if len(alternating):
                scale = np.float32(np.sqrt(design.each("alternating")[i]))
                block += clock.sampled(alternating[i]) * (scale * clock.parity)
        return self._levels


def frames(array: Array, n: int, rng: np.random.Generator) -> Iterator[F4]:
    """Reads of one dark exposure, one after the other.

    Parameters
    ----------
    n : int
        Number of reads.

    Yields
    ------
    array of float32
        (rows, cols), adu.
    """
    exposure = Exposure(array, rng)
    for _ in range(n):
        yield exposure.read()


def ramp(
    array: Array,
    groups: int,
    rate: float | NDArray[np.floating],
    rng: np.random.Generator,
    *,
    nframes: int = 1,
    skip: int = 0,
) -> F4:
    """A whole ramp in memory; an `Exposure` gives the same groups one by one, with their truth.

    Parameters
    ----------
    rate : float or array
        electron/s, (rows, cols).
    nframes, skip : int
        Reads averaged into a group, and reads dropped after it.

    Returns
    -------
    array of float32
        (groups, rows, cols), adu.
    """
    exposure = Exposure(array, rng, rate, nframes=nframes, skip=skip)
    out = np.empty((groups, array.clock.rows, array.clock.cols), np.float32)
    for group in out:
        group[:] = next(exposure)
    return out


def _electrons(design: Design, rate: float | NDArray[np.floating]) -> float | NDArray[np.float64]:
    """The rate in the active pixels, electron/s."""
    values = np.asarray(rate, np.float64)
    shape = design.clock.rows, design.clock.cols
    if not (np.isfinite(values) & (values >= 0)).all() or values.shape not in ((), shape):
        raise OptionError(
            "the rate cannot be used",
            where="rate",
            expected=f"a number, or {shape[0]} x {shape[1]} of them, zero or more",
            got=f"shape {values.shape}, from {values.min():g} to {values.max():g}",
        )
    return values[design.active] if values.ndim else float(values)


def _photons(
    rate: float | NDArray[np.float64], step: float, shape: tuple[int, ...], rng: np.random.Generator
) -> F4:
    """Electrons of a frame time, Poissonian, (rows, cols) of the active pixels."""
    if isinstance(rate, float) and rate * step < SPARSE:
        size = shape[0] * shape[1]
        places = rng.integers(size, size=rng.poisson(rate * step * size))
        return np.bincount(places, minlength=size).astype(np.float32).reshape(shape)
    return rng.poisson(np.asarray(rate) * step, shape).astype(np.float32)
