"""Linearity of each pixel of an infrared array, from flats read up the ramp, and applied to ramps.

See docs/effects/ramp_linearity.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_products
from calibrant.effects._ramp_linearity import fit
from calibrant.effects._ramp_mean import (
    above_first,
    check_pattern,
    edge_of,
    flags_of,
    middle_rows,
    pattern_keys,
    robust_mean,
    row_bands,
    saturated,
    scatter_of,
    top_of,
)
from calibrant.effects._ramp_slopes import pattern_of
from calibrant.effects.common import Record
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp, refuse_mixed, remarks_of
from calibrant.frame import DQ, Applied, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.run import parse_budget
from calibrant.stats import finite_median

NAME = "ramp_linearity"
REACH = "pixel"
NEEDS: tuple[str, ...] = ("superbias",)
FORBIDS: tuple[str, ...] = ("linearity", "dark_ramp", "ramp", "gain")
MATCH_AS = "dark"
STEADY = 0.03  # largest difference of the light of two ramps
WORK = 500  # bytes for each group and pixel of a band
PLANES = (
    "c2", "c3", "variance_c2", "variance_c3", "covariance", "valid_high", "saturation", "residual",
)  # fmt: skip
KIND = Kind(
    NAME,
    planes={
        "c2": "Factor of the squared signal in L = u + c2 u^2 + c3 u^3.",
        "c3": "Factor of the cubed signal.",
        "variance_c2": "Variance of c2, from the residuals.",
        "variance_c3": "Variance of c3.",
        "covariance": "Of c2 and c3.",
        "valid_high": "Highest signal that the curve was measured at, above the reset.",
        "saturation": "Last signal before the pixel stopped rising; unknown where it did not.",
        "residual": "Rms of the rises from group to group about the curve.",
        "dq": "NO_LIN_CORR where there is no curve; reference pixels.",
    },
    quantities={
        "nonlinearity": "Median correction at valid_high, per cent of the signal; the place is the output.",
        "valid_high": "Median of the highest signals.",
        "saturation": "Median of the last signals before pixels stopped rising.",
        "uncorrected": "Fraction of the pixels without a curve.",
    },
)
Progress = Callable[[int, int, str], None]
Planes = dict[str, NDArray[Any]]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    order: int = 3,
    saturation: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """A polynomial of each pixel from flats of steady light, best up to saturation.

    Parameters
    ----------
    exposures : Exposures
        Ramps of one detector, read pattern and light; files and integrations.
    products : mapping of Product
        None is used.
    order : int
        2 or 3: of the polynomial.
    saturation : float, optional
        adu; by default that of header or instrument file. Reads from there on are left out.

    Returns
    -------
    Product
        Planes of `KIND`, float32 [adu, 1/adu, 1/adu2 ...], dq uint32; quantities.

    Raises
    ------
    SelectionError
        If the ramps are mixed, of different light, or have too few groups.
    OptionError
        For another order.
    BudgetError
        If not even a row of all ramps fits.
    """
    del runner
    check_products(products)
    if order not in (2, 3):
        raise OptionError("a curve of a pixel has order 2 or 3", where="order", got=order)
    ramps = exposures.ramps()
    refuse_mixed(ramps, also=("groups",))
    times = pattern_of(ramps[0], exposures).mean
    if len(times) < order + 3:
        raise SelectionError(
            "too few groups for a curve", where=ramps[0].name, expected=f"{order + 3} or more", got=len(times)
        )
    top = top_of(exposures, ramps, saturation)
    _refuse_unsteady(ramps, top)
    record = Record({"order": order, "saturation": top}, known=True)
    record.notes += remarks_of(ramps)
    planes = _walked(ramps, times, order, top, parse_budget(budget), progress)
    edge = edge_of(exposures, ramps[0])
    for plane in planes.values():
        plane[edge] = np.nan
    lost = ~np.isfinite(planes["c2"])
    planes["dq"] = flags_of(np.ones(edge.shape), edge, lost & ~edge, DQ.NO_LIN_CORR)
    if not np.isfinite(planes["saturation"]).any():
        record.notes.append("no pixel was filled: the curves hold up to valid_high, saturation is unknown")
    output = np.where(edge, -1, exposures.instrument.clock(ramps[0].exposure).output_of())
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=pattern_keys(exposures, ramps[0], MATCH_AS),
        epoch=exposures.epoch,
        planes=planes,
        units=dict.fromkeys(("valid_high", "saturation", "residual"), "adu")
        | {"c2": "1/adu", "c3": "1/adu2"},
        quantities=tuple(_quantities(planes, output)),
        provenance=record.provenance(NAME, exposures, {}),
    )


def _refuse_unsteady(ramps: Sequence[Ramp], top: float) -> None:
    """That the light of all ramps is the same: the first rise amid the image."""
    levels = [finite_median(one) for one in above_first(ramps, middle_rows(ramps), top, 2)[0]]
    low, high = min(levels), max(levels)
    if not low > 0:
        raise SelectionError("the ramps hold no light", got=f"{low:.3g} adu per group", do="give flats")
    if high / low > 1 + STEADY:
        raise SelectionError(
            "the light of the ramps differs", expected=f"within {100 * STEADY:g} %",
            got=f"{low:.5g} to {high:.5g} adu per group", do="give flats of one lamp and level",
        )  # fmt: skip


def _walked(
    ramps: Sequence[Ramp], times: NDArray[np.float64], order: int, top: float, budget: int,
    progress: Progress | None,
) -> Planes:  # fmt: skip
    """The planes of all rows."""
    groups, shape = len(times), ramps[0].shape[2:]
    planes: Planes = {name: np.empty(shape, "f4") for name in PLANES}
    typical = [scatter_of(stack) for stack in above_first(ramps, middle_rows(ramps), top, groups)]
    for rows in row_bands(ramps, groups, budget, WORK):
        stacks = above_first(ramps, rows, top, groups)
        means = [robust_mean(stack, far) for stack, far in zip(stacks, typical, strict=True)]
        level = np.array([np.zeros_like(means[0].mean), *(one.mean for one in means)], np.float64)
        # Where only some ramps are full, the mean of the others is not that of all.
        whole = np.array([np.isfinite(stack).all(axis=0) for stack in (stacks[0], *stacks)])
        flat = level.reshape(groups, -1), whole.reshape(groups, -1)
        for name, plane in fit(*flat, times, order, min(top, 65536.0)).items():
            planes[name][rows] = plane.reshape(level.shape[1:])
        if progress is not None:
            progress(rows.stop, shape[0], NAME)
    return planes


def _quantities(planes: Planes, output: NDArray[Any]) -> list[Quantity]:
    found = []
    high = planes["valid_high"]
    share = 100 * (planes["c2"] * high + planes["c3"] * high**2)
    for k in range(int(output.max()) + 1):
        here, place = output == k, str(k + 1)
        found.append(Quantity("nonlinearity", finite_median(share[here]), None, "%", place))
        found.append(Quantity("valid_high", finite_median(high[here]), None, "adu", place))
        found.append(Quantity("saturation", finite_median(planes["saturation"][here]), None, "adu", place))
        lost = ~np.isfinite(planes["c2"][here])
        found.append(Quantity("uncorrected", float(lost.mean()), None, "", place))
    return found


def apply(frame: Frame, product: Product) -> Frame:
    """The ramp with signals proportional to the light: ``u + c2 u^2 + c3 u^3``.

    Above valid_high the correction stays as it is there, and the pixel is flagged NONLINEAR; reads above
    saturation are flagged SATURATED in `read_dq`. Pixels without a curve stay as they are, NO_LIN_CORR.

    Parameters
    ----------
    frame : Frame
        (groups, rows, cols) or (integrations, groups, rows, cols), adu, less the superbias.
    product : Product
        Of `measure`; the variance of the curve is added to `systematic`.

    Raises
    ------
    HistoryError
        If it was done already, the superbias was not, or a later step was.
    ShapeError, UnitError, SelectionError
        If the product does not fit.
    """
    if product.kind != NAME:
        raise SelectionError("not a ramp linearity", expected=f"a product of kind {NAME}", got=product.kind)
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    if frame.unit != "adu":
        raise UnitError("ramps are made linear in adu", where=frame.name, expected="adu", got=frame.unit)
    planes = product.planes
    if len(frame.shape) < 3 or frame.shape[-2:] != planes["c2"].shape:
        raise ShapeError(
            "the linearity does not fit the ramp", where=frame.name, expected=planes["c2"].shape,
            got=frame.shape,
        )  # fmt: skip
    own = ("readpatt", "nframes", "groupgap", "frame_time")  # a curve is that of any read pattern
    check_pattern(frame, replace(product, keys={k: v for k, v in product.keys.items() if k not in own}))
    loaded, flags = frame.load(), saturated(frame)
    data = np.asarray(loaded.data)
    c2, c3, high = (np.nan_to_num(planes[name]) for name in ("c2", "c3", "valid_high"))
    u = np.clip(data, 0, high)
    v2, v3, v23 = (np.nan_to_num(planes[name]) for name in ("variance_c2", "variance_c3", "covariance"))
    error = u**4 * (v2 + u * (2 * v23 + u * v3))
    before = np.float32(0) if loaded.systematic is None else np.asarray(loaded.systematic)
    with np.errstate(invalid="ignore"):
        flags[data > planes["saturation"]] |= np.uint8(DQ.SATURATED)
        beyond = ((data > planes["valid_high"]) & (flags & np.uint8(DQ.SATURATED) == 0)).reshape(
            -1, *c2.shape
        )
    dq = np.zeros(c2.shape, np.uint32) if loaded.dq is None else np.asarray(loaded.dq)
    dq = (
        dq
        | planes["dq"]
        | np.where(beyond.reshape(-1, *c2.shape).any(axis=0), np.uint32(DQ.NONLINEAR), np.uint32(0))
    )
    return loaded.after(
        Applied(NAME, product.identity),
        data=data + u**2 * (c2 + u * c3),
        systematic=before + error,
        dq=dq,
        read_dq=flags,
        systematic_from=frame.systematic_from | {product.identity},
    )
