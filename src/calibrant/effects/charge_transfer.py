"""Charge transfer: charge that falls behind on its way to the amplifier; see docs/effects/charge_transfer.md.

It is measured in the overscan behind bright flats (extended pixel edge response, EPER).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import in_order, read
from calibrant.effects._assembly import Assembly, window
from calibrant.effects._charge_transfer_trails import (
    FAR,
    GAP,
    PARALLEL,
    SERIAL,
    SHOWN,
    Strip,
    Trail,
    inefficiency,
    strips,
    trail,
)
from calibrant.effects._input import check_products
from calibrant.effects._steps import check_kind
from calibrant.effects.common import Record, begin, check_keys, label, product_keys
from calibrant.errors import ConfigError, HistoryError, OptionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Applied, Frame
from calibrant.instrument import Readout
from calibrant.instrument.sections import format_section, parse_section
from calibrant.product import Kind, Product, Quantity

NAME = "charge_transfer"
REACH = "frame"
NEEDS: tuple[str, ...] = ("overscan",)
FORBIDS: tuple[str, ...] = ("dark", "flat")
KIND = Kind(
    NAME,
    quantities={
        "cti_serial": "Part of the charge that a serial transfer leaves behind; the place is the amplifier.",
        "cti_parallel": "The same for parallel transfers; only where there is a parallel overscan.",
        "chi2_serial": "Reduced, of the exposures about a part that is the same at every signal.",
        "chi2_parallel": "The same for parallel transfers.",
    },
)
MATCH_AS = "bias"
DIRECTIONS = (SERIAL, PARALLEL)
SURE = 3.0  # sigmas
Found = dict[tuple[str, str], list[Trail]]  # by amplifier and direction, one for each exposure

Progress = Callable[[int, int, str], None]
Plane = NDArray[np.float32]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    pixels: int = 2,
    saturation: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """Charge transfer inefficiency of each amplifier, from the overscan behind flats.

    Parameters
    ----------
    exposures : Exposures
        Bright flats, raw: with their overscan. One frame is held in memory.
    products : mapping of Product
        Not used.
    pixels : int
        Of the overscan whose charge is summed.
    saturation : float, optional
        adu, of raw values: pixels that reach it are left out. The instrument's if not given.

    Returns
    -------
    Product
        Quantities cti_serial and cti_parallel of each amplifier, and chi2 of both. Tables ``eper``
        (amplifier, direction, frame, signal, deferred, sigma [adu]), ``trail`` (amplifier, direction, pixel,
        deferred, sigma [adu], mean of the exposures) and ``amplifiers`` (places in the assembled image,
        corner that is read first, columns of the prescan).

    Raises
    ------
    SelectionError
        No exposures, or mixed ones.
    HistoryError
        If a step prepares the pixels: it cuts the overscan off.
    ConfigError
        If no amplifier has an overscan that begins at its data and is long enough.
    OptionError
        If `pixels` is not positive.
    """
    del runner, budget
    check_products(products)
    if pixels < 1:
        raise OptionError("a trail has a pixel at least", where="pixels", expected=">= 1", got=pixels)
    exposures = begin(exposures, MATCH_AS)
    if exposures.steps:
        raise HistoryError(
            "charge transfer is measured in the overscan of raw frames",
            where=NAME,
            do="give the exposures as they are, without steps",
        )
    record = Record(options={"pixels": pixels, "saturation": saturation})
    raw = exposures.shape[-2], exposures.shape[-1]
    readouts = exposures.instrument.readouts(exposures[0])
    parts = _parts(readouts, raw, pixels, record.notes)
    limit = exposures.instrument.nominal(exposures[0]).saturation if saturation is None else saturation
    found: Found = {(part.amplifier, part.direction): [] for part in parts}
    for index, source in enumerate(exposures.sources()):
        image = read(source, saturation=limit)
        for part in parts:
            found[part.amplifier, part.direction].append(trail(part.of(image), pixels))
        if progress is not None:
            progress(index + 1, len(exposures), NAME)
    names = [label(exposure, index) for index, exposure in enumerate(exposures)]
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=product_keys(exposures, MATCH_AS),
        epoch=exposures.epoch,
        units={f"{table}.{name}": "adu" for table, name in _IN_ADU},
        tables={
            "eper": _eper_table(found, names),
            "trail": _trail_table(found),
            "amplifiers": _amplifiers_table(readouts, raw),
        },
        quantities=_quantities(parts, found, record.notes),
        provenance=record.provenance(NAME, exposures, products or {}),
    )


_IN_ADU = (
    ("eper", "signal"), ("eper", "deferred"), ("eper", "sigma"), ("trail", "deferred"), ("trail", "sigma"),
)  # fmt: skip


def _parts(readouts: Sequence[Readout], raw: tuple[int, int], pixels: int, notes: list[str]) -> list[Strip]:
    """Strips that can be measured; the others are named in notes."""
    found = []
    for readout in readouts:
        parts, told = strips(readout, raw)
        notes += told
        for part in parts:
            if part.length >= pixels + GAP + FAR:
                found.append(part)
            else:
                notes.append(
                    f"amplifier {part.amplifier}: no {part.direction} transfer, {part.length} pixels of"
                    f" overscan are too few for {pixels} and a level"
                )
    if not found:
        raise ConfigError(
            "no amplifier has an overscan in which deferred charge can be seen",
            where=NAME,
            expected=f"{pixels + GAP + FAR} pixels or more, next to the data",
            got="; ".join(notes) or "no overscan",
            do="name the overscan in the instrument file",
        )
    return found


def _quantities(parts: Sequence[Strip], found: Found, notes: list[str]) -> tuple[Quantity, ...]:
    quantities = []
    for part in parts:
        name, place = part.direction, part.amplifier
        value, sigma, chi2 = inefficiency(found[place, name], part.transfers)
        quantities.append(Quantity(f"cti_{name}", value, sigma, "", place))
        quantities.append(Quantity(f"chi2_{name}", chi2, None, "", place))
        if math.isnan(value):
            notes.append(f"amplifier {place}: no {name} transfer, no exposure has light and good pixels")
        elif value < -SURE * sigma:
            notes.append(
                f"amplifier {place}: the {name} overscan lies below its level behind bright pixels"
                f" ({value:.1e} +- {sigma:.0e}): the electronics undershoot"
            )
    return tuple(quantities)


def _eper_table(found: Found, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    rows = [
        (amplifier, direction, name, one.signal, one.deferred, one.sigma)
        for (amplifier, direction), trails in found.items()
        for name, one in zip(names, trails, strict=True)
    ]
    return _columns(("amplifier", "direction", "frame", "signal", "deferred", "sigma"), rows)


def _trail_table(found: Found) -> dict[str, NDArray[Any]]:
    """Pixels of the mean trail, exposures weighted by their errors."""
    rows = []
    for (amplifier, direction), trails in found.items():
        values = np.stack([one.pixels for one in trails])
        weight = np.stack([one.pixel_sigma for one in trails])
        with np.errstate(divide="ignore"):
            weight = np.where(np.isfinite(values) & (weight > 0), weight**-2.0, 0.0)
        total = weight.sum(axis=0)
        known = total > 0
        mean = np.divide(
            np.where(weight > 0, weight * values, 0.0).sum(axis=0),
            total,
            where=known,
            out=np.full(SHOWN, np.nan),
        )
        for pixel in np.flatnonzero(known):
            rows.append((amplifier, direction, pixel + 1, mean[pixel], total[pixel] ** -0.5))
    return _columns(("amplifier", "direction", "pixel", "deferred", "sigma"), rows)


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return {name: np.array(column) for name, column in zip(names, columns, strict=True)}


def _amplifiers_table(readouts: Sequence[Readout], raw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Where the amplifiers lie in the assembled image, and from which corner each is read."""
    assembly = Assembly.of(readouts, raw)
    rows = []
    for readout, amp in zip(readouts, assembly.amplifiers, strict=True):
        place, data = window(amp.place, assembly.shape), window(amp.data, raw)
        # Overscan is read last: it tells the direction better than a corner that nobody may have stated.
        turned = [step.step == -1 for step in in_order(amp.place, readout.corner)]
        for axis, section in ((0, readout.parallel_overscan), (1, readout.overscan)):
            if section is not None:
                before = window(section, raw)[axis].start < data[axis].start
                turned[axis] = before != (amp.place[axis].step == -1)
        corner = f"{'upper' if turned[0] else 'lower'}-{'right' if turned[1] else 'left'}"
        prescan = 0 if readout.prescan is None else window(readout.prescan, raw)[1]
        columns = prescan.stop - prescan.start if isinstance(prescan, slice) else 0
        rows.append((amp.name, format_section(place), corner, columns, *assembly.shape))
    return _columns(("name", "place", "corner", "prescan", "rows", "cols"), rows)


# --- applying ---------------------------------------------------------------------------------------------


def apply(frame: Frame, product: Product, *, iterations: int = 3) -> Frame:
    """The frame with its deferred charge put back to the pixels that it comes from.

    Serial transfer, the last to happen, is undone first, then the parallel one.

    Parameters
    ----------
    frame : Frame
        Assembled, adu or electron above the level of the overscan.
    product : Product
        Of `measure`. Amplifiers whose inefficiency is not known, or not above zero, are left as they are.
    iterations : int
        Each reduces what is left by about transfers times inefficiency.

    Returns
    -------
    Frame
        Pixels that are no number count as dark. `systematic` has the error of the inefficiencies.

    Raises
    ------
    HistoryError
        If the overscan is not gone yet, or charge transfer or a later step was done already.
    SelectionError, ShapeError
        If the product does not belong to the frame.
    OptionError
        If there is no iteration.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    check_kind(product, NAME, product.unit)
    if iterations < 1:
        raise OptionError(
            "deferred charge takes an iteration", where="iterations", expected=">= 1", got=iterations
        )
    table = product.tables["amplifiers"]
    shape = int(table["rows"][0]), int(table["cols"][0])
    if tuple(frame.shape) != shape:
        raise ShapeError(
            "the charge transfer does not fit the frame",
            where=frame.name,
            expected=shape,
            got=tuple(frame.shape),
            do="use one of this detector, after the overscan",
        )
    check_keys(frame, product)
    frame = frame.load()
    data = np.array(frame.data, np.float32)
    error = np.zeros(shape, np.float32)
    shares = {direction: trail_shares(product, direction) for direction in DIRECTIONS}
    done = 0
    for row, name in enumerate(table["name"]):
        place = window(parse_section(str(table["place"][row])), shape)
        order = in_order(place, str(table["corner"][row]))
        part, own = data[place][order], error[place][order]
        for direction, axis, before in ((SERIAL, 1, int(table["prescan"][row])), (PARALLEL, 0, 0)):
            quantity = _inefficiency(product, direction, str(name))
            if quantity is not None:
                moved = restore(part, quantity.value, shares[direction], axis, before, iterations)
                own += np.square(moved * np.float32((quantity.sigma or 0.0) / quantity.value))
                part += moved
                done += 1
    old = frame.systematic
    return frame.after(
        Applied(
            NAME,
            product.identity,
            {"iterations": iterations},
            f"{done} registers of {len(table['name'])} amplifiers",
        ),
        data=data,
        systematic=error if old is None else np.asarray(old, np.float32) + error,
        systematic_from=frame.systematic_from | {product.identity},
    )


def _inefficiency(product: Product, direction: str, place: str) -> Quantity | None:
    """That of an amplifier, if it is known and above zero."""
    for quantity in product:
        if quantity.name == f"cti_{direction}" and quantity.place == place and quantity.value > 0:
            return quantity
    return None


def trail_shares(product: Product, direction: str) -> tuple[float, float]:
    """How deferred charge is shared by the next two pixels, from the mean trail of all amplifiers.

    Behind even light the first pixel of the overscan holds all of what one pixel leaves, and the second the
    share of the second. Without a second that is sure, all is in the first.
    """
    table = product.tables["trail"]
    totals = []
    for pixel in (1, 2):
        here = (table["direction"] == direction) & (table["pixel"] == pixel)
        weight = table["sigma"][here] ** -2.0
        if not here.any():
            return 1.0, 0.0
        totals.append(
            (float((weight * table["deferred"][here]).sum() / weight.sum()), float(weight.sum() ** -0.5))
        )
    (first, _), (second, sigma) = totals
    if not (first > 0 and second > SURE * sigma):
        return 1.0, 0.0
    share = min(second / first, 0.5)
    return 1.0 - share, share


def restore(
    charge: Plane, fraction: float, shares: tuple[float, float], axis: int, before: int, iterations: int
) -> Plane:
    """What must be added to charge to undo its transfer.

    Parameters
    ----------
    charge : (rows, cols) float32
        In the order of readout; pixels that are no number count as dark.
    fraction : float
        Charge that falls behind in one transfer, times pixels that it falls behind.
    shares : tuple of float
        Of the next pixel and the one after it.
    axis : int
        Along which charge is read.
    before : int
        Transfers that the first pixel needs in addition.
    iterations : int

    Returns
    -------
    (rows, cols) float32
    """
    moving = np.moveaxis(np.nan_to_num(charge, posinf=0.0, neginf=0.0), axis, 0)
    behind = shares[0] + 2 * shares[1]
    transfers = np.arange(1, len(moving) + 1, dtype=np.float32)[:, np.newaxis] + np.float32(before)
    late = transfers * np.float32(fraction / behind)
    moved = np.zeros_like(moving)
    for _ in range(iterations):
        left = (moving + moved) * late
        moved = left.copy()
        for pixels, share in enumerate(shares, 1):
            moved[pixels:] -= np.float32(share) * left[:-pixels]
    return np.moveaxis(moved, 0, axis)
