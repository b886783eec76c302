"""Checks of what a master is made of: kinds, units, products, copies, and frames that hold nothing."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._levels import bands, read_sample
from calibrant.effects._steps import name_of
from calibrant.errors import OptionError, SelectionError, UnitError
from calibrant.exposures import Exposures
from calibrant.stack.pixel import PixelStep, PreparedSource
from calibrant.stack.source import Source, decode

NAMED = 3  # files that a message names before it counts
PLAIN_KINDS = frozenset({"bias", "dark", "flat", "light"})
PRODUCTS = (
    "overscan", "pedestal", "bias", "dark", "flat", "defects", "gain", "read_noise", "cosmic_rays",
    "sky_flat", "illumination",
)  # fmt: skip
"""Keys that `products` of a measurement may have."""


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def check_products(products: Mapping[str, Any] | None) -> None:
    """That all keys of `products` are kinds that there are.

    Raises
    ------
    OptionError
        With the nearest spelling.
    """
    for key in products or {}:
        if key not in PRODUCTS:
            near = difflib.get_close_matches(str(key), PRODUCTS, 1)
            raise OptionError(
                f"there is no product called {key!r}",
                where="products",
                expected=None if near else ", ".join(PRODUCTS),
                do=f"did you mean {near[0]!r}?" if near else None,
            )


def check_kinds(exposures: Exposures, kind: str) -> None:
    """That the exposures are of one kind, and of no other one.

    Raises
    ------
    SelectionError
        Naming kinds and how many there are of each.
    """
    counts = Counter(exposure.kind for exposure in exposures)
    others = [name for name in counts if name not in (kind, "unknown")]
    own = PLAIN_KINDS | set(exposures.instrument.science)
    if not others or (len(others) == 1 and kind not in counts and others[0] not in own):
        return  # a kind of the user's own, such as a flat of twilight, is taken at his word
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    first = next(exposure for exposure in exposures if exposure.kind == others[0])
    raise SelectionError(
        f"a {kind} cannot be made of exposures of {'mixed kinds' if len(counts) > 1 else 'another kind'}",
        where=name_of(first),
        expected=kind,
        got=told,
        do=f"select kind={kind!r}",
    )


def check_units(exposures: Exposures, units: Collection[str]) -> None:
    """That the raw pixels are in one unit, and in one of `units`.

    Raises
    ------
    UnitError
        Naming the files that are in another.
    """
    found: dict[str, list[str]] = {}
    for index, exposure in enumerate(exposures):
        found.setdefault(_unit(exposures, index), []).append(name_of(exposure))
    for unit, names in found.items():
        if unit in units:
            continue
        told = (
            f"in {unit} already" if unit in ("electron", "adu/s", "electron/s") else f"in {unit or 'no unit'}"
        )
        wanted = "raw adu" if tuple(units) == ("adu",) else " or ".join(units)
        raise UnitError(
            f"{'is' if len(names) == 1 else 'are'} {told}; {wanted} expected",
            where=listed(names),
            do="leave it out, or mend BUNIT" if len(names) == 1 else "leave them out, or mend BUNIT",
        )
    if len(found) > 1:
        told = "; ".join(f"{unit} in {listed(names)}" for unit, names in found.items())
        raise UnitError(f"exposures of several units: {told}", do="select those of one unit")


def _unit(exposures: Exposures, index: int) -> str:
    """Unit of the raw pixels of an exposure: of the frame in memory, else what its header says."""
    exposure = exposures[index]
    if exposure.path is not None:
        return exposure.unit
    if not exposures.steps:
        return exposures.frame(index).unit
    source, unit = exposures.sources()[index], exposure.unit
    while (inner := getattr(source, "source", None)) is not None:
        unit = source.unit if isinstance(source, PreparedSource) else unit
        source = inner
    return unit


def raw(source: Source) -> Source:
    """The source as the camera wrote it, below all steps."""
    while (inner := getattr(source, "source", None)) is not None:
        source = inner
    return source


def ceiling(source: Source) -> float | None:
    """The largest value that the integers of a raw source can hold; None for floats and 32 bits."""
    encoding = raw(source).encoding
    dtype = np.dtype(encoding.dtype)
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return None
    return float(decode(np.full((1, 1), np.iinfo(dtype).max, dtype), encoding)[0, 0])


def prepare(source: Source, steps: tuple[PixelStep, ...], saturation: float | None) -> PreparedSource:
    """The source with further steps; values from `saturation` [adu, raw] on are flagged before the first."""
    if saturation is None:  # no converter can say more than this
        saturation = ceiling(source)
    if isinstance(source, PreparedSource):  # came through other steps: saturation is judged before those
        limit = source.saturation if source.saturation is not None else saturation
        return PreparedSource(source.source, (*source.steps, *steps), source.scale, limit, source.unit)
    return PreparedSource(source, steps, saturation=saturation)


def with_values(exposures: Exposures, kind: str, notes: list[str]) -> Exposures:
    """The exposures that have a good pixel; the others are named in a note.

    Integers without flags are not read, and of floats no more than the rows up to the first good one.

    Raises
    ------
    SelectionError
        If there is none.
    """
    sources = [raw(source) for source in exposures.sources()]
    blank = [index for index, source in enumerate(sources) if not _any_good(source)]
    return _without(exposures, blank, "without any good pixel", kind, notes)


def _any_good(source: Source) -> bool:
    encoding = source.encoding
    if np.dtype(encoding.dtype).kind in "iu" and encoding.blank is None and not source.has_dq:
        return True
    rows = bands(source.shape, source.shape[0] * source.shape[1])
    return any(bool(np.isfinite(read_sample(source, [band])).any()) for band in rows)


def without_copies(exposures: Exposures, kind: str, notes: list[str] | None) -> Exposures:
    """See that no frame is there twice; frames of one value alone are told as what they are.

    Raises
    ------
    SelectionError
        Naming the copies.
    """
    names = [e.path or e.identifier or f"frame {i}" for i, e in enumerate(exposures)]
    for copies in exposures.duplicates():
        members = [index for index, name in enumerate(names) if name in copies]
        source = raw(exposures.sources()[members[0]])
        value = _constant(source)
        if value is None:
            raise SelectionError(
                "the same pixels were given more than once, and would count as independent frames",
                where=", ".join(copies),
                do="leave the copies out",
            )
        limits = [exposures.instrument.nominal(exposures[members[0]]).saturation, ceiling(source)]
        full = any(limit is not None and value >= limit for limit in limits)
        why = f"all pixels are {'saturated' if full else 'constant'} ({value:g} adu)"
        left = _without(exposures, members, why, kind, [] if notes is None else notes)
        return without_copies(left, kind, notes)
    return exposures


def _constant(source: Source) -> float | None:
    """The value that all pixels of a frame have, if there is one."""
    value = None
    for band in bands(source.shape, source.shape[0] * source.shape[1]):
        values: NDArray[Any] = read_sample(source, [band])
        value = values.flat[0] if value is None else value
        if not (values == value).all():
            return None
    return None if value is None else float(value)


def _without(exposures: Exposures, bad: Sequence[int], why: str, kind: str, notes: list[str]) -> Exposures:
    if not bad:
        return exposures
    names = [name_of(exposures[index]) for index in bad]
    if len(bad) == len(exposures):
        raise SelectionError(
            f"no {kind} can be made of these frames: {why}",
            where=listed(names),
            got=f"{len(bad)} such of {len(exposures)} frames",
            do="take other frames",
        )
    notes.append(f"left out, {why}: {', '.join(names)}")
    return exposures.take(index for index in range(len(exposures)) if index not in set(bad))
