"""Dark ramps: what each pixel of an infrared array gathers in the dark, read by read; taken off ramps.

See docs/effects/dark_ramp.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_products
from calibrant.effects._ramp_mean import (
    above_first,
    edge_of,
    flags_of,
    middle_rows,
    pattern_keys,
    robust_mean,
    row_bands,
    scatter_of,
    taken_off,
    top_of,
)
from calibrant.effects._ramp_slopes import pattern_of
from calibrant.effects.common import Record
from calibrant.errors import SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp, refuse_mixed, remarks_of
from calibrant.frame import DQ, Frame
from calibrant.product import Kind, Product, Quantity, Table
from calibrant.stack.run import parse_budget

NAME = "dark_ramp"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("ramp", "dark", "gain")
MATCH_AS = "dark"
NOISY = 5.0  # times the typical scatter: a dark that is doubtful
KIND = Kind(
    NAME,
    planes={
        "data": "Mean dark signal of each group above the first one (groups, rows, cols).",
        "variance": "Its variance, from the scatter of the ramps; unknown of a single one.",
        "count": "Ramps that the last group is of.",
        "dq": "UNRELIABLE_DARK where it scatters, NO_DATA without a ramp; reference pixels.",
    },
    quantities={
        "dark": "Median of the last group by its time after the first; the place is the output.",
        "settling": "Median of the second group above the first, less the dark in that time.",
        "noise": "Median standard deviation of the last group from ramp to ramp.",
        "unreliable": "Fraction of the pixels that are flagged.",
    },
)
Progress = Callable[[int, int, str], None]
Planes = dict[str, NDArray[Any]]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    saturation: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """The robust mean of darks, read by read, above the first read of each ramp.

    Without the first read there is neither bias nor reset noise in it: it is taken off ramps whose bias is
    still there as well as of others, and leaves their first read as it is.

    Parameters
    ----------
    exposures : Exposures
        Ramps in the dark of one detector and read pattern; files and integrations. Shorter ones tell of the
        first groups only.
    products : mapping of Product
        None is used.
    saturation : float, optional
        adu; by default that of header or instrument file. Reads from there on are left out.
    budget : int or str
        For the work; the product itself is as large as the data of two ramps in float32.

    Returns
    -------
    Product
        Planes of `KIND`: data, variance float32 (groups, rows, cols) [adu, adu2]; count uint16 and dq uint32
        (rows, cols); table ``reads``; quantities.

    Raises
    ------
    SelectionError
        If the ramps are mixed, or have one group only.
    BudgetError
        If not even a row of all ramps fits.
    """
    del runner
    check_products(products)
    ramps = exposures.ramps()
    refuse_mixed(ramps)
    longest = max(ramps, key=lambda one: one.groups)
    times = pattern_of(longest, exposures).mean
    top = top_of(exposures, ramps, saturation)
    record = Record({"saturation": top}, known=True)
    planes = _walked(ramps, top, parse_budget(budget), progress)
    record.notes += remarks_of(ramps)
    edge = edge_of(exposures, ramps[0])
    noise = np.sqrt(planes["variance"][-1] * planes["count"])
    light = ~edge & np.isfinite(noise)
    typical = float(np.median(noise[light])) if light.any() else np.inf
    planes["dq"] = flags_of(planes["count"], edge, noise > NOISY * typical, DQ.UNRELIABLE_DARK)
    total = sum(one.integrations for one in ramps)
    if not np.isfinite(planes["data"][-1][~edge]).any():
        record.notes.append("no pixel has a ramp: all are saturated, flagged or without finite reads")
    if total < 3:
        record.notes.append(f"{total} ramps show no cosmic ray: three or more are advised")
    output = np.where(edge, -1, exposures.instrument.clock(ramps[0].exposure).output_of())
    reads = _reads(planes, times, output)
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=pattern_keys(exposures, ramps[0], MATCH_AS) | {"groups": longest.groups},
        epoch=exposures.epoch,
        planes=planes,
        units={"data": "adu", "variance": "adu2", "reads.time": "s", "reads.level": "adu"},
        tables={"reads": reads},
        quantities=tuple(_quantities(reads, noise, output, planes["dq"])),
        provenance=record.provenance(NAME, exposures, {}),
    )


def _walked(ramps: Sequence[Ramp], top: float, budget: int, progress: Progress | None) -> Planes:
    """Mean and variance of all groups, count of the last one."""
    groups, shape = max(one.groups for one in ramps), ramps[0].shape[2:]
    planes: Planes = {name: np.zeros((groups, *shape), "f4") for name in ("data", "variance")}
    planes["count"] = np.empty(shape, "u2")
    typical = [scatter_of(stack) for stack in above_first(ramps, middle_rows(ramps), top, groups)]
    for rows in row_bands(ramps, groups, budget):
        stacks = above_first(ramps, rows, top, groups)
        for group, (stack, scatter) in enumerate(zip(stacks, typical, strict=True), 1):
            mean, variance, count = robust_mean(stack, scatter)
            planes["data"][group, rows], planes["variance"][group, rows] = mean, variance
            planes["count"][rows] = count
        if progress is not None:
            progress(rows.stop, shape[0], NAME)
    return planes


def _reads(planes: Planes, times: NDArray[np.float64], output: NDArray[Any]) -> Table:
    """Median of each group and output, against the time after the first group."""
    lines = [
        (place, group, float(times[group] - times[0]), _median(plane[here]))
        for place, here in _places(output)
        if place
        for group, plane in enumerate(planes["data"])
    ]
    columns = dict(zip(("output", "group", "time", "level"), zip(*lines, strict=True), strict=True))
    return {name: np.array(column) for name, column in columns.items()}


def _places(output: NDArray[Any]) -> list[tuple[str, NDArray[np.bool_]]]:
    several = [(str(k + 1), output == k) for k in range(int(output.max()) + 1)]
    return [("", output >= 0), *several]


def _median(values: NDArray[Any]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _quantities(reads: Table, noise: NDArray[Any], output: NDArray[Any], dq: NDArray[Any]) -> list[Quantity]:
    found = []
    for place, here in _places(output)[1:]:
        rows = reads["output"] == place
        time, level = reads["time"][rows], reads["level"][rows]
        rate = float(level[-1] / time[-1])
        found.append(Quantity("dark", rate, None, "adu/s", place))
        found.append(Quantity("settling", float(level[1] - rate * time[1]), None, "adu", place))
        found.append(Quantity("noise", _median(noise[here]), None, "adu", place))
        flagged = (dq[here] & np.uint32(DQ.UNRELIABLE_DARK)) != 0
        found.append(Quantity("unreliable", float(flagged.mean()), None, "", place))
    return found


def apply(frame: Frame, product: Product) -> Frame:
    """The ramp less the dark ramp; saturated reads stay flagged in `read_dq`.

    Parameters
    ----------
    frame : Frame
        (groups, rows, cols) or (integrations, groups, rows, cols), adu, of the same read pattern and no more
        groups.
    product : Product
        Of `measure`; its variance is added to `systematic`.

    Raises
    ------
    HistoryError
        If it was done already, or a later step was.
    ShapeError, UnitError, SelectionError
        If the product does not fit.
    """
    if product.kind != NAME:
        raise SelectionError("not a dark ramp", expected=f"a product of kind {NAME}", got=product.kind)
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    return taken_off(frame, product, product.data, product.planes["variance"])
