"""Compare: a product against another one: this month against last, detector against detector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import SelectionError, ShapeError, UnitError
from calibrant.frame import DQ
from calibrant.product import Product, Quantity
from calibrant.stats import clipped_stats

FAR = 5.0  # sigmas: beyond them is an outlier, and a quantity differs
OFF = 1.0  # sigmas of one pixel by which the middle of a plane may be off
WIDTHS = (0.5, 1.5)  # of pulls, whose width is 1 if all errors are known
OUTLIERS = 1e-3  # fraction of pixels beyond `FAR`
FLAGGED = 1e-2  # fraction of pixels that may be flagged in one of the two only
REACH = 2  # pixels, of the search for a shift
CLIP = 4.0  # sigmas, of widths: medians of integers lie on a grid, where a median deviation would jump
CROP = 512  # pixels on a side, in the middle: enough to see a shift
TRUTH = "truth"  # kind of what a simulation knows
BETTER = 0.95  # a shift is believed if it lowers the scatter to less than this


@dataclass(frozen=True)
class QuantityDifference:
    """A quantity in both products: `difference` = one - other, in `unit`.

    Attributes
    ----------
    sigma : float or None
        Of the difference, independent errors; None if one of the two does not state its own.
    pull : float or None
        difference / sigma.
    """

    name: str
    place: str
    one: float
    other: float
    difference: float
    sigma: float | None
    pull: float | None
    unit: str = ""


@dataclass(frozen=True)
class PlaneDifference:
    """A plane in both products, over the pixels that are good in both.

    Attributes
    ----------
    pixels : int
        How many are good in both.
    one, other : float
        Medians, in `unit`.
    difference, scatter : float
        Median and standard deviation (clipped at 4 sigma) of one - other, in `unit`.
    pull, width : float or None
        The same of the pulls (one - other) / sigma; None where a variance is not known.
    outliers : float or None
        Fraction of pixels beyond 5 sigma.
    shift : tuple of int or None
        Rows and columns by which `other` must be moved to fit better than it lies; None if it lies best.
    """

    name: str
    unit: str
    pixels: int
    one: float
    other: float
    difference: float
    scatter: float
    pull: float | None = None
    width: float | None = None
    outliers: float | None = None
    shift: tuple[int, int] | None = None


@dataclass(frozen=True)
class FlagDifference:
    """Pixels with one flag: in both, in the one only, in the other only."""

    flag: str
    both: int
    one: int
    other: int


@dataclass(frozen=True)
class Comparison:
    """What two products of one kind say differently.

    Attributes
    ----------
    one, other : str
        Identities.
    flagged_once : float
        Fraction of pixels whose flags are set in one of the two only, any of them.
    """

    kind: str
    one: str
    other: str
    quantities: tuple[QuantityDifference, ...] = ()
    planes: tuple[PlaneDifference, ...] = ()
    flags: tuple[FlagDifference, ...] = ()
    flagged_once: float = 0.0
    notes: tuple[str, ...] = field(default=())

    def plane(self, name: str = "data") -> PlaneDifference | None:
        """The comparison of a plane; None if it is not in both."""
        return next((found for found in self.planes if found.name == name), None)

    @property
    def departures(self) -> tuple[str, ...]:
        """What differs beyond errors, in words; the largest pulls of quantities first."""
        told = sorted((q for q in self.quantities if _far(q.pull, FAR)), key=lambda q: -abs(q.pull or 0.0))
        words = [f"{_label(q.name, q.place)} by {q.pull:+.1f} sigma" for q in told]
        for plane in self.planes:
            words += _departures(plane)
        if self.flagged_once > FLAGGED:
            words.append(f"{100 * self.flagged_once:.2g} % of the pixels are flagged in one only")
        return tuple(words)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs beyond errors."""
        return not self.departures

    @property
    def verdict(self) -> str:
        """``agrees``, or ``differs: level by +12.3 sigma; ...``."""
        return f"differs: {'; '.join(self.departures)}" if self.departures else "agrees"

    def rows(self) -> list[dict[str, Any]]:
        """Quantities, then planes, as lines of one table."""
        lines = [
            {"what": _label(q.name, q.place), **{name: getattr(q, name) for name in _COLUMNS}}
            for q in self.quantities
        ]
        lines += [
            {"what": f"plane {p.name}", **{name: getattr(p, name, p.scatter) for name in _COLUMNS}}
            for p in self.planes
        ]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """All of it with the verdict, JSON-able: what is not a number is None."""
        found: dict[str, Any] = _plain({**asdict(self), "agrees": self.agrees, "verdict": self.verdict})
        return found


_COLUMNS = ("one", "other", "difference", "sigma", "pull", "unit")


def compare(one: Product, other: Product) -> Comparison:
    """Hold two products of one kind against each other: differences in units of their errors.

    Parameters
    ----------
    one, other : Product
        Of one kind, their planes of one shape and in the same units. The truth of a simulation goes with any
        kind: what both know is compared.

    Returns
    -------
    Comparison
        Differences are one - other. Its `verdict` is a sentence, its `rows` a table.

    Raises
    ------
    SelectionError
        If they are of different kinds, and neither is a truth.
    ShapeError, UnitError
        If planes, or quantities, cannot be subtracted from each other.

    Notes
    -----
    Errors are taken as independent: variances add. An error that both share, because the same master prepared
    them, cancels in the difference: the systematic variance is left out then, and a note says so.
    """
    _check(one, other)
    shared = set(one.provenance.parents) & set(other.provenance.parents)
    good = _good(one, other)
    return Comparison(
        kind=one.kind,
        one=one.identity,
        other=other.identity,
        quantities=tuple(_quantities(one, other)),
        planes=tuple(_planes(one, other, good, systematic=not shared)),
        flags=tuple(_flags(one, other)),
        flagged_once=_flagged_once(one, other),
        notes=tuple(_notes(one, other, shared)),
    )


def _check(one: Product, other: Product) -> None:
    if one.kind != other.kind and TRUTH not in (one.kind, other.kind):
        raise SelectionError(
            "products of different kinds cannot be compared",
            expected=f"two of one kind, such as two of kind {one.kind}",
            got=f"{one.kind} ({_short(one.identity)}) and {other.kind} ({_short(other.identity)})",
        )
    for name in sorted(set(one.planes) & set(other.planes)):
        shapes = one.planes[name].shape, other.planes[name].shape
        if shapes[0] != shapes[1]:
            raise ShapeError(
                f"the planes {name!r} of the two products differ in size", expected=shapes[0], got=shapes[1]
            )
        units = one.units.get(name, ""), other.units.get(name, "")
        if units[0] != units[1]:
            raise UnitError(
                f"the planes {name!r} of the two products are in different units",
                expected=repr(units[0]),
                got=repr(units[1]),
            )


def _quantities(one: Product, other: Product) -> Iterator[QuantityDifference]:
    theirs = {(q.name, q.place): q for q in other}
    for own in one:
        found = theirs.get((own.name, own.place))
        if found is not None:
            yield _quantity(own, found)


def _quantity(own: Quantity, found: Quantity) -> QuantityDifference:
    if own.unit != found.unit:
        raise UnitError(
            f"the quantity {_label(own.name, own.place)} is in different units",
            expected=repr(own.unit),
            got=repr(found.unit),
        )
    difference = own.value - found.value
    sigma = None
    if own.sigma is not None and found.sigma is not None:
        sigma = math.hypot(own.sigma, found.sigma)
    pull = difference / sigma if sigma and math.isfinite(difference / sigma) else None
    return QuantityDifference(
        own.name, own.place, own.value, found.value, difference, sigma, pull, own.unit
    )  # fmt: skip


def _good(one: Product, other: Product) -> NDArray[np.bool_] | bool:
    """Pixels that neither product calls unusable."""
    masks = [
        (product.planes["dq"] & np.uint32(DQ.DO_NOT_USE)) == 0
        for product in (one, other)
        if "dq" in product.planes
    ]
    return np.logical_and.reduce(masks) if masks else True


def _planes(
    one: Product, other: Product, good: NDArray[np.bool_] | bool, systematic: bool
) -> Iterator[PlaneDifference]:
    """Planes of numbers that are no errors themselves; the main plane first."""
    names = sorted(set(one.planes) & set(other.planes), key=lambda name: (name != "data", name))
    for name in names:
        if one.planes[name].dtype.kind == "f" and not _is_error(name):
            variances = [_variance(product, name, systematic) for product in (one, other)]
            yield _plane(name, one, other, good, variances)


def _is_error(name: str) -> bool:
    return name == "covariance" or name.rpartition("_")[2] in ("variance", "propagated", "systematic")


def _variance(product: Product, name: str, systematic: bool) -> NDArray[Any] | None:
    """Of a plane: from the noise model where known, else the scatter; with what its masters added to it."""
    prefix = "" if name == "data" else f"{name}_"
    own = product.planes.get(f"{prefix}propagated", product.planes.get(f"{prefix}variance"))
    common = product.planes.get(f"{prefix}systematic") if systematic else None
    return own if own is None or common is None else own + common


def _plane(
    name: str,
    one: Product,
    other: Product,
    good: NDArray[np.bool_] | bool,
    variances: list[NDArray[Any] | None],
) -> PlaneDifference:
    a, b = one.planes[name], other.planes[name]
    use = np.isfinite(a) & np.isfinite(b) & good
    difference = a[use].astype(np.float64) - b[use]
    pulls = _pulls(difference, use, variances)
    nothing = not difference.size
    return PlaneDifference(
        name=name,
        unit=one.units.get(name, ""),
        pixels=int(difference.size),
        one=math.nan if nothing else float(np.median(a[use])),
        other=math.nan if nothing else float(np.median(b[use])),
        difference=math.nan if nothing else float(np.median(difference)),
        scatter=math.nan if nothing else _width(difference),
        pull=None if pulls is None else float(np.median(pulls)),
        width=None if pulls is None else _width(pulls),
        outliers=None if pulls is None else float(np.mean(np.abs(pulls) > FAR)),
        shift=_shift(np.where(use, a, np.nan), np.where(use, b, np.nan)) if difference.size else None,
    )


def _pulls(
    difference: NDArray[np.float64], use: NDArray[np.bool_], variances: list[NDArray[Any] | None]
) -> NDArray[np.float64] | None:
    if variances[0] is None or variances[1] is None:
        return None
    variance = variances[0][use].astype(np.float64) + variances[1][use]
    known = np.isfinite(variance) & (variance > 0)
    return difference[known] / np.sqrt(variance[known]) if known.any() else None


def _shift(a: NDArray[Any], b: NDArray[Any]) -> tuple[int, int] | None:
    """Rows and columns to move `b` by, if its scatter against `a` is then clearly smaller; (rows, cols)."""
    if a.ndim != 2 or min(a.shape) < 8 * REACH:
        return None
    rows, cols = ((max(size - CROP, 0) // 2) for size in a.shape)
    a, b = (plane[rows : rows + CROP, cols : cols + CROP] for plane in (a, b))
    inner = slice(REACH, -REACH)
    steps = range(-REACH, REACH + 1)
    scatter = {
        (row, col): _width(a[inner, inner] - np.roll(b, (row, col), (0, 1))[inner, inner])
        for row in steps
        for col in steps
    }
    best = min(scatter, key=lambda move: (scatter[move], abs(move[0]) + abs(move[1])))
    return best if scatter[best] < BETTER * scatter[0, 0] else None


def _width(values: NDArray[Any]) -> float:
    """Standard deviation of the normal ones among many values."""
    return clipped_stats(values, sigma=CLIP, correct=True).std


def _flags(one: Product, other: Product) -> Iterator[FlagDifference]:
    if "dq" not in one.planes or "dq" not in other.planes:
        return
    a, b = one.planes["dq"], other.planes["dq"]
    present = int(np.bitwise_or.reduce(a, axis=None) | np.bitwise_or.reduce(b, axis=None))
    for bit in DQ:
        if present & bit:
            mine, theirs = (a & np.uint32(bit)) != 0, (b & np.uint32(bit)) != 0
            counts = (int(np.sum(mask)) for mask in (mine & theirs, mine & ~theirs, theirs & ~mine))
            yield FlagDifference(bit.name or "", *counts)


def _flagged_once(one: Product, other: Product) -> float:
    if "dq" not in one.planes or "dq" not in other.planes:
        return 0.0
    return float(np.mean((one.planes["dq"] != 0) != (other.planes["dq"] != 0)))


def _notes(one: Product, other: Product, parents: set[str]) -> Iterator[str]:
    if parents:
        told = ", ".join(sorted(map(_short, parents)))
        yield f"both were prepared by {told}: its errors cancel, and were left out (systematic variance)"
    hashes = [{i.hash for i in product.provenance.inputs if i.hash} for product in (one, other)]
    same = len(hashes[0] & hashes[1])
    if same:
        yield (
            f"{same} of {len(hashes[0])} and {len(hashes[1])} raw frames are in both: "
            "errors are not independent, and pulls are too small"
        )
    for mine, theirs, which in ((one, other, "first"), (other, one, "second")):
        names = {_label(q.name, q.place) for q in mine} - {_label(q.name, q.place) for q in theirs}
        names |= {f"plane {name}" for name in set(mine.planes) - set(theirs.planes)}
        if names:
            yield f"only in the {which}: {', '.join(sorted(names))}"


def _departures(plane: PlaneDifference) -> Iterator[str]:
    if _far(plane.pull, OFF):
        yield f"{plane.name} by {plane.pull:+.1f} sigma of a pixel"
    if plane.width is not None and not WIDTHS[0] <= plane.width <= WIDTHS[1] and plane.scatter > 0:
        yield f"{plane.name} scatters {plane.width:.2g} times as much as its errors say"
    if plane.outliers is not None and plane.outliers > OUTLIERS:
        yield f"{100 * plane.outliers:.2g} % of {plane.name} beyond {FAR:g} sigma"
    if plane.shift is not None:
        yield f"{plane.name} fits better moved by {plane.shift[0]:+d} rows, {plane.shift[1]:+d} columns"


def _far(pull: float | None, limit: float) -> bool:
    return pull is not None and abs(pull) > limit


def _label(name: str, place: str) -> str:
    return f"{name}[{place}]" if place else name


def _short(identity: str) -> str:
    return identity.removeprefix("sha256:")[:12]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
