"""Bad pixels of arrays that are read up the ramp, from darks and flats; applied as flags.

See docs/effects/bad_pixels.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._bad_pixels_find import Darks, counts, from_darks, from_flats
from calibrant.effects._bad_pixels_kinds import FLAGS, Limits
from calibrant.effects._input import check_products
from calibrant.effects._ramp_slopes import bands, facts_of
from calibrant.effects.common import Record, product_keys
from calibrant.errors import SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp, refuse_mixed, remarks_of
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.run import parse_budget

NAME = "bad_pixels"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
MATCH_AS = "dark"
SAMPLE = 2_000_000  # slopes that tell what is hot
KIND = Kind(
    NAME,
    planes={
        "dq": "HOT, OTHER_BAD_PIXEL and UNRELIABLE_SLOPE, RC, TELEGRAPH, DEAD, LOW_QE, OPEN, ADJ_OPEN.",
        "slope": "Mean slope of the darks.",
        "scatter": "Standard deviation of the slopes of the darks that have no jump.",
        "response": "Slope of the flats relative to the surroundings.",
    },
    quantities={
        **{name: f"Fraction of the pixels that see light: {name.replace('_', ' ')}." for name in FLAGS},
        "unusable": "Fraction of them that are flagged DO_NOT_USE.",
        "hot_limit": "Slope above which a pixel is hot.",
        "noisy_limit": "Standard deviation of slopes above which a pixel is noisy.",
    },
)
Progress = Callable[[int, int, str], None]
Mask = NDArray[np.bool_]


@dataclass(eq=False)
class _Found:
    """Masks by kind, planes and numbers, gathered from darks and flats."""

    masks: dict[str, Mask] = field(default_factory=dict)
    planes: dict[str, NDArray[Any]] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    saturated: Mask | None = None


@dataclass(frozen=True, eq=False)
class _Task:
    """What both walks need."""

    limits: Limits
    given: Mapping[str, float | None]
    light: Mask
    record: Record
    budget: int
    progress: Progress | None


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    gain: float | None = None,
    read_noise: float | None = None,
    saturation: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    **limits: Any,
) -> Product:
    """Find bad pixels of a detector on ramps: of kind ``dark``, and of any other kind as flats.

    Parameters
    ----------
    exposures : Exposures
        Darks, flats or both, of one detector and size; read patterns may differ between the two.
    products : mapping of Product
        None is used.
    gain, read_noise, saturation : float, optional
        e-/adu; adu of a single read; adu. By default those of header or instrument file, the read noise that
        of the reads themselves.
    **limits
        The fields of `Limits`.

    Returns
    -------
    Product
        Plane ``dq`` (uint32); of darks ``slope`` and ``scatter`` [adu/s], of flats ``response``; table
        ``kinds`` (kind, pixels, fraction); quantities: fractions of the pixels that see light.

    Raises
    ------
    SelectionError
        If there are no ramps, they are mixed, or have one group only.
    ShapeError
        If darks and flats are of different sizes.
    OptionError
        If a limit or a number has no meaning.
    """
    del runner
    check_products(products)
    chosen = Limits.of(limits)
    darks = exposures.where(lambda one: one.kind == "dark")
    flats = exposures.where(lambda one: one.kind != "dark")
    walked = [(part, _ramps(part)) for part in (darks, flats) if len(part)]
    if not walked:
        raise SelectionError("there are no ramps to find bad pixels on", do="give darks, flats or both")
    shapes = {part[0].kind: ramps[0].shape[2:] for part, ramps in walked}
    if len(set(shapes.values())) > 1:
        raise ShapeError(
            "darks and flats are of different sizes", got=shapes, do="take those of one subarray"
        )
    shape = walked[0][1][0].shape[2:]
    light = np.zeros(shape, bool)
    light[exposures.instrument.reference(walked[0][1][0].exposure).active((shape[0], shape[1]))] = True
    record = Record(chosen.table)
    given = {"gain": gain, "read_noise": read_noise, "saturation": saturation}
    task = _Task(chosen, given, light, record, parse_budget(budget), progress)
    found = _Found()
    for part, ramps in walked:
        (_darks if part[0].kind == "dark" else _flats)(part, ramps, task, found)
    record.notes += [sentence for _, ramps in walked for sentence in remarks_of(ramps)]
    if len(flats) == 0:
        record.notes.append("there are no flats: dead, deaf and open pixels were not looked for")
    if len(darks) == 0:
        record.notes.append("there are no darks: hot, noisy, RC and telegraph pixels were not looked for")
    return _product(exposures, found, task)


def _ramps(part: Exposures) -> list[Ramp]:
    ramps = part.ramps()
    refuse_mixed(ramps)
    return ramps


def _darks(part: Exposures, ramps: list[Ramp], task: _Task, found: _Found) -> None:
    facts = facts_of(part, ramps, task.record.notes, **task.given)
    level = _level(ramps[0], task.light)
    shape = task.light.shape
    darks, sample = Darks((shape[0], shape[1])), []
    total = sum(ramp.shape[0] for ramp in ramps)
    stride = max(1, task.light.size * total // SAMPLE)
    for band in bands(
        part, ramps, facts, budget=task.budget, progress=task.progress, early=task.limits.early
    ):
        darks.add(band, task.limits, level, facts)
        sample.append(band.slope[:, task.light[band.rows]].reshape(-1)[::stride])
    if not any(np.isfinite(one).any() for one in sample):
        task.record.notes.append(
            "no pixel of the darks has a slope: all are saturated, or without finite reads"
        )
    if total < 5:
        task.record.notes.append(
            f"{total} integrations of darks say little of noisy pixels: five or more are advised"
        )
    masks, limits = from_darks(darks, np.concatenate(sample), task.light, task.limits)
    found.masks |= masks
    found.limits |= limits
    found.planes |= {name: darks.planes[name] for name in ("slope", "scatter")}
    found.saturated = darks.planes["saturated"] > 0


def _level(ramp: Ramp, light: Mask) -> float:
    """Median of the first group in rows amid the image, adu."""
    middle = ramp.shape[2] // 2
    rows = slice(middle, middle + min(16, max(1, ramp.shape[2] // 4)))
    values = np.asarray(ramp.values(rows, integrations=slice(0, 1), groups=slice(0, 1))[0, 0], np.float64)
    values = values[np.isfinite(values) & light[rows]]
    return float(np.median(values)) if values.size else 0.0


def _flats(part: Exposures, ramps: list[Ramp], task: _Task, found: _Found) -> None:
    facts = facts_of(part, ramps, task.record.notes, **task.given)
    flat = np.full(task.light.shape, np.nan, np.float32)
    saturated = np.zeros(task.light.shape, bool)
    for band in bands(part, ramps, facts, budget=task.budget, progress=task.progress, search=False):
        n = np.isfinite(band.slope).sum(axis=0)
        total = np.nansum(band.slope, axis=0)
        flat[band.rows] = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
        saturated[band.rows] = band.saturated.any(axis=0)
    if found.saturated is not None:
        saturated |= found.saturated
    lit = float(np.nanmedian(flat[task.light])) if np.isfinite(flat[task.light]).any() else 0.0
    if not lit > 0:
        task.record.notes.append("the flats hold no light: dead, deaf and open pixels were not looked for")
        return
    masks, found.planes["response"] = from_flats(flat, task.light, saturated, task.limits)
    found.masks |= masks


def _product(exposures: Exposures, found: _Found, task: _Task) -> Product:
    limits, seen = task.limits, max(int(task.light.sum()), 1)
    dq = np.zeros(task.light.shape, np.uint32)
    for name, mask in found.masks.items():
        dq[mask] |= np.uint32(FLAGS[name] | (DQ.DO_NOT_USE if name in limits.unusable else 0))
    unusable = float(((dq & np.uint32(DQ.DO_NOT_USE)) != 0).sum()) / seen
    dq[~task.light] |= np.uint32(DQ.REFERENCE_PIXEL | DQ.NON_SCIENCE)
    names, pixels = zip(*counts(found.masks), strict=True) if found.masks else ((), ())
    quantities = [
        Quantity(name, many / seen, np.sqrt(many + 1.0) / seen)
        for name, many in zip(names, pixels, strict=True)
    ]
    quantities += [Quantity("unusable", unusable, np.sqrt(unusable * seen + 1.0) / seen)]
    quantities += [Quantity(f"{name}_limit", value, unit="adu/s") for name, value in found.limits.items()]
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys={key: value for key, value in product_keys(exposures, MATCH_AS).items() if key != "shape"},
        epoch=exposures.epoch,
        planes={"dq": dq, **found.planes},
        units=dict.fromkeys(("slope", "scatter"), "adu/s"),
        tables={
            "kinds": {
                "kind": np.array(names, str),
                "pixels": np.array(pixels, np.int64),
                "fraction": np.array(pixels, np.float64) / seen,
            }
        },
        quantities=tuple(quantities),
        provenance=task.record.provenance(NAME, exposures, {}),
    )


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``dq |= bad pixels``.

    Raises
    ------
    SelectionError
        If the product is no map of bad pixels.
    """
    if product.kind != NAME:
        raise SelectionError(
            "not a map of bad pixels", expected=f"a product of kind {NAME}", got=product.kind
        )
    return PixelStep(NAME, product=product.identity, dq=product.planes["dq"])


def apply(frame: Frame, product: Product) -> Frame:
    """The frame with its bad pixels flagged; its data stay.

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
            "the map of bad pixels does not fit the frame", where=frame.name, expected=frame.shape[-2:],
            got=product.planes["dq"].shape, do="take one of the same detector and subarray",
        )  # fmt: skip
    return apply_steps(frame, [step(frame.exposure, product)])
