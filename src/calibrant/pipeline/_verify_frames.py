"""The frames that a product is verified on: which, how they are processed, and their expected noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import pedestal
from calibrant.errors import FileError, HeaderError, HistoryError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Instrument
from calibrant.pipeline.calibrate import pixel_steps, without_overscan
from calibrant.pipeline.limits import products_needed
from calibrant.pipeline.recipe import Recipe
from calibrant.product import Product
from calibrant.stack.pixel import apply_steps

MOST = 16
"""Frames that are looked at, of each kind: enough for a median, and no night is waited for."""
BAD = np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)
OF_ONE_FRAME = (FileError, HeaderError, HistoryError, SelectionError, ShapeError, UnitError)
NAMED = 3  # frames that a note names
Section = tuple[slice, slice]


@dataclass(frozen=True)
class Area:
    """The pixels of one amplifier, and what is known of it.

    Attributes
    ----------
    read_noise : float or None
        adu.
    nominal : float or None
        The nominal read noise, adu.
    gain : float or None
        e-/adu.
    """

    place: str
    section: Section
    read_noise: float | None
    nominal: float | None
    gain: float | None


@dataclass(frozen=True, eq=False)
class Seen:
    """One frame, processed.

    Attributes
    ----------
    data : array
        float32 (rows, cols), adu; NaN where a pixel is not to be used.
    variance : array or None
        That `data` should have about a smooth signal: of the frame and of its masters; None if it is unknown.
    level : float
        Median of `data`.
    """

    exposure: Exposure
    data: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    level: float
    areas: tuple[Area, ...]
    time: float | None


@dataclass(eq=False)
class Frames:
    """Hands out processed frames one by one, and remembers what there is to say about them.

    Attributes
    ----------
    product : Product
        The one that is verified.
    uses : mapping of Product
        Kind -> what processes the frames, the product among them.
    notes : list of str
    names : list of str
        Frames that were processed.
    """

    product: Product
    uses: Mapping[str, Product]
    instrument: Instrument
    recipe: Recipe
    exposures: Exposures | None
    notes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    lack: str = ""
    _out: list[tuple[str, str]] = field(default_factory=list)

    def of(self, kind: str, uses: Sequence[str]) -> Iterator[Seen]:
        """Frames of a kind, processed with those of `uses` that there are."""
        frames, own = self._chosen(kind)
        products = {name: self.uses[name] for name in uses if name in self.uses}
        for index, exposure in enumerate(frames):
            name = exposure.path or exposure.identifier or f"frame {index}"
            try:
                seen = self._seen(frames, index, products, own[index])
            except OF_ONE_FRAME as error:
                self.leave_out(name, str(error))
                continue
            if seen is not None:
                self.names.append(name)
                yield seen

    def nominal(self, kind: str) -> dict[str, tuple[float | None, float | None]]:
        """Amplifier -> nominal gain [e-/adu] and read noise [e-], by the header of a frame that fits."""
        frames = self.exposures.where(kind=kind).where(self._fits) if self.exposures is not None else ()
        if not frames:
            return {}
        whole = self.instrument.nominal(frames[0])
        readouts = self.instrument.readouts(frames[0])
        return {
            ("" if len(readouts) == 1 else one.name): (
                whole.gain if one.gain is None else one.gain,
                whole.read_noise if one.read_noise is None else one.read_noise,
            )
            for one in readouts
        }

    def leave_out(self, name: str, why: str) -> None:
        """Remember that a frame said nothing, and why."""
        self.lack = self.lack or why
        self._out.append((_base(name), why))

    @property
    def sentences(self) -> list[str]:
        """What there is to say of the frames; of those left out, one reason."""
        if not self._out:
            return self.notes
        names = [name for name, _ in self._out]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return [*self.notes, f"left out: {', '.join(names[:NAMED])}{more}: {self._out[0][1]}"]

    def _chosen(self, kind: str) -> tuple[Exposures, list[bool]]:
        """Frames of the kind that the product fits, those that it was not made of first."""
        if self.exposures is None:
            self.lack = self.lack or f"there are no {kind} frames"
            return Exposures((), self.instrument), []
        fitting = self.exposures.where(lambda one: one.kind == kind and self._fits(one))
        left = len(self.exposures.where(kind=kind)) - len(fitting)
        if left:
            self.notes.append(f"{left} {kind} frames are of another setting than the product")
        if not len(fitting):
            self.lack = self.lack or f"there are no {kind} frames" + (" of its setting" if left else "")
        own = self._own(fitting)
        order = [*_spread([i for i, mine in enumerate(own) if not mine], MOST)]
        order += _spread([i for i, mine in enumerate(own) if mine], MOST - len(order))
        if kind == self.product.kind and order and all(own):
            self.notes.append(
                f"all {len(order)} {kind} frames are the product's own: they show neither a leak of light "
                "that they share nor a change since; others would say more"
            )
        return fitting.take(order), [own[i] for i in order]

    def _fits(self, exposure: Exposure) -> bool:
        """Whether all that is known of the frame agrees with the keys of the product.

        Of defects, which are seen on darks and flats, only what such frames are matched by: those of a dark
        of 300 s show on flats of any time.
        """
        known = set(self.instrument.fact_names)
        if exposure.kind != self.product.kind:
            known &= set(self.instrument.match.get(exposure.kind, known))
        facts = {name: exposure.get(name) for name in self.product.keys if name in known}
        return all(
            value is None or self.instrument.same(name, _tuple(self.product.keys[name]), _tuple(value))
            for name, value in facts.items()
        )

    def _own(self, frames: Exposures) -> list[bool]:
        """Which of the frames the product was made of, by hash, else by name."""
        inputs = self.product.provenance.inputs
        hashes, names = {i.hash for i in inputs if i.hash}, {_base(i.name) for i in inputs if not i.hash}
        if not inputs:
            return [False] * len(frames)
        return [one.hash in hashes if one.hash else _base(one.name) in names for one in frames.inputs()]

    def _seen(self, frames: Exposures, index: int, products: Mapping[str, Product], own: bool) -> Seen | None:
        count = len(self.product.provenance.inputs)
        exposure = frames[index]
        name = exposure.path or exposure.identifier or "a frame"
        if own and count < 2:
            self.leave_out(name, "the product is this frame, and what is left of it says nothing")
            return None
        frame = self._processed(frames, index, products)
        # What stands out of its surroundings in a dark does so at any level.
        zero = exposure.kind == "bias" or (exposure.kind == "dark" and self.product.kind == "defects")
        if not zero and any(step.effect == "no_bias" for step in frame.history):
            self.leave_out(name, "nothing takes its bias away; give the bias that the product was made with")
            return None
        assert isinstance(frame.data, np.ndarray) and isinstance(frame.dq, np.ndarray)
        bad = (frame.dq & BAD) != 0
        data = np.where(bad, np.float32(np.nan), frame.data)
        if not np.isfinite(data).any():
            self.leave_out(name, "it has no good pixel; it may be saturated")
            return None
        level = float(np.nanmedian(data))
        areas = tuple(self._areas(exposure, data.shape))
        time = exposure.dark_time if exposure.dark_time is not None else exposure.duration
        share = 2.0 * self._weight(time, count) if own else 0.0
        return Seen(
            exposure, data, self._expected(frame, products, level, areas, time, share), level, areas, time
        )

    def _processed(self, frames: Exposures, index: int, products: Mapping[str, Product]) -> Frame:
        found = dict(products)
        exposure = frames[index]
        whole = "dark" in found and bool(found["dark"].keys.get("includes_bias"))
        moved = exposure.kind != "dark" and (whole or bool(exposure.applied & {"bias", "dark"}))
        if moved and "bias" not in found and self.recipe.enabled("pedestal"):
            given = {kind: master for kind, master in found.items() if kind in ("dark", "flat")}
            options = self.recipe.options("pedestal")
            found["pedestal"] = pedestal.measure(frames.take([index]), products=given, **options)
        frame = without_overscan(frames.frame(index), self.instrument, self.recipe)
        return apply_steps(frame, list(pixel_steps(exposure, found, self.instrument, self.recipe)))

    # --- the noise that it should have ---

    def _weight(self, time: float | None, count: int) -> float:
        """Weight of one of its frames in the product: by time for a rate, else equal."""
        rates = [q.value for q in self.product if q.name == "frames_per_second"]
        if self.product.unit == "adu/s" and rates and time:
            return rates[0] * time / count
        return 1.0 / count

    def _expected(
        self,
        frame: Frame,
        products: Mapping[str, Product],
        level: float,
        areas: Sequence[Area],
        time: float | None,
        share: float,
    ) -> NDArray[np.float32] | None:
        """Variance of the processed pixels, from the model: reading, photons, and the errors of the masters.

        A frame that the product was made of with weight w is correlated with it: var(x - m) is
        var(x) (1 - 2 w) + var(m), and var(x) + var(m) for any other frame.
        """
        flat = products["flat"].data if "flat" in products else None
        signal = _dark_signal(products.get("dark"), time)
        if frame.exposure.kind == "flat":
            signal = signal + np.float32(level) * (np.float32(1.0) if flat is None else flat)
        lit, bright = bool(np.any(signal > 0)), frame.exposure.kind == "flat"
        if bright and any(area.read_noise is None for area in areas):
            self.notes.append(
                "the read noise is unknown, and was taken as zero against the noise of the light"
            )
        variance = np.zeros(frame.shape, np.float32)
        for area in areas:
            if (area.gain if bright else area.read_noise) is None:
                return None
            variance[area.section] = (area.read_noise or 0.0) ** 2
            if lit and area.gain is not None:
                here = signal if signal.ndim < 2 else signal[area.section]
                variance[area.section] += np.maximum(here, 0) / np.float32(area.gain)
        if flat is not None:
            variance /= np.square(flat)
        variance *= np.float32(1.0 - share)
        if isinstance(frame.systematic, np.ndarray):
            variance += frame.systematic
        return np.maximum(variance, 0)

    def _areas(self, exposure: Exposure, shape: tuple[int, ...]) -> Iterator[Area]:
        readouts = self.instrument.readouts(exposure)
        nominal = self.instrument.nominal(exposure)
        several = len(readouts) > 1
        raw = tuple(shape) == tuple(exposure.shape[-2:])
        for readout in readouts if several else readouts[:1]:
            gain = readout.gain if several and readout.gain is not None else nominal.gain
            gain = self._measured_gain() if gain is None else gain
            noise = readout.read_noise if several and readout.read_noise is not None else nominal.read_noise
            stated = None if noise is None or gain is None else noise / gain
            place = readout.name if several else ""
            section = (readout.data if raw else readout.place) if several else (slice(None), slice(None))
            yield Area(place, section, self._read_noise(place, section, stated), stated, gain)

    def _measured_gain(self) -> float | None:
        """Where no gain is stated: that which the flat shows."""
        values = {q.name: q.value for q in self.product if q.name in ("pair_gain", "gain")}
        return values.get("pair_gain", values.get("gain"))

    def _read_noise(self, place: str, section: Section, nominal: float | None) -> float | None:
        """As the bias states it, for the amplifier if it can; else nominal, else what a dark shows, adu."""
        bias = self.uses.get("bias")
        values = {} if bias is None else {q.place: q.value for q in bias if q.name == "read_noise"}
        if place in values:
            return values[place]
        if bias is not None and place and "read_noise" in bias.planes:
            return float(np.nanmedian(bias.planes["read_noise"][section]))
        if "" in values:
            return values[""]
        if self.product.kind == "bias":
            return None
        dark = self.uses.get("dark")
        shown = (
            [] if dark is None else [q.value for q in dark if q.name == "noise" and math.isfinite(q.value)]
        )
        return nominal if nominal is not None or not shown else shown[0]


def frames_of(
    product: Product,
    products: Mapping[str, Product],
    instrument: Instrument,
    recipe: Recipe,
    exposures: Exposures | None,
) -> Frames:
    """The frames of a product, with a note where other masters process them than those it was made with."""
    frames = Frames(product, {**products, product.kind: product}, instrument, recipe, exposures)
    for kind in products_needed(product.kind):
        parents = product.provenance.parents
        if kind in products and parents and products[kind].identity not in parents:
            frames.notes.append(f"the frames lose another {kind} than the one that the product was made with")
    return frames


def _dark_signal(dark: Product | None, time: float | None) -> NDArray[np.float32]:
    """Counts of the dark in a frame of `time` seconds, adu."""
    if dark is None or (dark.unit == "adu/s" and time is None):
        return np.zeros((), np.float32)
    if dark.unit == "adu":
        return np.asarray(np.maximum(dark.data - np.float32(dark.quantity("level").value), 0), np.float32)
    return np.asarray(np.maximum(dark.data * np.float32(time), 0), np.float32)


def _spread(indices: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly spread."""
    if len(indices) <= most:
        return list(indices)
    return [indices[int(i)] for i in np.linspace(0, len(indices) - 1, max(most, 0)).round()]


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
