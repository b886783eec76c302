"""Defects: pixels that are hot, dead, deaf or noisy, found on masters; applied as flags.

Each master is compared with its own surroundings (medians along rows, then along columns), so that glow,
vignetting and the edges of a slit are no defects; see docs/effects/defects.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from calibrant.effects._input import check_products
from calibrant.effects._surroundings import surroundings
from calibrant.effects.common import Record, product_keys, versions
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Kind, Product, Provenance, Quantity
from calibrant.stack.combine import combine
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stats import MAD_TO_STD

NAME = "defects"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    "defects",
    planes={"dq": "Flags of the defects: HOT, WARM, DEAD, LOW_QE, OTHER_BAD_PIXEL, DO_NOT_USE."},
    quantities={
        "hot": "Fraction of pixels with a very high dark current.",
        "warm": "Fraction of pixels with a high dark current.",
        "dead": "Fraction of pixels that hardly respond to light.",
        "low_qe": "Fraction of pixels that respond less than their surroundings.",
        "noisy": "Fraction of pixels much noisier than the others.",
        "column": "Fraction of pixels in bad columns that are not bad themselves.",
        "unusable": "Fraction of pixels that are flagged DO_NOT_USE.",
    },
)
FLAGS: Mapping[str, DQ] = {
    "hot": DQ.HOT,
    "warm": DQ.WARM,
    "dead": DQ.DEAD,
    "low_qe": DQ.LOW_QE,
    "noisy": DQ.OTHER_BAD_PIXEL,
    "column": DQ.OTHER_BAD_PIXEL,
}
UNUSABLE = ("hot", "dead", "noisy", "column")
CHANCE = 1e-7  # of a normal pixel being called noisy

Progress = Callable[[int, int, str], None]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """What makes a pixel a defect.

    Attributes
    ----------
    hot, warm : float
        Sigmas of the dark above its surroundings, sigma being robust and of the whole plane.
    hot_rate : float or None
        Limit above the surroundings in the unit of the dark; replaces `hot`.
    dead, low_qe : float
        Fractions of the flat's surroundings below which a pixel is dead, or deaf (and 5 sigmas below).
    noisy : float
        Ratio of the read noise to its median, beyond what chance gives for the number of frames.
    column, gap : int
        A column with at least `column` bad pixels is flagged from its first to its last; runs of at least
        `gap` good pixels are spared. 0 leaves columns alone.
    unusable : collection of str
        Which of hot, warm, dead, low_qe, noisy and column are DO_NOT_USE.

    Raises
    ------
    OptionError
        If a limit has no meaning.
    """

    hot: float = 50.0
    warm: float = 8.0
    hot_rate: float | None = None
    dead: float = 0.5
    low_qe: float = 0.8
    noisy: float = 2.0
    column: int = 50
    gap: int = 30
    unusable: Collection[str] = UNUSABLE

    def __post_init__(self) -> None:
        if not (self.hot >= self.warm > 0 and 0 < self.dead <= self.low_qe < 1 and self.noisy > 1):
            raise OptionError(
                "limits of defects that have no meaning",
                expected="hot >= warm > 0, 0 < dead <= low_qe < 1, noisy > 1",
                got=", ".join(f"{name} {value}" for name, value in self.table.items()),
            )
        unknown = sorted(set(self.unusable) - set(FLAGS))
        if unknown:
            raise OptionError(f"there is no defect called {unknown[0]!r}", expected=", ".join(FLAGS))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Limits:
        """From a recipe's table."""
        known = [item.name for item in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise OptionError(f"defects have no limit {unknown[0]!r}", expected=", ".join(known))
        return cls(**options)

    @property
    def table(self) -> dict[str, Any]:
        """As plain values."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | {
            "unusable": sorted(self.unusable)
        }


def measure(
    exposures: Exposures | None = None,
    *,
    products: Mapping[str, Product] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    **limits: Any,
) -> Product:
    """Find defects on masters.

    Parameters
    ----------
    exposures : Exposures, optional
        Biases (or darks) whose scatter shows noisy pixels, where no bias has a map of its read noise.
    products : mapping of Product
        Any of ``dark`` (hot, warm), ``flat`` (dead, low_qe) and ``bias`` (noisy).
    **limits
        The fields of `Limits`.

    Returns
    -------
    Product
        Plane ``dq`` (uint32), and quantities: fractions of the pixels.

    Raises
    ------
    SelectionError
        Without any master, or exposures.
    ShapeError
        If the masters are of different sizes.
    OptionError
        If a limit has no meaning.
    """
    check_products(products)
    chosen = Limits.of(limits)
    masters = {kind: p for kind, p in (products or {}).items() if kind in ("bias", "dark", "flat")}
    if not masters and exposures is None:
        raise SelectionError(
            "defects are found on masters, and none was given", do="give a dark, flat or bias"
        )
    shapes = {kind: product.data.shape for kind, product in masters.items()}
    if len(set(shapes.values())) > 1:
        raise ShapeError("the masters are of different sizes", got=shapes, do="take those of one binning")
    masks: dict[str, Mask] = {}
    if "dark" in masters:
        masks |= hot_pixels(masters["dark"].data, chosen.hot, chosen.warm, chosen.hot_rate)
    if "flat" in masters:
        masks |= deaf_pixels(masters["flat"].data, chosen.dead, chosen.low_qe)
    if "bias" in masters and "read_noise" in masters["bias"].planes:
        plane = masters["bias"].planes["read_noise"]
        masks["noisy"] = noisy_pixels(plane, _frames(masters["bias"]), chosen.noisy)
    elif exposures is not None:
        scatter = combine(exposures.sources(), method="mean", runner=runner, budget=budget).scatter
        masks["noisy"] = noisy_pixels(scatter, len(exposures), chosen.noisy)
    if not masks:
        raise SelectionError(
            "the masters given show no defects", expected="a dark, a flat, or a bias with its read noise",
            got=", ".join(masters),
        )  # fmt: skip
    if chosen.column:
        masks["column"] = bad_columns(masks, chosen.unusable, chosen.column, chosen.gap)
    if progress is not None:
        progress(1, 1, NAME)
    return _product(masks, chosen, exposures, masters)


def hot_pixels(
    dark: NDArray[Any], hot: float = 50.0, warm: float = 8.0, hot_rate: float | None = None
) -> dict[str, Mask]:
    """Hot and warm pixels of a dark, (rows, cols), in any unit; a pixel that is hot is not warm too."""
    excess = np.asarray(dark, np.float32) - surroundings(dark)
    sigma = MAD_TO_STD * float(np.nanmedian(np.abs(excess - np.nanmedian(excess))))
    limit = hot * sigma if hot_rate is None else hot_rate
    is_hot = excess > limit
    return {"hot": is_hot, "warm": (excess > min(warm * sigma, limit)) & ~is_hot}


def deaf_pixels(flat: NDArray[Any], dead: float = 0.5, low_qe: float = 0.8) -> dict[str, Mask]:
    """Dead and deaf pixels of a flat, (rows, cols), among pixels whose surroundings are lit.

    Pixels without a number are dead only where their surroundings are lit.
    """
    values = np.nan_to_num(np.asarray(flat, np.float32), nan=0.0)
    around = surroundings(values)
    lit = around > 0.1 * np.float32(np.median(around))
    ratio = np.divide(values, around, out=np.ones_like(values), where=lit & (around > 0))
    sigma = MAD_TO_STD * float(np.median(np.abs(ratio[lit] - 1.0))) if lit.any() else 0.0
    is_dead = ratio < dead
    return {"dead": is_dead, "low_qe": (ratio < min(low_qe, 1.0 - 5.0 * sigma)) & ~is_dead}


def noisy_pixels(noise: NDArray[Any], frames: int, ratio: float = 2.0) -> Mask:
    """Pixels noisier than `ratio` times the median, and than chance allows for a scatter of `frames` frames.

    (n - 1) s^2 / sigma^2 is chi-squared with n - 1 degrees of freedom: of three frames a normal pixel may
    scatter by four sigmas.
    """
    if frames < 2:
        return np.zeros(noise.shape, bool)
    freedom = frames - 1
    # The median of s itself is a little below sigma, by the median of chi-squared.
    sigma = float(np.nanmedian(noise)) / math.sqrt(chi2.median(freedom) / freedom)
    limit = max(ratio, math.sqrt(chi2.isf(CHANCE, freedom) / freedom)) * sigma
    noisy: Mask = ~np.isfinite(noise) | (noise > limit)
    return noisy


def _frames(bias: Product) -> int:
    count = bias.planes.get("count")
    return len(bias.provenance.inputs) if count is None else int(np.median(count))


def bad_columns(masks: Mapping[str, Mask], unusable: Collection[str], column: int, gap: int) -> Mask:
    """Good pixels between bad ones in columns with at least `column` bad pixels, (rows, cols)."""
    bad = np.zeros(next(iter(masks.values())).shape, bool)
    for name, mask in masks.items():
        if name in unusable:
            bad |= mask
    filled = bad.copy()
    for col in np.flatnonzero(bad.sum(axis=0) >= column):
        rows = np.flatnonzero(bad[:, col])
        for low, high in pairwise(rows):
            if high - low - 1 < gap:
                filled[low:high, col] = True
    return filled & ~bad


def _product(
    masks: Mapping[str, Mask],
    limits: Limits,
    exposures: Exposures | None,
    products: Mapping[str, Product],
) -> Product:
    dq = np.zeros(next(iter(masks.values())).shape, np.uint32)
    for name, mask in masks.items():
        dq[mask] |= np.uint32(FLAGS[name] | (DQ.DO_NOT_USE if name in limits.unusable else 0))
    masters = list(products.values())
    if exposures is not None:
        provenance = Record(options=limits.table).provenance(NAME, exposures, products)
        keys, instrument = product_keys(exposures, "bias"), exposures.instrument.name
    else:
        parents = tuple(product.identity for product in masters)
        provenance = Provenance(NAME, parents=parents, options=limits.table, versions=versions())
        shared = ("detector", "binning")
        keys = {key: masters[0].keys[key] for key in shared if key in masters[0].keys}
        instrument = masters[0].instrument
    epochs = [product.epoch for product in masters if product.epoch is not None]
    fractions = {name: float(mask.mean()) for name, mask in masks.items()}
    fractions["unusable"] = float(((dq & np.uint32(DQ.DO_NOT_USE)) != 0).mean())
    return Product(
        NAME,
        instrument=instrument,
        keys=keys,
        epoch=round(sum(epochs) / len(epochs)) if epochs else None,
        planes={"dq": dq},
        quantities=tuple(Quantity(name, value) for name, value in fractions.items()),
        provenance=provenance,
    )


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``dq |= defects``.

    Raises
    ------
    SelectionError
        If the product is no map of defects.
    """
    if product.kind != NAME:
        raise SelectionError("not a map of defects", expected=f"a product of kind {NAME}", got=product.kind)
    return PixelStep(NAME, product=product.identity, dq=product.planes["dq"])


def apply(frame: Frame, product: Product) -> Frame:
    """The frame with its defects flagged; its data stay.

    Raises
    ------
    HistoryError
        If it was done already.
    ShapeError
        If the map is of another size.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    if product.planes["dq"].shape != frame.shape[-2:]:
        raise ShapeError(
            "the map of defects does not fit the frame",
            where=frame.name,
            expected=frame.shape[-2:],
            got=product.planes["dq"].shape,
            do="take one of the same detector and binning",
        )
    return apply_steps(frame, [step(frame.exposure, product)])
